"""Whatever happens, in whatever order: when it is quiet, both sides hold the same set."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit.coordinator.sets.world import Pair

from atoll.coordinator.metadata.store import segments as metadata
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import StoredPiece
from atoll.core.sets import RANGE_SERIALS
from atoll.node.store.model import State

DONE: Counter[str] = Counter()
"""By rule: how often it did what it says, over all examples."""
EXAMPLES = 100
STEPS = 40
EACH_MIN = 15
"""A rule that succeeds less often than this tests nothing."""
CHOICE = st.integers(0, 1_000_000)


class Sets(RuleBasedStateMachine):
    """A node and a coordinator, and everything that may come between them."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    @initialize(skew=st.integers(-30, 30))
    def clocks(self, skew: int) -> None:
        self.pair.end()
        self.pair = Pair(skew_ms=skew * 1000)
        for _ in range(6):
            self.commit(RANGE_SERIALS // 2, 0)

    def teardown(self) -> None:
        try:
            report = self.pair.settle()
            self.pair.check_equal()
            locked = sum(one.retention_ms > self.pair.clock.now_ms() for one in self.pair.held())
            assert (report.missing, report.young.pieces, report.surplus.pieces) == (0, 0, 0)
            assert report.retained.pieces <= locked
            held = self.pair.held()
            assert report.held.pieces == len(held)
            assert report.held.piece_bytes == sum(one.data_bytes for one in held)
            counted = self.pair.counted()
            assert report.counted.pieces == len(counted)
            DONE["settled"] += 1
        finally:
            self.pair.end()

    def choose(self, among: Any, choice: int) -> Any:
        ordered = sorted(among)
        return ordered[choice % len(ordered)]

    def live(self) -> dict[int, int]:
        return {one.segment_serial: one.index for one in self.pair.held()}

    @rule(step=st.sampled_from([1, 2, 300, RANGE_SERIALS]), index=st.integers(0, 3))
    def commit(self, step: int, index: int) -> None:
        serial = self.pair.next_serial(step)
        self.pair.upload(serial, index)
        self.pair.commit(serial, index)
        DONE["commit"] += 1

    @rule(index=st.integers(0, 3))
    def upload_and_die(self, index: int) -> None:
        self.pair.upload(self.pair.next_serial(), index)
        DONE["upload and die"] += 1

    @rule(seconds=st.integers(1, 3))
    def commit_locked(self, seconds: int) -> None:
        serial = self.pair.next_serial()
        self.pair.upload(serial, until_ms=self.pair.clock.now_ms() + seconds * 100_000)
        self.pair.commit(serial)
        DONE["commit locked"] += 1

    @precondition(lambda self: self.pair.counted())
    @rule(choice=CHOICE)
    def delete(self, choice: int) -> None:
        self.pair.delete(self.choose(self.pair.counted(), choice))
        DONE["delete"] += 1

    @precondition(lambda self: self.pair.counted())
    @rule(choice=CHOICE)
    def delete_and_tell(self, choice: int) -> None:
        serial = self.choose(self.pair.counted(), choice)
        index = self.pair.counted()[serial]
        self.pair.delete(serial)
        try:
            self.pair.delete_there(serial, index)
        except AtollError:
            return
        DONE["delete and tell"] += 1

    @precondition(lambda self: self.live())
    @rule(choice=CHOICE)
    def delete_by_mistake(self, choice: int) -> None:
        """A signed deletion of a piece that is counted still: a coordinator's bug."""
        serial = self.choose(self.live(), choice)
        try:
            self.pair.delete_there(serial, self.live()[serial])
        except AtollError:
            return
        DONE["delete by mistake"] += 1
        if choice % 2:
            self.wait_and_compare()

    @precondition(lambda self: self.pair.counted())
    @rule(choice=CHOICE, index=st.integers(0, 3))
    def repair(self, choice: int, index: int) -> None:
        """The piece is rebuilt at the same node under another index; the old one is garbage."""
        counted = self.pair.counted()
        serial = self.choose(counted, choice)
        if counted[serial] == index:
            return
        try:
            self.pair.upload(serial, index)
        except AtollError:
            return
        (segment,) = [one for one in self.pair.segments() if one.serial == serial]
        place = StoredPiece(index=index, alias=self.pair.alias)
        now_ms = self.pair.clock.now_ms()
        if self.pair.write(
            lambda c: metadata.replace_pieces(c, segment, [place], now_ms, collect=True)
        ):
            DONE["repair"] += 1

    @precondition(lambda self: self.pair.counted())
    @rule(choice=CHOICE)
    def move_away(self, choice: int) -> None:
        serial = self.choose(self.pair.counted(), choice)
        (segment,) = [one for one in self.pair.segments() if one.serial == serial]
        now_ms = self.pair.clock.now_ms()
        elsewhere = [StoredPiece(index=0, alias=self.pair.alias + 1)]
        if self.pair.write(
            lambda c: metadata.replace_pieces(c, segment, elsewhere, now_ms, collect=True)
        ):
            DONE["move away"] += 1

    @precondition(lambda self: self.live())
    @rule(choice=CHOICE)
    def lose(self, choice: int) -> None:
        serial = self.choose(self.live(), choice)
        self.pair.forget(serial, self.live()[serial])
        DONE["lose"] += 1

    @rule()
    def crash(self) -> None:
        self.pair.crash()
        DONE["crash"] += 1

    @rule(remainder=st.integers(0, 1))
    def coordinator_forgets(self, remainder: int) -> None:
        self.compare()
        sql = f"DELETE FROM node_set WHERE number % 2 = {remainder}"
        if self.pair.write(lambda c: c.exec_driver_sql(sql).rowcount):
            DONE["coordinator forgets"] += 1

    @rule(seconds=st.sampled_from([1, 30, 70, 130]))
    def wait(self, seconds: int) -> None:
        self.pair.machine.pass_time(seconds)
        DONE["wait"] += 1

    @rule()
    def wait_and_compare(self) -> None:
        self.pair.pass_age()
        self.compare()

    @rule()
    def compare(self) -> None:
        before = len(self.pair.held(State.TRASH))
        report = self.pair.compare()
        DONE["compare"] += 1
        DONE["discard"] += report.discarded.pieces > 0
        DONE["revive"] += report.revived.pieces > 0
        DONE["miss"] += report.missing > 0
        DONE["retain"] += report.retained.pieces > 0
        DONE["settle later"] += report.settling > 0
        assert len(self.pair.held(State.TRASH)) >= before - report.revived.pieces

    @precondition(lambda self: self.pair.counted())
    @rule()
    def compare_cut_short(self) -> None:
        """The coordinator's answer never arrives: it believes that the node was told."""
        ask = self.pair.ask

        async def lost(*asked: Any) -> Any:
            await ask(*asked)
            raise AtollError(Kind.UNREACHABLE, "ask coordinator", "the line was cut")

        self.pair.keeper._ask = lost  # type: ignore[assignment]
        with pytest.raises(AtollError):
            self.pair.compare()
        self.pair.keeper._ask = ask  # type: ignore[assignment]
        DONE["compare cut short"] += 1


def test_any_sequence_of_events_ends_in_equal_sets() -> None:
    DONE.clear()
    run_state_machine_as_test(
        Sets,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(sorted(DONE.items()))
    expected = {
        "commit", "upload and die", "commit locked", "delete", "delete and tell",
        "delete by mistake", "repair", "move away", "lose", "crash", "coordinator forgets",
        "wait", "compare", "compare cut short", "discard", "revive", "miss", "retain",
        "settle later", "settled",
    }  # fmt: skip
    seldom = {name: DONE[name] for name in expected if DONE[name] < EACH_MIN}
    assert not seldom
