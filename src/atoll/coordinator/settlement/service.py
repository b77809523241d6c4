"""Keeps up with the chain: sends what is wanted, watches the contracts, deploys an embedded one.

The rest of the coordinator never waits for it. What it wants on the chain it gives to
``link.outbox``, which needs no chain; what happened there it reads from ``link.watcher``.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from atoll.coordinator.part import Part, Step
from atoll.core.ports import Clock, Database
from atoll.economy.chain.book import write_book
from atoll.economy.chain.link import ChainLink, LinkConfig, Open
from atoll.economy.chain.model import Contract

CHAIN_KEYS = b"chain-keys/1"
"""Purpose under which a coordinator's identity derives the seed of its keys of the chain."""
EMBEDDED_PAUSE_S = 0.5
PUBLIC_PAUSE_S = 4.0
"""Between steps: chains make a block every few seconds."""

START_PAUSE_S = 3.0
"""The libraries of the chain are imported after a coordinator has begun to serve."""


Publish = Callable[[bytes], Awaitable[None]]
"""Takes the address book as a file."""


@dataclass(frozen=True, slots=True)
class SettlementConfig:
    """Which chain a coordinator settles on, and the way there."""

    open_chain: Open
    link: LinkConfig = field(default_factory=LinkConfig)
    publish: Publish | None = None
    """Keeps the address book where others find it, whenever it changed."""


class SettlementService(Part):
    """Steps a chain's link where the coordinator runs its loops."""

    def __init__(
        self, clock: Clock, database: Database, seed: bytes, config: SettlementConfig
    ) -> None:
        """``seed``: what the identity derives for ``CHAIN_KEYS``. Raises ``CONFIG``."""
        self.link = ChainLink(clock, database, seed, config.link, config.open_chain)
        pause_s = EMBEDDED_PAUSE_S if config.link.embedded else PUBLIC_PAUSE_S
        self._clock = clock
        self._publish = config.publish
        self._published: dict[str, Contract] = {}
        self._begins = clock.monotonic() + START_PAUSE_S
        self.steps = (Step("settlement", self._step, pause_s),)

    async def _step(self) -> None:
        if self._clock.monotonic() < self._begins:
            return
        await self.link.step()
        contracts = await self.link.contracts()
        if contracts and self._publish is not None and contracts != self._published:
            await self._publish(write_book(self.link.config.chain_id, contracts))
            self._published = contracts

    async def stop(self) -> None:
        """Let go of the chain's server."""
        await self.link.close()
