"""Calendars: the language, moments around changes of summer time, and texts that read back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from atoll.core import calendar as module
from atoll.core.calendar import ALWAYS, DAY_MS, Calendar, format_calendar, parse_calendar
from atoll.core.errors import AtollError, Kind

HOUR_MS = 3_600_000
EVENINGS = "mon-fri 18:00-23:00 Europe/Berlin"


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(moment.timestamp() * 1000)


def test_evenings_of_a_working_week() -> None:
    evenings = parse_calendar(EVENINGS)
    assert evenings.online_at(ms("2026-03-02T18:00", "Europe/Berlin"))
    assert evenings.online_at(ms("2026-03-06T22:59:59", "Europe/Berlin"))
    assert not evenings.online_at(ms("2026-03-06T23:00", "Europe/Berlin"))
    assert not evenings.online_at(ms("2026-03-07T19:00", "Europe/Berlin"))
    assert evenings.online_share() == pytest.approx(25 / 168)
    friday_night = ms("2026-03-06T23:30", "Europe/Berlin")
    assert evenings.next_change(friday_night) == ms("2026-03-09T18:00", "Europe/Berlin")


def test_the_hours_follow_the_clock_on_the_wall() -> None:
    evenings = parse_calendar(EVENINGS)
    assert evenings.online_at(ms("2026-03-27T17:00"))  # winter: 18:00 in Berlin
    assert evenings.online_at(ms("2026-03-30T16:00"))  # summer: 18:00 in Berlin
    assert not evenings.online_at(ms("2026-03-30T15:59"))


def test_an_hour_that_does_not_exist_is_not_promised() -> None:
    nights = parse_calendar("sun 02:30-03:30 Europe/Berlin")
    day = ms("2026-03-29T00:00")
    assert nights.online_ms(day, day + DAY_MS) == HOUR_MS // 2
    assert nights.next_change(day) == ms("2026-03-29T01:00")  # 02:00 becomes 03:00


def test_an_hour_that_comes_twice_is_promised_twice() -> None:
    nights = parse_calendar("sun 02:00-03:00 Europe/Berlin")
    day = ms("2026-10-25T00:00", "Europe/Berlin")
    assert nights.online_ms(day, day + DAY_MS) == 2 * HOUR_MS
    assert nights.online_at(ms("2026-10-25T02:30", "Europe/Berlin", fold=0))
    assert nights.online_at(ms("2026-10-25T02:30", "Europe/Berlin", fold=1))


def test_hours_over_midnight_and_over_the_week() -> None:
    nights = parse_calendar("sun 22:00-06:00")
    assert nights.online_at(ms("2026-03-01T23:00"))
    assert nights.online_at(ms("2026-03-02T05:59"))
    assert not nights.online_at(ms("2026-03-02T06:00"))
    assert format_calendar(nights) == "mon 00:00-06:00; sun 22:00-24:00"


def test_closed_days_come_every_year() -> None:
    closed = parse_calendar("closed 12-24..01-02")
    assert not closed.online_at(ms("2026-12-24T00:00"))
    assert not closed.online_at(ms("2027-01-02T23:59"))
    assert closed.online_at(ms("2027-01-03T00:00"))
    assert closed.next_change(ms("2026-06-01T00:00")) == ms("2026-12-24T00:00")
    assert closed.online_share() == pytest.approx(1 - 10 / 365.2425)


def test_absences_are_by_day_or_by_minute() -> None:
    absent = parse_calendar(
        "absent 2026-12-24..2027-01-02; absent 2026-07-01T08:00..2026-07-01T09:30"
    )
    assert not absent.online_at(ms("2027-01-02T23:59"))
    assert absent.online_at(ms("2027-01-03T00:00"))
    assert not absent.online_at(ms("2026-07-01T09:29"))
    assert absent.online_at(ms("2026-07-01T09:30"))
    assert absent.online_share() == 1.0


def test_an_empty_calendar_is_always() -> None:
    for text in ("", "always", "daily 00:00-24:00", "zone Europe/Berlin", " ; "):
        assert parse_calendar(text) is ALWAYS or parse_calendar(text) == ALWAYS
    assert ALWAYS.next_change(0) is None
    assert ALWAYS.online_at(1)


@pytest.mark.parametrize(
    "text",
    [
        "mon-fri",
        "mon-fri 18-23",
        "funday 18:00-23:00",
        "18:00-25:00",
        "18:00-18:00",
        "18:60-19:00",
        "mon 18:00-23:00 Mars/Olympus",
        "mon 18:00-23:00 Europe/Berlin; zone Europe/Lisbon",
        "zone ../../etc/passwd",
        "closed 02-30",
        "closed 2026-12-24",
        "absent 2026-02-30",
        "absent 2027-01-02..2026-12-24",
        "absent 2026-01-01..2027-02-01",
        "absent tomorrow",
        "always; mon 10:00-12:00",
        "mon 10:00-12:00 UTC please",
        "mön 10:00-12:00",
        "x" * 2000,
    ],
)
def test_what_is_no_calendar_is_refused_in_words(text: str) -> None:
    with pytest.raises(AtollError) as refused:
        parse_calendar(text)
    assert refused.value.kind is Kind.BAD_REQUEST
    assert len(refused.value.message) > 10


# --- properties ----------------------------------------------------------------------------------

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")
MINUTES = some.integers(0, 24 * 60 - 1)
NAIVE = some.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2027-01-01"))


@some.composite
def calendars(draw: some.DrawFn) -> Calendar:
    spans = draw(
        some.lists(some.tuples(some.integers(0, 6), MINUTES, some.integers(1, 24 * 60)), max_size=6)
    )
    clauses = []
    for day, start, length in spans:
        end = start + length if start + length <= 24 * 60 else (start + length) % (24 * 60)
        if end != start:
            clauses.append(
                f"{module.DAYS[day]} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
            )
    clauses.append(f"zone {draw(some.sampled_from(ZONES))}")
    for month, day in draw(
        some.lists(some.tuples(some.integers(1, 12), some.integers(1, 28)), max_size=2)
    ):
        clauses.append(f"closed {month:02}-{day:02}")
    for start in draw(some.lists(NAIVE, max_size=2)):
        end = start + timedelta(minutes=draw(some.integers(1, 20_000)))
        clauses.append(f"absent {start:%Y-%m-%dT%H:%M}..{end:%Y-%m-%dT%H:%M}")
    return parse_calendar("; ".join(clauses))


@given(calendars())
def test_a_calendar_reads_back_as_it_was_written(calendar: Calendar) -> None:
    text = format_calendar(calendar)
    assert parse_calendar(text) == calendar
    assert format_calendar(parse_calendar(text)) == text


def by_the_wall(calendar: Calendar, time_ms: int) -> bool:
    """The definition, said another way: minute by minute over a list of the week."""
    wall = datetime.fromtimestamp(time_ms // 1000, UTC).astimezone(
        ZoneInfo(calendar.zone) if calendar.zone != "UTC" else UTC
    )
    minute = wall.weekday() * 1440 + wall.hour * 60 + wall.minute
    hours = any(minute in range(start, end) for start, end in calendar.week)
    closed = any(
        (wall.month, wall.day) == (one.first_month, one.first_day) for one in calendar.closed
    )
    naive = wall.replace(tzinfo=None)
    return (
        hours and not closed and all(naive < a.start or naive >= a.end for a in calendar.absences)
    )


STARTS = some.sampled_from(
    [
        ms("2026-03-28T12:00"),  # the nights in which clocks change
        ms("2026-10-24T12:00"),
        ms("2026-03-07T20:00"),
        ms("2026-11-01T00:00"),
        ms("2026-04-04T06:00"),
        ms("2026-02-14T12:00"),
        ms("2026-12-30T12:00"),
    ]
)


@settings(max_examples=60, deadline=None)
@given(calendars(), STARTS, some.integers(0, DAY_MS))
def test_moments_and_changes_agree_with_the_definition(
    calendar: Calendar, start_ms: int, offset_ms: int
) -> None:
    start_ms += offset_ms
    until_ms = start_ms + 2 * DAY_MS
    at, online_ms = start_ms, 0
    while at < until_ms:
        online = calendar.online_at(at)
        change = calendar.next_change(at)
        end = until_ms if change is None else min(change, until_ms)
        assert end > at
        for probe in {at, end - 1, (at + end) // 2, *range(at, end, 7 * 60_000)}:
            assert by_the_wall(calendar, probe) is online, probe
        if change is not None and change < until_ms:
            assert by_the_wall(calendar, change) is not online
        online_ms += (end - at) * online
        at = end
    assert calendar.online_ms(start_ms, until_ms) == online_ms
