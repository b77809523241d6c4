"""Customers' euros on a real EVM: deposited once, drawn to the unit, whatever happens between."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from tests.fixtures.chain import LocalChain, give_funds, sign, stand, until
from tests.fixtures.epochs import Life, node_id, payer_id
from tests.fixtures.funding import DIVISOR, SEED, FundingWorld

from atoll.coordinator.funding import acts, service, store
from atoll.coordinator.funding.model import CHAIN_DEPOSIT, Act, PotState
from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_MICRO
from atoll.economy.artifacts.load import load
from atoll.economy.chain.abi import call_data
from atoll.economy.chain.signer import Signer
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.settlement.model import EpochInputs
from atoll.runtime.database import SqlDatabase, migrate

pytestmark = pytest.mark.xdist_group("chain")
EUR = 10**12
NODES, PAYERS = 6, 8
CREDITED = {node_id(number): payer_id(number % PAYERS) for number in range(NODES)}


@pytest.fixture
async def world(server: LocalChain, folder: Path) -> AsyncIterator[FundingWorld]:
    url = f"sqlite:///{folder}/coordinator.db"
    migrate(url)
    database = SqlDatabase(url)
    found = FundingWorld(database, server, folder)
    yield found
    await found.close()
    await database.close()


def plain(inputs: EpochInputs) -> EpochInputs:
    """Return inputs in which nothing but use, proofs and the take moves money."""
    nodes = [msgspec.structs.replace(node, credit_bps=0) for node in inputs.nodes]
    return msgspec.structs.replace(
        inputs, nodes=nodes, repairs=[], slashes=[], credits=[], customers=[], reserve_pico=0
    )


async def credit_all(world: FundingWorld, euro: int = 3) -> None:
    for number in range(PAYERS):
        await world.credit(number, euro * EUR + 333_333 * number, b"credit/%d" % number)


async def agree(world: FundingWorld) -> None:
    found = await world.funding.reconciliation()
    assert found.agrees, found
    assert not found.moves, found
    assert await world.ledger.check()


async def ask(world: FundingWorld, contract: str, function: str, *values: object) -> int:
    return int(await world.views.ask(contract, function, *values))


async def by_another(
    world: FundingWorld, role: str, contract: str, function: str, *values: object
) -> None:
    """Somebody else than the coordinator calls a contract."""
    chain = await world.chain()
    signer = Signer.derived(SEED, role)
    await give_funds(chain, signer.address)
    to = (await world.link.contracts())[contract].address
    data = call_data(load(contract), function, *values)
    signed = sign(
        signer,
        await chain.nonce(signer.address),
        to,
        data,
        await chain.fees(),
        gas=1_000_000,
    )
    await chain.send_raw(signed.raw)
    assert (await stand(chain, signed.hash)).succeeded, f"{contract}.{function}"


async def test_credit_deposit_epoch_draw_release_funded_to_the_unit(world: FundingWorld) -> None:
    await credit_all(world)
    await world.credit(0, 666_667, b"the rest of a unit")
    await world.settle()
    for number in range(PAYERS):
        key = await world.funding.escrow_key(payer_id(number))
        there = await ask(world, "Escrow", "balance_of", key)
        paid_in = 3 * EUR + 333_333 * number + (666_667 if not number else 0)
        assert there == paid_in // PICO_PER_MICRO, "whole units; what is below waits"
    await agree(world)

    life = Life(3, NODES, PAYERS)
    take = 0
    for _ in range(5):
        made = await world.epoch(plain(life.next()), life.tariff, CREDITED)
        epoch, index = made.index.epoch, made.index
        assert not await world.funding.funded(epoch)
        await world.settle()
        take += made.result.take_pico
        need = index.released_micro + index.held_micro
        assert await world.funding.funded(epoch)
        assert not await world.funding.funded(epoch + 1), "that epoch is not there yet"
        counted = await ask(world, "EpochDistributor", "funded_micro")
        fractions = PAYERS + 1
        assert need <= counted <= need + fractions
        treasury = await ask(world, "Treasury", "total_micro")
        assert take // PICO_PER_MICRO - fractions <= treasury <= take // PICO_PER_MICRO
        balances = await world.balances()
        for customer, balance_pico in balances.items():
            there = await ask(
                world, "Escrow", "balance_of", await world.funding.escrow_key(customer)
            )
            # The fraction that a charge has beyond a unit is drawn with a later one.
            assert 0 <= there - balance_pico // PICO_PER_MICRO <= 1
        await agree(world)
    assert take, "it was not all for nothing"


async def test_an_epoch_without_charges_needs_no_pot(world: FundingWorld) -> None:
    await credit_all(world)
    life = Life(3, NODES, PAYERS)
    empty = msgspec.structs.replace(plain(life.next()), storage=[], egress=[])
    await world.epoch(empty, life.tariff, CREDITED)
    await world.settle()
    assert await world.funding.funded(1)
    assert await world.database.read(store.newest_pot) is None
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    pot = await world.database.read(store.newest_pot)
    assert pot is not None
    assert (pot.epoch, pot.state) == (2, PotState.RELEASED)
    assert await world.funding.funded(2)
    await agree(world)


@pytest.mark.parametrize("seed", [1, 7])
async def test_a_life_with_slashes_repairs_barter_and_top_ups(
    world: FundingWorld, seed: int
) -> None:
    await credit_all(world, euro=4)
    await world.give_reserve(1_000 * EUR)
    life = Life(seed, NODES, PAYERS)
    for _ in range(6):
        await world.epoch(life.next(), life.tariff, CREDITED)
        await world.settle()
        await agree(world)
        needs, now = await world.needs(life.epoch), await world.progress()
        assert await world.funding.funded(life.epoch), (needs, now, world.funding.waits_for)
        top_up = -(-needs.top_up_pico // PICO_PER_MICRO)
        assert now.advanced_micro <= top_up + PAYERS + 1, "the operator pays top-ups only"
        assert now.take_micro <= needs.take_pico // PICO_PER_MICRO


async def test_a_rejected_pot_goes_back_and_comes_with_the_next_epoch(world: FundingWorld) -> None:
    await credit_all(world)
    life = Life(3, NODES, PAYERS)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await until_locked(world)
    before = await ask(world, "Escrow", "pots_micro")
    await by_another(world, "guardian", "Escrow", "reject", 1)
    await world.settle()
    pot = await world.database.read(partial(store.pot, number=1))
    assert pot is not None
    assert pot.state is PotState.GIVEN_BACK
    assert before
    assert await ask(world, "Escrow", "pots_micro") == 0
    assert not await world.funding.funded(1)
    assert "needs" in world.funding.waits_for
    await agree(world)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    assert await world.funding.funded(1)
    assert await world.funding.funded(2)
    await agree(world)


async def until_locked(world: FundingWorld) -> None:
    for _ in range(200):
        await world.step()
        pot = await world.database.read(store.open_pot)
        if pot is not None and pot.state is PotState.LOCKED:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(world.funding.waits_for)


async def test_a_pot_that_is_too_old_goes_back(world: FundingWorld) -> None:
    await credit_all(world)
    life = Life(3, NODES, PAYERS)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await until_locked(world)
    await world.pass_time(30 * 86_400 // DIVISOR)
    await world.settle()
    pot = await world.database.read(partial(store.pot, number=1))
    assert pot is not None
    assert pot.state is PotState.GIVEN_BACK
    await agree(world)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    assert await world.funding.funded(2)
    await agree(world)


async def test_credits_and_epochs_go_on_without_the_chain(
    world: FundingWorld, server: LocalChain
) -> None:
    await credit_all(world)
    await world.settle()
    server.kill(signal.SIGTERM)  # it writes its state
    life = Life(3, NODES, PAYERS)
    for number in range(3):
        await world.epoch(plain(life.next()), life.tariff, CREDITED)
        await world.credit(0, EUR, b"later/%d" % number)
        await world.step()
    assert world.funding.waits_for
    assert not await world.funding.funded(1)
    server.start()
    await world.settle()
    pot = await world.database.read(store.newest_pot)
    assert pot is not None
    assert pot.epoch == 3, "one pot for all three"
    assert all([await world.funding.funded(epoch) for epoch in (1, 2, 3)])
    await agree(world)


async def test_a_chain_that_forgot_all_is_told_again(
    world: FundingWorld, server: LocalChain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REVIEW_PAUSE_S", 0.0)
    await credit_all(world)
    life = Life(3, NODES, PAYERS)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    escrow = await ask(world, "Escrow", "customers_micro")
    server.kill()
    (folder / "state.json").unlink(missing_ok=True)
    server.start()
    await world.pass_time(0)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    assert await world.funding.funded(2)
    assert 0 < await ask(world, "Escrow", "customers_micro") <= escrow
    await agree(world)


@pytest.mark.slow
async def test_more_customers_than_one_call_holds(world: FundingWorld) -> None:
    many = 300
    life = Life(5, NODES, many, lines_per_node=250)
    for number in range(many):
        await world.credit(number, EUR, b"credit/%d" % number)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    moves = await world.database.read(partial(store.moves_of, epoch=1, act=Act.DRAW))
    assert [len(move.body.customers) for move in moves][:1] == [256]
    for move in moves:
        status = await world.link.outbox.status(move.key)
        assert status is not None
        assert status.gas_used < 10_000_000
    assert await world.funding.funded(1)
    await agree(world)


async def test_a_withdrawal_leaves_the_escrow_after_its_lock(world: FundingWorld) -> None:
    await credit_all(world)
    await world.settle()
    funding, customer = world.funding, payer_id(2)
    payable = Account.of(AccountKind.PAYABLE, b"payment")
    with pytest.raises(AtollError) as error:
        await funding.withdraw(customer, 1, key=b"w", evidence=b"w", to=payable)
    assert error.value.kind is Kind.BAD_REQUEST, "whole units only"
    with pytest.raises(AtollError) as error:
        await funding.withdraw(customer, 4 * EUR, key=b"w", evidence=b"w", to=payable)
    assert error.value.kind is Kind.PRECONDITION_FAILED
    first = await funding.withdraw(customer, EUR, key=b"w", evidence=b"w", to=payable)
    again = await funding.withdraw(customer, EUR, key=b"w", evidence=b"w", to=payable)
    assert first.new
    assert not again.new
    await funding.withdraw(customer, EUR // 2, key=b"v", evidence=b"v", to=payable)
    await world.settle()
    key = await funding.escrow_key(customer)
    assert await ask(world, "Escrow", "balance_of", key) == 3_000_000, "it is locked"
    for _ in range(2):
        await world.pass_time(3 * 86_400 // DIVISOR + 1)
        await world.settle()
    assert await ask(world, "Escrow", "balance_of", key) == 1_500_000
    await agree(world)


async def test_whoever_deposits_for_a_customer_credits_him(world: FundingWorld) -> None:
    await credit_all(world)
    await world.settle()
    customer = b"a customer who pays from a wallet"
    key = await world.funding.escrow_key(customer)
    assert key == await world.views.ask(
        "Escrow",
        "customer_of",
        world.link.operator.address,
        world.funding.salt(customer),
    )
    friend = Signer.derived(SEED, "friend").address
    escrow = (await world.link.contracts())["Escrow"].address
    await by_another(world, "friend", "TestStable", "faucet", friend, 9_000_000)
    await by_another(world, "friend", "TestStable", "approve", escrow, 9_000_000)
    await by_another(world, "friend", "Escrow", "deposit", key, 5_000_000)
    await by_another(world, "friend", "Escrow", "deposit", b"s" * 32, 1_000_000)
    distributor = (await world.link.contracts())["EpochDistributor"].address
    await by_another(world, "friend", "TestStable", "approve", distributor, 3_000_000)
    await by_another(world, "friend", "EpochDistributor", "fund", 2_000_000)
    await world.settle()
    account = Account.of(AccountKind.CUSTOMER, customer)
    assert (await world.ledger.balance(account)).amount_pico == 5 * EUR
    statement = await world.ledger.statement(account)
    assert [line.kind for line in statement.lines] == [CHAIN_DEPOSIT]
    assert await ask(world, "Escrow", "balance_of", key) == 5_000_000, "not deposited twice"
    await agree(world)


async def test_a_branch_that_undoes_deposits_gets_them_again(world: FundingWorld) -> None:
    await world.settle()
    chain = await world.chain()
    snapshot = await chain.ask("evm_snapshot")
    await credit_all(world)
    await world.settle()
    await agree(world)
    assert await chain.ask("evm_revert", snapshot)
    await chain.ask("anvil_mine", "0x2")
    life = Life(3, NODES, PAYERS)
    await world.epoch(plain(life.next()), life.tariff, CREDITED)
    await world.settle()
    assert await world.funding.funded(1)
    await agree(world)


class Chaos:
    """Credits, repayments, epochs and rejections, while the chain and the process die."""

    def __init__(self, world: FundingWorld, server: LocalChain, folder: Path, seed: int) -> None:
        self.world, self.server, self.folder = world, server, folder
        self.rng = random.Random(seed)
        self.life = Life(seed, NODES, PAYERS)
        self.count = 0
        self.withdrawn = 0

    async def live(self, steps: int) -> None:
        doings = (
            self.credit,
            self.withdraw,
            self.epoch,
            self.epoch,
            self.some_steps,
            self.some_steps,
            self.forget,
            self.reject,
        )
        for doing in self.rng.choices(doings, k=steps):
            await doing()

    async def credit(self) -> None:
        self.count += 1
        amount = self.rng.randrange(1, 3 * EUR)
        await self.world.credit(self.rng.randrange(PAYERS), amount, b"more/%d" % self.count)

    async def withdraw(self) -> None:
        self.count += 1
        customer = payer_id(self.rng.randrange(PAYERS))
        has = (await self.world.balances()).get(customer, 0)
        amount = has // 3 // PICO_PER_MICRO * PICO_PER_MICRO
        if amount:
            key = b"withdraw/%d" % self.count
            await self.world.funding.withdraw(customer, amount, key=key, evidence=b"e")
            self.withdrawn += amount

    async def epoch(self) -> None:
        await self.world.epoch(plain(self.life.next()), self.life.tariff, CREDITED)

    async def some_steps(self) -> None:
        for _ in range(self.rng.randrange(1, 12)):
            await self.world.step()
        if self.rng.random() < 0.3:
            await self.world.pass_time(self.rng.randrange(1, 30))

    async def forget(self) -> None:
        """The chain loses everything, and the coordinator dies with it."""
        self.server.kill()
        (self.folder / "state.json").unlink(missing_ok=True)
        self.server.start()
        await self.world.link.close()
        self.world.restart()
        await self.world.pass_time(0)

    async def reject(self) -> None:
        pot = await self.world.database.read(store.open_pot)
        if pot is None or pot.state is not PotState.LOCKED:
            return
        try:
            found = await self.world.views.ask("Escrow", "pots", pot.epoch)
        except AtollError:
            return  # the chain has forgotten the escrow itself
        if found[4] == 1:
            await by_another(self.world, "guardian", "Escrow", "reject", pot.epoch)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 11])
async def test_chaos_ends_with_every_sum_equal(
    world: FundingWorld,
    server: LocalChain,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(service, "REVIEW_PAUSE_S", 0.0)
    monkeypatch.setattr(acts, "RETRY_MS", 0)
    chaos = Chaos(world, server, folder, seed)
    await world.settle()
    await credit_all(world)
    await chaos.live(25)
    # What was rejected comes with a later epoch.
    await chaos.epoch()
    for _ in range(3):
        await world.settle()
        await world.pass_time(3 * 86_400 // DIVISOR + 1)
    await world.settle()
    assert await world.funding.funded(chaos.life.epoch), world.funding.waits_for
    await agree(world)
    found = await world.database.read(store.sums)
    balances = sum((await world.balances()).values())
    there = (found.arrived_micro - found.spent_micro) * PICO_PER_MICRO
    assert abs(there - balances) < PAYERS * PICO_PER_MICRO, "fractions of a unit at most"
    assert found.withdrawn_micro * PICO_PER_MICRO == chaos.withdrawn


@pytest.mark.long
@pytest.mark.slow
async def test_killed_between_any_two_steps(
    world: FundingWorld, server: LocalChain, folder: Path
) -> None:
    """Processes that live for a few writes each reach what one that lives on reaches."""
    program = Path(__file__).with_name("dying_funder.py")
    finished = folder / "finished"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        str(folder),
        server.url,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert await process.wait() == 0
    await until(finished.exists)
    deaths, epochs = (int(word) for word in finished.read_text().split())
    assert deaths > 40
    await world.settle()
    for epoch in range(1, epochs + 1):
        assert await world.funding.funded(epoch)
    await agree(world)
    deposits = await world.database.read(store.sums)
    credited = sum((3 * EUR + 333_333 * number) // PICO_PER_MICRO for number in range(PAYERS))
    assert deposits.arrived_micro == deposits.deposited_micro == credited
