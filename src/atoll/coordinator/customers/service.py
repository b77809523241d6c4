"""What customers ask, what they may store, and how each one stands: judged again and again.

Nothing here moves money but what ``bank`` credits and ``invoices`` draws: epochs charge, and what
they charged is read back from their documents (``books``).
"""

from dataclasses import replace
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.customers import reserve, rules, store
from atoll.coordinator.customers.model import (
    BUDGET_MICRO_MAX,
    NO_BUDGET,
    NOTICES_SHOWN,
    Customer,
    CustomersConfig,
    Known,
    LineKind,
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
    CommitObject,
    CommitPart,
    CompleteUpload,
    CreateBucket,
    CreateUpload,
    Done,
    Message,
    OrderSegment,
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
from atoll.core.messages.retention import LockObject
from atoll.core.money import PICO_PER_MICRO, parse_euro, show_euro
from atoll.core.ports import Clock, Database
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.payments.invoices.model import Line
from atoll.economy.payments.invoices.model import LineKind as InvoiceLineKind
from atoll.economy.payments.invoices.render import quantity_of
from atoll.economy.payments.reference import reference_of

ACCOUNTS_AT_ONCE = 1_000
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
        self._refused: dict[bytes, str] = {}
        self._refused_at = float("-inf")
        self.handlers = {
            GetBill: self._get_bill,
            SetBudget: self._set_budget,
            SetBillingAddress: self._set_address,
            GetBillingAddress: self._get_address,
        }
        self.guards = {
            OrderSegment: self._admit_order,
            CommitObject: self._admit_object,
            CommitPart: self._admit_bucket,
            CreateUpload: self._admit_bucket,
            CreateBucket: self._admit_account,
            CompleteUpload: self._admit_whole,
            LockObject: self._admit_lock,
        }

    # --- who may store ----------------------------------------------------------------------

    async def _admit_order(self, request: OrderSegment) -> None:
        # What keeps stored data in order (manifests, packs, copies) goes on.
        if request.upkeep:
            return
        await self._admit(request.bucket)
        if self.config.enforced:
            prices = await self.prices()
            check = partial(self._check_prepaid, request=request, prices=prices)
            await self._database.read(check)

    async def _admit_bucket(self, request: CommitPart | CreateUpload) -> None:
        await self._admit(request.bucket)

    async def _admit_object(self, request: CommitObject) -> None:
        await self._admit(request.bucket)
        await self._admit_whole(request)

    async def _admit_whole(self, request: CommitObject | CompleteUpload) -> None:
        """Set aside what the default lock of the object's bucket costs."""
        # Parts that were stored while something was left become an object even afterwards.
        if self.config.enforced:
            prices = await self.prices()
            cost = await self._database.read(
                partial(reserve.of_default, request=request, prices=prices)
            )
            await self._set_aside(*cost, prices)

    async def _admit_lock(self, request: LockObject) -> None:
        if not self.config.enforced:
            return
        prices, now_ms = await self.prices(), self._clock.now_ms()
        account, cost_pico = await self._database.read(
            partial(reserve.of_lock, request=request, prices=prices, now_ms=now_ms)
        )
        # The object's state changes with the last request of several.
        if request.last:
            await self._set_aside(account, cost_pico, prices)

    def _check_prepaid(self, connection: Connection, request: OrderSegment, prices: Prices) -> None:
        account, cost_pico = reserve.of_default(connection, request, prices)
        if cost_pico:
            known = self._known_now(connection, store.customer(connection, account), prices)
            if known.available_pico < cost_pico:
                raise reserve.refusal(cost_pico, known.available_pico)

    async def _set_aside(self, account: bytes, cost_pico: int, prices: Prices) -> None:
        """Set something aside of what is available. Raises ``UNPAID`` where that is too little.

        Where what it is for does not happen after all, the next ``set_aside_all`` gives it back.
        """
        if not cost_pico:
            return

        def write(connection: Connection) -> None:
            customer = store.hold_customer(connection, account)
            known = self._known_now(connection, customer, prices)
            if known.available_pico < cost_pico:
                raise reserve.refusal(cost_pico, known.available_pico)
            micro = customer.reserved_micro - (-cost_pico // PICO_PER_MICRO)
            store.put_customer(
                connection,
                replace(customer, reserved_micro=micro, sequence=customer.sequence + 1),
            )

        await self._database.write(write)

    async def set_aside_all(self) -> None:
        """Set aside for every customer what his locked data costs from now on."""
        prices, now_ms = await self.prices(), self._clock.now_ms()
        for account in await self._database.read(partial(store.with_locks, now_ms=now_ms)):

            def write(connection: Connection, account: bytes = account) -> None:
                customer = store.hold_customer(connection, account)
                micro = reserve.reserved_micro(connection, account, prices, now_ms)
                if micro != customer.reserved_micro:
                    store.put_customer(
                        connection,
                        replace(customer, reserved_micro=micro, sequence=customer.sequence + 1),
                    )

            await self._database.write(write)

    def reserved(self, connection: Connection) -> dict[bytes, int]:
        """Return what is set aside, in pico-euro, by account: epochs charge what is beyond it."""
        if not self.config.enforced:
            return {}
        return {
            account: micro * PICO_PER_MICRO for account, micro in store.reserved(connection).items()
        }

    async def _admit_account(self, request: CreateBucket) -> None:
        await self._admit(request.account)

    async def _admit(self, name: bytes) -> None:
        """Raise ``UNPAID`` where uploads to a bucket, or of an account, are refused."""
        now = self._clock.monotonic()
        if not 0 <= now - self._refused_at < self.config.fresh_s:
            self._refused = await self._database.read(store.refused)
            self._refused_at = now
        reason = self._refused.get(name)
        if reason:
            # A payment may have come in this very second: nobody is sent away by old news.
            self._refused = await self._database.read(store.refused)
            reason = self._refused.get(name)
        if reason:
            raise rules.refusal(reason)

    # --- how each one stands ----------------------------------------------------------------

    async def prices(self) -> Prices:
        """Return what storage costs now, and where."""
        await self._registry.fresh()
        await self._market.fresh()
        nodes = {
            view.alias: (tier_of(view), price_of(view))
            for view in self._registry.nodes()
            if view.facts.payout_account
        }
        return Prices(self._market.tariff, self._market.take_bps, nodes, self.config.time_factor)

    async def judge(self) -> int:
        """Judge all customers; return how many stand otherwise than before."""
        prices, now_ms = await self.prices(), self._clock.now_ms()
        changed = await self._database.read(partial(self._differing, prices=prices, now_ms=now_ms))
        for account in changed:
            await self._database.write(
                partial(self.judge_in, account=account, prices=prices, now_ms=now_ms)
            )
        return len(changed)

    def _differing(self, connection: Connection, prices: Prices, now_ms: int) -> list[bytes]:
        """Return the accounts whose judgement would change anything, as of one moment."""
        month = rules.month_of(now_ms)
        taken, posted = store.clock(connection).epoch, store.posted_epoch(connection)
        running: dict[bytes, Running] = {}
        lines, stored = store.open_lines(connection, taken), store.stored(connection)
        for (account, _), one in rules.running_of(lines, stored, prices, now_ms, posted).items():
            running[account] = running.get(account, Running()).plus(one)
        changed: list[bytes] = []
        after = b""
        while True:
            page = store.accounts(connection, after, ACCOUNTS_AT_ONCE)
            if not page:
                return changed
            for account, _ in page:
                customer = store.customer(connection, account)
                charged = store.month(connection, account, month)
                known = self._known(
                    connection, customer, charged, running.get(account, Running()), month
                )
                if self._judged(customer, known, now_ms)[0] != customer:
                    changed.append(account)
            after = page[-1][0]

    def _known(
        self,
        connection: Connection,
        customer: Customer,
        charged: tuple[UsageLine, ...],
        running: Running,
        month: str,
    ) -> Known:
        balance = ledger_store.balance(
            connection, Account.of(AccountKind.CUSTOMER, customer.account)
        )
        return Known(
            balance_pico=balance.amount_pico,
            unposted_pico=running.unposted_pico,
            reserved_pico=customer.reserved_micro * PICO_PER_MICRO,
            rate_pico=running.rate_pico,
            bytes_now=running.bytes_now,
            month=month,
            month_pico=max(0, rules.net_pico(charged)) + running.fee_pico,
        )

    def _known_now(
        self,
        connection: Connection,
        customer: Customer,
        prices: Prices,
        now_ms: int | None = None,
    ) -> Known:
        """Return what is known of one customer now."""
        now_ms = self._clock.now_ms() if now_ms is None else now_ms
        month, account = rules.month_of(now_ms), customer.account
        taken, posted = store.clock(connection).epoch, store.posted_epoch(connection)
        lines = store.open_lines(connection, taken, account)
        stored = store.stored(connection, account)
        running = Running()
        for one in rules.running_of(lines, stored, prices, now_ms, posted).values():
            running = running.plus(one)
        charged = store.month(connection, account, month)
        return self._known(connection, customer, charged, running, month)

    def _judged(self, customer: Customer, known: Known, now_ms: int) -> tuple[Customer, list[Told]]:
        return rules.judge(
            customer, known, now_ms, self.config.times, enforced=self.config.enforced
        )

    def judge_in(
        self, connection: Connection, account: bytes, prices: Prices, now_ms: int
    ) -> Customer:
        """Judge one customer within a transaction; write down what changed, and tell him."""
        customer = store.hold_customer(connection, account)
        known = self._known_now(connection, customer, prices, now_ms)
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
            store.open_lines(connection, taken, account),
            store.stored(connection, account),
        )
        found = rules.running_of(lines, stored, prices, now_ms, posted)
        running = {bucket: one for (_, bucket), one in found.items()}
        total = Running()
        for one in running.values():
            total = total.plus(one)
        known = self._known(connection, customer, charged, total, month)
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
