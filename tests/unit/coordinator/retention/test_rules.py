"""What a change of an object's lock must be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.coordinator.metadata.store.locks import LockRow
from atoll.coordinator.retention.rules import (
    MODES,
    PROFILES,
    check_change,
    check_days,
    retry_ms,
    says,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId
from atoll.core.messages.retention import LockState
from atoll.core.retention import DAY_MS, Mode, RetentionRecord

NOW_MS = 1_800_000_000_000


def row(mode: Mode, until_ms: int, sequence: int = 1, *, hold: bool = False) -> LockRow:
    return LockRow(b"b" * 16, b"k", b"s", mode, until_ms, hold, sequence, True)


def kind_of(old: LockRow | None, state: LockState) -> Kind | None:
    try:
        check_change(old, state, NOW_MS)
    except AtollError as error:
        return error.kind
    return None


def test_compliance_is_only_extended() -> None:
    old = row(Mode.COMPLIANCE, NOW_MS + DAY_MS)
    shorter = LockState(mode="compliance", until_ms=NOW_MS, sequence=2)
    weaker = LockState(mode="governance", until_ms=NOW_MS + 9 * DAY_MS, sequence=2)
    none = LockState(sequence=2)
    for state in (shorter, weaker, none):
        assert kind_of(old, state) is Kind.RETAINED
    longer = LockState(mode="compliance", until_ms=NOW_MS + 2 * DAY_MS, sequence=2)
    assert kind_of(old, longer) is None
    assert kind_of(row(Mode.GOVERNANCE, NOW_MS + DAY_MS), none) is None


def test_impossible_states_are_refused() -> None:
    assert kind_of(None, LockState(mode="forever", until_ms=1)) is Kind.BAD_REQUEST
    assert kind_of(None, LockState(mode="compliance")) is Kind.BAD_REQUEST
    assert kind_of(None, LockState(until_ms=5)) is Kind.BAD_REQUEST
    far = LockState(mode="compliance", until_ms=NOW_MS + 40_000 * DAY_MS)
    assert kind_of(None, far) is Kind.BAD_REQUEST
    same = LockState(mode="governance", until_ms=NOW_MS, sequence=1)
    assert kind_of(row(Mode.NONE, 0), same) is Kind.CONFLICT


@given(st.sampled_from(sorted(MODES)), st.integers(1, 99), st.booleans(), st.integers(1, 99))
def test_a_record_says_what_the_state_says(
    mode: str, until_ms: int, hold: bool, sequence: int
) -> None:
    until_ms = until_ms if mode else 0
    state = LockState(mode=mode, until_ms=until_ms, legal_hold=hold, sequence=sequence)
    record = RetentionRecord(SegmentId(b"s" * 16), b"k" * 32, MODES[mode], until_ms, hold, sequence)
    assert says(record, state)
    other = LockState(mode=mode, until_ms=until_ms, legal_hold=not hold, sequence=sequence)
    assert not says(record, other)


@pytest.mark.parametrize("days", [-1, 0, 36_501])
def test_a_default_lasts_a_day_to_a_hundred_years(days: int) -> None:
    with pytest.raises(AtollError):
        check_days(Mode.COMPLIANCE, days)
    check_days(Mode.NONE, 0)


@given(st.integers(0, 10_000))
def test_pauses_are_bounded(attempts: int) -> None:
    for profile in PROFILES.values():
        assert profile.retry_ms_min <= retry_ms(attempts, profile) <= profile.retry_ms_max
