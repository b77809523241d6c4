"""How many more nodes may die: all segments' piece sets, grouped, against the nodes as they are.

A survey reads every segment's row once and keeps only groups of equal (k, n, holders) with the
streams (objects) in them. Judging the groups by the node states of the moment is cheap, so an
answer is as fresh as the node table; the piece sets may be seconds old.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from math import comb
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import unpack_pieces
from atoll.coordinator.placement.model import Candidate
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.repair.rules import LOCAL, SUSPECT_WEIGHT, Profile, fill_at, judge_node
from atoll.coordinator.sql import Statement
from atoll.core.messages import Survival
from atoll.core.ports import Clock, Database
from atoll.core.scheme import scheme_of

_PIECE_SETS = Statement("""
    SELECT serial, k, n, pieces, stream FROM segment
    WHERE serial > :after ORDER BY serial LIMIT :limit""")

PAGE_SEGMENTS = 1000
AGE_MS_MIN = 1000
"""Piece sets are read again at most this often."""
DUTY_INVERSE = 20
"""And never so often that reading takes more than a twentieth of the time."""
WAIT_SECONDS_MAX = 0.25
"""Where reading takes longer than this, an answer shows the last figures while it runs."""
STREAMS_MAX = 1_000_000
"""Above this many segments, objects at risk are counted as segments (an upper bound)."""
COMBINATIONS_MAX = 200_000
"""Sets of nodes tried for the worst next loss; beyond, a greedy search gives a lower bound."""
GREEDY_STARTS_MAX = 16
PACKED_KEPT_MAX = 100_000


@dataclass(slots=True)
class Group:
    """Segments with the same scheme on the same nodes."""

    k: int
    n: int
    holders: tuple[int, ...]
    """Aliases, ascending."""
    segments: int = 0
    streams: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SurveyResult:
    """What a survey says, judged by the nodes of the moment."""

    segments: int
    pieces: int
    segments_degraded: int
    segments_urgent: int
    segments_unreadable: int
    pieces_missing: int
    survival: Survival


def objects_in(groups: Iterable[Group]) -> int:
    """Count distinct objects in some groups."""
    chosen = list(groups)
    if any(len(group.streams) == 0 and group.segments for group in chosen):
        return sum(group.segments for group in chosen)
    return len(set().union(*(group.streams for group in chosen)))


def survival_of(groups: Sequence[Group], alive: frozenset[int]) -> Survival:
    """Return how many of the nodes alive may die at once, and the worst loss of one more.

    A node holds at most one piece of a segment, so a segment with ``h`` pieces on nodes alive
    survives any ``h - k`` deaths. One death more loses exactly the segments at the least margin
    all of whose dead nodes are holders: the worst set of nodes is searched for. Exact while there
    are at most ``COMBINATIONS_MAX`` sets to try, else a lower bound.
    """
    live = [(g, tuple(a for a in g.holders if a in alive)) for g in groups]
    least = min((len(nodes) - g.k for g, nodes in live), default=None)
    if least is None:
        return Survival(any_nodes=len(alive), nodes_alive=len(alive), next_loss_objects=0)
    margin = max(0, least)
    lost = [g for g, nodes in live if len(nodes) < g.k]
    at_risk = [(g, nodes) for g, nodes in live if len(nodes) - g.k == margin]
    return Survival(
        any_nodes=margin,
        nodes_alive=len(alive),
        next_loss_objects=_worst_loss(at_risk, lost, margin + 1),
    )


def _worst_loss(
    at_risk: Sequence[tuple[Group, tuple[int, ...]]], lost: Sequence[Group], deaths: int
) -> int:
    """Return the most objects lost by that many deaths, those lost already included."""
    worst = objects_in(lost)
    if not at_risk:
        return worst
    if sum(comb(len(nodes), deaths) for _, nodes in at_risk) <= COMBINATIONS_MAX:
        by_set: dict[tuple[int, ...], list[Group]] = {}
        for group, nodes in at_risk:
            for dead in combinations(nodes, deaths):
                by_set.setdefault(dead, []).append(group)
        bounds = sorted(
            ((sum(len(g.streams) or g.segments for g in hit), hit) for hit in by_set.values()),
            key=lambda entry: -entry[0],
        )
        already = worst
        for bound, hit in bounds:
            if already + bound <= worst:
                break  # no further set can be worse: its objects are counted with repetition
            worst = max(worst, objects_in([*lost, *hit]))
        return worst
    weight: Counter[int] = Counter()
    for group, nodes in at_risk:
        for alias in nodes:
            weight[alias] += group.segments
    starts = sorted(at_risk, key=lambda entry: -entry[0].segments)[:GREEDY_STARTS_MAX]
    for _, nodes in starts:
        dead_set = frozenset(sorted(nodes, key=lambda alias: (-weight[alias], alias))[:deaths])
        hit = [group for group, holders in at_risk if dead_set.issubset(holders)]
        worst = max(worst, objects_in([*lost, *hit]))
    return worst


def judge_groups(
    groups: Sequence[Group], nodes: Mapping[int, Candidate], profile: Profile = LOCAL
) -> SurveyResult:
    """Judge all groups by the nodes as they are.

    Below full strength counts from where the profile fills segments up.
    """
    weight = {alias: judge_node(node).weight for alias, node in nodes.items()}
    alive = frozenset(alias for alias, one in weight.items() if one == 1.0)
    suspect = frozenset(alias for alias, one in weight.items() if 0.0 < one < 1.0)
    segments = pieces = degraded = urgent = unreadable = missing = 0
    for group in groups:
        living = sum(alias in alive for alias in group.holders)
        late = sum(alias in suspect for alias in group.holders)
        segments += group.segments
        pieces += group.segments * len(group.holders)
        gap = group.n - living - late
        if gap <= 0 or living + late > fill_at(scheme_of(group.k, group.n), profile):
            continue
        degraded += group.segments
        missing += group.segments * gap
        if living + SUSPECT_WEIGHT * late <= scheme_of(group.k, group.n).repair:
            urgent += group.segments
        if living + late < group.k:
            unreadable += group.segments
    return SurveyResult(
        segments=segments,
        pieces=pieces,
        segments_degraded=degraded,
        segments_urgent=urgent,
        segments_unreadable=unreadable,
        pieces_missing=missing,
        survival=survival_of(groups, alive),
    )


class Survey:
    """Keeps the groups fresh, at a bounded cost, and judges them on demand."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        placement: PlacementService,
        profile: Profile = LOCAL,
    ) -> None:
        self._profile = profile
        self._clock = clock
        self._database = database
        self._placement = placement
        self._groups: list[Group] = []
        self._read_at: float | None = None
        self._cost_s = 0.0
        self._round = 0
        self._soon = False
        self._reading: asyncio.Task[None] | None = None
        self._judged: tuple[object, SurveyResult] | None = None

    def refresh_soon(self) -> None:
        """Something changed: the next look reads again if reading is cheap."""
        self._soon = True

    async def look(self) -> SurveyResult:
        """Return the state of all segments, with piece sets a few seconds old at most."""
        if self._stale() and self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_consume)
        reading = self._reading
        if reading is not None and (
            self._read_at is None or self._cost_s <= WAIT_SECONDS_MAX or reading.done()
        ):
            await asyncio.shield(reading)
        nodes = self._placement.nodes()
        key = (self._round, tuple((a, n.state, n.standing, n.forfeit) for a, n in nodes.items()))
        if self._judged is None or self._judged[0] != key:
            self._judged = (key, judge_groups(self._groups, nodes, self._profile))
        return self._judged[1]

    async def groups(self) -> Sequence[Group]:
        """Return the segments grouped by scheme and holders, a few seconds old at most."""
        await self.look()
        return self._groups

    def _stale(self) -> bool:
        if self._read_at is None:
            return True
        age_s = self._clock.monotonic() - self._read_at
        rest_s = self._cost_s * DUTY_INVERSE
        return age_s >= max(rest_s, 0.0 if self._soon else AGE_MS_MIN / 1000)

    async def _read(self) -> None:
        began = self._clock.monotonic()
        self._soon = False
        groups: dict[tuple[int, int, tuple[int, ...]], Group] = {}
        holders_of: dict[bytes, tuple[int, ...]] = {}
        after = count = 0
        try:
            while True:
                rows = await self._database.read(partial(_page, after=after))
                for serial, k, n, packed, stream in rows:
                    after = serial
                    count += 1
                    holders = holders_of.get(packed)
                    if holders is None:
                        if len(holders_of) >= PACKED_KEPT_MAX:
                            holders_of.clear()
                        holders = tuple(sorted(p.alias for p in unpack_pieces(packed)))
                        holders_of[packed] = holders
                    group = groups.get((k, n, holders))
                    if group is None:
                        group = groups[k, n, holders] = Group(k, n, holders)
                    group.segments += 1
                    if count <= STREAMS_MAX:
                        group.streams.add(stream)
                if count > STREAMS_MAX:
                    for group in groups.values():
                        group.streams.clear()
                if len(rows) < PAGE_SEGMENTS:
                    break
                await self._clock.sleep(0)
            self._groups = list(groups.values())
            self._round += 1
        finally:
            self._read_at = self._clock.monotonic()
            self._cost_s = self._read_at - began
            self._reading = None


def _consume(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # whoever waited for it has seen it; the next look tries again


def _page(connection: Connection, after: int) -> Sequence[Any]:
    return _PIECE_SETS.all(connection, after=after, limit=PAGE_SEGMENTS)
