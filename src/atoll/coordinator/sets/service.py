"""Tells each node which pieces it is held to, hears what it found, and says what it weighs.

The truth is the table of pieces. What a node was told last is remembered by range, so that an
answer names only what changed; work and memory per step are bounded whatever a node holds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
from pyroaring import BitMap
from sqlalchemy.engine import Connection

from atoll.coordinator.part import Handler, NodeHandler, Part
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.sets import store
from atoll.coordinator.sets.model import Counted, NodeReport, RangeMark, SetEntry, ToldRange
from atoll.coordinator.sets.rules import SetTimers
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, node_id_of, piece_id_of
from atoll.core.messages import Done, Message
from atoll.core.messages.sets import (
    MISSING_REPORTED_MAX,
    AskSet,
    CompareSet,
    ListNodeSets,
    NodeSet,
    NodeSets,
    ReportSet,
    SetChange,
    Tally,
)
from atoll.core.messages.status import SetsStatus
from atoll.core.ports import Clock, Database
from atoll.core.sets import (
    DIGEST_BYTES,
    EMPTY,
    RANGE_BITS,
    RANGE_MAX,
    WINDOW_RANGES_MAX,
    RangeSet,
    WindowChange,
    encode_bits,
    unpack_digests,
    unpack_missing,
    window_digest,
)

log = logging.getLogger("atoll.coordinator.sets")

COMPARISONS_AT_ONCE = 4
"""Answers put together at the same time; more wait."""
STEP_PIECES = 4_096
"""Pieces loaded in one go: about 15 ms of the loop, and at most one range more."""
ANSWER_PIECES = 131_072
"""Pieces loaded for one answer; the node then asks on."""
KEPT_MAX = 100_000
"""Pieces not counted and kept, named in one answer."""
STRUCK_AT_ONCE = 1000
"""Missing pieces looked up and struck together."""
SETS_LISTED_MAX = 1000
GONE_MARGIN_MS = 5_000
"""Garbage this much older than a comparison is certainly left out of it."""
EMPTY_DIGEST = window_digest(())

Lost = Callable[[int, Sequence[bytes]], Awaitable[None]]
"""A node has not these pieces, and says so itself: strike them and rebuild."""
Changed = list[tuple[int, RangeMark, RangeSet]]


@dataclass(slots=True)
class _Window:
    """One answer in the making."""

    alias: int
    first: int
    end: int
    known: Mapping[int, bytes]
    """Digests of what the node was told, by its own word."""
    change: WindowChange
    at: int
    digests: list[tuple[int, bytes]] = field(default_factory=list)
    """Of what results, before ``at``."""
    updates: Changed = field(default_factory=list)
    loaded: int = 0


class SetsService(Part):
    """The exact set of each node; ``frozen`` and ``piece_bytes`` serve those who judge and pay."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        timers: SetTimers,
        *,
        lost: Lost,
    ) -> None:
        """Serve from ``database``; ``lost`` hears of pieces that their nodes do not have."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._timers = timers
        self._lost = lost
        self._gate = asyncio.Semaphore(COMPARISONS_AT_ONCE)
        self.node_handlers: Mapping[type[Message], NodeHandler] = {
            CompareSet: self.compare,
            ReportSet: self.report,
            AskSet: self._ask_set,
        }
        self.handlers: Mapping[type[Message], Handler] = {ListNodeSets: self._list_sets}

    # --- a comparison ---

    async def compare(self, request: CompareSet, prover: bytes, _: int) -> SetChange:
        """Say what changed in a window of a node's set. Raises ``BAD_REQUEST``, ``NOT_FOUND``."""
        alias = await self._alias(prover)
        first, end = request.first_range, request.end_range
        fits = 0 <= first < end <= min(first + WINDOW_RANGES_MAX, RANGE_MAX)
        if not fits or len(request.base) != DIGEST_BYTES:
            raise AtollError(Kind.BAD_REQUEST, "compare sets", "this is no window of ranges")
        async with self._gate:
            as_of_ms = self._clock.now_ms()
            known = await self._known(alias, request)
            if known is None:
                return SetChange(
                    as_of_ms=as_of_ms, known=False, until_range=first, next_range=first
                )
            window = _Window(alias, first, end, known, WindowChange.empty(first), first)
            while window.at < end and window.loaded < ANSWER_PIECES:
                await self._database.read(partial(_step, window=window))
            answer = await self._database.read(
                partial(self._answer, window=window, as_of_ms=as_of_ms)
            )
            if window.updates:
                await self._database.write(partial(store.keep, alias=alias, changed=window.updates))
        return answer

    async def _known(self, alias: int, request: CompareSet) -> Mapping[int, bytes] | None:
        """Return the digests of what the node was told; None where it must say them."""
        if request.digests:
            said = unpack_digests(request.first_range, request.digests)
            inside = all(number < request.end_range for number in said)
            if not inside or window_digest(sorted(said.items())) != request.base:
                raise AtollError(Kind.BAD_REQUEST, "compare sets", "the digests do not fit")
            return said
        if request.base == EMPTY_DIGEST:
            return {}
        told = await self._database.read(
            partial(store.told, alias=alias, first=request.first_range, end=request.end_range)
        )
        digests = {number: one.digest for number, one in told.items()}
        return digests if window_digest(digests.items()) == request.base else None

    def _answer(self, connection: Connection, window: _Window, as_of_ms: int) -> SetChange:
        first, until = window.first, window.at
        kept = store.kept_serials(connection, window.alias, first, until, as_of_ms, KEPT_MAX)
        base = first << RANGE_BITS
        whole, removed, added, indexes = window.change.encode()
        return SetChange(
            as_of_ms=as_of_ms,
            known=True,
            until_range=until,
            next_range=store.next_range(connection, window.alias, until),
            whole=whole,
            removed=removed,
            added=added,
            indexes=indexes,
            kept=encode_bits(BitMap([serial - base for serial in kept])),
            digest=window_digest(window.digests),
            surplus_age_ms=self._timers.surplus_age_ms,
            again_ms=self._timers.again_ms,
        )

    async def _alias(self, prover: bytes) -> int:
        node_id = node_id_of(prover)
        alias = self._registry.alias_of(node_id)
        if alias is None:
            await self._registry.refresh()
            alias = self._registry.alias_of(node_id)
        if alias is None:
            raise AtollError(
                Kind.NOT_FOUND, "compare sets", "no such node is registered", hint="register first"
            )
        return alias

    # --- a report ---

    async def report(self, request: ReportSet, prover: bytes, _: int) -> Done:
        """Take a node's word for what it found: keep it, strike what it has not.

        Raises ``BAD_REQUEST``, ``NOT_FOUND``, ``OVERLOADED``.
        """
        alias = await self._alias(prover)
        missing = unpack_missing(request.missing_pieces)
        if len(missing) > min(MISSING_REPORTED_MAX, request.missing):
            raise AtollError(Kind.BAD_REQUEST, "report set", "more is missing than it says")
        before_ms = min(request.as_of_ms, self._clock.now_ms()) - GONE_MARGIN_MS

        def write(connection: Connection) -> int:
            counted = store.told_sum(connection, alias)
            one = NodeReport(alias, self._clock.now_ms(), counted, request)
            store.put_report(connection, one)
            # It holds nothing beside what is counted: what it was to delete is gone.
            clean = request.held == request.counted and not request.settling
            return store.forget_gone(connection, alias, before_ms) if clean else 0

        gone = await self._database.write(write)
        if gone:
            log.info("node %d holds none of %d deleted pieces any more", alias, gone)
        if missing:
            log.warning("node %d does not have %d of its pieces", alias, request.missing)
        for at in range(0, len(missing), STRUCK_AT_ONCE):
            some = missing[at : at + STRUCK_AT_ONCE]
            found = await self._database.read(partial(store.segments_of, alias=alias, pieces=some))
            if found:
                await self._lost(
                    alias, [piece_id_of(SegmentId(segment), index) for segment, index in found]
                )
        return Done()

    # --- both sides shown ---

    async def _ask_set(self, _: AskSet, prover: bytes, __: int) -> NodeSet:
        view = self._registry.node(await self._alias(prover))
        assert view is not None, "it has an alias"
        return await self._set_of(view)

    async def _list_sets(self, request: ListNodeSets) -> NodeSets:
        limit = max(1, min(request.limit, SETS_LISTED_MAX))
        views = [view for view in self._registry.nodes() if view.alias > request.after]
        views.sort(key=lambda view: view.alias)
        found = [await self._set_of(view) for view in views[:limit]]
        return NodeSets(time_ms=self._clock.now_ms(), nodes=found, more=len(views) > limit)

    async def _set_of(self, view: NodeView) -> NodeSet:
        now_ms = self._clock.now_ms()

        def read(connection: Connection) -> tuple[Counted, int, NodeReport | None]:
            counted = store.counted(connection, view.alias)
            waiting = store.deleting(connection, view.alias, now_ms)
            return counted, waiting, store.report_of(connection, view.alias)

        counted, waiting, last = await self._database.read(read)
        found = NodeSet(
            alias=view.alias,
            node_id=view.node_id,
            operator=view.facts.operator,
            state=view.state.value,
            counted=_tally(counted),
            deleting=waiting,
        )
        if last is None:
            return found
        return msgspec.structs.replace(
            found, compared_ms=last.reported_ms, told=_tally(last.counted), report=last.report
        )

    async def status(self) -> SetsStatus:
        """Return how many nodes agree, for the cloud's status: by their latest reports."""
        reports = await self.reports()
        agreed = missing = differing = 0
        for one in reports.values():
            counted = one.report.counted
            same = (counted.pieces, counted.piece_bytes) == (
                one.counted.pieces,
                one.counted.piece_bytes,
            )
            agreed += same
            differing += abs(counted.piece_bytes - one.counted.piece_bytes)
            missing += one.report.missing
        return SetsStatus(
            nodes_compared=len(reports),
            nodes_agreed=agreed,
            differing_bytes=differing,
            missing_pieces=missing,
        )

    # --- for those who judge and pay ---

    def frozen(
        self, connection: Connection, alias: int, after_serial: int = 0
    ) -> Iterator[SetEntry]:
        """Yield what a node is held to, in serial order, page by page of one transaction.

        One moment's set where the transaction sees one moment: always on SQLite, with repeatable
        reads on PostgreSQL.
        """
        while page := store.entries(connection, alias, after_serial, store.ENTRIES_PAGE):
            yield from page
            after_serial = page[-1].serial

    async def piece_bytes(self, alias: int) -> Counted:
        """Return what a node is held to at this moment, to the byte."""
        return await self._database.read(partial(store.counted, alias=alias))

    async def all_piece_bytes(self) -> dict[int, Counted]:
        """Return the same for all nodes that are held to anything, by alias."""
        return await self._database.read(store.all_counted)

    async def reports(self) -> dict[int, NodeReport]:
        """Return the latest report of each node, with what was counted then, by alias."""
        return await self._database.read(store.reports)


def _tally(counted: Counted) -> Tally:
    return Tally(pieces=counted.pieces, piece_bytes=counted.piece_bytes)


def _step(connection: Connection, window: _Window) -> None:
    """Take up the next ranges of a window: those that changed are loaded."""
    alias, first = window.alias, window.at
    marks, until = store.marks(connection, alias, first, window.end)
    told = store.told(connection, alias, first, until)
    numbers = sorted(
        marks.keys() | told.keys() | {number for number in window.known if first <= number < until}
    )
    loaded_until = 0
    ahead: dict[int, tuple[RangeMark, RangeSet]] = {}
    loaded = 0
    for number in numbers:
        if loaded >= STEP_PIECES:
            until = number
            break
        mark, before = marks.get(number), told.get(number)
        if mark is not None and (before is None or before.mark != mark):
            if number >= loaded_until:
                loaded_until = _batch_end(numbers, number, marks, told, until)
                some = store.pieces_of_ranges(connection, alias, number, loaded_until)
                ahead = {one: (found, held) for one, found, held in some}
            fresh = ahead.get(number, (RangeMark(0, 0, 0), EMPTY))
            loaded += len(fresh[1])
        elif mark is None:
            fresh = (RangeMark(0, 0, 0), EMPTY)
        else:
            assert before is not None
            _unchanged(connection, window, number, before)
            continue
        _note(connection, window, number, before, fresh)
    window.loaded += loaded
    window.at = until


def _batch_end(
    numbers: Sequence[int],
    number: int,
    marks: Mapping[int, RangeMark],
    told: Mapping[int, ToldRange],
    until: int,
) -> int:
    """Return where to stop loading neighbours of a changed range with one statement."""
    pieces, end = 0, number
    for one in numbers:
        if one < number:
            continue
        mark, before = marks.get(one), told.get(one)
        if mark is None or (before is not None and before.mark == mark):
            break
        pieces += mark.pieces
        if pieces > STEP_PIECES and end > number:
            break
        end = one + 1
    return min(end, until)


def _unchanged(connection: Connection, window: _Window, number: int, told: ToldRange) -> None:
    """Take up a range that is as its node was told last: all of it if the node forgot."""
    digest = told.digest
    if window.known.get(number) != digest:
        held = store.told_set(connection, window.alias, number)
        if held is None or held.digest(number) != digest:
            fresh = next(
                store.pieces_of_ranges(connection, window.alias, number, number + 1),
                (number, RangeMark(0, 0, 0), EMPTY),
            )
            _note(connection, window, number, None, fresh[1:])
            return
        window.loaded += len(held)
        window.change.note(number, None if number in window.known else EMPTY, held)
    window.digests.append((number, digest))


def _note(
    connection: Connection,
    window: _Window,
    number: int,
    told: ToldRange | None,
    fresh: tuple[RangeMark, RangeSet],
) -> None:
    """Take up a range that changed since its node was told last."""
    mark, after = fresh
    before: RangeSet | None = None
    if number not in window.known:
        before = EMPTY
    elif told is not None and window.known[number] == told.digest:
        before = store.told_set(connection, window.alias, number)
        if before is not None and before.digest(number) != told.digest:
            before = None
    window.change.note(number, before, after)
    if told is not None or len(after):
        window.updates.append((number, mark, after))
    if len(after):
        window.digests.append((number, after.digest(number)))
