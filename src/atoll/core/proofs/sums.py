"""The Merkle-sum tree over what one node holds for one coordinator, in order of segment serials.

Every entry is one piece and weighs as many leaves (4 KiB) as its data area has, so that a number
below the sum of all names one leaf of one piece. Entries whose serials share all but the lowest 16
bits form a *range*, a tree of its own; the tree over the ranges makes the root. A piece that comes
or goes changes one range and the small tree above: the rest is taken over from the last epoch.

Both levels have the shape of RFC 6962 (see ``core.merkle``). Their sizes are bound by the hashes
above them, so a path has exactly one right length.
"""

import hashlib
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from atoll.core.merkle import HASH_BYTES

RANGE_BITS = 16
"""Serials that differ only in so many low bits share a range."""
ENTRY_TAG = b"\x10"
SUM_TAG = b"\x11"
RANGE_TAG = b"\x12"
ROOT_TAG = b"\x13"
LEAVES_MAX = (1 << 63) - 1
"""More leaves than any node holds; keeps sums within 64 bits."""
EMPTY_TOP = bytes(HASH_BYTES)
"""Stands for the top of a tree without ranges."""

_sha256 = hashlib.sha256
_SUM = struct.Struct(">Q")
_ENTRY = struct.Struct(">s16sB32sQ")
_NODE = struct.Struct(">s32sQ32sQ")
_RANGE = struct.Struct(">sQI32s")
_ROOT = struct.Struct(">sIQ32s")


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece in a tree."""

    serial: int
    """The segment's serial at this coordinator."""
    segment: bytes
    index: int
    segment_root: bytes
    leaves: int
    """Leaves of the data area, at least 1."""
    piece_bytes: int
    """Length of the data area; for accounting, fixed by the segment root."""


@dataclass(frozen=True, slots=True)
class RangeTop:
    """What the tree above knows of one range."""

    range: int
    """``serial >> RANGE_BITS`` of its entries."""
    entries: int
    leaves: int
    piece_bytes: int
    digest: bytes


def entry_hash(segment: bytes, index: int, segment_root: bytes, leaves: int) -> bytes:
    """Return the hash of one entry."""
    return _sha256(_ENTRY.pack(ENTRY_TAG, segment, index, segment_root, leaves)).digest()


def range_hash(number: int, entries: int, top: bytes) -> bytes:
    """Return the hash of a range: its number, its size, and the top of its tree."""
    return _sha256(_RANGE.pack(RANGE_TAG, number, entries, top)).digest()


def root_hash(ranges: int, leaves: int, top: bytes) -> bytes:
    """Return the root of a whole tree."""
    return _sha256(_ROOT.pack(ROOT_TAG, ranges, leaves, top)).digest()


class _Levels:
    """All levels of one tree, packed: 40 bytes a hash and its sum."""

    __slots__ = ("hashes", "sums")

    def __init__(self, hashes: Sequence[bytes], sums: Iterable[int]) -> None:
        level, weights = list(hashes), list(sums)
        self.hashes: list[bytes] = [b"".join(level)]
        self.sums: list[array[int]] = [array("Q", weights)]
        sha256, pack = _sha256, _NODE.pack
        while len(level) > 1:
            pairs = len(level) & ~1
            above = [
                sha256(pack(SUM_TAG, level[i], weights[i], level[i + 1], weights[i + 1])).digest()
                for i in range(0, pairs, 2)
            ]
            heavier = [weights[i] + weights[i + 1] for i in range(0, pairs, 2)]
            if pairs < len(level):
                above.append(level[-1])
                heavier.append(weights[-1])
            level, weights = above, heavier
            self.hashes.append(b"".join(level))
            self.sums.append(array("Q", weights))

    @property
    def top(self) -> bytes:
        return self.hashes[-1]

    @property
    def total(self) -> int:
        return self.sums[-1][0]

    def find(self, position: int) -> tuple[int, int]:
        """Return the place whose weight holds ``position``, and where that weight begins."""
        place, begins = 0, 0
        for sums in reversed(self.sums[:-1]):
            place *= 2
            if place + 1 < len(sums) and position >= begins + sums[place]:
                begins += sums[place]
                place += 1
        return place, begins

    def path(self, place: int) -> list[tuple[bytes, int]]:
        """Return the hashes and sums beside the way from a place to the top, lowest first."""
        found = []
        for hashes, sums in zip(self.hashes[:-1], self.sums[:-1], strict=True):
            beside = place ^ 1
            if beside < len(sums):
                start = beside * HASH_BYTES
                found.append((hashes[start : start + HASH_BYTES], sums[beside]))
            place >>= 1
        return found


class RangeTree:
    """One range with all its levels: 90 bytes of memory a piece."""

    __slots__ = ("_levels", "indexes", "serials", "top")

    def __init__(self, number: int, entries: Sequence[Entry]) -> None:
        """Build from the range's entries in order of (serial, index), at least one.

        Raises ``ValueError`` for entries that are of another range, unordered or without leaves.
        """
        if not entries:
            raise ValueError("a range has at least one entry")
        keys = [(entry.serial, entry.index) for entry in entries]
        if any(not a < b for a, b in pairwise(keys)):
            raise ValueError("entries are ordered by serial")
        if keys[0][0] >> RANGE_BITS != number or keys[-1][0] >> RANGE_BITS != number:
            raise ValueError("an entry is of another range")
        if any(entry.leaves < 1 for entry in entries):
            raise ValueError("an entry has at least one leaf")
        sha256, pack = _sha256, _ENTRY.pack
        self._levels = _Levels(
            [
                sha256(pack(ENTRY_TAG, e.segment, e.index, e.segment_root, e.leaves)).digest()
                for e in entries
            ],
            [entry.leaves for entry in entries],
        )
        self.serials = array("Q", [serial for serial, _ in keys])
        self.indexes = bytes(index for _, index in keys)
        self.top = RangeTop(
            number,
            len(entries),
            self._levels.total,
            sum(entry.piece_bytes for entry in entries),
            range_hash(number, len(entries), self._levels.top),
        )

    def find(self, position: int) -> tuple[int, int]:
        """Return the entry that holds a leaf of this range, and its first leaf's number."""
        return self._levels.find(position)

    def path(self, place: int) -> list[tuple[bytes, int]]:
        """Return the way from an entry to the top of this range."""
        return self._levels.path(place)

    def leaves_of(self, place: int) -> int:
        """Return the leaves of the piece at a place."""
        return self._levels.sums[0][place]

    def keys(self) -> Iterator[tuple[int, int]]:
        """Return (serial, index) of all entries in order."""
        return zip(self.serials, self.indexes, strict=True)


class TopTree:
    """The tree over the ranges: the root, and the way from a range to it."""

    __slots__ = ("_begins", "_levels", "leaves", "piece_bytes", "pieces", "root", "tops")

    def __init__(self, tops: Sequence[RangeTop]) -> None:
        """Build from ranges in order; none make an empty tree. Raises ``ValueError``."""
        numbers = [top.range for top in tops]
        if any(not a < b for a, b in pairwise(numbers)):
            raise ValueError("ranges are ordered")
        self.tops = tuple(tops)
        self.pieces = sum(top.entries for top in tops)
        self.leaves = sum(top.leaves for top in tops)
        self.piece_bytes = sum(top.piece_bytes for top in tops)
        if self.leaves > LEAVES_MAX:
            raise ValueError("more leaves than a tree may have")
        self._levels = _Levels([t.digest for t in tops], [t.leaves for t in tops]) if tops else None
        self.root = root_hash(
            len(tops), self.leaves, self._levels.top if self._levels else EMPTY_TOP
        )
        self._begins: list[int] = []
        begin = 0
        for top in tops:
            self._begins.append(begin)
            begin += top.leaves

    def find(self, position: int) -> tuple[int, int]:
        """Return the place of the range that holds a leaf, and that range's first leaf."""
        if not 0 <= position < self.leaves:
            raise ValueError(f"no leaf {position} among {self.leaves}")
        place = bisect_right(self._begins, position) - 1
        return place, self._begins[place]

    def path(self, place: int) -> list[tuple[bytes, int]]:
        """Return the way from a range to the top."""
        assert self._levels is not None
        return self._levels.path(place)


def ranges_of(entries: Iterable[Entry]) -> Iterator[RangeTree]:
    """Build the ranges of entries that come in order of their serials."""
    waiting: list[Entry] = []
    for entry in entries:
        if waiting and entry.serial >> RANGE_BITS != waiting[0].serial >> RANGE_BITS:
            yield RangeTree(waiting[0].serial >> RANGE_BITS, waiting)
            waiting = []
        waiting.append(entry)
    if waiting:
        yield RangeTree(waiting[0].serial >> RANGE_BITS, waiting)


def steps_of(place: int, count: int) -> int:
    """Return the length of the path from a place among ``count`` to the top."""
    steps, last = 0, count - 1
    while last:
        steps += place & 1 or place < last
        place >>= 1
        last >>= 1
    return steps


def climb(
    digest: bytes,
    weight: int,
    place: int,
    count: int,
    hashes: bytes,
    sums: Sequence[int],
    used: int,
    end: int,
) -> tuple[bytes, int]:
    """Follow a path upwards; return the top and its sum.

    The path is the steps ``used`` to ``end`` of ``hashes`` and ``sums``: exactly as many as the
    place asks for, and adding up to no more than ``LEAVES_MAX``.
    """
    last = count - 1
    sha256, pack = _sha256, _NODE.pack
    if end - used == last.bit_length():
        # A partner on every level: the usual case, in the quickest way.
        ways = unpack_hashes(hashes[used * HASH_BYTES : end * HASH_BYTES])
        for beside, more in zip(ways, sums[used:end], strict=True):
            if place & 1:
                digest = sha256(pack(SUM_TAG, beside, more, digest, weight)).digest()
            else:
                digest = sha256(pack(SUM_TAG, digest, weight, beside, more)).digest()
            weight += more
            place >>= 1
        return digest, weight
    start = used * HASH_BYTES
    while last:
        if place & 1 or place < last:
            more, beside = sums[used], hashes[start : start + HASH_BYTES]
            if place & 1:
                digest = sha256(pack(SUM_TAG, beside, more, digest, weight)).digest()
            else:
                digest = sha256(pack(SUM_TAG, digest, weight, beside, more)).digest()
            weight += more
            used += 1
            start += HASH_BYTES
        place >>= 1
        last >>= 1
    return digest, weight


@lru_cache(maxsize=128)
def _unpacker(count: int) -> struct.Struct:
    return struct.Struct("32s" * count)


def unpack_hashes(joined: bytes) -> tuple[bytes, ...]:
    """Return the hashes of a joined path, whose length is a multiple of 32 bytes."""
    return _unpacker(len(joined) // HASH_BYTES).unpack(joined)
