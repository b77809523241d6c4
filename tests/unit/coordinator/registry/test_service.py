"""Nodes come, go silent, return; what one process hears another reads. On both databases."""

import pytest
from tests.unit.coordinator.metadata.world import StillClock

from atoll.coordinator.registry import rules, service, store
from atoll.coordinator.registry.model import LOCAL, NodeState
from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeCounters,
    NodeFacts,
    Register,
    Registered,
    SignedFacts,
    encode,
)
from atoll.core.ports import Database
from atoll.runtime.database import SqlDatabase

PROVIDER = Identity(b"p" * 32)
OTHER = Identity(b"o" * 32)
KEY = b"k" * 32


class Watched:
    """A database that counts transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.reads = 0
        self.writes = 0

    async def read(self, function):  # type: ignore[no-untyped-def]
        self.reads += 1
        return await self._database.read(function)

    async def write(self, function):  # type: ignore[no-untyped-def]
        self.writes += 1
        return await self._database.write(function)

    async def close(self) -> None:
        await self._database.close()


class World:
    def __init__(self, database: Database) -> None:
        self.clock = StillClock()
        self.database = Watched(database)
        self.registry = self.another(judges=True)

    def another(self, *, judges: bool) -> RegistryService:
        config = RegistryConfig(timers=LOCAL)
        return RegistryService(self.clock, self.database, KEY, config, judges=judges)

    async def register(
        self,
        identity: Identity = PROVIDER,
        port: int = 9003,
        proof_ms: int | None = None,
        calendar: str = "",
    ) -> Registered:
        facts = encode(
            NodeFacts(
                public_key=identity.public_key, operator="o", site="s", region="", country="",
                tier="home", host="127.0.0.1", port=port, fingerprint=b"", capacity_bytes=1 << 40,
                price_micro=0, version="1", calendar=calendar,
            )
        )  # fmt: skip
        signed = SignedFacts(facts=facts, signature=identity.sign(b"node-facts/1", facts))
        return await self.registry.register(
            Register(signed_facts=signed),
            identity.public_key,
            self.clock.time_ms if proof_ms is None else proof_ms,
        )

    async def beat(
        self,
        identity: Identity = PROVIDER,
        *,
        skew_ms: int = 0,
        incarnation: int = 1,
        full: bool = False,
        free_bytes: int = 1 << 30,
        registry: RegistryService | None = None,
    ) -> HeartbeatAnswer:
        heartbeat = Heartbeat(
            time_ms=self.clock.time_ms + skew_ms,
            incarnation=incarnation,
            full=full,
            counters=NodeCounters(
                used_bytes=1, trash_bytes=2, free_bytes=free_bytes, pieces=3, put_bytes=4,
                get_bytes=5, errors=6,
            ),
        )  # fmt: skip
        answer, _ = await (registry or self.registry).heartbeat(heartbeat, identity.public_key)
        return answer

    def state(self, registry: RegistryService | None = None) -> NodeState:
        view = (registry or self.registry).node(1)
        assert view is not None
        return view.state

    async def pass_ms(self, milliseconds: int) -> None:
        """Let time pass as a running coordinator does: in ticks."""
        end = self.clock.time_ms + milliseconds
        while self.clock.time_ms < end:
            self.clock.time_ms = min(end, self.clock.time_ms + LOCAL.tick_ms)
            await self.registry.tick()


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database)


async def test_a_node_gets_an_alias_that_stays(world: World) -> None:
    first = await world.register()
    second = await world.register(OTHER)
    assert (first.alias, second.alias) == (1, 2)
    assert first.coordinator_key == KEY
    assert first.heartbeat_interval_ms == LOCAL.heartbeat_interval_ms
    world.clock.time_ms += 5
    again = await world.register(port=9999)
    assert again.alias == 1
    node = world.registry.node(1)
    assert node is not None
    assert node.address.port == 9999
    assert [view.alias for view in world.registry.nodes()] == [1, 2]


async def test_an_old_registration_does_not_bring_back_old_facts(world: World) -> None:
    await world.register()
    await world.register(port=9999, proof_ms=world.clock.time_ms + 1)
    with pytest.raises(AtollError) as caught:
        await world.register(proof_ms=world.clock.time_ms)
    assert caught.value.kind is Kind.REPLAYED
    stored = await world.database.read(lambda c: store.find_node(c, PROVIDER.node_id))
    assert stored.facts.port == 9999


async def test_a_stranger_is_told_to_register(world: World) -> None:
    assert not (await world.beat()).known
    await world.register()
    assert (await world.beat()).known


async def test_strangers_are_limited_and_known_nodes_are_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.register()
    monkeypatch.setattr(service, "NODES_MAX", 1)
    with pytest.raises(AtollError) as caught:
        await world.register(OTHER)
    assert caught.value.kind is Kind.OVERLOADED
    world.clock.time_ms += 1
    await world.register()


async def test_silence_is_judged_by_the_timers(world: World) -> None:
    await world.register()
    await world.beat()
    version = world.registry.version
    await world.pass_ms(2_900)
    assert world.state() is NodeState.ALIVE
    assert world.registry.version == version
    await world.pass_ms(200)
    assert world.state() is NodeState.SUSPECT
    await world.pass_ms(7_000)
    assert world.state() is NodeState.DEAD
    assert world.registry.version == version + 2
    await world.beat()
    assert world.state() is NodeState.ALIVE


async def test_a_heard_node_stays_alive(world: World) -> None:
    await world.register()
    for _ in range(20):
        await world.pass_ms(1_000)
        await world.beat()
        assert world.state() is NodeState.ALIVE


async def test_an_old_heartbeat_revives_nobody(world: World) -> None:
    await world.register()
    await world.beat(skew_ms=10)
    await world.pass_ms(10_250)
    assert world.state() is NodeState.DEAD
    with pytest.raises(AtollError) as caught:
        await world.beat(skew_ms=-10_250)
    assert caught.value.kind is Kind.REPLAYED
    answer = await world.beat(skew_ms=10 - 10_250)
    assert answer.known
    assert world.state() is NodeState.DEAD, "the very same heartbeat again is no sign of life"


async def test_the_databases_rest_is_not_disturbed_by_heartbeats(world: World) -> None:
    await world.register()
    await world.register(OTHER)
    writes = world.database.writes
    for _ in range(40):
        await world.pass_ms(250)
        await world.beat()
        await world.beat(OTHER)
    assert world.database.writes - writes <= 11, "at most one write a second, for all nodes"
    assert world.database.reads <= 14


async def test_a_worker_reads_what_the_coordinator_hears(world: World) -> None:
    await world.register()
    worker = world.another(judges=False)
    await worker.fresh()
    assert world.state(worker) is NodeState.ALIVE
    await world.beat(free_bytes=1 << 35, full=True)
    await world.pass_ms(1_000)
    await worker.fresh()
    node = worker.node(1)
    assert node is not None
    assert (node.free_bytes, node.full) == (1 << 35, True)
    await world.pass_ms(12_000)
    await worker.fresh()
    assert world.state(worker) is NodeState.DEAD
    reads = world.database.reads
    await worker.fresh()
    assert world.database.reads == reads


async def test_after_a_restart_nodes_have_time_to_report(world: World) -> None:
    await world.register()
    await world.beat()
    await world.registry.flush()
    world.clock.time_ms += 3_600_000
    world.registry = world.another(judges=True)
    await world.registry.refresh()
    await world.pass_ms(2_750)
    assert world.state() is NodeState.ALIVE
    await world.pass_ms(8_000)
    assert world.state() is NodeState.DEAD
    world.clock.time_ms += 1_000
    world.registry = world.another(judges=True)
    await world.registry.refresh()
    await world.pass_ms(250)
    assert world.state() is NodeState.DEAD, "who was dead before stays so"
    await world.beat()
    assert world.state() is NodeState.ALIVE


async def test_a_node_heard_by_another_coordinator_is_alive_here(world: World) -> None:
    await world.register()
    elsewhere = world.another(judges=True)
    await elsewhere.refresh()
    for _ in range(12):
        await world.pass_ms(1_000)
        await world.beat(registry=elsewhere)
        await elsewhere.tick()
    assert world.state() is NodeState.ALIVE
    assert world.state(elsewhere) is NodeState.ALIVE


async def test_a_wrong_clock_is_noted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.register()
    await world.beat(skew_ms=-45_000)
    assert "clock is -45 s off" in caplog.text
    node = world.registry.node(1)
    assert node is not None
    assert node.skew_ms == -45_000
    assert node.state is NodeState.ALIVE


async def test_the_coordinators_clock_may_jump(world: World) -> None:
    await world.register()
    await world.beat()
    base = world.clock.monotonic()
    jump = StillClock(world.clock.time_ms + 86_400_000)
    jump.monotonic = lambda: base + 0.25  # type: ignore[method-assign]
    world.registry._clock = jump
    await world.registry.tick()
    assert world.state() is NodeState.ALIVE


async def test_a_restart_of_the_node_is_told_by_its_incarnation(world: World) -> None:
    await world.register()
    await world.beat(incarnation=5)
    world.clock.time_ms += 100
    with pytest.raises(AtollError) as caught:
        await world.beat(incarnation=4)
    assert caught.value.kind is Kind.REPLAYED
    await world.beat(incarnation=6, skew_ms=-10_000)


async def test_a_failed_write_is_made_up_for(world: World) -> None:
    await world.register()
    await world.beat(free_bytes=77)
    original = world.database.write

    async def fail(_: object) -> None:
        raise AtollError(Kind.UNREACHABLE, "test", "no database")

    world.clock.time_ms += 1_000
    await world.registry.flush()
    await world.beat(free_bytes=78)
    world.database.write = fail  # type: ignore[assignment]
    with pytest.raises(AtollError):
        await world.registry.flush()
    world.database.write = original  # type: ignore[method-assign]
    await world.registry.flush()
    stored = await world.database.read(lambda c: store.find_node(c, PROVIDER.node_id))
    assert stored.counters.free_bytes == 78


async def test_the_status_of_nodes(world: World) -> None:
    await world.register()
    await world.beat()
    (status,) = world.registry.statuses()
    assert (status.alias, status.state, status.address) == (1, "alive", "http://127.0.0.1:9003")
    assert (status.used_bytes, status.pieces, status.errors) == (1, 3, 6)
    assert world.registry.one_machine


# --- declared hours ------------------------------------------------------------------------------


def calendar_of(world: World, online_ms: int, offline_ms: int) -> str:
    """Return hours in UTC: online from the start of this minute, then offline, then online."""
    minute = world.clock.time_ms // 60_000 % 1440

    def at(later_ms: int) -> str:
        moment = (minute + later_ms // 60_000) % 1440
        return f"{moment // 60:02}:{moment % 60:02}"

    return f"daily {at(online_ms + offline_ms)}-{at(online_ms)}"


async def test_silence_within_declared_hours_is_no_death(world: World) -> None:
    world.clock.time_ms -= world.clock.time_ms % 60_000
    await world.register(calendar=calendar_of(world, 60_000, 60_000))
    await world.beat()
    await world.pass_ms(59_000)
    await world.beat()
    await world.pass_ms(5_000)
    assert world.state() is NodeState.AWAY
    await world.pass_ms(55_000)
    assert world.state() is NodeState.AWAY, "all of it was declared, but for the last second"
    await world.pass_ms(5_000)
    assert world.state() is NodeState.SUSPECT, "its hours have begun and it is not there"
    await world.pass_ms(6_000)
    assert world.state() is NodeState.DEAD
    await world.beat()
    assert world.state() is NodeState.ALIVE


async def test_a_coordinator_that_starts_again_still_excuses(world: World) -> None:
    world.clock.time_ms -= world.clock.time_ms % 60_000
    await world.register(calendar=calendar_of(world, 60_000, 120_000))
    await world.beat()
    await world.pass_ms(70_000)
    assert world.state() is not NodeState.AWAY, "it went before its time"
    await world.beat()
    await world.pass_ms(5_000)
    assert world.state() is NodeState.AWAY
    await world.registry.flush()
    world.registry = world.another(judges=True)
    await world.pass_ms(100_000)
    assert world.state() is NodeState.AWAY
    gateway = world.another(judges=False)
    await gateway.refresh()
    assert world.state(gateway) is NodeState.AWAY
    assert world.registry.excused(1, world.clock.time_ms)


def test_no_calendar_excuses_a_silence_for_ever() -> None:
    assert rules.state_by_hours(LOCAL.away_ms_max - 1, 0, LOCAL) is NodeState.AWAY
    assert rules.state_by_hours(LOCAL.away_ms_max, 0, LOCAL) is NodeState.DEAD


async def test_a_calendar_nobody_can_read_is_refused(world: World) -> None:
    with pytest.raises(AtollError) as caught:
        await world.register(calendar="whenever I like")
    assert caught.value.kind is Kind.BAD_REQUEST


async def test_who_leaves_in_a_moment_gets_nothing_new(world: World) -> None:
    world.clock.time_ms -= world.clock.time_ms % 60_000
    hour_ms = 3_600_000
    await world.register(calendar=calendar_of(world, hour_ms, hour_ms))
    await world.beat()

    def off_hours() -> bool:
        view = world.registry.node(1)
        assert view is not None
        return view.off_hours

    assert not off_hours()
    version = world.registry.version
    world.clock.time_ms += hour_ms - service.LEAVING_MS
    await world.beat()
    await world.registry.tick()
    assert off_hours()
    assert world.state() is NodeState.ALIVE, "it is heard, and read from"
    assert world.registry.version > version
    world.clock.time_ms += hour_ms + service.LEAVING_MS
    await world.beat()
    assert not off_hours()
