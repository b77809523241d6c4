"""Four weeks of a cloud with a node that is online Monday to Friday, 18 to 23 o'clock, only.

The product's true code on virtual time. Weeks are long, so the timers are coarse (a heartbeat every
quarter of an hour), but the calendar, the week and what is counted are real.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from atoll.coordinator.app import Coordinator
from atoll.coordinator.collection.rules import LIMITS
from atoll.coordinator.metadata.store.segments import read_counters
from atoll.coordinator.placement.rules import part_time_max
from atoll.coordinator.registry import model as registry
from atoll.coordinator.repair import rules as repair
from atoll.core.calendar import parse_calendar
from atoll.core.scheme import scheme_of
from atoll.node.service import NodeService
from atoll.sim.incarnation import close_tasks
from atoll.sim.loop import SimLoop
from atoll.sim.machines import NodeMachine
from atoll.sim.scenario import Scenario, WorkloadPlan
from atoll.sim.stored import stored_segments
from atoll.sim.trace import Trace
from atoll.sim.world import World

CALENDAR = "mon-fri 18:00-23:00 Europe/Berlin"
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
COARSE_S = 3 * HOUR_S
WEEKS = 4
MINUTE_MS = 60_000
COARSE = registry.Timers(
    name="local",
    heartbeat_interval_ms=15 * MINUTE_MS,
    suspect_ms=45 * MINUTE_MS,
    dead_ms=4 * 60 * MINUTE_MS,
    lost_ms=72 * 60 * MINUTE_MS,
    tick_ms=10 * MINUTE_MS,
)


class PartTimeWorld(World):
    """A world whose nodes have nothing to do but what is asked of them."""

    def _node(self, number: int) -> NodeMachine:
        node = super()._node(number)
        store = replace(node.config.store, maintenance_interval_s=6 * HOUR_S, scrub_bytes_per_s=0)
        calendar = CALENDAR if number in self.part_timers else ""
        node.config = replace(
            node.config, store=store, calendar=calendar, watch_interval_s=6 * HOUR_S
        )
        return node

    part_timers: frozenset[int] = frozenset()


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers by the quarter of an hour: four weeks have 2.4 million seconds."""
    monkeypatch.setitem(registry.TIMERS, "local", COARSE)
    monkeypatch.setitem(
        repair.PROFILES,
        "local",
        replace(
            repair.PROFILES["wan"], poll_s=600.0, scan_interval_s=DAY_S, settle_ms=60 * MINUTE_MS
        ),
    )
    monkeypatch.setitem(LIMITS, "local", replace(LIMITS["wan"], poll_s=1800.0))
    _slow_down(monkeypatch, NodeService, "_repeat")
    _slow_down(monkeypatch, Coordinator, "_loop")


def _slow_down(monkeypatch: pytest.MonkeyPatch, service: Any, name: str) -> None:
    """Let everything recurring rest longer: what polls every second has nothing to do here."""
    loop = getattr(service, name)

    async def coarse_loop(self: Any, step: Any) -> None:
        pause_s = step.pause_s if step.name == "judge nodes" else max(step.pause_s, COARSE_S)
        await loop(self, replace(step, pause_s=pause_s))

    monkeypatch.setattr(service, name, coarse_loop)


def live(
    part_timers: frozenset[int], story: Callable[[PartTimeWorld], Awaitable[None]]
) -> PartTimeWorld:
    """Run a story in a world of nine nodes; return the world, closed."""
    PartTimeWorld.part_timers = part_timers
    loop = SimLoop("part-time")
    trace = Trace(loop.time, None)
    scenario = Scenario(
        name="part-time", invariant="", nodes=9, workload=WorkloadPlan(clients=0)
    ).draw("part-time")

    async def nothing(_: World) -> None:
        return

    world = PartTimeWorld(replace(scenario, s3_chance=0.0), "part-time", loop, trace, nothing)
    try:
        loop.run_until_complete(loop.start(world_story(world, story), None))
    finally:
        world.bury()
        close_tasks(loop)
        loop.close()
    return world


async def world_story(
    world: PartTimeWorld, story: Callable[[PartTimeWorld], Awaitable[None]]
) -> None:
    await world._set_up()
    await story(world)


def now_ms(world: World) -> int:
    service = world.coordinator.service
    assert service is not None
    return service._clock.now_ms()


async def keep_to_calendar(world: PartTimeWorld, until_s: float) -> None:
    """Switch the part-timers on and off as their calendar says."""
    calendar = parse_calendar(CALENDAR)
    while world.loop.time() < until_s:
        online = calendar.online_at(now_ms(world))
        for node in world.nodes:
            if node.number in world.part_timers:
                if online and not node.up:
                    await node.start()
                elif not online and node.up:
                    node.crash()
        change = calendar.next_change(now_ms(world))
        assert change is not None
        await asyncio.sleep(min(until_s - world.loop.time(), (change - now_ms(world)) / 1000 + 1))


async def write_now_and_then(world: PartTimeWorld, until_s: float) -> dict[str, bytes]:
    chance = random.Random(7)
    written: dict[str, bytes] = {}
    while world.loop.time() < until_s:
        data = chance.randbytes(chance.choice([900, 40_000, 200_000]))
        key = f"key{len(written)}"
        await world.ask_gateway(world.gateway.put(world.bucket, key, data))
        written[key] = data
        await asyncio.sleep(2.7 * HOUR_S)
    return written


def states(world: World) -> dict[int, registry.NodeState]:
    service = world.coordinator.service
    assert service is not None
    return {view.alias: view.state for view in service.registry.nodes()}


def aliases(world: World) -> dict[int, int]:
    service = world.coordinator.service
    assert service is not None
    by_id = {view.node_id: view.alias for view in service.registry.nodes()}
    return {node.number: by_id[node.identity.node_id] for node in world.nodes}


@pytest.mark.long
@pytest.mark.slow
def test_evenings_only_for_four_weeks_without_penalty_loss_or_needless_repair(
    coarse: None,
) -> None:
    seen: Counter[registry.NodeState] = Counter()
    written: dict[str, bytes] = {}
    held: list[int] = []

    async def story(world: PartTimeWorld) -> None:
        end_s = world.loop.time() + WEEKS * 7 * DAY_S
        switching = world.loop.start(keep_to_calendar(world, end_s), None)
        writing = world.loop.start(write_now_and_then(world, end_s), None)
        names = aliases(world)
        part = {names[number] for number in world.part_timers}
        while world.loop.time() < end_s:
            await asyncio.sleep(HOUR_S / 2)
            now = states(world)
            seen.update(now[alias] for alias in part)
            assert {now[alias] for alias in names.values() if alias not in part} == {
                registry.NodeState.ALIVE
            }
        await switching
        written.update(await writing)
        _, segments = stored_segments(world)
        for segment in segments:
            few = sum(piece.alias in part for piece in segment.pieces)
            assert few <= part_time_max(scheme_of(segment.k, segment.n))
            held.append(few)
        # All part-timers are away now (it is night): everything is read without them.
        for key, data in written.items():
            assert await world.ask_gateway(world.gateway.get(world.bucket, key, 0, None)) == data
        counters = world.database.run(read_counters, write=False)
        assert counters.get("repair_pieces", 0) == 0, "nothing was repaired needlessly"
        assert counters.get("repair_pieces_wrong", 0) == 0

    world = live(frozenset({3, 7}), story)
    assert not world.violations
    assert len(written) > 200
    assert sum(held) > 20, "they hold pieces, and so earn"
    assert set(seen) == {registry.NodeState.ALIVE, registry.NodeState.AWAY}
    assert 0.10 < seen[registry.NodeState.ALIVE] / seen.total() < 0.22, "25 of 168 hours"


@pytest.mark.slow
def test_who_is_missing_in_his_own_hours_is_repaired_as_anybody(coarse: None) -> None:
    """The same cloud; one part-timer does not come back on Monday."""
    found: list[registry.NodeState] = []

    async def story(world: PartTimeWorld) -> None:
        calendar = parse_calendar(CALENDAR)
        begin_s = world.loop.time()
        await keep_to_calendar(world, begin_s + 2 * DAY_S)
        writing = world.loop.start(write_now_and_then(world, begin_s + 4 * DAY_S), None)
        await keep_to_calendar(world, begin_s + 4 * DAY_S)
        await writing
        missing = next(node for node in world.nodes if node.number == 3)
        missing.crash()
        world.part_timers = world.part_timers - {3}
        alias = aliases(world)[3]
        gone_ms = now_ms(world)
        while states(world)[alias] is not registry.NodeState.DEAD:
            found.append(states(world)[alias])
            await asyncio.sleep(HOUR_S / 4)
            assert now_ms(world) - gone_ms < 8 * 24 * 3_600_000
        # Its last heartbeat came up to a quarter of an hour before its hours ended: owed, too.
        owed = calendar.online_ms(gone_ms, now_ms(world))
        least = COARSE.dead_ms - COARSE.heartbeat_interval_ms
        assert least <= owed <= COARSE.dead_ms + 3_600_000, "dead by hours that it owed"

    live(frozenset({3, 7}), story)
    assert registry.NodeState.AWAY in found
