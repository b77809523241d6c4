"""Wires a relay."""

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from atoll.cli.places import RELAY_SEED
from atoll.core.errors import AtollError, Kind
from atoll.runtime.clock import SystemClock
from atoll.runtime.config import Config
from atoll.runtime.folder import Folder, write_file
from atoll.runtime.rng import SystemRng

if TYPE_CHECKING:
    from atoll.relay.service import RelayService

FIGURES_INTERVAL_S = 5.0
RUNNING_RELAY = "relay.json"


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
