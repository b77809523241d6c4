"""The chain's side of payouts: what has arrived at a node's account, and how it comes from there.

The node signs a permit over exactly the payout; the operator brings it to the stablecoin and takes
that much. Both are intents of the outbox: durable, once, whatever dies on the way.
"""

from dataclasses import dataclass
from enum import Enum

from atoll.coordinator.payouts.model import MICRO_PER_CENT, Order
from atoll.coordinator.settlement.service import SettlementService
from atoll.coordinator.settlement.views import Views
from atoll.core.messages.payouts import PayoutOrder
from atoll.economy.artifacts.load import load
from atoll.economy.chain.abi import call_data
from atoll.economy.chain.deploy import TEST_STABLE
from atoll.economy.chain.model import Intent, IntentState
from atoll.economy.chain.permit import parts_of


class Done(Enum):
    """How something on the chain stands."""

    WAITS = "waits"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PermitTerms:
    """What a permit of an account would have to say now."""

    domain: bytes
    spender: bytes
    nonce: int


class Till:
    """Takes payouts from nodes' accounts, and gives back what the bank did not pay."""

    def __init__(self, settlement: SettlementService) -> None:
        """Over the chain that is settled on."""
        self._settlement = settlement
        self._link = settlement.link
        self._views = Views(settlement.link)

    async def arrived_micro(self, account: bytes) -> int:
        """Return what the distributor ever sent to an account."""
        return await self._settlement.claimed_micro(account)

    async def there_micro(self, account: bytes) -> int:
        """Return what an account has now. Raises what the chain raises."""
        return await self._views.balance_micro(account)

    async def permit_terms(self, account: bytes) -> PermitTerms:
        """Return what a permit of an account would have to say. Raises what the chain raises."""
        stable = await self._views.stable()
        domain = await self._views.ask_at(stable, TEST_STABLE, "DOMAIN_SEPARATOR")
        nonce = await self._views.ask_at(stable, TEST_STABLE, "nonces", account)
        return PermitTerms(bytes(domain), self._link.operator.address, int(nonce))

    async def pull(self, order: Order, promise: PayoutOrder) -> Done:
        """Take a signed payout; say how far that is. Wanting it again does nothing more."""
        stable = await self._views.stable()
        v, r, s = parts_of(order.permit)
        operator, owner = self._link.operator.address, promise.account
        value = promise.amount_micro
        artifact = load(TEST_STABLE)
        permit = call_data(
            artifact, "permit", owner, promise.spender, value, promise.deadline_s, v, r, s
        )
        take = call_data(artifact, "transferFrom", owner, operator, value)
        outbox, key = self._link.outbox, _key(order)
        await outbox.submit(Intent(f"{key}/permit", operator, stable, permit))
        await outbox.submit(Intent(f"{key}/pull", operator, stable, take))
        return await self._state(f"{key}/pull")

    async def give_back(self, order: Order) -> Done:
        """Send a payout that the bank did not pay back to its account; say how far that is."""
        stable = await self._views.stable()
        send = call_data(
            load(TEST_STABLE), "transfer", order.account, order.amount_cents * MICRO_PER_CENT
        )
        key = f"{_key(order)}/back"
        await self._link.outbox.submit(Intent(key, self._link.operator.address, stable, send))
        return await self._state(key)

    async def _state(self, key: str) -> Done:
        status = await self._link.outbox.status(key)
        if status is None or status.state < IntentState.FINAL:
            return Done.WAITS
        return Done.DONE if status.state is IntentState.FINAL else Done.REFUSED


def _key(order: Order) -> str:
    return f"payout/{order.payout.hex()}"
