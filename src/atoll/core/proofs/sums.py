"""The Merkle-sum tree over what one node holds for one coordinator, in order of segment serials.

Every entry is one piece and weighs as many leaves (4 KiB) as its data area has, so that a number
below the sum of all names one leaf of one piece. Entries whose serials share all but the lowest 16
bits form a *range*, a tree of its own; the tree over the ranges makes the root. A piece that comes
or goes changes one range and the small tree above: the rest is taken over from the last epoch.

Nodes have four children: half the hashes of a binary tree on the way to the root, for half as many
bytes again. Where a level does not fill its last node, empty records take the places left. A hash
says by its first byte whether it is an entry's or a node's, so a path ends at an entry of the tree
or nowhere; no size need be proven beside it.
"""

import hashlib
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from atoll.core.merkle import HASH_BYTES

RANGE_BITS = 16
"""Serials that differ only in so many low bits share a range."""
ENTRY_TAG = b"\x10"
SUM_TAG = b"\x11"
ROOT_TAG = b"\x13"
LEAVES_MAX = (1 << 63) - 1
"""More leaves than any node holds; keeps sums within 64 bits."""
WAYS = 4
"""Children of a node."""
RECORD_BYTES = HASH_BYTES + 8
"""A hash and the sum that belongs to it."""
STEP_BYTES = (WAYS - 1) * RECORD_BYTES
"""What a path has for each node: the records beside the way, from left to right."""
STEPS_MAX = 31
"""More than any path has; keeps places within 62 bits."""
EMPTY_TOP = bytes(HASH_BYTES)
"""Stands for the top of a tree without ranges."""

_sha256 = hashlib.sha256
_ENTRY = struct.Struct(">s16sB32sQ")
_NODE_BYTES = WAYS * RECORD_BYTES
_RECORD = struct.Struct(">32sQ")
_NODE = struct.Struct(">s" + "32sQ" * WAYS)
_NODE_WEIGHTS = struct.Struct(">" + "32xQ" * WAYS)
_STEP = struct.Struct(">" + "32sQ" * (WAYS - 1))
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


def root_hash(ranges: int, leaves: int, top: bytes) -> bytes:
    """Return the root of a whole tree."""
    return _sha256(_ROOT.pack(ROOT_TAG, ranges, leaves, top)).digest()


class _Levels:
    """All levels of one tree, as joined records: 54 bytes a hash and its sum."""

    __slots__ = ("_levels",)

    def __init__(self, records: bytes) -> None:
        self._levels: list[bytes] = []
        sha256, pack, weights = _sha256, _RECORD.pack, _NODE_WEIGHTS.unpack_from
        while len(records) > RECORD_BYTES:
            records += bytes(-len(records) % _NODE_BYTES)
            self._levels.append(records)
            records = b"".join(
                [
                    pack(
                        sha256(SUM_TAG + records[start : start + _NODE_BYTES]).digest(),
                        sum(weights(records, start)),
                    )
                    for start in range(0, len(records), _NODE_BYTES)
                ]
            )
        self._levels.append(records)

    @property
    def top(self) -> bytes:
        return self._levels[-1][:HASH_BYTES]

    def weight(self, place: int) -> int:
        """Return the weight of a place."""
        weight: int = _RECORD.unpack_from(self._levels[0], place * RECORD_BYTES)[1]
        return weight

    def find(self, position: int) -> tuple[int, int]:
        """Return the place whose weight holds ``position``, and where that weight begins."""
        place, begins = 0, 0
        for level in reversed(self._levels[:-1]):
            place *= WAYS
            for weight in _NODE_WEIGHTS.unpack_from(level, place * RECORD_BYTES)[:-1]:
                if position < begins + weight:
                    break
                begins += weight
                place += 1
        return place, begins

    def path(self, place: int) -> bytes:
        """Return the records beside the way from a place to the top, lowest first."""
        found: list[bytes] = []
        for level in self._levels[:-1]:
            start = place * RECORD_BYTES
            first = start - start % _NODE_BYTES
            found += level[first:start], level[start + RECORD_BYTES : first + _NODE_BYTES]
            place //= WAYS
        return b"".join(found)


class RangeTree:
    """One range with all its levels: 63 bytes of memory a piece."""

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
        leaves = sum(entry.leaves for entry in entries)
        if any(entry.leaves < 1 for entry in entries) or leaves > LEAVES_MAX:
            raise ValueError("an entry has at least one leaf, and not more than a tree may have")
        sha256, pack, record = _sha256, _ENTRY.pack, _RECORD.pack
        self._levels = _Levels(
            b"".join(
                [
                    record(
                        sha256(
                            pack(ENTRY_TAG, e.segment, e.index, e.segment_root, e.leaves)
                        ).digest(),
                        e.leaves,
                    )
                    for e in entries
                ]
            )
        )
        self.serials = array("Q", [serial for serial, _ in keys])
        self.indexes = bytes(index for _, index in keys)
        self.top = RangeTop(
            number,
            len(entries),
            leaves,
            sum(entry.piece_bytes for entry in entries),
            self._levels.top,
        )

    def find(self, position: int) -> tuple[int, int]:
        """Return the entry that holds a leaf of this range, and its first leaf's number."""
        return self._levels.find(position)

    def path(self, place: int) -> bytes:
        """Return the way from an entry to the top of this range."""
        return self._levels.path(place)

    def leaves_of(self, place: int) -> int:
        """Return the leaves of the piece at a place."""
        return self._levels.weight(place)

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
        self._levels = _Levels(b"".join([_RECORD.pack(top.digest, top.leaves) for top in tops]))
        self.root = root_hash(len(tops), self.leaves, self._levels.top if tops else EMPTY_TOP)
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

    def path(self, place: int) -> bytes:
        """Return the way from a range to the top."""
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


def depth_of(count: int) -> int:
    """Return how many steps lead from a place among so many (at least 1) to the top."""
    return ((count - 1).bit_length() + 1) // 2


class Climbed(NamedTuple):
    """Where a path leads."""

    top: bytes
    weight: int
    """The sum of the whole tree."""
    left: int
    """What lies left of the place where the path begins."""


def joined_place(inside: int, entries: int, above: int) -> int:
    """Return the place in the whole tree: of an entry in its range, of the range among ranges."""
    return inside | above << 2 * depth_of(entries)


def climb(digest: bytes, weight: int, place: int, path: bytes) -> Climbed | None:
    """Follow a path of whole steps from a place upwards; None for sums that no tree has."""
    sha256, pack, tag = _sha256, _NODE.pack, SUM_TAG
    left = 0
    try:
        for one, more_1, two, more_2, three, more_3 in _STEP.iter_unpack(path):
            slot = place & 3
            if slot == 0:
                node = pack(tag, digest, weight, one, more_1, two, more_2, three, more_3)
            elif slot == 1:
                left += more_1
                node = pack(tag, one, more_1, digest, weight, two, more_2, three, more_3)
            elif slot == 2:
                left += more_1 + more_2
                node = pack(tag, one, more_1, two, more_2, digest, weight, three, more_3)
            else:
                left += more_1 + more_2 + more_3
                node = pack(tag, one, more_1, two, more_2, three, more_3, digest, weight)
            digest = sha256(node).digest()
            weight += more_1 + more_2 + more_3
            place >>= 2
    except struct.error:
        # A sum beyond 64 bits: made up.
        return None
    return Climbed(digest, weight, left)
