"""Nodes that register, beat and are judged, on a clock that the test moves."""

from dataclasses import replace

from tests.unit.coordinator.metadata.world import StillClock

from atoll.coordinator.registry.model import LOCAL as TIMERS
from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.coordinator.reputation.model import LOCAL, Limits, Standing
from atoll.coordinator.reputation.service import ReputationService
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

KEY = b"k" * 32
LIMITS = replace(LOCAL, windows_min=12, recovery_windows=6, grace_ms=120_000)
"""As local, but quicker still."""
COUNTERS = NodeCounters(
    used_bytes=1, trash_bytes=0, free_bytes=1 << 30, pieces=1, put_bytes=0, get_bytes=0, errors=0
)


class World:
    """One judging process over a database."""

    def __init__(self, database: Database, limits: Limits = LIMITS) -> None:
        self.clock = StillClock()
        self.database = database
        self.limits = limits
        self.identities: dict[int, Identity] = {}
        self.silent: set[int] = set()
        self.registry = RegistryService(
            self.clock, database, KEY, RegistryConfig(timers=TIMERS), judges=True
        )
        self.service = self.another(judges=True)

    def another(self, *, judges: bool) -> ReputationService:
        """Another process over the same database."""
        return ReputationService(
            self.clock, self.database, self.registry, "local", judges=judges, limits=self.limits
        )

    async def join(
        self,
        count: int = 1,
        *,
        tier: str = "home",
        exiting: bool = False,
        identity: Identity | None = None,
        calendar: str = "",
    ) -> list[int]:
        """Let nodes of operators of their own register."""
        aliases = []
        for _ in range(count):
            who = identity or Identity(len(self.identities).to_bytes(32, "big"))
            number = len(self.identities)
            facts = encode(
                NodeFacts(
                    public_key=who.public_key, operator=f"o{number}", site=f"s{number}",
                    region="eu", country="PT", tier=tier, host="127.0.0.1", port=9000 + number,
                    fingerprint=b"", capacity_bytes=1 << 40, price_micro=0, version="1",
                    exiting=exiting, calendar=calendar,
                )
            )  # fmt: skip
            signed = SignedFacts(facts=facts, signature=who.sign(b"node-facts/1", facts))
            self.clock.time_ms += 1
            answer = await self.registry.register(
                Register(signed_facts=signed), who.public_key, self.clock.time_ms
            )
            self.identities[answer.alias] = who
            aliases.append(answer.alias)
        await self.beat()
        await self.service.tick()
        return aliases

    async def beat(self) -> None:
        """Let every node that is not silent send a heartbeat."""
        for alias, identity in self.identities.items():
            if alias not in self.silent:
                heartbeat = Heartbeat(
                    time_ms=self.clock.time_ms, incarnation=1, full=False, counters=COUNTERS
                )
                await self.registry.heartbeat(heartbeat, identity.public_key)

    async def pass_ms(self, milliseconds: int) -> None:
        """Let time pass as a running coordinator does."""
        end = self.clock.time_ms + milliseconds
        while self.clock.time_ms < end:
            self.clock.time_ms = min(end, self.clock.time_ms + self.limits.tick_ms)
            await self.beat()
            await self.registry.tick()
            await self.service.tick()

    async def windows(self, count: int) -> None:
        """Let so many availability windows pass."""
        await self.pass_ms(count * self.limits.window_ms)

    def standing(self, alias: int) -> Standing:
        """Return a node's standing."""
        return self.service.standing(alias)

    async def settle(self) -> None:
        """Let waiting samples be judged."""
        await self.pass_ms(self.limits.settle_ms + self.limits.tick_ms)
