"""Plaintext in, pieces out: one segment encoded row group by row group.

Plaintext is encrypted straight from the buffers it arrives in to its place in the columns: no
copy, and no plaintext is held. A full group then gets its parity, and every column passes its
piece's hasher and CRC: kernels that release the interpreter lock, in one call for a thread.
"""

from dataclasses import dataclass

from typing_extensions import Buffer

from atoll.core.crypto import SegmentCipher
from atoll.core.erasure import codec
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.merkle import PieceHasher
from atoll.core.pieces import (
    Header,
    Tlv,
    Trailer,
    crc32c,
    encode_header,
    encode_trailer,
    record_bytes,
    sign_trailer,
)
from atoll.core.scheme import Layout

GROUP_BYTES_MAX = 1 << 20
"""Columns of one row group together, unless a single row is longer (20/40: 1.25 MiB)."""
GROUP_BYTES_PRESSED_MAX = 256 << 10
"""The same while many transfers share the buffers."""


def rows_per_group(
    layout: Layout, *, pressed: bool = False, bytes_max: int = GROUP_BYTES_MAX
) -> int:
    """Return how many rows to handle at a time: few when memory is short."""
    limit = GROUP_BYTES_PRESSED_MAX if pressed else bytes_max
    return max(1, min(layout.rows, limit // (layout.k * layout.unit_bytes)))


@dataclass(slots=True)
class RowGroup:
    """Some consecutive rows of all pieces of a segment.

    ``data`` holds the k columns one after the other, ``parity`` the n-k parity columns (nothing
    for replication); either is ``None`` once it has been dropped.
    """

    number: int
    first_row: int
    rows: int
    column_bytes: int
    data: memoryview | None
    parity: memoryview | None

    def column(self, index: int, k: int) -> memoryview | None:
        """Return this group's bytes of piece ``index``, if they are still there."""
        if k == 1:
            return self.data
        area, place = (self.data, index) if index < k else (self.parity, index - k)
        if area is None:
            return None
        return area[place * self.column_bytes : (place + 1) * self.column_bytes]


class SegmentEncoder:
    """Encodes one segment; fed in order, on one thread at a time."""

    def __init__(
        self,
        layout: Layout,
        segment: bytes,
        cipher: SegmentCipher,
        payer_tag: bytes,
        tlvs: tuple[Tlv, ...] = (),
    ) -> None:
        """Prepare the headers of all pieces; all of them carry the same ``tlvs``."""
        self.layout = layout
        self.headers = [
            Header(
                segment_id=SegmentId(segment),
                index=index,
                k=layout.k,
                n=layout.n,
                unit_bytes=layout.unit_bytes,
                plain_bytes=layout.plain_bytes,
                data_bytes=layout.piece_bytes,
                payer_tag=payer_tag,
                tlvs=tlvs,
            )
            for index in range(layout.n)
        ]
        self.heads = [encode_header(header) for header in self.headers]
        self.record_bytes = record_bytes(self.headers[0])
        self.rows_begun = 0
        self._groups_begun = 0
        self._crcs = [crc32c(head) for head in self.heads]
        # Replicas hold the same bytes: one tree serves them all.
        self._hashers = [PieceHasher() for _ in range(1 if layout.k == 1 else layout.n)]
        self._encrypt = cipher.encrypt_chunk
        self._chunk = 0
        self._chunks = layout.chunks
        self._carry = bytearray(layout.chunk_bytes)
        self._carry_bytes = 0

    def group_bytes(self, rows: int) -> tuple[int, int]:
        """Return the bytes of data and of parity columns that a group of ``rows`` rows needs."""
        layout = self.layout
        row = rows * layout.unit_bytes
        return layout.k * row, (layout.n - layout.k) * row if layout.k > 1 else 0

    def begin(self, rows: int, data: memoryview, parity: memoryview) -> RowGroup:
        """Start the next group of ``rows`` rows in buffers of ``group_bytes``."""
        group = RowGroup(
            self._groups_begun, self.rows_begun, rows, rows * self.layout.unit_bytes, data, parity
        )
        self._groups_begun += 1
        self.rows_begun += rows
        assert self.rows_begun <= self.layout.rows
        return group

    def fill(self, group: RowGroup, plain: Buffer) -> int:
        """Encrypt the next plaintext into the group; return how many of its bytes were taken.

        Fewer than given are taken only when the group is full.
        """
        view = memoryview(plain)
        end_chunk = min((group.first_row + group.rows) * self.layout.k, self._chunks)
        last_chunk = self._chunks - 1
        chunk_bytes = self.layout.chunk_bytes
        start, length = 0, len(view)
        while self._chunk < end_chunk:
            size = chunk_bytes
            if self._chunk == last_chunk:
                size = self.layout.chunk_plain_bytes(last_chunk)
            wanted = size - self._carry_bytes
            if length - start < wanted:
                self._carry[self._carry_bytes : self._carry_bytes + length - start] = view[start:]
                self._carry_bytes += length - start
                return length
            if self._carry_bytes:
                self._carry[self._carry_bytes : size] = view[start : start + wanted]
                self._carry_bytes = 0
                self._encrypt_next(group, memoryview(self._carry)[:size])
            else:
                self._encrypt_next(group, view[start : start + size])
            start += wanted
        return start

    def full(self, group: RowGroup) -> bool:
        """Say whether all plaintext of the group is in it."""
        return self._chunk >= min((group.first_row + group.rows) * self.layout.k, self._chunks)

    def _encrypt_next(self, group: RowGroup, plain: memoryview) -> None:
        layout, chunk = self.layout, self._chunk
        unit = layout.unit_bytes
        row, column = divmod(chunk, layout.k)
        start = column * group.column_bytes + (row - group.first_row) * unit
        end = start + len(plain) + unit - layout.chunk_bytes
        data = group.data
        assert data is not None
        last = chunk == self._chunks - 1
        self._encrypt(chunk, last, plain, data[start:end])
        if last:
            self._pad(group, column, end, start + unit)
        self._chunk = chunk + 1

    def _pad(self, group: RowGroup, column: int, end: int, unit_end: int) -> None:
        """Zero what follows the last chunk: its unit's rest and the row's remaining units."""
        data, unit = group.data, self.layout.unit_bytes
        assert data is not None
        data[end:unit_end] = bytes(unit_end - end)
        for _ in range(column + 1, self.layout.k):
            unit_end += group.column_bytes
            data[unit_end - unit : unit_end] = bytes(unit)

    def encode(self, group: RowGroup) -> None:
        """Compute a full group's parity and take all its columns into hashes and CRCs.

        Groups must come in order. Meant for ``Compute.run``; the heavy kernels release the lock.
        """
        k, n = self.layout.k, self.layout.n
        crcs = self._crcs
        if k == 1:
            assert group.data is not None
            self._hashers[0].update(group.data)
            for index in range(n):
                crcs[index] = crc32c(group.data, crcs[index])
            return
        columns: list[memoryview] = []
        for index in range(n):
            column = group.column(index, k)
            assert column is not None
            columns.append(column)
        codec(k, n).encode(columns[:k], columns[k:], group.column_bytes)
        for index, column in enumerate(columns):
            self._hashers[index].update(column)
            crcs[index] = crc32c(column, crcs[index])

    def finish(self, identity: Identity) -> tuple[Trailer, list[bytes]]:
        """Return the signed trailer and its encoded form for each piece."""
        assert self.rows_begun == self.layout.rows
        assert self._chunk == self._chunks
        roots = [hasher.root() for hasher in self._hashers]
        if self.layout.k == 1:
            roots *= self.layout.n
        trailer = sign_trailer(identity, self.headers[0], roots)
        encoded = [
            encode_trailer(header, trailer, crc)
            for header, crc in zip(self.headers, self._crcs, strict=True)
        ]
        return trailer, encoded


def rebuild_column(group: RowGroup, index: int, k: int, n: int) -> memoryview | None:
    """Return a group's bytes of piece ``index``, computing dropped parity again.

    ``None`` if the data columns are gone as well.
    """
    column = group.column(index, k)
    if column is not None or group.data is None:
        return column
    size = group.column_bytes
    columns = [group.data[j * size : (j + 1) * size] for j in range(k)]
    target = memoryview(bytearray(size))
    codec(k, n).rebuild(range(k), columns, (index,), (target,), size)
    return target
