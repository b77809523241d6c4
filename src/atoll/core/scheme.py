"""Erasure schemes and the layout of a segment: which bytes go into which piece.

A segment's plaintext is cut into chunks; a chunk, encrypted, with its tag, is one *unit*, the unit
of erasure coding. Unit ``c`` lies in column ``c % k`` and row ``c // k``; piece ``j < k`` is column
``j`` read downwards, pieces ``j >= k`` are parity of the same rows. So a small range read touches
one or two nodes, and a segment streams row by row.
"""

from dataclasses import dataclass

TAG_BYTES = 16
SEGMENT_PLAIN_BYTES_MAX = 64 << 20
TINY_PLAIN_BYTES_MAX = 8 << 10
LEAF_BYTES = 4096
"""Merkle leaf of a piece's data area."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How many pieces a segment has and when that is enough.

    ``k`` pieces rebuild it; ``durable`` must be stored before an upload is acknowledged,
    ``commit`` usually are; at or below ``repair`` healthy pieces repair is urgent; ``n`` is full
    strength; ``ask`` order limits are requested at once, the surplus hides slow nodes.
    """

    k: int
    durable: int
    commit: int
    repair: int
    n: int
    ask: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.durable <= self.commit <= self.n <= self.ask <= 255:
            raise ValueError(f"not a scheme: {self}")

    @property
    def name(self) -> str:
        """``k/n`` as people write it."""
        return f"{self.k}/{self.n}"


TINY = Scheme(k=1, durable=2, commit=3, repair=2, n=4, ask=5)
RS_2_4 = Scheme(k=2, durable=3, commit=4, repair=3, n=4, ask=5)
RS_4_8 = Scheme(k=4, durable=6, commit=7, repair=7, n=8, ask=10)
RS_10_20 = Scheme(k=10, durable=15, commit=18, repair=15, n=20, ask=23)
RS_20_40 = Scheme(k=20, durable=34, commit=36, repair=30, n=40, ask=46)

_BY_SHAPE = {(s.k, s.n): s for s in (TINY, RS_2_4, RS_4_8, RS_10_20, RS_20_40)}


def scheme_for(plain_bytes: int, operators: int) -> Scheme:
    """Choose the scheme of a new segment by its size and the eligible independent operators."""
    if plain_bytes <= TINY_PLAIN_BYTES_MAX:
        return TINY
    if operators < 8:
        return RS_2_4
    if operators < 16:
        return RS_4_8
    if operators < 60:
        return RS_10_20
    return RS_20_40


def scheme_of(k: int, n: int) -> Scheme:
    """Return the scheme of a stored segment. Raises ``ValueError`` for an unknown shape."""
    try:
        return _BY_SHAPE[k, n]
    except KeyError:
        raise ValueError(f"no scheme {k}/{n}") from None


def unit_bytes_for(plain_bytes: int, k: int) -> int:
    """Return the unit of a segment, tag included.

    A replicated segment (k = 1) is one chunk: its unit is exactly its ciphertext.
    """
    if k == 1:
        return plain_bytes + TAG_BYTES
    if plain_bytes >= 16 << 20:
        return 64 << 10
    if plain_bytes >= 4 << 20:
        return 16 << 10
    if plain_bytes >= 1 << 20:
        return 4 << 10
    return 1 << 10


@dataclass(frozen=True, slots=True)
class Layout:
    """The geometry of one segment. All sizes in bytes."""

    plain_bytes: int
    k: int
    n: int
    unit_bytes: int

    def __post_init__(self) -> None:
        if not (0 <= self.plain_bytes <= SEGMENT_PLAIN_BYTES_MAX):
            raise ValueError(f"a segment holds 0..{SEGMENT_PLAIN_BYTES_MAX} bytes")
        if not (1 <= self.k <= self.n <= 255) or self.unit_bytes < TAG_BYTES:
            raise ValueError("not a layout")
        if self.unit_bytes == TAG_BYTES and self.plain_bytes:
            raise ValueError("a unit must hold more than its tag")

    @property
    def chunk_bytes(self) -> int:
        """Plaintext bytes of a full chunk."""
        return self.unit_bytes - TAG_BYTES

    @property
    def chunks(self) -> int:
        """Number of chunks; an empty segment has one, which holds only its tag."""
        if self.plain_bytes == 0:
            return 1
        return -(-self.plain_bytes // self.chunk_bytes)

    @property
    def rows(self) -> int:
        """Number of stripes."""
        return -(-self.chunks // self.k)

    @property
    def piece_bytes(self) -> int:
        """Length of every piece's data area."""
        return self.rows * self.unit_bytes

    def chunk_plain_bytes(self, chunk: int) -> int:
        """Plaintext bytes of one chunk: full ones, a shorter last one."""
        if chunk < 0 or chunk >= self.chunks:
            raise ValueError(f"no chunk {chunk}")
        if chunk < self.chunks - 1:
            return self.chunk_bytes
        return self.plain_bytes - chunk * self.chunk_bytes

    def place(self, chunk: int) -> tuple[int, int]:
        """Return (column, byte offset in that piece's data area) of a chunk's unit."""
        return chunk % self.k, (chunk // self.k) * self.unit_bytes

    def chunks_of_range(self, start: int, end: int) -> tuple[int, int]:
        """Return the first chunk and one past the last that hold plaintext bytes start..end-1."""
        if not 0 <= start < end <= self.plain_bytes:
            raise ValueError("range outside the segment")
        return start // self.chunk_bytes, -(-end // self.chunk_bytes)


def layout_for(plain_bytes: int, scheme: Scheme) -> Layout:
    """Return the layout of a new segment under a scheme."""
    return Layout(plain_bytes, scheme.k, scheme.n, unit_bytes_for(plain_bytes, scheme.k))
