"""Plaintext ranges of one segment from its nodes: hedged, verified, streamed.

A short range asks exactly the units it needs of the nodes that have them: mostly one. A long one
opens k streams and decodes row group by row group, one group ahead of its reader. A node that is
late gets a rival beside it, one that fails or lies is replaced from that row on. Every chunk
passes its tag before it is handed on.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from atoll.client.segment.buffers import BufferPool
from atoll.client.segment.decode import (
    BadChunk,
    ChunkSpan,
    Rows,
    column_holds,
    decrypt_span,
    rebuild_columns,
    sources_of,
)
from atoll.client.segment.encode import rows_per_group
from atoll.client.transfer.fetch import PieceFetcher
from atoll.client.transfer.liars import Evidence, Examiner, layout_of
from atoll.client.transfer.report import TransferReport
from atoll.client.transfer.stats import NodeStats
from atoll.core.crypto import SegmentCipher
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    ControlPlane,
    GrantList,
    GrantReads,
    PieceGrant,
    SegmentRecord,
)
from atoll.core.ports import Clock, Compute, PieceTransport
from atoll.core.scheme import Layout

SHORT_BYTES_MAX = 256 << 10
"""A range of so many bytes of units is fetched whole; longer ones are streamed."""
READ_GROUP_BYTES_MAX = 2 << 20
"""Columns of one row group of a long read together. Each costs some tasks and waits, whatever its
size; twice the upload's size is worth the memory, since a read holds only two groups."""
INLINE_BYTES_MAX = 256 << 10
"""Rebuilding so much takes less than handing it to a thread."""


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """How patient a download is."""

    piece_timeout_s: float = 10.0
    """A node that answers nothing for so long has failed."""
    streams_max: int = 64
    """Long reads of a worker that hold streams open at the same time; others wait."""


class SegmentDownloader:
    """Reads segments; one per worker, shared by all its downloads."""

    def __init__(
        self,
        control: ControlPlane,
        transport: PieceTransport,
        compute: Compute,
        clock: Clock,
        gateway_key: bytes,
        buffers: BufferPool,
        limits: DownloadLimits | None = None,
    ) -> None:
        """``gateway_key`` may use the orders asked for."""
        self.control = control
        self.transport = transport
        self.compute = compute
        self.clock = clock
        self.gateway_key = gateway_key
        self.buffers = buffers
        self.limits = limits or DownloadLimits()
        self.turns = asyncio.Semaphore(self.limits.streams_max)
        self.report = TransferReport(control, clock)
        self.short_stats = NodeStats(self.report)
        self.stream_stats = NodeStats(self.report)
        self.examiner = Examiner(control, transport, gateway_key, self.short_stats)

    def open(
        self, segment: SegmentRecord, cipher: SegmentCipher, start: int, end: int
    ) -> "SegmentRead":
        """Return a read of plaintext bytes ``start`` up to but without ``end``.

        Raises ``BAD_REQUEST`` for a range that is empty or outside the segment.
        """
        return SegmentRead(self, segment, cipher, start, end)

    def read(
        self, segment: SegmentRecord, cipher: SegmentCipher, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Stream a range; see ``SegmentRead.views``."""
        return self.open(segment, cipher, start, end).views()

    async def close(self) -> None:
        """Give up examinations under way."""
        await self.examiner.close()
        await self.report.close()


class SegmentRead:
    """One range of one segment being read."""

    def __init__(
        self,
        downloader: SegmentDownloader,
        segment: SegmentRecord,
        cipher: SegmentCipher,
        start: int,
        end: int,
    ) -> None:
        self._downloader = downloader
        self._segment = segment
        self._cipher = cipher
        self._layout = layout_of(segment)
        try:
            first, end_chunk = self._layout.chunks_of_range(start, end)
        except ValueError as cause:
            raise AtollError(Kind.BAD_REQUEST, "read segment", str(cause)) from cause
        self._skip = start - first * self._layout.chunk_bytes
        self._left = end - start
        whole = ChunkSpan(self._layout, first, end_chunk)
        self._short = _is_short(whole)
        self._spans = [whole] if self._short else _groups(whole, downloader.buffers)
        self._fetcher: PieceFetcher | None = None
        self._ahead: asyncio.Task[memoryview] | None = None
        self._evidence: list[Evidence] = []

    @property
    def groups_left(self) -> int:
        """Row groups whose reading has not begun."""
        return len(self._spans)

    def start(self) -> None:
        """Begin to read before the first view is asked for."""
        if self._ahead is None and self._spans:
            self._ahead = asyncio.create_task(self._decode(self._spans.pop(0)))

    async def views(self) -> AsyncGenerator[memoryview, None]:
        """Yield the plaintext in order, every byte of it verified.

        A view keeps its content for as long as anybody holds it. Close the iterator (``aclosing``)
        when leaving early. Raises ``TOO_FEW_NODES`` where too few pieces answer now and
        ``DATA_LOST`` where too few exist, before the first byte if it is known then.
        """
        try:
            while self._ahead is not None or self._spans:
                if self._ahead is not None:
                    plain = await self._ahead
                    self._ahead = None
                else:
                    plain = await self._decode(self._spans.pop(0))
                self.start()
                part = plain[self._skip : self._skip + self._left]
                del plain
                self._skip = 0
                self._left -= len(part)
                yield part
                del part
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop; safe to call at any time and more than once."""
        self._spans.clear()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        if self._fetcher is not None:
            await self._fetcher.close()
        evidence, self._evidence = self._evidence, []
        self._downloader.examiner.examine_later(self._segment, evidence)

    # --- one span --------------------------------------------------------------------------------

    async def _decode(self, span: ChunkSpan) -> memoryview:
        """Return a span's plaintext; pieces found wrong are left out and the span read again."""
        downloader = self._downloader
        if self._fetcher is None:
            self._fetcher = self._open_fetcher(span)
        fetcher = self._fetcher
        if self._short:
            columns, out = None, memoryview(bytearray(span.plain_bytes))
        else:
            rows = span.end_row - span.first_row
            columns, out = await downloader.buffers.acquire(
                self._layout.k * rows * self._layout.unit_bytes, span.plain_bytes
            )
        pieces: dict[int, Rows] = {}
        for _ in range(2 * self._layout.n):
            try:
                pieces = await fetcher.fetch(span, columns, pieces, impatient=bool(self._evidence))
            except AtollError:
                # Perhaps there are enough, and some were suspected wrongly.
                if not await self._acquit():
                    raise
                continue
            data = await self._columns(span, pieces)
            try:
                decrypt_span(self._cipher, span, data, out)
            except BadChunk as bad:
                for index in await self._leave_out(span, pieces, bad):
                    del pieces[index]
            else:
                return out
        raise AtollError(
            Kind.DATA_LOST,
            "read segment",
            "the pieces are as they were uploaded, and do not decrypt",
        )

    def _open_fetcher(self, span: ChunkSpan) -> PieceFetcher:
        downloader, segment = self._downloader, self._segment
        rows = span.end_row - span.first_row if self._short else self._layout.rows
        question = GrantReads(
            segment=segment.segment,
            pieces=segment.pieces,
            # A piece may be asked for its columns' units first and for all rows later.
            byte_cap=2 * rows * self._layout.unit_bytes,
            gateway_key=downloader.gateway_key,
            serial=segment.serial,
        )

        async def grant() -> list[PieceGrant]:
            return (await downloader.control.ask(question, GrantList)).grants

        last = self._spans[-1] if self._spans else span
        return PieceFetcher(
            segment,
            self._layout,
            grant,
            downloader.transport,
            downloader.clock,
            downloader.short_stats if self._short else downloader.stream_stats,
            None if self._short else last.end_row,
            downloader.limits.piece_timeout_s,
            downloader.turns,
        )

    async def _columns(self, span: ChunkSpan, pieces: dict[int, Rows]) -> dict[int, Rows]:
        """Return the span's data columns, rebuilt where other pieces came instead of them."""
        if self._layout.k == 1:
            return {0: next(iter(pieces.values()))}
        missing = [column for column in span.columns() if column not in pieces]
        if not missing:
            return pieces
        length = (span.end_row - span.first_row) * self._layout.unit_bytes * self._layout.k
        if length <= INLINE_BYTES_MAX:
            rebuilt = rebuild_columns(span, pieces, missing)
        else:
            rebuilt = await self._downloader.compute.run(rebuild_columns, span, pieces, missing)
        return pieces | rebuilt

    # --- wrong bytes -----------------------------------------------------------------------------

    async def _leave_out(
        self, span: ChunkSpan, pieces: dict[int, Rows], bad: BadChunk
    ) -> list[int]:
        """Go on without the pieces that may have made a chunk wrong; return them.

        What they served is kept as evidence. If too few pieces are left, the suspects are examined
        at once and the honest ones may be asked again.
        """
        fetcher, layout = self._fetcher, self._layout
        assert fetcher is not None
        row = bad.chunk // layout.k
        suspects = self._suspects(span, pieces, bad.column)
        for index in suspects:
            served = bytes(pieces[index].part(row, row + 1, layout.unit_bytes))
            self._evidence.append(Evidence(index, row, served))
        await fetcher.exclude(suspects)
        if fetcher.prompt() < layout.k:
            await self._acquit()
        if fetcher.available() < layout.k:
            raise fetcher.unreadable()
        return suspects

    async def _acquit(self) -> bool:
        """Examine the suspects now; say whether any of them may be asked again."""
        evidence, self._evidence = self._evidence, []
        if not evidence or self._fetcher is None:
            return False
        cleared = await self._downloader.examiner.examine(self._segment, evidence)
        self._fetcher.take_back(cleared)
        return bool(cleared)

    def _suspects(self, span: ChunkSpan, pieces: dict[int, Rows], column: int) -> list[int]:
        """Return who may be to blame: a data column shows it itself, parity only together."""
        if self._layout.k == 1:
            return list(pieces)
        if column in pieces:
            return [column]
        used = sources_of(span, pieces)
        k = self._layout.k
        lying = [
            index
            for index in used
            if index < k and not column_holds(self._cipher, span, index, pieces[index])
        ]
        return lying or [index for index in used if index >= k]


def _is_short(span: ChunkSpan) -> bool:
    layout, chunks = span.layout, span.end - span.first
    return chunks * layout.unit_bytes <= SHORT_BYTES_MAX or (
        chunks <= layout.k and span.end_row - span.first_row <= rows_per_group(layout)
    )


def _groups(whole: ChunkSpan, buffers: BufferPool) -> list[ChunkSpan]:
    """Cut a span at row boundaries into groups of bounded size."""
    layout: Layout = whole.layout
    rows = rows_per_group(layout, pressed=buffers.pressed, bytes_max=READ_GROUP_BYTES_MAX)
    spans = []
    row = whole.first_row
    while row < whole.end_row:
        end_row = min(row + rows, whole.end_row)
        first = max(whole.first, row * layout.k)
        spans.append(ChunkSpan(layout, first, min(whole.end, end_row * layout.k)))
        row = end_row
    return spans
