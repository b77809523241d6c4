"""Copies documents of epochs to other places, so that they do not hang on whoever wrote them.

A mirror holds the same files under the same names. All that is copied was checked by its hash; the
index comes last, so that what has an index is complete. Copying again copies what is missing.
"""

from collections.abc import Sequence
from typing import Protocol

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Compute, Disk
from atoll.economy.settlement.document import content_hash, read_index
from atoll.economy.settlement.source import (
    Source,
    chunk_name,
    find_chunk,
    find_index,
    index_name,
)


class Target(Protocol):
    """A place that documents are copied to."""

    async def has(self, name: str) -> bool:
        """Say whether a file is there."""

    async def read(self, name: str) -> bytes:
        """Return a file. Raises ``NOT_FOUND``."""

    async def put(self, name: str, body: bytes) -> None:
        """Put a file there, whole or not at all."""


class DiskTarget:
    """A folder."""

    def __init__(self, disk: Disk, compute: Compute) -> None:
        """Copy below a folder."""
        self._disk = disk
        self._compute = compute

    async def has(self, name: str) -> bool:
        """Say whether a file is there."""
        return await self._compute.run(self._disk.exists, name)

    async def read(self, name: str) -> bytes:
        """Return a file."""
        return await self._compute.run(self._disk.read, name)

    async def put(self, name: str, body: bytes) -> None:
        """Put a file there."""
        await self._compute.run(self._disk.replace, name, body)


async def copy_epoch(sources: Sequence[Source], target: Target, epoch: int, content: bytes) -> int:
    """Copy a document to where it is not complete; return how many files were written.

    Raises ``NOT_FOUND`` where nobody has a part, ``CORRUPT`` where it is no document, and what the
    target raises.
    """
    if await _is_there(target, epoch, content):
        return 0
    body = await find_index(sources, epoch, content)
    written = 0
    for entry in read_index(body, content).chunks:
        name = chunk_name(entry.sha256)
        if not await target.has(name):
            await target.put(name, await find_chunk(sources, entry))
            written += 1
    await target.put(index_name(epoch), body)
    return written + 1


async def _is_there(target: Target, epoch: int, content: bytes) -> bool:
    try:
        return content_hash(await target.read(index_name(epoch))) == content
    except AtollError as error:
        if error.kind not in (Kind.NOT_FOUND, Kind.OBJECT_NOT_FOUND):
            raise
        return False
