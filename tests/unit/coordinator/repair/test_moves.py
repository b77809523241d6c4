"""Claims about pieces that move, come back, or are looked for: nothing is repaired twice."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy.engine import Connection
from tests.unit.coordinator.repair.world import Cloud

from atoll.coordinator.placement.model import NodeState, Standing
from atoll.coordinator.repair import store
from atoll.coordinator.repair.rules import LOCAL
from atoll.coordinator.repair.store import rounds
from atoll.sim.clock import SimClock

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("moves", nodes=13)
    yield made
    made.close()


async def working(cloud: Cloud, *, collects: bool = False) -> None:
    coordinator = cloud.coordinator()
    await coordinator.incarnation.start(coordinator.repair.start())
    if collects:
        await coordinator.incarnation.start(coordinator.collection.start())


def holders(cloud: Cloud) -> set[int]:
    return {piece.alias for segment in cloud.segments() for piece in segment.pieces}


def moved_bytes(cloud: Cloud) -> int:
    return cloud.counters().get("repair_bytes_downloaded", 0)


def settled(cloud: Cloud) -> bool:
    return cloud.at_full_strength() and not cloud.queued()


@pytest.mark.parametrize("facts", [{"exiting": True}, {"standing": Standing.EXITING}], ids=str)
def test_a_leaving_node_is_emptied_by_moving_its_pieces_once(
    cloud: Cloud, facts: dict[str, object]
) -> None:
    async def main() -> None:
        for _ in range(3):
            await cloud.upload(400 * KIB)
        (alias, *_) = sorted(holders(cloud))
        held = [s for s in cloud.segments() for p in s.pieces if p.alias == alias]
        await working(cloud, collects=True)
        cloud.table.change(alias, **facts)
        await cloud.until(lambda: alias not in holders(cloud) and settled(cloud), 120)
        assert await cloud.wrong_pieces() == []
        await cloud.until(lambda: cloud.garbage() == {})
        node = cloud.nodes[alias].store
        assert node is not None
        assert node.counters().pieces == 0
        piece_bytes = sum(segment.layout.piece_bytes for segment in held)
        assert moved_bytes(cloud) < 1.2 * piece_bytes + 8 * KIB, "copied, not rebuilt from k"

    cloud.main(main)


def test_a_leaving_node_that_no_longer_serves_is_rebuilt_from_the_others(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(200 * KIB)
        (segment,) = cloud.segments()
        alias = segment.pieces[0].alias
        cloud.kill_node(alias, noticed=False)
        cloud.table.change(alias, exiting=True)
        await working(cloud)
        await cloud.until(lambda: alias not in holders(cloud) and settled(cloud), 120)
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_pieces_that_turn_out_to_share_an_operator_are_parted(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(300 * KIB)
        (segment,) = cloud.segments()
        first, second = segment.pieces[0].alias, segment.pieces[1].alias
        await working(cloud)
        await asyncio.sleep(5)
        assert not cloud.queued()
        cloud.table.change(second, operator=cloud.table.rows[first].operator)
        coordinator = cloud.coordinator("second")
        await coordinator.incarnation.start(coordinator.repair.judge([segment], "x", disturb=True))
        await cloud.until(lambda: len(holders(cloud) & {first, second}) == 1 and settled(cloud))
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_a_piece_that_cannot_move_anywhere_waits_and_stays(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(300 * KIB)
        (segment,) = cloud.segments()
        free = set(cloud.nodes) - holders(cloud)
        for alias in free:
            cloud.table.change(alias, full=True)
        leaving = segment.pieces[3].alias
        cloud.table.change(leaving, exiting=True)
        await working(cloud)
        await asyncio.sleep(30)
        assert leaving in holders(cloud)
        assert cloud.queued() == 1, "it is not given up"
        cloud.table.change(min(free), full=False)
        await cloud.until(lambda: leaving not in holders(cloud) and settled(cloud), 120)

    cloud.main(main)


def test_a_piece_that_came_back_is_adopted_instead_of_rebuilt(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(1 * MIB)
        (segment,) = cloud.segments()
        first = segment.pieces[0]
        await working(cloud, collects=True)
        cloud.kill_node(first.alias)
        await cloud.until(lambda: settled(cloud))
        (after,) = cloud.segments()
        (heir,) = set(after.pieces) - set(segment.pieces)
        read, built = moved_bytes(cloud), cloud.counters()["repair_pieces"]
        await cloud.start_node(first.alias)
        # No other node may take the piece over: only the one that came back has room.
        for alias in set(cloud.nodes) - holders(cloud):
            cloud.table.change(alias, full=True)
        cloud.kill_node(heir.alias)
        await cloud.until(lambda: settled(cloud), 60)
        (again,) = cloud.segments()
        assert first in again.pieces
        assert cloud.counters()["repair_pieces_adopted"] == 1
        assert cloud.counters()["repair_pieces"] == built, "nothing was built twice"
        assert moved_bytes(cloud) - read < 1.5 * segment.layout.piece_bytes
        assert cloud.garbage() == {heir.alias: 1}, "the heir's piece is a credit now"
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_a_credit_that_rotted_is_not_adopted(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(1 * MIB)
        (segment,) = cloud.segments()
        first = segment.pieces[0]
        await working(cloud)
        cloud.kill_node(first.alias)
        await cloud.until(lambda: settled(cloud))
        (after,) = cloud.segments()
        (heir,) = set(after.pieces) - set(segment.pieces)
        cloud.nodes[first.alias].platter.rot(200, "logs/")
        await cloud.start_node(first.alias)
        cloud.kill_node(heir.alias)
        await cloud.until(lambda: settled(cloud), 120)
        assert cloud.counters().get("repair_pieces_adopted", 0) == 0
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_extra_pieces_are_trimmed_when_their_time_has_come(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(100 * KIB)
        (segment,) = cloud.segments()
        first = segment.pieces[0]
        await working(cloud, collects=True)
        cloud.kill_node(first.alias)
        await cloud.until(lambda: settled(cloud))
        await cloud.start_node(first.alias)
        await asyncio.sleep(LOCAL.credit_ms / 2000)
        assert cloud.garbage() == {first.alias: 1}, "kept for a while: it may be needed"
        await cloud.until(lambda: cloud.garbage() == {}, 2 * LOCAL.credit_ms / 1000)
        assert cloud.at_full_strength()

    cloud.main(main)


# --- rounds of the ranged loop -------------------------------------------------------------------


def test_a_round_goes_on_where_a_killed_coordinator_left_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("atoll.coordinator.repair.loop.PAGE_SEGMENTS", 2)
    cloud = Cloud("rounds", profile=replace(LOCAL, scan_pause_s=1.0, scan_interval_s=3600.0))

    async def main() -> None:
        for _ in range(10):
            await cloud.upload(100)
        first = cloud.coordinator("first")
        await first.incarnation.start(first.repair.start())
        await cloud.until(lambda: (found := seen(cloud)) is not None and found.segments >= 4)
        first.incarnation.crash()
        begun = seen(cloud)
        assert begun is not None
        assert 4 <= begun.segments < 10
        assert begun.ended_ms == 0
        second = cloud.coordinator("second")
        await second.incarnation.start(second.repair.start())
        await cloud.until(lambda: (found := seen(cloud)) is not None and bool(found.ended_ms))
        ended = seen(cloud)
        assert ended is not None
        assert ended.began_ms == begun.began_ms, "the same round"
        assert ended.segments == 10, "and every segment once"

    try:
        cloud.main(main)
    finally:
        cloud.close()


def seen(cloud: Cloud) -> rounds.Round | None:
    return cloud.read(store.read_round)


def test_the_loop_finds_what_nobody_told_of(cloud: Cloud) -> None:
    async def main() -> None:
        await working(cloud)
        await asyncio.sleep(LOCAL.settle_ms / 1000 + 1)
        await cloud.upload(100 * KIB, leave_out=1)
        await cloud.until(lambda: settled(cloud), 2.5 * LOCAL.scan_interval_s)

    cloud.main(main)


# --- what is measured ----------------------------------------------------------------------------


def test_churn_and_healing_are_measured(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(100 * KIB)
        (segment,) = cloud.segments()
        await working(cloud)
        await asyncio.sleep(130)
        cloud.kill_node(segment.pieces[0].alias)
        await cloud.until(lambda: settled(cloud))
        cloud.table.change(segment.pieces[0].alias, state=NodeState.LOST, since_ms=_now_ms(cloud))
        await asyncio.sleep(130)
        found = cloud.read(lambda c: store.measured(c, 0))
        assert found.nodes_lost == 1
        assert 13 * 60_000 < found.node_ms < 13 * 300_000
        assert found.healed == 1
        assert 0 < found.healed_ms_max < 30_000

    cloud.main(main)


def _now_ms(cloud: Cloud) -> int:
    return SimClock(cloud.gateway.incarnation).now_ms()


def test_two_coordinators_count_no_hour_twice(cloud: Cloud) -> None:
    def write(connection: Connection) -> None:
        store.measure(connection, 1_000_000, 10, [])
        for _ in range(2):
            store.measure(connection, 1_060_000, 10, [1_030_000])

    cloud.server.run(write, write=True)
    found = cloud.read(lambda c: store.measured(c, 0))
    assert (found.node_ms, found.nodes_lost) == (600_000, 1)
