"""What settlement keeps, on both databases; and events taken over, lost, and back again."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.unit.coordinator.metadata.world import StillClock

from atoll.coordinator.settlement import store
from atoll.coordinator.settlement.model import (
    Claim,
    Cursor,
    SettlementRow,
    State,
    WantedStatement,
)
from atoll.coordinator.settlement.takeover import Takeover
from atoll.coordinator.settlement.views import DISTRIBUTOR, Views
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainLog
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi, book, event_store
from atoll.economy.chain.link import ChainLink, LinkConfig
from atoll.economy.chain.model import Contract
from atoll.economy.keccak import keccak_256
from atoll.runtime.database import SqlDatabase

CHAIN = 31337
ACCOUNT, OTHER = b"a" * 20, b"b" * 20
ADDRESS = b"D" * 20
WANTED = WantedStatement(1, b"s" * 32, 7, b"t" * 32, b"body")


def row(epoch: int, state: State = State.PUBLISHED, **changes: Any) -> SettlementRow:
    made = SettlementRow(
        epoch=epoch,
        state=state,
        content=bytes([epoch]) * 32,
        root=bytes([epoch + 100]) * 32,
        count=3,
        released_micro=1 << 50,
        held_micro=5,
    )
    return replace(made, **changes)


async def test_rows_move_only_from_where_they_are(database: SqlDatabase) -> None:
    first = row(1)
    assert await database.write(partial(store.put, row=first))
    assert not await database.write(partial(store.put, row=row(1, State.FINAL)))
    after = replace(first, state=State.SIGNED, attempt=3, problem="p" * 1_000, ends_s=9)
    assert await database.write(partial(store.move, before=first, after=after))
    assert not await database.write(partial(store.move, before=first, after=after))
    found = await database.read(partial(store.one, epoch=1))
    assert found == replace(after, problem="p" * store.PROBLEM_CHARACTERS_MAX)
    for epoch, state in ((2, State.EMPTY), (3, State.FINAL), (4, State.PUBLISHED)):
        await database.write(partial(store.put, row=row(epoch, state)))
    assert await database.write(partial(store.carry, epoch=4)) == 1
    states = [one.state for one in await database.read(partial(store.page, before=9, limit=9))]
    assert states == [State.PUBLISHED, State.FINAL, State.EMPTY, State.CARRIED]
    assert await database.read(store.last_settled) == row(3, State.FINAL)
    assert await database.read(store.newest) == row(4)
    await database.write(store.take_back)
    states = [one.state for one in await database.read(partial(store.page, before=9, limit=9))]
    assert states == [State.PUBLISHED, State.PUBLISHED, State.EMPTY, State.PUBLISHED]


async def test_signatures_are_kept_once_and_by_account(database: SqlDatabase) -> None:
    await database.write(partial(store.ask, wanted=WANTED, now_ms=5))
    found = await database.read(
        partial(store.asked_one, kind=1, subject=b"s" * 32, epoch=7, stated=b"t" * 32)
    )
    assert found == WANTED
    for account, new in ((OTHER, True), (ACCOUNT, True), (OTHER, False)):
        sign = partial(
            store.sign, wanted=WANTED, account=account, signature=account[:1] * 65, now_ms=6
        )
        assert await database.write(sign) is new
    signatures = await database.read(
        partial(store.signatures, kind=1, subject=b"s" * 32, epoch=7, stated=b"t" * 32)
    )
    assert signatures == [(ACCOUNT, b"a" * 65), (OTHER, b"b" * 65)]
    signed = await database.read(partial(store.signed_by, account=ACCOUNT))
    assert signed == {(1, b"s" * 32, 7, b"t" * 32)}
    assert await database.write(partial(store.close_kind, kind=1)) == 1
    assert await database.read(partial(store.asked, limit=9)) == []
    assert await database.read(partial(store.signed_by, account=ACCOUNT)) == set()
    await database.write(partial(store.ask, wanted=WANTED, now_ms=50))
    assert await database.read(partial(store.asked, limit=9)) == [WANTED]
    assert await database.read(partial(store.signed_by, account=ACCOUNT)) == signed
    verdict = replace(WANTED, kind=2)
    await database.write(partial(store.ask, wanted=verdict, now_ms=60))
    assert await database.write(partial(store.prune, kind=1, epoch=7)) == 0
    assert await database.write(partial(store.prune, kind=1, epoch=8)) == 1
    assert await database.read(partial(store.asked, limit=9)) == [verdict]
    assert await database.read(partial(store.signed_by, account=ACCOUNT)) == set()


async def test_claims_add_up(database: SqlDatabase) -> None:
    claims = [
        (n, Claim(account, epoch, amount, 1, b"x" * 32, 9))
        for n, (account, epoch, amount) in enumerate(
            [(ACCOUNT, 1, 1 << 40), (OTHER, 1, 7), (ACCOUNT, 2, 5), (OTHER, 2, 0)]
        )
    ]
    await database.write(partial(store.put, row=row(1)))
    for new in (len(claims), 0):
        assert await database.write(partial(store.put_claims, claims=claims)) == new
    read = database.read
    assert await read(partial(store.claimed_micro, account=ACCOUNT)) == (1 << 40) + 5
    assert await read(partial(store.claimed_micro, account=b"n" * 20)) == 0
    found = await read(partial(store.one, epoch=1))
    assert found is not None
    assert found.claimed_micro == (1 << 40) + 7
    assert await read(store.claimed_all_micro) == (1 << 40) + 12
    assert await read(store.claimed_by_account) == {ACCOUNT: (1 << 40) + 5, OTHER: 7}
    newest = await read(partial(store.claims_of, account=ACCOUNT, limit=1))
    assert newest == [claims[2][1]]
    await database.write(store.take_back)
    assert await read(store.claimed_by_account) == {}
    assert await read(partial(store.one, epoch=1)) == row(1)


async def test_verifiers_demands_and_the_place_reached(database: SqlDatabase) -> None:
    for account in (ACCOUNT, OTHER):
        await database.write(partial(store.meet, key=b"k" * 32, account=account, now_ms=1))
    assert await database.read(store.verifiers) == {b"k" * 32: OTHER}
    for chunk in (4, 2, 4):
        await database.write(partial(store.put_demand, attempt=1, chunk=chunk))
    await database.write(partial(store.note_answered, attempt=1, chunk=4))
    assert await database.read(partial(store.demands, attempt=1, limit=9)) == [2]
    assert await database.read(partial(store.cursor, chain=CHAIN)) == Cursor()
    place = Cursor(9, 2, 7, b"l" * 32)
    await database.write(partial(store.advance, chain=CHAIN, cursor=place))
    assert await database.write(partial(store.lock_cursor, chain=CHAIN)) == place
    assert await database.read(partial(store.cursor, chain=CHAIN)) == place


# --- events ---------------------------------------------------------------------------------------


class World:
    """A chain's events as its watcher keeps them; nobody asks the chain itself."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.link = ChainLink(StillClock(), database, b"s" * 32, LinkConfig(), self.absent)
        self.takeover = Takeover(database, self.link, Views(self.link))
        self.told = 0

    async def absent(self) -> Chain:
        raise AtollError(Kind.UNREACHABLE, "open chain", "it is not there")

    async def stand(self) -> None:
        contract = Contract(DISTRIBUTOR, ADDRESS, b"h" * 32, "s", b"t" * 32, 1)
        await self.database.write(lambda c: book.put_contract(c, CHAIN, contract))

    async def say(self, *said: tuple[str, dict[str, Any]], address: bytes = ADDRESS) -> bytes:
        """Let the distributor say something in a block of its own; return its transaction."""
        self.told += 1
        number, transaction = self.told, bytes([self.told]) * 32
        logs = [
            self.log(place, *one, number, transaction, address) for place, one in enumerate(said)
        ]

        def keep(connection: Any) -> None:
            event_store.keep_events(connection, CHAIN, logs)
            event_store.settle(connection, CHAIN, number)

        await self.database.write(keep)
        return transaction

    def log(
        self,
        place: int,
        name: str,
        values: dict[str, Any],
        number: int,
        transaction: bytes,
        address: bytes,
    ) -> ChainLog:
        (entry,) = (
            e for e in load(DISTRIBUTOR).abi if (e["type"], e.get("name")) == ("event", name)
        )
        kinds = ",".join(abi.type_of(one) for one in entry["inputs"])
        topics = [keccak_256(f"{name}({kinds})".encode())]
        plain = []
        for one in entry["inputs"]:
            value = values.get(one["name"], b"z" * 32 if one["type"] == "bytes32" else 1)
            if one["type"] == "address" and value == 1:
                value = OTHER
            if one["indexed"]:
                topics.append(abi.encode([one], [value]))
            else:
                plain.append((one, value))
        data = abi.encode([one for one, _ in plain], [value for _, value in plain])
        hash_ = number.to_bytes(32, "big")
        return ChainLog(address, tuple(topics), data, number, hash_, transaction, place)

    async def lose(self, number: int) -> None:
        """Let the chain have branched after a block."""
        await self.database.write(lambda c: event_store.roll_back(c, CHAIN, number))

    async def states(self) -> list[State]:
        rows = await self.database.read(partial(store.page, before=99, limit=99))
        return [one.state for one in rows]

    async def claimed(self) -> int:
        return await self.database.read(store.claimed_all_micro)


def proposed(one: SettlementRow, attempt: int) -> tuple[str, dict[str, Any]]:
    values = {"epoch": one.epoch, "attempt": attempt, "root": one.root, "content": one.content}
    return "Proposed", values | {"ends_s": 99}


def finalised(one: SettlementRow) -> tuple[str, dict[str, Any]]:
    return "Finalised", {"epoch": one.epoch, "root": one.root}


def claimed(one: SettlementRow, amount: int) -> tuple[str, dict[str, Any]]:
    return "Claimed", {"account": ACCOUNT, "epoch": one.epoch, "amount_micro": amount}


@pytest.fixture
async def world(database: SqlDatabase) -> World:
    made = World(database)
    for epoch in (1, 2, 3):
        await database.write(partial(store.put, row=row(epoch)))
    return made


async def test_events_bring_epochs_on(world: World) -> None:
    with pytest.raises(AtollError) as absent:
        await world.takeover.step()
    assert absent.value.kind is Kind.UNREACHABLE
    await world.stand()
    transaction = await world.say(proposed(row(2), 1))
    await world.takeover.step()
    assert await world.states() == [State.PUBLISHED, State.PROPOSED, State.PUBLISHED]
    found = await world.database.read(partial(store.one, epoch=2))
    assert found is not None
    assert (found.attempt, found.ends_s, found.proposed_transaction) == (1, 99, transaction)
    await world.say(("Demanded", {"attempt": 1, "chunk": 0}))
    await world.say(("Rejected", {"epoch": 2, "attempt": 1, "fault": 4}))
    await world.say(proposed(row(2), 2), ("Answered", {"attempt": 1, "chunk": 0}))
    await world.say(finalised(row(2)), claimed(row(2), 70), claimed(row(2), 7))
    await world.takeover.step()
    assert await world.states() == [State.PUBLISHED, State.FINAL, State.CARRIED]
    assert await world.claimed() == 77
    cursor = await world.database.read(partial(store.cursor, chain=CHAIN))
    assert (cursor.attempts, cursor.proposed_epoch) == (2, 0)


async def test_what_others_say_or_propose_is_not_ours(world: World) -> None:
    await world.stand()
    await world.say(proposed(row(1), 1), claimed(row(1), 5), address=b"X" * 20)
    await world.takeover.step()
    assert await world.claimed() == 0
    assert await world.states() == [State.PUBLISHED] * 3
    await world.say(("Proposed", {"epoch": 3, "attempt": 1}))
    await world.takeover.step()
    cursor = await world.database.read(partial(store.cursor, chain=CHAIN))
    assert (cursor.attempts, cursor.proposed_epoch) == (1, 3)
    await world.say(("Finalised", {"epoch": 3}))
    await world.takeover.step()
    assert await world.states() == [State.REJECTED, State.CARRIED, State.CARRIED]


async def test_what_the_chain_lost_is_taken_back_and_what_is_back_counts_once(
    world: World,
) -> None:
    await world.stand()
    await world.say(proposed(row(3), 1))
    last = (finalised(row(3)), claimed(row(3), 9))
    await world.say(*last)
    await world.takeover.step()
    assert (await world.states())[0] is State.FINAL
    await world.lose(1)
    await world.takeover.step()
    assert await world.states() == [State.PROPOSED, State.PUBLISHED, State.PUBLISHED]
    assert await world.claimed() == 0
    world.told = 1
    await world.say(*last)
    await world.takeover.step()
    assert await world.states() == [State.FINAL, State.CARRIED, State.CARRIED]
    assert await world.claimed() == 9
    await world.takeover.step()
    assert await world.claimed() == 9
