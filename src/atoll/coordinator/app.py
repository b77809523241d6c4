"""The coordinator put together: one object that answers gateways and nodes, and its HTTP door.

The coordinator process runs it with ``loops=True``; a gateway worker that shares the database runs
it without: it answers from the database and leaves judging, repair and collection to the other.
Plain ASGI: docs/decisions/0020-coordinator-door.md has the measurement.
"""

import asyncio
import hashlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from atoll.coordinator.audit.model import PROFILES as PROOF_PROFILES
from atoll.coordinator.audit.model import ProofTimes
from atoll.coordinator.audit.reads import DisguisedReads
from atoll.coordinator.audit.service import AuditService
from atoll.coordinator.collection.rules import LIMITS
from atoll.coordinator.collection.service import CollectionService
from atoll.coordinator.metadata.serials import SerialAllocator
from atoll.coordinator.metadata.service import MetadataConfig, MetadataService
from atoll.coordinator.metadata.store import buckets, packs, reports, segments
from atoll.coordinator.metadata.uploads import UploadService
from atoll.coordinator.packing.rules import PROFILES as PACKING_PROFILES
from atoll.coordinator.packing.rules import PackingProfile
from atoll.coordinator.packing.service import PackingService
from atoll.coordinator.part import Handler, NodeHandler, Page, PageHandler, Part, Step
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.placement.sources import BucketPolicies, KnownNodes
from atoll.coordinator.policy.model import OwnPlace
from atoll.coordinator.policy.service import PolicyService
from atoll.coordinator.reach.service import ReachService
from atoll.coordinator.recovery.adoption import AdoptionService
from atoll.coordinator.recovery.service import RecoveryService
from atoll.coordinator.registry.model import TIMERS
from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.coordinator.repair.figures import RepairFigureService
from atoll.coordinator.repair.offers import RepairOffers
from atoll.coordinator.repair.rules import PROFILES
from atoll.coordinator.repair.rules import Profile as RepairProfile
from atoll.coordinator.repair.service import RepairService
from atoll.coordinator.reputation.door import ProviderPages
from atoll.coordinator.reputation.model import Limits
from atoll.coordinator.reputation.service import ReputationService
from atoll.coordinator.residency.service import ResidencyService
from atoll.coordinator.retention.rules import PROFILES as RETENTION_PROFILES
from atoll.coordinator.retention.service import RetentionService
from atoll.coordinator.sets.rules import PROFILES as SET_PROFILES
from atoll.coordinator.sets.rules import SetTimers
from atoll.coordinator.sets.service import SetsService
from atoll.coordinator.terms.service import TermsService
from atoll.core.addresses import NO_TABLE, AddressTable
from atoll.core.crypto import NONCE_BYTES, open_secret, seal_secret
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, check_request
from atoll.core.messages import (
    CONTROL_REQUESTS,
    MESSAGE_BYTES_MAX,
    NODE_REQUESTS,
    Answer,
    CloudStatus,
    ControlRequest,
    Done,
    GetStatus,
    GrantReads,
    Heartbeat,
    Message,
    NodeRequest,
    OrderSegment,
    Register,
    ReplaceGrants,
    ReportLiar,
    decode,
    encode,
    failure_of,
)
from atoll.core.messages.reputation import ReportTransfers
from atoll.core.ports import Clock, Compute, Database, PieceTransport, Rng

log = logging.getLogger("atoll.coordinator")

NODE_MESSAGE_BYTES_MAX = 64 << 10
NODE_ASK_BYTES_MAX = 1 << 20
"""Any other request of a node: sets of pieces and proofs are longer than heartbeats."""
CONTROL_SKEW_MS_MAX = 60_000
"""A gateway's signed request older or newer than this is refused, so that replays are few to
remember."""
PROOFS_KEPT_MAX = 1_000_000
"""Signed requests remembered; beyond them new ones are refused with ``OVERLOADED``."""
PROOF_BYTES_KEPT = 16
"""Of a signature: enough that no two meet by chance."""
STATUS_CACHE_S = 0.5
GARBAGE_COUNTED_MAX = 1_000_000
EXPIRY_INTERVAL_S = 60.0
REPORTS_INTERVAL_S = 1.0
REPORTS_AT_ONCE = 100
LOOP_PAUSE_S = 1.0
"""Rest of a loop after a fault."""
_SECRETS_CHECK = "secrets-check"


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Settings of a coordinator."""

    profile: str = "local"
    """Timers and repair's manners: ``local`` or ``wan``."""
    metadata: MetadataConfig = field(default_factory=MetadataConfig)
    gateway_keys: frozenset[bytes] = frozenset()
    """Ed25519 public keys that may ask over the network, beside the coordinator's own."""
    place: OwnPlace = field(default_factory=OwnPlace)
    """Where this coordinator is and who runs it."""
    addresses: AddressTable = NO_TABLE
    """Countries of addresses, as its operator believes them."""
    customer_keys: frozenset[bytes] = frozenset()
    """Keys of gateways in front of the same database: pieces are read in their name to see who
    serves."""
    verifier_keys: frozenset[bytes] = frozenset()
    """Ed25519 public keys of verifiers whose verdicts count; without any nothing is proven."""
    proofs: ProofTimes | None = None
    """How often what is proven; None for the profile's way."""
    repair: RepairProfile | None = None
    """Repair's pace and patience; None for the profile's."""
    reputation: Limits | None = None
    """Figures of the rules of reputation; None for the profile's."""
    packing: PackingProfile | None = None
    """How eagerly small objects are packed; None for the profile's way."""
    sets: SetTimers | None = None
    """When sets of pieces are compared; None for the profile's way."""


class Coordinator:
    """Answers ``ControlRequest`` (``ask``) and ``NodeRequest`` (``hear``); ``app`` is the door."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        database: Database,
        transport: PieceTransport,
        compute: Compute,
        identity: Identity,
        config: CoordinatorConfig,
        *,
        loops: bool,
    ) -> None:
        """Wire it over a migrated database. Raises ``CONFIG`` for an unknown profile."""
        if config.profile not in TIMERS:
            raise AtollError(
                Kind.CONFIG, "start coordinator", f"a profile is one of {', '.join(sorted(TIMERS))}"
            )
        self._clock = clock
        self._rng = rng
        self._database = database
        self._identity = identity
        self._config = config
        self._loops = loops
        self._tasks: list[asyncio.Task[None]] = []
        self._status: tuple[float, CloudStatus] | None = None
        self._proofs = _Proofs()
        metadata_config = config.metadata
        if not metadata_config.secrets_key:
            secret = identity.sign(b"secrets-root/1", b"")
            metadata_config = replace(metadata_config, secrets_key=hashlib.sha256(secret).digest())
        segment_key = hashlib.sha256(identity.sign(b"segment-ids/1", b"")).digest()
        metadata_config = replace(metadata_config, segment_key=segment_key)
        self._secrets_key = metadata_config.secrets_key
        self.metadata = MetadataService(clock, rng, database, metadata_config)
        self.serials = SerialAllocator(database)
        self.uploads = UploadService(clock, rng, database, metadata_config, self.metadata)
        link_secret = hashlib.sha256(identity.sign(b"link-secret/1", b"")).digest()
        self.registry = RegistryService(
            clock,
            database,
            identity.public_key,
            RegistryConfig(timers=TIMERS[config.profile]),
            judges=loops,
            link_secret=link_secret,
        )
        self.policies = PolicyService(clock, database, identity, config.place, config.addresses)
        self.reputation = ReputationService(
            clock,
            database,
            self.registry,
            config.profile,
            judges=loops,
            limits=config.reputation,
        )
        self.placement = PlacementService(
            clock,
            rng,
            identity,
            KnownNodes(self.registry, self.policies, self.reputation),
            policies=BucketPolicies(self.policies),
            segment_key=segment_key,
            link_secret=link_secret,
        )
        self.repair = RepairService(
            clock=clock,
            rng=rng,
            database=database,
            transport=transport,
            compute=compute,
            placement=self.placement,
            profile=config.repair or PROFILES[config.profile],
            accuse=self._accuse,
        )
        self.collection = CollectionService(
            clock=clock,
            database=database,
            transport=transport,
            placement=self.placement,
            limits=LIMITS[config.profile],
        )
        self.packing = PackingService(
            clock, database, config.packing or PACKING_PROFILES[config.profile], segment_key
        )
        self.terms = TermsService(
            clock=clock,
            rng=rng,
            database=database,
            identity=identity,
            registry=self.registry,
            placement=self.placement,
        )
        self.recovery = RecoveryService(clock, database)
        self.adoption = AdoptionService(
            clock, database, self.serials, self.registry, identity.public_key
        )
        reach = ReachService(clock, transport)
        self.retention = RetentionService(
            clock, database, transport, self.placement, RETENTION_PROFILES[config.profile]
        )
        providers = ProviderPages(clock, self.registry, self.reputation)
        self.residency = ResidencyService(
            clock,
            rng,
            database,
            identity,
            self.registry,
            self.policies,
            self.placement,
            proof_slot_ms=(config.proofs or PROOF_PROFILES[config.profile]).slot_ms,
        )
        self.sets = SetsService(
            clock,
            database,
            self.registry,
            config.sets or SET_PROFILES[config.profile],
            lost=self.repair.report_lost,
        )
        self.offers = RepairOffers(
            clock=clock,
            rng=rng,
            database=database,
            registry=self.registry,
            placement=self.placement,
            repair=self.repair,
            profile=config.repair or PROFILES[config.profile],
        )
        self.audit = self._make_audit(transport, compute)
        self._parts: list[Part] = [
            self.audit,
            self.offers,
            RepairFigureService(
                clock,
                database,
                self.registry,
                self.placement,
                self.repair,
                TIMERS[config.profile].dead_ms,
            ),
            self.sets,
            self.residency,
            self.policies,
            self.reputation,
            providers,
            self.packing,
            self.terms,
            self.recovery,
            self.adoption,
            self.retention,
            reach,
        ]
        self._handlers: dict[type[Message], Handler] = {
            **self.metadata.handlers,
            **self.uploads.handlers,
            OrderSegment: self._order_segment,
            ReplaceGrants: self._replace_grants,
            GrantReads: self._grant_reads,
            ReportLiar: self._report_liar,
            GetStatus: self._get_status,
        }
        self._node_handlers: dict[type[Message], NodeHandler] = {
            Register: self.registry.register,
            Heartbeat: self._heartbeat,
        }
        self.pages: dict[str, PageHandler] = {}
        for part in self._parts:
            self.pages.update(part.pages)
            self._handlers.update(part.handlers)
            self._node_handlers.update(part.node_handlers)
        assert CONTROL_REQUESTS.keys() >= self._handlers.keys()
        assert NODE_REQUESTS.keys() >= self._node_handlers.keys()
        self.app = Door(self)

    def _make_audit(self, transport: PieceTransport, compute: Compute) -> AuditService:
        """Put together what proves possession."""
        config, clock, database = self._config, self._clock, self._database
        times = config.proofs or PROOF_PROFILES[config.profile]
        reads = DisguisedReads(
            clock=clock,
            rng=self._rng,
            database=database,
            transport=transport,
            compute=compute,
            placement=self.placement,
            retrievals=self.reputation,
            customers=sorted(config.gateway_keys | config.customer_keys),
            period_ms=times.read_slots * times.slot_ms,
        )
        return AuditService(
            clock=clock,
            database=database,
            identity=self._identity,
            registry=self.registry,
            times=times,
            verifiers=config.verifier_keys,
            judges=self.reputation,
            strike=self.repair.report_lost,
            forgive=self.reputation.amnesty,
            reads=reads,
        )

    # --- start and stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Read the nodes and run the loops. Raises ``WRONG_FOLDER`` for another's database."""
        await self._check_secrets()
        await self.registry.refresh()
        await self.policies.refresh()
        await self.reputation.fresh()
        if not self._loops:
            return
        steps = [
            Step("judge nodes", self.registry.tick, TIMERS[self._config.profile].tick_ms / 1000),
            Step("expire uploads", self.uploads.expire, EXPIRY_INTERVAL_S),
            Step("take reports", self._take_reports, REPORTS_INTERVAL_S),
        ]
        for part in self._parts:
            await part.start()
            steps.extend(part.steps)
        self._tasks = [asyncio.create_task(self._loop(step), name=step.name) for step in steps]
        await self.repair.start()
        await self.collection.start()

    async def stop(self) -> None:
        """Stop the loops and write what is not yet written. The database stays open."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        await self.collection.stop()
        await self.repair.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for part in self._parts:
            await part.stop()
        await self.registry.flush()

    async def _loop(self, step: Step) -> None:
        while True:
            try:
                await step.run()
            except AtollError as error:
                log.warning("%s: %s", step.name, error)
                await self._clock.sleep(LOOP_PAUSE_S)
            except Exception:
                # The coordinator must not go on half-dead because one step met a bug.
                log.exception("%s failed", step.name)
                await self._clock.sleep(LOOP_PAUSE_S)
            await self._clock.sleep(step.pause_s)

    async def _check_secrets(self) -> None:
        sealed = seal_secret(
            self._secrets_key, _SECRETS_CHECK, b"atoll", self._rng.bytes(NONCE_BYTES)
        )
        kept = await self._database.read(lambda c: buckets.read_setting(c, _SECRETS_CHECK))
        if kept is None:
            kept = await self._database.write(
                lambda c: buckets.keep_setting(c, _SECRETS_CHECK, sealed)
            )
        try:
            open_secret(self._secrets_key, _SECRETS_CHECK, kept)
        except AtollError as cause:
            raise AtollError(
                Kind.WRONG_FOLDER,
                "start coordinator",
                "this database's secrets are sealed under another key",
                hint="use the database and the keys of one and the same cloud",
            ) from cause

    async def _take_reports(self) -> None:
        taken = await self._database.write(lambda c: reports.take_reports(c, REPORTS_AT_ONCE))
        for report in taken:
            self.repair.report_liar(report)

    # --- gateways ---------------------------------------------------------------------------

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Answer a ``ControlRequest``. Raises ``AtollError``."""
        handler = self._handlers.get(type(request))
        if handler is None:
            raise AtollError(
                Kind.NOT_IMPLEMENTED, "ask coordinator", f"no answer to {type(request).__name__}"
            )
        result = await handler(request)
        assert isinstance(result, answer), "core.messages.ANSWERS names the answer"
        return result

    async def _fresh(self) -> None:
        """Take over what other processes wrote about nodes, if what is here is old."""
        await self.registry.fresh()
        await self.reputation.fresh()

    async def _order_segment(self, request: OrderSegment) -> Message:
        await self._fresh()
        await self.policies.fresh(request.policy)
        policy = self.policies.require(request.bucket).policy
        serial = await self.serials.take()
        try:
            return self.placement.order_segment(request, policy, serial=serial)
        except AtollError as few:
            if few.kind is not Kind.TOO_FEW_NODES:
                raise
        # What another process wrote a moment ago may be all that is missing.
        await self.registry.refresh()
        return self.placement.order_segment(request, policy, serial=serial)

    async def _replace_grants(self, request: ReplaceGrants) -> Message:
        await self._fresh()
        await self.policies.fresh()
        policy = self.policies.require(request.bucket).policy
        return self.placement.replace_grants(request, policy)

    async def _grant_reads(self, request: GrantReads) -> Message:
        await self._fresh()
        return self.placement.grant_reads(request)

    def _accuse(self, alias: int, piece: bytes, reason: str) -> None:
        self.reputation.observe_retrieval(
            alias, False, piece=piece, reason=f"a reader got wrong bytes, and so did we: {reason}"
        )

    async def _report_liar(self, request: ReportLiar) -> Message:
        if self._loops:
            self.repair.report_liar(request)
        else:
            now_ms = self._clock.now_ms()
            await self._database.write(lambda c: reports.add_report(c, request, now_ms))
        return Done()

    async def _get_status(self, _: GetStatus) -> Message:
        now = self._clock.monotonic()
        if self._status is None or now - self._status[0] >= STATUS_CACHE_S:
            self._status = (now, await self.status())
        return self._status[1]

    async def status(self) -> CloudStatus:
        """Return the whole cloud at a glance."""
        await self._fresh()
        usage = await self._database.read(segments.read_usage)
        count = await self._database.read(buckets.count_buckets)
        garbage = await self._database.read(
            lambda c: segments.count_garbage(c, GARBAGE_COUNTED_MAX)
        )
        counters = [view.counters for view in self.registry.nodes()]
        packed = await self._database.read(packs.pack_totals)
        return CloudStatus(
            time_ms=self._clock.now_ms(),
            nodes=[
                msgspec.structs.replace(node, standing=self.reputation.standing(node.alias).value)
                for node in self.registry.statuses()
            ],
            repair=await self.repair.status(),
            survival=await self.repair.survival(),
            buckets=count,
            objects=usage.objects,
            object_bytes=usage.object_bytes,
            segments=usage.segments,
            pieces=usage.pieces,
            stored_bytes=usage.piece_bytes,
            garbage_pieces=garbage,
            put_bytes=sum(one.put_bytes for one in counters),
            get_bytes=sum(one.get_bytes for one in counters),
            one_machine=self.registry.one_machine,
            profile=self._config.profile,
            packs=packed.packs,
            packed_objects=packed.items,
            pack_dead_bytes=packed.dead_bytes,
            sets=await self.sets.status(),
        )

    # --- over the network -------------------------------------------------------------------

    async def hear(self, path: str, body: bytes, proof: str) -> Message:
        """Answer a node's signed message. Raises ``AtollError``."""
        prover = check_request(proof, "POST", path, body, self._clock.now_ms())
        request = decode(body, NodeRequest)
        handler = self._node_handlers.get(type(request))
        if handler is None:
            raise AtollError(
                Kind.NOT_IMPLEMENTED, "hear node", f"no answer to {type(request).__name__}"
            )
        return await handler(request, prover, int(proof.split(":")[1]))

    async def _heartbeat(self, request: Heartbeat, prover: bytes, _: int) -> Message:
        answer, node = await self.registry.heartbeat(request, prover)
        if node is not None and request.lost_pieces and self._loops:
            self.reputation.amnesty(node.alias, request.lost_pieces, "reported by the node itself")
            await self.repair.report_lost(node.alias, request.lost_pieces)
        return answer

    async def ask_signed(self, path: str, body: bytes, proof: str) -> Message:
        """Answer a gateway's signed question. Raises ``AtollError``."""
        now_ms = self._clock.now_ms()
        prover = check_request(proof, "POST", path, body, now_ms)
        if prover != self._identity.public_key and prover not in self._config.gateway_keys:
            raise AtollError(
                Kind.FORBIDDEN,
                "ask coordinator",
                "this coordinator does not trust this gateway's key",
                hint="add the key to the coordinator's gateways",
                about=prover.hex(),
            )
        self._proofs.spend(proof, now_ms)
        request = decode(body, ControlRequest)
        if isinstance(request, ReportTransfers):
            own = prover == self._identity.public_key
            request = msgspec.structs.replace(request, reporter=b"" if own else prover)
        return await self.ask(request, Message)


class _Proofs:
    """Signed requests seen lately, each good for once: two generations of signatures."""

    def __init__(self) -> None:
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()
        self._since_ms = 0

    def spend(self, proof: str, now_ms: int) -> None:
        """Raise ``CLOCK_SKEW``, ``REPLAYED`` or ``OVERLOADED``; else remember the proof."""
        time_ms = int(proof.split(":")[1])
        if abs(now_ms - time_ms) > CONTROL_SKEW_MS_MAX:
            raise AtollError(
                Kind.CLOCK_SKEW,
                "ask coordinator",
                f"the request's time is {abs(now_ms - time_ms) // 1000} s away from ours",
                hint="set the clock of this machine (NTP)",
            )
        # A proof may come as early and as late as the limit: it is remembered twice as long.
        if not 0 <= now_ms - self._since_ms < 2 * CONTROL_SKEW_MS_MAX:
            self._before, self._now, self._since_ms = self._now, set(), now_ms
        # The bytes, not the text: upper case would make the same signature look new.
        signature = bytes.fromhex(proof.split(":")[2])[:PROOF_BYTES_KEPT]
        if signature in self._now or signature in self._before:
            raise AtollError(Kind.REPLAYED, "ask coordinator", "this request was answered before")
        if len(self._now) >= PROOFS_KEPT_MAX:
            raise AtollError(Kind.OVERLOADED, "ask coordinator", "too many signed requests")
        self._now.add(signature)


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Route = tuple[Callable[[str, bytes, str], Awaitable[Message]], int]


class Door:
    """The coordinator's ASGI app: messages in MessagePack, failures typed, two pages in JSON."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._routes: dict[str, Route] = {
            "/v1/node/register": (coordinator.hear, NODE_MESSAGE_BYTES_MAX),
            "/v1/node/heartbeat": (coordinator.hear, NODE_MESSAGE_BYTES_MAX),
            "/v1/node/ask": (coordinator.hear, NODE_ASK_BYTES_MAX),
            "/v1/control": (coordinator.ask_signed, MESSAGE_BYTES_MAX),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            if scope["method"] == "GET" and (page := await self._page(scope)) is not None:
                await _send_page(send, page)
                return
            status, kind, body = 200, b"application/msgpack", await self._answer(scope, receive)
            if scope["method"] == "GET":
                kind = b"application/json"
        except _GoneError:
            return
        except AtollError as error:
            status, kind = error.meaning.http_status, b"application/msgpack"
            body = encode(failure_of(error))
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            status, kind = 500, b"application/msgpack"
            body = encode(
                failure_of(AtollError(Kind.INTERNAL, "answer request", "the coordinator met a bug"))
            )
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _page(self, scope: Scope) -> Page | None:
        """Return the public page of a path; None where there is none of its kind."""
        path: str = scope["path"]
        for begin, handle in self._coordinator.pages.items():
            if path == begin or path.startswith(f"{begin}/"):
                return await handle(path, scope.get("query_string", b"").decode("latin-1"))
        return None

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        path, method = scope["path"], scope["method"]
        if method == "GET" and path == "/v1/health":
            return b'{"status":"ok"}'
        if method == "GET" and path == "/v1/status":
            if not _from_this_machine(scope):
                raise AtollError(
                    Kind.FORBIDDEN, "read status", "the status is for this machine itself"
                )
            return msgspec.json.encode(await self._coordinator.ask(GetStatus(), CloudStatus))
        route = self._routes.get(path)
        if route is None or method != "POST":
            raise AtollError(Kind.NOT_FOUND, "answer request", "nothing is here")
        handle, bytes_max = route
        headers = dict(scope["headers"])
        proof = headers.get(RequestProof.HEADER.encode(), b"").decode("latin-1")
        if not proof:
            raise AtollError(Kind.UNAUTHENTICATED, "answer request", "the request is not signed")
        body = await _body(headers, receive, bytes_max)
        return encode(await handle(path, body, proof))


_PAGE_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"max-age=1"),
)


async def _send_page(send: Send, page: Page) -> None:
    headers = [
        (b"content-type", page.kind.encode()),
        (b"content-length", str(len(page.body)).encode()),
        *_PAGE_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": page.body})


class _GoneError(Exception):
    """The caller hung up before it had said all."""


async def _body(headers: dict[bytes, bytes], receive: Receive, bytes_max: int) -> bytes:
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or len(announced) > 12 or int(announced) > bytes_max:
        raise _too_long(bytes_max)
    chunks, length = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _GoneError
        chunk = event.get("body", b"")
        length += len(chunk)
        if length > bytes_max:
            raise _too_long(bytes_max)
        chunks.append(chunk)
        if not event.get("more_body", False):
            return b"".join(chunks)


def _too_long(bytes_max: int) -> AtollError:
    return AtollError(
        Kind.TOO_LARGE, "read request", f"a message here has at most {bytes_max} bytes"
    )


def _from_this_machine(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:
        return True  # a Unix socket
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
