"""The operator's bank: statements are taken over, what they credit customers with is theirs.

A file is judged as a whole and written in one transaction: every movement that needs no person is
an entry of the ledger under the movement's own key, so the same money is credited once, whatever
file tells of it and however often. What waits for a person is listed until he decides.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from sqlalchemy.engine import Connection

from atoll.coordinator.customers import store
from atoll.coordinator.customers.invoices import settle_open
from atoll.coordinator.customers.model import InvoiceConfig, MovementRow
from atoll.coordinator.customers.rules import Prices
from atoll.coordinator.customers.service import CustomersService, eur
from atoll.coordinator.part import Part
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.customers import (
    STATEMENT_BYTES_MAX,
    STATEMENT_LISTED_MAX,
    AssignMovement,
    CustomerFacts,
    CustomerList,
    ImportStatement,
    ListCustomers,
    MovementFacts,
    MovementTaken,
    StatementTaken,
)
from atoll.core.ports import Clock, Compute, Database
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import post_in
from atoll.economy.payments.accounts import show_iban
from atoll.economy.payments.amounts import pico_of
from atoll.economy.payments.booking import bank_account, entries_of
from atoll.economy.payments.reference import reference_of
from atoll.economy.payments.statements.judge import Expected, Judgement, judge
from atoll.economy.payments.statements.model import Judged, StatementFile, Verdict
from atoll.economy.payments.statements.read import read_statements

ACCOUNTS_AT_ONCE = 10_000
CUSTOMERS_LISTED_MAX = 1_000
WAITING_LISTED_MAX = 1_000
_OPERATION = "import a bank statement"
_ASSIGNABLE = (Verdict.UNKNOWN.value, Verdict.AMBIGUOUS.value)


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was read, and what it is compared with."""

    judgement: Judgement
    statements: int
    sha256: bytes
    owners: Mapping[bytes, str]


class Payouts(Protocol):
    """Who knows the payments to providers that a statement may tell of."""

    def expected(self, connection: Connection, file: StatementFile, iban: str) -> Expected:
        """Return those that a file may mean; no customers."""

    def take(self, connection: Connection, iban: str, judged: Sequence[Judged]) -> None:
        """Take over what was judged of them, within the caller's transaction."""


class BankDesk(Part):
    """Answers the operator about his bank and his customers."""

    payouts: Payouts | None = None
    """Set where providers are paid."""

    def __init__(
        self, clock: Clock, database: Database, compute: Compute, customers: CustomersService
    ) -> None:
        """``customers`` judges anew whoever was credited, in the transaction that does it."""
        self._clock = clock
        self._database = database
        self._compute = compute
        self._customers = customers
        self.handlers = {
            ImportStatement: self._import,
            AssignMovement: self._assign,
            ListCustomers: self._list,
        }

    def _config(self) -> InvoiceConfig:
        found = self._customers.config.invoices
        if found is None:
            raise AtollError(
                Kind.PRECONDITION_FAILED,
                _OPERATION,
                "the operator's bank account is not set",
                hint="set bank.holder and bank.iban in the coordinator's atoll.toml",
            )
        return found

    # --- statements -------------------------------------------------------------------------

    async def _import(self, request: ImportStatement) -> Message:
        config = self._config()
        if len(request.data) > STATEMENT_BYTES_MAX:
            raise AtollError(
                Kind.TOO_LARGE,
                _OPERATION,
                f"the file is larger than {STATEMENT_BYTES_MAX >> 20} MiB",
                hint="export a shorter time",
            )
        owners = await self._owners()
        iban = config.account.iban
        file = await self._compute.run(_read, request.data, iban)
        expected = Expected(iban, {}, {}, {})
        if self.payouts is not None:
            expected = await self._database.read(
                partial(self.payouts.expected, file=file, iban=iban)
            )
        found = await self._compute.run(_judged, request.data, file, expected, owners)
        prices, now_ms = await self._customers.prices(), self._clock.now_ms()
        work = partial(
            self._take,
            found=found,
            iban=config.account.iban,
            prices=prices,
            now_ms=now_ms,
            dry_run=request.dry_run,
        )
        if request.dry_run:
            return await self._database.read(work)
        return await self._database.write(work)

    async def _owners(self) -> dict[bytes, str]:
        """Return all accounts with their owners' names."""
        found: dict[bytes, str] = {}
        after = b""
        while True:
            page = await self._database.read(
                partial(store.accounts, after=after, limit=ACCOUNTS_AT_ONCE)
            )
            found.update(page)
            if len(page) < ACCOUNTS_AT_ONCE:
                return found
            after = page[-1][0]

    def _take(
        self,
        connection: Connection,
        found: _File,
        iban: str,
        prices: Prices,
        now_ms: int,
        dry_run: bool,
    ) -> StatementTaken:
        """Write what a file says; or, as a trial, only tell."""
        if not dry_run:
            store.lock_bank(connection)
        told: list[MovementFacts] = []
        credited = known = 0
        accounts: dict[bytes, None] = {}
        fresh: list[Judged] = []
        for one in found.judgement.movements:
            if one.verdict is Verdict.REPEATED:
                told.append(_told(_row(one, found.sha256, now_ms), found.owners, new=False))
                continue
            before = store.movement(connection, one.movement.key)
            if before is not None and _stands(before, one):
                told.append(_told(before, found.owners, new=False))
                if before.verdict == Verdict.CREDIT.value:
                    known += before.amount_cents
                continue
            row = _row(one, found.sha256, now_ms)
            told.append(_told(row, found.owners, new=True))
            fresh.append(one)
            if one.verdict is Verdict.CREDIT:
                credited += row.amount_cents
                accounts[one.account] = None
            if not dry_run:
                store.put_movement(connection, row)
        if not dry_run:
            post_in(connection, _credits(found.judgement, fresh, iban), now_ms)
            if self.payouts is not None:
                self.payouts.take(connection, iban, found.judgement.movements)
            _bear_charges(connection, found.judgement, iban, now_ms)
            for account in accounts:
                settle_open(connection, account, now_ms)
                self._customers.judge_in(connection, account, prices, now_ms)
        waiting = sum(1 for one in fresh if _waits(one.verdict))
        told.sort(key=lambda one: not (one.new and one.verdict in _WAITING))
        return StatementTaken(
            statements=found.statements,
            movements=told[:STATEMENT_LISTED_MAX],
            credited_eur=eur(pico_of(credited)),
            known_eur=eur(pico_of(known)),
            charges_eur=eur(pico_of(found.judgement.charges_cents)),
            waiting=waiting,
            dry_run=dry_run,
        )

    # --- what waited for a person -----------------------------------------------------------

    async def _assign(self, request: AssignMovement) -> Message:
        bank = bank_account(self._config().account.iban)
        prices, now_ms = await self._customers.prices(), self._clock.now_ms()

        def write(connection: Connection) -> MovementFacts:
            store.lock_bank(connection)
            row = store.movement(connection, request.key)
            owner = store.owner_of(connection, request.account)
            if row is None or owner is None:
                what = "account" if row is not None else "movement"
                raise AtollError(
                    Kind.NOT_FOUND, "assign movement", f"there is no such {what}",
                    hint="`atoll bank accounts` lists customers and movements that wait",
                )  # fmt: skip
            owners = {request.account: owner}
            if row.verdict == Verdict.CREDIT.value and row.account == request.account:
                return _told(row, owners, new=False)
            if not row.waiting or row.verdict not in _ASSIGNABLE or row.amount_cents <= 0:
                raise AtollError(
                    Kind.CONFLICT,
                    "assign movement",
                    f"it is {row.verdict!r}: that is nobody's top-up to be given",
                )
            amount_pico = pico_of(row.amount_cents)
            customer = Account.of(AccountKind.CUSTOMER, request.account)
            postings = (Posting(bank, amount_pico), Posting(customer, -amount_pico))
            # The same key as by itself: if the customer is known later, nothing is done twice.
            entry = Entry(b"bank/" + row.key, "deposit", row.key, postings, row.booked)
            post_in(connection, [entry], now_ms)
            after = replace(
                row, verdict=Verdict.CREDIT.value, account=request.account, waiting=False,
                note="assigned by the operator",
            )  # fmt: skip
            store.put_movement(connection, after)
            settle_open(connection, request.account, now_ms)
            self._customers.judge_in(connection, request.account, prices, now_ms)
            return _told(after, owners, new=True)

        return MovementTaken(movement=await self._database.write(write))

    # --- customers --------------------------------------------------------------------------

    async def _list(self, request: ListCustomers) -> Message:
        limit = max(1, min(request.limit, CUSTOMERS_LISTED_MAX))

        def load(connection: Connection) -> CustomerList:
            page = store.accounts(connection, request.after, limit + 1)
            facts = []
            for account, owner in page[:limit]:
                one = store.customer(connection, account)
                balance = ledger_store.balance(
                    connection, Account.of(AccountKind.CUSTOMER, account)
                )
                facts.append(
                    CustomerFacts(
                        account=account,
                        owner=owner,
                        reference=reference_of(account),
                        balance_eur=eur(balance.amount_pico),
                        standing=one.standing.value,
                        until_ms=one.until_ms,
                        refused=one.refused,
                    )
                )
            rows = store.waiting(connection, WAITING_LISTED_MAX)
            waiting = [_told(row, {}, new=False) for row in rows]
            return CustomerList(customers=facts, more=len(page) > limit, waiting=waiting)

        return await self._database.read(load)


def _read(data: bytes, iban: str) -> StatementFile:
    """Read the statements of our account in a file. Blocks. Raises as ``read_statements``."""
    file = read_statements(data)
    ours = tuple(one for one in file.statements if one.iban == iban)
    if not ours:
        raise AtollError(
            Kind.BAD_REQUEST,
            _OPERATION,
            f"it is of the account {show_iban(file.statements[0].iban)}, not of ours",
            hint="export the right account, or correct bank.iban",
        )
    # Other accounts of the same export are none of ours: nothing of them is taken down.
    return replace(file, statements=ours)


def _judged(
    data: bytes, file: StatementFile, expected: Expected, owners: Mapping[bytes, str]
) -> _File:
    """Judge a file. Blocks."""
    customers = {reference_of(account): account for account in owners}
    if len(customers) != len(owners):
        raise AtollError(Kind.INTERNAL, _OPERATION, "two customers have one reference")
    judgement = judge(file, replace(expected, customers=customers))
    return _File(judgement, len(file.statements), hashlib.sha256(data).digest(), owners)


_QUIET = (Verdict.CREDIT, Verdict.PAID, Verdict.RETURNED, Verdict.REPEATED, Verdict.OTHER_DEBIT)
"""Nobody need decide: what left the account otherwise is the operator's own doing."""
_WAITING = frozenset(one.value for one in Verdict if one not in _QUIET)


def _waits(verdict: Verdict) -> bool:
    return verdict not in _QUIET


def _stands(before: MovementRow, one: Judged) -> bool:
    """Say whether what was decided of a movement earlier is kept.

    What a person decided, or what was credited, is; what waited may be clear by now, as when a
    statement was cut off and is imported whole.
    """
    return not before.waiting or one.verdict.value == before.verdict or _waits(one.verdict)


def _credits(judgement: Judgement, fresh: Sequence[Judged], iban: str) -> tuple[Entry, ...]:
    """Return the entries of what is credited now."""
    some = tuple(one for one in fresh if one.verdict is Verdict.CREDIT)
    return entries_of(replace(judgement, movements=some, charges=()), iban, {})


def _bear_charges(connection: Connection, judgement: Judgement, iban: str, now_ms: int) -> None:
    """Book what the bank kept as the operator's expense, once each.

    Where the ledger knows of less at the bank (what lay there before the first import is the
    operator's own), he pays it from that.
    """
    for entry in entries_of(replace(judgement, movements=()), iban, {}):
        if ledger_store.find(connection, entry.key) is not None:
            continue
        expense, bank = entry.postings
        if ledger_store.balance(connection, bank.account).amount_pico < expense.amount_pico:
            own = Posting(Account.of(AccountKind.OPERATOR), bank.amount_pico)
            entry = replace(entry, postings=(expense, own))
        post_in(connection, [entry], now_ms)


def _row(one: Judged, file: bytes, now_ms: int) -> MovementRow:
    movement = one.movement
    return MovementRow(
        key=movement.key,
        seen_ms=now_ms,
        booked=movement.booked,
        amount_cents=movement.amount_cents,
        verdict=one.verdict.value,
        account=one.account,
        # Names of the other side are not kept: a person finds them in his statement.
        note="" if one.verdict is Verdict.OTHER_DEBIT else one.note,
        certain=movement.certain,
        file=file,
        waiting=_waits(one.verdict),
    )


def _told(row: MovementRow, owners: Mapping[bytes, str], *, new: bool) -> MovementFacts:
    return MovementFacts(
        key=row.key,
        booked=row.booked,
        amount_eur=eur(pico_of(row.amount_cents)),
        verdict=row.verdict,
        account=row.account,
        owner=owners.get(row.account, ""),
        new=new,
        note=row.note,
        certain=row.certain,
    )
