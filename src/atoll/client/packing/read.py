"""Plaintext ranges of a small segment that lies in a pack."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from atoll.client.transfer.download import SegmentDownloader
from atoll.core.crypto import SegmentCipher
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import SegmentRecord
from atoll.core.packing import PackedLayout
from atoll.core.scheme import TAG_BYTES


async def read_packed(
    downloader: SegmentDownloader,
    segment: SegmentRecord,
    pack_cipher: SegmentCipher,
    span: tuple[int, int],
) -> bytearray:
    """Return bytes ``span`` of a packed segment's ciphertext, checked by the pack's tags.

    Raises what reading a segment raises.
    """
    place = segment.packed
    assert place is not None, "the segment lies in a pack"
    start, end = place.offset + span[0], place.offset + span[1]
    gathered = bytearray()
    async with aclosing(downloader.read(place.record(), pack_cipher, start, end)) as views:
        async for view in views:
            gathered += view
    return gathered


class PackedRead:
    """One range of one packed segment; the same face as ``download.SegmentRead``.

    A small segment has at most a mebibyte: the range is read whole, then handed on.
    """

    def __init__(
        self,
        downloader: SegmentDownloader,
        segment: SegmentRecord,
        ciphers: tuple[SegmentCipher, SegmentCipher],
        start: int,
        end: int,
    ) -> None:
        """``ciphers`` are the pack's and the segment's own. Raises ``BAD_REQUEST``."""
        self._downloader = downloader
        self._segment = segment
        self._pack_cipher, self._cipher = ciphers
        self._layout = PackedLayout(segment.plain_bytes, segment.unit_bytes)
        try:
            self._first, self._end = self._layout.chunks_of_range(start, end)
        except ValueError as cause:
            raise AtollError(Kind.BAD_REQUEST, "read segment", str(cause)) from cause
        self._skip = start - self._first * (segment.unit_bytes - TAG_BYTES)
        self._length = end - start
        self._reading: asyncio.Task[memoryview] | None = None

    @property
    def groups_left(self) -> int:
        """How much of it has not begun to be read: all or nothing."""
        return 0 if self._reading is not None else 1

    def start(self) -> None:
        """Begin to read before the view is asked for."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    async def views(self) -> AsyncGenerator[memoryview, None]:
        """Yield the plaintext, every byte of it verified by both layers of tags."""
        self.start()
        assert self._reading is not None
        yield await self._reading

    async def close(self) -> None:
        """Stop; safe to call more than once."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> memoryview:
        span = self._layout.span(self._first, self._end)
        stored = await read_packed(self._downloader, self._segment, self._pack_cipher, span)
        plain = bytearray(len(stored) - (self._end - self._first) * TAG_BYTES)
        source, target = memoryview(stored), memoryview(plain)
        at = done = 0
        for chunk in range(self._first, self._end):
            length = self._layout.chunk_plain_bytes(chunk)
            self._cipher.decrypt_chunk(
                chunk,
                chunk == self._layout.chunks - 1,
                source[at : at + length + TAG_BYTES],
                target[done : done + length],
            )
            at, done = at + length + TAG_BYTES, done + length
        return target[self._skip : self._skip + self._length]
