"""Payouts over a real chain: the contracts of ours, accounts of nodes, claims as they arrive.

What a node earned is settled by billing; that it was claimed is written as settlement writes it,
and the stablecoin put there by the faucet.
"""

from functools import partial
from pathlib import Path

from tests.fixtures.bank import OPERATOR
from tests.fixtures.chain import open_chain
from tests.unit.coordinator.billing.test_billing import COORDINATOR, EUR
from tests.unit.coordinator.market.providers import provider
from tests.unit.coordinator.payouts.world import ADA_IBAN, BERT_IBAN, SEAL
from tests.unit.coordinator.payouts.world import World as LedgerWorld
from typing_extensions import override

from atoll.coordinator.payouts.bank import PayoutBank
from atoll.coordinator.payouts.desk import PayoutDesk
from atoll.coordinator.payouts.till import Till
from atoll.coordinator.settlement import store as settlement_store
from atoll.coordinator.settlement.model import Claim
from atoll.coordinator.settlement.service import SettlementConfig, SettlementService
from atoll.core.messages.payouts import (
    GetPayoutOrders,
    PayoutOrders,
    PayoutTaken,
    SignPayout,
)
from atoll.core.ports import Address, Chain
from atoll.economy.artifacts.load import load
from atoll.economy.chain.abi import call_data
from atoll.economy.chain.deploy import TEST_STABLE
from atoll.economy.chain.link import LinkConfig
from atoll.economy.chain.model import Intent
from atoll.economy.chain.signer import Signer
from atoll.economy.ledger.model import AccountKind
from atoll.node.config import PayoutAccess
from atoll.node.link import Link
from atoll.node.payouts import PayoutSigner
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

CHAIN_SEED = b"k" * 32
IBANS = {1: ADA_IBAN, 2: BERT_IBAN}
MICRO = 10**6
ROUNDS_MAX = 600


def key_of(number: int) -> Signer:
    return Signer.derived(bytes((number,)) * 32, "payout")


def settlement_over(database: SqlDatabase, url: str) -> SettlementService:
    """Return what a coordinator that was just started has of the chain."""

    async def open_() -> Chain:
        return await open_chain(url)

    config = SettlementConfig(open_, LinkConfig(time_divisor=14_400))
    return SettlementService(SystemClock(), database, CHAIN_SEED, config)


class World(LedgerWorld):
    """Two nodes with accounts on a real chain, and bank accounts."""

    def __init__(
        self, database: SqlDatabase, folder: Path, compute: ThreadCompute, url: str
    ) -> None:
        super().__init__(database, folder, compute)
        self.url = url
        self.clock.time_ms = SystemClock().now_ms()
        self.slot = self.clock.time_ms // 10_000
        self.settlement = settlement_over(database, url)
        self.claims = 0

    @override
    def desk(self) -> PayoutDesk:
        return PayoutDesk(
            self.clock,
            SystemRng(),
            self.database,
            COORDINATOR,
            self.providers.registry,
            SEAL,
            Till(self.settlement),
            lambda: OPERATOR,
        )

    @override
    def bank(self) -> PayoutBank:
        return PayoutBank(
            self.clock, self.database, self.compute, SEAL, lambda: OPERATOR, on_chain=True
        )

    async def restart(self) -> None:
        """Forget everything that is not durable."""
        await self.settlement.stop()
        self.settlement = settlement_over(self.database, self.url)

    @override
    async def earn(self) -> None:
        """Settle an epoch; the contracts stand."""
        await self.begin(prepaid_pico=1_000 * EUR)
        for number in IBANS:
            await self.providers.post(number, 1_000_000, payout_account=key_of(number).address)
        await self.name_banks()
        await self.pass_epoch()
        await self.settle()
        for _ in range(ROUNDS_MAX):
            await self.settlement.link.step()
            deployed = self.settlement.link.deployed
            if deployed is not None and deployed.done:
                return
        raise AssertionError(self.settlement.link.problem)

    async def due(self, number: int) -> int:
        return await self.balance(AccountKind.PROVIDER, key_of(number).address)

    async def arrive(self, number: int, amount_micro: int) -> None:
        """A claim of a node's account stands on the chain."""
        self.claims += 1
        link = self.settlement.link
        stable = await self.settlement.views.stable()
        account = key_of(number).address
        faucet = call_data(load(TEST_STABLE), "faucet", account, amount_micro)
        key = f"test/faucet/{self.claims}"
        await link.outbox.submit(Intent(key, link.operator.address, stable, faucet))
        claim = Claim(account, 1, amount_micro, 0, bytes(31) + bytes((self.claims,)), 1)
        await self.database.write(
            partial(settlement_store.put_claims, claims=[(10_000 + self.claims, claim)])
        )
        await self.quiet()

    async def quiet(self) -> None:
        """Step the chain's link until nothing is under way."""
        for _ in range(ROUNDS_MAX):
            await self.settlement.link.step()
            if not (await self.settlement.link.outbox.state()).pending:
                return
        raise AssertionError(await self.settlement.link.outbox.state())

    async def there(self, account: bytes) -> int:
        return await self.settlement.views.balance_micro(account)

    @property
    def operator(self) -> bytes:
        return self.settlement.link.operator.address

    async def carry(self) -> None:
        """Let the coordinator carry payouts until nothing moves."""
        for _ in range(ROUNDS_MAX):
            moved = await self.desk().carry()
            await self.quiet()
            if not moved and not await self.desk().carry():
                return
        raise AssertionError("payouts move for ever")

    async def sign(self, number: int, *, iban: str = "") -> int:
        """Let a node's own part ask and sign; return how much it signed."""

        async def orders(_: Link) -> PayoutOrders:
            return await self.as_node(number, GetPayoutOrders(), PayoutOrders)

        async def take(_: Link, permit: SignPayout) -> PayoutTaken:
            return await self.as_node(number, permit, PayoutTaken)

        key = key_of(number)
        link = Link(Address("127.0.0.1", 1), key=COORDINATOR.public_key, registered=True)
        access = PayoutAccess(key.address, key.sign_digest, lambda: iban or IBANS[number])
        disk = FolderDisk(self.folder / f"node-{number}")
        signer = PayoutSigner(
            SystemClock(), self.compute, disk, provider(number), [link], access, orders, take
        )
        return await signer.look()
