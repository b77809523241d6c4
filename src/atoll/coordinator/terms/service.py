"""Moves: a node names pieces, is told where they may go, pushes them, and shows that they arrived.

Nothing is read k-fold and nobody is believed: the new holder checks the record's roots, its
receipt and the segment's roots are checked here, and the old copy counts until then. While a move
is under way the piece is recorded at its old node; a node that dies midway is a dead node as any
other, and repair takes over.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import (
    count_pieces_of_node,
    replace_pieces,
    segment_by_id,
)
from atoll.coordinator.part import Part
from atoll.coordinator.placement.model import Candidate
from atoll.coordinator.placement.rules import choose, part_time_max
from atoll.coordinator.placement.service import OrderItem, PlacementService
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.repair.rules import health_of
from atoll.coordinator.repair.store.intents import (
    INTENT_MARGIN_MS,
    collect_pieces,
    confirm_intent,
    write_intents,
)
from atoll.coordinator.repair.store.queue import end_move, lease_for_move
from atoll.coordinator.terms import rules, store
from atoll.coordinator.terms.model import REASONS, Wish
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SHORT_ID_BYTES, SegmentId, node_id_of
from atoll.core.messages import Message, PieceGrant, StoredPiece, encode
from atoll.core.messages.terms import (
    DEPARTURE_PURPOSE,
    MOVES_MAX,
    REFUSERS_MAX,
    Departure,
    DepartureStatement,
    EndDeparture,
    MovedPiece,
    MovePiece,
    MovePlan,
    MovesRecorded,
    PlanMoves,
    PlannedMove,
    ReportMoves,
)
from atoll.core.orders import Action
from atoll.core.ports import Clock, Database, Rng
from atoll.core.scheme import scheme_of

log = logging.getLogger("atoll.coordinator.terms")

INTENT_MS = 30 * 60_000
"""A piece sent and never recorded is collected after this; no push takes longer."""
MOVE_LEASE_MS = 2 * 60_000
"""So long repair leaves a segment of which a piece is on its way; then it may take over."""
HEAD_ALLOWANCE_BYTES = 64 << 10
"""What a record's TLVs may add to its bare length."""


class TermsService(Part):
    """Answers ``PlanMoves``, ``ReportMoves`` and ``EndDeparture``."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Rng,
        database: Database,
        identity: Identity,
        registry: RegistryService,
        placement: PlacementService,
    ) -> None:
        """Sign statements with ``identity``, the coordinator's."""
        self._clock = clock
        self._rng = rng
        self._database = database
        self._identity = identity
        self._registry = registry
        self._placement = placement
        self.node_handlers = {
            PlanMoves: self._plan,
            ReportMoves: self._record,
            EndDeparture: self._end,
        }

    async def _alias_of(self, prover: bytes) -> int:
        await self._registry.fresh()
        alias = self._registry.alias_of(node_id_of(prover))
        if alias is None:
            raise AtollError(
                Kind.FORBIDDEN, "move pieces", "this node is not registered", hint="register first"
            )
        return alias

    # --- planning ---------------------------------------------------------------------------

    async def _plan(self, request: PlanMoves, prover: bytes, _: int) -> Message:
        """Say where pieces may go, announce and sign that."""
        _check_plan(request)
        alias = await self._alias_of(prover)
        wishes = []
        moves = []
        nodes = self._placement.nodes()
        for asked in request.pieces:
            segment = await self._database.read(partial(segment_by_id, segment=asked.segment))
            piece = StoredPiece(index=asked.index, alias=alias)
            if segment is None or piece not in segment.pieces:
                moves.append(_planned(asked, "not_recorded"))
                continue
            health = health_of(segment.k, segment.n, segment.pieces, nodes)
            wishes.append(Wish(segment, piece, health.safe - segment.k))
        targets: list[tuple[Wish, Candidate]] = []
        for wish in rules.in_order(wishes, request.reason):
            target = self._target(wish, request.refused)
            if target is None:
                moves.append(
                    _planned(
                        MovePiece(segment=wish.segment.segment, index=wish.piece.index), "no_room"
                    )
                )
            else:
                targets.append((wish, target))
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> list[str]:
            store.begin(connection, alias, request.reason, now_ms)
            return [self._announce(connection, wish, target, now_ms) for wish, target in targets]

        free = await self._database.write(write) if targets else []
        for (wish, target), may in zip(targets, free, strict=True):
            asked = MovePiece(segment=wish.segment.segment, index=wish.piece.index)
            grants = [self._grant(wish, target)] if may == "go" else []
            moves.append(_planned(asked, may, grants))
        left = await self._database.read(partial(count_pieces_of_node, alias=alias))
        return MovePlan(moves=moves, left_pieces=left)

    def _target(self, wish: Wish, refused: Iterable[int]) -> Candidate | None:
        segment = wish.segment
        nodes = self._placement.nodes()
        scheme = scheme_of(segment.k, segment.n)
        pool = self._placement.pool_of_scheme(segment.plain_bytes, scheme, segment.policy)
        staying = [p for p in segment.pieces if p != wish.piece and p.alias in nodes]
        found = choose(
            pool,
            1,
            self._rng,
            holders=[nodes[piece.alias] for piece in staying],
            refused={piece.alias for piece in segment.pieces} | set(refused),
            part_time_max=part_time_max(scheme),
        )
        return found[0] if found else None

    def _announce(self, connection: Connection, wish: Wish, target: Candidate, now_ms: int) -> str:
        """Write down that a piece is on its way: it is collected if it is never recorded.

        Returns what is planned: ``busy`` where repair is at the segment, which sees to the piece.
        """
        serial, owner = wish.segment.serial, _mover(wish.piece.alias)
        if not lease_for_move(connection, serial, owner, now_ms, now_ms + MOVE_LEASE_MS):
            return "busy"
        piece = StoredPiece(index=wish.piece.index, alias=target.alias)
        intents = write_intents(connection, wish.segment, [piece], now_ms, now_ms + INTENT_MS)
        if piece in intents.pieces:
            return "go"
        end_move(connection, serial, owner)
        return "no_room"

    def _grant(self, wish: Wish, target: Candidate) -> PieceGrant:
        segment = wish.segment
        scheme = scheme_of(segment.k, segment.n)
        segment_id, index = SegmentId(segment.segment), wish.piece.index
        (grant,) = self._placement.repair_grants(
            Action.REPAIR_PUT,
            [OrderItem(target, segment_id, index, segment.serial, segment.root)],
            self._placement.record_bytes(segment.plain_bytes, scheme) + HEAD_ALLOWANCE_BYTES,
            segment.bucket,
        )
        return grant

    # --- recording --------------------------------------------------------------------------

    async def _record(self, request: ReportMoves, prover: bytes, _: int) -> Message:
        """Record pieces at their new nodes, each for itself."""
        if len(request.moved) > MOVES_MAX or request.reason not in REASONS:
            raise _bad(f"at most {MOVES_MAX} pieces at a time")
        alias = await self._alias_of(prover)
        outcomes = [await self._record_one(alias, moved) for moved in request.moved]
        left = await self._database.read(partial(count_pieces_of_node, alias=alias))
        return MovesRecorded(outcomes=outcomes, left_pieces=left)

    async def _record_one(self, alias: int, moved: MovedPiece) -> str:
        segment = await self._database.read(partial(segment_by_id, segment=moved.segment))
        if segment is None:
            return "changed"
        holder = self._placement.nodes().get(moved.alias)
        new = StoredPiece(index=moved.index, alias=moved.alias)
        if new in segment.pieces:
            # Recorded before, and the answer was lost on its way.
            return "recorded"
        if holder is None or not rules.shown(segment, moved, holder.node_id):
            log.warning("node %d shows no move of segment %d", alias, segment.serial)
            return "wrong"
        old = StoredPiece(index=moved.index, alias=alias)
        return await self._database.write(partial(self._replace, segment=segment, old=old, new=new))

    def _replace(
        self, connection: Connection, segment: StoredSegment, old: StoredPiece, new: StoredPiece
    ) -> str:
        now_ms = self._clock.now_ms()
        end_move(connection, segment.serial, _mover(old.alias))
        if not confirm_intent(connection, segment, new, now_ms + INTENT_MARGIN_MS):
            return "changed"
        pieces = [new if piece == old else piece for piece in segment.pieces]
        if old in segment.pieces and replace_pieces(
            connection, segment, pieces, now_ms, collect=True
        ):
            store.count(connection, old.alias, 1, segment.layout.piece_bytes)
            return "recorded"
        collect_pieces(connection, segment, [new], now_ms)
        return "changed"

    # --- the end ----------------------------------------------------------------------------

    async def _end(self, _: EndDeparture, prover: bytes, __: int) -> Message:
        """Confirm that nothing is recorded at the node. Raises ``CONFLICT`` where something is."""
        alias = await self._alias_of(prover)
        view = self._registry.node(alias)
        assert view is not None
        if not view.facts.exiting and not view.facts.evacuating:
            raise AtollError(Kind.CONFLICT, "end departure", "the node has not said that it leaves")
        now_ms = self._clock.now_ms()
        reason = "exit" if view.facts.exiting else "evacuate"

        def write(connection: Connection) -> Departure:
            left = count_pieces_of_node(connection, alias)
            if left:
                raise AtollError(
                    Kind.CONFLICT, "end departure", f"{left} pieces are still recorded at the node"
                )
            if store.find(connection, alias) is None:
                store.begin(connection, alias, reason, now_ms)
            row = store.end(connection, alias, now_ms)
            assert row is not None
            return Departure(
                node_id=view.node_id,
                coordinator_key=self._identity.public_key,
                alias=alias,
                reason=row.reason,
                began_ms=row.began_ms,
                ended_ms=row.ended_ms,
                moved_pieces=row.moved_pieces,
                moved_bytes=row.moved_bytes,
                left_pieces=0,
            )

        departure = encode(await self._database.write(write))
        log.info("node %d has left: nothing is recorded there", alias)
        return DepartureStatement(
            departure=departure, signature=self._identity.sign(DEPARTURE_PURPOSE, departure)
        )


def _mover(alias: int) -> bytes:
    """Return under which name a node's moves keep repair off."""
    return b"move" + alias.to_bytes(12, "big")


def _planned(asked: MovePiece, outcome: str, grants: Sequence[PieceGrant] = ()) -> PlannedMove:
    return PlannedMove(
        segment=asked.segment, index=asked.index, outcome=outcome, grants=list(grants)
    )


def _check_plan(request: PlanMoves) -> None:
    if len(request.pieces) > MOVES_MAX or len(request.refused) > REFUSERS_MAX:
        raise _bad(f"at most {MOVES_MAX} pieces at a time")
    if request.reason not in REASONS:
        raise _bad(f"a reason is one of {', '.join(REASONS)}")
    if any(len(p.segment) != SHORT_ID_BYTES or not 0 <= p.index < 255 for p in request.pieces):
        raise _bad("not a piece of a segment")
    if len({(p.segment, p.index) for p in request.pieces}) != len(request.pieces):
        raise _bad("a piece is named twice")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "move pieces", message)
