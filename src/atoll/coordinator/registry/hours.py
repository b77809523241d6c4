"""Declared hours: which of a node's silences its calendar excuses, and what keeps that honest.

A calendar binds both sides, so a node cannot change it under the coordinator's feet: hours offline
count only after a notice, so many changes a week are heard at once, and a calendar that leaves
hardly an hour online excuses nothing. docs/providing.md derives the figures.
"""

from dataclasses import dataclass, replace

from atoll.core.calendar import ALWAYS, Calendar, parse_calendar
from atoll.core.errors import AtollError

WEEK_MS = 7 * 24 * 3_600_000
ONLINE_SHARE_MIN = 0.02
"""A calendar online for less (3.4 hours a week) excuses no silence, and draws no pieces."""
CHANGES_KEPT_MAX = 64


@dataclass(frozen=True, slots=True)
class Notice:
    """What a coordinator asks of those who change their calendar."""

    notice_ms: int
    """Hours offline that were not declared before count only so long after they were announced."""
    changes_max: int
    """Changes within a week; each further one waits until the oldest of them is a week old."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A node's calendar as this coordinator goes by it. Texts as in ``NodeFacts.calendar``."""

    calendar: str = ""
    """In force."""
    announced: str = ""
    """What replaces it at ``announced_from_ms``; means nothing where that is 0."""
    announced_from_ms: int = 0
    changed_ms: tuple[int, ...] = ()
    """When it was changed lately, oldest first."""

    @property
    def latest(self) -> str:
        """What the node said last."""
        return self.announced if self.announced_from_ms else self.calendar


ALL_HOURS = Hours()


def heard(hours: Hours | None, text: str, now_ms: int, notice: Notice) -> Hours:
    """Return a node's hours after it said ``text``; ``hours`` is None for a new node.

    A new node holds nothing, so its calendar is in force at once.
    """
    if hours is None:
        return Hours(calendar=text)
    hours = settled(hours, now_ms)
    if text == hours.latest:
        return hours
    lately = tuple(at for at in hours.changed_ms if now_ms - at < WEEK_MS)[-CHANGES_KEPT_MAX:]
    from_ms = now_ms + notice.notice_ms
    if len(lately) >= notice.changes_max:
        from_ms = max(from_ms, lately[-notice.changes_max] + WEEK_MS)
    return replace(
        hours, announced=text, announced_from_ms=max(1, from_ms), changed_ms=(*lately, now_ms)
    )


def settled(hours: Hours, now_ms: int) -> Hours:
    """Return the same with an announced calendar in force if its time has come."""
    if hours.announced_from_ms and hours.announced_from_ms <= now_ms:
        return replace(hours, calendar=hours.announced, announced="", announced_from_ms=0)
    return hours


def excused(text: str) -> Calendar:
    """Return the calendar that excuses silence: always online for one hardly ever online."""
    try:
        calendar = parse_calendar(text)
    except AtollError:
        # Checked when it was registered; a rule that became stricter since must not stop us.
        return ALWAYS
    return calendar if calendar.online_share() >= ONLINE_SHARE_MIN else ALWAYS


def expected_ms(hours: Hours, from_ms: int, until_ms: int) -> int:
    """Return how many milliseconds of a span the node owed to be online.

    While a change is announced, a moment is owed if either calendar says so: neither a new excuse
    nor an old one counts alone.
    """
    now, later = excused(hours.calendar), excused(hours.announced)
    turn_ms = hours.announced_from_ms
    total = 0
    while from_ms < until_ms:
        end_ms = until_ms
        if turn_ms and turn_ms <= from_ms:
            return total + later.online_ms(from_ms, until_ms)
        if not turn_ms:
            return total + now.online_ms(from_ms, until_ms)
        end_ms = min(until_ms, turn_ms)
        for calendar in (now, later):
            change_ms = calendar.next_change(from_ms)
            end_ms = end_ms if change_ms is None else min(end_ms, change_ms)
        if now.online_at(from_ms) or later.online_at(from_ms):
            total += end_ms - from_ms
        from_ms = end_ms
    return total


def excuses(hours: Hours, time_ms: int) -> bool:
    """Say whether the node need not be online at a moment."""
    if hours == ALL_HOURS:
        return False
    return expected_ms(hours, time_ms, time_ms + 1) == 0


def online_share(hours: Hours) -> float:
    """Return the smaller share of time online of the calendars at hand, 0..1; 0 for too little."""
    share = 1.0
    for text in {hours.calendar, hours.latest}:
        try:
            share = min(share, parse_calendar(text).online_share())
        except AtollError:
            return 0.0
    return share if share >= ONLINE_SHARE_MIN else 0.0
