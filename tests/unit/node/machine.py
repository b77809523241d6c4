"""A provider's machine in the simulated world, with one store on a disk that loses power."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from atoll.core.identity import Identity
from atoll.core.ids import OrderSerial, PayerTag, PieceId, SegmentId
from atoll.core.merkle import piece_root
from atoll.core.orders import Action, OrderLimit
from atoll.core.pieces import (
    Header,
    crc32c,
    encode_header,
    encode_trailer,
    parse_trailer,
    sign_trailer,
    trailer_bytes,
)
from atoll.node.config import StoreConfig
from atoll.node.store.store import PieceStore
from atoll.node.store.upload import Accepted
from atoll.node.store.volume import Admission
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.rng import SimRng
from atoll.sim.trace import Trace

Result = TypeVar("Result")
KIB = 1 << 10
HOUR_MS = 3600 * 1000
UPLOADER = Identity(b"uploader".ljust(32, b"."))
THIEF = Identity(b"thief".ljust(32, b"."))
COORDINATOR = Identity(b"coordinator".ljust(32, b"."))
PAYER = PayerTag(b"payer".ljust(16, b"."))

TINY = StoreConfig(
    capacity_bytes=4096 * KIB,
    log_bytes=256 * KIB,
    log_step_bytes=32 * KIB,
    reserve_bytes=64 * KIB,
    trash_ms=HOUR_MS,
    scrub_bytes_per_s=1 << 30,
    compaction_bytes_per_s=1 << 30,
)


@dataclass(frozen=True)
class Piece:
    header: Header
    record: bytes

    @property
    def id(self) -> PieceId:
        return self.header.piece_id

    @property
    def data(self) -> bytes:
        start = self.header.head_bytes
        return self.record[start : start + self.header.data_bytes]


def make_piece(name: str, data_bytes: int, index: int = 0, n: int = 4) -> Piece:
    """A replicated piece (k = 1) of at least 16 bytes, or above 1 MiB one of a striped segment."""
    chance = random.Random(f"piece/{name}")
    segment = SegmentId(random.Random(f"segment/{name}").randbytes(16))
    if data_bytes <= 1 << 20:
        header = Header(segment, index, 1, n, data_bytes, data_bytes - 16, data_bytes, PAYER)
    else:
        unit = 64 << 10
        rows = -(-data_bytes // unit)
        plain = rows * 2 * (unit - 16)
        header = Header(segment, index, 2, n, unit, plain, rows * unit, PAYER)
    data = chance.randbytes(header.data_bytes)
    roots = [chance.randbytes(32) for _ in range(n)]
    roots[index] = piece_root(data)
    head = encode_header(header)
    trailer = encode_trailer(header, sign_trailer(UPLOADER, header, roots), crc32c(head + data))
    return Piece(header, head + data + trailer)


def forged(piece: Piece) -> Piece:
    """A record under a piece's id that holds as such: other bytes, signed by a thief."""
    header = piece.header
    data = bytes(byte ^ 0xFF for byte in piece.data)
    roots = [bytes((i,)) * 32 for i in range(header.n)]
    roots[header.index] = piece_root(data)
    return signed_again(Piece(header, encode_header(header) + data), roots)


def signed_again(piece: Piece, roots: list[bytes], signer: Identity = THIEF) -> Piece:
    """Header and data of a piece with another trailer."""
    before = encode_header(piece.header) + piece.data
    trailer = sign_trailer(signer, piece.header, roots)
    return Piece(piece.header, before + encode_trailer(piece.header, trailer, crc32c(before)))


def admission_of(piece: Piece, name: str, now_ms: int, **changes: Any) -> Admission:
    admission = Admission(
        piece=piece.id,
        segment=piece.header.segment_id,
        serial=random.Random(f"serial/{name}").randbytes(16),
        issued_ms=now_ms,
        expires_ms=now_ms + HOUR_MS,
        retention_until_ms=0,
        issuer=7,
        segment_serial=serial_of(piece.header.segment_id),
    )
    return replace(admission, **changes)


def serial_of(segment: bytes) -> int:
    """Return the serial that the tests' coordinator gives a segment."""
    return 1 + int.from_bytes(segment[:6], "big")


def limit_of(node: bytes, piece: Piece, action: Action, name: str, now_ms: int) -> OrderLimit:
    repair = action is Action.REPAIR_PUT
    return OrderLimit(
        action=action,
        node_id=node,  # type: ignore[arg-type]
        segment_id=piece.header.segment_id,
        segment_serial=serial_of(piece.header.segment_id),
        index=piece.header.index,
        byte_cap=len(piece.record),
        issued_ms=now_ms,
        expires_ms=now_ms + HOUR_MS,
        serial=OrderSerial(random.Random(f"serial/{name}").randbytes(16)),
        payer_tag=PAYER,
        gateway_key=b"" if repair else UPLOADER.public_key,
        segment_root=root_of(piece) if repair else b"",
    )


def root_of(piece: Piece) -> bytes:
    """Return the segment root that a piece's trailer states."""
    tail = piece.record[-trailer_bytes(piece.header.n) :]
    return parse_trailer(piece.header, tail)[0].segment_root


async def put(
    store: PieceStore, piece: Piece, admission: Admission, cut: int = 48 * KIB
) -> Accepted:
    upload = store.begin(admission, len(piece.record))
    try:
        for start in range(0, len(piece.record), cut):
            await upload.write(piece.record[start : start + cut])
        return await upload.finish()
    finally:
        await upload.close()


async def get(store: PieceStore, piece: bytes, issued_ms: int = 0) -> bytes:
    """The whole record."""
    row = await store.locate(piece, issued_ms)
    with store.reading(row) as reader:
        return await reader.read(0, row.body_bytes)


class Machine:
    """One machine whose processes come and go while its disk stays."""

    def __init__(
        self,
        seed: str = "machine",
        config: StoreConfig = TINY,
        *,
        disk_bytes: int = 8192 * KIB,
        make: Callable[..., PieceStore] = PieceStore,
    ) -> None:
        self.seed = seed
        self.config = config
        self._make = make
        self.loop = SimLoop(seed)
        self.trace = Trace(self.loop.time)
        self.platter = Platter(seed, disk_bytes)
        self.lives: list[Incarnation] = []
        self.clock_ahead_ms = 0
        self.store: PieceStore = None  # type: ignore[assignment]

    @property
    def life(self) -> Incarnation:
        return self.lives[-1]

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def boot(self) -> PieceStore:
        """Start a process and open its store."""
        number = len(self.lives) + 1
        seed = f"{self.seed}/{number}"
        life = Incarnation("node", number, self.loop, self.trace)
        self.lives.append(life)
        self.clock = SimClock(life, skew_ms=self.clock_ahead_ms)
        self.rng = SimRng(life, seed)
        self.disk = SimDisk(life, self.platter, seed)
        self.compute = SimCompute(life, seed)
        self.store = self._make(self.disk, self.compute, self.clock, self.rng, self.config)
        self.run(self.store.open())
        return self.store

    def run(self, work: Awaitable[Result]) -> Result:
        """Run a coroutine in the living process to its end."""

        async def coroutine() -> Result:
            return await work

        async def main() -> Result:
            return await self.life.start(coroutine())

        asyncio.set_event_loop(None)
        return self.loop.run_until_complete(main())

    def run_or_die(self, work: Awaitable[Any]) -> bool:
        """Run a coroutine in the living process; False where the process dies before its end."""

        async def coroutine() -> None:
            await work

        async def main() -> bool:
            task = self.life.start(coroutine())
            ended = asyncio.ensure_future(self.life.ended.wait())
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if self.life.dead:
                return False
            await task
            return True

        asyncio.set_event_loop(None)
        return self.loop.run_until_complete(main())

    def start(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Start a coroutine in the living process; it goes on while others run."""

        async def coroutine() -> Any:
            return await work

        return self.life.start(coroutine())

    def pass_time(self, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(wait())

    def crash(self) -> None:
        """Lose power."""
        self.life.crash()

    def stop(self) -> None:
        """Stop the process in good order."""
        self.run(self.store.close())
        self.life.crash()

    def end(self) -> None:
        if self.lives:
            self.life.crash()
        for life in self.lives:
            life.bury()
        self.loop.close()
