"""Statements of a bank: each transfer credits its customer once; what is unclear waits."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.bank import CUSTOMER_IBAN, OURS, Row, Sheet, Tx, camt
from tests.unit.coordinator.customers.world import (
    ANNA,
    BEN,
    COORDINATOR,
    EUR,
    GATEWAY,
    World,
    statement,
    transfer,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, prove_request
from atoll.core.messages import encode
from atoll.core.messages.customers import (
    STATEMENT_BYTES_MAX,
    AssignMovement,
    CustomerList,
    ImportStatement,
    ListCustomers,
    MovementTaken,
)
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.payments.reference import reference_of, show_reference

CENT = EUR // 100


async def refused(world: World, data: bytes) -> Kind | None:
    try:
        await world.bank_says(data)
    except AtollError as error:
        return error.kind
    return None


async def listed(world: World) -> CustomerList:
    found: CustomerList = await world.ask(ListCustomers(), CustomerList)
    return found


async def test_the_same_statement_twice_credits_once(world: World) -> None:
    data = statement(transfer(ANNA, 1_000, "X1"), transfer(BEN, 250, "X2"))
    first = await world.bank_says(data)
    assert (first.credited_eur, first.known_eur, first.waiting) == ("12.50", "0.00", 0)
    assert [(one.owner, one.new) for one in first.movements] == [("Anna", True), ("Ben", True)]
    again = await world.bank_says(data)
    assert (again.credited_eur, again.known_eur) == ("0.00", "12.50")
    assert not any(one.new for one in again.movements)
    older = camt(Sheet((transfer(BEN, 250, "X2"), transfer(ANNA, 99, "X3")), "S-2"), version="02")
    other = await world.bank_says(older)
    assert (other.credited_eur, other.known_eur) == ("0.99", "2.50"), "another export, another form"
    assert await world.balance(ANNA) == 1_099 * CENT
    assert await world.balance(BEN) == 250 * CENT
    bank = await world.ledger.balance(Account.of(AccountKind.BANK, OURS.encode()))
    assert bank.amount_pico == 1_349 * CENT
    assert await world.ledger.check()


async def test_a_trial_changes_nothing(world: World) -> None:
    data = statement(transfer(ANNA, 1_000), Row((Tx(5, ("hello",)),), "X9"))
    tried = await world.bank_says(data, dry_run=True)
    assert (tried.credited_eur, tried.waiting, tried.dry_run) == ("10.00", 1, True)
    assert await world.balance(ANNA) == 0
    assert (await listed(world)).waiting == []
    assert (await world.bank_says(data)).credited_eur == "10.00"


async def test_what_names_nobody_waits_for_the_operator(world: World) -> None:
    await world.bank_says(statement(Row((Tx(700, ("thanks, Ben",)),), "X1")))
    (waits,) = (await listed(world)).waiting
    assert (waits.verdict, waits.amount_eur) == ("unknown", "7.00")
    asked = AssignMovement(key=waits.key, account=BEN)
    for _ in range(2):
        taken = await world.ask(asked, MovementTaken)
        assert taken.movement.owner == "Ben"
    assert await world.balance(BEN) == 700 * CENT, "once"
    assert (await listed(world)).waiting == []
    with pytest.raises(AtollError) as caught:
        await world.ask(AssignMovement(key=waits.key, account=ANNA), MovementTaken)
    assert caught.value.kind is Kind.CONFLICT
    again = await world.bank_says(statement(Row((Tx(700, ("thanks, Ben",)),), "X1")))
    assert again.known_eur == "7.00"
    with pytest.raises(AtollError) as caught:
        await world.ask(AssignMovement(key=b"k" * 32, account=ANNA), MovementTaken)
    assert caught.value.kind is Kind.NOT_FOUND


async def test_what_was_taken_back_is_nobodys_top_up(world: World) -> None:
    row = Row((Tx(500, structured=reference_of(ANNA)),), "X1", debit=True, reversal=True)
    await world.bank_says(statement(row))
    (waits,) = (await listed(world)).waiting
    assert waits.verdict == "taken_back"
    with pytest.raises(AtollError) as caught:
        await world.ask(AssignMovement(key=waits.key, account=ANNA), MovementTaken)
    assert caught.value.kind is Kind.CONFLICT


async def test_a_statement_that_does_not_add_up_credits_nobody_until_a_whole_one_comes(
    world: World,
) -> None:
    row = transfer(ANNA, 1_000)
    cut = await world.bank_says(statement(row, miss=5))
    assert (cut.credited_eur, cut.waiting) == ("0.00", 1)
    assert await world.balance(ANNA) == 0
    whole = await world.bank_says(statement(row))
    assert whole.credited_eur == "10.00"
    assert (await listed(world)).waiting == []


async def test_charges_are_the_operators_once(world: World) -> None:
    transfers = (Tx(700, structured=reference_of(ANNA)), Tx(1, structured=reference_of(BEN)))
    row = Row(transfers, "X1", kept=25)
    for _ in range(2):
        taken = await world.bank_says(statement(row))
        assert taken.charges_eur == "0.25"
    assert await world.balance(ANNA) == 700 * CENT, "what he sent is his"
    expense = await world.ledger.balance(Account.of(AccountKind.EXPENSE, b"bank"))
    assert expense.amount_pico == 25 * CENT
    assert await world.ledger.check()


async def test_files_that_are_none_are_refused_and_change_nothing(world: World) -> None:
    good = statement(transfer(ANNA, 1_000))
    foreign = statement(transfer(ANNA, 1_000), iban=CUSTOMER_IBAN)
    pain = good.replace(b"camt.053", b"pain.002")
    for data in (b"", b"\0" * 100, b"<html></html>", good[: len(good) // 2], foreign, pain):
        assert await refused(world, data) is Kind.BAD_REQUEST
    assert await refused(world, b"<" * (STATEMENT_BYTES_MAX + 1)) is Kind.TOO_LARGE
    assert await world.balance(ANNA) == 0
    assert (await listed(world)).waiting == []
    both = camt(Sheet((transfer(ANNA, 300),)), Sheet((transfer(BEN, 9),), "S-9", CUSTOMER_IBAN))
    assert (await world.bank_says(both)).credited_eur == "3.00", "ours of an export of several"
    assert await world.balance(BEN) == 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 4_000), byte=st.integers(0, 255))
async def test_a_damaged_file_credits_at_most_what_the_whole_one_does(
    world: World, cut: int, byte: int
) -> None:
    good = statement(transfer(ANNA, 1_000, "X1"), transfer(BEN, 1, "X2"))
    place = cut % len(good)
    damaged = good[:place] + bytes((byte,)) + good[place + 1 :]
    before = await world.balance(ANNA)
    kind = await refused(world, damaged)
    assert kind in (None, Kind.BAD_REQUEST, Kind.TOO_LARGE)
    after = await world.balance(ANNA)
    assert after >= before
    assert await world.ledger.check() is not None


async def test_customers_are_listed_with_what_they_write_on_transfers(world: World) -> None:
    await world.bank_says(statement(transfer(ANNA, 1_000)))
    anna, ben = (await listed(world)).customers
    assert (anna.owner, anna.balance_eur, anna.reference) == (
        "Anna", "10.00", reference_of(ANNA),
    )  # fmt: skip
    assert ben.account == BEN
    free = show_reference(ben.reference).lower()
    taken = await world.bank_says(statement(Row((Tx(1, (free,)),), "X7")))
    assert taken.movements[0].owner == "Ben"
    page: CustomerList = await world.ask(ListCustomers(limit=1), CustomerList)
    assert (len(page.customers), page.more) == (1, True)


async def ask_as(world: World, identity: Identity, message: object) -> None:
    body = encode(message)  # type: ignore[arg-type]
    now_ms = world.clock.now_ms()
    proof = prove_request(identity, "POST", "/v1/control", body, now_ms).to_header()
    await world.coordinator.ask_signed("/v1/control", body, proof)


async def test_only_the_operator_may_import_not_even_a_trusted_gateway(world: World) -> None:
    from dataclasses import replace

    data = ImportStatement(data=statement(transfer(ANNA, 100)))
    coordinator = world.coordinator
    coordinator._config = replace(coordinator._config, gateway_keys=frozenset({GATEWAY.public_key}))
    for request in (data, ListCustomers(), AssignMovement(key=b"k", account=ANNA)):
        with pytest.raises(AtollError) as caught:
            await ask_as(world, GATEWAY, request)
        assert caught.value.kind is Kind.FORBIDDEN
    assert await world.balance(ANNA) == 0
    await ask_as(world, COORDINATOR, data)
    assert await world.balance(ANNA) == EUR
