"""``atoll receipt``: what stands behind a line of an epoch."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from atoll.cli.output import emit, table
from atoll.cli.price import per_tb
from atoll.cli.s3 import Door, door_options
from atoll.core.ids import show_node
from atoll.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from atoll.gateway.customer.receipt import ReceiptShown


@click.group()
def receipt() -> None:
    """See what stands behind a line of an epoch."""


@receipt.command()
@click.argument("evidence", metavar="ID")
@door_options
def explain(evidence: str, as_json: bool, **door: object) -> None:
    """Explain one of your lines by its evidence (64 hex digits), as epochs name it.

    Bytes times time times price is its fee; the hash of the signed head says what the node itself
    had agreed to hold. Only whose line it is may ask.
    """
    import msgspec

    from atoll.gateway.customer.receipt import ReceiptShown

    answer = Door(**door).run(  # type: ignore[arg-type]
        lambda client: client.ask("receipt-explain", {"evidence": evidence})
    )
    found = msgspec.convert(answer, ReceiptShown, strict=False)
    if as_json:
        emit(msgspec.to_builtins(found))
    else:
        click.echo("\n".join(lines_of(found)))


def lines_of(found: "ReceiptShown") -> list[str]:
    """Return a receipt for reading."""
    price = f"{per_tb(found.price_pico)} EUR per TB and month" if found.price_pico else "reference"
    rows = [
        ["epoch", str(found.epoch)],
        ["node", show_node(bytes.fromhex(found.node_id))],
        ["bucket", found.bucket],
        ["bytes", f"{show_bytes(found.piece_bytes)} of pieces ({found.piece_bytes} B)"],
        ["from", _time(found.from_ms)],
        ["until", f"{_time(found.until_ms)} ({_span(found.until_ms - found.from_ms)})"],
        ["price posted", price],
        ["signed head", found.head or "none yet: proofs had not begun"],
    ]
    return table(rows)


def _span(milliseconds: int) -> str:
    return show_seconds(milliseconds / 1000)


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{milliseconds % 1000:03} UTC"
