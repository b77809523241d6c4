"""The coordinator's side of the sum tree: read from metadata alone, agreed with each node.

A node's set is read page by page; what lies in memory afterwards are the tops of its ranges. Where
the two sides differ, the range is read again, at that moment, and is what both will sign. What a
node says it misses is left out of the head, struck, and repaired.
"""

from array import array
from dataclasses import dataclass, field

from atoll.coordinator.audit import store
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Database
from atoll.core.proofs.sums import RANGE_BITS, Entry, RangeTop, RangeTree, TopTree

PAGE_ROWS = 1_000
PROPOSALS_MAX = 1_024
"""Nodes with whom a head is being agreed at the same time."""
PROPOSAL_MS_MAX = 600_000
"""A head not agreed within this time is begun anew."""
BUSY_FACTOR = 20
"""After reading a node's set its next reading waits so many times as long as this one took."""


@dataclass(frozen=True, slots=True)
class RangeKeys:
    """Which pieces a range of an agreed head has: 13 bytes a piece."""

    serials: "array[int]"
    indexes: bytes
    leaves: "array[int]"

    def find(self, leaf: int) -> tuple[int, int] | None:
        """Return (serial, index) of the piece that holds a leaf of the range."""
        for place, count in enumerate(self.leaves):
            if leaf < count:
                return self.serials[place], self.indexes[place]
            leaf -= count
        return None


@dataclass(frozen=True, slots=True)
class FrozenSet:
    """What a head was made of, so that a drawn leaf can be given its name."""

    tree: TopTree
    keys: dict[int, RangeKeys]

    def find(self, position: int) -> tuple[int, int] | None:
        """Return (serial, index) of the piece that a leaf of the head belongs to."""
        if not 0 <= position < self.tree.leaves:
            return None
        place, before = self.tree.find(position)
        keys = self.keys.get(self.tree.tops[place].range)
        return keys.find(position - before) if keys is not None else None


@dataclass(slots=True)
class Proposal:
    """A set on its way to become a head."""

    epoch: int
    frozen_ms: int
    tops: dict[int, RangeTop]
    keys: dict[int, RangeKeys] = field(default_factory=dict)
    excluded: set[tuple[int, int]] = field(default_factory=set)
    """(serial, index) of what the node says it misses."""
    opened: int = -1
    """Number of the range whose entries are at hand."""
    entries: list[Entry] = field(default_factory=list)

    def close(self, entries: list[Entry]) -> None:
        """Take the entries of one range, in order; none are no range."""
        if not entries:
            return
        tree = RangeTree(entries[0].serial >> RANGE_BITS, entries)
        self.tops[tree.top.range] = tree.top
        self.keys[tree.top.range] = RangeKeys(
            tree.serials, tree.indexes, array("I", [entry.leaves for entry in entries])
        )

    def frozen(self) -> FrozenSet:
        """Return the set as it is now."""
        return FrozenSet(self.tree(), dict(self.keys))

    def tree(self) -> TopTree:
        """Return the tree over the ranges as they are now."""
        return TopTree([self.tops[number] for number in sorted(self.tops)])


class Freezer:
    """Takes the sets of nodes."""

    def __init__(self, clock: Clock, database: Database) -> None:
        """Read from a database."""
        self._clock = clock
        self._database = database
        self._proposals: dict[int, Proposal] = {}
        self._rested: dict[int, float] = {}

    async def freeze(self, alias: int, epoch: int) -> Proposal:
        """Take a node's set now. Raises ``OVERLOADED`` where that was done a moment ago."""
        began = self._clock.monotonic()
        if began < self._rested.get(alias, 0.0):
            raise AtollError(
                Kind.OVERLOADED,
                "freeze set",
                "this node's set was read a moment ago",
                hint="ask again later",
            )
        now_ms = self._clock.now_ms()
        if len(self._proposals) >= PROPOSALS_MAX:
            old_ms = now_ms - PROPOSAL_MS_MAX
            self._proposals = {a: p for a, p in self._proposals.items() if p.frozen_ms > old_ms}
            if len(self._proposals) >= PROPOSALS_MAX:
                raise AtollError(Kind.OVERLOADED, "freeze set", "too many nodes agree on heads now")
        proposal = Proposal(epoch, now_ms, {})
        waiting: list[Entry] = []
        after = (0, -1)
        while True:
            page = await self._page(alias, after, store.SERIAL_END)
            for entry in page:
                if waiting and waiting[0].serial >> RANGE_BITS != entry.serial >> RANGE_BITS:
                    proposal.close(waiting)
                    waiting = []
                waiting.append(entry)
            if len(page) < PAGE_ROWS:
                break
            after = (page[-1].serial, page[-1].index)
            await self._clock.sleep(0)
        proposal.close(waiting)
        proposal.frozen_ms = self._clock.now_ms()
        self._proposals[alias] = proposal
        ended = self._clock.monotonic()
        self._rested[alias] = ended + BUSY_FACTOR * (ended - began)
        return proposal

    async def _page(self, alias: int, after: tuple[int, int], end: int) -> list[Entry]:
        return await self._database.read(
            lambda c: store.entries_of_node(c, alias, after, end, PAGE_ROWS)
        )

    def proposal(self, alias: int, epoch: int | None = None) -> Proposal:
        """Return the set being agreed with a node. Raises ``CONFLICT``."""
        found = self._proposals.get(alias)
        if found is None or epoch not in (None, found.epoch):
            raise AtollError(
                Kind.CONFLICT,
                "agree on tree head",
                "no such set is being agreed",
                hint="ask for the ranges from the first on",
            )
        return found

    def done(self, alias: int) -> None:
        """Forget a proposal: its head is signed."""
        self._proposals.pop(alias, None)

    async def open_range(self, alias: int, proposal: Proposal, number: int) -> list[Entry]:
        """Read a range as it is now: that is what the head will have. Returns its entries."""
        entries: list[Entry] = []
        after = ((number << RANGE_BITS), -1)
        end = number + 1 << RANGE_BITS
        while True:
            page = await self._page(alias, after, end)
            entries += page
            if len(page) < PAGE_ROWS:
                break
            after = (page[-1].serial, page[-1].index)
            await self._clock.sleep(0)
        proposal.opened, proposal.entries = number, entries
        self._settle(proposal, number, entries)
        proposal.frozen_ms = self._clock.now_ms()
        return entries

    async def exclude(
        self, alias: int, proposal: Proposal, missing: set[tuple[int, int]]
    ) -> list[Entry]:
        """Leave out what a node says it misses; return those of them that it should hold."""
        proposal.excluded |= missing
        struck: list[Entry] = []
        for number in sorted({serial >> RANGE_BITS for serial, _ in missing}):
            if proposal.opened != number:
                await self.open_range(alias, proposal, number)
            self._settle(proposal, number, proposal.entries)
            struck += [e for e in proposal.entries if (e.serial, e.index) in missing]
        return struck

    def _settle(self, proposal: Proposal, number: int, entries: list[Entry]) -> None:
        kept = [e for e in entries if (e.serial, e.index) not in proposal.excluded]
        proposal.tops.pop(number, None)
        proposal.keys.pop(number, None)
        proposal.close(kept)
