"""Relays that carry connections to nodes which nobody can call, and that go away.

A relay passes bytes on untouched, so the network shows it as further addresses of the node itself.
A node names three relays of different operators and keeps tunnels to the first two that answer.

What is asserted: at most a third of a segment's pieces lies behind relays; so with every relay
away at once all that was acknowledged can be read; and one that is away costs nothing.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll.coordinator.placement.rules import relayed_max
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.nodes import RelayPlace
from atoll.core.ports import Address
from atoll.sim.machines import NodeMachine
from atoll.sim.scenario import FaultPlan

if TYPE_CHECKING:
    from atoll.sim.world import World

RELAYS = 4
RELAYS_NAMED = 3
TUNNELS = 2
PORT_FIRST = 7100
TUNNEL_S = (0.5, 2.0)
"""A node without a tunnel builds another one within this time."""
WHOLE_S_MAX = 120.0
READ_TRIES = 4
READ_PAUSE_S = 2.0


@dataclass(slots=True)
class Relay:
    """One relay of an operator of its own."""

    number: int
    relay_id: bytes
    up: bool = True

    @property
    def host(self) -> str:
        """Its address."""
        return f"127.1.{self.number}.1"


class Relays:
    """The relays of a world, and the nodes behind them: the last ones of its first nodes."""

    def __init__(self, world: "World") -> None:
        """As many nodes as the scenario says are behind relays; none: this does nothing."""
        self._world = world
        self.relays = [
            Relay(number, bytes(Identity(world.seeded(f"relay{number}")).node_id))
            for number in range(1, RELAYS + 1)
        ]
        self._chance = random.Random(f"{world.seed}/relays")

    def behind(self, node: NodeMachine) -> bool:
        """Say whether a node is reached through relays only."""
        nodes = self._world.scenario.nodes
        return nodes - self._world.scenario.relayed < node.number <= nodes

    def _tunnels(self, node: NodeMachine) -> list[Relay]:
        named = [self.relays[(node.number + i) % RELAYS] for i in range(RELAYS_NAMED)]
        return [relay for relay in named if relay.up][:TUNNELS]

    def connect(self, node: NodeMachine) -> None:
        """Let a node that has just started be reached through its relays, and only so."""
        service, life = node.service, node.incarnation
        if not self.behind(node) or service is None or life is None:
            return

        def places() -> tuple[RelayPlace, ...]:
            return tuple(
                RelayPlace(
                    relay_id=relay.relay_id,
                    operator=f"relay{relay.number}",
                    host=relay.host,
                    port=PORT_FIRST + node.number,
                )
                for relay in self._tunnels(node)
            )

        last: list[tuple[RelayPlace, ...]] = [()]

        def reach() -> tuple[Address, tuple[RelayPlace, ...]]:
            last[0] = found = places() or last[0]
            own = Address(node.config.host, node.config.port)
            return (Address(found[0].host, found[0].port) if found else own), found

        service.reach = reach
        self._listen(node)

    def _listen(self, node: NodeMachine) -> None:
        service, life = node.service, node.incarnation
        if service is None or life is None or life.dead:
            return
        for relay in self._tunnels(node):
            port = PORT_FIRST + node.number
            self._world.network.listen(relay.host, port, life, service.app)

    async def lose(self, relays: Sequence[Relay]) -> None:
        """Let relays go away; nodes with a relay left build other tunnels soon."""
        for relay in relays:
            relay.up = False
            self._world.network.silence(relay.host)
        self._world.trace.note("relays away", " ".join(str(relay.number) for relay in relays))
        await self._tell()

    async def bring_back(self, relays: Sequence[Relay]) -> None:
        """Let them serve again."""
        for relay in relays:
            relay.up = True
        self._world.trace.note("relays back", " ".join(str(relay.number) for relay in relays))
        await self._tell()

    async def _tell(self) -> None:
        await asyncio.sleep(self._chance.uniform(*TUNNEL_S))
        for node in self._world.nodes:
            if self.behind(node) and node.up and node.service is not None:
                self._listen(node)
                node.service.announce()

    async def heal(self) -> None:
        """Let every relay serve."""
        if self._world.scenario.relayed:
            await self.bring_back([relay for relay in self.relays if not relay.up])

    def crowd(self, keepers: Sequence[NodeMachine], pieces: int) -> str:
        """Say what is wrong where too many of a segment's pieces lie behind relays."""
        count = sum(self.behind(node) for node in keepers)
        most = relayed_max(pieces)
        return f"{count} of {pieces} pieces lie behind relays" if count > most else ""


async def relay_away(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """One relay goes away for a while."""
    relay = chance.choice(world.relays.relays)
    await world.relays.lose([relay])
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    await world.relays.bring_back([relay])


async def relays_away(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """All relays go away at once, with everything whole: whatever was acknowledged is read."""
    if not await world.whole(WHOLE_S_MAX):
        return
    gone = [relay for relay in world.relays.relays if relay.up]
    keys = [key for key in sorted(world.ledger.keys) if world.ledger.state(key).certain]
    await world.relays.lose(gone)
    for key in chance.sample(keys, min(len(keys), 10)):
        if not await _reads(world, key):
            world.violated(f"{key} cannot be read while all relays are away")
            return
        world.trace.note("read without relays", key)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    await world.relays.bring_back(gone)


async def _reads(world: "World", key: str) -> bool:
    for _ in range(READ_TRIES):
        try:
            await world.ask_front(world.front.get(world.bucket, key, 0, None))
        except AtollError as error:
            if error.kind is Kind.OBJECT_NOT_FOUND:
                return True  # deleted meanwhile
            await asyncio.sleep(READ_PAUSE_S)
        else:
            return True
    return False
