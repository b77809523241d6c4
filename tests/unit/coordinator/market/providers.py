"""Providers that register, change their price and send heartbeats, over a real registry."""

from tests.unit.coordinator.metadata.world import StillClock

from atoll.coordinator.registry.model import LOCAL
from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.core.identity import Identity
from atoll.core.messages import (
    Heartbeat,
    NodeCounters,
    NodeFacts,
    Register,
    SignedFacts,
    encode,
)
from atoll.core.ports import Database

TB = 10**12


def provider(number: int) -> Identity:
    return Identity(bytes((number,)) * 32)


class Providers:
    """A registry and the providers in it; the first has alias 1."""

    def __init__(self, database: Database, clock: StillClock) -> None:
        self.clock = clock
        self.registry = RegistryService(
            clock, database, b"k" * 32, RegistryConfig(timers=LOCAL), judges=True
        )

    async def post(
        self,
        number: int,
        price_micro: int = 0,
        *,
        tier: str = "home",
        capacity_bytes: int = 4 * TB,
        used_bytes: int = 0,
        exiting: bool = False,
        payout_account: bytes = b"",
    ) -> None:
        """Register with a price, or change it; and say how much is used."""
        identity = provider(number)
        self.clock.time_ms += 1
        facts = encode(
            NodeFacts(
                public_key=identity.public_key, operator=f"o{number}", site="s", region="",
                country="", tier=tier, host="127.0.0.1", port=9_000 + number, fingerprint=b"",
                capacity_bytes=capacity_bytes, price_micro=price_micro, version="1",
                exiting=exiting, payout_account=payout_account,
            )
        )  # fmt: skip
        signed = SignedFacts(facts=facts, signature=identity.sign(b"node-facts/1", facts))
        await self.registry.register(
            Register(signed_facts=signed), identity.public_key, self.clock.time_ms
        )
        counters = NodeCounters(
            used_bytes=used_bytes, trash_bytes=0, free_bytes=capacity_bytes - used_bytes,
            pieces=1, put_bytes=0, get_bytes=0, errors=0,
        )  # fmt: skip
        heartbeat = Heartbeat(
            time_ms=self.clock.time_ms, incarnation=1, full=False, counters=counters
        )
        await self.registry.heartbeat(heartbeat, identity.public_key)
