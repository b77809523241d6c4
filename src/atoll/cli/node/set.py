"""``atoll node set``: change a running node's terms; at once, and for good."""

from pathlib import Path

import click

from atoll.cli.node.door import NodeDoor, node_folder, node_options
from atoll.cli.node.watch import watch_moves, watch_option
from atoll.cli.options import Size, json_option
from atoll.cli.output import emit
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import TIERS

RESETTABLE = {
    "capacity": "capacity_bytes",
    "bandwidth": "bandwidth_bytes_per_s",
    "traffic": "traffic_bytes_month",
    "price": "price_micro",
    "calendar": "calendar",
    "tier": "tier",
    "site": "site",
    "region": "region",
    "country": "country",
    "parent-country": "parent_country",
    "asn": "asn",
}


@click.command(name="set")
@node_options
@click.option("--capacity", type=Size(), help="Room offered, as 500GB. Less than held: it drains.")
@click.option("--bandwidth", type=Size(), help="Per second and direction, as 10MB; 0: no limit.")
@click.option("--traffic", type=Size(), help="Per calendar month, as 2TB; 0: no limit.")
@click.option("--price", type=click.IntRange(0), help="Micro-euro per TB and month.")
@click.option("--tier", type=click.Choice(TIERS), help="Kind of place.")
@click.option("--site", help="Where it stands, as one word.")
@click.option("--region", help="Region, as eu-central.")
@click.option("--country", help="Country, two letters.")
@click.option("--parent-country", help="Country of the operator's parent company; empty: none.")
@click.option("--asn", type=click.IntRange(0), help="Autonomous system of its line; 0: unknown.")
@click.option(
    "--reset",
    multiple=True,
    type=click.Choice(list(RESETTABLE)),
    help="Go back to the folder's setting; may be given several times.",
)
@watch_option
@json_option
def set_(
    data: Path | None,
    number: int | None,
    capacity: int | None,
    bandwidth: int | None,
    traffic: int | None,
    price: int | None,
    tier: str | None,
    site: str | None,
    region: str | None,
    country: str | None,
    parent_country: str | None,
    asn: int | None,
    reset: tuple[str, ...],
    watch: bool,
    as_json: bool,
) -> None:
    """Change a running node's terms: at once, without a restart, and kept over restarts.

    Offering less than it holds moves the oldest pieces to other nodes first; nothing is lost, and
    offering more again calls it off.
    """
    from atoll.cli.node.terms import facts_of, lines_of
    from atoll.core.messages.terms import TERMS_PATH, SetTerms

    request = SetTerms(
        capacity_bytes=capacity,
        bandwidth_bytes_per_s=bandwidth,
        traffic_bytes_month=traffic,
        price_micro=price,
        tier=tier,
        site=site,
        region=region,
        country=country,
        parent_country=parent_country,
        asn=asn,
        reset=[RESETTABLE[name] for name in reset],
    )
    if request == SetTerms():
        raise AtollError(
            Kind.BAD_REQUEST,
            "set terms",
            "nothing to set",
            hint="say what, as `atoll node set --capacity 200GB`; `atoll node show` shows it all",
        )
    door = NodeDoor(node_folder(data, number))
    shown = door.change(TERMS_PATH, request)
    if watch:
        watch_moves(door, as_json=as_json)
    elif as_json:
        emit(facts_of(shown))
    else:
        click.echo("\n".join(lines_of(shown)))
