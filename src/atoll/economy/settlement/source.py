"""Where documents of epochs are read, and how they are read from whoever has them.

Nobody is believed: an index is taken by its content hash, a chunk by its SHA-256, so it does not
matter who gives them, and who gives something else is as good as away. All are asked at once:
whoever holds a connection open delays nobody but himself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address, Compute, Disk, PieceTransport
from atoll.economy.settlement.document import (
    INDEX_BYTES_MAX,
    ChunkEntry,
    Document,
    Index,
    check_chunk,
    content_hash,
    corrupt,
    read,
    read_index,
)

TIMEOUT_S: Final = 20.0
"""Longest wait for one answer of a source."""
SOURCES_MAX: Final = 16
DOCUMENT_BYTES_MAX: Final = 1 << 30
"""Longer documents are not read into memory."""
PATH: Final = "/v1/epochs"
MIRROR_NAME: Final = "atoll-epochs"
"""Bucket into which an operator's documents are put."""


def index_name(epoch: int) -> str:
    """Return the file of a document's index in a folder or bucket of documents."""
    return f"{epoch}/index"


def chunk_name(sha256: bytes) -> str:
    """Return the file of a chunk."""
    return f"chunks/{sha256.hex()}"


class Source(Protocol):
    """Somebody who may have documents. What is returned is unchecked."""

    @property
    def name(self) -> str:
        """What to call it to people; no secret."""

    async def index(self, epoch: int) -> bytes:
        """Return a document's index. Raises ``NOT_FOUND`` and what a way there raises."""

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk. Raises as ``index``."""


class DoorSource:
    """Public pages of a coordinator, or of whoever copies them: ``/v1/epochs`` at a door."""

    def __init__(self, transport: PieceTransport, address: Address) -> None:
        """Ask over the network."""
        self._transport = transport
        self._address = address

    @property
    def name(self) -> str:
        """Its address."""
        return str(self._address)

    async def index(self, epoch: int) -> bytes:
        """Return a document's index."""
        return await self.get(f"/{index_name(epoch)}")

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk."""
        return await self.get(f"/{chunk_name(sha256)}")

    async def get(self, path: str) -> bytes:
        """Return what is at a path below ``/v1/epochs``. Raises ``NOT_FOUND``."""
        reply = await self._transport.call(
            self._address, "GET", f"{PATH}{path}", {}, b"", TIMEOUT_S
        )
        if reply.status != 200:
            raise AtollError(
                Kind.NOT_FOUND,
                "read epoch",
                f"nothing is at {PATH}{path} there",
                hint="`atoll epoch list` shows what there is; coordinator.epoch_s asks for epochs",
                about=self.name,
            )
        return bytes(reply.body)


class DiskSource:
    """A folder of documents, as a coordinator keeps them and mirrors copy them."""

    def __init__(self, name: str, disk: Disk, compute: Compute) -> None:
        """Read below a folder; ``name`` is for people."""
        self._name = name
        self._disk = disk
        self._compute = compute

    @property
    def name(self) -> str:
        """The folder."""
        return self._name

    async def index(self, epoch: int) -> bytes:
        """Return a document's index."""
        return await self._compute.run(self._disk.read, index_name(epoch))

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk."""
        return await self._compute.run(self._disk.read, chunk_name(sha256))


@dataclass(frozen=True, slots=True)
class Found:
    """A document that was found: its bytes are those that its content hash names."""

    index: Index
    index_bytes: bytes
    chunks: tuple[bytes, ...]
    """Of the sections that were asked for, in the order of the index."""


async def find_index(sources: Sequence[Source], epoch: int, content: bytes) -> bytes:
    """Return the index that a content hash names. Raises ``NOT_FOUND`` where nobody has it."""

    def check(body: bytes) -> None:
        if len(body) > INDEX_BYTES_MAX or content_hash(body) != content:
            raise corrupt("another index than the one that was settled")

    def asking(source: Source) -> Awaitable[bytes]:
        return source.index(epoch)

    return await _first_good(sources, asking, check, f"the index of epoch {epoch}")


async def find_document(
    sources: Sequence[Source], epoch: int, content: bytes, sections: frozenset[str] | None = None
) -> Found:
    """Return a document, or some sections of it, from whoever has it.

    Raises ``NOT_FOUND`` where nobody has a part, ``CORRUPT`` where the settled bytes are no
    document.
    """
    body = await find_index(sources, epoch, content)
    index = read_index(body, content)
    wanted = [one for one in index.chunks if sections is None or one.section in sections]
    if sum(one.byte_count for one in wanted) > DOCUMENT_BYTES_MAX:
        raise corrupt(f"the document has more than {DOCUMENT_BYTES_MAX >> 30} GiB")
    chunks = [await find_chunk(sources, one) for one in wanted]
    return Found(index, body, tuple(chunks))


async def find_chunk(sources: Sequence[Source], entry: ChunkEntry) -> bytes:
    """Return a chunk that an index names. Raises ``NOT_FOUND`` where nobody has it."""

    def check(body: bytes) -> None:
        check_chunk(entry, body)

    def asking(source: Source) -> Awaitable[bytes]:
        return source.chunk(entry.sha256)

    return await _first_good(
        sources, asking, check, f"chunk {entry.sha256.hex()[:16]} ({entry.section})"
    )


def whole(found: Found) -> Document:
    """Read all of a document that was found with all its sections. Raises ``CORRUPT``."""
    return read(found.index_bytes, found.chunks)


async def _first_good(
    sources: Sequence[Source],
    ask: Callable[[Source], Awaitable[bytes]],
    check: Callable[[bytes], None],
    what: str,
) -> bytes:
    """Return the first answer that passes; the others are let go."""

    async def one(source: Source) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            body = await ask(source)
        check(body)
        return body

    waiting = {asyncio.ensure_future(one(source)): source for source in sources[:SOURCES_MAX]}
    problems: list[str] = []
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = waiting.pop(task)
                problem = task.exception()
                if problem is None:
                    return task.result()
                if not isinstance(problem, AtollError | TimeoutError):
                    raise problem
                said = problem.message if isinstance(problem, AtollError) else "no answer in time"
                problems.append(f"{source.name}: {said}")
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    why = "; ".join(problems) or "nobody to ask is named"
    raise AtollError(
        Kind.NOT_FOUND,
        "read epoch",
        f"{what} is nowhere: {why}",
        hint="name whoever else may have it: another coordinator or a mirror",
    )
