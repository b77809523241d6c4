"""Play money: there is always some, it reaches nobody else, and it is given once at a time."""

import asyncio

import pytest
from tests.unit.coordinator.metadata.world import ACCOUNT, StillClock

from atoll.coordinator.billing import allowance
from atoll.coordinator.billing.model import Allowance
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import LedgerService
from atoll.runtime.database import SqlDatabase

EUR = 10**12
FULL = 100 * EUR
CUSTOMER = Account.of(AccountKind.CUSTOMER, ACCOUNT)
OPERATOR = Account.of(AccountKind.OPERATOR)


class World:
    """A customer with an allowance, and processes that keep it."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.clock = StillClock()
        self.ledger = LedgerService(self.clock, database)

    def keeper(self) -> allowance.AllowanceService:
        return allowance.AllowanceService(self.clock, self.database, Allowance(ACCOUNT, FULL))

    async def left(self) -> int:
        return (await self.ledger.balance(CUSTOMER)).amount_pico

    async def spend(self, amount_pico: int, key: bytes) -> None:
        postings = (Posting(CUSTOMER, amount_pico), Posting(OPERATOR, -amount_pico))
        await self.ledger.post(Entry(key, "spent", b"somewhere", postings))


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database)


async def test_an_account_is_filled_up_when_half_is_gone(world: World) -> None:
    assert await world.keeper().fill_up()
    assert await world.left() == FULL
    await world.spend(FULL // 2, b"half")
    world.clock.time_ms += 60_000
    assert not await world.keeper().fill_up(), "half is enough"
    await world.spend(1, b"a bit more")
    assert await world.keeper().fill_up()
    assert await world.left() == FULL
    assert await world.ledger.check() == 4, "every euro came from somewhere"


async def test_two_processes_at_once_fill_it_up_once(world: World) -> None:
    """Both see the empty account before one of them posts."""
    await asyncio.gather(*(world.keeper().fill_up() for _ in range(4)))
    assert await world.left() == FULL
