"""When a node is online: weekly hours in a time zone, yearly closed days, announced absences.

A provider writes ``mon-fri 18:00-23:00 Europe/Berlin``; docs/providing.md is the language's manual,
docs/spec/calendar.md its normative text. What is meant is the clock on the provider's wall: a
moment is online if that clock, read at that moment, shows an hour of the week that was promised, on
a day neither closed nor absent. So a change to or from summer time needs no rule of its own.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from atoll.core.errors import AtollError, Kind

TEXT_CHARACTERS_MAX = 1024
SPANS_MAX = 64
"""Spans of hours in one text."""
CLOSED_MAX = 32
ABSENCES_MAX = 32
ABSENCE_DAYS_MAX = 366
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
YEAR_DAYS = 365.2425
MINUTE_MS = 60_000
DAY_MS = DAY_MINUTES * MINUTE_MS
HORIZON_DAYS = 800
"""A change further away than this is not looked for: no absence is as long."""
TIME_MS_MAX = 253_370_764_800_000
"""The year 9999: no moment after it is read."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

Span = tuple[int, int]
"""Minutes of the week, Monday 00:00 is 0; the second is not part of it."""


@dataclass(frozen=True, slots=True, order=True)
class Closed:
    """Days of every year, first to last, both included; may run over the new year."""

    first_month: int
    first_day: int
    last_month: int
    last_day: int

    def holds(self, day: date) -> bool:
        """Say whether a day is one of them."""
        first, last = (self.first_month, self.first_day), (self.last_month, self.last_day)
        here = (day.month, day.day)
        return first <= here <= last if first <= last else here >= first or here <= last

    @property
    def days(self) -> int:
        """How many days of a leap year."""
        first = sum(_MONTH_DAYS[: self.first_month - 1]) + self.first_day
        last = sum(_MONTH_DAYS[: self.last_month - 1]) + self.last_day
        return (last - first) % 366 + 1


@dataclass(frozen=True, slots=True, order=True)
class Absence:
    """An announced absence by the provider's wall clock (no zone); the end is not part of it."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Calendar:
    """A provider's hours. Made by ``parse_calendar``; equal calendars have equal texts."""

    zone: str = "UTC"
    week: tuple[Span, ...] = ((0, WEEK_MINUTES),)
    """Sorted, not touching each other."""
    closed: tuple[Closed, ...] = ()
    absences: tuple[Absence, ...] = ()

    @property
    def always(self) -> bool:
        """Whether there is no hour offline."""
        return self == ALWAYS

    def online_at(self, time_ms: int) -> bool:
        """Say whether the node should be online at a moment (ms since 1970)."""
        return _window(self, time_ms)[2]

    def next_change(self, time_ms: int) -> int | None:
        """Return when it next comes or goes, after a moment; None for not within two years."""
        return _window(self, time_ms)[1]

    def online_share(self) -> float:
        """Return the share of an ordinary year online, 0..1, absences left out."""
        hours = sum(end - start for start, end in self.week) / WEEK_MINUTES
        closed = sum(entry.days for entry in self.closed) / YEAR_DAYS
        return hours * max(0.0, 1.0 - closed)

    def online_ms(self, from_ms: int, until_ms: int) -> int:
        """Return how many milliseconds of a span of time it should be online."""
        total = 0
        while from_ms < until_ms:
            _, change, online = _window(self, from_ms)
            end = until_ms if change is None else min(until_ms, change)
            total += (end - from_ms) * online
            from_ms = end
        return total

    def __str__(self) -> str:
        return format_calendar(self)


ALWAYS = Calendar()
"""Online at all times: what an empty text means."""


# --- moments -------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    """Return a time zone of the IANA database. Raises ``BAD_REQUEST``."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _bad(
            f"there is no time zone {name!r}", "write one as Europe/Berlin, or UTC"
        ) from None


def _wall(calendar: Calendar, time_ms: int) -> datetime:
    """Return what the provider's clock shows."""
    time_ms = min(max(0, time_ms), TIME_MS_MAX)
    return (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(_zone(calendar.zone))


def _promised(calendar: Calendar, wall: datetime) -> bool:
    minute = wall.weekday() * DAY_MINUTES + wall.hour * 60 + wall.minute
    place = bisect_right(calendar.week, (minute, WEEK_MINUTES)) - 1
    if place < 0 or minute >= calendar.week[place][1]:
        return False
    if any(entry.holds(wall.date()) for entry in calendar.closed):
        return False
    naive = wall.replace(tzinfo=None)
    return not any(one.start <= naive < one.end for one in calendar.absences)


_WINDOWS: dict[Calendar, tuple[int, int | None, bool]] = {}
_WINDOWS_KEPT_MAX = 4096


def _window(calendar: Calendar, time_ms: int) -> tuple[int, int | None, bool]:
    """Return a stretch that holds the moment: since when known, until when, whether online."""
    known = _WINDOWS.get(calendar)
    if known is not None and known[0] <= time_ms and (known[1] is None or time_ms < known[1]):
        return known
    online = _promised(calendar, _wall(calendar, time_ms))
    change = _find_change(calendar, time_ms, online)
    if len(_WINDOWS) >= _WINDOWS_KEPT_MAX:
        _WINDOWS.clear()
    found = _WINDOWS[calendar] = (time_ms, change, online)
    return found


def _find_change(calendar: Calendar, time_ms: int, online: bool) -> int | None:
    """Return the first moment after this one at which the promise is another."""
    if not calendar.closed and not calendar.absences and calendar.week == ALWAYS.week:
        return None
    if not calendar.week:
        return None
    for place in range(HORIZON_DAYS):
        start_ms = time_ms + place * DAY_MS
        for moment_ms in _boundaries(calendar, start_ms, start_ms + DAY_MS):
            if moment_ms > time_ms and _promised(calendar, _wall(calendar, moment_ms)) != online:
                return moment_ms
        if start_ms > TIME_MS_MAX:
            return None
    return None


def _boundaries(calendar: Calendar, start_ms: int, end_ms: int) -> list[int]:
    """Return in order all moments of [start, end) at which the promise may change.

    Between two of them the wall clock runs evenly and shows no boundary of the calendar.
    """
    zone = _zone(calendar.zone)
    moments = set(_shifts(calendar, start_ms, end_ms))
    day = _wall(calendar, start_ms).date() - timedelta(days=1)
    for _ in range(4):
        midnight = datetime.combine(day, datetime.min.time())
        offset = midnight.weekday() * DAY_MINUTES
        walls = [midnight]
        for span in calendar.week:
            walls += [
                midnight + timedelta(minutes=edge - offset)
                for edge in span
                if 0 <= edge - offset <= DAY_MINUTES
            ]
        walls += [
            edge
            for absence in calendar.absences
            for edge in (absence.start, absence.end)
            if edge.date() == day
        ]
        for wall in walls:
            for fold in (0, 1):
                moment = wall.replace(tzinfo=zone, fold=fold)
                moments.add((moment - _EPOCH) // timedelta(milliseconds=1))
        day += timedelta(days=1)
    return sorted(moment for moment in moments if start_ms <= moment < end_ms)


def _shifts(calendar: Calendar, start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the moments at which the zone's offset changes, to the second."""
    step_ms = DAY_MS // 4
    for begin in range(start_ms, end_ms, step_ms):
        low, high = begin - 1, begin + step_ms
        before = _wall(calendar, low).utcoffset()
        if _wall(calendar, high).utcoffset() == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if _wall(calendar, middle).utcoffset() == before:
                low = middle
            else:
                high = middle
        yield high


# --- text: reading -------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse_calendar(text: str) -> Calendar:
    """Read a calendar. An empty text is ``ALWAYS``.

    Raises ``BAD_REQUEST`` that says what is wrong with which clause.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise _bad(f"a calendar has at most {TEXT_CHARACTERS_MAX} characters")
    if not text.isascii():
        raise _bad("a calendar is written in ASCII")
    reading = _Reading()
    for clause in text.replace("\n", ";").split(";"):
        words = clause.split()
        if words:
            reading.clause(words)
    return reading.calendar()


class _Reading:
    """Clauses read so far."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._always = False
        self._zone = ""
        self._closed: set[Closed] = set()
        self._absences: set[Absence] = set()

    def clause(self, words: list[str]) -> None:
        first = words[0].lower()
        if first == "always" and len(words) == 1:
            self._always = True
        elif first == "zone" and len(words) == 2:
            self._take_zone(words[1])
        elif first == "closed" and len(words) == 2:
            self._closed.update(_closed(part) for part in words[1].split(","))
        elif first == "absent" and len(words) == 2:
            self._absences.update(_absence(part) for part in words[1].split(","))
        else:
            self._hours(words)

    def _take_zone(self, name: str) -> None:
        if not _WORD.fullmatch(name):
            raise _bad(f"{name!r} is no time zone", "write one as Europe/Berlin")
        _zone(name)
        if self._zone not in ("", name):
            raise _bad(f"two time zones: {self._zone} and {name}", "a calendar has one")
        self._zone = name

    def _hours(self, words: list[str]) -> None:
        clause = " ".join(words)
        rest = list(words)
        days: tuple[int, ...] = tuple(range(7))
        if not rest[0][0].isdigit():
            days = _days(rest.pop(0), clause)
        if not rest or not rest[0][0].isdigit():
            raise _bad(f"{clause!r} names no hours", "write them as mon-fri 18:00-23:00")
        for part in rest.pop(0).split(","):
            start, end = _span(part, clause)
            for day in days:
                self._add(day * DAY_MINUTES + start, day * DAY_MINUTES + end)
        if rest:
            self._take_zone(rest.pop(0))
        if rest:
            raise _bad(f"{clause!r} has a word too many: {rest[0]!r}")
        if len(self._spans) > SPANS_MAX * 7:
            raise _bad(f"a calendar has at most {SPANS_MAX} spans of hours")

    def _add(self, start: int, end: int) -> None:
        if end <= WEEK_MINUTES:
            self._spans.append((start, end))
        else:
            self._spans += [(start, WEEK_MINUTES), (0, end - WEEK_MINUTES)]

    def calendar(self) -> Calendar:
        if len(self._closed) > CLOSED_MAX or len(self._absences) > ABSENCES_MAX:
            raise _bad(f"at most {CLOSED_MAX} closed times and {ABSENCES_MAX} absences")
        if self._always and self._spans:
            raise _bad("'always' leaves no room for hours", "remove one of them")
        week = merged(self._spans) if self._spans else ALWAYS.week
        calendar = Calendar(
            self._zone or "UTC", week, tuple(sorted(self._closed)), tuple(sorted(self._absences))
        )
        whole = week == ALWAYS.week and not calendar.closed and not calendar.absences
        # Without an hour offline the zone means nothing.
        return ALWAYS if whole else calendar


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same minutes as sorted spans that do not touch."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def _days(word: str, clause: str) -> tuple[int, ...]:
    if word.lower() == "daily":
        return tuple(range(7))
    days: set[int] = set()
    for part in word.lower().split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise _bad(
                f"{clause!r}: {part!r} is no day", f"days are {', '.join(DAYS)}, mon-fri, daily"
            )
        here, end = DAYS.index(first), DAYS.index(last or first)
        days.update((here + step) % 7 for step in range((end - here) % 7 + 1))
    return tuple(sorted(days))


def _span(text: str, clause: str) -> Span:
    """Read ``18:00-23:00`` as minutes of the day; an end at or before the start is tomorrow's."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise _bad(f"{clause!r}: {text!r} is no span of hours", "write it as 18:00-23:00")
    hour, minute, end_hour, end_minute = (int(group) for group in match.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if minute > 59 or end_minute > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:
        raise _bad(f"{clause!r}: {text!r} is no time of day", "00:00 to 24:00")
    if start == end:
        raise _bad(f"{clause!r}: {text!r} is empty", "a whole day is 00:00-24:00")
    return start, end if end > start else end + DAY_MINUTES


def _closed(text: str) -> Closed:
    first, _, last = text.partition("..")
    return Closed(*_month_day(first, text), *_month_day(last or first, text))


def _month_day(text: str, about: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2})-(\d{2})", text)
    month, day = (int(group) for group in match.groups()) if match else (0, 0)
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        raise _bad(f"closed {about}: no such day", "write 12-25, or 12-24..01-02")
    return month, day


def _absence(text: str) -> Absence:
    first, _, last = text.partition("..")
    start, _ = _moment(first, text)
    end, whole_day = _moment(last or first, text)
    if whole_day:
        end += timedelta(days=1)
    if not start < end <= start + timedelta(days=ABSENCE_DAYS_MAX):
        raise _bad(f"absent {text}: it ends before it begins or is longer than a year")
    return Absence(start, end)


def _moment(text: str, about: str) -> tuple[datetime, bool]:
    """Read a date, or a date with a time of day; say whether it was a date."""
    whole_day = bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}", text))
    if not whole_day and not re.fullmatch(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}", text):
        raise _bad(
            f"absent {about}: {text!r} is no date", "write 2026-12-24..2027-01-02, or with T18:00"
        )
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise _bad(f"absent {about}: there is no {text!r}") from None
    if not 1970 <= moment.year <= 9990:
        raise _bad(f"absent {about}: not in this age of the world")
    return moment, whole_day


def _bad(message: str, hint: str = "") -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read calendar", message, hint=hint)


# --- text: writing -------------------------------------------------------------------------------


def format_calendar(calendar: Calendar) -> str:
    """Return the one canonical text of a calendar; empty for ``ALWAYS``."""
    if calendar.always:
        return ""
    clauses = list(_format_week(calendar.week))
    if calendar.zone != "UTC":
        clauses.append(f"zone {calendar.zone}")
    clauses += [f"closed {_format_closed(entry)}" for entry in calendar.closed]
    clauses += [f"absent {_format_absence(one)}" for one in calendar.absences]
    return "; ".join(clauses)


def _format_week(week: tuple[Span, ...]) -> Iterator[str]:
    if week == ALWAYS.week:
        yield "always"
        return
    by_hours: dict[str, list[int]] = {}
    for day in range(7):
        begin, end = day * DAY_MINUTES, (day + 1) * DAY_MINUTES
        cut = [(max(s, begin) - begin, min(e, end) - begin) for s, e in week if s < end > begin < e]
        if cut:
            hours = ",".join(f"{_clock(start)}-{_clock(stop)}" for start, stop in cut)
            by_hours.setdefault(hours, []).append(day)
    for hours, days in by_hours.items():
        yield f"{_format_days(days)} {hours}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _format_days(days: list[int]) -> str:
    if len(days) == 7:
        return "daily"
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(
        DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs
    )


def _format_closed(entry: Closed) -> str:
    first = f"{entry.first_month:02}-{entry.first_day:02}"
    last = f"{entry.last_month:02}-{entry.last_day:02}"
    return first if first == last else f"{first}..{last}"


def _format_absence(one: Absence) -> str:
    if one.start.time() == one.end.time() == datetime.min.time():
        first, last = one.start.date(), one.end.date() - timedelta(days=1)
        return f"{first}" if first == last else f"{first}..{last}"
    return f"{one.start:%Y-%m-%dT%H:%M}..{one.end:%Y-%m-%dT%H:%M}"
