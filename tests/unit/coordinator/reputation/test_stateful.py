"""Reputation under any order of events: the honest keep their name, a lost name stays lost."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.unit.coordinator.metadata.memory import MemoryDatabase
from tests.unit.coordinator.reputation.world import LIMITS, World

from atoll.coordinator.reputation import store
from atoll.coordinator.reputation.model import FailedSample, Standing
from atoll.coordinator.reputation.service import UNANSWERED
from atoll.core.messages.reputation import ReportTransfers, TransferSum

Result = TypeVar("Result")
SUCCESSES: Counter[str] = Counter()
NAMES_OF_RULES = (
    "pass_samples",
    "lose_pieces",
    "confess",
    "miss_answers_together",
    "fall_silent",
    "return",
    "refuse_reads",
    "serve_reads",
    "restart",
    "disqualified",
    "suspended",
    "released",
)
CROOKS = (1, 2)
HONEST = tuple(range(3, 13))
CROOK = st.sampled_from(CROOKS)


class ReputationMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(MemoryDatabase())
        self.slot = 0
        self.last: dict[int, Standing] = {}
        self.ever_out: set[int] = set()
        self.confessed: set[bytes] = set()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        aliases = self.run(self.world.join(len(CROOKS) + len(HONEST)))
        assert tuple(aliases) == CROOKS + HONEST
        self.run(self.world.windows(3))

    def slot_of(self, failed: dict[int, list[FailedSample]]) -> None:
        for alias in CROOKS + HONEST:
            passed = 0 if alias in failed else 32
            self.world.service.observe_possession(
                alias, passed, failed.get(alias, []), slot=self.slot
            )
        self.run(self.world.settle())

    def samples(self, count: int, reason: str, first: int = 0) -> list[FailedSample]:
        self.slot += 1
        return [
            FailedSample(
                (1000 * self.slot + first + n).to_bytes(16, "big"),
                self.slot,
                at_ms=self.world.clock.time_ms,
                reason=reason,
                evidence="verdict:00",
            )
            for n in range(count)
        ]

    @rule(count=st.integers(1, 3000))
    def pass_samples(self, count: int) -> None:
        self.slot += 1
        for alias in CROOKS + HONEST:
            self.world.service.observe_possession(alias, count, [], slot=self.slot)
        self.run(self.world.settle())
        SUCCESSES["pass_samples"] += 1

    @rule(crook=CROOK, count=st.integers(1, 4))
    def lose_pieces(self, crook: int, count: int) -> None:
        self.slot_of({crook: self.samples(count, "wrong")})
        SUCCESSES["lose_pieces"] += 1

    @rule(alias=st.sampled_from(HONEST), count=st.integers(1, 9))
    def confess(self, alias: int, count: int) -> None:
        """An honest node finds rot, says so, and is asked for it nevertheless."""
        samples = self.samples(count, "wrong")
        self.world.service.amnesty(alias, [sample.piece for sample in samples], "rot")
        self.run(self.world.pass_ms(LIMITS.tick_ms))
        later = [
            FailedSample(s.piece, s.slot, self.world.clock.time_ms, s.reason, s.evidence)
            for s in samples
        ]
        self.slot_of({alias: later})
        SUCCESSES["confess"] += 1

    @rule(count=st.integers(3, 10))
    def miss_answers_together(self, count: int) -> None:
        samples = self.samples(8, UNANSWERED)
        self.slot_of({alias: samples for alias in HONEST[:count]})
        SUCCESSES["miss_answers_together"] += 1

    @rule(crook=CROOK, windows=st.integers(1, 8))
    def fall_silent(self, crook: int, windows: int) -> None:
        self.world.silent.add(crook)
        self.run(self.world.windows(windows))
        SUCCESSES["fall_silent"] += 1

    @rule(windows=st.integers(1, 12))
    def come_back(self, windows: int) -> None:
        SUCCESSES["return"] += bool(self.world.silent)
        self.world.silent.clear()
        self.run(self.world.windows(windows))

    @rule(crook=CROOK, refused=st.integers(1, 10))
    def refuse_reads(self, crook: int, refused: int) -> None:
        self.report(TransferSum(alias=crook, reads=1, refused=refused))
        SUCCESSES["refuse_reads"] += 1

    @rule(crook=CROOK, reads=st.integers(1, 300))
    def serve_reads(self, crook: int, reads: int) -> None:
        self.report(TransferSum(alias=crook, reads=reads))
        SUCCESSES["serve_reads"] += 1

    def report(self, crook: TransferSum) -> None:
        others = [TransferSum(alias=alias, reads=20, silent=alias == 3) for alias in HONEST]
        message = ReportTransfers(nodes=[crook, *others])
        self.run(self.world.service.handlers[ReportTransfers](message))  # type: ignore[arg-type]
        self.run(self.world.pass_ms(LIMITS.tick_ms))

    @rule(cleanly=st.booleans())
    def restart(self, cleanly: bool) -> None:
        if cleanly:
            self.run(self.world.service.stop())
        else:
            self.run(self.world.pass_ms(1_500))  # what is older than a second is written
        self.world.service = self.world.another(judges=True)
        self.run(self.world.service.start())
        SUCCESSES["restart"] += 1

    @invariant()
    def the_honest_keep_their_name(self) -> None:
        for alias in HONEST:
            if alias in self.last:
                assert self.world.standing(alias) in (Standing.VETTED, Standing.TRUSTED)

    @invariant()
    def a_lost_name_stays_lost(self) -> None:
        for alias in CROOKS + HONEST:
            standing = self.world.standing(alias)
            if alias in self.ever_out:
                assert standing is Standing.DISQUALIFIED
            before = self.last.get(alias)
            if standing is not before:
                SUCCESSES[standing.value] += 1
                SUCCESSES["released"] += before is Standing.SUSPENDED and alias not in self.ever_out
            if standing is Standing.DISQUALIFIED:
                self.ever_out.add(alias)
            self.last[alias] = standing

    @invariant()
    def the_history_is_one_line_to_the_standing_of_now(self) -> None:
        self.run(self.world.service.flush())
        for alias in CROOKS:
            events = self.run(self.world.database.read(lambda c, a=alias: store.events_of(c, a)))
            line = [event for event in reversed(events) if event.kind == "standing"]
            for before, after in itertools.pairwise(line):
                assert before.after.split(",")[0] == after.before
            if line and len(events) < store.EVENTS_KEPT_MAX:
                assert line[-1].after.split(",")[0] == self.world.standing(alias).value
                assert all(event.rule and event.threshold and event.at_ms for event in line)

    @invariant()
    def forfeit_is_disqualified_or_overdue(self) -> None:
        for alias in CROOKS + HONEST:
            judgement = self.world.service.judgement(alias)
            if judgement.forfeit:
                assert judgement.standing in (Standing.SUSPENDED, Standing.DISQUALIFIED)
            if judgement.standing is Standing.DISQUALIFIED:
                assert judgement.forfeit

    def teardown(self) -> None:
        self.run(self.world.database.close())
        self.loop.close()


ROUNDS_MAX = 6


def run_machine(examples: int, *, same_steps: bool) -> None:
    run_state_machine_as_test(
        ReputationMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=same_steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_standings_keep_to_the_rules_whatever_comes() -> None:
    SUCCESSES.clear()
    run_machine(12, same_steps=True)
    for _ in range(ROUNDS_MAX):
        if min(SUCCESSES[name] for name in NAMES_OF_RULES) >= 3:
            break
        run_machine(8, same_steps=False)
    for name in NAMES_OF_RULES:
        assert SUCCESSES[name] >= 3, f"{name} hardly ever happened: {SUCCESSES}"
