"""``atoll node calendar``: when a node is online, declared so that nobody counts on more."""

from datetime import UTC, datetime
from pathlib import Path

import click

from atoll.cli.node.door import NodeDoor, node_folder, node_options
from atoll.cli.options import json_option
from atoll.cli.output import emit
from atoll.core.calendar import Calendar, format_calendar, parse_calendar
from atoll.core.errors import AtollError, Kind

CHANGES_SHOWN = 6


@click.command()
@click.argument("hours", required=False)
@click.option("--absent", multiple=True, metavar="DATE[..DATE]", help="Announce an absence.")
@click.option("--present", multiple=True, metavar="DATE[..DATE]", help="Take an absence back.")
@click.option("--always", is_flag=True, help="Online at all times again; absences go, too.")
@node_options
@json_option
def calendar(
    hours: str | None,
    absent: tuple[str, ...],
    present: tuple[str, ...],
    always: bool,
    data: Path | None,
    number: int | None,
    as_json: bool,
) -> None:
    """Show or declare when a node is online.

    HOURS are written as "mon-fri 18:00-23:00 Europe/Berlin"; several clauses are separated by
    semicolons: "sat,sun 10:00-24:00; closed 12-24..01-02". Silence within declared hours offline is
    no fault and costs nothing. New hours offline count only after the coordinator's notice (a day).
    """
    from atoll.core.messages.terms import TERMS_PATH, SetTerms

    door = NodeDoor(node_folder(data, number))
    shown = door.show()
    if hours is not None or absent or present or always:
        if always and (hours is not None or absent or present):
            raise AtollError(
                Kind.BAD_REQUEST, "set calendar", "--always leaves no room for anything else"
            )
        wanted = "" if always else _changed(shown.terms.calendar, hours, absent, present)
        shown = door.change(TERMS_PATH, SetTerms(calendar=wanted))
    now = parse_calendar(shown.terms.calendar)
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    changes = _changes(now, now_ms)
    if as_json:
        emit(
            {
                "calendar": shown.terms.calendar,
                "online": shown.online,
                "online_share": now.online_share(),
                "changes": [{"time_ms": at, "online": online} for at, online in changes],
            }
        )
        return
    click.echo(format_calendar(now) or "always online")
    click.echo(f"online {now.online_share() * 100:.1f} % of an ordinary year")
    click.echo(f"now {'online' if shown.online else 'offline'}; then:")
    for at, online in changes:
        moment = datetime.fromtimestamp(at / 1000, UTC).astimezone()
        click.echo(f"  {moment:%a %Y-%m-%d %H:%M %Z}  {'online' if online else 'offline'}")


def _changed(
    current: str, hours: str | None, absent: tuple[str, ...], present: tuple[str, ...]
) -> str:
    """Return a calendar with other hours, or with absences added and removed."""
    base = parse_calendar(current)
    if hours is not None:
        given = parse_calendar(hours)
        # New hours leave announced absences as they are, unless they name their own.
        absences = given.absences or base.absences
        base = Calendar(given.zone, given.week, given.closed, absences)
    removed = {one for text in present for one in parse_calendar(f"absent {text}").absences}
    missing = removed - set(base.absences)
    if missing:
        raise AtollError(
            Kind.BAD_REQUEST,
            "set calendar",
            "no such absence is announced",
            hint=f"announced: {format_calendar(base) or 'nothing'}",
        )
    added = {one for text in absent for one in parse_calendar(f"absent {text}").absences}
    absences = tuple(sorted((set(base.absences) - removed) | added))
    text = format_calendar(Calendar(base.zone, base.week, base.closed, absences))
    return format_calendar(parse_calendar(text))


def _changes(now: Calendar, now_ms: int) -> list[tuple[int, bool]]:
    """Return when it next comes and goes."""
    found: list[tuple[int, bool]] = []
    at: int | None = now_ms
    while at is not None and len(found) < CHANGES_SHOWN:
        at = now.next_change(at)
        if at is not None:
            found.append((at, now.online_at(at)))
    return found
