"""A payout follows what was claimed on chain: permit, pull, file; and back where the bank fails."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from lxml import etree
from tests.fixtures.bank import report
from tests.fixtures.chain import LocalChain, new_folder, start_anvil
from tests.integration.payouts.world import MICRO, World, key_of
from tests.unit.coordinator.payouts.test_payouts import amounts_of, message_of
from tests.unit.coordinator.payouts.world import ADA_IBAN, ADA_NAME, BERT_IBAN
from tests.unit.economy.payments.test_payouts import SCHEMAS

from atoll.coordinator.payouts.model import SIGN_MS_MAX
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.payouts import (
    GetPayoutOrders,
    GetPayoutTerms,
    PayoutOrders,
    PayoutTaken,
    PayoutTerms,
    SetPayout,
    SignPayout,
)
from atoll.economy.payments.amounts import PICO_PER_CENT
from atoll.economy.payments.payouts.order import VERSIONS, end_to_end_of
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase, migrate

MICRO_PER_CENT = 10_000
DYING = Path(__file__).parent / "dying_desk.py"
LIVES_MAX = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def server(folder: Path) -> Iterator[LocalChain]:
    running = start_anvil(folder, state_interval_s=1)
    yield running
    running.kill()


@pytest.fixture
async def world(folder: Path, server: LocalChain) -> AsyncIterator[World]:
    url = f"sqlite:///{folder}/atoll.db"
    migrate(url)
    database, compute = SqlDatabase(url), ThreadCompute()
    made = World(database, folder / "epochs", compute, server.url)
    await made.earn()
    yield made
    await made.settlement.stop()
    await database.close()
    compute.close()


async def test_exactly_what_was_claimed_is_paid_and_comes_back_where_the_bank_fails(
    world: World,
) -> None:
    owed = {number: await world.due(number) for number in (1, 2)}
    opened = await world.open()
    assert (opened.opened, opened.not_arrived) == (0, 2), "nothing has arrived yet"
    # Of Ada's earnings all is claimed, of Bert's 20 cents and a bit.
    arrived = {1: owed[1] // 10**6, 2: 20 * MICRO_PER_CENT + 7}
    for number, micro in arrived.items():
        await world.arrive(number, micro)
    opened = await world.open()
    assert (opened.opened, opened.waiting, opened.ready) == (2, 2, 0)
    assert (await world.open()).opened == 0, "nobody is asked twice"
    cents = {1: owed[1] // PICO_PER_CENT, 2: 20}
    assert opened.waiting_cents == sum(cents.values())

    # The node signs what its coordinator promised, and for its own provider's account alone.
    assert await world.sign(2, iban=ADA_IBAN) == 0
    assert await world.sign(1) == await world.sign(2) == 1
    assert await world.sign(1) == 0
    await world.restart()
    await world.carry()
    for number in (1, 2):
        at_node = arrived[number] - cents[number] * MICRO_PER_CENT
        assert await world.there(key_of(number).address) == at_node
        assert await world.due(number) == owed[number] - cents[number] * PICO_PER_CENT
    assert await world.there(world.operator) == sum(cents.values()) * MICRO_PER_CENT
    assert (await world.open()).opened == 0, "what was pulled is not claimed twice"

    made = await world.file()
    SCHEMAS[VERSIONS[0]].assertValid(etree.fromstring(made.data))
    assert sorted(amounts_of(made.data).values()) == sorted(cents.values())

    # The bank refuses Ada's: she has it again, in the books and on the chain.
    terms = await world.as_node(1, GetPayoutTerms(), PayoutTerms)
    name = end_to_end_of(terms.payouts[0].payout)
    said = report(message_of(made.data), payments=((name, "RJCT", "AC04"),))
    assert [one.state for one in (await world.hear(said)).changed] == ["failed"]
    assert await world.due(1) == owed[1]
    await world.restart()
    await world.carry()
    assert await world.there(key_of(1).address) == arrived[1]
    assert await world.there(world.operator) == cents[2] * MICRO_PER_CENT
    assert (await world.hear(said)).changed == []

    # To another account of hers, with the next permit.
    wish = SetPayout(method="euro", name=ADA_NAME, iban=BERT_IBAN)
    await world.as_node(1, wish, PayoutTerms)
    assert (await world.open()).opened == 1
    assert await world.sign(1, iban=BERT_IBAN) == 1
    await world.carry()
    assert amounts_of((await world.file()).data) != {}
    assert await world.there(world.operator) == sum(cents.values()) * MICRO_PER_CENT
    await world.ledger.check()


async def test_a_permit_of_another_key_moves_nothing(world: World) -> None:
    await world.arrive(1, MICRO)
    await world.open()
    (promise,) = (await world.as_node(1, GetPayoutOrders(), PayoutOrders)).orders
    assert (await world.as_node(2, GetPayoutOrders(), PayoutOrders)).orders == []
    terms = await world.as_node(1, GetPayoutTerms(), PayoutTerms)
    payout = terms.payouts[0].payout
    stolen = key_of(2).sign_digest(b"d" * 32)
    for permit in (b"", b"x" * 65, stolen, bytes(65)):
        with pytest.raises(AtollError) as refused:
            await world.as_node(1, SignPayout(payout=payout, permit=permit), PayoutTaken)
        assert refused.value.kind is Kind.BAD_REQUEST
    with pytest.raises(AtollError) as refused:
        await world.as_node(2, SignPayout(payout=payout, permit=stolen), PayoutTaken)
    assert refused.value.kind is Kind.NOT_FOUND
    await world.carry()
    assert await world.there(key_of(1).address) == MICRO
    assert promise.order
    # A wish for another account calls off what was not signed.
    wish = SetPayout(method="euro", name=ADA_NAME, iban=BERT_IBAN)
    after = await world.as_node(1, wish, PayoutTerms)
    assert [one.state for one in after.payouts] == ["dropped"]
    assert (await world.open()).opened == 1
    # Nor is a node waited for that signs nothing.
    world.clock.time_ms += SIGN_MS_MAX
    await world.carry()
    assert (await world.as_node(1, GetPayoutOrders(), PayoutOrders)).orders == []
    assert (await world.open()).opened == 1
    assert await world.there(key_of(1).address) == MICRO


@pytest.mark.long
async def test_a_coordinator_killed_at_any_step_pays_once(world: World, folder: Path) -> None:
    owed = await world.due(1)
    arrived = owed // 10**6
    await world.arrive(1, arrived)
    await world.open()
    assert await world.sign(1) == 1
    await die_until_done(world, folder)
    cents = owed // PICO_PER_CENT
    assert await world.there(key_of(1).address) == arrived - cents * MICRO_PER_CENT
    assert await world.there(world.operator) == cents * MICRO_PER_CENT
    assert await world.due(1) == owed - cents * PICO_PER_CENT
    # It was killed between pull and file: the file has it, once.
    made = await world.file()
    ((name, amount),) = amounts_of(made.data).items()
    assert amount == cents
    await world.hear(report(message_of(made.data), payments=((name, "RJCT", "AC04"),)))
    await die_until_done(world, folder)
    assert await world.there(key_of(1).address) == arrived
    assert await world.there(world.operator) == 0
    assert await world.due(1) == owed
    await world.ledger.check()


async def die_until_done(world: World, folder: Path) -> None:
    """Let processes carry payouts, each killed after the first new thing that it made durable."""
    root = Path(__file__).parents[3]
    command = [sys.executable, str(DYING), str(folder / "seen"), str(folder / "atoll.db")]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"}
    for deaths in range(LIVES_MAX):
        child = await asyncio.to_thread(
            subprocess.run, [*command, world.url], env=environment, check=False, timeout=120
        )
        if child.returncode == 0:
            assert deaths >= 3, "it was killed at every step"
            await world.restart()
            return
        assert child.returncode == -signal.SIGKILL
    raise AssertionError("it never came to an end")
