"""The ledger on both databases, beside a model that is nothing but a list of postings."""

import random
from collections import defaultdict

import pytest
from sqlalchemy import text
from tests.fixtures.epochs import PARAMETERS, Life, payer_id

from atoll.core.errors import AtollError, Kind
from atoll.economy.ledger import rules
from atoll.economy.ledger.model import (
    ENTRY_POSTINGS_MAX,
    NATURES,
    Account,
    AccountKind,
    Entry,
    Posting,
)
from atoll.economy.ledger.service import LedgerService
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.model import BUCKETS, FIRST
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase

EUR = 10**12
BANK = Account.of(AccountKind.BANK, b"main")
CUSTOMER = Account.of(AccountKind.CUSTOMER, b"c" * 16)
PROVIDER = Account.of(AccountKind.PROVIDER, b"p" * 20)
EXPENSE = Account.of(AccountKind.EXPENSE)


def entry(key: str, *moves: tuple[Account, int], memo: str = "") -> Entry:
    """Debits positive, credits negative."""
    return Entry(key.encode(), "test", b"evidence", tuple(Posting(*move) for move in moves), memo)


def deposit(key: str, amount: int) -> Entry:
    return entry(key, (BANK, amount), (CUSTOMER, -amount))


@pytest.fixture
def ledger(database: SqlDatabase) -> LedgerService:
    return LedgerService(SystemClock(), database)


async def kind_of(awaitable: object) -> Kind:
    with pytest.raises(AtollError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value.kind


async def test_money_that_comes_in_is_owed_to_the_customer(ledger: LedgerService) -> None:
    (posted,) = await ledger.post(deposit("a", 5 * EUR))
    assert (posted.number, posted.new) == (1, True)
    assert (await ledger.balance(BANK)).amount_pico == 5 * EUR
    assert (await ledger.balance(CUSTOMER)).amount_pico == 5 * EUR
    assert await ledger.sums() == {"bank": 5 * EUR, "customer": 5 * EUR}
    assert await ledger.check() == 1


async def test_an_entry_happens_once_whatever_is_replayed(ledger: LedgerService) -> None:
    await ledger.post(deposit("a", EUR))
    for _ in range(2):
        (again,) = await ledger.post(deposit("a", EUR))
        assert (again.number, again.new) == (1, False)
    same, new = await ledger.post(deposit("a", EUR), deposit("b", EUR))
    assert (same.new, new.new, new.number) == (False, True, 2)
    assert (await ledger.balance(BANK)).amount_pico == 2 * EUR
    assert await kind_of(ledger.post(deposit("a", 2 * EUR))) is Kind.REPLAYED
    twice = await ledger.post(deposit("c", EUR), deposit("c", EUR))
    assert [one.new for one in twice] == [True, False]
    assert (await ledger.balance(BANK)).amount_pico == 3 * EUR


async def test_nobody_spends_what_he_has_not(ledger: LedgerService) -> None:
    await ledger.post(deposit("a", EUR))
    spend = entry("b", (CUSTOMER, EUR + 1), (PROVIDER, -EUR - 1))
    assert await kind_of(ledger.post(spend)) is Kind.PRECONDITION_FAILED
    assert (await ledger.balance(PROVIDER)).amount_pico == 0
    await ledger.post(deposit("c", 1), spend)
    assert (await ledger.balance(PROVIDER)).amount_pico == EUR + 1
    assert (await ledger.balance(CUSTOMER)).amount_pico == 0


async def test_all_entries_of_a_call_or_none(ledger: LedgerService) -> None:
    overdrawn = entry("b", (CUSTOMER, 2 * EUR), (PROVIDER, -2 * EUR))
    assert await kind_of(ledger.post(deposit("a", EUR), overdrawn)) is Kind.PRECONDITION_FAILED
    assert await ledger.sums() == {}
    assert await ledger.check() == 0
    await ledger.post(deposit("a", 2 * EUR), overdrawn)
    assert (await ledger.balance(CUSTOMER)).amount_pico == 0


async def test_only_the_balance_after_the_whole_entry_counts(ledger: LedgerService) -> None:
    await ledger.post(deposit("a", EUR))
    through = entry(
        "b", (CUSTOMER, 3 * EUR), (CUSTOMER, -3 * EUR), (CUSTOMER, EUR), (PROVIDER, -EUR)
    )
    await ledger.post(through)
    assert (await ledger.balance(CUSTOMER)).amount_pico == 0
    assert (await ledger.balance(CUSTOMER)).postings == 4


@pytest.mark.parametrize(
    "wrong",
    [
        entry("a", (BANK, 1)),
        entry("a", (BANK, 1), (CUSTOMER, -2)),
        entry("a", (BANK, 1), (CUSTOMER, -1), (EXPENSE, 0)),
        entry("", (BANK, 1), (CUSTOMER, -1)),
        entry("k" * 65, (BANK, 1), (CUSTOMER, -1)),
        entry("a", (BANK, 1), (Account("piggy"), -1)),
        entry("a", (BANK, 10**31), (CUSTOMER, -(10**31))),
        entry("a", (BANK, 1), (Account("customer", b"x" * 65), -1)),
        entry("a", (BANK, 1), (CUSTOMER, -1), memo="m" * 201),
        Entry(b"a", "test", b"", (Posting(BANK, 1), Posting(CUSTOMER, -1))),
        entry("a", *[(BANK, 1), (CUSTOMER, -1)] * (ENTRY_POSTINGS_MAX // 2 + 1)),
    ],
    ids=range(11),
)
def test_what_is_no_entry_is_refused(wrong: Entry) -> None:
    with pytest.raises(AtollError) as caught:
        rules.check(wrong)
    assert caught.value.kind is Kind.BAD_REQUEST


async def test_a_statement_is_read_page_by_page(ledger: LedgerService) -> None:
    for number in range(5):
        await ledger.post(deposit(f"in {number}", EUR + number))
    await ledger.post(entry("out", (CUSTOMER, EUR), (PROVIDER, -EUR), memo="spent"))
    first = await ledger.statement(CUSTOMER, limit=4)
    rest = await ledger.statement(CUSTOMER, after=first.lines[-1].number, limit=4)
    assert (first.more, rest.more) == (True, False)
    lines = [*first.lines, *rest.lines]
    assert [line.number for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.amount_pico - EUR for line in lines[:5]] == [0, 1, 2, 3, 4]
    assert (lines[5].amount_pico, lines[5].memo) == (-EUR, "spent")
    assert lines[5].balance_pico == (await ledger.balance(CUSTOMER)).amount_pico == 4 * EUR + 10
    assert (await ledger.statement(BANK)).lines[0].amount_pico == EUR
    assert (await ledger.statement(EXPENSE)).lines == ()


async def test_amounts_of_any_size_are_exact(ledger: LedgerService) -> None:
    """Far beyond 64 bits of picos, and one pico beside it."""
    much = 8 * 10**24 + 7
    await ledger.post(deposit("a", much))
    await ledger.post(deposit("b", 1))
    await ledger.post(entry("c", (CUSTOMER, 9), (PROVIDER, -9)))
    assert (await ledger.balance(BANK)).amount_pico == much + 1
    assert (await ledger.balance(CUSTOMER)).amount_pico == much - 8
    assert (await ledger.sums())["bank"] == much + 1
    assert await ledger.check() == 3


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE ledger_posting SET amount_pico = amount_pico + 1 WHERE entry = 2", "entry 2"),
        ("UPDATE ledger_entry SET evidence = key WHERE number = 1", "entry 1"),
        ("DELETE FROM ledger_posting WHERE entry = 3", "entry 3"),
        ("UPDATE ledger_balance SET balance_pico = 1 WHERE kind = 'bank'", "differ"),
        ("DELETE FROM ledger_entry WHERE number = 3", "gone"),
    ],
)
async def test_what_is_changed_behind_its_back_is_found(
    ledger: LedgerService, database: SqlDatabase, sql: str, what: str
) -> None:
    for key in "abc":
        await ledger.post(deposit(key, EUR))
    assert await ledger.check() == 3
    await database.write(lambda connection: connection.execute(text(sql)).rowcount)
    with pytest.raises(AtollError, match=what) as caught:
        await ledger.check()
    assert caught.value.kind is Kind.CORRUPT


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_entries_are_what_a_list_of_postings_says(
    ledger: LedgerService, seed: int
) -> None:
    rng = random.Random(seed)
    accounts = [Account.of(kind, bytes((n,))) for kind in AccountKind for n in range(2)]
    debits: defaultdict[Account, int] = defaultdict(int)
    done: dict[bytes, Entry] = {}
    refused = replayed = 0
    for number in range(150):
        chosen = rng.sample(accounts, rng.randint(2, 4))
        amounts = [rng.choice((-1, 1)) * rng.randrange(1, 10**15) for _ in chosen[1:]]
        if not sum(amounts):
            continue
        moves = zip(chosen, [*amounts, -sum(amounts)], strict=True)
        one = entry(f"k{number}", *moves)
        if done and rng.random() < 0.1:
            one = rng.choice(list(done.values()))
        after = dict(debits)
        for posting in one.postings:
            after[posting.account] = after.get(posting.account, 0) + posting.amount_pico
        natures = {account: NATURES[AccountKind(account.kind)] for account in after}
        overdrawn = any(
            (amount if natures[account].asset else -amount) < 0
            and not natures[account].may_be_negative
            for account, amount in after.items()
        )
        if one.key in done:
            (posted,) = await ledger.post(one)
            assert not posted.new
            replayed += 1
        elif overdrawn:
            assert await kind_of(ledger.post(one)) is Kind.PRECONDITION_FAILED
            refused += 1
        else:
            (posted,) = await ledger.post(one)
            assert posted.new
            debits.update(after)
            done[one.key] = one
    assert min(refused, replayed, len(done)) > 5, "the test does what it is for"
    for account in accounts:
        found = await ledger.balance(account)
        assert found.amount_pico == rules.in_own_sense(account, debits[account])
        lines = (await ledger.statement(account, limit=1_000)).lines
        assert sum(line.amount_pico for line in lines) == found.amount_pico
        assert len(lines) == found.postings
    assert await ledger.check() == len(done)


@pytest.mark.parametrize("postings_max", [ENTRY_POSTINGS_MAX, 7])
async def test_epochs_are_booked_as_they_were_computed(
    ledger: LedgerService, postings_max: int
) -> None:
    life = Life(11, nodes=8, payers=5)
    payers = {payer_id(number): b"customer %d" % number for number in range(5)}
    totals = FIRST
    stake = 10**6 * EUR
    reserve = Account.of(AccountKind.RESERVE)
    start = entry(
        "start",
        (BANK, 6 * stake),
        (reserve, -stake),
        *((Account.of(AccountKind.CUSTOMER, name), -stake) for name in payers.values()),
    )
    await ledger.post(start)
    entries = 1
    for _ in range(6):
        one = life.next()
        result = compute(totals, one, life.tariff, PARAMETERS)
        credited = {terms.node: payers[payer_id(0)] for terms in one.nodes}
        booked = rules.epoch_entries(
            totals, result, b"doc", payers, credited, postings_max=postings_max
        )
        entries += len(booked)
        await ledger.post(*booked)
        await ledger.post(*booked)
        totals = result.totals
    assert await ledger.check() == entries
    sums = await ledger.sums()
    assert sums["provider"] == sum(one.released_pico for one in totals.accounts)
    assert sums["held"] == sum(one.held_pico for one in totals.nodes)
    assert sums["remainder"] == sum(totals.carried) // 10_000
    assert sums.get("clearing", 0) == 0
    for place, name in enumerate(BUCKETS):
        expected = totals.buckets_pico[place] if place else totals.insurance_pico
        account = Account.of(AccountKind.BUCKET, name.encode())
        assert (await ledger.balance(account)).amount_pico == expected
    held = {one.node: one.held_pico for one in totals.nodes}
    for balance in await ledger.balances("held"):
        assert balance.amount_pico == held.get(balance.account.owner, 0)


def test_an_epoch_of_somebody_unknown_is_not_booked() -> None:
    life = Life(11, nodes=8, payers=5)
    result = compute(FIRST, life.next(), life.tariff, PARAMETERS)
    with pytest.raises(AtollError, match="no name for a customer"):
        rules.epoch_entries(FIRST, result, b"doc", {}, {})
