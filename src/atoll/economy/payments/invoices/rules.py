"""Pure decisions about invoices: numbers, sums, rounding, tax."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from atoll.core.errors import AtollError, Kind
from atoll.core.money import AMOUNT_PICO_MAX, BPS
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.amounts import cents_down, pico_of
from atoll.economy.payments.invoices.model import (
    LINES_MAX,
    NEGATIVE,
    TEXT_CHARACTERS_MAX,
    VAT_BPS_MAX,
    Invoice,
    Line,
    LineKind,
    Party,
    Vat,
)
from atoll.economy.payments.qr import Transfer
from atoll.economy.payments.reference import is_reference

DUE_DAYS = 14
NUMBER_DIGITS = 6
SEQUENCE_MAX = 10**NUMBER_DIGITS - 1

_SERIES = re.compile(r"^[A-Z0-9]{1,8}$", re.ASCII)
_NUMBER = re.compile(rf"^([A-Z0-9]{{1,8}})-(\d{{4}})-(\d{{{NUMBER_DIGITS}}})$", re.ASCII)


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "write an invoice", message)


def day(text: str) -> date:
    """Read an ISO date. Raises ``BAD_REQUEST``."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise _bad(f"{text[:20]!r} is no day; write 2026-11-20") from None
    if found.isoformat() != text:
        raise _bad(f"{text[:20]!r} is no day; write 2026-11-20")
    return found


def next_number(series: str, issued: str, last: tuple[str, str] | None) -> str:
    """Return the next number of a series, ``A-2026-000001``: none twice, none left out.

    ``last`` is the number and the day of the series' last invoice. Each year begins at 1; no
    invoice is dated before the one of the number before it (Directive 2006/112/EC, art. 226:
    a sequential number that identifies the invoice uniquely). The number is drawn in the
    transaction that stores the invoice, else one might be left out. Raises ``BAD_REQUEST``.
    """
    if not _SERIES.match(series):
        raise _bad("a series of invoices is 1 to 8 capitals and digits")
    year, sequence = day(issued).year, 1
    if last is not None:
        found = _NUMBER.match(last[0])
        if found is None or found[1] != series or int(found[2]) != day(last[1]).year:
            raise _bad(f"{last[0]!r} is no number of the series {series} of that day's year")
        if day(issued) < day(last[1]):
            raise _bad(f"the invoice before this one is of {last[1]}")
        if int(found[2]) == year:
            sequence = int(found[3]) + 1
    if sequence > SEQUENCE_MAX:
        raise _bad("the series is full; begin another")
    return f"{series}-{year:04}-{sequence:0{NUMBER_DIGITS}}"


def vat_of(net_cents: int, rate_bps: int) -> int:
    """Return the tax on a net sum in cents: once for the sum, half a cent upwards.

    The tax is the state's: it is not rounded in anybody's favour.
    """
    return (net_cents * rate_bps + BPS // 2) // BPS


@dataclass(frozen=True, slots=True)
class Draft:
    """What an invoice is made from."""

    number: str
    issued: str
    period_from: str
    period_until: str
    seller: Party
    customer: Party
    lines: tuple[Line, ...]
    vat: Vat
    prepaid_pico: int
    account: BankAccount
    reference: str
    due_days: int = DUE_DAYS


def make(draft: Draft) -> Invoice:
    """Return an invoice: its lines, and one that rounds their sum down to whole cents.

    The net sum is rounded in the customer's favour, so is what he has prepaid: up, but never
    beyond what he owes. Raises ``BAD_REQUEST`` where the lines come to less than nothing:
    what is given back beyond the charges stays in the balance and is no invoice.
    """
    total = sum(one.amount_pico for one in draft.lines)
    if total < 0:
        raise _bad("more is given back than charged: there is nothing to invoice")
    net = cents_down(total)
    lines = draft.lines
    rest = total - pico_of(net)
    if rest:
        lines = (*lines, Line(LineKind.ROUNDING, "", 0, "", -rest))
    tax = vat_of(net, draft.vat.rate_bps)
    if draft.prepaid_pico < 0:
        raise _bad("what was prepaid is not negative")
    prepaid = min(net + tax, -(-draft.prepaid_pico // pico_of(1)))
    invoice = Invoice(
        number=draft.number,
        issued=draft.issued,
        period_from=draft.period_from,
        period_until=draft.period_until,
        seller=draft.seller,
        customer=draft.customer,
        lines=lines,
        vat=draft.vat,
        net_cents=net,
        vat_cents=tax,
        gross_cents=net + tax,
        prepaid_cents=prepaid,
        due=(day(draft.issued) + timedelta(days=draft.due_days)).isoformat(),
        iban=draft.account.iban,
        bic=draft.account.bic,
        reference=draft.reference,
    )
    check(invoice)
    return invoice


def check(invoice: Invoice) -> None:
    """Raise ``BAD_REQUEST`` unless the invoice adds up and says what one must say."""
    if not _NUMBER.match(invoice.number):
        raise _bad("an invoice has a number of a series")
    if int(invoice.number.split("-")[1]) != day(invoice.issued).year:
        raise _bad("the number is of another year")
    if not day(invoice.period_from) <= day(invoice.period_until) <= day(invoice.due):
        raise _bad("its days are not in order")
    if day(invoice.issued) > day(invoice.due):
        raise _bad("it would be due before it is issued")
    for party in (invoice.seller, invoice.customer):
        if not party.name.strip():
            raise _bad("an invoice is from somebody to somebody")
    if not is_reference(invoice.reference):
        raise _bad("the reference is no right creditor reference")
    BankAccount(invoice.seller.name, invoice.iban, invoice.bic)
    _check_lines(invoice.lines)
    _check_sums(invoice)


def _check_sums(invoice: Invoice) -> None:
    vat = invoice.vat
    if not 0 <= vat.rate_bps <= VAT_BPS_MAX or not (vat.rate_bps or vat.note):
        raise _bad("a rate of tax is 0 to 50 %, and a rate of 0 says why")
    if pico_of(invoice.net_cents) != sum(one.amount_pico for one in invoice.lines):
        raise _bad("the lines do not make up the net sum")
    if invoice.vat_cents != vat_of(invoice.net_cents, vat.rate_bps):
        raise _bad("the tax is not the rate of the net sum")
    if invoice.gross_cents != invoice.net_cents + invoice.vat_cents:
        raise _bad("net and tax do not make up the sum")
    if not 0 <= invoice.prepaid_cents <= invoice.gross_cents:
        raise _bad("more was prepaid than charged")


def _check_lines(lines: Sequence[Line]) -> None:
    if not 1 <= len(lines) <= LINES_MAX:
        raise _bad(f"an invoice has 1 to {LINES_MAX} lines")
    for one in lines:
        if abs(one.amount_pico) > AMOUNT_PICO_MAX or one.quantity < 0:
            raise _bad("a line beyond all there is")
        if one.amount_pico and (one.amount_pico < 0) != (one.kind in NEGATIVE):
            raise _bad(f"a line for {one.kind.value} has the wrong sign")
        if len(one.bucket) > TEXT_CHARACTERS_MAX or len(one.note) > TEXT_CHARACTERS_MAX:
            raise _bad("a line's text is too long")
    rounding = [one for one in lines if one.kind is LineKind.ROUNDING]
    if len(rounding) > 1 or any(-one.amount_pico >= pico_of(1) for one in rounding):
        raise _bad("it is rounded once, by less than a cent")


def transfer_of(invoice: Invoice) -> Transfer | None:
    """Return the transfer that an invoice asks for; None where nothing is open."""
    if not invoice.open_cents:
        return None
    name = invoice.seller.name[:70]
    return Transfer(
        name, invoice.iban, invoice.open_cents, reference=invoice.reference, bic=invoice.bic
    )
