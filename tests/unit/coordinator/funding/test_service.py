"""Credits, and the way of a customer's money, on both databases."""

import asyncio
from functools import partial
from typing import Any

import pytest

from atoll.coordinator.funding import follow, rules, store, transitions
from atoll.coordinator.funding.model import Act, EpochNeeds, MoveState, PotState
from atoll.coordinator.funding.rules import Places, Told
from atoll.coordinator.funding.service import FundingService
from atoll.core.errors import AtollError, Kind
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import LedgerService
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase

MICRO = 10**6
OWNER, SECRET = b"o" * 20, b"s" * 32
CUSTOMER = b"customer"
BANK = Account.of(AccountKind.BANK, b"DE00")
PAID = 9 * MICRO + 5
ADDRESSES = {"Escrow": b"e" * 20, "Treasury": b"t" * 20, "EpochDistributor": b"d" * 20}
PLACES = Places(OWNER, ADDRESSES)


@pytest.fixture
def funding(database: SqlDatabase) -> FundingService:
    return FundingService(SystemClock(), database)


async def credit(funding: FundingService, amount: int = PAID, key: bytes = b"k") -> bool:
    posted = await funding.credit(
        CUSTOMER, amount, key=key, kind="deposit", evidence=b"e", source=BANK
    )
    return posted.new


async def test_a_credit_counts_once_and_at_once(
    funding: FundingService, database: SqlDatabase
) -> None:
    assert await credit(funding)
    assert not await credit(funding), "the same again"
    with pytest.raises(AtollError) as error:
        await credit(funding, PAID + 1)
    assert error.value.kind is Kind.REPLAYED
    ledger = LedgerService(SystemClock(), database)
    for account in (BANK, Account.of(AccountKind.CUSTOMER, CUSTOMER)):
        assert (await ledger.balance(account)).amount_pico == PAID


@pytest.mark.parametrize(("customer", "amount"), [(b"", 1), (b"c" * 65, 1), (b"c", 0), (b"c", -1)])
async def test_no_credit_for_nobody_or_of_nothing(
    funding: FundingService, customer: bytes, amount: int
) -> None:
    with pytest.raises(AtollError) as error:
        await funding.credit(customer, amount, key=b"k", kind="deposit", evidence=b"e")
    assert error.value.kind is Kind.BAD_REQUEST


async def test_without_a_chain_there_is_the_ledger_alone(funding: FundingService) -> None:
    assert not funding.steps
    assert not await funding.funded(1)
    for question in (funding.reconciliation(), funding.escrow_key(CUSTOMER)):
        with pytest.raises(AtollError) as error:
            await question
        assert error.value.kind is Kind.CONFIG


async def charge(database: SqlDatabase, epoch: int, amount: int) -> None:
    owner = Account.of(AccountKind.CUSTOMER, CUSTOMER)
    clearing = Account.of(AccountKind.CLEARING)
    postings = (Posting(owner, amount), Posting(clearing, -amount))
    entry = Entry(b"epoch/%d/0" % epoch, "epoch", b"e", postings)
    await LedgerService(SystemClock(), database).post(entry)


async def test_from_a_credit_to_a_funded_epoch(
    funding: FundingService, database: SqlDatabase
) -> None:
    write, read = database.write, database.read
    await credit(funding)
    await charge(database, 1, 4 * MICRO + 1)
    at_once = [write(partial(follow.follow_ledger, owner=OWNER, secret=SECRET)) for _ in range(3)]
    assert sorted(await asyncio.gather(*at_once)) == [0, 0, 2], "each entry is followed once"
    begun = [write(transitions.begin_due) for _ in range(3)]
    assert sorted(await asyncio.gather(*begun)) == [0, 0, 1]
    assert await read(transitions.may_open) is False, "the epoch's document is not there"
    needs = EpochNeeds(1, 3, 1, take_pico=0, top_up_pico=MICRO, insured_pico=0)
    assert await write(partial(follow.follow_document, needs=needs))
    assert not await write(partial(follow.follow_document, needs=needs))
    draw = partial(transitions.draw, cap_micro=100)
    assert await write(draw) == (False, 1), "the deposit is on its way"
    deposit = (await read(partial(store.open_moves, limit=9)))[0]
    assert (deposit.act, deposit.amount_micro) == (Act.DEPOSIT, 9)
    assert await write(partial(transitions.finish, serial=deposit.serial))
    assert not await write(partial(transitions.finish, serial=deposit.serial))
    assert await write(draw) == (True, 0)
    assert await write(draw) == (False, 0), "one pot at a time"
    drawing = (await read(partial(store.open_moves, limit=9)))[0]
    assert (drawing.act, drawing.body.sums_micro) == (Act.DRAW, [4])
    assert not await write(partial(transitions.drawn, epoch=1))
    await write(partial(transitions.finish, serial=drawing.serial))
    assert await write(partial(transitions.drawn, epoch=1))
    release = partial(transitions.want_release, epoch=1, take_bps=1_200, there_micro=0)
    assert await write(release)
    assert not await write(release)
    wanted = (await read(partial(store.open_moves, limit=9)))[0]
    assert (wanted.act, wanted.amount_micro) == (Act.RELEASE, 0)
    await write(partial(transitions.finish, serial=wanted.serial))
    assert await write(partial(transitions.released, epoch=1))
    assert not await funding.funded(1)
    await write(partial(transitions.note_funded, funded_micro=4))
    assert await funding.funded(1)


async def test_a_draw_that_never_happens_is_drawn_later(
    funding: FundingService, database: SqlDatabase
) -> None:
    write, read = database.write, database.read
    await credit(funding)
    await charge(database, 1, 4 * MICRO)
    await write(partial(follow.follow_ledger, owner=OWNER, secret=SECRET))
    await write(transitions.begin_due)
    await write(partial(transitions.finish, serial=1))
    await write(partial(follow.follow_document, needs=EpochNeeds(1, 4, 0, 0, 0, 0)))
    await write(partial(transitions.draw, cap_micro=100))
    move = (await read(partial(store.open_moves, limit=9)))[0]
    assert await write(partial(transitions.drop, move=move))
    assert not await write(partial(transitions.drop, move=move))
    assert await write(partial(transitions.drawn, epoch=1))
    assert await write(partial(transitions.given_back, epoch=1))
    pot = await read(store.newest_pot)
    assert pot is not None
    assert pot.state is PotState.GIVEN_BACK
    assert (await read(partial(store.customer, name=CUSTOMER))).to_draw_micro == 4
    assert not await read(transitions.may_open), "each epoch is drawn once"
    await write(partial(follow.follow_document, needs=EpochNeeds(2, 4, 0, 0, 0, 0)))
    assert await write(partial(transitions.draw, cap_micro=100)) == (True, 0)


async def test_what_the_chain_undid_is_done_again(
    funding: FundingService, database: SqlDatabase
) -> None:
    write, read = database.write, database.read
    await credit(funding)
    await write(partial(follow.follow_ledger, owner=OWNER, secret=SECRET))
    await write(transitions.begin_due)
    key = (await read(partial(store.move, serial=1))).key
    undo = partial(transitions.undo_all, keys=[key, "somebody/else"])
    assert await write(undo) == 0, "it is not done yet"
    await write(partial(transitions.finish, serial=1))
    assert await write(undo) == 1
    assert await write(undo) == 0
    again = await read(partial(store.move, serial=1))
    assert (again.state, again.attempt) == (MoveState.OPEN, 1)
    assert (await read(partial(store.customer, name=CUSTOMER))).arrived_micro == 0


def event(serial: int, contract: str, name: str, transaction: bytes, **values: Any) -> Told:
    return Told(serial, contract, name, values, ADDRESSES[contract], transaction, 0)


async def test_events_that_the_chain_loses_are_taken_back_and_return(
    funding: FundingService, database: SqlDatabase
) -> None:
    payer = "0x" + OWNER.hex()
    deposited = event(
        1, "Escrow", "Deposited", b"1" * 32, customer=b"x" * 32, payer=payer, amount_micro=10
    )
    released = event(2, "Escrow", "Released", b"2" * 32, epoch=1, providers_micro=7, take_micro=2)
    funded = event(3, "EpochDistributor", "Funded", b"3" * 32, payer=payer, amount_micro=7)

    async def step(told: list[Told], lost: list[Told], last: int) -> int:
        return await database.write(
            partial(follow.follow_events, told=told, lost=lost, last=last, places=PLACES, now_ms=1)
        )

    async def books() -> list[int]:
        ledger = LedgerService(SystemClock(), database)
        await ledger.check()
        return [
            (await ledger.balance(PLACES.stable_at(name))).amount_pico // MICRO
            for name in ADDRESSES
        ]

    everything = [deposited, released, funded]
    assert await step(everything, [], 3) == 3
    assert await step(everything, [], 3) == 0, "each once"
    assert await books() == [1, 2, 7]
    assert await step([], everything, 3) == 3
    assert await step([], everything, 3) == 0
    assert await books() == [0, 0, 0]
    # The release comes too early the second time, and the count finds nothing.
    empty = event(4, "EpochDistributor", "Funded", b"3" * 32, payer=payer, amount_micro=0)
    come = partial(follow.come_back, told=[deposited], places=PLACES, now_ms=1)
    assert await database.write(come) == 1
    assert await database.write(come) == 0
    assert await step([empty], [released], 4) == 1
    assert await books() == [10, 0, 0]
    undone = await database.read(partial(store.undone, limit=9))
    assert undone == {released.event}
    another = event(5, "Escrow", "Released", b"4" * 32, epoch=1, providers_micro=7, take_micro=2)
    counted = event(6, "EpochDistributor", "Funded", b"5" * 32, payer=payer, amount_micro=8)
    await step([another, counted], [released], 6)
    assert await books() == [1, 2, 8], "one was paid in beside what was sent"


async def test_a_payee_of_insurance_elsewhere_leaves_the_bucket_alone(
    database: SqlDatabase,
) -> None:
    taken = event(
        9, "Treasury", "Withdrawn", b"9" * 32, bucket=0, receiver="0x" + "77" * 20, amount_micro=1
    )
    kind, postings = rules.postings_of(taken, PLACES, None, {"insurance": 5 * MICRO})
    assert kind == "treasury withdrawal"
    accounts = {one.account.kind for one in postings}
    assert accounts == {AccountKind.STABLE.value, AccountKind.OPERATOR.value}
    assert await database.read(store.newest_pot) is None


async def test_a_release_that_came_after_all_is_drawn_once(
    funding: FundingService, database: SqlDatabase
) -> None:
    write, read = database.write, database.read
    await credit(funding)
    await charge(database, 1, 4 * MICRO)
    await write(partial(follow.follow_ledger, owner=OWNER, secret=SECRET))
    await write(transitions.begin_due)
    await write(partial(transitions.finish, serial=1))
    await write(partial(follow.follow_document, needs=EpochNeeds(1, 4, 0, MICRO, 0, 0)))
    await write(partial(transitions.draw, cap_micro=100))
    await write(partial(transitions.finish, serial=2))
    await write(partial(transitions.drawn, epoch=1))
    assert await write(partial(transitions.give_back, epoch=1))
    reclaim = await read(partial(store.move, serial=3))
    assert (reclaim.act, reclaim.body.sums_micro) == (Act.RECLAIM, [4])
    assert await write(partial(transitions.swap, move=reclaim, act=Act.REFUND))
    assert not await write(partial(transitions.swap, move=reclaim, act=Act.REFUND))
    refund = await read(partial(store.move, serial=4))
    assert (refund.act, refund.body) == (Act.REFUND, reclaim.body)
    assert not await write(partial(transitions.given_back, epoch=1)), "it is on its way"
    await write(partial(transitions.finish, serial=4))
    assert await write(partial(transitions.given_back, epoch=1))
    assert (await read(partial(store.customer, name=CUSTOMER))).drawn_micro == 0
    # The chain forgets the rejection and the refund, and takes the release.
    assert await write(partial(transitions.undo_all, keys=[refund.key])) == 1
    again = await read(partial(store.move, serial=4))
    keep = partial(transitions.keep_released, move=again, take_micro=1)
    assert await write(keep)
    assert not await write(keep)
    assert (await read(partial(store.customer, name=CUSTOMER))).drawn_micro == 4
    pot = await read(store.newest_pot)
    assert pot is not None
    assert (pot.state, pot.take_micro) == (PotState.RELEASED, 1)
    assert (await read(store.progress_now)).take_micro == 1
