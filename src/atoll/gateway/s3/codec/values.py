"""Scalars of the S3 protocol as text: times, numbers, truth. Times are milliseconds inside."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d):?(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)\Z"
)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED_MAX = 4096
_http_dates: dict[int, str] = {}


def iso_date(time_ms: int) -> str:
    """Return ``2026-01-02T03:04:05.000Z``."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def http_date(time_ms: int) -> str:
    """Return ``Fri, 02 Jan 2026 03:04:05 GMT``; a part of a second is cut off."""
    second = time_ms // 1000
    text = _http_dates.get(second)
    if text is None:
        at = datetime.fromtimestamp(second, UTC)
        text = (
            f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} "
            f"{at:%H:%M:%S} GMT"
        )
        if len(_http_dates) >= _REMEMBERED_MAX:
            _http_dates.clear()
        _http_dates[second] = text
    return text


def parse_date(text: str) -> int:
    """Return the milliseconds since the epoch of an ISO 8601 or HTTP date; ValueError if none."""
    found = _ISO.match(text)
    if found is None:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, IndexError, OverflowError) as cause:
            raise ValueError(f"not a date: {text!r}") from cause
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    year, month, day, hour, minute, second, part, zone = found.groups()
    moment = datetime(
        int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC
    )
    shift_minutes = 0
    if zone != "Z":
        shift_minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        shift_minutes = -shift_minutes if zone[0] == "-" else shift_minutes
    part_ms = int((part or "0")[:3].ljust(3, "0"))
    return (moment - _EPOCH) // timedelta(milliseconds=1) - shift_minutes * 60_000 + part_ms


def parse_integer(text: str) -> int:
    """Return a whole number of at most 19 digits; ValueError if it is none."""
    text = text.strip()
    if not _INTEGER.match(text):
        raise ValueError(f"not a whole number: {text!r}")
    return int(text)


def parse_boolean(text: str) -> bool:
    """Return the truth of ``true`` or ``false`` in any case; ValueError for all else."""
    lower = text.strip().lower()
    if lower in ("true", "1"):
        return True
    if lower in ("false", "0"):
        return False
    raise ValueError(f"not a boolean: {text!r}")
