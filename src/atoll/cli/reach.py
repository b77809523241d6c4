"""Wires a node's ways to be reached: directly, by its router, through relays."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.relays import AskReachable, Reachable
from atoll.core.ports import Address
from atoll.runtime.clock import SystemClock
from atoll.runtime.config import NodeSettings
from atoll.runtime.rng import SystemRng

if TYPE_CHECKING:
    from atoll.node.service import NodeService

RELAYS_NAMED_MAX = 8
ANY_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


def relay_addresses(text: str) -> tuple[Address, ...]:
    """Read relays: ``HOST:PORT#FINGERPRINT``, several with commas. Raises ``CONFIG``."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        place, _, pinned = entry.partition("#")
        host, colon, port = place.rpartition(":")
        try:
            fingerprint = bytes.fromhex(pinned)
        except ValueError:
            fingerprint = b"?"
        if not colon or not host or not port.isdigit() or len(fingerprint) not in (0, 32):
            raise AtollError(
                Kind.CONFIG,
                "read relays",
                f"{entry!r} is no relay",
                hint="write HOST:PORT#FINGERPRINT; `atoll relay show` tells its own",
            )
        found.append(Address(host.strip("[]"), int(port), fingerprint))
    if len(found) > RELAYS_NAMED_MAX:
        raise AtollError(Kind.CONFIG, "read relays", f"at most {RELAYS_NAMED_MAX} are named")
    return tuple(found)


async def begin_reach(
    stack: AsyncExitStack,
    service: "NodeService",
    settings: NodeSettings,
    seed: bytes,
    *,
    loopback: bool,
) -> None:
    """Have a node find how others reach it, and tell its coordinators."""
    from atoll.core.identity import Identity
    from atoll.node.reach import NodeReach, PortMapper, ReachMode
    from atoll.node.router import RouterMapper
    from atoll.node.tunnel import NodeTunnels
    from atoll.runtime.lan import LocalNetwork
    from atoll.runtime.sockets import RealSockets

    relays = relay_addresses(settings.relays)
    mode = ReachMode(settings.reach)
    if mode is ReachMode.RELAY and not relays:
        raise AtollError(Kind.CONFIG, "start node", "node.reach is relay, but no relay is named")
    config = service.config
    own = Address(config.host, config.port, config.fingerprint)
    local = "127.0.0.1" if settings.host in ANY_HOSTS else settings.host
    clock = SystemClock()
    tunnels = NodeTunnels(
        clock,
        SystemRng(),
        RealSockets(),
        Identity(seed),
        relays,
        Address(local, settings.port),
        service.announce,
    )

    async def ask(question: AskReachable) -> Reachable:
        return await service.ask_any(question, Reachable)

    mapper = PortMapper() if loopback else RouterMapper(LocalNetwork(), SystemRng())
    reach = NodeReach(clock, mode, own, ask, mapper, tunnels, service.announce)
    service.reach = lambda: (reach.address, tuple(reach.places))
    if mode is ReachMode.AUTO and loopback and not relays:
        return  # Nothing could be done about it.
    await reach.start()
    stack.push_async_callback(reach.stop)
