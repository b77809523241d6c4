"""Writes a customer's invoice of a month when all of its epochs are in the books, and shows them.

The number is drawn in the transaction that stores the invoice: none twice, none left out. What
epochs charged was paid from the balance; tax, where the operator charges any, is drawn from it as
well as soon as it is there.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.customers import rules, store
from atoll.coordinator.customers.model import InvoiceConfig, InvoiceRow, LineKind, UsageLine
from atoll.coordinator.customers.service import CustomersService, address_of, eur
from atoll.coordinator.part import Part
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.customers import (
    GetInvoice,
    InvoiceDocument,
    InvoiceFacts,
    InvoiceList,
    ListInvoices,
)
from atoll.core.ports import Clock, Database
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import post_in
from atoll.economy.payments.amounts import cents_down, pico_of
from atoll.economy.payments.invoices.model import LINES_MAX, Invoice, Line, Party
from atoll.economy.payments.invoices.model import LineKind as InvoiceLineKind
from atoll.economy.payments.invoices.render import json_of
from atoll.economy.payments.invoices.rules import Draft, make, next_number, vat_of
from atoll.economy.payments.reference import reference_of

ACCOUNTS_AT_ONCE = 100
LISTED_MAX = 1_000
TAX = Account.of(AccountKind.PAYABLE, b"vat")
"""Tax that customers paid and that is the state's."""
_KINDS = {
    LineKind.STORAGE: InvoiceLineKind.STORAGE,
    LineKind.EGRESS: InvoiceLineKind.EGRESS,
    LineKind.UNPROVEN: InvoiceLineKind.UNPROVEN,
    LineKind.DISCOUNT: InvoiceLineKind.DISCOUNT,
    LineKind.CREDIT: InvoiceLineKind.CREDIT,
}
_UNITS = {LineKind.STORAGE: "byte_ms", LineKind.EGRESS: "bytes"}


class InvoiceDesk(Part):
    """Invoices of all customers."""

    def __init__(self, clock: Clock, database: Database, customers: CustomersService) -> None:
        self._clock = clock
        self._database = database
        self._customers = customers
        self.handlers = {ListInvoices: self._list, GetInvoice: self._get}

    # --- written ----------------------------------------------------------------------------

    async def write(self) -> int:
        """Write the invoices of the next month that is over; return how many were new."""
        config = self._customers.config.invoices
        if config is None:
            return 0
        clock = await self._database.read(store.clock)
        month = await self._database.read(partial(store.next_month, after=clock.invoiced))
        if not month or rules.month_span(month)[1] > clock.until_ms:
            return 0
        written, after = 0, b""
        while True:
            page = await self._database.read(
                partial(store.months, name=month, after=after, limit=ACCOUNTS_AT_ONCE)
            )
            for account, lines in page:
                written += await self._database.write(
                    partial(self._write, config=config, account=account, month=month, lines=lines)
                )
            if len(page) < ACCOUNTS_AT_ONCE:
                break
            after = page[-1][0]

        def close(connection: Connection) -> None:
            now = store.hold_clock(connection)
            if now.invoiced < month:
                store.set_clock(connection, replace(now, invoiced=month))

        await self._database.write(close)
        return written

    def _write(
        self,
        connection: Connection,
        config: InvoiceConfig,
        account: bytes,
        month: str,
        lines: Sequence[UsageLine],
    ) -> int:
        """Write one invoice; 0 where it is there, or comes to less than a cent."""
        store.hold_clock(connection)  # so that one at a time draws a number
        total = rules.net_pico(lines)
        if total < pico_of(1) or store.has_invoice(connection, account, month):
            return 0
        net = cents_down(total)
        tax = vat_of(net, config.vat.rate_bps)
        last = store.hold_series(connection, config.series)
        # A clock that was set back: no invoice is dated before the one of the number before it.
        issued = max(_today(self._clock.now_ms()), last[1] if last else "")
        number = next_number(config.series, issued, last)
        now_ms = self._clock.now_ms()
        paid = not tax or _draw(connection, account, number, tax, now_ms)
        invoice = _invoice(connection, config, account, month, lines, number, issued, net, paid)
        row = InvoiceRow(
            number, account, month, issued, invoice.gross_cents, invoice.open_cents,
            json_of(invoice),
        )  # fmt: skip
        store.put_invoice(connection, config.series, row)
        return 1

    # --- shown ------------------------------------------------------------------------------

    async def _list(self, request: ListInvoices) -> Message:
        limit = max(1, min(request.limit, LISTED_MAX))
        rows = await self._database.read(
            partial(store.invoices, account=request.account, limit=limit)
        )
        facts = [
            InvoiceFacts(
                number=row.number,
                month=row.month,
                issued=row.issued,
                gross_eur=eur(pico_of(row.gross_cents)),
                open_eur=eur(pico_of(row.open_cents)),
            )
            for row in rows
        ]
        return InvoiceList(invoices=facts, transfer=self._customers.transfer(request.account))

    async def _get(self, request: GetInvoice) -> Message:
        row = await self._database.read(partial(store.invoice, number=request.number))
        if row is None or row.account != request.account:
            raise AtollError(
                Kind.NOT_FOUND,
                "show invoice",
                "you have no invoice of this number",
                hint="`atoll invoice list` shows yours",
                about=request.number[:40],
            )
        return InvoiceDocument(body=row.body.decode(), open_eur=eur(pico_of(row.open_cents)))


def _invoice(
    connection: Connection,
    config: InvoiceConfig,
    account: bytes,
    month: str,
    lines: Sequence[UsageLine],
    number: str,
    issued: str,
    net_cents: int,
    tax_paid: bool,
) -> Invoice:
    begin_ms, end_ms = rules.month_span(month)
    customer = store.customer(connection, account)
    address = address_of(customer)
    owner = store.owner_of(connection, account) or account.hex()
    names = store.bucket_names(connection, account)
    tax = vat_of(net_cents, config.vat.rate_bps) if tax_paid else 0
    return make(
        Draft(
            number=number,
            issued=issued,
            period_from=_today(begin_ms),
            period_until=_day_before(end_ms),
            seller=config.seller,
            customer=Party(address.name or owner, tuple(address.address), address.vat_number),
            lines=invoice_lines(lines, names),
            vat=config.vat,
            prepaid_pico=pico_of(net_cents + tax),
            account=config.account,
            reference=reference_of(account),
        )
    )


def invoice_lines(lines: Sequence[UsageLine], names: dict[bytes, str]) -> tuple[Line, ...]:
    """Return a month's lines as an invoice has them: by bucket, exact."""
    shown = [one for one in lines if one.kind != LineKind.UNFUNDED.value and one.amount_pico]
    if len(shown) >= LINES_MAX:
        # More buckets than an invoice has lines: one line for each kind, all buckets together.
        shown = list(rules.merged(replace_bucket(one) for one in shown))
    found = []
    for one in shown:
        kind = LineKind(one.kind)
        sign = 1 if kind in _UNITS else -1
        found.append(
            Line(
                kind=_KINDS[kind],
                bucket=names.get(one.bucket, one.bucket.hex()[:8]),
                quantity=one.quantity if kind in _UNITS else 0,
                unit=_UNITS.get(kind, ""),
                amount_pico=sign * one.amount_pico,
            )
        )
    return tuple(sorted(found, key=lambda one: (not one.bucket, one.bucket)))


def replace_bucket(one: UsageLine) -> UsageLine:
    """Return a line that concerns all buckets."""
    return UsageLine(b"", one.kind, one.quantity, one.amount_pico)


def settle_open(connection: Connection, account: bytes, now_ms: int) -> None:
    """Draw what is open of a customer's invoices from his balance, the oldest first.

    Only whole invoices: what does not suffice stays in the balance.
    """
    for row in store.open_invoices(connection, account):
        if not _draw(connection, account, row.number, row.open_cents, now_ms):
            return
        store.pay_invoice(connection, row.number, 0)


def _draw(
    connection: Connection, account: bytes, number: str, amount_cents: int, now_ms: int
) -> bool:
    """Move the tax of an invoice from its customer's balance; False where that is too small."""
    customer = Account.of(AccountKind.CUSTOMER, account)
    amount_pico = pico_of(amount_cents)
    if ledger_store.balance(connection, customer).amount_pico < amount_pico:
        return False
    postings = (Posting(customer, amount_pico), Posting(TAX, -amount_pico))
    key = b"invoice/" + number.encode()
    post_in(connection, [Entry(key, "tax", number.encode(), postings, number)], now_ms)
    return True


def _today(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d}"


def _day_before(time_ms: int) -> str:
    day = datetime.fromtimestamp(time_ms // 1000, UTC) - timedelta(days=1)
    return f"{day:%Y-%m-%d}"
