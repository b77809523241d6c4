"""The world as the rooms ask for it: narrow ports, answered by ``runtime`` and by ``sim``.

Contracts that both answers must keep are stated here and tested by one suite.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from typing_extensions import Buffer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Result = TypeVar("Result")


class Clock(Protocol):
    """Time. Wall time may jump; monotonic time never goes back."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, as this machine believes."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""


class Rng(Protocol):
    """Chance. The real one is cryptographically strong, the simulated one is seeded."""

    def bytes(self, count: int) -> bytes:
        """Return ``count`` random bytes."""

    def below(self, bound: int) -> int:
        """Return a whole number in 0..bound-1."""

    def uniform(self) -> float:
        """Return a number in [0, 1)."""

    def sample(self, population: Sequence[Result], count: int) -> list[Result]:
        """Return ``count`` distinct members in random order."""


class DiskFile(Protocol):
    """An open file. Not safe for concurrent writes; reads may run beside anything."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes at ``offset``; fewer only at the end of the file."""

    def read_into(self, offset: int, buffer: Buffer) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes read."""

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        """Write all buffers at ``offset``, one after the other; return the bytes written.

        Raises ``AtollError(DISK_FULL)`` when there is no room; then nothing counts as written.
        """

    def allocate(self, length: int) -> None:
        """Reserve room so that the file can hold ``length`` bytes. Raises ``DISK_FULL``."""

    def truncate(self, length: int) -> None:
        """Cut or extend (with zeros) the file to ``length`` bytes."""

    def sync(self) -> None:
        """Return when all that was written before the call survives a loss of power.

        A failure here is final for the file: after it nothing about unsynced data is known.
        """

    def size(self) -> int:
        """Return the length of the file in bytes."""

    def close(self) -> None:
        """Close. Does not sync."""


class Disk(Protocol):
    """One folder of one process. Names are relative, with ``/``; parents are made on demand.

    All calls block; hand slow ones to ``Compute``.
    """

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """Open for reading and writing. Raises ``NOT_FOUND`` where it is absent and not made."""

    def exists(self, name: str) -> bool:
        """Say whether the file is there."""

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder (``""`` is the root); an absent folder is empty."""

    def remove(self, name: str) -> None:
        """Remove a file; an absent one is no error."""

    def replace(self, name: str, content: bytes) -> None:
        """Put ``content`` under ``name``, atomically and durably: old or new, never a mixture."""

    def read(self, name: str) -> bytes:
        """Return the whole (small) file. Raises ``NOT_FOUND``."""

    def sync_folder(self, folder: str) -> None:
        """Return when creations and removals in ``folder`` are durable."""

    def free_bytes(self) -> int:
        """Return the room left for new data."""

    def scratch_database(self, name: str) -> str:
        """Return where SQLite may keep a database that can be rebuilt from the files.

        A path in the real world; ``:memory:`` in the simulator, where a crash loses it.
        """


class Database(Protocol):
    """Transactions over one SQL database. Functions are synchronous: ``f(connection) -> result``.

    A write function runs alone against others of the same process where the database demands it;
    it must have no effect but SQL, since it may run again after a serialisation failure.
    """

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""

    async def read(self, function: "Callable[[Connection], Result]") -> Result:
        """Run a function that only reads, on a consistent view of what is committed."""

    async def write(self, function: "Callable[[Connection], Result]") -> Result:
        """Run a function in a transaction; when this returns, it survives ``kill -9``.

        An exception of the function rolls back its own effects only and is raised here.
        """

    async def close(self) -> None:
        """Finish what was accepted, then release the connections."""


class Compute(Protocol):
    """Threads for what blocks or computes long with the GIL released."""

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run ``function(*arguments)`` off the loop and return its result."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a party listens. ``fingerprint`` is the SHA-256 of its TLS certificate.

    An empty fingerprint means plain HTTP and is allowed on loopback only.
    """

    host: str
    port: int
    fingerprint: bytes = b""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.fingerprint else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP, whole in memory: control messages and small pieces."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class PiecePart(Enum):
    """Which part of a piece record a read asks for."""

    HEAD = "head"
    """Fixed header and TLV area, whole; offset and length are ignored."""
    DATA = "data"
    """Bytes of the data area; offset 0 is its first byte."""
    TRAILER = "trailer"
    """The trailer, whole; offset and length are ignored."""


class PieceStream(Protocol):
    """The bytes of one piece on their way from a node."""

    async def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the next bytes.

        Raises ``UNREACHABLE`` if the stream ends early or breaks, ``TIMEOUT`` if it stalls.
        """

    async def close(self) -> None:
        """Stop; safe to call at any time and more than once."""


class PieceTransport(Protocol):
    """Pieces between a client (gateway, repair worker) and nodes.

    Every call raises ``UNREACHABLE`` or ``TIMEOUT`` for the network's faults and the node's own
    error (its kind and message) for a refusal. Safe to cancel at any await.
    """

    async def put_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> bytes:
        """Send one piece (header, TLVs, data, trailer) and return the node's receipt.

        It returns only after the node has the piece on durable storage.
        """

    async def get_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        part: PiecePart,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> bytes:
        """Return a part of a piece record, whole in memory (small ranges, heads, trailers)."""

    async def open_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> PieceStream:
        """Start reading ``length`` bytes of a piece's data area from ``offset``.

        ``timeout_s`` bounds the wait for the first byte and each later stall.
        """

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        """Send a small message (heartbeat, deletion, control operation); return the answer.

        An answer of any status is returned, not raised. ``UNREACHABLE`` says that the other side
        never saw the question (or that the method, GET or HEAD, has no effect); once it may have
        seen it, a lost answer is a ``TIMEOUT``.
        """


@dataclass(frozen=True, slots=True)
class HostPressure:
    """How busy a machine is: shares of the last ten seconds, in percent, in which work waited."""

    cpu_percent: float = 0.0
    io_percent: float = 0.0
    memory_percent: float = 0.0
    known: bool = False
    """Whether the machine tells."""


class Host(Protocol):
    """The machine that a process runs on, as far as it tells. Calls block for milliseconds."""

    def pressure(self) -> HostPressure:
        """Return how long work waits for processors, disks and memory (Linux PSI)."""

    def disk_warning(self) -> str:
        """Return what the disk says about its own coming failure (SMART); empty for nothing."""


class Beacon(Protocol):
    """One value per slot that nobody knows before the slot, and everybody can check after it."""

    async def value(self, slot: int) -> bytes | None:
        """Return the slot's 32 bytes; None while nobody knows them (or ever will)."""


class ByteStream(Protocol):
    """One connection, both ways."""

    async def read(self) -> bytes:
        """Return the next bytes (at most 256 KiB); empty at the end. Raises ``UNREACHABLE``."""

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the other side does not take them. Raises ``UNREACHABLE``."""

    async def end(self) -> None:
        """Say that nothing more comes from here, where the connection can say that."""

    def close(self) -> None:
        """Cut it, both ways; safe to call more than once."""


class Listening(Protocol):
    """A port at which connections are taken."""

    @property
    def port(self) -> int:
        """Its number."""

    async def close(self) -> None:
        """Take no more; connections that are there stay."""


class Sockets(Protocol):
    """Connections as such: for tunnels, which carry the bytes of others."""

    async def connect(self, address: Address, timeout_s: float) -> ByteStream:
        """Connect; over TLS where the address has a fingerprint, which is checked.

        Raises ``UNREACHABLE``, ``TIMEOUT`` and ``UNAUTHENTICATED`` (another certificate).
        """

    async def listen(
        self,
        host: str,
        port: int,
        serve: Callable[[ByteStream, str], Awaitable[None]],
        *,
        tls: bool,
    ) -> Listening:
        """Take connections; port 0 for any. ``serve`` gets each with the caller's address.

        Raises ``PORT_TAKEN``.
        """


class Lan(Protocol):
    """The local network, as far as a router is asked for a port."""

    def router(self) -> tuple[str, str] | None:
        """Return the default router and this machine's address towards it; None without one."""

    async def ask(self, host: str, port: int, question: bytes, timeout_s: float) -> bytes:
        """Send a datagram; return the answer. Raises ``TIMEOUT``, ``UNREACHABLE``."""

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """Make a small plain call; return status and body. Raises ``UNREACHABLE``."""


@dataclass(frozen=True, slots=True)
class ChainBlock:
    """A block's place in its chain. Hashes are 32 bytes; the first block's parent is zeros."""

    number: int
    hash: bytes
    parent: bytes
    time_s: int
    """Seconds since the Unix epoch, as its producer said."""


@dataclass(frozen=True, slots=True)
class ChainLog:
    """What a contract said in a transaction."""

    address: bytes
    """The contract, 20 bytes."""
    topics: tuple[bytes, ...]
    """Up to four words of 32 bytes; the first names the event."""
    data: bytes
    block_number: int
    block_hash: bytes
    transaction: bytes
    index: int
    """Its place among all logs of the block."""


@dataclass(frozen=True, slots=True)
class ChainReceipt:
    """What became of a transaction that stands in a block."""

    transaction: bytes
    block_number: int
    block_hash: bytes
    succeeded: bool
    """False: it was undone, but its nonce and fee are spent."""
    gas_used: int
    contract: bytes
    """Address of the contract that it made; empty where it made none."""
    logs: tuple[ChainLog, ...]


@dataclass(frozen=True, slots=True)
class ChainFees:
    """What a unit of gas costs, in wei."""

    base_wei: int
    """Burnt; the chain sets it block by block (EIP-1559)."""
    tip_wei: int
    """What the chain suggests for its producers."""


@dataclass(frozen=True, slots=True)
class ChainCall:
    """A question to, or a transaction for, a contract. An empty ``to`` makes a contract."""

    to: bytes
    data: bytes
    sender: bytes = b""
    value_wei: int = 0


class Chain(Protocol):
    """An EVM chain by its JSON-RPC, as one server tells it; nobody vouches for that server.

    Addresses have 20 bytes, hashes 32. Every call raises ``UNREACHABLE`` or ``TIMEOUT`` where the
    server is not there and ``CORRUPT`` for an answer that cannot be one.
    """

    async def chain_id(self) -> int:
        """Return the chain's number (EIP-155)."""

    async def block(self, number: int | None = None) -> ChainBlock | None:
        """Return a block, the newest one for None; None where the chain is not that long."""

    async def call(self, call: ChainCall, number: int | None = None) -> bytes:
        """Return what a contract answers after a block, the newest one for None.

        Raises ``PRECONDITION_FAILED`` with the contract's reason where it reverts.
        """

    async def estimate_gas(self, call: ChainCall) -> int:
        """Return the gas that a transaction would need now. Raises as ``call`` does."""

    async def send_raw(self, raw: bytes) -> bytes:
        """Hand in a signed transaction; return its hash. One that is known is no error.

        Raises ``CONFLICT`` where the chain does not take it as it is: nonce used, fee too low,
        no funds. The receipt, and nothing else, tells whether it stands.
        """

    async def receipt(self, transaction: bytes) -> ChainReceipt | None:
        """Return the receipt; None while the transaction is in no block."""

    async def sent(self, transaction: bytes) -> ChainCall | None:
        """Return what a transaction that stands in a block asked, and of whom; None for none."""

    async def logs(self, first: int, last: int, addresses: Sequence[bytes]) -> Sequence[ChainLog]:
        """Return what these contracts said in blocks ``first`` to ``last``, in order.

        Raises ``TOO_LARGE`` where the server wants a shorter range.
        """

    async def nonce(self, address: bytes) -> int:
        """Return how many transactions of an account stand in blocks."""

    async def balance(self, address: bytes) -> int:
        """Return what an account has of the chain's own coin, in wei."""

    async def code(self, address: bytes) -> bytes:
        """Return the contract's code; empty where there is none."""

    async def fees(self) -> ChainFees:
        """Return what gas costs now."""


class Process(Protocol):
    """A child process of a supervisor."""

    @property
    def pid(self) -> int:
        """The process id."""

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM)."""

    def kill(self) -> None:
        """Stop it at once (SIGKILL)."""

    async def wait(self) -> int:
        """Return its exit status when it has ended."""
