"""One segment's repair from judgement to record: plan, rebuild, commit; again without the liars.

All that outlives a crash is in the database: the queue row with its lease, the intents of the
pieces being sent, and the segment's piece set, which changes in one transaction or not at all.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial

from sqlalchemy.engine import Connection

from atoll.client.transfer.rebuild import (
    Job,
    NoTargetError,
    Rebuild,
    Source,
    SourceError,
    TokenBucket,
    Traffic,
    WrongBytesError,
    check_stored_piece,
    read_cap,
)
from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import (
    add_counters,
    replace_pieces,
    segment_by_serial,
)
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.coordinator.placement.rules import Domains, choose, part_time_max, step_aside
from atoll.coordinator.placement.service import OrderItem, PlacementService
from atoll.coordinator.repair import store
from atoll.coordinator.repair.rules import (
    Health,
    Profile,
    Verdict,
    health_of,
    judge_node,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId
from atoll.core.messages import StoredPiece
from atoll.core.orders import Action
from atoll.core.pieces import Header
from atoll.core.ports import Clock, Compute, Database, PieceTransport, Rng

log = logging.getLogger("atoll.coordinator.repair")

ROUNDS_MAX = 24
"""Rebuilds of one segment tried in a row, each without the sources that failed before."""
COUNTER_PIECES = "repair_pieces"
COUNTER_LIARS = "repair_pieces_wrong"
COUNTER_ADOPTED = "repair_pieces_adopted"
"""Pieces that came back with their nodes and were recorded again instead of rebuilt."""


class Outcome(Enum):
    """How a repair ended."""

    FULL = "full strength"
    PARTLY = "some pieces found no home"
    NO_ROOM = "no independent node with room is left"
    UNREADABLE = "too few pieces can be read until a node returns"
    SOURCES = "too few sources answered"
    TARGETS = "no target took its piece"
    CHANGED = "changed meanwhile"
    GONE = "deleted meanwhile"
    FAULT = "a rebuilt piece was wrong"
    NOT_FOR_THIS_NODE = "the node holds a piece of it"


@dataclass(frozen=True, slots=True)
class Result:
    """A repair's end, and the segment's health after it."""

    outcome: Outcome
    health: Health | None
    repaired: int = 0
    settled: bool = False
    """Whether the queue's row went in the same transaction."""


@dataclass(slots=True)
class _Run:
    """One repair: for whom, and what it has learned about the nodes."""

    owner: bytes
    traffic: Traffic = field(default_factory=Traffic)
    unreachable: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    looked_at: set[StoredPiece] = field(default_factory=set)
    """Returned pieces that were read once in this run."""
    repaired: int = 0
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A repair ready to be carried out: by this process, or by a node."""

    segment: StoredSegment
    """As it was when this was planned: it is recorded only where it still is."""
    job: Job | None
    """None where it was carried out already and is only to be recorded."""
    intents: store.Intents
    until_ms: int
    """When the announcement of its pieces runs out."""


class SegmentRepairer:
    """Repairs segments, one call each; any number at a time."""

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
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._database = database
        self._transport = transport
        self._compute = compute
        self._placement = placement
        self._profile = profile
        self._bandwidth = TokenBucket(clock, profile.bytes_per_second)

    def health(self, segment: StoredSegment) -> Health:
        """Judge a segment by the nodes as they are now."""
        policy = self._placement.policy_of(segment.policy, segment.bucket)
        return health_of(segment.k, segment.n, segment.pieces, self._placement.nodes(), policy)

    async def repair(self, serial: int, owner: bytes = store.NOBODY) -> Result:
        """Bring a segment to full strength, or as near as the nodes allow.

        ``owner`` holds the lease of the segment's row in the queue, which goes when it is full.
        """
        run = _Run(owner)
        outcome = Outcome.CHANGED
        try:
            for _ in range(ROUNDS_MAX):
                segment = await self._database.read(partial(segment_by_serial, serial=serial))
                if segment is None:
                    return Result(Outcome.GONE, None, run.repaired)
                health = self.health(segment)
                if health.settled:
                    return Result(Outcome.FULL, health, run.repaired, run.settled)
                # Where a node died just when the row went, the caller queues the segment again.
                run.settled = False
                ended = await self._round(segment, health, run)
                if ended is not None:
                    outcome = ended
                    break
        finally:
            await self._count(run)
        segment = await self._database.read(partial(segment_by_serial, serial=serial))
        if segment is None:
            return Result(Outcome.GONE, None, run.repaired)
        health = self.health(segment)
        return Result(Outcome.FULL if health.settled else outcome, health, run.repaired)

    async def _count(self, run: _Run) -> None:
        """Add what moved and is not counted yet: a repair that succeeds counts as it records."""
        changes = run.traffic.take()
        if any(changes.values()):
            await self._database.write(partial(add_counters, changes=changes))

    # --- one round --------------------------------------------------------------------------

    async def _round(self, segment: StoredSegment, health: Health, run: _Run) -> Outcome | None:
        """Try once. None means: look again, something was learned or done."""
        plan = await self._plan(segment, health, run)
        return await self._attempt(plan, run) if isinstance(plan, Plan) else plan

    async def plan(self, serial: int, worker: int) -> "Plan | Outcome":
        """Plan a segment's repair for a node to carry out, and announce its pieces.

        A node that holds a piece of the segment, or did, gets no other pieces of it: whoever lost
        what it is paid for must not be handed the means to hide that.
        """
        run = _Run(store.NOBODY, refused={worker})
        for _ in range(ROUNDS_MAX):
            segment = await self._database.read(partial(segment_by_serial, serial=serial))
            if segment is None:
                return Outcome.GONE
            if any(piece.alias == worker for piece in segment.pieces):
                return Outcome.NOT_FOR_THIS_NODE
            health = self.health(segment)
            if health.settled:
                return Outcome.FULL
            plan = await self._plan(segment, health, run)
            if plan is not None:
                return plan
        return Outcome.CHANGED

    async def _plan(
        self, segment: StoredSegment, health: Health, run: _Run
    ) -> "Plan | Outcome | None":
        if health.missing and await self._adopt(segment, health, run):
            return None
        readable = [
            (node, index)
            for node, index in self._placement.readable(health.kept)
            if node.alias not in run.unreachable
        ]
        had = {index for _, index in readable}
        moving = [one.piece for one in health.misplaced]
        wanted = [*health.missing, *(p.index for p in moving if p.index not in had)]
        if wanted:
            if not health.readable:
                return Outcome.UNREADABLE
            if len(readable) < segment.k:
                return Outcome.SOURCES
            moving = []
        leaving = set(moving)
        staying = [piece for piece in health.kept if piece not in leaving]
        indexes = wanted or [piece.index for piece in moving]
        planned = self._targets(segment, health, indexes, staying, run.refused)
        if not planned:
            planned = self._aside(segment, health, staying, had, run.refused)
            wanted = []
        if not planned:
            return Outcome.NO_ROOM if not run.refused else Outcome.TARGETS
        now_ms = self._clock.now_ms()
        until_ms = now_ms + self._profile.intent_ms
        granted = await self._database.write(
            lambda c: store.write_intents(c, segment, planned, now_ms, until_ms)
        )
        if not granted.pieces:
            run.refused.update(piece.alias for piece in planned)
            return None
        sources = readable[: segment.k]
        if not wanted:
            held = {index: node for node, index in readable}
            sources = [(held[piece.index], piece.index) for piece in granted.pieces]
        job = self._job(segment, sources, granted.pieces, move=not wanted)
        return Plan(segment, job, granted, until_ms)

    def _targets(
        self,
        segment: StoredSegment,
        health: Health,
        indexes: Sequence[int],
        staying: Sequence[StoredPiece],
        refused: Collection[int],
    ) -> list[StoredPiece]:
        """Choose a node for each of these pieces, as far as there are any."""
        nodes = self._placement.nodes()
        policy = self._placement.policy_id(segment.bucket)
        pool = self._placement.pool_of_scheme(segment.plain_bytes, health.scheme, policy)
        chosen = choose(
            pool,
            len(indexes),
            self._rng,
            holders=[nodes[piece.alias] for piece in staying],
            refused={piece.alias for piece in segment.pieces} | set(refused),
            part_time_max=part_time_max(health.scheme),
        )
        return [
            StoredPiece(index=index, alias=node.alias)
            for index, node in zip(indexes, chosen, strict=False)
        ]

    def _aside(
        self,
        segment: StoredSegment,
        health: Health,
        staying: Sequence[StoredPiece],
        had: Collection[int],
        refused: Collection[int],
    ) -> list[StoredPiece]:
        """Choose a piece that makes room by moving elsewhere, where none finds a node as it is."""
        nodes = self._placement.nodes()
        policy = self._placement.policy_id(segment.bucket)
        found = step_aside(
            self._placement.pool_of_scheme(segment.plain_bytes, health.scheme, policy),
            [nodes[piece.alias] for piece in staying],
            {piece.alias for piece in segment.pieces} | set(refused),
            part_time_max(health.scheme),
        )
        if found is None:
            return []
        holder, node = found
        return [
            StoredPiece(index=piece.index, alias=node.alias)
            for piece in staying
            if piece.alias == holder.alias and piece.index in had
        ]

    async def _adopt(self, segment: StoredSegment, health: Health, run: _Run) -> int:
        """Take back pieces that were replaced while their nodes were gone; return how many.

        Nothing is built twice: a piece that came back with its node is looked at (1/k of what a
        rebuild reads) and recorded again instead of being rebuilt elsewhere.
        """
        credits = await self._database.read(partial(store.credits_of, serial=segment.serial))
        nodes = self._placement.nodes()
        policy = self._placement.policy_of(segment.policy, segment.bucket)
        domains = Domains([nodes[piece.alias] for piece in health.kept])
        taken: list[StoredPiece] = []
        for piece in credits:
            node = nodes.get(piece.alias)
            if (
                piece.index not in health.missing
                or piece in run.looked_at
                or node is None
                or judge_node(node, policy).verdict is not Verdict.HEALTHY
                or not domains.admit(node)
                or any(one.index == piece.index for one in taken)
            ):
                continue
            run.looked_at.add(piece)
            reason = await self.check_piece(segment, piece, sure=True)
            if not reason:
                domains.take(node)
                taken.append(piece)
        if not taken:
            return 0
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> int:
            good = [p for p in taken if store.confirm_intent(connection, segment, p, now_ms)]
            indexes = {piece.index for piece in good}
            kept = [piece for piece in segment.pieces if piece.index not in indexes]
            if not good:
                return 0
            if not replace_pieces(connection, segment, [*kept, *good], now_ms, collect=True):
                store.collect_pieces(connection, segment, good, now_ms)
                return 0
            add_counters(connection, {COUNTER_ADOPTED: len(good)})
            store.drop_credits(connection, segment.serial, good)
            return len(good)

        adopted = await self._database.write(write)
        run.repaired += adopted
        return adopted

    async def _attempt(self, plan: "Plan", run: _Run) -> Outcome | None:
        assert plan.job is not None
        segment, readable = plan.segment, plan.job.sources
        rebuild = Rebuild(
            plan.job,
            transport=self._transport,
            compute=self._compute,
            bandwidth=self._bandwidth,
            stall_s=self._profile.stall_s,
            traffic=run.traffic,
        )
        done: list[Source] = []
        outcome: Outcome | None = None
        wrong: tuple[int, ...] = ()
        reason = ""
        try:
            done = await rebuild.run()
        except SourceError as failed:
            reason = str(failed.cause)
            if failed.lost:
                wrong = (failed.index,)
            else:
                run.unreachable.update(s.alias for s in readable if s.index == failed.index)
        except WrongBytesError as failed:
            wrong, reason = failed.indexes, str(failed)
            if not wrong:
                outcome = Outcome.FAULT
                log.error("segment %d: rebuilt pieces do not match their roots", segment.serial)
        except NoTargetError:
            pass
        run.refused.update(rebuild.failures)
        for alias, failure in rebuild.failures.items():
            log.info("segment %d: node %d took no piece: %s", segment.serial, alias, failure)
        for piece in [p for p in segment.pieces if p.index in wrong]:
            # Whatever the second look says, this piece is not read again in this run.
            run.unreachable.add(piece.alias)
            segment = await self._name_liar(segment, piece, reason)
        stored = [StoredPiece(index=t.index, alias=t.alias) for t in done]
        plan = replace(plan, segment=segment)
        recorded = await self.record(plan, stored, rebuild.released, run.owner, run.traffic.take())
        run.settled = run.settled or bool(recorded)
        run.repaired += recorded
        if outcome is None and done and not recorded:
            return Outcome.CHANGED
        return outcome

    def _job(
        self,
        segment: StoredSegment,
        readable: Sequence[tuple[Candidate, int]],
        planned: Sequence[StoredPiece],
        *,
        move: bool,
    ) -> Job:
        nodes = self._placement.nodes()
        header = self.header(segment, readable[0][1])
        targets = [(nodes[piece.alias], piece.index) for piece in planned]
        return Job(
            header=header,
            segment_root=segment.root,
            sources=self._sources(Action.REPAIR_GET, segment, readable, header),
            targets=self._sources(Action.REPAIR_PUT, segment, targets, header),
            move=move,
        )

    def header(self, segment: StoredSegment, index: int) -> Header:
        """Return the head of a piece of a segment, but for its TLVs."""
        return Header(
            segment_id=SegmentId(segment.segment),
            index=index,
            k=segment.k,
            n=segment.n,
            unit_bytes=segment.unit_bytes,
            plain_bytes=segment.plain_bytes,
            data_bytes=segment.layout.piece_bytes,
            payer_tag=self._placement.payer_tag(segment.bucket),
        )

    def _sources(
        self,
        action: Action,
        segment: StoredSegment,
        parties: Sequence[tuple[Candidate, int]],
        header: Header,
    ) -> tuple[Source, ...]:
        root = segment.root if action is Action.REPAIR_PUT else b""
        place = (header.segment_id, segment.serial)
        grants = self._placement.repair_grants(
            action,
            [OrderItem(node, place[0], index, place[1], root) for node, index in parties],
            read_cap(header),
            segment.bucket,
        )
        return tuple(Source(grant) for grant in grants)

    # --- the record -------------------------------------------------------------------------

    async def record(
        self,
        plan: "Plan",
        stored: Sequence[StoredPiece],
        released: bool,
        owner: bytes,
        traffic: dict[str, int],
    ) -> int:
        """Record new pieces if the segment is as it was; return how many were recorded.

        What they replace becomes garbage at its nodes, and so do they where the segment changed.
        ``released`` says that pieces may lie at nodes although they are not in ``stored``.
        """
        segment, intents, until_ms = plan.segment, plan.intents, plan.until_ms
        now_ms = self._clock.now_ms()
        in_time = now_ms < until_ms - store.INTENT_MARGIN_MS
        nodes = self._placement.nodes()
        policy = self._placement.policy_of(segment.policy, segment.bucket)

        def write(connection: Connection) -> int:
            good: list[StoredPiece] = []
            add_counters(connection, traffic)
            if in_time:
                good = [p for p in stored if store.confirm_intent(connection, segment, p, now_ms)]
            if good:
                indexes = {piece.index for piece in good}
                kept = [piece for piece in segment.pieces if piece.index not in indexes]
                if replace_pieces(connection, segment, [*kept, *good], now_ms, collect=False):
                    add_counters(connection, {COUNTER_PIECES: len(good)})
                    gone = [piece for piece in segment.pieces if piece.index in indexes]
                    self._release(connection, segment, gone, now_ms)
                    if health_of(segment.k, segment.n, [*kept, *good], nodes, policy).settled:
                        store.finish(connection, segment.serial, owner, now_ms)
                else:
                    store.collect_pieces(connection, segment, good, now_ms)
                    good = []
            rest = [piece for piece in intents.pieces if piece not in good]
            # A piece that was or may have been stored keeps its intent: the next try finds it
            # there (PUT is idempotent), and if nobody wants it any more it is collected in time.
            if not released:
                fresh = [piece for piece in rest if piece not in intents.inherited]
                store.drop_intents(connection, segment, fresh, now_ms)
            return len(good)

        return await self._database.write(write)

    def _release(
        self,
        connection: Connection,
        segment: StoredSegment,
        pieces: Sequence[StoredPiece],
        now_ms: int,
    ) -> None:
        """Let replaced pieces be deleted: at once, or later where their nodes may bring them back.

        Those are *credits*: until they come due they can be adopted instead of a rebuild.
        """
        nodes = self._placement.nodes()
        until_ms = now_ms + self._profile.credit_ms
        back = [p for p in pieces if judge_node(nodes.get(p.alias)).verdict is Verdict.LOST]
        store.collect_pieces(connection, segment, [p for p in pieces if p not in back], now_ms)
        store.collect_pieces(connection, segment, back, until_ms)
        store.add_credits(connection, segment.serial, back, until_ms)

    async def _name_liar(
        self, segment: StoredSegment, piece: StoredPiece, reason: str
    ) -> StoredSegment:
        """Strike a piece found wrong if it is wrong again; return the segment as it is then."""
        log.warning(
            "segment %d: piece %d from node %d was wrong: %s",
            segment.serial,
            piece.index,
            piece.alias,
            reason,
        )
        again = await self.check_piece(segment, piece)
        if again:
            await self.lose_pieces(segment, [piece], again, sure=False)
        serial = segment.serial
        return await self._database.read(lambda c: segment_by_serial(c, serial)) or segment

    async def lose_pieces(
        self, segment: StoredSegment, pieces: Sequence[StoredPiece], reason: str, *, sure: bool
    ) -> bool:
        """Strike pieces whose nodes do not have them; their nodes are told to delete what is left.

        Not where the others within reach would be too few to rebuild from: then a piece that looks
        wrong (to us, from here) is still the best there is. Where the node itself says so
        (``sure``), we look: whoever mistakes himself there must not cost the object. False where
        nothing was struck, also because the segment changed meanwhile (it is judged anew anyway).
        """
        gone = set(pieces)
        kept = [piece for piece in segment.pieces if piece not in gone]
        if len(set(self.health(segment).kept) - gone) < segment.k:
            if not sure:
                return False
            for piece in pieces:
                if not await self.check_piece(segment, piece):
                    return False
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> bool:
            if not replace_pieces(connection, segment, kept, now_ms, collect=True):
                return False
            add_counters(connection, {COUNTER_LIARS: len(gone)})
            return True

        struck = await self._database.write(write)
        if struck:
            for piece in pieces:
                log.warning(
                    "segment %d: piece %d on node %d is lost: %s",
                    segment.serial,
                    piece.index,
                    piece.alias,
                    reason,
                )
        return struck

    async def check_piece(
        self, segment: StoredSegment, piece: StoredPiece, *, sure: bool = False
    ) -> str:
        """Read one piece whole; return why it counts as lost, or "" (right, or out of reach).

        With ``sure`` a piece out of reach is not right either.
        """
        node = self._placement.nodes().get(piece.alias)
        if node is None or node.state in (NodeState.DEAD, NodeState.LOST):
            return "its node is gone" if sure else ""
        header = self.header(segment, piece.index)
        (source,) = self._sources(Action.REPAIR_GET, segment, [(node, piece.index)], header)
        try:
            await check_stored_piece(
                source,
                header,
                segment.root,
                self._transport,
                self._compute,
                self._bandwidth,
                self._profile.stall_s,
            )
        except SourceError as failed:
            # A node that refuses our repair says that its owner gave the piece to another.
            given_away = failed.cause.kind is Kind.FORBIDDEN
            return str(failed.cause) if failed.lost or sure or given_away else ""
        except AtollError as cause:
            log.info("piece %d of segment %d: %s", piece.index, segment.serial, cause)
            return str(cause) if sure else ""
        return ""
