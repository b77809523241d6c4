"""An invoice as text, as a page that needs nothing else, and as JSON that is read back."""

from html import escape

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.money import GB_BYTES, GB_MONTH_BYTE_MS, show_euro
from atoll.economy.payments.accounts import show_iban
from atoll.economy.payments.amounts import show_cents
from atoll.economy.payments.invoices.model import Invoice, Line, LineKind, Party
from atoll.economy.payments.invoices.rules import check, transfer_of
from atoll.economy.payments.qr import payload_of, svg_of, text_of
from atoll.economy.payments.reference import show_reference

FORMAT = "atoll/invoice/1"
JSON_BYTES_MAX = 8 * 2**20

_WORDS = {
    LineKind.STORAGE: "storage",
    LineKind.EGRESS: "traffic",
    LineKind.UNPROVEN: "not proven: given back",
    LineKind.DISCOUNT: "discount",
    LineKind.CREDIT: "credit",
    LineKind.ROUNDING: "rounded in your favour",
}
_UNITS = {"byte_ms": (GB_MONTH_BYTE_MS, "GB-month"), "bytes": (GB_BYTES, "GB")}
_QUANTITY_DECIMALS = 9
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}td,th{padding:.2em .5em;text-align:left}"
    "td:last-child,th:last-child{text-align:right;font-variant-numeric:tabular-nums}"
    "tbody tr{border-top:1px solid #ddd}tfoot tr:first-child{border-top:2px solid #000}"
)


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    invoice: Invoice


def json_of(invoice: Invoice) -> bytes:
    """Return an invoice as JSON: amounts in pico and cents as integers, keys in a fixed order."""
    check(invoice)
    return msgspec.json.format(msgspec.json.encode(_Envelope(FORMAT, invoice)), indent=1) + b"\n"


def parse_json(data: bytes) -> Invoice:
    """Read an invoice from JSON, and check it. Raises ``TOO_LARGE`` and ``BAD_REQUEST``."""
    operation = "read an invoice"
    if len(data) > JSON_BYTES_MAX:
        raise AtollError(Kind.TOO_LARGE, operation, "no invoice is as large")
    try:
        found = msgspec.json.decode(data, type=_Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AtollError(
            Kind.BAD_REQUEST, operation, f"it is no invoice: {str(error)[:120]}"
        ) from None
    if found.format != FORMAT:
        raise AtollError(Kind.NEWER_FORMAT, operation, f"the format {found.format[:40]!r}")
    check(found.invoice)
    return found.invoice


def quantity_of(line: Line) -> str:
    """Return how much a line is about, ``1.25 GB-month``, rounded to nine decimals."""
    if line.unit not in _UNITS or not line.quantity:
        return ""
    whole, word = _UNITS[line.unit]
    scaled = (line.quantity * 10**_QUANTITY_DECIMALS * 2 + whole) // (2 * whole)
    number, rest = divmod(scaled, 10**_QUANTITY_DECIMALS)
    fraction = f"{rest:0{_QUANTITY_DECIMALS}}".rstrip("0")
    return f"{number}{'.' if fraction else ''}{fraction} {word}"


def rate_of(rate_bps: int) -> str:
    """Return a rate as people write it: ``19 %``, ``7.5 %``."""
    whole, rest = divmod(rate_bps, 100)
    fraction = f"{rest:02}".rstrip("0")
    return f"{whole}{'.' if fraction else ''}{fraction} %"


def _what(line: Line) -> str:
    note = f" ({line.note})" if line.note else ""
    return f"{_WORDS[line.kind]}{note}"


def _sums(invoice: Invoice) -> list[tuple[str, str]]:
    tax = f"VAT {rate_of(invoice.vat.rate_bps)}"
    if invoice.vat.note:
        tax += f" ({invoice.vat.note})"
    rows = [
        ("net", show_cents(invoice.net_cents)),
        (tax, show_cents(invoice.vat_cents)),
        ("total", show_cents(invoice.gross_cents)),
    ]
    if invoice.prepaid_cents:
        rows.append(("paid from your balance", show_cents(-invoice.prepaid_cents)))
    rows.append(("to be paid", show_cents(invoice.open_cents)))
    return [(name, f"{amount} EUR") for name, amount in rows]


def _party(party: Party) -> list[str]:
    return [party.name, *party.address, *([f"VAT no. {party.vat_number}"] * bool(party.vat_number))]


def _printable(text: str) -> str:
    """Return text without what a terminal would obey."""
    return "".join(one if one.isprintable() else "�" for one in text)


def plain_of(invoice: Invoice, *, code: bool = True) -> str:
    """Return an invoice as text; with ``code`` what a bank's app scans is drawn below."""
    check(invoice)
    lines = [f"Invoice {invoice.number} of {invoice.issued}", ""]
    lines += [*_party(invoice.seller), "", "to", *_party(invoice.customer), ""]
    lines += [f"For {invoice.period_from} to {invoice.period_until}", ""]
    rows = [
        (one.bucket or "all", _what(one), quantity_of(one), show_euro(one.amount_pico))
        for one in invoice.lines
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    for bucket, what, quantity, amount in rows:
        lines.append(
            f"{bucket:<{widths[0]}}  {what:<{widths[1]}}  {quantity:>{widths[2]}}"
            f"  {amount:>{widths[3]}}"
        )
    lines.append("")
    sums = _sums(invoice)
    width = max(len(name) for name, _ in sums)
    lines += [f"{name:<{width}}  {amount:>16}" for name, amount in sums]
    transfer = transfer_of(invoice)
    if transfer is not None:
        lines += ["", f"Please pay until {invoice.due} to {invoice.seller.name}"]
        lines += [f"IBAN       {show_iban(invoice.iban)}"]
        lines += [f"BIC        {invoice.bic}"] * bool(invoice.bic)
        lines += [f"Reference  {show_reference(invoice.reference)}"]
    text = "\n".join(_printable(one) for one in lines)
    if transfer is not None and code:
        text += "\n\n" + text_of(payload_of(transfer))
    return text + "\n"


def html_of(invoice: Invoice, *, code: bool = True) -> str:
    """Return an invoice as a page without scripts and without anything from elsewhere."""
    check(invoice)
    rows = "".join(
        f"<tr><td>{escape(one.bucket) or 'all'}</td><td>{escape(_what(one))}</td>"
        f"<td>{escape(quantity_of(one))}</td><td>{show_euro(one.amount_pico)}</td></tr>\n"
        for one in invoice.lines
    )
    sums = "".join(
        f'<tr><td colspan="3">{escape(name)}</td><td>{amount}</td></tr>\n'
        for name, amount in _sums(invoice)
    )
    seller, customer = (
        "<br>".join(escape(one) for one in _party(party))
        for party in (invoice.seller, invoice.customer)
    )
    pay = ""
    transfer = transfer_of(invoice)
    if transfer is not None:
        bic = f"<br>BIC {escape(invoice.bic)}" if invoice.bic else ""
        pay = (
            f"<p>Please pay until {invoice.due} to {escape(invoice.seller.name)}<br>"
            f"IBAN {show_iban(invoice.iban)}{bic}<br>"
            f"Reference {show_reference(invoice.reference)}</p>\n"
        )
        if code:
            pay += svg_of(payload_of(transfer)) + "\n"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Invoice {escape(invoice.number)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Invoice {escape(invoice.number)}</h1>\n<p>{invoice.issued}</p>\n"
        f"<p>{seller}</p>\n<p>to<br>{customer}</p>\n"
        f"<p>For {invoice.period_from} to {invoice.period_until}</p>\n"
        "<table><thead><tr><th>bucket</th><th>what</th><th>how much</th><th>EUR</th></tr></thead>\n"
        f"<tbody>\n{rows}</tbody>\n<tfoot>\n{sums}</tfoot></table>\n{pay}</body></html>\n"
    )
