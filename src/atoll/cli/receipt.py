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

    Storage: bytes times time times price is its fee; the hash of the signed head says what the node
    itself had agreed to hold. Reads: the receipts that gateway and node signed; their signatures
    are checked. Repair: who signed for the new pieces. Only whose line it is may ask.
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
    rows = [["epoch", str(found.epoch)], ["node", _node(found.node_id)]]
    if found.kind == "egress":
        rows += _egress(found)
    elif found.kind == "repair":
        rows += _repair(found)
    else:
        rows += _storage(found)
    return table(rows)


def _storage(found: "ReceiptShown") -> list[list[str]]:
    price = f"{per_tb(found.price_pico)} EUR per TB and month" if found.price_pico else "reference"
    return [
        ["bucket", found.bucket],
        ["bytes", f"{show_bytes(found.piece_bytes)} of pieces ({found.piece_bytes} B)"],
        ["from", _time(found.from_ms)],
        ["until", f"{_time(found.until_ms)} ({_span(found.until_ms - found.from_ms)})"],
        ["price posted", price],
        ["signed head", found.head or "none yet: proofs had not begun"],
    ]


def _egress(found: "ReceiptShown") -> list[list[str]]:
    """Return what was read, and every receipt that it rests on, with what was checked here."""
    rows = [["read", f"{show_bytes(found.piece_bytes)} ({found.piece_bytes} B)"]]
    for one in found.reads:
        signed = one.gateway_signed and one.node_signed
        rows.append(
            [
                f"receipt {one.tab[:8]}/{one.sequence}",
                f"{one.byte_count} B in this epoch, {one.total_bytes} B under "
                f"{one.order_count} orders so far; gateway {one.gateway_key[:10]}; "
                + ("both signatures hold" if signed else "A SIGNATURE DOES NOT HOLD"),
            ]
        )
    counted = sum(one.byte_count for one in found.reads)
    rows.append(["all at this node", f"{counted} B: what all its lines of this epoch come to"])
    return rows


def _repair(found: "ReceiptShown") -> list[list[str]]:
    return [
        ["rebuilt", f"{show_bytes(found.piece_bytes)} of pieces ({found.piece_bytes} B)"],
        ["held before by", _node(found.failed) if found.failed else "a node that is not known"],
        ["done", _time(found.until_ms)],
        ["task", found.task],
        ["signed for by", ", ".join(_node(one) for one in found.new_holders) or "NOBODY"],
    ]


def _node(node_id: str) -> str:
    return show_node(bytes.fromhex(node_id))


def _span(milliseconds: int) -> str:
    return show_seconds(milliseconds / 1000)


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{milliseconds % 1000:03} UTC"
