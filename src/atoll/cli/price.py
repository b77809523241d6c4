"""``atoll price``: what storage costs, and what a provider's price would bring him."""

import asyncio
from pathlib import Path

import click
import msgspec

from atoll.cli.output import emit, paint, say, table
from atoll.cli.s3 import Door, door_options
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.market import AskPreview, ClassPrice, PricePreview, Prices
from atoll.core.money import PICO_PER_MICRO, parse_euro
from atoll.core.policy.model import TIERS
from atoll.core.units import parse_bytes, show_bytes

GB_PER_TB = 1_000
_TEN_THOUSANDTHS = 100_000_000
"""Pico-euro in 1/10,000 EUR, the finest that is shown to people."""


@click.command()
@click.option("--ask", "asked", metavar="EUR", help="Preview this price per TB and month.")
@click.option("--tier", type=click.Choice(TIERS), default="home", help="Class of the node.")
@click.option("--capacity", default="1 TB", help="What it would offer.")
@click.option("--held", default="0 B", help="What it holds now.")
@click.option(
    "--node",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="A node's folder: preview with its own class, capacity, pieces and score.",
)
@door_options
def price(
    asked: str | None,
    tier: str,
    capacity: str,
    held: str,
    folder: Path | None,
    as_json: bool,
    **door: object,
) -> None:
    """Show what storage costs, by class; with --ask what a provider would earn at a price.

    Prices are for a TB of pieces and a month of 30 days, the network's share included. A TB of
    objects takes n/k TB of pieces: 2 TB at 20/40.
    """
    if folder is not None:
        found = asyncio.run(_as_node(folder, _price(asked)))
    elif asked is not None:
        question = {
            "tier": tier,
            "price_pico": _price(asked),
            "capacity_bytes": parse_bytes(capacity),
            "held_bytes": parse_bytes(held),
        }
        answer = Door(**door).run(lambda client: client.ask("price-preview", question))  # type: ignore[arg-type]
        found = msgspec.convert(answer, PricePreview, strict=False)
    else:
        answer = Door(**door).run(lambda client: client.ask("prices", {}))  # type: ignore[arg-type]
        _show_prices(msgspec.convert(answer, Prices, strict=False), as_json)
        return
    if as_json:
        emit({name: getattr(found, name) for name in found.__struct_fields__})
    else:
        click.echo("\n".join(preview_lines(found)))


async def _as_node(folder: Path, price_pico: int) -> PricePreview:
    from atoll.cli.node.ask import ask_as_node, node_folder

    path = node_folder(folder)
    if path is None:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "preview price",
            f"{folder} is no node's folder",
            hint="name the folder that `atoll join` or `atoll node run` made",
        )
    return await ask_as_node(path, AskPreview(price_pico=price_pico), PricePreview)


def _price(asked: str | None) -> int:
    """Return euros per TB as pico-euro per GB; 0, the reference, for none."""
    if asked is None:
        return 0
    pico = parse_euro(asked)
    if pico < 0:
        raise AtollError(Kind.BAD_REQUEST, "preview price", "a price is not below nothing")
    return pico // GB_PER_TB


def euros(pico: int) -> str:
    """Return an amount for reading: to 1/10,000 EUR, rounded down."""
    whole, rest = divmod(pico // _TEN_THOUSANDTHS, 10_000)
    return f"{whole}.{rest:04}"


def per_tb(pico_per_gb: int) -> str:
    """Return a price per TB for reading."""
    return euros(pico_per_gb * GB_PER_TB)


def _show_prices(found: Prices, as_json: bool) -> None:
    if as_json:
        emit(msgspec.to_builtins(found))
        return
    head = ["class", "you pay", "at most", "providers ask", "in use", "reading", "nodes"]
    rows = [[paint(name, bold=True) for name in head]]
    rows += [_row(one) for one in found.classes]
    click.echo("\n".join(table(rows, right=frozenset({1, 2, 3, 4, 5, 6}))))
    say(
        "EUR per TB of pieces and month of 30 days; reading: per TB. "
        f"{found.take_bps / 100:g} % of it keeps the network going; the rest goes to providers."
    )


def _row(one: ClassPrice) -> list[str]:
    used = f"{one.used_bytes * 100 // one.capacity_bytes} %" if one.capacity_bytes else "—"
    return [
        one.tier,
        per_tb(one.customer_pico),
        per_tb(one.customer_max_pico),
        per_tb(one.reference_pico),
        used,
        per_tb(one.egress_pico),
        str(one.nodes),
    ]


def preview_lines(found: PricePreview) -> list[str]:
    """Return a preview for reading."""
    rows = [
        ["at this price", f"{per_tb(found.price_pico)} EUR per TB and month ({found.tier})"],
        ["you would get", f"{per_tb(found.payout_pico)} EUR per TB and month today"],
        ["customers pay", f"{per_tb(found.customer_pico)} EUR per TB and month"],
        ["your share", f"{found.share_bps / 100:g} % of what is newly stored in the class"],
        [
            "income now",
            f"{_month(found.income_now_micro)} with {show_bytes(found.held_bytes)} held",
        ],
        [
            "income expected",
            f"{_month(found.income_expected_micro)} with {show_bytes(found.expected_bytes)}",
        ],
        [
            "income when full",
            f"{_month(found.income_full_micro)} with {show_bytes(found.capacity_bytes)}",
        ],
    ]
    lines = table(rows)
    if found.ceiling:
        lines.append(
            paint("No customer pays more than twice the reference price: ask less.", fg="yellow")
        )
    return lines


def _month(amount_micro: int) -> str:
    return f"{euros(amount_micro * PICO_PER_MICRO)} EUR a month"
