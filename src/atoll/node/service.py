"""A storage node as a whole: store, HTTP app, and its word to the coordinators it serves."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TypeVar

import msgspec

from atoll import __version__
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, prove_request
from atoll.core.ids import show_node
from atoll.core.messages import (
    Failure,
    Heartbeat,
    HeartbeatAnswer,
    Message,
    NodeFacts,
    Register,
    Registered,
    SignedFacts,
    decode,
    encode,
)
from atoll.core.messages.nodes import RelayPlace
from atoll.core.messages.payouts import GetPayoutOrders, PayoutOrders, PayoutTaken
from atoll.core.ports import Address, Clock, Compute, Disk, Host, PieceTransport, Rng
from atoll.node.app import NodeApp
from atoll.node.config import NodeConfig, PayoutAccess
from atoll.node.entry import ChainEntry
from atoll.node.http import Receive, Scope, Send, send_failure
from atoll.node.link import Link
from atoll.node.orders import OrderDesk
from atoll.node.owner import ProviderDoor, make_door
from atoll.node.part import NodePart, Step
from atoll.node.payouts import PayoutSigner
from atoll.node.pressure import CalmHost
from atoll.node.prover.service import Prover
from atoll.node.prover.time import BeaconTime
from atoll.node.receipts.service import ReceiptKeeper
from atoll.node.repairs import RepairWorker
from atoll.node.retention import NodeRetention
from atoll.node.sets.service import SetKeeper
from atoll.node.settings import Settings
from atoll.node.store.store import PieceStore
from atoll.node.traffic import TrafficMeter

_LOG = logging.getLogger(__name__)
REGISTER_PATH = "/v1/node/register"
HEARTBEAT_PATH = "/v1/node/heartbeat"
ASK_PATH = "/v1/node/ask"
"""All other requests of nodes."""
FACTS_PURPOSE = b"node-facts/1"
MEMORY_FILE = "node.memory"
LOST_PIECES_MAX = 1000
"""Lost pieces told in one heartbeat."""
RETRY_MS_MIN = 500
RETRY_MS_MAX = 60_000
"""Bounds of the pause after a coordinator did not answer; it doubles in between."""
STOP_S_MAX = 30.0
HEARTBEAT_MS_MIN = 100

Answer = TypeVar("Answer", bound=Message)


class _KnownCoordinator(msgspec.Struct, frozen=True):
    address: str
    key: bytes
    link_key: bytes = b""
    """Secret shared with that coordinator; a right MAC under it stands for a signature."""


class NodeMemory(msgspec.Struct, frozen=True, tag=True):
    """What a node keeps beside its pieces, in ``node.memory``."""

    incarnation: int = 0
    """Grows at every start."""
    coordinators: list[_KnownCoordinator] = []
    """Keys of coordinators, as first told: orders are obeyed while a coordinator is away, and
    another key under the same address is refused."""


class NodeService:
    """Runs a node. ``start`` opens the store and begins to serve; ``stop`` ends it in order."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        disk: Disk,
        compute: Compute,
        transport: PieceTransport,
        identity: Identity,
        config: NodeConfig,
        host: Host | None = None,
    ) -> None:
        """Touch nothing yet. ``host`` tells how busy the machine is, and how well its disk."""
        self._clock = clock
        self._rng = rng
        self._disk = disk
        self._compute = compute
        self._transport = transport
        self._identity = identity
        self.config = config
        self.store = PieceStore(disk, compute, clock, rng, config.store)
        self.links = [Link(address) for address in config.coordinators]
        self._coordinators: dict[bytes, bytes] = {}
        self._memory = NodeMemory()
        desk = OrderDesk(identity.node_id, self._coordinators, clock, config.order_skew_ms)
        self.meter = TrafficMeter(clock)
        self.receipts = self._make_receipts()
        self._app = NodeApp(self.store, identity, config, clock, desk, self.meter, self.receipts)
        self._app.owners.coordinators = self._coordinators
        self.retention = NodeRetention(self.store, identity, clock, config.body_stall_s)
        self.sets = SetKeeper(
            self.store,
            disk,
            compute,
            clock,
            rng,
            links=self.links,
            ask=self._ask_part,
            skew_ms=config.order_skew_ms,
        )
        self.settings = Settings(disk, compute, config)
        own = Address(config.host, config.port, config.fingerprint)
        self.reach: Callable[[], tuple[Address, tuple[RelayPlace, ...]]] = lambda: (own, ())
        """Where others reach this node, and the relays through which, if any."""
        self.terms = self._make_terms(host or CalmHost())
        self._app.terms = self.terms.shown
        self.repairs = RepairWorker(
            clock=clock,
            compute=compute,
            transport=transport,
            links=self.links,
            ask=self._ask_part,
            tasks_max=config.repair_tasks,
            bytes_per_s=config.repair_bytes_per_s,
            busy=lambda: bool(self.meter.eased_bytes_per_s),
        )
        self.beacon_time = BeaconTime(disk, compute, clock)
        self.prover = Prover(
            store=self.store,
            identity=identity,
            clock=clock,
            compute=compute,
            disk=disk,
            transport=transport,
            links=self.links,
            ask=self._ask_part,
            time=self.beacon_time,
        )
        self.payouts = self._make_payouts(config.payout)
        self.parts: list[NodePart] = [
            *self.payouts,
            self.prover,
            self.retention,
            self.repairs,
            self.receipts,
            self._app.owners,
            self.sets,
            *self.terms.parts,
        ]
        for part in self.parts:
            self._app.routes.update(part.routes)
        self._tasks: list[asyncio.Task[None]] = []
        self._announced = 0
        self._requests = 0
        self._idle = asyncio.Event()
        self._serving = False

    def _make_receipts(self) -> ReceiptKeeper:
        """Put together what keeps receipts of reads."""
        return ReceiptKeeper(
            identity=self._identity,
            clock=self._clock,
            disk=self._disk,
            compute=self._compute,
            coordinators=self._coordinators,
            links=self.links,
            ask=self._ask_part,
            stall_s=self.config.body_stall_s,
        )

    def _make_payouts(self, access: PayoutAccess | None) -> list[NodePart]:
        """Put together what signs with the key of the account that earns, where it is there."""
        if access is None:
            return []
        return [
            ChainEntry(
                self._clock,
                self._identity,
                access.account,
                access.sign,
                self.links,
                self._ask_part,
            ),
            PayoutSigner(
                self._clock,
                self._compute,
                self._disk,
                self._identity,
                self.links,
                access,
                lambda link: self._ask_part(link, GetPayoutOrders(), PayoutOrders),
                lambda link, permit: self._ask_part(link, permit, PayoutTaken),
            ),
        ]

    def _make_terms(self, host: Host) -> ProviderDoor:
        """Put together what keeps to the provider's terms."""
        return make_door(
            store=self.store,
            disk=self._disk,
            compute=self._compute,
            clock=self._clock,
            host=host,
            transport=self._transport,
            identity=self._identity,
            config=self.config,
            settings=self.settings,
            meter=self.meter,
            retention=self.retention,
            links=self.links,
            ask=self._ask_part,
            announce=self.announce,
        )

    def announce(self) -> None:
        """Register again at once: the facts have changed."""
        self._announced += 1
        for link in self.links:
            link.registered = False
            link.wake.set()

    @property
    def incarnation(self) -> int:
        """How often this node has started."""
        return self._memory.incarnation

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request (ASGI); 503 before ``start`` and after ``stop``."""
        if scope["type"] != "http":
            return
        if not self._serving:
            refusal = AtollError(Kind.OVERLOADED, "answer request", "the node is not serving")
            await send_failure(send, refusal)
            return
        self._requests += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def start(self) -> None:
        """Open the store, then serve and report. Raises ``WRONG_FOLDER``, ``NEWER_FORMAT``."""
        await self._remember()
        await self.settings.load()
        await self.meter.load(self._disk, self._compute)
        await self.beacon_time.load()
        await self.store.open()
        self.store.volume.beacon_ms = self.beacon_time.now_ms
        self.terms.apply()
        self._serving = True
        self._tasks = [asyncio.create_task(self._report(link)) for link in self.links]
        self._tasks.append(asyncio.create_task(self.store.run()))
        for part in self.parts:
            await part.start()
            self._tasks += [asyncio.create_task(self._repeat(step)) for step in part.steps]
        _LOG.info("%s started, incarnation %d", show_node(self._identity.node_id), self.incarnation)

    async def stop(self) -> None:
        """Take no more requests, let running ones end, make all durable, close."""
        self._serving = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for part in self.parts:
            await part.stop()
        if self._requests:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S_MAX):
                    await self._idle.wait()
        await self.store.close()

    async def _repeat(self, step: Step) -> None:
        while True:
            try:
                await step.run()
            except AtollError as error:
                _LOG.warning("%s: %s", step.name, error)
            except Exception:  # noqa: BLE001 - see below
                # The node must not go on half-dead because one step met a bug.
                _LOG.exception("%s failed", step.name)
            await self._clock.sleep(step.pause_s)

    def heartbeat_now(self) -> None:
        """Tell the coordinators at once (something changed that they should know)."""
        for link in self.links:
            link.wake.set()

    # --- memory ---

    async def _remember(self) -> None:
        memory = await self._compute.run(_read_memory, self._disk)
        self._memory = msgspec.structs.replace(memory, incarnation=memory.incarnation + 1)
        known = {entry.address: entry for entry in memory.coordinators}
        for link in self.links:
            entry = known.get(str(link.address))
            if entry is not None:
                link.key = entry.key
                self._coordinators[entry.key] = entry.link_key
        await self._save_memory()

    async def _save_memory(self) -> None:
        content = msgspec.msgpack.encode(self._memory)
        await self._compute.run(self._disk.replace, MEMORY_FILE, content)

    async def _learn_keys(self, link: Link, key: bytes, link_key: bytes) -> None:
        if link.key == key and self._coordinators.get(key) == link_key:
            return
        if link.key and link.key != key:
            raise AtollError(
                Kind.FORBIDDEN,
                "register node",
                "the coordinator shows another key than at first: its orders are not obeyed",
                hint=f"if that is meant, stop the node and remove {MEMORY_FILE}",
                about=str(link.address),
            )
        link.key = key
        self._coordinators[key] = link_key
        entries = [e for e in self._memory.coordinators if e.address != str(link.address)]
        entries.append(_KnownCoordinator(str(link.address), key, link_key))
        self._memory = msgspec.structs.replace(self._memory, coordinators=entries)
        await self._save_memory()

    # --- reports ---

    async def _report(self, link: Link) -> None:
        """Register, then send heartbeats for ever; after a failure try again, ever more slowly."""
        while True:
            try:
                if not link.registered:
                    await self._register(link)
                await self._heartbeat(link)
                link.failures = 0
                pause_ms = HEARTBEAT_MS_MIN
                if link.registered:
                    pause_ms = max(pause_ms, link.heartbeat_interval_ms)
            except AtollError as cause:
                link.failures += 1
                level = logging.WARNING if link.failures in (1, 10, 100) else logging.DEBUG
                _LOG.log(level, "coordinator %s: %s", link.address, cause)
                pause_ms = self._retry_ms(link)
            self._app.coordinators = sum(other.registered for other in self.links)
            await self._pause(link, pause_ms / 1000)

    def _retry_ms(self, link: Link) -> int:
        pause_ms = min(RETRY_MS_MAX, RETRY_MS_MIN << min(link.failures - 1, 16))
        # Nodes that lost the same coordinator must not all return at the same moment.
        return pause_ms // 2 + self._rng.below(pause_ms // 2 + 1)

    async def _pause(self, link: Link, seconds: float) -> None:
        """Wait, or until ``heartbeat_now``."""
        sleep = asyncio.create_task(self._clock.sleep(seconds))
        wake = asyncio.create_task(link.wake.wait())
        try:
            await asyncio.wait({sleep, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()
        link.wake.clear()

    async def _register(self, link: Link) -> None:
        announced = self._announced
        facts = encode(self._facts())
        signed = SignedFacts(facts=facts, signature=self._identity.sign(FACTS_PURPOSE, facts))
        answer = await self.ask(link, REGISTER_PATH, Register(signed_facts=signed), Registered)
        await self._learn_keys(link, answer.coordinator_key, answer.link_key)
        link.alias = answer.alias
        link.heartbeat_interval_ms = answer.heartbeat_interval_ms
        # Facts that changed while these were under way are still to be told.
        link.registered = announced == self._announced
        self._watch_clock(link, answer.time_ms)
        _LOG.info("registered at %s as node %d", link.address, link.alias)

    async def _heartbeat(self, link: Link) -> None:
        told = set(link.told)
        waiting = self.store.lost(LOST_PIECES_MAX + len(told))
        lost = [piece for piece in waiting if piece not in told][:LOST_PIECES_MAX]
        heartbeat = Heartbeat(
            time_ms=self._clock.now_ms(),
            incarnation=self.incarnation,
            full=bool(self.terms.refuses),
            counters=self.store.counters(),
            lost_pieces=lost,
        )
        answer = await self.ask(link, HEARTBEAT_PATH, heartbeat, HeartbeatAnswer)
        link.heartbeat_interval_ms = answer.heartbeat_interval_ms
        if not answer.known:
            link.registered = False
            return
        link.told.extend(lost)
        await self._forget_told()

    async def _forget_told(self) -> None:
        """Forget lost pieces that every coordinator was told."""
        everywhere = set.intersection(*(set(link.told) for link in self.links))
        if everywhere and not self.store.failed:
            await self.store.told_lost(sorted(everywhere))
            for link in self.links:
                link.told = [piece for piece in link.told if piece not in everywhere]

    async def ask_any(self, message: Message, answer: type[Answer]) -> Answer:
        """Ask the first coordinator that answers. Raises ``AtollError``, the last one's."""
        last = AtollError(Kind.UNREACHABLE, "ask coordinator", "no coordinator is known")
        for link in self.links:
            try:
                return await self.ask(link, ASK_PATH, message, answer)
            except AtollError as cause:
                last = cause
        raise last

    async def ask(self, link: Link, path: str, message: Message, answer: type[Answer]) -> Answer:
        """Send a coordinator a signed request. Raises ``AtollError``, its own or the network's."""
        body = encode(message)
        proof = prove_request(self._identity, "POST", path, body, self._clock.now_ms())
        reply = await self._transport.call(
            link.address,
            "POST",
            path,
            {RequestProof.HEADER: proof.to_header(), "content-type": "application/msgpack"},
            body,
            self.config.heartbeat_timeout_s,
        )
        if reply.status >= 300:
            failure: Failure = decode(reply.body, Failure)
            raise failure.to_error()
        decoded: Answer = decode(reply.body, answer)
        return decoded

    async def _ask_part(self, link: Link, message: Message, answer: type[Answer]) -> Answer:
        return await self.ask(link, ASK_PATH, message, answer)

    def _facts(self) -> NodeFacts:
        config, terms, kept = self.config, self.settings.terms, self.settings.kept
        address, places = self.reach()
        return NodeFacts(
            public_key=self._identity.public_key,
            operator=config.operator,
            site=terms.site,
            region=terms.region,
            country=terms.country,
            tier=terms.tier,
            host=address.host,
            port=address.port,
            fingerprint=config.fingerprint,
            relays=list(places),
            capacity_bytes=self.terms.capacity_bytes,
            price_micro=terms.price_micro,
            version=__version__,
            parent_country=terms.parent_country,
            asn=terms.asn,
            certificates=list(config.certificates),
            calendar=terms.calendar,
            bandwidth_bytes_per_s=terms.bandwidth_bytes_per_s,
            traffic_bytes_month=terms.traffic_bytes_month,
            exiting=kept.exiting,
            evacuating=kept.evacuating,
            payout_account=config.payout_account,
        )

    def _watch_clock(self, link: Link, time_ms: int) -> None:
        apart_ms = abs(self._clock.now_ms() - time_ms)
        if apart_ms > self.config.order_skew_ms // 2:
            _LOG.warning(
                "the clocks of this node and of %s are %d s apart: set them (NTP)",
                link.address,
                apart_ms // 1000,
            )


def _read_memory(disk: Disk) -> NodeMemory:
    if not disk.exists(MEMORY_FILE):
        return NodeMemory()
    try:
        return msgspec.msgpack.decode(disk.read(MEMORY_FILE), type=NodeMemory)
    except msgspec.MsgspecError as cause:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "start node",
            f"{MEMORY_FILE} cannot be read: {cause}",
            hint=f"remove {MEMORY_FILE}; coordinators will be asked for their keys again",
        ) from cause
