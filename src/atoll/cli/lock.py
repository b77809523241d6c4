"""``atoll lock``: keep objects from being removed, by anybody, until a time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import emit, say
from atoll.cli.s3 import Door, Place, door_options, parse_place
from atoll.core.errors import AtollError, Kind

if TYPE_CHECKING:
    from atoll.client import AsyncClient

DAYS_SUFFIX = "d"


@click.command()
@click.argument("place", metavar="s3://BUCKET[/KEY]")
@click.option("--until", metavar="DATE", help="Lock until a day or time (2030-01-31, UTC).")
@click.option("--days", type=click.IntRange(1, 36_500), help="Lock for so many days from now.")
@click.option(
    "--mode",
    type=click.Choice(["governance", "compliance"]),
    help="Who may shorten: the owner (governance) or nobody (compliance). Default: compliance.",
)
@click.option("--legal-hold", type=click.Choice(["on", "off"]), help="Hold with no end, on or off.")
@click.option("--default", "default", metavar="DAYS", help="What a bucket's new objects get: 30d.")
@click.option("--clear", is_flag=True, help="End a governance lock, or a bucket's default.")
@click.option("--show", is_flag=True, help="Show the lock and how many holders confirmed it.")
@door_options
def lock(
    place: str,
    until: str | None,
    days: int | None,
    mode: str | None,
    legal_hold: str | None,
    default: str | None,
    clear: bool,
    show: bool,
    as_json: bool,
    **door: object,
) -> None:
    """Lock an object, or set what new objects of a bucket are locked by.

    A compliance lock can be extended and by nobody shortened: not by you, not by this cloud's
    coordinator, not by a thief of its keys.
    """
    target = parse_place(place)
    asked = _Asked(until, days, mode, legal_hold, default, clear, show)
    question = _question(target, asked)

    async def ask(client: "AsyncClient") -> Any:
        return await client.ask("lock", question)

    answer = Door(**door).run(ask)  # type: ignore[arg-type]
    if as_json:
        emit(answer)
    else:
        say(_told(target, answer))


@dataclass(frozen=True, slots=True)
class _Asked:
    until: str | None
    days: int | None
    mode: str | None
    legal_hold: str | None
    default: str | None
    clear: bool
    show: bool


def _question(target: Place, asked: _Asked) -> dict[str, Any]:
    """Return what the gateway is asked. Raises ``BAD_REQUEST`` for what does not go together."""
    alone = asked.until or asked.days or asked.legal_hold
    if asked.default is not None and (target.key or alone):
        raise _bad("--default is for a bucket, alone or with --mode")
    if asked.default is None and not target.key and alone:
        raise _bad("name an object, or use --default for a bucket")
    if asked.until and asked.days:
        raise _bad("give --until or --days, not both")
    question: dict[str, Any] = {"bucket": target.bucket, "key": target.key}
    if asked.default is not None:
        question["days"] = _days(asked.default)
    if asked.until:
        question["until_ms"] = _until_ms(asked.until)
    if asked.days:
        question["days"] = asked.days
    if asked.mode:
        question["mode"] = asked.mode
    if asked.legal_hold:
        question["legal_hold"] = asked.legal_hold == "on"
    if asked.clear:
        question["clear"] = True
    if asked.show and len(question) > 2:
        raise _bad("--show changes nothing: give it alone")
    return question


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read command", message, hint="see `atoll lock --help`")


def _days(text: str) -> int:
    number = text.removesuffix(DAYS_SUFFIX)
    if not number.isascii() or not number.isdigit():
        raise _bad(f"{text!r} is no number of days: write 30d")
    return int(number)


def _until_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _bad(f"{text!r} is no date: write 2030-01-31 or 2030-01-31T12:00:00+00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _told(place: Place, answer: dict[str, Any]) -> str:
    if not place.key:
        if not answer["days"]:
            return f"{place}: new objects are not locked"
        return f"{place}: new objects are locked for {answer['days']} days ({answer['mode']})"
    parts = []
    if answer["until_ms"]:
        end = datetime.fromtimestamp(answer["until_ms"] / 1000, UTC).isoformat(" ", "seconds")
        verb = "locked" if answer["locked"] else "was locked"
        parts.append(f"{verb} until {end} ({answer['mode']})")
    if answer["legal_hold"]:
        parts.append("under legal hold")
    if not parts:
        return f"{place}: not locked"
    known = f"{answer['confirmed']} of {answer['holders']} holders have confirmed it"
    return f"{place}: {', '.join(parts)}; {known}"
