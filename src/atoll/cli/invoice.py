"""``atoll invoice``: invoices of past months, and how to pay in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from atoll.cli.euros import show_one
from atoll.cli.output import colourful, emit, paint, say, table
from atoll.cli.s3 import Door, door_options
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.customers import InvoiceDocument, InvoiceList, TransferFacts
from atoll.core.money import PICO_PER_EUR, parse_euro

if TYPE_CHECKING:
    from atoll.economy.payments.qr import Transfer

CENTS_PICO = PICO_PER_EUR // 100


@click.group()
def invoice() -> None:
    """Invoices of past months, and how to pay in by bank transfer."""


@invoice.command("list")
@door_options
def list_(as_json: bool, **door: object) -> None:
    """List your invoices, the newest first."""
    found = _list(door)
    if as_json:
        emit([msgspec.to_builtins(one) for one in found.invoices])
        return
    if not found.invoices:
        say("there is no invoice yet: the first one is written when a month is over and settled")
        return
    head = ["number", "month", "issued", "sum", "to be paid"]
    rows = [[paint(name, bold=True) for name in head]]
    for one in found.invoices:
        unpaid = parse_euro(one.open_eur)
        rows.append(
            [
                one.number,
                one.month,
                one.issued,
                show_one(parse_euro(one.gross_eur)),
                paint(show_one(unpaid), fg="yellow") if unpaid else "paid",
            ]
        )
    click.echo("\n".join(table(rows, right=frozenset({3, 4}))))
    say("see one with `atoll invoice show NUMBER`")


@invoice.command()
@click.argument("number")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it as a page to this file, to print or to keep.",
)
@door_options
def show(number: str, page: Path | None, as_json: bool, **door: object) -> None:
    """Show an invoice: its lines by bucket, tax, what was paid from the balance.

    With --json: the invoice as `atoll/invoice/1`, exact to 1e-12 EUR.
    """
    from atoll.economy.payments.invoices.render import html_of, parse_json, plain_of

    answer = Door(**door).run(lambda client: client.ask("invoice-show", {"number": number}))  # type: ignore[arg-type]
    found = msgspec.convert(answer, InvoiceDocument, strict=False)
    written = parse_json(found.body.encode())
    unpaid = parse_euro(found.open_eur)
    if page is not None:
        page.write_text(html_of(written, code=bool(unpaid)), encoding="utf-8")
        say(f"written to {page}")
    if as_json:
        click.echo(found.body.rstrip("\n"))
        return
    if page is None:
        click.echo(plain_of(written, code=bool(unpaid) and colourful()).rstrip("\n"))
    if written.open_cents and not unpaid:
        say("it has been paid since it was written")
    elif unpaid:
        say(f"to be paid: {show_one(unpaid)}; `atoll invoice pay {number}` shows how")


@invoice.command()
@click.argument("number", required=False)
@click.option("--amount", metavar="EUR", help="What you mean to pay in; else you type it yourself.")
@click.option(
    "--svg",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the code as a picture to this file.",
)
@door_options
def pay(
    number: str | None, amount: str | None, picture: Path | None, as_json: bool, **door: object
) -> None:
    """Show how to pay an invoice, or to pay in beforehand: account, reference, and a code.

    Banks' apps read the code (EPC-QR). The reference is yours for life: whatever arrives with it
    is credited to you when the operator takes over his bank's statement.
    """
    found = _list(door)
    facts = found.transfer
    if not facts.iban:
        raise AtollError(
            Kind.PRECONDITION_FAILED,
            "show how to pay",
            "the operator of this cloud has named no bank account",
            hint="ask him; his setting is bank.iban",
        )
    transfer = transfer_of(facts, _cents(found, number, amount))
    if picture is not None:
        from atoll.economy.payments.qr import payload_of, svg_of

        picture.write_text(svg_of(payload_of(transfer), scale=6), encoding="utf-8")
        say(f"written to {picture}")
    if as_json:
        emit(_facts(transfer))
        return
    click.echo("\n".join(pay_lines(transfer)))


def _list(door: dict[str, object]) -> InvoiceList:
    answer = Door(**door).run(lambda client: client.ask("invoice-list", {}))  # type: ignore[arg-type]
    return msgspec.convert(answer, InvoiceList, strict=False)


def _cents(found: InvoiceList, number: str | None, amount: str | None) -> int | None:
    """Return what is to be transferred: an invoice's rest, the amount named, or what one likes."""
    if number is not None and amount is not None:
        raise AtollError(Kind.BAD_REQUEST, "show how to pay", "name an invoice or an amount")
    if number is None and amount is None:
        return None
    if amount is not None:
        pico = parse_euro(amount)
        if pico <= 0 or pico % CENTS_PICO:
            raise AtollError(
                Kind.BAD_REQUEST, "show how to pay", "an amount is whole cents, above nothing"
            )
        return pico // CENTS_PICO
    one = next((one for one in found.invoices if one.number == number), None)
    if one is None:
        raise AtollError(
            Kind.NOT_FOUND,
            "show how to pay",
            "you have no invoice of this number",
            hint="`atoll invoice list` shows yours",
        )
    cents = parse_euro(one.open_eur) // CENTS_PICO
    if not cents:
        raise AtollError(
            Kind.CONFLICT,
            "show how to pay",
            "this invoice has been paid from your balance",
            hint="to pay in for later: `atoll invoice pay --amount EUR`",
        )
    return cents


def transfer_of(facts: TransferFacts, cents: int | None) -> "Transfer":
    """Return the transfer that a customer is asked for. Raises ``BAD_REQUEST``."""
    from atoll.economy.payments.qr import Transfer

    transfer = Transfer(facts.holder[:70], facts.iban, cents, facts.reference, bic=facts.bic)
    transfer.check()
    return transfer


def _facts(transfer: "Transfer") -> dict[str, Any]:
    from atoll.economy.payments.amounts import show_cents
    from atoll.economy.payments.qr import payload_of

    cents = transfer.amount_cents
    return {
        "holder": transfer.name,
        "iban": transfer.iban,
        "bic": transfer.bic,
        "reference": transfer.reference,
        "amount_eur": "" if cents is None else show_cents(cents),
        "code": payload_of(transfer),
    }


def pay_lines(transfer: "Transfer") -> list[str]:
    """Return a transfer for reading, its code below on a terminal."""
    from atoll.economy.payments.accounts import show_iban
    from atoll.economy.payments.amounts import show_cents
    from atoll.economy.payments.qr import payload_of, text_of
    from atoll.economy.payments.reference import show_reference

    cents = transfer.amount_cents
    rows = [["to", transfer.name], ["IBAN", show_iban(transfer.iban)]]
    rows += [["BIC", transfer.bic]] * bool(transfer.bic)
    rows.append(["amount", "as you like" if cents is None else f"{show_cents(cents)} EUR"])
    rows.append(["reference", paint(show_reference(transfer.reference), bold=True)])
    lines = table(rows)
    if colourful():
        try:
            lines += ["", text_of(payload_of(transfer))]
        except AtollError as error:
            if error.kind is not Kind.NOT_IMPLEMENTED:
                raise
            lines += ["", f"no code: {error.message}; {error.hint}"]
    lines += ["", "Write the reference as it is: by it, and by nothing else, the money is yours."]
    return lines
