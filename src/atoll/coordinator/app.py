"""The coordinator: one object that answers gateways and nodes.

The coordinator process runs it with ``loops=True``; a gateway worker that shares the database runs
it without: it answers from the database and leaves judging, repair and collection to the other.
"""

import asyncio
import logging

import msgspec

from atoll.coordinator.assembly import Rooms, World
from atoll.coordinator.billing import store as billing
from atoll.coordinator.config import CoordinatorConfig
from atoll.coordinator.door import Door, SpentProofs
from atoll.coordinator.metadata.store import buckets, packs, reports, segments
from atoll.coordinator.part import Guard, Handler, NodeHandler, PageHandler, Step
from atoll.coordinator.registry.model import TIMERS
from atoll.coordinator.settlement import store as settlement
from atoll.core.crypto import NONCE_BYTES, open_secret, seal_secret
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, check_request
from atoll.core.messages import (
    CONTROL_REQUESTS,
    NODE_REQUESTS,
    OPERATOR_REQUESTS,
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
)
from atoll.core.messages.reputation import ReportTransfers
from atoll.core.messages.status import EpochsStatus
from atoll.core.ports import Clock, Compute, Database, PieceTransport, Rng
from atoll.economy.settlement.model import REAL_TIME

__all__ = ["Coordinator", "CoordinatorConfig"]

log = logging.getLogger("atoll.coordinator")

STATUS_CACHE_S = 0.5
GARBAGE_COUNTED_MAX = 1_000_000
EXPIRY_INTERVAL_S = 60.0
REPORTS_INTERVAL_S = 1.0
REPORTS_AT_ONCE = 100
LOOP_PAUSE_S = 1.0
"""Rest of a loop after a fault."""
_SECRETS_CHECK = "secrets-check"


class Coordinator(Rooms):
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
        super().__init__(
            World(clock, rng, database, transport, compute, identity), config, loops=loops
        )
        self._clock = clock
        self._rng = rng
        self._database = database
        self._identity = identity
        self._config = config
        self._loops = loops
        self._tasks: list[asyncio.Task[None]] = []
        self._status: tuple[float, CloudStatus] | None = None
        self._spent = SpentProofs()
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
        self._guards: dict[type[Message], Guard] = {}
        for part in self.parts:
            assert not self._guards.keys() & part.guards.keys(), "one guard for each request"
            self._guards.update(part.guards)
            self.pages.update(part.pages)
            self._handlers.update(part.handlers)
            self._node_handlers.update(part.node_handlers)
        assert CONTROL_REQUESTS.keys() >= self._handlers.keys()
        assert NODE_REQUESTS.keys() >= self._node_handlers.keys()
        self.app = Door(self)

    # --- start and stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Read the nodes and run the loops. Raises ``WRONG_FOLDER`` for another's database."""
        await self._check_secrets()
        await self.registry.refresh()
        await self.policies.refresh()
        await self.reputation.fresh()
        await self.market.fresh()
        if not self._loops:
            return
        steps = [
            Step("judge nodes", self.registry.tick, TIMERS[self._config.profile].tick_ms / 1000),
            Step("expire uploads", self.uploads.expire, EXPIRY_INTERVAL_S),
            Step("take reports", self._take_reports, REPORTS_INTERVAL_S),
        ]
        for part in self.parts:
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
        for part in self.parts:
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
            self.secrets_key, _SECRETS_CHECK, b"atoll", self._rng.bytes(NONCE_BYTES)
        )
        kept = await self._database.read(lambda c: buckets.read_setting(c, _SECRETS_CHECK))
        if kept is None:
            kept = await self._database.write(
                lambda c: buckets.keep_setting(c, _SECRETS_CHECK, sealed)
            )
        try:
            open_secret(self.secrets_key, _SECRETS_CHECK, kept)
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
        guard = self._guards.get(type(request))
        if guard is not None:
            await guard(request)
        result = await handler(request)
        assert isinstance(result, answer), "core.messages.ANSWERS names the answer"
        return result

    async def _fresh(self) -> None:
        """Take over what other processes wrote about nodes, if what is here is old."""
        await self.registry.fresh()
        await self.reputation.fresh()
        await self.market.fresh()

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
            upgrades=await self.upgrades.status(),
            epochs=await self._epochs_status(),
        )

    async def _epochs_status(self) -> EpochsStatus:
        newest = await self._database.read(billing.newest)
        if newest is None or not newest.epoch:
            return EpochsStatus()
        settled = await self._database.read(settlement.last_settled)
        config = self._config.billing
        return EpochsStatus(
            epoch=newest.epoch,
            state=newest.state.value,
            until_ms=newest.until_ms,
            epoch_final=settled.epoch if settled is not None else 0,
            time_factor=config.time_factor if config is not None else REAL_TIME,
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
        self._spent.spend(proof, now_ms)
        request = decode(body, ControlRequest)
        if type(request) in OPERATOR_REQUESTS and prover != self._identity.public_key:
            raise AtollError(
                Kind.FORBIDDEN,
                "ask coordinator",
                "this is for the coordinator's operator alone",
                hint="run the command where the coordinator's folder is",
            )
        if isinstance(request, ReportTransfers):
            own = prover == self._identity.public_key
            request = msgspec.structs.replace(request, reporter=b"" if own else prover)
        return await self.ask(request, Message)
