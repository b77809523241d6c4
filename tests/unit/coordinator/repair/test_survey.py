"""Claims about the survey of all segments, on both engines."""

from tests.unit.coordinator.repair.test_rules import node
from tests.unit.coordinator.repair.test_store import record

from atoll.coordinator.metadata.store.segments import (
    insert_segments,
    replace_pieces,
    segments_after,
)
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.repair.survival import Survey
from atoll.core.identity import Identity
from atoll.core.messages import StoredPiece
from atoll.runtime.database import SqlDatabase
from atoll.runtime.rng import SystemRng


class HandClock:
    """The Clock port with a hand to turn."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Table:
    """A node table that counts its changes."""

    def __init__(self, count: int) -> None:
        self.version = 1
        self.rows = {alias: node(alias) for alias in range(1, count + 1)}

    def candidates(self) -> list[Candidate]:
        return list(self.rows.values())

    def see(self, alias: int, state: NodeState) -> None:
        self.rows[alias] = node(alias, state)
        self.version += 1


async def test_a_survey_follows_nodes_at_once_and_segments_within_a_second(
    database: SqlDatabase,
) -> None:
    clock, table = HandClock(), Table(6)
    placement = PlacementService(clock, SystemRng(), Identity(b"c" * 32), table)
    survey = Survey(clock, database, placement)
    found = await survey.look()
    assert (found.segments, found.survival.any_nodes) == (0, 6)

    one = [record(1, 1, 2, 3, 4), record(2, 1, 2, 3, 4)]
    two = [record(3, 3, 4, 5, 6)]
    await database.write(lambda c: insert_segments(c, b"b" * 16, b"1" * 16, 0, one, 1, 0))
    await database.write(lambda c: insert_segments(c, b"b" * 16, b"2" * 16, 0, two, 1, 0))
    assert (await survey.look()).segments == 0
    clock.seconds += 1
    found = await survey.look()
    assert (found.segments, found.pieces, found.segments_degraded) == (3, 12, 0)
    assert found.survival.any_nodes == 2
    assert found.survival.next_loss_objects == 1, "no three nodes hold three pieces of both"

    table.see(3, NodeState.DEAD)
    found = await survey.look()
    assert (found.segments_degraded, found.pieces_missing) == (3, 3)
    assert found.survival.any_nodes == 1

    (first, *_) = await database.read(lambda c: segments_after(c, 0, 10))
    moved = [p for p in first.pieces if p.alias != 3] + [StoredPiece(index=2, alias=5)]
    assert await database.write(lambda c: replace_pieces(c, first, moved, 0, collect=True))
    assert (await survey.look()).segments_degraded == 3
    survey.refresh_soon()
    assert (await survey.look()).segments_degraded == 2
