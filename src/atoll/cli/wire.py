"""The one place that wires the real world to the rooms: a coordinator, a gateway, a node.

Each ``run_…`` builds one process from a data folder and settings, serves until it is asked to stop
(SIGTERM, Ctrl-C) and stops in order: the door first, then the rooms, then what they stood on.
"""

import asyncio
import ipaddress
import logging
import os
import signal
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

import atoll
from atoll.cli.carried import address_table, carried
from atoll.cli.places import (
    ACCESS,
    COORDINATOR_SEED,
    DATABASE,
    GATEWAY_PARTY,
    GATEWAY_SEED,
    NODE_SEED,
    RUNNING_NODE,
    TRUSTED_GATEWAYS,
    TRUSTED_VERIFIERS,
    VERIFIER_SEED,
    AccessKey,
    RunningNode,
)
from atoll.cli.rooms import (
    allowance_of,
    billing_of,
    coordinator_place,
    customers_of,
    packing_of,
    repair_profile,
    root_key,
    set_timers,
    upgrades_of,
)
from atoll.cli.settling import payout_access, payout_account, settlement_of, verifier_signer
from atoll.core.calendar import format_calendar, parse_calendar
from atoll.core.crypto import first_account
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SEED_BYTES, Identity
from atoll.core.messages import ControlPlane
from atoll.core.ports import Address
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.config import (
    Config,
    CoordinatorSettings,
    GatewaySettings,
    NodeSettings,
    VerifierSettings,
)
from atoll.runtime.folder import SECRETS, Folder, read_secret, write_file
from atoll.runtime.logs import start_logs
from atoll.runtime.memory import keep_memory
from atoll.runtime.process import allow_open_files, end_with_parent
from atoll.runtime.rng import SystemRng
from atoll.runtime.server import AsgiApp, HttpServer, open_socket
from atoll.runtime.supervisor import PARENT_VARIABLE
from atoll.runtime.transport import HttpPieceTransport

if TYPE_CHECKING:
    from atoll.cli.drill.liars import Disguise
    from atoll.coordinator.app import Coordinator
    from atoll.node.config import NodeConfig
    from atoll.runtime.certificate import TlsFiles

_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
log = logging.getLogger(__name__)
TLS_FOLDER = "tls"
NODE_STORE = "store"
VERIFIER_STORE = "record"
FINGERPRINT_BYTES = 32
"""SHA-256 of a certificate."""
NODE_LIST = "nodes.json"
NODE_LIST_S = 5.0
"""How often it is looked whether nodes came, went or moved."""
TOKEN_BYTES = 16
"""Length of what only the served page knows."""


def supervised() -> bool:
    """Say whether a supervisor of this program started this process."""
    return PARENT_VARIABLE in os.environ


def run(config: Config, work: Coroutine[Any, Any, None]) -> None:
    """Run one part as this process: memory, logs, a fast loop, an end with its supervisor."""
    import uvloop

    if supervised():
        end_with_parent(int(os.environ[PARENT_VARIABLE]))
    keep_memory()
    allow_open_files()
    start_logs(config.log.level, config.log.form)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def until_asked() -> None:
    """Return when a signal asks this process to stop."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def identity_of(folder: Path, name: str) -> Identity:
    """Return an identity kept in a folder; it is made at first use."""
    return Identity(read_secret(folder, name, lambda: SystemRng().bytes(SEED_BYTES)))


def address_of(url: str, fingerprint: str) -> Address:
    """Read a coordinator's URL, ``https://host:port`` (with ``#fingerprint``, or given apart).

    Raises ``CONFIG`` for anything else, and for plain HTTP beyond loopback.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
        pinned = bytes.fromhex((fingerprint or parts.fragment).replace(":", ""))
    except ValueError:
        port, pinned = None, b"?"
    good = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
    if not good or port is None or len(pinned) not in (0, FINGERPRINT_BYTES):
        raise AtollError(
            Kind.CONFIG,
            "read address",
            f"{url!r} is no address of a coordinator",
            hint="write https://HOST:PORT#FINGERPRINT, or http://127.0.0.1:PORT on this machine",
        )
    if not pinned and (parts.scheme == "https" or not is_loopback(str(parts.hostname))):
        raise AtollError(
            Kind.CONFIG,
            "read address",
            f"the fingerprint of {url} is missing",
            hint="its operator finds it with `atoll coordinator show`; give it with --fingerprint",
        )
    return Address(str(parts.hostname), port, pinned if parts.scheme == "https" else b"")


def is_loopback(host: str) -> bool:
    """Say whether a host name or address stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_of(folder: Path, host: str, names: tuple[str, ...] = ()) -> "TlsFiles | None":
    """Return the folder's certificate for a host beyond loopback; None on loopback."""
    if is_loopback(host):
        return None
    from atoll.runtime.certificate import keep_certificate

    hosts = tuple(dict.fromkeys((host, *names)))
    return keep_certificate(folder / TLS_FOLDER, hosts, SystemClock().now_ms())


@asynccontextmanager
async def _serving(
    app: AsgiApp, host: str, port: int, *, shared: bool = False, tls: "TlsFiles | None" = None
) -> AsyncGenerator[HttpServer, None]:
    server = HttpServer(app, open_socket(host, port, shared=shared), tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


# --- the coordinator -----------------------------------------------------------------------------


def database_url(folder: Path, settings: CoordinatorSettings) -> str:
    """Return the database of a coordinator: the one named, else SQLite in its folder."""
    return settings.database or f"sqlite:///{folder / DATABASE}"


@asynccontextmanager
async def coordinator_of(
    folder: Path, config: Config, transport: HttpPieceTransport, *, loops: bool
) -> AsyncGenerator["Coordinator", None]:
    """Build a coordinator over its database, which is migrated if need be, and start it."""
    from atoll.coordinator.app import Coordinator, CoordinatorConfig
    from atoll.coordinator.metadata.service import MetadataConfig
    from atoll.runtime.database import SqlDatabase, migrate

    url = database_url(folder, config.coordinator)
    compute = ThreadCompute()
    await compute.run(migrate, url)
    database = SqlDatabase(url)
    coordinator = Coordinator(
        SystemClock(),
        SystemRng(),
        database,
        transport,
        compute,
        identity_of(folder, COORDINATOR_SEED),
        CoordinatorConfig(
            profile=config.coordinator.profile,
            metadata=MetadataConfig(region=config.gateway.region),
            gateway_keys=frozenset(trusted_gateways(folder)),
            customer_keys=frozenset({identity_of(folder, GATEWAY_SEED).public_key}),
            verifier_keys=frozenset(trusted_keys(folder, TRUSTED_VERIFIERS, "verifier")),
            place=coordinator_place(folder, config.coordinator),
            addresses=await compute.run(address_table, config.coordinator.addresses),
            packing=packing_of(config.coordinator),
            upgrade=upgrades_of(config.coordinator),
            repair=repair_profile(config.coordinator),
            sets=set_timers(config.coordinator),
            settlement=settlement_of(folder, config.chain, compute) if loops else None,
            billing=billing_of(folder, config) if loops else None,
            customers=customers_of(folder, config, loops=loops),
            allowance=allowance_of(folder, config) if loops else None,
        ),
        loops=loops,
    )
    try:
        await coordinator.start()
        yield coordinator
    finally:
        await coordinator.stop()
        await database.close()
        compute.close()


def trusted_gateways(folder: Path) -> list[bytes]:
    """Return the keys of gateways that may ask over the network. Raises ``CONFIG``."""
    return trusted_keys(folder, TRUSTED_GATEWAYS, "gateway")


def trusted_keys(folder: Path, name: str, what: str) -> list[bytes]:
    """Return the keys in a list of a coordinator's folder. Raises ``CONFIG``."""
    try:
        lines = (folder / name).read_text().split()
        keys = [bytes.fromhex(line) for line in lines]
    except FileNotFoundError:
        return []
    except ValueError:
        keys = [b""]
    if any(len(key) != FINGERPRINT_BYTES for key in keys):
        raise AtollError(
            Kind.CONFIG,
            f"read trusted {what}s",
            f"{folder / name} holds a line that is no key",
            hint=f"one key of 64 hex digits per line; `atoll {what} show` prints a {what}'s",
        )
    return keys


async def run_coordinator(folder: Folder, config: Config) -> None:
    """Run a coordinator with its live page until asked to stop."""
    settings = config.coordinator
    async with AsyncExitStack() as stack:
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        coordinator = await stack.enter_async_context(
            coordinator_of(folder.path, config, transport, loops=True)
        )
        await _keep_first_credential(folder.path, coordinator)
        keeping = asyncio.create_task(_keep_nodes(folder.path, coordinator), name="keep node list")
        stack.callback(keeping.cancel)
        tls = tls_of(folder.path, settings.host)
        await stack.enter_async_context(
            _serving(coordinator.app, settings.host, settings.port, tls=tls)
        )
        if settings.page_port:
            await _serve_page(stack, folder, config, coordinator)
        await until_asked()


async def _keep_nodes(folder: Path, coordinator: "Coordinator") -> None:
    """Write down where the nodes are, for ``atoll recover``, whenever that has changed."""
    from atoll.client.recovery.model import NodeList, NodePlace

    kept: list[NodePlace] = []
    while True:
        places = [
            NodePlace(
                view.node_id.hex(), view.facts.host, view.facts.port, view.facts.fingerprint.hex()
            )
            for view in coordinator.registry.nodes()
        ]
        if places and places != kept:
            listed = NodeList(places, SystemClock().now_ms())
            content = msgspec.json.format(msgspec.json.encode(listed), indent=1)
            try:
                write_file(folder / NODE_LIST, content)
                kept = places
            except OSError as cause:
                log.warning("the node list cannot be written: %s", cause)
        await asyncio.sleep(NODE_LIST_S)


async def _serve_page(
    stack: AsyncExitStack, folder: Folder, config: Config, control: ControlPlane
) -> None:
    from atoll.console.app import About, Console
    from atoll.console.feed import StatusFeed

    feed = StatusFeed(control, SystemClock())
    gateway = config.gateway
    place = config.coordinator
    scheme = "http" if is_loopback(place.host) else "https"
    door = f"{scheme}://{'127.0.0.1' if place.host in _ANY else place.host}:{place.port}"
    about = About(atoll.__version__, f"http://{gateway.host}:{gateway.port}", door)
    drill = SupervisorDrill(folder.path) if folder.marker.ephemeral and supervised() else None
    # The same after a restart, so that an open page goes on; nobody else can know it.
    token = identity_of(folder.path, COORDINATOR_SEED).sign(b"page-token/1", b"")[:TOKEN_BYTES]
    console = Console(feed, about, token.hex(), drill)
    await stack.enter_async_context(
        _serving(console.app, "127.0.0.1", config.coordinator.page_port)
    )
    stack.push_async_callback(feed.stop)


class SupervisorDrill:
    """Asks the supervisor of a local cloud to kill or start a node, by the node's address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compute = ThreadCompute(1)

    async def kill(self, address: str) -> None:
        """SIGKILL the node at this address and hold it down."""
        await self._order("kill", address)

    async def start(self, address: str) -> None:
        """Start it again."""
        await self._order("start", address)

    async def _order(self, do: str, address: str) -> None:
        from atoll.runtime.control import send_order

        # Local clouds give node i the address 127.0.i.1; the supervisor refuses unknown names.
        parts = address.removeprefix("http://").split(":")[0].split(".")
        number = parts[2] if len(parts) == 4 and parts[2].isdigit() else "?"
        await self._compute.run(send_order, self._folder, do, f"node-{number}")


async def _keep_first_credential(folder: Path, coordinator: "Coordinator") -> None:
    """Make sure that the S3 key of the folder's first start is known."""
    if not (folder / SECRETS / ACCESS).exists():
        return
    access = msgspec.json.decode(read_secret(folder, ACCESS), type=AccessKey)
    await coordinator.metadata.create_credential(
        first_account(root_key(folder)), "owner", access.access_key, access.secret_key
    )


# --- the gateway ---------------------------------------------------------------------------------


async def run_gateway(folder: Folder, config: Config) -> None:
    """Run one gateway worker until asked to stop."""
    settings = config.gateway
    async with AsyncExitStack() as stack:
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        control = await _control_for(stack, folder.path, config, transport)
        app = await _gateway_app(stack, folder.path, settings, control, transport)
        await stack.enter_async_context(
            _serving(app, settings.host, settings.port, shared=True, tls=_gateway_tls(settings))
        )
        if settings.epoch_bucket:
            from atoll.cli.epoch_bucket import fill_bucket

            near = config.coordinator
            door = settings.coordinator or f"http://{near.host}:{near.port}"
            filling = asyncio.create_task(
                fill_bucket(folder.path, config, address_of(door, settings.fingerprint)),
                name="mirror epochs",
            )
            stack.callback(filling.cancel)
        await until_asked()


async def _control_for(
    stack: AsyncExitStack, folder: Path, config: Config, transport: HttpPieceTransport
) -> ControlPlane:
    settings = config.gateway
    if not settings.coordinator:
        return await stack.enter_async_context(
            coordinator_of(folder, config, transport, loops=False)
        )
    from atoll.client.remote import RemoteControl

    address = address_of(settings.coordinator, settings.fingerprint)
    return RemoteControl(transport, [address], identity_of(folder, GATEWAY_SEED), SystemClock())


async def _gateway_app(
    stack: AsyncExitStack,
    folder: Path,
    settings: GatewaySettings,
    control: ControlPlane,
    transport: HttpPieceTransport,
) -> AsgiApp:
    from atoll.client.keys import Keyring
    from atoll.client.locking import ObjectLocks
    from atoll.client.objects import SegmentedObjects
    from atoll.client.packing.pack import Packer
    from atoll.client.packing.upgrade import Upgrader
    from atoll.client.receipts import PayingTransport, ReceiptBook
    from atoll.client.recovery.control import ManifestControl
    from atoll.client.recovery.writer import ManifestWriter
    from atoll.client.segment.buffers import BufferPool
    from atoll.client.transfer.download import SegmentDownloader
    from atoll.client.transfer.upload import SegmentUploader
    from atoll.core.messages.policy import PartyFacts
    from atoll.gateway.app import Gateway
    from atoll.gateway.config import GatewayConfig

    # One lane: hashing lets go of the interpreter lock at every leaf, and two threads that do so
    # spend half as much again on taking it back.
    clock, rng, compute = SystemClock(), SystemRng(), ThreadCompute(1)
    stack.callback(compute.close)
    identity = identity_of(folder, GATEWAY_SEED)
    buffers = BufferPool(settings.transfer_bytes_max)
    uploader = SegmentUploader(control, transport, compute, clock, identity, buffers)
    paying = PayingTransport(transport, ReceiptBook(identity, transport, clock, rng))
    stack.push_async_callback(paying.book.close)
    downloader = SegmentDownloader(control, paying, compute, clock, identity.public_key, buffers)
    stack.push_async_callback(downloader.close)
    keyring = Keyring(root_key(folder), rng)
    manifests = ManifestWriter(control, keyring, uploader, clock, rng)
    writing = asyncio.create_task(manifests.run(), name="write manifests")
    stack.callback(writing.cancel)
    domains = (settings.domain, "localhost") if settings.domain else ("localhost",)
    objects = SegmentedObjects(keyring, uploader, downloader)
    locks = ObjectLocks(control, keyring, objects, paying, clock, identity.public_key)
    signing = asyncio.create_task(locks.run(), name="sign locks")
    stack.callback(signing.cancel)
    gateway = Gateway(
        control=ManifestControl(control, manifests),
        objects=objects,
        locks=locks,
        clock=clock,
        rng=rng,
        compute=compute,
        config=GatewayConfig(
            region=settings.region,
            base_domains=domains,
            facts=PartyFacts(
                public_key=identity.public_key,
                role="gateway",
                operator=settings.operator,
                country=settings.country.upper(),
                parent_country=settings.parent_country.upper(),
                certificates=list(carried(folder / GATEWAY_PARTY)),
            ),
        ),
        identity=identity,
    )
    admit = gateway.services.place.admit
    packer = Packer(control, keyring, uploader, downloader, clock, rng, admit)
    packing = asyncio.create_task(packer.run(), name="pack small objects")
    stack.callback(packing.cancel)
    upgrader = Upgrader(control, keyring, uploader, downloader, clock, rng, admit)
    upgrading = asyncio.create_task(upgrader.run(), name="copy segments into wider schemes")
    stack.callback(upgrading.cancel)
    return gateway.app


def _gateway_tls(settings: GatewaySettings) -> "TlsFiles | None":
    if not settings.certificate:
        return None
    from atoll.runtime.certificate import TlsFiles

    files = TlsFiles(Path(settings.certificate), Path(settings.certificate_key), b"")
    for path in (files.certificate, files.key):
        if not path.is_file():
            raise AtollError(
                Kind.CONFIG,
                "start gateway",
                f"there is no file {path}",
                hint="check gateway.certificate and gateway.certificate_key",
            )
    return files


# --- the node ------------------------------------------------------------------------------------


async def run_node(folder: Folder, config: Config, disguise: "Disguise | None" = None) -> None:
    """Run a storage node until asked to stop; in a drill, behind a disguise."""
    from atoll.cli.reach import begin_reach
    from atoll.node.service import NodeService
    from atoll.runtime.disk import FolderDisk
    from atoll.runtime.host import SystemHost

    settings = config.node
    async with AsyncExitStack() as stack:
        tls = tls_of(folder.path, settings.host, (advertised(settings)[0],))
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        compute = ThreadCompute()
        stack.callback(compute.close)
        disk = FolderDisk(folder.path / NODE_STORE)
        if disguise is not None:
            transport, disk = disguise.transport(transport), disguise.disk(disk)
        service = NodeService(
            SystemClock(),
            SystemRng(),
            disk,
            compute,
            transport,
            identity_of(folder.path, NODE_SEED),
            replace(
                node_config(settings, tls, local=folder.marker.kind == "node" and supervised()),
                certificates=carried(folder.path),
                payout_account=payout_account(identity_of(folder.path, NODE_SEED)),
                payout=payout_access(folder.path, identity_of(folder.path, NODE_SEED)),
            ),
            SystemHost(folder.path),
        )
        app = service.app if disguise is None else disguise.app(service.app)
        # The socket first, so that a taken port is said before the store is opened.
        await stack.enter_async_context(_serving(app, settings.host, settings.port, tls=tls))
        await service.start()
        stack.push_async_callback(service.stop)
        running = RunningNode(
            settings.host, settings.port, tls.fingerprint.hex() if tls else "", os.getpid()
        )
        write_file(folder.path / RUNNING_NODE, msgspec.json.encode(running) + b"\n")
        await begin_reach(
            stack,
            service,
            settings,
            read_secret(folder.path, NODE_SEED),
            loopback=is_loopback(service.config.host),
        )
        await until_asked()


def advertised(settings: NodeSettings | VerifierSettings) -> tuple[str, int]:
    """Return the host and port under which others reach a party. Raises ``CONFIG``."""
    if not settings.advertise:
        return settings.host, settings.port
    host, colon, port = settings.advertise.rpartition(":")
    if not colon:
        return settings.advertise, settings.port
    if not host or not port.isdigit():
        raise AtollError(
            Kind.CONFIG,
            "read address",
            f"{settings.advertise!r} is no host or host:port",
            hint="correct the setting `advertise`",
        )
    return host.strip("[]"), int(port)


def _yields(settings: NodeSettings) -> int:
    levels = {"nothing": 0, "background": 2, "transfers": 3}
    auto = "transfers" if settings.tier in ("edge", "home") else "background"
    return levels[auto if settings.yields == "auto" else settings.yields]


def node_config(settings: NodeSettings, tls: "TlsFiles | None", *, local: bool) -> "NodeConfig":
    """Return the node room's settings. Raises ``CONFIG`` where the operator is not named."""
    from atoll.node.config import NodeConfig, StoreConfig, small_store

    for name in ("operator", "site", "region", "country"):
        if not getattr(settings, name):
            raise AtollError(
                Kind.CONFIG,
                "start node",
                f"node.{name} is not set",
                hint="`atoll join URL` asks for it and writes it down",
            )
    host, port = advertised(settings)
    if local:
        store = replace(small_store(settings.capacity_bytes), log_bytes=settings.log_bytes)
    else:
        store = StoreConfig(capacity_bytes=settings.capacity_bytes, log_bytes=settings.log_bytes)
    return NodeConfig(
        operator=settings.operator,
        site=settings.site,
        region=settings.region,
        country=settings.country,
        tier=settings.tier,
        host=host,
        port=port,
        fingerprint=tls.fingerprint if tls is not None else b"",
        price_micro=settings.price_micro,
        bandwidth_bytes_per_s=settings.bandwidth_bytes_per_s,
        traffic_bytes_month=settings.traffic_bytes_month,
        calendar=format_calendar(parse_calendar(settings.calendar)),
        parent_country=settings.parent_country,
        asn=settings.asn,
        repair_tasks=settings.repair_tasks,
        repair_bytes_per_s=settings.repair_bytes_per_s,
        # In a cloud on one machine the other work is mostly the cloud's own.
        yields_level_max=0 if local else _yields(settings),
        coordinators=tuple(
            address_of(one, settings.fingerprint) for one in settings.coordinator.split()
        ),
        store=store,
    )


# --- the verifier --------------------------------------------------------------------------------


async def run_verifier(folder: Folder, config: Config, disguise: "Disguise | None" = None) -> None:
    """Run a verifier until asked to stop; in a drill, behind a disguise."""
    from atoll.runtime.disk import FolderDisk
    from atoll.verifier.app import VerifierApp
    from atoll.verifier.config import VerifierConfig
    from atoll.verifier.service import VerifierService

    settings = config.verifier
    host, port = advertised(settings)
    async with AsyncExitStack() as stack:
        tls = tls_of(folder.path, settings.host, (host,))
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        if disguise is not None:
            transport = disguise.transport(transport)
        compute = ThreadCompute(2)
        stack.callback(compute.close)
        service = VerifierService(
            SystemClock(),
            FolderDisk(folder.path / VERIFIER_STORE),
            compute,
            transport,
            identity_of(folder.path, VERIFIER_SEED),
            VerifierConfig(
                operator=settings.operator,
                host=host,
                port=port,
                fingerprint=tls.fingerprint if tls is not None else b"",
                coordinators=(address_of(settings.coordinator, settings.fingerprint),),
                keep_bytes=settings.keep_bytes,
            ),
            verifier_signer(identity_of(folder.path, VERIFIER_SEED)),
        )
        # What was said before is read before anybody can ask for more.
        await service.start()
        stack.push_async_callback(service.stop)
        app = VerifierApp(service)
        await stack.enter_async_context(_serving(app, settings.host, settings.port, tls=tls))
        await until_asked()
