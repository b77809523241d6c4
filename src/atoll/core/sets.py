"""Exact sets of pieces: what a coordinator counts at a node, compared by digests and bitmaps.

A coordinator numbers its segments (their *serials*), and a node holds at most one piece of each. So
the set of a node's pieces is a set of serials, each with a piece index. It is cut into *ranges* of
65,536 serials. Two parties compare digests of ranges and send only what differs, as roaring bitmaps
(Lemire et al., https://arxiv.org/abs/1709.07821, in the portable serialization of that format).

Normative text: ``docs/spec/sets.md``. Vectors: ``tests/golden/vectors/sets.json``.
"""

import hashlib
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pyroaring import BitMap

from atoll.core.errors import AtollError, Kind

RANGE_BITS = 16
RANGE_SERIALS = 1 << RANGE_BITS
SERIAL_MAX = (1 << 63) - 1
RANGE_MAX = SERIAL_MAX >> RANGE_BITS
"""Ranges below this one are compared: all serials of a database that counts to 2^63."""
WINDOW_RANGES_MAX = 4096
"""Ranges compared by one message."""
DIGEST_BYTES = 16
_RANGE_LABEL = b"atoll/set-range/1\0"
_WINDOW_LABEL = b"atoll/set-window/1\0"
_RANGE_HEAD = struct.Struct(">QI")
_PLACE = struct.Struct(">I")
_MISSING = struct.Struct(">QB")
MISSING_BYTES = _MISSING.size


def _malformed(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "compare sets", message)


def encode_bits(bits: BitMap) -> bytes:
    """Return a bitmap in the portable roaring serialization; empty for the empty one."""
    if not bits:
        return b""
    bits.run_optimize()
    packed: bytes = bits.serialize()
    return packed


def decode_bits(packed: bytes, end: int) -> BitMap:
    """Read ``encode_bits``' form of numbers below ``end``. Raises ``BAD_REQUEST``."""
    if not packed:
        return BitMap()
    try:
        bits = BitMap.deserialize(packed)
        outside = len(bits) == 0 or bits.max() >= end
    except (ValueError, OverflowError) as cause:
        raise _malformed(f"this is no bitmap: {cause}") from cause
    if outside:
        raise _malformed("a bitmap is empty or leaves its window")
    return bits


@dataclass(frozen=True, slots=True)
class RangeSet:
    """The pieces of one range: the low 16 bits of serials, ascending, and each one's index."""

    lows: tuple[int, ...] = ()
    indexes: bytes = b""

    @classmethod
    def of(cls, pieces: Mapping[int, int]) -> "RangeSet":
        """Make it of low bits to piece index."""
        lows = tuple(sorted(pieces))
        return cls(lows, bytes(pieces[low] for low in lows))

    @classmethod
    def decode(cls, bits: bytes, indexes: bytes) -> "RangeSet":
        """Read what ``encode`` wrote. Raises ``BAD_REQUEST``."""
        lows = tuple(decode_bits(bits, RANGE_SERIALS))
        if len(lows) != len(indexes):
            raise _malformed("a range has as many indexes as serials")
        return cls(lows, indexes)

    def encode(self) -> tuple[bytes, bytes]:
        """Return the bitmap and the indexes."""
        return encode_bits(BitMap(self.lows)), self.indexes

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self.lows)

    def pieces(self) -> dict[int, int]:
        """Return low bits to piece index, ascending."""
        return dict(zip(self.lows, self.indexes, strict=True))

    def digest(self, number: int) -> bytes:
        """Return the 16 bytes that stand for this content of range ``number``."""
        lows = array("H", self.lows)
        if sys.byteorder == "big":
            lows.byteswap()
        head = _RANGE_LABEL + _RANGE_HEAD.pack(number, len(self.lows))
        whole = hashlib.sha256(head + lows.tobytes() + self.indexes)
        return whole.digest()[:DIGEST_BYTES]


EMPTY = RangeSet()


def window_digest(ranges: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the digest over the (number, digest) of all non-empty ranges, ascending."""
    whole = hashlib.sha256(_WINDOW_LABEL)
    for number, digest in ranges:
        whole.update(number.to_bytes(8, "big") + digest)
    return whole.digest()[:DIGEST_BYTES]


def pack_digests(first: int, ranges: Iterable[tuple[int, bytes]]) -> bytes:
    """Encode digests of non-empty ranges of a window that begins at range ``first``."""
    return b"".join(_PLACE.pack(number - first) + digest for number, digest in ranges)


def unpack_digests(first: int, packed: bytes) -> dict[int, bytes]:
    """Read ``pack_digests``' form. Raises ``BAD_REQUEST``."""
    size = _PLACE.size + DIGEST_BYTES
    if len(packed) % size or len(packed) > size * WINDOW_RANGES_MAX:
        raise _malformed("digests of ranges have another length")
    found: dict[int, bytes] = {}
    for at in range(0, len(packed), size):
        number = first + _PLACE.unpack_from(packed, at)[0]
        if number in found or number >= RANGE_MAX:
            raise _malformed("a range is named twice or cannot be")
        found[number] = packed[at + _PLACE.size : at + size]
    return found


@dataclass(slots=True)
class WindowChange:
    """What turns one content of a window of ranges into another."""

    first: int
    """Range at which the window begins."""
    whole: set[int]
    """Ranges of which everything is given: what was there before is forgotten."""
    removed: BitMap
    """Pieces that go: serials less the window's first serial."""
    added: dict[int, int]
    """Pieces that come: serials less the window's first serial, ascending, to index."""

    @classmethod
    def empty(cls, first: int) -> "WindowChange":
        """Begin a change of a window at a range."""
        return cls(first, set(), BitMap(), {})

    def note(self, number: int, before: RangeSet | None, after: RangeSet) -> None:
        """Take up a range (each once, ascending); ``before`` None where it is not known."""
        base = (number - self.first) << RANGE_BITS
        new = set(zip(after.lows, after.indexes, strict=True))
        if before is None:
            self.whole.add(number)
        else:
            old = set(zip(before.lows, before.indexes, strict=True))
            self.removed.update([base + low for low, _ in old - new])
            new -= old
        self.added.update((base + low, index) for low, index in sorted(new))

    def encode(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Return whole ranges, removed, added, and the indexes of those added."""
        whole = b"".join(_PLACE.pack(number - self.first) for number in sorted(self.whole))
        added = BitMap(self.added)
        return whole, encode_bits(self.removed), encode_bits(added), bytes(self.added.values())

    @classmethod
    def decode(
        cls, first: int, end: int, packed: tuple[bytes, bytes, bytes, bytes]
    ) -> "WindowChange":
        """Read ``encode``'s form for ranges first..end-1. Raises ``BAD_REQUEST``."""
        whole_bytes, removed_bytes, added_bytes, indexes = packed
        if len(whole_bytes) % _PLACE.size:
            raise _malformed("whole ranges have another length")
        whole = {first + place for (place,) in _PLACE.iter_unpack(whole_bytes)}
        if whole and max(whole) >= end:
            raise _malformed("a range is outside of its window")
        bound = (end - first) << RANGE_BITS
        removed = decode_bits(removed_bytes, bound)
        added = decode_bits(added_bytes, bound)
        if len(added) != len(indexes):
            raise _malformed("a change has as many indexes as pieces added")
        return cls(first, whole, removed, dict(zip(added, indexes, strict=True)))

    def touched(self) -> Iterator[tuple[int, list[int], dict[int, int]]]:
        """Yield each range concerned, ascending: number, lows removed, lows added to index."""
        removed: dict[int, list[int]] = {}
        for place in self.removed:
            removed.setdefault(self.first + (place >> RANGE_BITS), []).append(place & 0xFFFF)
        added: dict[int, dict[int, int]] = {}
        for place, index in self.added.items():
            added.setdefault(self.first + (place >> RANGE_BITS), {})[place & 0xFFFF] = index
        for number in sorted(self.whole | removed.keys() | added.keys()):
            yield number, removed.get(number, []), added.get(number, {})

    def apply(
        self, number: int, before: RangeSet, removed: list[int], added: dict[int, int]
    ) -> RangeSet:
        """Return what a range of ``touched`` holds after the change."""
        pieces = {} if number in self.whole else before.pieces()
        for low in removed:
            pieces.pop(low, None)
        pieces.update(added)
        return RangeSet.of(pieces)


def pack_missing(pieces: Iterable[tuple[int, int]]) -> bytes:
    """Encode (serial, piece index) of pieces that a node does not have."""
    return b"".join(_MISSING.pack(serial, index) for serial, index in pieces)


def unpack_missing(packed: bytes) -> list[tuple[int, int]]:
    """Read ``pack_missing``'s form. Raises ``BAD_REQUEST``."""
    if len(packed) % MISSING_BYTES:
        raise _malformed("missing pieces have another length")
    return list(_MISSING.iter_unpack(packed))
