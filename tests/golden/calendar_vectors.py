"""Vectors of calendars: canonical texts, what is promised when, what is refused."""

from typing import Any

from atoll.core.calendar import format_calendar, parse_calendar
from atoll.core.errors import AtollError

TEXTS = (
    "",
    "always",
    "mon-fri 18:00-23:00 Europe/Berlin",
    "sat,sun 10:00-24:00; mon-fri 18:00-23:00; zone Europe/Lisbon",
    "fri 22:00-06:00",
    "sun-mon 00:00-24:00",
    "20:00-22:00,21:00-23:30",
    "closed 12-24..01-02; closed 05-01",
    "daily 08:00-20:00 America/New_York; absent 2026-12-24..2027-01-02",
    "absent 2026-07-01T08:00..2026-07-01T09:30; absent 2026-08-01",
)
MOMENTS_MS = (
    1_774_746_000_000,  # 2026-03-29 01:00 UTC: clocks go forward in Europe
    1_774_749_600_000,
    1_792_890_000_000,  # 2026-10-25 01:00 UTC: and back
    1_792_893_600_000,
    1_772_820_000_000,  # a Friday evening
    1_782_892_800_000,
    1_798_070_400_000,  # 2026-12-24
)
REFUSED = (
    "mon-fri",
    "mon-fri 18-23",
    "18:00-18:00",
    "mon 18:00-25:00",
    "mon 18:00-23:00 Mars/Olympus",
    "closed 02-30",
    "absent 2026-02-30",
    "absent 2027-01-02..2026-12-24",
    "always; mon 10:00-12:00",
)


def calendars() -> dict[str, Any]:
    """Return the vectors."""
    return {
        "calendars": [
            {
                "text": text,
                "canonical": format_calendar(calendar := parse_calendar(text)),
                "week_minutes": sum(end - start for start, end in calendar.week),
                "moments": [
                    {
                        "time_ms": at,
                        "online": calendar.online_at(at),
                        "next_change_ms": calendar.next_change(at),
                    }
                    for at in MOMENTS_MS
                ],
            }
            for text in TEXTS
        ],
        "refused": [{"text": text, "kind": _kind(text)} for text in REFUSED],
    }


def _kind(text: str) -> str:
    try:
        parse_calendar(text)
    except AtollError as refused:
        return refused.kind.value
    raise AssertionError(text)
