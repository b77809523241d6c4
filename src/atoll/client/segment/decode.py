"""Pieces in, plaintext out: rows decoded, every chunk checked by its tag before it is handed on."""

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.core.crypto import SegmentCipher
from atoll.core.erasure import codec
from atoll.core.errors import AtollError, Kind
from atoll.core.scheme import TAG_BYTES, Layout


@dataclass(frozen=True, slots=True)
class Rows:
    """Bytes of one piece: its units of rows ``first`` up to but without ``end``."""

    first: int
    end: int
    data: memoryview

    def covers(self, first: int, end: int) -> bool:
        """Say whether these rows are among them."""
        return self.first <= first and end <= self.end

    def part(self, first: int, end: int, unit_bytes: int) -> memoryview:
        """Return the bytes of some of the rows."""
        return self.data[(first - self.first) * unit_bytes : (end - self.first) * unit_bytes]


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """Consecutive chunks of a segment: ``first`` up to but without ``end``."""

    layout: Layout
    first: int
    end: int

    @property
    def first_row(self) -> int:
        """The row of the first chunk."""
        return self.first // self.layout.k

    @property
    def end_row(self) -> int:
        """One past the row of the last chunk."""
        return (self.end - 1) // self.layout.k + 1

    @property
    def plain_bytes(self) -> int:
        """Plaintext bytes of all the chunks."""
        full = self.layout.chunk_bytes
        return (self.end - self.first - 1) * full + self.layout.chunk_plain_bytes(self.end - 1)

    def columns(self) -> dict[int, tuple[int, int]]:
        """Return, for each column that holds some of the chunks, its first and end row."""
        k = self.layout.k
        spans: dict[int, tuple[int, int]] = {}
        for first in range(self.first, min(self.first + k, self.end)):
            rows = (self.end - 1 - first) // k + 1
            spans[first % k] = (first // k, first // k + rows)
        return spans


class BadChunk(Exception):  # noqa: N818 — a finding for the reader of pieces, not an outcome
    """A chunk's tag does not hold: some piece's bytes are wrong."""

    def __init__(self, chunk: int, column: int) -> None:
        super().__init__(chunk, column)
        self.chunk = chunk
        self.column = column


def sources_of(span: ChunkSpan, pieces: Mapping[int, Rows]) -> list[int]:
    """Return the k pieces, of those that cover the span, from which the others are rebuilt."""
    first, end = span.first_row, span.end_row
    return sorted(i for i, rows in pieces.items() if rows.covers(first, end))[: span.layout.k]


def rebuild_columns(
    span: ChunkSpan, pieces: Mapping[int, Rows], missing: list[int]
) -> dict[int, Rows]:
    """Return the data columns ``missing`` over all rows of the span, from k pieces that cover it.

    Meant for ``Compute.run`` where it is long; releases the lock.
    """
    layout = span.layout
    first, end, unit = span.first_row, span.end_row, layout.unit_bytes
    length = (end - first) * unit
    have = sources_of(span, pieces)
    sources = [pieces[index].part(first, end, unit) for index in have]
    targets = [memoryview(bytearray(length)) for _ in missing]
    codec(layout.k, layout.n).rebuild(have, sources, missing, targets, length)
    return {
        column: Rows(first, end, target) for column, target in zip(missing, targets, strict=True)
    }


def decrypt_span(
    cipher: SegmentCipher, span: ChunkSpan, columns: Mapping[int, Rows], out: memoryview
) -> None:
    """Decrypt the span's chunks into ``out`` (``span.plain_bytes`` long), checking every tag.

    Raises ``BadChunk``; ``out`` must not be used then.
    """
    layout = span.layout
    k, unit, chunk_bytes = layout.k, layout.unit_bytes, layout.chunk_bytes
    last = layout.chunks - 1
    decrypt = cipher.decrypt_chunk
    position = 0
    for chunk in range(span.first, span.end):
        row, column = divmod(chunk, k)
        rows = columns[column]
        start = (row - rows.first) * unit
        size = chunk_bytes if chunk < last else layout.chunk_plain_bytes(last)
        try:
            decrypt(
                chunk,
                chunk == last,
                rows.data[start : start + size + TAG_BYTES],
                out[position : position + size],
            )
        except AtollError as fault:
            if fault.kind is Kind.CORRUPT:
                raise BadChunk(chunk, column) from None
            raise
        position += size


def column_holds(cipher: SegmentCipher, span: ChunkSpan, column: int, rows: Rows) -> bool:
    """Say whether a data column, which covers the span, is as it was uploaded within its rows.

    Chunks are by their tags. What follows the last chunk is zero, and no tag covers it: a column
    that is wrong there spoils whatever is rebuilt from it.
    """
    layout = span.layout
    scratch = memoryview(bytearray(layout.chunk_bytes))
    for row in range(span.first_row, span.end_row):
        chunk = row * layout.k + column
        if chunk >= layout.chunks - 1 and any(_padding(layout, chunk, rows, row)):
            return False
        if chunk >= layout.chunks:
            break
        one = ChunkSpan(layout, chunk, chunk + 1)
        try:
            decrypt_span(cipher, one, {column: rows}, scratch[: one.plain_bytes])
        except BadChunk:
            return False
    return True


def _padding(layout: Layout, chunk: int, rows: Rows, row: int) -> memoryview:
    """Return what a unit of the last row has after its chunk, or in place of one."""
    unit = rows.part(row, row + 1, layout.unit_bytes)
    if chunk >= layout.chunks:
        return unit
    return unit[layout.chunk_plain_bytes(chunk) + TAG_BYTES :]
