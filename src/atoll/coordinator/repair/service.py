"""Repair as it runs: nodes watched, segments queued and leased, workers, the ranged loop.

The state is the database's: any number of coordinators may run this over one database, each may
die at any moment; a lease that is not renewed falls to another.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from atoll.client.transfer.rebuild import COUNTER_DOWN, COUNTER_UP
from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import (
    read_counters,
    segment_by_id,
    segments_after,
    segments_of_node,
)
from atoll.coordinator.placement.model import NodeState, Place
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.repair import store
from atoll.coordinator.repair.loop import RangedLoop
from atoll.coordinator.repair.rules import (
    URGENCY_MAX,
    Freezer,
    Profile,
    health_of,
    is_lost,
    retry_ms,
    urgency,
    worth_repair,
)
from atoll.coordinator.repair.store import QueueEntry
from atoll.coordinator.repair.survival import Survey
from atoll.coordinator.repair.worker import (
    COUNTER_PIECES,
    Outcome,
    Result,
    SegmentRepairer,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import RepairStatus, ReportLiar, StoredPiece, Survival
from atoll.core.ports import Clock, Compute, Database, PieceTransport, Rng

log = logging.getLogger("atoll.coordinator.repair")

PAGE_SEGMENTS = 1000
SCAN_LOOK_S = 60.0
"""How often to look whether the next round of the ranged loop is due, or has a free range."""
MEASURE_S = 60.0
ASKED_LATELY = 3
"""Times the pause between two questions of a node: after it nobody is waited for."""
CLAIMS_AHEAD = 3
"""Segments leased ahead, per worker: one transaction leases for many."""
REPORTS_MAX = 1000
"""Reports of wrong pieces waiting to be checked; further ones are refused."""
REPORTS_REMEMBERED_MAX = 10_000
REPORT_AGAIN_MS = 60_000
"""A piece found right is not checked again for this long, whoever reports it."""
LOST_WAIT_S = 5.0
"""How long a node's heartbeat waits until the pieces it lost are struck."""


@dataclass(frozen=True, slots=True)
class _Report:
    segment: bytes
    piece: StoredPiece


Accuse = Callable[[int, bytes, str], None]
"""Hears what was found: the node's alias, the piece's id, and what was wrong with it."""


def _nobody(alias: int, piece: bytes, reason: str) -> None:
    """Tell nobody."""


class RepairService:
    """Everything repair does. ``start`` it in one or several processes over a database."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Rng,
        database: Database,
        transport: PieceTransport,
        compute: Compute,
        placement: PlacementService,
        profile: Profile,
        survey: Survey | None = None,
        accuse: Accuse | None = None,
    ) -> None:
        """Make it; nothing runs before ``start``.

        ``accuse`` hears of nodes that served wrong bytes to a client and then to us.
        """
        self._accuse = accuse or _nobody
        self._clock = clock
        self._database = database
        self._placement = placement
        self._profile = profile
        self._owner = rng.bytes(16)
        self._freezer = Freezer(profile)
        self.repairer = SegmentRepairer(
            clock=clock,
            rng=rng,
            database=database,
            transport=transport,
            compute=compute,
            placement=placement,
            profile=profile,
        )
        self._ranged = RangedLoop(
            clock,
            database,
            self._owner,
            profile,
            lambda segments: self.judge(segments, "found by the scan", disturb=False),
        )
        self.survey = survey or Survey(clock, database, placement, profile)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._backlog: deque[store.Claim] = deque()
        self._loops: list[asyncio.Task[None]] = []
        self._bell = asyncio.Event()
        self._wakes = 0
        self.asked_ms = 0
        """When a node last asked for work."""
        self._seen: dict[int, NodeState] = {}
        self._places: dict[int, tuple[Place, bool]] = {}
        self._newest_policy: int | None = None
        self._reports: asyncio.Queue[_Report] = asyncio.Queue(REPORTS_MAX)
        self._reported: OrderedDict[_Report, int] = OrderedDict()
        self._striking: dict[int, tuple[frozenset[bytes], asyncio.Task[None]]] = {}

    # --- start and stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Run the loops until ``stop``."""
        steps: list[tuple[str, Callable[[], Coroutine[Any, Any, None]], float]] = [
            ("watch nodes", self.watch_nodes, self._profile.poll_s),
            ("watch policies", self.watch_policies, self._profile.poll_s),
            ("dispatch repairs", self.dispatch, self._profile.poll_s),
            ("renew leases", self._renew, self._profile.lease_ms / 3000),
            ("scan segments", self.scan, min(self._profile.scan_interval_s, SCAN_LOOK_S)),
            ("measure", self.measure, MEASURE_S),
            ("check reports", self._check_next_report, 0.0),
        ]
        self._loops = [
            asyncio.create_task(self._loop(name, step, pause_s)) for name, step, pause_s in steps
        ]

    async def stop(self) -> None:
        """Stop the loops and the workers; give their segments back."""
        striking = [task for _, task in self._striking.values()]
        tasks = [*self._loops, *self._running.values(), *striking]
        self._loops = []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._running.clear()
        self._backlog.clear()

        def write(connection: Connection) -> None:
            store.release(connection, self._owner)
            store.release_ranges(connection, self._owner)

        await self._database.write(write)

    async def _loop(
        self, name: str, step: Callable[[], Coroutine[Any, Any, None]], pause_s: float
    ) -> None:
        await self._clock.sleep(self._profile.settle_ms / 1000)
        while True:
            try:
                await step()
            except (AtollError, SQLAlchemyError) as cause:
                log.warning("repair, %s: %s", name, cause)
                await self._clock.sleep(max(pause_s, 1.0))
                continue
            except Exception:
                # Repair must not go on half-dead because one step met a bug.
                log.exception("repair, %s failed", name)
                await self._clock.sleep(max(pause_s, 1.0))
                continue
            if step == self.dispatch:
                await self._wait_for_bell(pause_s)
            elif pause_s:
                await self._clock.sleep(pause_s)

    async def _wait_for_bell(self, seconds: float) -> None:
        bell = asyncio.create_task(self._bell.wait())
        pause = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait([bell, pause], return_when=asyncio.FIRST_COMPLETED)
        finally:
            bell.cancel()
            pause.cancel()
        self._bell.clear()

    @property
    def frozen(self) -> bool:
        """Whether repair is held back because many nodes vanished at once."""
        return self._freezer.frozen

    def ring(self) -> None:
        """Say that there may be work."""
        self._bell.set()

    # --- what happened to nodes -------------------------------------------------------------

    async def watch_nodes(self) -> None:
        """Compare the nodes with what they were: queue what the dead held, wake for the living."""
        nodes = self._placement.nodes()
        now_ms = self._clock.now_ms()
        was_frozen = self._freezer.frozen
        if self._freezer.look(nodes, now_ms) and not was_frozen:
            log.warning("repair is frozen: too many nodes vanished at once")
            self._backlog.clear()
        gone = (NodeState.DEAD, NodeState.LOST)
        returned: list[int | None] = []
        for alias, node in list(nodes.items()):
            # A lost name moves everything, as another place may move some of it.
            place = (node.place, node.forfeit)
            if self._places.setdefault(alias, place) != place:
                self._places[alias] = place
                await self.node_moved(alias)
            before = self._seen.get(alias)
            if before is node.state:
                continue
            if node.state in gone and before not in gone:
                await self.node_died(alias)
            elif node.state is NodeState.ALIVE and before is not NodeState.SUSPECT:
                returned.append(None if before is None else alias)
            self._seen[alias] = node.state
        if returned:
            await self._wake(None if None in returned else returned)

    async def _wake(self, aliases: Sequence[int | None] | None) -> None:
        """Let segments wait no longer that a returned node may help; all where one is new."""
        now_ms = self._clock.now_ms()
        self._wakes += 1

        def write(connection: Connection) -> None:
            for alias in aliases or [None]:
                store.wake(connection, now_ms, alias)

        await self._database.write(write)
        self.ring()

    async def node_died(self, alias: int) -> int:
        """Queue every segment with a piece on a node; return how many are below strength."""
        count = await self._judge_pages(
            partial(segments_of_node, alias=alias, limit=PAGE_SEGMENTS),
            f"node {alias} died",
            disturb=True,
        )
        if count:
            log.info("node %d died: %d segments below full strength", alias, count)
        return count

    async def node_moved(self, alias: int) -> int:
        """Queue the segments that may not stay with a node of which something else is known now."""
        count = await self._judge_pages(
            partial(segments_of_node, alias=alias, limit=PAGE_SEGMENTS),
            f"other facts are known of node {alias}",
            disturb=True,
        )
        log.info("node %d: other facts are known; %d segments to be looked after", alias, count)
        return count

    async def watch_policies(self) -> None:
        """After a bucket got another policy, look at all segments: some may have to move."""
        newest = self._placement.newest_policy
        if self._newest_policy == newest:
            return
        known, self._newest_policy = self._newest_policy, newest
        if known is not None:
            await self._judge_pages(
                partial(segments_after, limit=PAGE_SEGMENTS),
                "its bucket has another policy",
                disturb=True,
            )

    async def scan(self) -> None:
        """Judge every segment once a round: the safety net under everything else."""
        await self._ranged.work()

    async def measure(self) -> None:
        """Note how many nodes there are and were lost: durability is computed from it."""
        nodes = self._placement.nodes().values()
        lost = [node.since_ms for node in nodes if is_lost(node)]
        now_ms = self._clock.now_ms()
        present = len(nodes) - len(lost)
        await self._database.write(lambda c: store.measure(c, now_ms, present, lost))

    async def _judge_pages(
        self,
        page: Callable[..., list[StoredSegment]],
        reason: str,
        *,
        disturb: bool,
    ) -> int:
        after = count = 0
        while True:
            segments = await self._database.read(partial(page, after=after))
            if segments:
                count += await self.judge(segments, reason, disturb=disturb)
            if len(segments) < PAGE_SEGMENTS:
                return count
            after = segments[-1].serial
            await self._clock.sleep(0)

    async def judge(self, segments: Sequence[StoredSegment], reason: str, *, disturb: bool) -> int:
        """Queue those of some segments that need anything; return how many."""
        nodes = self._placement.nodes()
        entries = []
        # Many segments lie on the same nodes; where a piece's index is does not matter here.
        judged: dict[tuple[int, int, int, tuple[int, ...]], tuple[int, int, bool]] = {}
        for segment in segments:
            holders = tuple(sorted(p.alias for p in segment.pieces))
            key = (segment.k, segment.n, self._placement.policy_id(segment.bucket), holders)
            known = judged.get(key)
            if known is None:
                policy = self._placement.policy_of(segment.policy, segment.bucket)
                health = health_of(segment.k, segment.n, segment.pieces, nodes, policy)
                worth = worth_repair(health, self._profile)
                known = judged[key] = (len(health.kept), urgency(health), worth)
            healthy, urgent, worth = known
            if worth:
                entries.append(QueueEntry(segment.serial, healthy, urgent, reason))
        if entries:
            now_ms = self._clock.now_ms()
            await self._database.write(lambda c: store.enqueue(c, entries, now_ms, disturb=disturb))
            self.ring()
        return len(entries)

    # --- what nodes and gateways report -----------------------------------------------------

    async def report_lost(self, alias: int, piece_ids: Sequence[bytes]) -> None:
        """A node says that it lost these pieces: they are struck, durably, and will be rebuilt.

        The node forgets its loss once it is acknowledged. Raises ``OVERLOADED`` where finding them
        takes longer than ``LOST_WAIT_S``; the work goes on and the node says it again.
        """
        if not piece_ids:
            return
        ids = frozenset(piece_ids)
        busy = self._striking.get(alias)
        if busy is not None and not ids <= busy[0]:
            await self._struck(alias)
            busy = None
        if busy is None:
            self._striking[alias] = (ids, asyncio.create_task(self._strike_lost(alias, ids)))
        await self._struck(alias)

    async def _struck(self, alias: int) -> None:
        """Wait for the pieces of a node that are being struck."""
        busy = self._striking.get(alias)
        if busy is None:
            return
        await asyncio.wait([busy[1]], timeout=LOST_WAIT_S)
        if not busy[1].done():
            raise AtollError(
                Kind.OVERLOADED, "report lost pieces", "its lost pieces are still looked for"
            )
        if self._striking.get(alias) is busy:
            del self._striking[alias]
        busy[1].result()

    async def _strike_lost(self, alias: int, ids: frozenset[bytes]) -> None:
        """Find the segments of pieces a node reported lost and strike those pieces."""
        left = set(ids)
        after = 0
        while left:
            segments = await self._database.read(
                partial(segments_of_node, alias=alias, after=after, limit=PAGE_SEGMENTS)
            )
            for segment in segments:
                for piece in segment.pieces:
                    piece_id = piece_id_of(SegmentId(segment.segment), piece.index)
                    if piece.alias == alias and piece_id in left:
                        left.discard(piece_id)
                        await self._strike(segment, piece, "reported by the node itself", sure=True)
            if len(segments) < PAGE_SEGMENTS:
                return
            after = segments[-1].serial

    async def _strike(
        self, segment: StoredSegment, piece: StoredPiece, reason: str, *, sure: bool
    ) -> None:
        await self.repairer.lose_pieces(segment, [piece], reason, sure=sure)
        fresh = await self._database.read(lambda c: segment_by_id(c, segment.segment))
        if fresh is not None:
            await self.judge([fresh], "a piece was lost", disturb=True)

    def report_liar(self, report: ReportLiar) -> None:
        """A client saw wrong bytes: look at the piece ourselves before judging anybody.

        Raises ``OVERLOADED`` where too many reports wait.
        """
        one = _Report(report.segment, StoredPiece(index=report.index, alias=report.alias))
        now_ms = self._clock.now_ms()
        seen_ms = self._reported.get(one)
        if seen_ms is not None and 0 <= now_ms - seen_ms < REPORT_AGAIN_MS:
            return
        try:
            self._reports.put_nowait(one)
        except asyncio.QueueFull:
            raise AtollError(
                Kind.OVERLOADED, "report wrong piece", "too many reports wait to be checked"
            ) from None
        self._reported[one] = now_ms
        self._reported.move_to_end(one)
        if len(self._reported) > REPORTS_REMEMBERED_MAX:
            self._reported.popitem(last=False)

    async def _check_next_report(self) -> None:
        await self.check_report(await self._reports.get())

    async def check_report(self, report: _Report) -> None:
        """Read the piece in question; if it is wrong, name its node and rebuild."""
        segment = await self._database.read(lambda c: segment_by_id(c, report.segment))
        if segment is None or report.piece not in segment.pieces:
            return
        reason = await self.repairer.check_piece(segment, report.piece)
        if reason:
            piece_id = piece_id_of(SegmentId(segment.segment), report.piece.index)
            self._accuse(report.piece.alias, piece_id, reason)
            await self._strike(segment, report.piece, reason, sure=False)

    # --- work -------------------------------------------------------------------------------

    async def dispatch(self) -> None:
        """Lease due segments, the most urgent first, as many as there are free workers."""
        free = self._profile.workers - len(self._running)
        if free > len(self._backlog):
            urgent_min = URGENCY_MAX if self._freezer.frozen else 0
            limit = free + self._profile.workers * CLAIMS_AHEAD
            now_ms = self._clock.now_ms()
            asked = now_ms - self.asked_ms <= ASKED_LATELY * self._profile.offer_again_ms
            patience_ms = self._profile.patience_ms if asked else 0
            self._backlog.extend(
                await self._database.write(
                    partial(
                        store.claim,
                        owner=self._owner,
                        now_ms=now_ms,
                        lease_ms=self._profile.lease_ms,
                        limit=limit - len(self._backlog),
                        urgent_min=urgent_min,
                        urgent_sure=URGENCY_MAX,
                        patience_ms=patience_ms,
                    )
                )
            )
        while self._backlog and len(self._running) < self._profile.workers:
            claim = self._backlog.popleft()
            if claim.serial not in self._running:
                self._running[claim.serial] = asyncio.create_task(self._work(claim))

    async def _work(self, claim: store.Claim) -> None:
        try:
            wakes = self._wakes
            result = await self.repairer.repair(claim.serial, self._owner)
            await self._settle(claim, result, woken=wakes != self._wakes)
        except (AtollError, SQLAlchemyError) as cause:
            log.warning("repair of segment %d: %s", claim.serial, cause)
        except Exception:
            log.exception("repair of segment %d failed", claim.serial)
        finally:
            # A row that was not settled keeps its lease: the pause before the next try.
            self._running.pop(claim.serial, None)
            self.ring()

    async def _settle(self, claim: store.Claim, result: Result, *, woken: bool) -> None:
        """Take a healed segment off the queue; put another back, later each time.

        Where a node came back meanwhile (``woken``) it is tried again soon.
        """
        health = result.health
        if health is None or health.settled:
            await self._database.write(partial(self._finish, serial=claim.serial))
            self.survey.refresh_soon()
            return
        attempts = 0 if result.repaired or woken else claim.attempts + 1
        due_ms = self._clock.now_ms() + retry_ms(attempts, self._profile)
        entry = QueueEntry(claim.serial, len(health.kept), urgency(health), result.outcome.value)
        level = logging.ERROR if result.outcome is Outcome.UNREADABLE else logging.INFO
        log.log(
            level,
            "segment %d waits at %d of %d pieces: %s",
            claim.serial,
            len(health.kept),
            health.scheme.n,
            result.outcome.value,
        )

        def write(connection: Connection) -> None:
            if not store.postpone(connection, entry, self._owner, attempts, due_ms):
                store.enqueue(connection, [entry], self._clock.now_ms(), disturb=False)
                store.free(connection, claim.serial, self._clock.now_ms())

        await self._database.write(write)

    def _finish(self, connection: Connection, serial: int) -> None:
        now_ms = self._clock.now_ms()
        store.finish(connection, serial, self._owner, now_ms)
        store.free(connection, serial, now_ms)

    async def _renew(self) -> None:
        serials = [*self._running, *(claim.serial for claim in self._backlog)]
        if serials:
            now_ms = self._clock.now_ms()
            await self._database.write(
                lambda c: store.renew(c, self._owner, serials, now_ms, self._profile.lease_ms)
            )

    # --- what is seen of it -----------------------------------------------------------------

    async def status(self) -> RepairStatus:
        """Return what repair is doing, by the piece sets of seconds ago and the nodes of now."""
        survey = await self.survey.look()
        counters = await self._database.read(read_counters)
        return RepairStatus(
            segments_degraded=survey.segments_degraded,
            segments_urgent=survey.segments_urgent,
            pieces_missing=survey.pieces_missing,
            pieces_repaired=counters.get(COUNTER_PIECES, 0),
            bytes_downloaded=counters.get(COUNTER_DOWN, 0),
            bytes_uploaded=counters.get(COUNTER_UP, 0),
            running=len(self._running),
            frozen=self._freezer.frozen,
        )

    async def survival(self) -> Survival:
        """Return how many more nodes may die."""
        return (await self.survey.look()).survival
