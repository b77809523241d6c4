"""A year of a hundred thousand nodes: the product's rules on arrays instead of on processes.

Nodes fall silent, come back or do not; segments lose pieces, are repaired by urgency within a
budget, are lost. What decides is what the product runs: timers of the profile, thresholds of the
scheme, urgency, freezing (``coordinator.repair.rules``), and the pace of repair that the durability
model assumes (``core.durability``). What is left out: bytes, messages, disks. The simulator of
``atoll.sim.vopr`` has those, for dozens of nodes.

Time goes in steps of an hour. Segments are a sample: figures per segment hold for any number.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atoll.coordinator.registry.model import TIMERS
from atoll.coordinator.repair.rules import (
    PROFILES,
    URGENCY_MAX,
    fill_at,
    freezes,
    thaws,
    urgency_of,
)
from atoll.core.durability import Assumptions, Durability, durability_of, repair_hours_at
from atoll.core.scheme import RS_20_40, Scheme

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
HOURS_PER_DAY = 24
MS_PER_HOUR = 3_600_000
DRAWS_MAX = 6
"""Rounds in which a new holder is drawn for a piece before it is left for the next hour."""
MOVED_SHARE_MAX = 0.05
"""The index of pieces by node is made anew when so many of all pieces have moved since."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A part of the network falls silent at once, and comes back."""

    hour: int
    share: float
    """Of all nodes."""
    hours: int


@dataclass(frozen=True, slots=True)
class ScaleConfig:
    """What is simulated."""

    nodes: int = 100_000
    segments: int = 50_000
    days: int = 365
    seed: int = 1
    scheme: Scheme = RS_20_40
    profile: str = "wan"
    churn_month: float = 0.02
    """Share of nodes that leave for good in a month, without a word."""
    pauses_month: float = 1.0
    """How often a node falls silent in a month and comes back."""
    pause_hours: float = 6.0
    """Mean length of such a silence (exponential)."""
    nodes_per_operator: int = 2
    repair_hours: float = 24.0
    repair_hours_min: float = 1.0
    repair_share_hour: float = 1.0
    """Most segments whose repair may end in an hour, as a share of all: the budget."""
    fill_at: int | None = None
    """Segments above their threshold are filled at so few pieces; None for the profile's rule,
    the threshold itself for no filling."""
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        if self.nodes < 4 * self.scheme.n * self.nodes_per_operator or self.segments < 1:
            raise ValueError("too few nodes for this scheme, or no segments")
        if not 1 <= self.days <= 3650 or self.nodes > 10_000_000 or self.segments > 10_000_000:
            raise ValueError("up to ten years, ten million nodes, ten million segments")

    @property
    def assumptions(self) -> Assumptions:
        """What the durability model is asked with, to compare."""
        return Assumptions(self.churn_month, self.repair_hours, self.repair_hours_min)


@dataclass(slots=True)
class Day:
    """One day: what stood at its end, what happened in it."""

    alive: int = 0
    suspect: int = 0
    dead: int = 0
    """Silent for longer than the profile allows; lost ones included."""
    full: int = 0
    above: int = 0
    due: int = 0
    critical: int = 0
    lost: int = 0
    """Segments lost on this day."""
    healthy_min: int = 0
    rebuilt: int = 0
    returned: int = 0
    """Pieces that came back with their nodes before they were rebuilt."""
    traffic: float = 0.0
    """Bytes read and written by repair, per byte of user data."""
    frozen_hours: int = 0


@dataclass(slots=True)
class ScaleResult:
    """What a run came to."""

    config: ScaleConfig
    days: list[Day] = field(default_factory=list)
    model: Durability | None = None

    @property
    def lost(self) -> int:
        """Segments lost over the whole time."""
        return sum(day.lost for day in self.days)

    @property
    def traffic_month(self) -> float:
        """Repair traffic of an average month, per byte of user data."""
        return sum(day.traffic for day in self.days) * 30 / len(self.days)


class ScaleSimulation:
    """One run. ``run`` it once."""

    def __init__(self, config: ScaleConfig) -> None:
        """Place all segments on nodes alive, one piece per operator."""
        self.config = config
        self._chance = np.random.default_rng(config.seed)
        self._timers = TIMERS[config.profile]
        self._profile = PROFILES[config.profile]
        nodes, scheme = config.nodes, config.scheme
        self._silent_since = np.full(nodes, -1, np.int64)
        """Hour since which a node says nothing; -1 while it is there."""
        self._back_at = np.full(nodes, -1, np.int64)
        """Hour at which a silent node returns; -1 for never."""
        self._gone = np.zeros(nodes, np.bool_)
        """Dead by the timers: its pieces do not count."""
        self._fill_at = fill_at(scheme, self._profile) if config.fill_at is None else config.fill_at
        self._urgency = np.array([urgency_of(scheme, h) for h in range(scheme.n + 1)])
        hours = [repair_hours_at(scheme, h, config.assumptions) for h in range(scheme.n + 1)]
        self._heals = -np.expm1(-1 / np.array(hours))
        self._holders = np.full((config.segments, scheme.n), -1, np.int64)
        self._healthy = np.zeros(config.segments, np.int64)
        self._place(np.arange(config.segments))
        self._index_pieces()
        self._frozen_since = -1
        self._vanished = np.zeros(0, np.int64)
        self._died_at = np.full(nodes, -(10**9), np.int64)

    # --- pieces and nodes -------------------------------------------------------------------

    def _index_pieces(self) -> None:
        flat = self._holders.ravel()
        self._order = np.argsort(flat, kind="stable")
        self._starts = np.searchsorted(flat[self._order], np.arange(self.config.nodes + 1))
        self._moved: list[Ints] = []
        self._moved_count = 0

    def _pieces_of(self, nodes: Ints) -> Ints:
        """Return the places (segment x n + index) of the pieces recorded at some nodes."""
        if not len(nodes):
            return np.zeros(0, np.int64)
        spans = [self._order[self._starts[n] : self._starts[n + 1]] for n in nodes.tolist()]
        wanted = np.zeros(self.config.nodes, np.bool_)
        wanted[nodes] = True
        flat = self._holders.ravel()
        if len(self._moved) > 1:
            self._moved = [np.concatenate(self._moved)]
        places = np.concatenate([*spans, *self._moved])
        holders = flat[places]
        held = places[(holders >= 0) & wanted[holders]]
        return np.unique(held)

    def _count(self, places: Ints, change: int) -> None:
        segments = places // self.config.scheme.n
        np.add.at(self._healthy, segments, change)

    def _place(self, segments: Ints) -> int:
        """Give all missing pieces of some segments new holders; return how many were placed."""
        config, n = self.config, self.config.scheme.n
        placed = 0
        for _ in range(DRAWS_MAX):
            rows = self._holders[segments]
            missing = (rows < 0) | self._gone[np.maximum(rows, 0)]
            where, index = np.nonzero(missing)
            if not len(where):
                break
            drawn = self._chance.integers(0, config.nodes, len(where))
            rows = np.where(missing, -1, rows)
            operators = np.where(rows < 0, -1, rows // config.nodes_per_operator)
            wanted = drawn // config.nodes_per_operator
            clash = (operators[where] == wanted[:, None]).any(axis=1)
            # Two new pieces of one segment with one operator: the first keeps it.
            pairs = where * (config.nodes // config.nodes_per_operator + 1) + wanted
            first = np.zeros(len(where), np.bool_)
            first[np.unique(pairs, return_index=True)[1]] = True
            good = ~clash & first & (self._silent_since[drawn] < 0)
            chosen = segments[where[good]]
            self._holders[chosen, index[good]] = drawn[good]
            np.add.at(self._healthy, chosen, 1)
            placed += int(good.sum())
            if hasattr(self, "_moved"):
                self._moved.append(chosen * n + index[good])
                self._moved_count += len(chosen)
        return placed

    # --- an hour ----------------------------------------------------------------------------

    def _fall_silent(self, hour: int) -> None:
        config = self.config
        here = np.nonzero(self._silent_since < 0)[0]
        loss = -np.expm1(-config.assumptions.loss_per_hour)
        pause = -np.expm1(-config.pauses_month / (30 * HOURS_PER_DAY))
        fate = self._chance.random(len(here))
        leaving = here[fate < loss]
        pausing = here[(fate >= loss) & (fate < loss + pause)]
        self._silent_since[leaving] = hour
        self._back_at[leaving] = -1
        self._silent_since[pausing] = hour
        hours = np.ceil(self._chance.exponential(config.pause_hours, len(pausing)))
        self._back_at[pausing] = hour + hours.astype(np.int64)
        for outage in config.outages:
            if outage.hour == hour:
                first = int(self._chance.integers(0, config.nodes))
                count = int(outage.share * config.nodes)
                struck = (first + np.arange(count)) % config.nodes
                struck = struck[self._silent_since[struck] < 0]
                self._silent_since[struck] = hour
                self._back_at[struck] = hour + outage.hours

    def _come_back(self, hour: int, day: Day) -> None:
        back = np.nonzero((self._silent_since >= 0) & (self._back_at >= 0))[0]
        back = back[self._back_at[back] <= hour]
        again = back[self._gone[back]]
        places = self._pieces_of(again)
        self._count(places, 1)
        day.returned += len(places)
        self._gone[back] = False
        self._silent_since[back] = -1
        self._back_at[back] = -1

    def _die(self, hour: int) -> None:
        """Apply the profile's timers; nodes lost for good make room for new, empty ones."""
        dead_hours = self._timers.dead_ms / MS_PER_HOUR
        lost_hours = self._timers.lost_ms / MS_PER_HOUR
        silent = np.nonzero(self._silent_since >= 0)[0]
        silence = hour - self._silent_since[silent]
        fresh = silent[(silence >= dead_hours) & ~self._gone[silent]]
        self._count(self._pieces_of(fresh), -1)
        self._gone[fresh] = True
        self._died_at[fresh] = hour
        over = silent[(silence >= lost_hours) & (self._back_at[silent] < 0)]
        self._holders.ravel()[self._pieces_of(over)] = -1
        self._silent_since[over] = -1
        self._gone[over] = False

    def _freeze(self, hour: int) -> bool:
        profile = self._profile
        window = profile.freeze_window_ms / MS_PER_HOUR
        if self._frozen_since < 0:
            present = int((~self._gone).sum())
            vanished = np.nonzero(self._gone & (hour - self._died_at <= window))[0]
            vanished = np.setdiff1d(vanished, self._vanished)
            if freezes(len(vanished), present + len(vanished), profile):
                self._frozen_since, self._vanished = hour, np.nonzero(self._gone)[0]
        else:
            still = int(self._gone[self._vanished].sum())
            frozen_ms = (hour - self._frozen_since) * MS_PER_HOUR
            if thaws(still, self.config.nodes, frozen_ms, profile):
                self._frozen_since = -1
        return self._frozen_since >= 0

    def _lose(self, day: Day) -> None:
        lost = np.nonzero(self._healthy < self.config.scheme.k)[0]
        if not len(lost):
            return
        day.lost += len(lost)
        # A new segment takes the lost one's place.
        self._holders[lost] = -1
        self._healthy[lost] = 0
        self._place(lost)

    def _repair(self, day: Day, *, frozen: bool) -> None:
        config, scheme = self.config, self.config.scheme
        urgency = self._urgency[self._healthy]
        weak = self._healthy < scheme.n
        if frozen:
            weak &= urgency >= URGENCY_MAX
        else:
            weak &= (urgency > 0) | (self._healthy <= self._fill_at)
        waiting = np.nonzero(weak)[0]
        ready = waiting[self._chance.random(len(waiting)) < self._heals[self._healthy[waiting]]]
        budget = max(1, int(config.repair_share_hour * config.segments))
        if len(ready) > budget:
            order = np.lexsort((self._healthy[ready], -urgency[ready]))
            ready = ready[order[:budget]]
        if not len(ready):
            return
        placed = self._place(ready)
        day.rebuilt += placed
        day.traffic += (len(ready) * scheme.k + placed) / scheme.k / config.segments

    def run(self) -> ScaleResult:
        """Run all days. A few seconds for 10,000 nodes, about a minute for 100,000."""
        result = ScaleResult(self.config, model=durability_of(*self._question()))
        for number in range(self.config.days):
            day = Day()
            for hour in range(number * HOURS_PER_DAY, (number + 1) * HOURS_PER_DAY):
                if self._moved_count > MOVED_SHARE_MAX * self._holders.size:
                    self._index_pieces()
                self._come_back(hour, day)
                self._fall_silent(hour)
                self._die(hour)
                self._lose(day)
                frozen = self._freeze(hour)
                day.frozen_hours += frozen
                self._repair(day, frozen=frozen)
            self._close(day)
            result.days.append(day)
        return result

    def _question(self) -> tuple[Scheme, Assumptions]:
        return self.config.scheme, self.config.assumptions

    def _close(self, day: Day) -> None:
        scheme, healthy = self.config.scheme, self._healthy
        silent = self._silent_since >= 0
        day.dead = int(self._gone.sum())
        day.suspect = int(silent.sum()) - day.dead
        day.alive = self.config.nodes - day.suspect - day.dead
        day.full = int((healthy >= scheme.n).sum())
        urgency = self._urgency[np.minimum(healthy, scheme.n)]
        day.critical = int((urgency >= URGENCY_MAX).sum())
        day.due = int((urgency > 0).sum()) - day.critical
        day.above = self.config.segments - day.full - day.due - day.critical
        day.healthy_min = int(healthy.min())
