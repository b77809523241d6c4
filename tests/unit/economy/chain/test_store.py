"""The chain's SQL on both databases."""

from dataclasses import replace

import pytest
from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainBlock, ChainLog, ChainReceipt
from atoll.economy.chain import book, event_store, store
from atoll.economy.chain.model import Contract, Intent, IntentState, IntentStatus
from atoll.economy.chain.signer import Signed
from atoll.runtime.database import SqlDatabase

CHAIN, OTHER = 31337, 8453
SENDER = b"\x01" * 20
MOST_WEI = (1 << 256) - 1


def intent(key: str, *, value_wei: int = 0) -> Intent:
    return Intent(key, SENDER, b"\x02" * 20, b"data", value_wei)


def signed(number: int) -> Signed:
    return Signed(bytes([number]) * 32, b"raw %d" % number)


def receipt(number: int, block: int, *, succeeded: bool = True) -> ChainReceipt:
    return ChainReceipt(
        signed(number).hash, block, bytes([block]) * 32, succeeded, 21_000, b"\x03" * 20, ()
    )


async def known(database: SqlDatabase, key: str) -> IntentStatus:
    found = await database.read(lambda c: store.intent_by_key(c, CHAIN, key))
    assert found is not None
    return found


async def test_intents_keep_their_keys_order_and_amounts(database: SqlDatabase) -> None:
    wanted = [intent("a", value_wei=MOST_WEI), intent("b"), intent("c")]

    def put(connection: Connection) -> list[int]:
        return [store.put_intent(connection, CHAIN, one, 5) for one in wanted]

    assert await database.write(put) == [1, 2, 3]
    assert await database.write(put) == [1, 2, 3]
    assert await database.write(lambda c: store.put_intent(c, OTHER, wanted[0], 5)) == 1
    found = await database.read(lambda c: store.intents_in(c, CHAIN, IntentState.WANTED, 2))
    assert [status.intent for status in found] == wanted[:2]
    with pytest.raises(AtollError) as error:
        await database.write(
            lambda c: store.put_intent(c, CHAIN, replace(wanted[0], data=b"other"), 5)
        )
    assert error.value.kind is Kind.CONFLICT


async def test_an_intent_goes_its_way_and_back(database: SqlDatabase) -> None:
    await database.write(lambda c: store.put_intent(c, CHAIN, intent("a"), 5))
    await database.write(
        lambda c: store.keep_signed(c, CHAIN, 1, 7, 50_000, signed(1), (100, 10), 6)
    )
    await database.write(
        lambda c: store.keep_signed(c, CHAIN, 1, 7, 50_000, signed(2), (125, 13), 7)
    )
    attempts = await database.read(lambda c: store.attempts_of(c, CHAIN, 1, 7))
    assert [attempt.fee_wei_max for attempt in attempts] == [125, 100], "dearest first"
    assert await database.read(lambda c: store.nonce_after(c, CHAIN, SENDER)) == 8
    await database.write(lambda c: store.note_sent(c, CHAIN, signed(1).hash, 8))
    await database.write(lambda c: store.keep_receipt(c, CHAIN, 1, receipt(1, 9), final=False))
    status = await known(database, "a")
    assert (status.state, status.block_number, status.gas_used) == (IntentState.MINED, 9, 21_000)
    await database.write(lambda c: store.keep_receipt(c, CHAIN, 1, receipt(1, 9), final=True))
    assert (await known(database, "a")).state is IntentState.FINAL
    assert await database.write(lambda c: store.reopen(c, CHAIN, SENDER, 8)) == 0
    assert await database.write(lambda c: store.reopen(c, CHAIN, SENDER, 7)) == 1
    status = await known(database, "a")
    assert (status.state, status.block_number) == (IntentState.SIGNED, -1)
    assert status.transaction == signed(1).hash, "the one that stood goes first"
    attempts = await database.read(lambda c: store.attempts_of(c, CHAIN, 1, 7))
    assert [attempt.sent_ms for attempt in attempts] == [0, 0]
    await database.write(lambda c: store.want_again(c, CHAIN, 1))
    status = await known(database, "a")
    assert (status.state, status.nonce, status.transaction) == (IntentState.WANTED, -1, b"")


async def test_what_failed_and_what_was_refused_are_told_apart(database: SqlDatabase) -> None:
    for key in ("a", "b"):
        await database.write(lambda c, key=key: store.put_intent(c, CHAIN, intent(key), 5))
    await database.write(lambda c: store.keep_signed(c, CHAIN, 1, 0, 1, signed(1), (1, 1), 6))
    await database.write(
        lambda c: store.keep_receipt(c, CHAIN, 1, receipt(1, 3, succeeded=False), final=True)
    )
    await database.write(lambda c: store.refuse(c, CHAIN, 2, "x" * 1000))
    counts = await database.read(lambda c: store.counts(c, CHAIN))
    assert counts == {IntentState.FAILED: 1, IntentState.REFUSED: 1}
    assert await database.read(lambda c: store.ended_badly(c, CHAIN, 9)) == ["b", "a"]
    assert await database.read(lambda c: store.ended_badly(c, CHAIN, 1)) == ["b"]
    assert len((await known(database, "b")).problem) == store.PROBLEM_CHARACTERS_MAX


async def test_the_head_is_remembered(database: SqlDatabase) -> None:
    assert await database.read(lambda c: store.link(c, CHAIN)) == (-1, 0, 0)
    head = ChainBlock(12, b"\1" * 32, b"\0" * 32, 99)
    await database.write(lambda c: store.see_head(c, CHAIN, head, 1234))
    assert await database.read(lambda c: store.link(c, CHAIN)) == (12, 99, 1234)


def said(block: int, transaction: int, index: int, address: bytes = b"\x05" * 20) -> ChainLog:
    return ChainLog(
        address=address,
        topics=(b"\x06" * 32, b"\x07" * 32),
        data=b"said %d" % transaction,
        block_number=block,
        block_hash=bytes([block]) * 32,
        transaction=bytes([transaction]) * 32,
        index=index,
    )


async def test_events_are_named_once_whatever_their_block(database: SqlDatabase) -> None:
    first = [said(1, 1, 0), said(1, 1, 1), said(1, 1, 2, b"\x08" * 20), said(2, 2, 0)]
    assert await database.write(lambda c: event_store.keep_events(c, CHAIN, first)) == 4
    assert await database.read(lambda c: event_store.settled_after(c, CHAIN, 0, 10)) == []
    await database.write(lambda c: event_store.settle(c, CHAIN, 1))
    told = await database.read(lambda c: event_store.settled_after(c, CHAIN, 0, 10))
    assert [event.ordinal for event in told] == [0, 1, 0]
    assert told[0].topics == (b"\x06" * 32, b"\x07" * 32)
    # The branch takes back both blocks: one event was not told, three were.
    assert await database.write(lambda c: event_store.roll_back(c, CHAIN, 0)) == 4
    gone = await database.read(lambda c: event_store.retracted(c, CHAIN, 10))
    assert [event.serial for event in gone] == [1, 2, 3]
    moved = [replace(entry, block_number=5, index=entry.index + 3) for entry in first[:3]]
    await database.write(lambda c: event_store.keep_events(c, CHAIN, moved))
    assert await database.read(lambda c: event_store.retracted(c, CHAIN, 10)) == []
    back = await database.read(lambda c: event_store.settled_after(c, CHAIN, 0, 10))
    assert [(e.serial, e.block_number) for e in back] == [(1, 5), (2, 5), (3, 5)]


async def test_the_same_transaction_that_says_something_else_is_told_as_new(
    database: SqlDatabase,
) -> None:
    first = [said(1, 1, 0), said(1, 1, 1)]
    await database.write(lambda c: event_store.keep_events(c, CHAIN, first))
    await database.write(lambda c: event_store.settle(c, CHAIN, 1))
    await database.write(lambda c: event_store.roll_back(c, CHAIN, 0))
    other = [replace(first[0], data=b"another figure", block_number=5), said(5, 1, 1)]
    await database.write(lambda c: event_store.keep_events(c, CHAIN, other))
    told = await database.read(lambda c: event_store.settled_after(c, CHAIN, 0, 10))
    assert [(event.serial, event.ordinal) for event in told] == [(2, 1)]
    await database.write(lambda c: event_store.settle(c, CHAIN, 5))
    new = await database.read(lambda c: event_store.settled_after(c, CHAIN, 2, 10))
    assert [(event.ordinal, event.data) for event in new] == [(0, b"another figure")]
    name = (first[0].transaction, first[0].address, 0)
    found = await database.read(lambda c: event_store.named(c, CHAIN, [name, (b"", b"", 0)]))
    assert found == new


async def test_so_many_ends_of_ranges_are_kept(database: SqlDatabase) -> None:
    for number in range(10):
        await database.write(
            lambda c, number=number: event_store.keep_block(c, CHAIN, number, b"h%d" % number, 4)
        )
    kept = await database.read(lambda c: event_store.kept_blocks(c, CHAIN, 100))
    assert kept == [(number, b"h%d" % number) for number in (9, 8, 7, 6)]
    assert await database.read(lambda c: event_store.newest_block(c, CHAIN)) == (9, b"h9")
    await database.write(lambda c: event_store.forget_blocks(c, CHAIN, 7))
    assert await database.read(lambda c: event_store.newest_block(c, CHAIN)) == (7, b"h7")


async def test_the_book_is_by_chain(database: SqlDatabase) -> None:
    contract = Contract("Token", SENDER, b"\x09" * 32, "ab" * 32, b"\x0a" * 32, 7)
    await database.write(lambda c: book.put_contract(c, CHAIN, contract))
    await database.write(lambda c: book.put_contract(c, CHAIN, replace(contract, block_number=8)))
    assert await database.read(lambda c: book.contracts(c, OTHER)) == {}
    found = await database.read(lambda c: book.contracts(c, CHAIN))
    assert found == {"Token": replace(contract, block_number=8)}
