"""The bank's side of payouts: files that order them, and what the bank says became of each."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.part import Part
from atoll.coordinator.payouts import orders, rules
from atoll.coordinator.payouts.model import FILE_PAYOUTS_MAX, FileRow, Order, OrderState
from atoll.coordinator.payouts.seal import Seal
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.payouts import (
    FILE_BYTES_MAX,
    ORDERS_SHOWN_MAX,
    BankWordsTaken,
    GetPayoutFile,
    GiveBackPayout,
    ListPayouts,
    PayoutFileWritten,
    PayoutList,
    PayoutTaken,
    TakeBankWords,
    WritePayoutFile,
)
from atoll.core.ports import Clock, Compute, Database
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.rules import changes
from atoll.economy.ledger.service import post_in
from atoll.economy.payments import xml
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.booking import bank_account, entries_of, entry_of_failure
from atoll.economy.payments.payouts.model import PayoutFile, Progress, State, Word
from atoll.economy.payments.payouts.order import (
    VERSIONS,
    batch_id_of,
    check,
    control_sum_cents,
    message_id_of,
    write,
)
from atoll.economy.payments.payouts.reconcile import read_report, reconcile, words_of
from atoll.economy.payments.statements.judge import Expected, Judgement, judge
from atoll.economy.payments.statements.model import Judged, StatementFile, Verdict
from atoll.economy.payments.statements.read import read_statements

log = logging.getLogger("atoll.coordinator.payouts")

REPORT, STATEMENT = "pain.002", "camt.053"
_OPERATION = "read what the bank says"
_FOREVER = 1 << 62


class PayoutBank(Part):
    """Answers the operator: files for the bank, and what it says."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        compute: Compute,
        seal: Seal,
        debtor: Callable[[], BankAccount | None],
        *,
        on_chain: bool,
    ) -> None:
        """``debtor``: the operator's account, None while he has named none.

        ``on_chain``: what the bank did not pay goes back over the chain, too.
        """
        self._clock = clock
        self._database = database
        self._compute = compute
        self._seal = seal
        self._debtor = debtor
        self._on_chain = on_chain
        self.handlers = {
            WritePayoutFile: self._write,
            GetPayoutFile: self._again,
            ListPayouts: self._list,
            TakeBankWords: self._take,
            GiveBackPayout: self._give_back,
        }

    # --- files ------------------------------------------------------------------------------

    async def _write(self, request: WritePayoutFile) -> Message:
        """Put what is ready into a file: durable before anybody has it, and to be had again."""
        debtor = rules.required(self._debtor())
        now_ms = self._clock.now_ms()
        version = request.version or VERSIONS[0]
        if version not in VERSIONS:
            raise _bad(f"{version!r} is not written", f"there are {' and '.join(VERSIONS)}")
        today = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%d")
        day = request.execution_date or today
        if day < today:
            raise _bad("the day of execution is over", "name today or a later day, as 2026-11-20")

        def keep(connection: Connection) -> tuple[FileRow, list[Order], int]:
            ready = orders.in_state(
                connection, OrderState.SET_ASIDE, FILE_PAYOUTS_MAX + 1, self._seal
            )
            # An operator who provides, too, is not paid from his account into his account.
            some = [one for one in ready if one.to.iban != debtor.iban][:FILE_PAYOUTS_MAX]
            if not some:
                raise AtollError(
                    Kind.NOT_FOUND,
                    "write a payout file",
                    "nothing is ready to be paid",
                    hint="`atoll payout list` shows what is on its way",
                )
            whole = rules.file_of(debtor, day, now_ms, some)
            check(whole)
            row = FileRow(
                number=orders.next_file(connection),
                execution_date=day,
                version=version,
                message=message_id_of(whole),
                batch=batch_id_of(whole),
                debtor=debtor,
                created_ms=now_ms,
            )
            orders.put_file(connection, row, self._seal)
            for one in some:
                filed = replace(one, file=row.number, progress=Progress(State.SENT))
                orders.move(connection, one, rules.moved(filed, OrderState.FILED, now_ms))
            count, _ = orders.sum_in_state(connection, OrderState.SET_ASIDE)
            return row, some, count

        row, some, more = await self._database.write(keep)
        log.info("payout file %d has %d payouts", row.number, len(some))
        return await self._written(row, some, more)

    async def _again(self, request: GetPayoutFile) -> Message:
        def load(connection: Connection) -> tuple[FileRow, list[Order]]:
            row = orders.file(connection, request.number, self._seal)
            if row is None:
                raise AtollError(
                    Kind.NOT_FOUND, "write a payout file", f"there is no file {request.number}"
                )
            return row, orders.of_file(connection, row.number, self._seal)

        row, some = await self._database.read(load)
        return await self._written(row, some, 0)

    async def _written(self, row: FileRow, some: Sequence[Order], more: int) -> PayoutFileWritten:
        whole = _whole(row, some)
        data = await self._compute.run(partial(write, whole, row.version))
        return PayoutFileWritten(
            number=row.number,
            data=data,
            payouts=len(some),
            amount_cents=control_sum_cents(whole.payouts),
            execution_date=row.execution_date,
            more=more,
        )

    async def _list(self, request: ListPayouts) -> Message:
        before_ms = request.before_ms or _FOREVER
        listed = await self._database.read(
            partial(orders.recent, before_ms=before_ms, limit=ORDERS_SHOWN_MAX, seal=self._seal)
        )
        return PayoutList(payouts=[rules.facts_of(one) for one in listed])

    async def _give_back(self, request: GiveBackPayout) -> Message:
        """A person has looked at what contradicts itself: it was not paid."""
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> PayoutTaken:
            order = orders.one(connection, request.payout, self._seal)
            if order is None:
                raise _no("there is no such payout", Kind.NOT_FOUND)
            if order.state is not OrderState.FILED or not (
                order.progress is not None and order.progress.conflict
            ):
                raise _no("the bank says nothing of it that contradicts itself", Kind.CONFLICT)
            # Raises where the ledger says that it left the bank and is not there again.
            after = self._fail(connection, order, now_ms)
            orders.move(connection, order, rules.moved(after, after.state, now_ms))
            return PayoutTaken(state=after.state.value)

        return await self._database.write(write)

    # --- what the bank says -----------------------------------------------------------------

    async def _take(self, request: TakeBankWords) -> Message:
        """Take a report or a statement over; what it says twice, or again, changes nothing."""
        if len(request.data) > FILE_BYTES_MAX:
            raise AtollError(
                Kind.TOO_LARGE,
                _OPERATION,
                f"the file is larger than {FILE_BYTES_MAX >> 20} MiB",
                hint="export a shorter time",
            )
        message, original = await self._compute.run(_kind_of, request.data)
        if message.startswith("pain.002."):
            return await self._database.write(
                partial(self._report, data=request.data, original=original)
            )
        file = await self._compute.run(read_statements, request.data)
        return await self._database.write(partial(self._statements, file=file))

    def _report(self, connection: Connection, data: bytes, original: str) -> BankWordsTaken:
        """Take a pain.002 over."""
        row = orders.file_of_message(connection, original, self._seal)
        some = orders.of_file(connection, row.number, self._seal) if row is not None else []
        words = read_report(data, [_whole(row, some)] if row is not None else [])
        return self._hear(connection, REPORT, some, words, ())

    def _statements(self, connection: Connection, file: StatementFile) -> BankWordsTaken:
        """Take a camt.053 over: payouts alone, customers' transfers are another command's."""
        judged: list[tuple[str, Judged]] = []
        for iban in sorted({statement.iban for statement in file.statements}):
            ours = replace(file, statements=tuple(s for s in file.statements if s.iban == iban))
            found = judge(ours, self.expected(connection, ours, iban))
            judged += [(iban, one) for one in found.movements if one.payouts]
        if not judged and not self._ours(file):
            raise AtollError(
                Kind.NOT_FOUND,
                _OPERATION,
                "it is of no account that payouts went from",
                hint="export the right account, or correct bank.iban",
            )
        return self._believe(connection, judged)

    def expected(self, connection: Connection, file: StatementFile, iban: str) -> Expected:
        """Return what a statement of one of our accounts may say of payouts; no customers."""
        movements = [one for statement in file.statements for one in statement.movements]
        names = sorted({one.end_to_end for one in movements if one.end_to_end})
        batches = sorted({one.payment_information for one in movements if one.payment_information})
        rows = orders.files_of_batches(connection, batches, self._seal)
        files = {row.number: row for row in rows}
        payouts: dict[str, tuple[bytes, int]] = {}
        for one in orders.by_end_to_end(connection, names, self._seal):
            if one.file not in files:
                row = orders.file(connection, one.file, self._seal)
                if row is None:
                    continue
                files[one.file] = row
            if files[one.file].debtor.iban == iban:
                payouts[one.end_to_end] = (one.payout, one.amount_cents)
        whole = {
            row.batch: tuple(
                (one.payout, one.amount_cents)
                for one in orders.of_file(connection, row.number, self._seal)
            )
            for row in files.values()
            if row.debtor.iban == iban and row.batch in batches
        }
        return Expected(iban, {}, payouts, whole)

    def take(self, connection: Connection, iban: str, judged: Sequence[Judged]) -> None:
        """Take over what a statement of ours said of payouts, within the caller's transaction."""
        self._believe(connection, [(iban, one) for one in judged if one.payouts])

    def _believe(
        self, connection: Connection, judged: Sequence[tuple[str, Judged]]
    ) -> BankWordsTaken:
        named = dict.fromkeys(payout for _, one in judged for payout in one.payouts)
        found = [orders.one(connection, payout, self._seal) for payout in named]
        some = [one for one in found if one is not None]
        return self._hear(connection, STATEMENT, some, words_of(one for _, one in judged), judged)

    def _ours(self, file: StatementFile) -> bool:
        debtor = self._debtor()
        return debtor is not None and any(one.iban == debtor.iban for one in file.statements)

    def _hear(
        self,
        connection: Connection,
        kind: str,
        some: Sequence[Order],
        words: Sequence[Word],
        judged: Sequence[tuple[str, Judged]],
    ) -> BankWordsTaken:
        """Write what the bank's words change: progress, what was booked, what is given back."""
        now_ms = self._clock.now_ms()
        before = {one.payout: one.progress for one in some if one.progress is not None}
        after = reconcile(before, words)
        changed: list[tuple[Order, Order]] = []
        for order in some:
            said = after.get(order.payout)
            if said is not None and said != order.progress:
                changed.append((order, rules.heard(order, said, now_ms)))
        _book(connection, judged, {one.payout: one.amount_cents for one in some}, now_ms)
        told = []
        for order, heard in changed:
            if rules.failed(heard):
                heard = self._fail(connection, heard, now_ms)
            if not orders.move(connection, order, heard):
                raise AtollError(
                    Kind.CONFLICT, _OPERATION, "a payout changed meanwhile", hint="do it again"
                )
            told.append(rules.facts_of(heard))
        return BankWordsTaken(kind=kind, words=len(words), changed=told)

    def _fail(self, connection: Connection, order: Order, now_ms: int) -> Order:
        """Give a payout back to its provider, and pay him nothing until he has looked at it."""
        post_in(connection, [entry_of_failure(rules.payout_of(order), order.account)], now_ms)
        terms = orders.terms_of(connection, order.node, self._seal.open)
        if terms.bank is not None and terms.bank.iban == order.to.iban:
            reason = order.progress.reason if order.progress is not None else ""
            problem = f"the bank did not pay: {reason or 'it gave no reason'}; set it again"
            blocked = replace(terms, problem=problem)
            orders.put_terms(connection, blocked, self._seal.close(order.node, terms.bank))
        log.warning("payout %s failed and is given back", order.end_to_end)
        return replace(order, state=OrderState.FAILED if self._on_chain else OrderState.GIVEN_BACK)


def _book(
    connection: Connection,
    judged: Sequence[tuple[str, Judged]],
    payouts_cents: Mapping[bytes, int],
    now_ms: int,
) -> None:
    """Book payouts that left the account or came back, once each.

    Where the ledger knows of less at the bank (what lay there before the first import is the
    operator's own), he pays from that. What contradicts an earlier word is not booked: it waits
    for a person, and the payout says so.
    """
    for iban, one in judged:
        if one.verdict not in (Verdict.PAID, Verdict.RETURNED):
            continue
        (entry,) = entries_of(Judgement((one,), ()), iban, payouts_cents)
        if ledger_store.find(connection, entry.key) is not None:
            continue
        bank = bank_account(iban)
        falls = changes(entry)
        missing = {
            account: -change - ledger_store.balance(connection, account).amount_pico
            for account, change in falls.items()
            if change < 0
        }
        if any(pico > 0 for account, pico in missing.items() if account != bank):
            log.warning("movement %s contradicts what was booked", one.movement.key.hex())
            continue
        entries = [entry]
        missing_pico = missing.get(bank, 0)
        if missing_pico > 0:
            own = (
                Posting(bank, missing_pico),
                Posting(Account.of(AccountKind.OPERATOR), -missing_pico),
            )
            key = b"bank-own/" + one.movement.key
            entries = [Entry(key, "own funds", one.movement.key, own, entry.memo), entry]
        post_in(connection, entries, now_ms)


def _whole(row: FileRow, some: Sequence[Order]) -> PayoutFile:
    return rules.file_of(row.debtor, row.execution_date, row.created_ms, some)


def _kind_of(data: bytes) -> tuple[str, str]:
    """Return which message a file is, and which of ours a report is about. Blocks."""
    root = xml.read(data, _OPERATION)
    report = xml.all_at(root, "CstmrPmtStsRpt")
    original = xml.text_at(report[0], "OrgnlGrpInfAndSts/OrgnlMsgId") if report else ""
    return xml.message_of(root), original


def _no(message: str, kind: Kind) -> AtollError:
    return AtollError(kind, "give a payout back", message, hint="`atoll payout list` shows them")


def _bad(message: str, hint: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "write a payout file", message, hint=hint)
