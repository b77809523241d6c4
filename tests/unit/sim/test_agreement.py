import asyncio

import pytest

from atoll.coordinator.collection.service import CollectionService
from atoll.coordinator.metadata.model import GarbagePiece
from atoll.coordinator.metadata.store.segments import add_garbage
from atoll.coordinator.registry.store import all_nodes
from atoll.coordinator.sets import store
from atoll.sim.clock import WORLD_BEGINS_MS
from atoll.sim.loop import SimLoop
from atoll.sim.scenario import Scenario, WorkloadPlan
from atoll.sim.trace import Trace
from atoll.sim.world import World

HEAL_S = 40.0
LATER_S = 120.0
AGREEING = Scenario(
    name="agreeing",
    invariant="sets are equal",
    nodes=6,
    heal_s=HEAL_S,
    equal_sets=True,
    workload=WorkloadPlan(clients=1, seconds=4.0, pause_s=0.5, overwrites=0, deletes=0),
)


def announced_in(seconds):
    """Leave what a coordinator leaves that dies in a repair: an announcement, and no piece."""

    async def leave(world):
        def write(connection):
            alias = all_nodes(connection)[0].alias
            due_ms = WORLD_BEGINS_MS + int((world.loop.time() + seconds) * 1000)
            piece = GarbagePiece(alias, bytes(16), 3, world.bucket.bucket, due_ms, 1 << 40)
            add_garbage(connection, [piece])

        world.database.run(write, write=True)
        await asyncio.Event().wait()

    return leave


def lived(run_faults):
    loop = SimLoop("agreeing/1")
    world = World(AGREEING, "agreeing/1", loop, Trace(loop.time), run_faults)
    try:
        loop.run_until_complete(loop.start(world.run(), None))
    finally:
        world.bury()
        loop.close()
    return world.violations, loop.time()


def test_what_is_announced_for_later_has_until_then_to_go():
    violations, ended_s = lived(announced_in(LATER_S))
    assert violations == []
    assert LATER_S < ended_s < LATER_S + HEAL_S


@pytest.mark.parametrize("seconds", [0, LATER_S])
def test_a_deletion_that_never_reaches_its_node_is_found(monkeypatch, seconds):
    async def collect(_):
        return 0

    monkeypatch.setattr(CollectionService, "collect", collect)
    monkeypatch.setattr(store, "forget_gone", lambda *_: 0)
    violations, ended_s = lived(announced_in(seconds))
    assert len(violations) == 1
    assert "after all is whole: 1 deletions wait for node" in violations[0]
    assert ended_s > seconds + HEAL_S
