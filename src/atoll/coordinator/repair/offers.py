"""Repair work given to nodes: offered on request, leased, settled by what the targets signed.

A worker is trusted with nothing. It gets orders to read and orders to write, no say: pieces are
recorded only where the target's signed receipt names the very root that the segment's row commits
to. One that is slow, dead or lying costs its lease and no more; the announcements of its pieces
(intents) see to it that nothing is left lying about.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
from sqlalchemy.engine import Connection

from atoll.client.transfer.rebuild import COUNTER_DOWN, COUNTER_UP, Job, checked_trailer
from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import add_counters, segment_by_serial
from atoll.coordinator.part import Part, Step
from atoll.coordinator.placement.model import NodeState, Standing
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.repair import store
from atoll.coordinator.repair.rules import URGENCY_MAX, Profile
from atoll.coordinator.repair.service import RepairService
from atoll.coordinator.repair.worker import Plan, SegmentRepairer
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import NodeId, node_id_of
from atoll.core.messages import Message, PieceGrant, ReportLiar, StoredPiece
from atoll.core.messages.repairs import (
    TASK_RECEIPTS_MAX,
    AskRepairWork,
    FinishRepairWork,
    RepairOffer,
    RepairSettled,
    RepairTask,
)
from atoll.core.orders import check_receipt, parse_order
from atoll.core.pieces import Trailer
from atoll.core.ports import Clock, Database, Rng

log = logging.getLogger("atoll.coordinator.repair")

ROWS_TRIED_MAX = 4
"""Segments looked at for one that this node may repair."""
TASKS_PER_NODE_MAX = 4
FALSE_CLAIMS_MAX = 3
"""A node that showed so many false results gets no more work."""
WORKER_BYTES_PER_S_MIN = 1 << 20
"""The pace a task's lease is made for."""
EXPIRE_S = 15.0
_REFUSED = (Standing.SUSPENDED, Standing.DISQUALIFIED, Standing.SUSPECT)


class _Wanted(msgspec.Struct, frozen=True, array_like=True):
    """One piece that a task shall store."""

    index: int
    alias: int
    node_id: bytes
    order_serial: bytes
    inherited: bool


class _Facts(msgspec.Struct, frozen=True, array_like=True):
    """What was asked, as ``repair_task.facts`` keeps it."""

    packed_pieces: bytes
    intent_until_ms: int
    move: bool
    wanted: list[_Wanted]
    sources: list[tuple[int, int]]
    """(index, alias)."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a worker's result proves."""

    stored: tuple[StoredPiece, ...]
    false: str = ""
    """Why the worker, or a target with it, did not tell the truth."""


class NodeDirectory(Protocol):
    """Who a node is: the registry."""

    async def fresh(self) -> None:
        """See that what follows is not old."""

    def alias_of(self, node_id: bytes) -> int | None:
        """Return the alias of a node by its id; None for a stranger."""


class Done(Protocol):
    """Takes down what a worker is to be paid for."""

    def __call__(
        self,
        connection: Connection,
        task: bytes,
        worker: int,
        rebuilt: Sequence[int],
        holders: Mapping[int, int],
        piece_bytes: int,
        receipts: Sequence[bytes],
    ) -> None:
        """Take it: indexes rebuilt, who held each before, and the targets' receipts."""


class RepairOffers(Part):
    """Answers ``AskRepairWork`` and ``FinishRepairWork``."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Rng,
        database: Database,
        registry: NodeDirectory,
        placement: PlacementService,
        repair: RepairService,
        profile: Profile,
        done: Done | None = None,
    ) -> None:
        """Share the queue with ``repair``, whose workers take what no node takes.

        ``done`` hears of every task that rebuilt something, in the transaction that settles it.
        """
        self._done = done
        self._clock = clock
        self._rng = rng
        self._database = database
        self._registry = registry
        self._placement = placement
        self._repair = repair
        self._repairer: SegmentRepairer = repair.repairer
        self._profile = profile
        self.node_handlers = {AskRepairWork: self.ask, FinishRepairWork: self.finish}
        self.steps = [Step("take back repair work", self.expire, EXPIRE_S)]

    async def expire(self) -> None:
        """Take back tasks whose time is over."""
        now_ms = self._clock.now_ms()
        taken = await self._database.write(partial(store.expire_tasks, now_ms=now_ms))
        if taken:
            log.info("%d repair tasks were not finished in time", taken)
            self._repair.ring()

    # --- offering ---------------------------------------------------------------------------

    async def ask(self, request: AskRepairWork, prover: bytes, _: int) -> Message:
        """Give a node one segment to repair, if there is any for it."""
        nothing = RepairOffer(task=None, again_ms=self._profile.offer_again_ms)
        alias = await self._alias_of(prover)
        node = self._placement.nodes().get(alias)
        if (
            node is None
            or node.state is not NodeState.ALIVE
            or node.standing in _REFUSED
            or self._repair.frozen
        ):
            return nothing
        self._repair.asked_ms = self._clock.now_ms()
        busy, work = await self._database.read(
            lambda c: (store.running_tasks(c, alias), store.work_of(c, alias))
        )
        if work.false_claims >= FALSE_CLAIMS_MAX:
            raise AtollError(
                Kind.FORBIDDEN,
                "ask repair work",
                f"this node showed {work.false_claims} results that are not what was committed to",
            )
        if busy >= TASKS_PER_NODE_MAX:
            return nothing
        task = self._rng.bytes(16)
        for claim in await self._claim(task):
            plan = await self._repairer.plan(claim.serial, alias)
            if not isinstance(plan, Plan):
                continue
            assert plan.job is not None
            if _traffic_bytes(plan.job) <= request.bytes_max:
                offer = await self._give(task, alias, plan, plan.job)
                if offer is not None:
                    await self._let_go(task, but=claim.serial)
                    return RepairOffer(task=offer, again_ms=0)
            else:
                await self._forget(plan)
        await self._let_go(task, but=0)
        return nothing

    async def _claim(self, task: bytes) -> list[store.Claim]:
        """Lease rows under the task's name; the most urgent are left to the coordinator itself."""
        return await self._database.write(
            partial(
                store.claim,
                owner=task,
                now_ms=self._clock.now_ms(),
                lease_ms=self._profile.lease_ms,
                limit=ROWS_TRIED_MAX,
                urgent_min=0,
                urgent_max=URGENCY_MAX - 1,
            )
        )

    async def _give(self, task: bytes, alias: int, plan: Plan, job: Job) -> RepairTask | None:
        now_ms, serial = self._clock.now_ms(), plan.segment.serial
        lease_ms = self._profile.lease_ms + 1000 * _traffic_bytes(job) // WORKER_BYTES_PER_S_MIN
        until_ms = min(now_ms + lease_ms, plan.until_ms - 2 * store.INTENT_MARGIN_MS)
        facts = msgspec.msgpack.encode(_facts_of(plan, job))

        def write(connection: Connection) -> bool:
            if not store.add_task(connection, task, serial, alias, until_ms, facts):
                return False
            store.renew(connection, task, [serial], now_ms, until_ms - now_ms)
            return True

        if not await self._database.write(write):
            await self._forget(plan)
            return None
        header = job.header
        return RepairTask(
            task=task,
            segment=plan.segment.segment,
            segment_root=plan.segment.root,
            k=header.k,
            n=header.n,
            unit_bytes=header.unit_bytes,
            plain_bytes=header.plain_bytes,
            data_bytes=header.data_bytes,
            payer_tag=header.payer_tag,
            move=job.move,
            sources=[source.grant for source in job.sources],
            targets=[target.grant for target in job.targets],
            until_ms=until_ms,
        )

    async def _forget(self, plan: Plan) -> None:
        """Take back the announcements of a plan that nobody carries out."""
        await self._repairer.record(plan, (), False, store.NOBODY, {})

    async def _let_go(self, task: bytes, but: int) -> None:
        await self._database.write(partial(store.release_but, owner=task, serial=but))

    async def _alias_of(self, prover: bytes) -> int:
        await self._registry.fresh()
        alias = self._registry.alias_of(node_id_of(prover))
        if alias is None:
            raise AtollError(
                Kind.FORBIDDEN, "repair work", "this node is not registered", hint="register first"
            )
        return alias

    # --- settling ---------------------------------------------------------------------------

    async def finish(self, request: FinishRepairWork, prover: bytes, _: int) -> Message:
        """Record what a worker's result proves; count the bytes that it is to be paid for."""
        if len(request.receipts) > TASK_RECEIPTS_MAX or len(request.wrong) > TASK_RECEIPTS_MAX:
            raise AtollError(Kind.BAD_REQUEST, "finish repair work", "too many receipts")
        alias = await self._alias_of(prover)
        row = await self._database.write(partial(store.take_task, task=request.task, alias=alias))
        if row is None:
            raise AtollError(
                Kind.NOT_FOUND, "finish repair work", "this node has no such task any more"
            )
        facts = msgspec.msgpack.decode(row.facts, type=_Facts)
        segment = await self._database.read(partial(segment_by_serial, serial=row.serial))
        recorded = 0
        shown = _Shown(())
        if segment is not None:
            shown = self._check(request, segment, facts)
            recorded = await self._record(request, segment, facts, shown)
            self._look_at(request, segment, facts)
        settled = _pay(segment, facts, recorded)
        await self._note(alias, request, shown, settled, row.serial, segment)
        self._repair.survey.refresh_soon()
        self._repair.ring()
        return settled

    def _check(self, request: FinishRepairWork, segment: StoredSegment, facts: _Facts) -> _Shown:
        """Hold receipts against roots, and roots against the segment's row."""
        if not request.receipts:
            return _Shown(())
        header = self._repairer.header(segment, facts.wanted[0].index)
        try:
            trailer = checked_trailer(header, request.trailer, segment.root)
        except AtollError as wrong:
            return _Shown((), f"roots that are not the segment's: {wrong}")
        wanted = {one.index: one for one in facts.wanted}
        stored = []
        for signed in request.receipts:
            try:
                stored.append(_stored(signed, segment, wanted, trailer))
            except AtollError as wrong:
                return _Shown(tuple(dict.fromkeys(stored)), str(wrong))
        return _Shown(tuple(dict.fromkeys(stored)))

    async def _record(
        self,
        request: FinishRepairWork,
        segment: StoredSegment,
        facts: _Facts,
        shown: _Shown,
    ) -> int:
        inherited = [
            StoredPiece(index=one.index, alias=one.alias) for one in facts.wanted if one.inherited
        ]
        pieces = tuple(StoredPiece(index=one.index, alias=one.alias) for one in facts.wanted)
        plan = Plan(
            segment=segment,
            job=None,
            intents=store.Intents(pieces, tuple(inherited)),
            until_ms=facts.intent_until_ms,
        )
        stored = shown.stored if segment.packed_pieces == facts.packed_pieces else ()
        released = request.released or bool(request.receipts)
        return await self._repairer.record(plan, stored, released, request.task, {})

    def _look_at(self, request: FinishRepairWork, segment: StoredSegment, facts: _Facts) -> None:
        """Have a look at the sources that the worker found wrong: its word alone strikes nobody."""
        for index, alias in facts.sources:
            if index in request.wrong and StoredPiece(index=index, alias=alias) in segment.pieces:
                self._repair.report_liar(
                    ReportLiar(
                        segment=segment.segment,
                        index=index,
                        alias=alias,
                        reason="a repair worker found its bytes wrong",
                    )
                )

    async def _note(
        self,
        alias: int,
        request: FinishRepairWork,
        shown: _Shown,
        settled: RepairSettled,
        serial: int,
        segment: StoredSegment | None,
    ) -> None:
        if shown.false:
            log.warning("repair worker %d on segment %d: %s", alias, serial, shown.false)
        elif not settled.pieces:
            log.info("repair worker %d on segment %d: %s", alias, serial, request.failure)
        now_ms = self._clock.now_ms()
        change = store.Work(
            alias,
            tasks=1,
            failed=int(not settled.pieces),
            false_claims=int(bool(shown.false)),
            pieces=settled.pieces,
            downloaded_bytes=settled.downloaded_bytes,
            uploaded_bytes=settled.uploaded_bytes,
            last_ms=now_ms,
        )

        def write(connection: Connection) -> None:
            store.add_work(connection, change)
            if self._done is not None and segment is not None and settled.pieces:
                self._done(
                    connection,
                    request.task,
                    alias,
                    [piece.index for piece in shown.stored][: settled.pieces],
                    {piece.index: piece.alias for piece in segment.pieces},
                    segment.layout.piece_bytes,
                    request.receipts,
                )
            add_counters(
                connection,
                {COUNTER_DOWN: change.downloaded_bytes, COUNTER_UP: change.uploaded_bytes},
            )
            store.release_but(connection, request.task, 0)

        await self._database.write(write)


def _stored(
    signed: bytes, segment: StoredSegment, wanted: dict[int, _Wanted], trailer: Trailer
) -> StoredPiece:
    """Return the piece that a receipt proves. Raises for one that proves something else."""
    receipt = check_receipt(signed)
    one = wanted.get(receipt.index)
    if (
        one is None
        or receipt.segment_id != segment.segment
        or receipt.node_id != NodeId(one.node_id)
        or receipt.serial != one.order_serial
    ):
        raise AtollError(Kind.BAD_REQUEST, "check receipt", "a receipt for what was not asked")
    if receipt.piece_root != trailer.piece_roots[receipt.index]:
        raise AtollError(
            Kind.CORRUPT,
            "check receipt",
            f"node {one.alias} signed for bytes that are not piece {one.index}",
        )
    return StoredPiece(index=one.index, alias=one.alias)


def _traffic_bytes(job: Job) -> int:
    return (len(job.sources) + len(job.targets)) * job.header.data_bytes


def _pay(segment: StoredSegment | None, facts: _Facts, recorded: int) -> RepairSettled:
    """Return what counts for pay: by what was recorded, never by what the worker says."""
    if segment is None or not recorded:
        return RepairSettled(pieces=0, downloaded_bytes=0, uploaded_bytes=0)
    piece_bytes = segment.layout.piece_bytes
    read = recorded if facts.move else segment.k
    return RepairSettled(
        pieces=recorded,
        downloaded_bytes=read * piece_bytes,
        uploaded_bytes=recorded * piece_bytes,
    )


def _facts_of(plan: Plan, job: Job) -> _Facts:
    inherited = set(plan.intents.inherited)

    def wanted(grant: PieceGrant) -> _Wanted:
        piece = StoredPiece(index=grant.index, alias=grant.alias)
        serial = parse_order(grant.order).serial
        return _Wanted(grant.index, grant.alias, grant.node_id, serial, piece in inherited)

    return _Facts(
        packed_pieces=plan.segment.packed_pieces,
        intent_until_ms=plan.until_ms,
        move=job.move,
        wanted=[wanted(target.grant) for target in job.targets],
        sources=[(source.index, source.alias) for source in job.sources],
    )
