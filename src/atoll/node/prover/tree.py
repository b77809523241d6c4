"""The node's side of the sum tree: built from what it holds, agreed with what it should hold."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.core.merkle import leaf_count
from atoll.core.messages.proofs import EntryInfo, MissingPiece, RangeInfo
from atoll.core.ports import Clock
from atoll.core.proofs.sums import RANGE_BITS, Entry, RangeTop, RangeTree, TopTree, joined_place
from atoll.node.store.model import HeldPiece, State
from atoll.node.store.store import HELD_PIECES_MAX, PieceStore

PAGE_PIECES = HELD_PIECES_MAX


def entry_of(held: HeldPiece) -> Entry:
    """Return the tree's entry of a piece."""
    return Entry(
        held.segment_serial,
        held.segment,
        held.index,
        held.segment_root,
        leaf_count(held.data_bytes),
        held.data_bytes,
    )


def entry_of_info(info: EntryInfo) -> Entry:
    """Return the tree's entry of a piece as the coordinator names it."""
    leaves = leaf_count(info.piece_bytes)
    return Entry(info.serial, info.segment, info.index, info.segment_root, leaves, info.piece_bytes)


def top_of(info: RangeInfo) -> RangeTop:
    """Return a range's top from its message."""
    return RangeTop(info.range, info.entries, info.leaves, info.piece_bytes, info.digest)


@dataclass(slots=True)
class Holdings:
    """Ranges by number, built from what the store holds; unchanged ones are kept as they are."""

    ranges: dict[int, RangeTree] = field(default_factory=dict)

    async def refresh(self, store: PieceStore, issuer: int, clock: Clock) -> None:
        """Read the store's pieces of a coordinator, page by page."""
        found: dict[int, RangeTree] = {}
        waiting: list[HeldPiece] = []
        after = 0
        while page := store.held(issuer, after, PAGE_PIECES):
            for piece in page:
                number = piece.segment_serial >> RANGE_BITS
                if waiting and waiting[0].segment_serial >> RANGE_BITS != number:
                    self._take(found, waiting)
                    waiting = []
                if piece.state == State.LIVE:
                    waiting.append(piece)
            after = page[-1].segment_serial
            await clock.sleep(0)
        self._take(found, waiting)
        self.ranges = found

    def _take(self, found: dict[int, RangeTree], pieces: list[HeldPiece]) -> None:
        if not pieces:
            return
        number = pieces[0].segment_serial >> RANGE_BITS
        known = self.ranges.get(number)
        if known is not None and _same(known, pieces):
            found[number] = known
            return
        found[number] = RangeTree(number, _ordered(entry_of(piece) for piece in pieces))


def _same(known: RangeTree, pieces: list[HeldPiece]) -> bool:
    # A serial and an index name one segment root for ever.
    return known.serials == array("Q", [one.segment_serial for one in pieces]) and (
        known.indexes == bytes(one.index for one in pieces)
    )


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.serial, entry.index))


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree: the ranges in order, and what is above."""

    ranges: tuple[RangeTree, ...]
    top: TopTree

    def find(self, position: int) -> tuple[int, int, int]:
        """Return (place of the range, place in it, leaf of the piece) of a drawn leaf."""
        range_place, before = self.top.find(position)
        place, inside = self.ranges[range_place].find(position - before)
        return range_place, place, position - before - inside

    def way(self, range_place: int, place: int) -> tuple[int, bytes]:
        """Return an entry's place in the whole tree, and the path from it to the root."""
        tree = self.ranges[range_place]
        joined = joined_place(place, tree.top.entries, range_place)
        return joined, tree.path(place) + self.top.path(range_place)


def tree_of(ranges: Iterable[RangeTree]) -> Tree:
    """Put ranges together, in order of their numbers."""
    ordered = tuple(sorted(ranges, key=lambda one: one.top.range))
    return Tree(ordered, TopTree([one.top for one in ordered]))


def reconcile(
    number: int, entries: list[Entry], held: dict[tuple[int, int], bytes]
) -> tuple[RangeTree | None, list[MissingPiece]]:
    """Return the range of those entries that the node holds, and what it misses.

    ``held`` maps (serial, index) to the segment root that the node's own record states: a piece of
    another root is not the piece that was asked for.
    """
    kept, missing = [], []
    for entry in entries:
        if held.get((entry.serial, entry.index)) == entry.segment_root:
            kept.append(entry)
        else:
            missing.append(MissingPiece(serial=entry.serial, index=entry.index))
    return (RangeTree(number, kept) if kept else None), missing
