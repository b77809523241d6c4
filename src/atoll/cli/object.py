"""``atoll object explain``: each piece of an object, where it is, why there, what it survives."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from atoll.cli.output import emit, paint, table
from atoll.cli.s3 import Door, door_options, parse_place
from atoll.core.ids import show_node
from atoll.core.messages.policy import ObjectExplained, PlaceExplained, SegmentExplained
from atoll.core.units import show_bytes

if TYPE_CHECKING:
    from atoll.client import AsyncClient

EVIDENCE_SHORT = {"disputed": "disputed!", "declared": "declared", "address": "by address"}


@click.group("object")
def object_() -> None:
    """Look into objects."""


@object_.command()
@click.argument("place", metavar="s3://BUCKET/KEY")
@click.option("--after", type=click.IntRange(0), default=0, help="Leave out so many segments.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, help="Segments to explain.")
@door_options
def explain(place: str, after: int, limit: int, as_json: bool, **door: object) -> None:
    """Show where each piece of an object lies, why, and what the object survives."""
    found = parse_place(place, key=True)
    question = {
        "bucket": found.bucket,
        "key": found.key,
        "after_segment": after,
        "limit": limit,
    }

    async def ask(client: "AsyncClient") -> ObjectExplained:
        answer = await client.ask("object-explain", question)
        return msgspec.convert(answer, ObjectExplained, strict=False)

    explained = Door(**door).run(ask)  # type: ignore[arg-type]
    if as_json:
        emit(msgspec.to_builtins(explained, builtin_types=(bytes,)) | _hexed(explained))
    else:
        _tell(str(found), explained, after)


def _hexed(found: ObjectExplained) -> dict[str, object]:
    """Return the segments with ids in hex: JSON has no bytes."""
    segments = []
    for segment in found.segments:
        facts = msgspec.to_builtins(segment, builtin_types=(bytes,))
        facts["segment"] = segment.segment.hex()
        for place, one in zip(facts["places"], segment.places, strict=True):
            place["node_id"] = one.node_id.hex()
        segments.append(facts)
    policy = msgspec.to_builtins(found.policy, builtin_types=(bytes,))
    return {"segments": segments, "policy": policy | {"bucket": found.policy.bucket.hex()}}


def _tell(name: str, found: ObjectExplained, after: int) -> None:
    click.echo(f"{name}  {show_bytes(found.size)}, {found.segments_total} segments")
    version = f" (version {found.policy.version})" if found.policy.version else ""
    click.echo(f"policy   {found.policy.text}{version}")
    click.echo("caps     one piece per operator, /24 or /48, and site; a tenth per AS (soft)")
    for number, segment in enumerate(found.segments, after):
        click.echo("")
        _tell_segment(number, segment)
    click.echo("")
    if found.plain_bytes:
        expansion = found.stored_bytes / found.plain_bytes
        click.echo(f"expansion  {expansion:.2f}: {show_bytes(found.stored_bytes)} on nodes")
    if found.segments:
        lost = found.survives_nodes < 0
        words = "not readable now" if lost else f"any {found.survives_nodes} nodes may vanish"
        click.echo(f"survives   {paint(words, fg='red' if lost else 'green')}")
    if found.one_machine:
        click.echo("           one machine: no protection against its loss")
    shown = after + len(found.segments)
    if shown < found.segments_total:
        click.echo(f"more       {found.segments_total - shown} segments: --after {shown}")


def _tell_segment(number: int, segment: SegmentExplained) -> None:
    packed = ", in a pack" if segment.packed else ""
    click.echo(
        f"segment {number}  {show_bytes(segment.plain_bytes)}, scheme {segment.k}/{segment.n}: any "
        f"{segment.k} of {segment.n} pieces rebuild it{packed}; {segment.healthy} are there"
    )
    rows: list[tuple[str, ...]] = [
        ("piece", "node", "where", "evidence", "operator", "tier", "state", "last proof", "")
    ]
    rows += [_row(place) for place in segment.places]
    click.echo("\n".join(f"  {line}" for line in table(rows, right=frozenset((0,)))))
    verdict = "survives its loss" if segment.survives_domain else "does not survive its loss"
    click.echo(
        f"  any {max(0, segment.survives_nodes)} nodes may vanish; worst domain: "
        f"{segment.worst_domain} with {segment.worst_domain_pieces}, {verdict}"
    )


def _row(place: PlaceExplained) -> tuple[str, ...]:
    where = place.country or f"? (says {place.declared_country or 'nothing'})"
    if place.parent_country not in ("", place.country):
        where += f" under {place.parent_country}"
    evidence = EVIDENCE_SHORT.get(place.evidence, place.evidence)
    state = place.state if place.standing in ("", "vetted") else f"{place.state}, {place.standing}"
    note = paint(f"must move: {place.violation}", fg="red") if place.violation else place.soft
    return (
        str(place.index),
        show_node(place.node_id) if place.node_id else f"#{place.alias}",
        f"{where} {place.region}".strip(),
        evidence,
        place.operator,
        place.tier,
        state,
        _when(place.proven_ms),
        note,
    )


def _when(time_ms: int) -> str:
    if not time_ms:
        return "-"
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%m-%d %H:%M:%S")
