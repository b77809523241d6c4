"""Wires relays, and nodes' ways to them."""

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from atoll.cli.places import RELAY_SEED
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.relays import AskReachable, Reachable
from atoll.core.ports import Address
from atoll.runtime.clock import SystemClock
from atoll.runtime.config import Config, NodeSettings
from atoll.runtime.folder import Folder, write_file
from atoll.runtime.rng import SystemRng

if TYPE_CHECKING:
    from atoll.node.service import NodeService
    from atoll.relay.service import RelayService

RELAYS_NAMED_MAX = 8
FIGURES_INTERVAL_S = 5.0
RUNNING_RELAY = "relay.json"
ANY_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


async def run_relay(folder: Folder, config: Config) -> None:
    """Run a relay until asked to stop; its figures are kept in ``relay.json``."""
    import asyncio

    from atoll.cli.wire import identity_of, tls_of, until_asked
    from atoll.relay.config import RelayConfig
    from atoll.relay.service import RelayService
    from atoll.runtime.sockets import RealSockets

    settings = config.relay
    if not settings.operator:
        raise AtollError(
            Kind.CONFIG, "start relay", "relay.operator is not set", hint="name it: --operator"
        )
    tls = tls_of(folder.path, settings.host, (settings.host,))
    service = RelayService(
        SystemClock(),
        SystemRng(),
        RealSockets(tls),
        identity_of(folder.path, RELAY_SEED),
        RelayConfig(
            operator=settings.operator,
            host=settings.host,
            port=settings.port,
            port_first=settings.port_first,
            nodes_max=settings.nodes_max,
            bytes_per_s=settings.bytes_per_s,
            tls=tls is not None,
        ),
    )
    async with AsyncExitStack() as stack:
        await service.start()
        stack.push_async_callback(service.stop)
        fingerprint = tls.fingerprint.hex() if tls is not None else ""

        async def keep_figures() -> None:
            while True:
                write_file(folder.path / RUNNING_RELAY, _figures(service, fingerprint))
                await SystemClock().sleep(FIGURES_INTERVAL_S)

        keeping = asyncio.create_task(keep_figures(), name="keep figures")
        stack.callback(keeping.cancel)
        await until_asked()
        write_file(folder.path / RUNNING_RELAY, _figures(service, fingerprint))


def _figures(service: "RelayService", fingerprint: str) -> bytes:
    figures = {
        "operator": service.config.operator,
        "host": service.config.host,
        "port": service.port,
        "fingerprint": fingerprint,
        "tunnels": service.tunnels,
        "nodes": [
            {
                "node_id": meter.node_id.hex(),
                "to_node_bytes": meter.to_node_bytes,
                "from_node_bytes": meter.from_node_bytes,
                "connections": meter.connections,
                "refused": meter.refused,
            }
            for meter in service.meters
        ],
    }
    return json.dumps(figures).encode() + b"\n"


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
    stack: AsyncExitStack, service: "NodeService", settings: NodeSettings, seed: bytes
) -> None:
    """Have a node find how others reach it, and tell its coordinators."""
    from atoll.cli.wire import is_loopback
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

    loopback = is_loopback(config.host)
    mapper = PortMapper() if loopback else RouterMapper(LocalNetwork(), SystemRng())
    reach = NodeReach(clock, mode, own, ask, mapper, tunnels, service.announce)
    service.reach = lambda: (reach.address, tuple(reach.places))
    if mode is ReachMode.AUTO and loopback and not relays:
        return  # Nothing could be done about it.
    await reach.start()
    stack.push_async_callback(reach.stop)
