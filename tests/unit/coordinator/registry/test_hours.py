"""Declared hours: notice, changes a week, what is owed while a change is announced."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as some

from atoll.coordinator.registry.hours import (
    ALL_HOURS,
    WEEK_MS,
    Hours,
    Notice,
    excuses,
    expected_ms,
    heard,
    online_share,
    settled,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
EVENINGS = "mon-fri 18:00-23:00"
MORNINGS = "mon-fri 06:00-11:00"
NOTICE = Notice(DAY_MS, 3)
MONDAY_MS = round(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1000)


def test_the_first_calendar_is_in_force_at_once() -> None:
    hours = heard(None, EVENINGS, MONDAY_MS, NOTICE)
    assert excuses(hours, MONDAY_MS + 12 * HOUR_MS)
    assert not excuses(hours, MONDAY_MS + 19 * HOUR_MS)


def test_no_calendar_excuses_nothing() -> None:
    assert heard(None, "", MONDAY_MS, NOTICE) == ALL_HOURS
    assert not excuses(ALL_HOURS, MONDAY_MS)
    assert expected_ms(ALL_HOURS, 0, DAY_MS) == DAY_MS


def test_new_hours_offline_count_only_after_the_notice() -> None:
    hours = heard(ALL_HOURS, EVENINGS, MONDAY_MS, NOTICE)
    assert not excuses(hours, MONDAY_MS + 12 * HOUR_MS)
    assert excuses(hours, MONDAY_MS + DAY_MS + 12 * HOUR_MS)
    # All of Monday, then the five hours of Tuesday.
    assert expected_ms(hours, MONDAY_MS, MONDAY_MS + 2 * DAY_MS) == 29 * HOUR_MS


def test_while_a_change_is_announced_both_calendars_bind() -> None:
    hours = heard(heard(None, EVENINGS, MONDAY_MS, NOTICE), MORNINGS, MONDAY_MS, NOTICE)
    assert not excuses(hours, MONDAY_MS + 8 * HOUR_MS)
    assert not excuses(hours, MONDAY_MS + 20 * HOUR_MS)
    assert excuses(hours, MONDAY_MS + 14 * HOUR_MS)
    assert expected_ms(hours, MONDAY_MS, MONDAY_MS + DAY_MS) == 10 * HOUR_MS
    later = settled(hours, MONDAY_MS + DAY_MS)
    assert later.calendar == MORNINGS
    assert not later.announced_from_ms
    assert excuses(later, MONDAY_MS + DAY_MS + 20 * HOUR_MS)


def test_whoever_changes_too_often_waits() -> None:
    hours = heard(None, "", MONDAY_MS, NOTICE)
    texts = [EVENINGS, MORNINGS, EVENINGS, MORNINGS]
    for place, text in enumerate(texts):
        hours = heard(hours, text, MONDAY_MS + place * 2 * DAY_MS, NOTICE)
    # The fourth change within a week waits until the first is a week old.
    assert hours.announced_from_ms == MONDAY_MS + WEEK_MS
    assert hours.latest == MORNINGS


def test_saying_the_same_again_is_no_change() -> None:
    hours = heard(ALL_HOURS, EVENINGS, MONDAY_MS, NOTICE)
    assert heard(hours, EVENINGS, MONDAY_MS + HOUR_MS, NOTICE) == hours


def test_a_calendar_hardly_ever_online_excuses_nothing_and_draws_nothing() -> None:
    hours = heard(None, "mon 18:00-19:00", MONDAY_MS, NOTICE)
    assert not excuses(hours, MONDAY_MS + DAY_MS)
    assert online_share(hours) == 0.0
    assert online_share(Hours(calendar=EVENINGS)) == 25 / 168
    assert online_share(Hours(calendar="", announced=EVENINGS, announced_from_ms=9)) == 25 / 168


@given(
    some.integers(0, 3 * DAY_MS), some.integers(0, 3 * DAY_MS), some.sampled_from(["", EVENINGS])
)
def test_what_is_owed_adds_up(start: int, length: int, before: str) -> None:
    hours = heard(Hours(calendar=before), MORNINGS, MONDAY_MS, NOTICE)
    start += MONDAY_MS - DAY_MS
    middle = start + length // 3
    whole = expected_ms(hours, start, start + length)
    assert whole == expected_ms(hours, start, middle) + expected_ms(hours, middle, start + length)
    assert 0 <= whole <= length
