"""How others come to reach this node: directly, through a port its router opens, through relays."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from atoll.core.errors import AtollError
from atoll.core.messages.nodes import RelayPlace
from atoll.core.messages.relays import AskReachable, Reachable
from atoll.core.ports import Address, Clock
from atoll.node.tunnel import NodeTunnels

_LOG = logging.getLogger(__name__)
CHECK_S = 600.0
"""Between looks whether a way that was found still holds."""
CHECK_S_SOON = 10.0
"""Until a coordinator has answered once."""


class ReachMode(Enum):
    """What the operator allows."""

    AUTO = "auto"
    """Directly if a coordinator can call this node, else by the router, else through relays."""
    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class MappedPort:
    """What a router was asked to pass on."""

    host: str
    port: int


class PortMapper:
    """Asks the router for a port. Subclasses speak to real ones."""

    async def map_port(self, port: int) -> MappedPort | None:
        """Have the router pass a port on to this one; None where none does."""
        return None


class NodeReach:
    """Decides and keeps the way."""

    def __init__(
        self,
        clock: Clock,
        mode: ReachMode,
        own: Address,
        ask: Callable[[AskReachable], Awaitable[Reachable]],
        mapper: PortMapper,
        tunnels: NodeTunnels,
        changed: Callable[[], None],
    ) -> None:
        """``own`` is where the node says it listens, ``ask`` puts a question to a coordinator."""
        self._clock = clock
        self._mode = mode
        self._own = own
        self._ask = ask
        self._mapper = mapper
        self._tunnels = tunnels
        self._changed = changed
        self._mapped: MappedPort | None = None
        self._task: asyncio.Task[None] | None = None
        self._relayed = False

    @property
    def places(self) -> Sequence[RelayPlace]:
        """Relays through which the node is reached; empty where it is reached without."""
        return self._tunnels.places

    @property
    def address(self) -> Address:
        """Where others reach this node now."""
        places = self._tunnels.places
        if places:
            return Address(places[0].host, places[0].port, self._own.fingerprint)
        if self._mapped is not None:
            return Address(self._mapped.host, self._mapped.port, self._own.fingerprint)
        return self._own

    async def start(self) -> None:
        """Begin to find a way."""
        if self._mode is ReachMode.RELAY:
            self._begin_tunnels()
        elif self._mode is ReachMode.AUTO:
            self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Let go of what was built."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._tunnels.stop()

    def _begin_tunnels(self) -> None:
        if not self._relayed:
            self._relayed = True
            self._tunnels.start()

    async def _keep(self) -> None:
        while True:
            pause_s = CHECK_S
            try:
                await self._look()
            except AtollError as cause:
                _LOG.info("whether this node can be reached is not known: %s", cause)
                pause_s = CHECK_S_SOON
            await self._clock.sleep(pause_s)

    async def _look(self) -> None:
        """One look: directly, by the router, else through relays."""
        if await self._answers(self._own):
            await self._settle(None)
            return
        mapped = await self._mapper.map_port(self._own.port)
        if mapped is not None:
            # The router's lease is renewed by asking again; others see whether it works.
            await self._clock.sleep(CHECK_S_SOON)
            if await self._answers(Address(mapped.host, mapped.port, self._own.fingerprint)):
                await self._settle(mapped)
                return
        if not self._relayed:
            _LOG.warning("nobody can call this node: it builds tunnels to relays")
        self._begin_tunnels()

    async def _settle(self, mapped: MappedPort | None) -> None:
        """Take a way without relays."""
        before = self.address
        if self._relayed:
            self._relayed = False
            await self._tunnels.stop()
        self._mapped = mapped
        if self.address != before:
            self._changed()

    async def _answers(self, address: Address) -> bool:
        question = AskReachable(
            host=address.host, port=address.port, fingerprint=address.fingerprint
        )
        return (await self._ask(question)).reachable
