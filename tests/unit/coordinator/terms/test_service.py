"""Moves: where pieces go, what shows that they arrived, and what a lying leaver gets away with."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.engine import Connection
from tests.unit.coordinator.repair.world import COORDINATOR, Cloud

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import count_pieces_of_node
from atoll.coordinator.placement.model import NodeState
from atoll.coordinator.repair.store.queue import Claim, claim, release
from atoll.coordinator.repair.worker import Outcome
from atoll.coordinator.terms.service import MOVE_LEASE_MS, TermsService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import Message, decode
from atoll.core.messages.terms import (
    DEPARTURE_PURPOSE,
    Departure,
    DepartureStatement,
    EndDeparture,
    MovedPiece,
    MovePiece,
    MovePlan,
    MovesRecorded,
    PlanMoves,
    ReportMoves,
)
from atoll.node.move import Moved, Mover, RottenError
from atoll.node.retention import NodeRetention
from atoll.node.store.model import HeldPiece
from atoll.node.traffic import TrafficMeter
from atoll.sim.clock import SimClock
from atoll.sim.rng import SimRng
from atoll.sim.transport import SimPieceTransport

KIB = 1 << 10


class Registry:
    """The table of nodes as ``TermsService`` asks it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def fresh(self) -> None:
        """It always is."""

    def alias_of(self, node_id: bytes) -> int | None:
        return self._cloud.table.alias_of(node_id)

    def node(self, alias: int) -> Any:
        row = self._cloud.table.rows[alias]
        facts = SimpleNamespace(exiting=row.exiting, evacuating="")
        return SimpleNamespace(node_id=row.node_id, facts=facts)


class Desk:
    """One coordinator's answers about moves, asked by one node."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        coordinator = self.coordinator = cloud.coordinator()
        life = coordinator.incarnation
        self.service = TermsService(
            clock=SimClock(life),
            rng=SimRng(life, "terms"),
            database=coordinator.database,
            identity=COORDINATOR,
            registry=Registry(cloud),  # type: ignore[arg-type]
            placement=coordinator.placement,
        )

    async def ask(self, alias: int, request: Message) -> Any:
        key = self.cloud.nodes[alias].identity.public_key
        return await self.service.node_handlers[type(request)](request, key, 0)

    async def plan(self, alias: int, segment: StoredSegment, reason: str = "exit") -> MovePlan:
        index = next(piece.index for piece in segment.pieces if piece.alias == alias)
        pieces = [MovePiece(segment=segment.segment, index=index)]
        answer: MovePlan = await self.ask(alias, PlanMoves(reason=reason, pieces=pieces))
        return answer

    async def report(self, alias: int, *moved: MovedPiece) -> MovesRecorded:
        answer: MovesRecorded = await self.ask(alias, ReportMoves(reason="exit", moved=list(moved)))
        return answer

    async def push(self, alias: int, plan: MovePlan) -> Moved:
        node = self.cloud.nodes[alias]
        assert node.store is not None
        assert node.incarnation is not None
        clock = SimClock(node.incarnation)
        mover = Mover(
            node.store,
            SimPieceTransport(node.incarnation, self.cloud.network),
            TrafficMeter(clock),
            NodeRetention(node.store, node.identity, clock, 10.0),
            10.0,
        )
        (move,) = plan.moves
        held = held_piece(self.cloud, alias, move.segment, move.index)
        moved = await node.incarnation.start(mover.push(held, move.grants[0], lambda _: None))
        assert moved is not None
        return moved


def held_piece(cloud: Cloud, alias: int, segment: bytes, index: int) -> HeldPiece:
    store = cloud.nodes[alias].store
    assert store is not None
    piece = piece_id_of(SegmentId(segment), index)
    row = store.volume.index.get(piece)
    assert row is not None
    (found,) = [one for one in store.held(row.issuer, -1, 1000) if one.piece == piece]
    return found


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("terms", nodes=12)
    yield made
    made.close()


async def segment_on_a_node(cloud: Cloud) -> tuple[StoredSegment, int]:
    await cloud.upload(400 * KIB)
    (segment,) = cloud.segments()
    return segment, segment.pieces[0].alias


def test_a_piece_goes_where_the_coordinator_says_and_is_recorded_once_shown(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        plan = await desk.plan(alias, segment)
        assert [move.outcome for move in plan.moves] == ["go"]
        assert plan.left_pieces == 1
        target = plan.moves[0].grants[0].alias
        assert target not in {piece.alias for piece in segment.pieces}
        assert cloud.segments()[0].pieces == segment.pieces, "announced is not moved"
        moved = await desk.push(alias, plan)
        answer = await desk.report(alias, moved.report)
        assert answer.outcomes == ["recorded"]
        assert answer.left_pieces == 0
        now = cloud.segments()[0]
        assert target in {piece.alias for piece in now.pieces}
        assert alias not in {piece.alias for piece in now.pieces}
        assert cloud.garbage() == {alias: 1}, "the old copy, and no intent left over"
        assert (await desk.report(alias, moved.report)).outcomes == ["recorded"], "a repeat"
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_forged_moves_are_wrong_and_change_nothing(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        moved = await desk.push(alias, await desk.plan(alias, segment))
        good = moved.report
        other = Identity(b"x" * 32)
        stranger = next(a for a in cloud.nodes if a not in (alias, good.alias))
        forged = bytes(good.receipt[:-1]) + bytes([good.receipt[-1] ^ 1])
        fields = {name: getattr(good, name) for name in good.__struct_fields__}
        lies = [
            {"receipt": forged},
            {"receipt": b""},
            {"alias": stranger},
            {"piece_roots": [other.public_key] * segment.n},
            {"piece_roots": good.piece_roots[:-1]},
            {"index": (good.index + 1) % segment.n},
            {"alias": 99_999},
        ]
        for lie in lies:
            answer = await desk.report(alias, MovedPiece(**(fields | lie)))
            assert answer.outcomes == ["wrong"], lie
            assert cloud.segments()[0].pieces == segment.pieces
        assert (await desk.report(alias, good)).outcomes == ["recorded"]

    cloud.main(main)


def test_nobody_moves_what_is_not_his_and_strangers_move_nothing(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        thief = next(a for a in cloud.nodes if a not in {p.alias for p in segment.pieces})
        pieces = [MovePiece(segment=segment.segment, index=0)]
        plan = await desk.ask(thief, PlanMoves(reason="exit", pieces=pieces))
        assert [move.outcome for move in plan.moves] == ["not_recorded"]
        with pytest.raises(AtollError) as refused:
            await desk.service.node_handlers[PlanMoves](
                PlanMoves(reason="exit", pieces=pieces), b"k" * 32, 0
            )
        assert refused.value.kind is Kind.FORBIDDEN
        for bad in (
            PlanMoves(reason="boredom", pieces=pieces),
            PlanMoves(reason="exit", pieces=pieces * 2),
            PlanMoves(reason="exit", pieces=pieces * 65),
            PlanMoves(reason="exit", pieces=[MovePiece(segment=b"short", index=0)]),
        ):
            with pytest.raises(AtollError) as refused:
                await desk.ask(alias, bad)
            assert refused.value.kind is Kind.BAD_REQUEST

    cloud.main(main)


def test_where_nobody_has_room_pieces_stay(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        holders = {piece.alias for piece in segment.pieces}
        for other in cloud.nodes:
            if other not in holders:
                cloud.see(other, NodeState.AWAY)
        plan = await Desk(cloud).plan(alias, segment)
        assert [move.outcome for move in plan.moves] == ["no_room"]

    cloud.main(main)


def test_an_evacuation_moves_the_least_safe_first_and_a_shrink_last(cloud: Cloud) -> None:
    async def main() -> None:
        for _ in range(8):
            await cloud.upload(400 * KIB)
        common = set.intersection(*({p.alias for p in s.pieces} for s in cloud.segments()[:2]))
        alias = min(common)
        first, second, *_ = [
            s for s in cloud.segments() if alias in {piece.alias for piece in s.pieces}
        ]
        only = {p.alias for p in second.pieces} - {p.alias for p in first.pieces}
        for other in only:
            cloud.see(other, NodeState.DEAD)
        pieces = [
            MovePiece(segment=s.segment, index=p.index)
            for s in (first, second)
            for p in s.pieces
            if p.alias == alias
        ]
        desk = Desk(cloud)
        for reason, segments in (("evacuate", [second, first]), ("shrink", [first, second])):
            plan = await desk.ask(alias, PlanMoves(reason=reason, pieces=pieces))
            if only:
                order = [move.segment for move in plan.moves if move.outcome == "go"]
                wanted = [s.segment for s in segments if s.segment in order]
                assert order == wanted, reason

    cloud.main(main)


def test_a_rotten_piece_is_not_passed_on(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        plan = await desk.plan(alias, segment)
        move = plan.moves[0]
        store = cloud.nodes[alias].store
        assert store is not None
        row = store.volume.index.get(piece_id_of(SegmentId(move.segment), move.index))
        assert row is not None
        log = store.volume.logs.files[row.log]
        place = row.offset + row.head_bytes + 5_000
        byte = log.file.read_at(place, 1)
        log.file.write_at(place, [bytes([byte[0] ^ 0x40])])
        with pytest.raises(RottenError):
            await desk.push(alias, plan)
        assert store.lost(10), "it is told as lost instead"
        target = cloud.nodes[move.grants[0].alias].store
        assert target is not None
        assert target.volume.index.get(piece_id_of(SegmentId(move.segment), move.index)) is None

    cloud.main(main)


def test_a_departure_is_confirmed_only_when_nothing_is_recorded(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        with pytest.raises(AtollError) as refused:
            await desk.ask(alias, EndDeparture())
        assert refused.value.kind is Kind.CONFLICT, "it has not said that it leaves"
        cloud.table.change(alias, exiting=True)
        with pytest.raises(AtollError) as refused:
            await desk.ask(alias, EndDeparture())
        assert refused.value.kind is Kind.CONFLICT
        moved = await desk.push(alias, await desk.plan(alias, segment))
        await desk.report(alias, moved.report)
        statement: DepartureStatement = await desk.ask(alias, EndDeparture())
        assert signature_holds(
            COORDINATOR.public_key, DEPARTURE_PURPOSE, statement.departure, statement.signature
        )
        departure: Departure = decode(statement.departure, Departure)
        assert departure.node_id == cloud.nodes[alias].identity.node_id
        assert (departure.moved_pieces, departure.left_pieces) == (1, 0)
        assert departure.reason == "exit"
        assert departure.moved_bytes == segment.layout.piece_bytes
        assert cloud.read(lambda c: count_pieces_of_node(c, alias)) == 0
        again: DepartureStatement = await desk.ask(alias, EndDeparture())
        assert decode(again.departure, Departure) == departure, "said again as it was said"

    cloud.main(main)


def test_segments_deleted_or_moved_meanwhile_are_not_brought_back(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        moved = await desk.push(alias, await desk.plan(alias, segment))
        cloud.delete(segment.serial)
        assert (await desk.report(alias, moved.report)).outcomes == ["changed"]
        assert cloud.segments() == []

    cloud.main(main)


# --- a leaving node and repair -------------------------------------------------------------------


def write(cloud: Cloud, function: Callable[[Connection], Any]) -> Any:
    """Act as another process on the coordinators' database."""
    return cloud.server.run(function, write=True)


def now_ms(cloud: Cloud) -> int:
    return SimClock(cloud.nodes[1].incarnation).now_ms()  # type: ignore[arg-type]


@pytest.mark.parametrize("first", ["holder", "repair"])
def test_no_segment_is_moved_by_its_holder_and_by_repair(cloud: Cloud, first: str) -> None:
    """Both want to empty a leaving node: whoever takes up a segment first has it for himself."""

    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        cloud.table.change(alias, exiting=True)
        desk = Desk(cloud)
        repair = desk.coordinator
        await repair.incarnation.start(repair.repair.judge([segment], "x", disturb=True))

        def claimed() -> list[Claim]:
            return write(
                cloud, lambda c: claim(c, b"repair", now_ms(cloud), 60_000, 10, urgent_min=0)
            )

        if first == "repair":
            (row,) = claimed()
            assert row.serial == segment.serial
            plan = await desk.plan(alias, segment)
            assert [move.outcome for move in plan.moves] == ["busy"]
            write(cloud, lambda c: release(c, b"repair"))
        plan = await desk.plan(alias, segment)
        assert [move.outcome for move in plan.moves] == ["go"]
        assert claimed() == []
        again = await desk.plan(alias, segment)
        assert [move.outcome for move in again.moves] == ["go"], "its own lease is no hindrance"
        moved = await desk.push(alias, again)
        assert claimed() == []
        assert (await desk.report(alias, moved.report)).outcomes == ["recorded"]
        # What was queued before comes up again, is found whole and goes.
        (row,) = claimed()
        write(cloud, lambda c: release(c, b"repair"))
        result = await repair.incarnation.start(repair.repairer.repair(segment.serial))
        assert (result.outcome, result.repaired) == (Outcome.FULL, 0)
        assert cloud.counters().get("repair_pieces", 0) == 0

    cloud.main(main)


def test_a_move_that_never_ends_leaves_its_segment_to_repair(cloud: Cloud) -> None:
    async def main() -> None:
        segment, alias = await segment_on_a_node(cloud)
        desk = Desk(cloud)
        await desk.plan(alias, segment)
        later_ms = now_ms(cloud) + MOVE_LEASE_MS + 1
        found = write(cloud, lambda c: claim(c, b"repair", later_ms, 60_000, 10, urgent_min=0))
        assert [one.serial for one in found] == [segment.serial]

    cloud.main(main)
