"""What customers ask, what they may store, and how each one stands: judged again and again.

Nothing here moves money but what ``bank`` credits and ``invoices`` draws: epochs charge, and what
they charged is read back from their documents (``books``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.customers import rules, store
from atoll.coordinator.customers.model import (
    BUDGET_MICRO_MAX,
    NO_BUDGET,
    NOTICES_SHOWN,
    Customer,
    CustomersConfig,
    Known,
    LineKind,
    OpenLine,
    OpenRead,
    Running,
    Told,
    UsageLine,
)
from atoll.coordinator.customers.rules import Prices
from atoll.coordinator.market.rules import price_of, tier_of
from atoll.coordinator.market.service import MarketService
from atoll.coordinator.part import Part
from atoll.coordinator.registry.service import RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    Done,
    Message,
)
from atoll.core.messages.customers import (
    Bill,
    BillingAddress,
    BillingAddressFacts,
    BillLine,
    GetBill,
    GetBillingAddress,
    SetBillingAddress,
    SetBudget,
    TransferFacts,
)
from atoll.core.money import PICO_PER_MICRO, parse_euro, show_euro
from atoll.core.ports import Clock, Database
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.payments.invoices.model import Line
from atoll.economy.payments.invoices.model import LineKind as InvoiceLineKind
from atoll.economy.payments.invoices.render import quantity_of
from atoll.economy.payments.reference import reference_of

ACCOUNTS_AT_ONCE = 1_000
JUDGED_AT_ONCE = 1_000
"""Customers whose standing is written in one transaction."""
READ_ONE_BY_ONE = 8
"""For more of them what runs is read for all at once."""
ADDRESS_LINES_MAX = 8
TEXT_CHARACTERS_MAX = 200
_EUR = " EUR"


def eur(amount_pico: int) -> str:
    """Return an amount as messages have it: exact, ``12.34``."""
    return show_euro(amount_pico).removesuffix(_EUR)


class CustomersService(Part):
    """Bills, budgets, and whether a customer may store anything now."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        market: MarketService,
        config: CustomersConfig,
    ) -> None:
        """Serve from a migrated database; without loops it answers and refuses, no more."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._market = market
        self.config = config
        self._prices: tuple[tuple[int, int], Prices] | None = None
        self.handlers = {
            GetBill: self._get_bill,
            SetBudget: self._set_budget,
            SetBillingAddress: self._set_address,
            GetBillingAddress: self._get_address,
        }

    # --- how each one stands ----------------------------------------------------------------

    async def prices(self) -> Prices:
        """Return what storage costs now, and where."""
        await self._registry.fresh()
        await self._market.fresh()
        version = (self._registry.version, self._market.version)
        if self._prices is None or self._prices[0] != version:
            nodes = {
                view.alias: (tier_of(view), price_of(view))
                for view in self._registry.nodes()
                if view.facts.payout_account
            }
            found = Prices(
                self._market.tariff, self._market.take_bps, nodes, self.config.time_factor
            )
            self._prices = (version, found)
        return self._prices[1]

    async def judge(self) -> int:
        """Judge all customers; return how many stand otherwise than before."""
        prices, now_ms = await self.prices(), self._clock.now_ms()
        running = await self._database.read(
            partial(self._all_running, prices=prices, now_ms=now_ms)
        )
        changed, after = 0, b""
        while True:
            differing, after = await self._database.read(
                partial(self._differing, running=running, after=after, now_ms=now_ms)
            )
            for start in range(0, len(differing), JUDGED_AT_ONCE):
                some = differing[start : start + JUDGED_AT_ONCE]
                await self._database.write(
                    partial(self._judge_some, accounts=some, prices=prices, now_ms=now_ms)
                )
            changed += len(differing)
            if not after:
                return changed
            # Reads of SQLite run on the loop: let others have it between two pages.
            await self._clock.sleep(0)

    def _all_running(
        self, connection: Connection, prices: Prices, now_ms: int
    ) -> dict[bytes, Running]:
        """Return what runs, by account."""
        taken, posted = store.clock(connection).epoch, store.posted_epoch(connection)
        found: dict[bytes, Running] = {}
        lines, stored = self._open_lines(connection, taken), store.stored(connection)
        for (account, _), one in rules.running_of(lines, stored, prices, now_ms, posted).items():
            found[account] = found.get(account, Running()).plus(one)
        return found

    def _open_lines(
        self, connection: Connection, taken: int, account: bytes | None = None
    ) -> Iterable[OpenLine | OpenRead]:
        """Return what runs; nothing where there are no epochs: it is never charged."""
        return store.open_lines(connection, taken, account) if self.config.charged else ()

    def _differing(
        self, connection: Connection, running: Mapping[bytes, Running], after: bytes, now_ms: int
    ) -> tuple[list[bytes], bytes]:
        """Return accounts of the next page whose judgement may change anything, and its last one.

        They are judged anew before anything is written: what changed between two reads costs that,
        no more. Empty for the last account: there is no other page.
        """
        month = rules.month_of(now_ms)
        page = store.accounts(connection, after, ACCOUNTS_AT_ONCE)
        if not page:
            return [], b""
        last = page[-1][0]
        customers = store.customers_between(connection, after, last)
        charged = store.months_between(connection, month, after, last)
        balances = store.balances_between(connection, after, last)
        changed = []
        for account, _ in page:
            customer = customers.get(account, Customer(account))
            known = _known(
                customer,
                balances.get(account, 0),
                charged.get(account, ()),
                running.get(account, Running()),
                month,
            )
            if self._judged(customer, known, now_ms)[0] != customer:
                changed.append(account)
        return changed, last if len(page) == ACCOUNTS_AT_ONCE else b""

    def known_now(
        self,
        connection: Connection,
        customer: Customer,
        prices: Prices,
        now_ms: int | None = None,
        running: Running | None = None,
    ) -> Known:
        """Return what is known of one customer now."""
        now_ms = self._clock.now_ms() if now_ms is None else now_ms
        month, account = rules.month_of(now_ms), customer.account
        if running is None:
            taken, posted = store.clock(connection).epoch, store.posted_epoch(connection)
            lines = self._open_lines(connection, taken, account)
            stored = store.stored(connection, account)
            running = Running()
            for one in rules.running_of(lines, stored, prices, now_ms, posted).values():
                running = running.plus(one)
        charged = store.month(connection, account, month)
        return _known(customer, _balance(connection, account), charged, running, month)

    def _judged(self, customer: Customer, known: Known, now_ms: int) -> tuple[Customer, list[Told]]:
        return rules.judge(
            customer, known, now_ms, self.config.times, enforced=self.config.enforced
        )

    def _judge_some(
        self, connection: Connection, accounts: list[bytes], prices: Prices, now_ms: int
    ) -> None:
        """Judge some customers within a transaction; for many what runs is read once."""
        running = None
        if len(accounts) > READ_ONE_BY_ONE:
            running = self._all_running(connection, prices, now_ms)
        for account in accounts:
            known = None if running is None else running.get(account, Running())
            self.judge_in(connection, account, prices, now_ms, known)

    def judge_in(
        self,
        connection: Connection,
        account: bytes,
        prices: Prices,
        now_ms: int,
        running: Running | None = None,
    ) -> Customer:
        """Judge one customer within a transaction; write down what changed, and tell him.

        ``running``: what runs, where that was read within this transaction already.
        """
        customer = store.hold_customer(connection, account)
        known = self.known_now(connection, customer, prices, now_ms, running)
        after, told = self._judged(customer, known, now_ms)
        if after != customer:
            after = replace(after, sequence=customer.sequence + 1)
            store.put_customer(connection, after)
            store.tell(connection, account, told, now_ms)
        return after

    # --- bills ------------------------------------------------------------------------------

    async def _get_bill(self, request: GetBill) -> Message:
        now_ms = self._clock.now_ms()
        this_month = rules.month_of(now_ms)
        month = request.month or this_month
        _, end_ms = rules.month_span(month)
        prices = await self.prices()
        return await self._database.read(
            partial(
                self._bill,
                account=request.account,
                month=month,
                prices=prices,
                now_ms=now_ms,
                end_ms=end_ms,
            )
        )

    def _bill(
        self, connection: Connection, account: bytes, month: str, prices: Prices, now_ms: int,
        end_ms: int,
    ) -> Bill:  # fmt: skip
        customer = store.customer(connection, account)
        taken, posted = store.clock(connection).epoch, store.posted_epoch(connection)
        charged = store.month(connection, account, month)
        current = month == rules.month_of(now_ms)
        lines, stored = (
            self._open_lines(connection, taken, account),
            store.stored(connection, account),
        )
        found = rules.running_of(lines, stored, prices, now_ms, posted)
        running = {bucket: one for (_, bucket), one in found.items()}
        total = Running()
        for one in running.values():
            total = total.plus(one)
        known = _known(customer, _balance(connection, account), charged, total, month)
        names = store.bucket_names(connection, account)
        net = rules.net_pico(charged)
        to_date = net + (total.fee_pico if current else 0)
        projected = to_date
        if current:
            rate = total.rate_pico
            left_ms = end_ms - now_ms
            projected = rules.projected_pico(to_date, rate, left_ms, self.config.time_factor)
        return Bill(
            account=account.hex(),
            month=month,
            time_ms=now_ms,
            charged=self.config.charged,
            enforced=self.config.enforced,
            time_factor=self.config.time_factor,
            balance_eur=eur(known.balance_pico),
            running_eur=eur(total.fee_pico),
            reserved_eur=eur(known.reserved_pico),
            available_eur=eur(known.available_pico),
            to_date_eur=eur(to_date),
            projected_eur=eur(projected),
            unfunded_eur=eur(rules.sum_of(charged, LineKind.UNFUNDED)),
            rate_eur=eur(total.rate_pico),
            empty_ms=rules.empty_ms(known, now_ms, self.config.time_factor),
            standing=customer.standing.value,
            standing_since_ms=customer.since_ms,
            standing_until_ms=customer.until_ms,
            refused=customer.refused,
            budget_eur=(
                ""
                if customer.budget_micro == NO_BUDGET
                else eur(customer.budget_micro * PICO_PER_MICRO)
            ),
            budget_stops=customer.budget_stops,
            lines=_bill_lines(charged, running if current else {}, names, prices.time_factor),
            notices=store.notices(connection, account, NOTICES_SHOWN),
            transfer=self.transfer(account),
            settled_epoch=taken,
        )

    def transfer(self, account: bytes) -> TransferFacts:
        """Return how a customer pays in."""
        reference = reference_of(account)
        if self.config.invoices is None:
            return TransferFacts(reference=reference)
        bank = self.config.invoices.account
        return TransferFacts(bank.name, bank.iban, bank.bic, reference)

    # --- what he sets -----------------------------------------------------------------------

    async def _set_budget(self, request: SetBudget) -> Message:
        budget = NO_BUDGET if not request.budget_eur else _micro(request.budget_eur)
        prices, now_ms = await self.prices(), self._clock.now_ms()

        def write(connection: Connection) -> None:
            before = store.hold_customer(connection, request.account)
            _require_account(connection, request.account)
            store.put_customer(
                connection,
                replace(
                    before,
                    budget_micro=budget,
                    budget_stops=request.stops,
                    # Another budget has alerts of its own.
                    told_percent=0 if budget != before.budget_micro else before.told_percent,
                    sequence=before.sequence + 1,
                ),
            )
            self.judge_in(connection, request.account, prices, now_ms)

        await self._database.write(write)
        return Done()

    async def _set_address(self, request: SetBillingAddress) -> Message:
        given = request.address
        texts = [given.name, given.vat_number, *given.address]
        if len(given.address) > ADDRESS_LINES_MAX or not all(
            len(one) <= TEXT_CHARACTERS_MAX and one.isprintable() for one in texts
        ):
            raise AtollError(
                Kind.BAD_REQUEST,
                "set billing address",
                f"an address has at most {ADDRESS_LINES_MAX} lines of printable text",
            )
        body = msgspec.msgpack.encode(given)

        def write(connection: Connection) -> None:
            before = store.hold_customer(connection, request.account)
            _require_account(connection, request.account)
            after = replace(before, address=body, sequence=before.sequence + 1)
            store.put_customer(connection, after)

        await self._database.write(write)
        return Done()

    async def _get_address(self, request: GetBillingAddress) -> Message:
        found = await self._database.read(partial(store.customer, account=request.account))
        return BillingAddressFacts(address=address_of(found))


def _balance(connection: Connection, account: bytes) -> int:
    return ledger_store.balance(connection, Account.of(AccountKind.CUSTOMER, account)).amount_pico


def _known(
    customer: Customer,
    balance_pico: int,
    charged: tuple[UsageLine, ...],
    running: Running,
    month: str,
) -> Known:
    return Known(
        balance_pico=balance_pico,
        unposted_pico=running.unposted_pico,
        reserved_pico=customer.reserved_micro * PICO_PER_MICRO,
        rate_pico=running.rate_pico,
        bytes_now=running.bytes_now,
        month=month,
        month_pico=max(0, rules.net_pico(charged)) + running.fee_pico,
    )


def address_of(customer: Customer) -> BillingAddress:
    """Return to whom a customer's invoices are written; an empty one where he said nothing."""
    if not customer.address:
        return BillingAddress()
    return msgspec.msgpack.decode(customer.address, type=BillingAddress)


def _require_account(connection: Connection, account: bytes) -> None:
    if store.owner_of(connection, account) is None:
        raise AtollError(Kind.NOT_FOUND, "find account", "there is no such account")


def _micro(text: str) -> int:
    try:
        amount_pico = parse_euro(text)
    except AtollError as error:
        raise AtollError(Kind.BAD_REQUEST, "set budget", error.message, hint=error.hint) from error
    micro, rest = divmod(amount_pico, PICO_PER_MICRO)
    if rest or not 0 <= micro <= BUDGET_MICRO_MAX:
        raise AtollError(
            Kind.BAD_REQUEST,
            "set budget",
            "a budget is 0 to a billion euro, with at most six decimals",
        )
    return micro


def _bill_lines(
    charged: tuple[UsageLine, ...],
    running: dict[bytes, Running],
    names: dict[bytes, str],
    time_factor: int,
) -> list[BillLine]:
    """Return a bill by bucket, the dearest first; what concerns all comes last."""
    buckets = {one.bucket for one in charged} | set(running)
    found = []
    for bucket in buckets:
        own = [one for one in charged if one.bucket == bucket]
        runs = running.get(bucket, Running())
        kept = sum(one.quantity for one in own if one.kind == LineKind.STORAGE.value)
        kept += runs.byte_ms * time_factor
        storage = rules.sum_of(own, LineKind.STORAGE) + runs.fee_pico - runs.egress_pico
        egress = rules.sum_of(own, LineKind.EGRESS) + runs.egress_pico
        returned = rules.sum_of(own, LineKind.UNPROVEN, LineKind.DISCOUNT, LineKind.CREDIT)
        found.append(
            (
                storage + egress - returned,
                BillLine(
                    bucket=names.get(bucket, "" if not bucket else f"({bucket.hex()[:8]}, gone)"),
                    bytes_now=runs.bytes_now,
                    quantity=quantity_of(Line(InvoiceLineKind.STORAGE, "", kept, "byte_ms", 0)),
                    storage_eur=eur(storage),
                    egress_eur=eur(egress),
                    returned_eur=eur(returned),
                    to_date_eur=eur(storage + egress - returned),
                    rate_eur=eur(runs.rate_pico),
                ),
            )
        )
    ordered = sorted(found, key=lambda one: (not one[1].bucket, -one[0], one[1].bucket))
    return [line for _, line in ordered]
