"""Claims about repair on true nodes and true metadata, in the simulated world."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.unit.coordinator.repair.world import Cloud

from atoll.coordinator.placement.model import NodeState
from atoll.coordinator.repair.rules import LOCAL, WAN
from atoll.coordinator.repair.worker import Outcome
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import ReportLiar
from atoll.node.store.adoption import _write_down
from atoll.node.store.model import State
from atoll.sim.network import NetworkFaults

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("repair")
    yield made
    made.close()


def test_four_of_twelve_die_and_every_segment_comes_back_to_strength(cloud: Cloud) -> None:
    async def main() -> None:
        for size in (0, 100, 8 * KIB, 9 * KIB, 300 * KIB, 2 * MIB, 5 * MIB):
            await cloud.upload(size)
        await cloud.upload(300 * KIB, leave_out=1)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await cloud.until(cloud.at_full_strength)
        for alias in (1, 4, 7, 10):
            cloud.kill_node(alias)
        assert not cloud.at_full_strength()
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued(), 60)
        assert await cloud.wrong_pieces() == []
        status = await working.incarnation.start(working.repair.status())
        survival = await working.incarnation.start(working.repair.survival())
        assert status.segments_degraded == status.pieces_missing == status.running == 0
        assert status.pieces_repaired == cloud.counters()["repair_pieces"] > 12
        assert status.bytes_downloaded > status.bytes_uploaded > 5 * MIB
        assert (survival.nodes_alive, survival.any_nodes) == (8, 3)
        assert not cloud.loop.unhandled

    cloud.main(main)


def test_rebuilt_pieces_carry_the_tlvs_on_and_the_payer(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(100 * KIB)
        (before,) = cloud.segments()
        working = cloud.coordinator()
        for piece in before.pieces[:4]:
            cloud.kill_node(piece.alias)
        result = await working.incarnation.start(working.repairer.repair(before.serial))
        assert result.repaired == 4
        (after,) = cloud.segments()
        heads = set()
        for piece in after.pieces:
            store = cloud.nodes[piece.alias].store
            assert store is not None
            row = store.volume.index.get(piece_id_of(SegmentId(after.segment), piece.index))
            assert row is not None
            head = store.volume.body_part(row, 0, row.head_bytes)
            heads.add((len(head), b"kept and served again" in head, head[64:80]))
        assert len(heads) == 1, "old and new pieces agree"

    cloud.main(main)


def test_a_returned_node_counts_again_and_its_extra_pieces_are_trimmed(cloud: Cloud) -> None:
    async def main() -> None:
        for _ in range(4):
            await cloud.upload(100 * KIB)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await working.incarnation.start(working.collection.start())
        held = sum(p.alias == 1 for s in cloud.segments() for p in s.pieces)
        assert held
        cloud.kill_node(1)
        await cloud.until(cloud.at_full_strength)
        assert cloud.garbage() == {1: held}, "a dead node's garbage waits"
        await cloud.start_node(1)
        await cloud.until(lambda: cloud.garbage() == {})
        store = cloud.nodes[1].store
        assert store is not None
        assert store.counters().pieces == 0
        assert cloud.at_full_strength()
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_a_node_back_before_its_pieces_were_rebuilt_costs_nothing(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(100 * KIB)
        for alias in cloud.nodes:
            if alias > 3:
                cloud.see(alias, NodeState.DEAD)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await cloud.until(lambda: cloud.queued() == 1)
        await asyncio.sleep(5)
        for alias in cloud.nodes:
            cloud.see(alias, NodeState.ALIVE)
        assert await cloud.until(lambda: cloud.queued() == 0) < 2
        assert "repair_pieces" not in cloud.counters()

    cloud.main(main)


def test_an_unreadable_segment_is_reported_and_taken_up_when_a_node_returns(
    cloud: Cloud,
) -> None:
    async def main() -> None:
        await cloud.upload(100 * KIB)
        (segment,) = cloud.segments()
        holders = [piece.alias for piece in segment.pieces]
        for alias in holders[:5]:
            cloud.kill_node(alias)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await asyncio.sleep(60)
        assert cloud.queued() == 1
        status = await working.incarnation.start(working.repair.status())
        assert (status.segments_degraded, status.segments_urgent) == (1, 1)
        assert status.pieces_missing == 5
        await cloud.start_node(holders[0])
        await cloud.until(lambda: not cloud.queued(), 5)
        assert await cloud.wrong_pieces() == []
        (segment,) = cloud.segments()
        alive = [p for p in segment.pieces if cloud.table.rows[p.alias].state is NodeState.ALIVE]
        assert len(alive) == 8

    cloud.main(main)


def test_a_source_that_serves_wrong_bytes_is_named_and_its_piece_rebuilt(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(600 * KIB)
        (before,) = cloud.segments()
        dead, rotten = before.pieces[0].alias, before.pieces[1]
        spoil(cloud, rotten.alias)
        cloud.kill_node(dead)
        working = cloud.coordinator()
        cloud.table.change(rotten.alias, latency_ms=0.0)
        for piece in before.pieces[2:]:
            cloud.table.change(piece.alias, latency_ms=50.0)
        await working.incarnation.start(working.repair.start())
        await working.incarnation.start(working.collection.start())
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued())
        (after,) = cloud.segments()
        assert dead not in {piece.alias for piece in after.pieces}
        assert rotten not in after.pieces
        assert await cloud.wrong_pieces() == []
        assert cloud.counters()["repair_pieces_wrong"] == 1

    cloud.main(main)


def spoil(cloud: Cloud, alias: int) -> None:
    """Change bytes in the middle of a node's only piece, on its medium."""
    platter = cloud.nodes[alias].platter
    (name,) = [n for n in platter.files if n.startswith("logs/") or "log" in n]
    content = platter.files[name].content
    at = 50_000
    old = content.read(at, 10)
    content.write(at, bytes(byte ^ 1 for byte in old))


def test_sources_that_do_not_answer_are_worked_around(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(100 * KIB)
        (segment,) = cloud.segments()
        holders = [piece.alias for piece in segment.pieces]
        cloud.kill_node(holders[0])
        for alias in holders[1:4]:
            cloud.kill_node(alias, noticed=False)
        working = cloud.coordinator()
        result = await working.incarnation.start(working.repairer.repair(serial))
        assert result.repaired == 1
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_too_few_answering_sources_strike_nothing(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(100 * KIB)
        (segment,) = cloud.segments()
        holders = [piece.alias for piece in segment.pieces]
        cloud.kill_node(holders[0])
        for alias in holders[1:5]:
            cloud.kill_node(alias, noticed=False)
        working = cloud.coordinator()
        result = await working.incarnation.start(working.repairer.repair(serial))
        assert result.outcome is Outcome.SOURCES
        assert cloud.segments()[0].pieces == segment.pieces
        assert cloud.garbage() == {}

    cloud.main(main)


def test_a_piece_that_looks_wrong_is_kept_where_the_rest_is_too_few(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(600 * KIB)
        (segment,) = cloud.segments()
        for piece in segment.pieces[4:]:
            cloud.kill_node(piece.alias)
        spoil(cloud, segment.pieces[0].alias)
        working = cloud.coordinator()
        result = await working.incarnation.start(working.repairer.repair(serial))
        assert result.outcome is Outcome.SOURCES
        assert cloud.segments()[0].pieces == segment.pieces

    cloud.main(main)


def test_a_target_that_is_full_or_gone_is_replaced(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(2 * MIB)
        (segment,) = cloud.segments()
        free = sorted(set(cloud.nodes) - {piece.alias for piece in segment.pieces})
        cloud.kill_node(segment.pieces[0].alias)
        cloud.kill_node(free[0], noticed=False)
        cloud.nodes[free[1]].platter.capacity_bytes = 0
        for alias in free[2:]:
            cloud.table.change(alias, free_bytes=8 * MIB)
        working = cloud.coordinator()
        result = await working.incarnation.start(working.repairer.repair(serial))
        assert result.outcome is Outcome.FULL
        (after,) = cloud.segments()
        assert {piece.alias for piece in after.pieces} & set(free) <= set(free[2:])
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_a_report_of_a_wrong_piece_is_looked_into(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(600 * KIB)
        (before,) = cloud.segments()
        right, rotten = before.pieces[0], before.pieces[1]
        spoil(cloud, rotten.alias)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        for piece in (right, rotten):
            working.repair.report_liar(
                ReportLiar(
                    segment=before.segment, index=piece.index, alias=piece.alias, reason="tag"
                )
            )
        await cloud.until(lambda: cloud.segments()[0].pieces != before.pieces)
        await cloud.until(cloud.at_full_strength)
        (after,) = cloud.segments()
        assert right in after.pieces, "slander costs a look, no more"
        assert {(alias, piece) for alias, piece, _ in cloud.accused} == {
            (rotten.alias, piece_id_of(SegmentId(before.segment), rotten.index))
        }
        assert rotten not in after.pieces
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_a_node_that_reports_lost_pieces_gets_help(cloud: Cloud) -> None:
    async def main() -> None:
        for _ in range(3):
            await cloud.upload(50 * KIB)
        before = cloud.segments()[1]
        piece = before.pieces[3]
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        lost = piece_id_of(SegmentId(before.segment), piece.index)
        await working.incarnation.start(working.repair.report_lost(piece.alias, [lost, b"x" * 16]))
        assert piece not in cloud.segments()[1].pieces, "struck before the node may forget"
        await working.incarnation.start(working.repair.report_lost(piece.alias, [lost]))
        await cloud.until(cloud.at_full_strength)
        assert [s.serial for s in cloud.segments() if s.repaired_ms] == [before.serial]

    cloud.main(main)


def test_nodes_that_are_mistaken_about_their_loss_do_not_cost_the_object(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(600 * KIB)
        (before,) = cloud.segments()
        working = cloud.coordinator()
        for piece in before.pieces:
            lost = piece_id_of(SegmentId(before.segment), piece.index)
            await working.incarnation.start(working.repair.report_lost(piece.alias, [lost]))
        (after,) = cloud.segments()
        assert len(after.pieces) == before.k, "what is left was looked at, and is there"
        await working.incarnation.start(working.repair.start())
        await cloud.until(cloud.at_full_strength)
        assert await cloud.wrong_pieces() == []
        rotten = cloud.segments()[0].pieces[0]
        for piece in cloud.segments()[0].pieces[1:]:
            cloud.kill_node(piece.alias)
        spoil(cloud, rotten.alias)
        lost = piece_id_of(SegmentId(before.segment), rotten.index)
        await working.incarnation.start(working.repair.report_lost(rotten.alias, [lost]))
        assert rotten not in cloud.segments()[0].pieces, "what is truly lost is struck all the same"

    cloud.main(main)


def test_what_its_owner_gave_to_another_coordinator_is_neither_counted_nor_built_again(
    cloud: Cloud,
) -> None:
    """The owner signs at the nodes; we only hear that nothing of it is here any more."""

    async def main() -> None:
        await cloud.upload(600 * KIB)
        (before,) = cloud.segments()
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        given = [(p, piece_id_of(SegmentId(before.segment), p.index)) for p in before.pieces]
        for piece, name in given:
            node = cloud.nodes[piece.alias]
            assert node.store is not None
            assert node.incarnation is not None
            await node.incarnation.start(_write_down(node.store.volume, name, 77, 5))
        for piece, name in given:
            await working.incarnation.start(working.repair.report_lost(piece.alias, [name]))
        await asyncio.sleep(20)
        (after,) = cloud.segments()
        assert after.pieces == ()
        assert moved_bytes(cloud) == 0
        for piece, name in given:
            store = cloud.nodes[piece.alias].store
            assert store is not None
            row = store.volume.index.get(name)
            assert row is not None
            assert (State(row.state), row.issuer) == (State.LIVE, 77)

    cloud.main(main)


def moved_bytes(cloud: Cloud) -> int:
    """What repair has sent."""
    return cloud.counters().get("repair_bytes_uploaded", 0)


def test_a_segment_deleted_during_its_repair_leaves_nothing_behind(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(4 * MIB)
        (segment,) = cloud.segments()
        cloud.kill_node(segment.pieces[0].alias)
        working = cloud.coordinator()
        repair = working.incarnation.start(working.repairer.repair(serial))
        await cloud.until(lambda: cloud.garbage() != {})
        await asyncio.sleep(0.01)
        cloud.delete(serial)
        result = await repair
        assert result.outcome is Outcome.GONE
        await cloud.start_node(segment.pieces[0].alias)
        await working.incarnation.start(working.collection.start())
        await cloud.until(lambda: cloud.garbage() == {})
        for node in cloud.nodes.values():
            assert node.store is not None
            assert node.store.counters().pieces == 0

    cloud.main(main)


@pytest.mark.parametrize("seed", range(6))
def test_a_coordinator_killed_at_any_await_loses_nothing_and_another_goes_on(seed: int) -> None:
    cloud = Cloud(f"killed/{seed}")

    async def main() -> None:
        for size in (100, 100 * KIB, 2 * MIB):
            await cloud.upload(size)
        for alias in (2, 5, 8, 11):
            cloud.kill_node(alias)
        if seed % 2:
            cloud.network.faults = NetworkFaults(loss=0.05, stall=0.01, stall_s=20)
        for _ in range(4):
            working = cloud.coordinator()
            await working.incarnation.start(working.repair.start())
            working.incarnation.crash_in = cloud.random.randrange(200, 1500)
            await asyncio.sleep(20)
        cloud.network.heal()
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued())
        assert await cloud.wrong_pieces() == []
        # Orphans of the dead repairs come due and go; what is recorded stays.
        await working.incarnation.start(working.collection.start())
        for alias in (2, 5, 8, 11):
            await cloud.start_node(alias)
        await cloud.until(lambda: cloud.garbage() == {}, 3 * 3600)
        recorded = sum(len(segment.pieces) for segment in cloud.segments())
        stored = 0
        for node in cloud.nodes.values():
            assert node.store is not None
            stored += node.store.counters().pieces
        assert stored == recorded
        assert await cloud.wrong_pieces() == []

    try:
        cloud.main(main)
    finally:
        cloud.close()


def test_two_coordinators_share_the_work_and_repair_nothing_twice(cloud: Cloud) -> None:
    async def main() -> None:
        for _ in range(12):
            await cloud.upload(100 * KIB)
        cloud.kill_node(3)
        missing = sum(p.alias == 3 for s in cloud.segments() for p in s.pieces)
        both = [cloud.coordinator("one"), cloud.coordinator("two")]
        for working in both:
            await working.incarnation.start(working.repair.start())
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued())
        assert cloud.counters()["repair_pieces"] == missing
        assert cloud.garbage() == {3: missing}

    cloud.main(main)


def test_too_few_nodes_leave_a_segment_waiting_until_one_joins(cloud: Cloud) -> None:
    async def main() -> None:
        for alias in range(9, 13):
            cloud.kill_node(alias)
        await cloud.upload(100 * KIB)
        cloud.kill_node(1)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await asyncio.sleep(30)
        status = await working.incarnation.start(working.repair.status())
        assert (status.segments_degraded, status.pieces_missing) == (1, 1)
        await cloud.start_node(9)
        await cloud.until(cloud.at_full_strength, 5)

    cloud.main(main)


def test_a_wide_area_repair_is_frozen_by_mass_vanishing_but_for_the_critical() -> None:
    quick = replace(WAN, settle_ms=0, poll_s=1.0, scan_pause_s=0.01, freeze_nodes_min=3)
    cloud = Cloud("frozen", profile=quick)

    async def main() -> None:
        for _ in range(8):
            await cloud.upload(50 * KIB)
        for alias in (1, 2, 3, 4):
            cloud.kill_node(alias)
            cloud.table.change(alias, since_ms=1_800_000_000_000)
        critical = {s.serial for s in cloud.segments() if sum(p.alias > 4 for p in s.pieces) <= s.k}
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await asyncio.sleep(120)
        status = await working.incarnation.start(working.repair.status())
        assert status.frozen
        assert {s.serial for s in cloud.segments() if s.repaired_ms} == critical
        await cloud.start_node(1)
        await cloud.start_node(2)
        await cloud.until(cloud.at_full_strength)
        status = await working.incarnation.start(working.repair.status())
        assert not status.frozen

    try:
        cloud.main(main)
    finally:
        cloud.close()


def test_repair_keeps_to_its_bandwidth() -> None:
    cloud = Cloud("bandwidth", profile=replace(LOCAL, bytes_per_second=MIB, settle_ms=0))

    async def main() -> None:
        serial = await cloud.upload(8 * MIB)
        (segment,) = cloud.segments()
        cloud.kill_node(segment.pieces[0].alias)
        working = cloud.coordinator()
        began = cloud.loop.time()
        await working.incarnation.start(working.repairer.repair(serial))
        assert 8 < cloud.loop.time() - began < 12, "10 MiB move; a second's worth is free"

    try:
        cloud.main(main)
    finally:
        cloud.close()


def test_a_worker_that_skips_the_check_is_stopped_by_the_nodes(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deliberate fault: it trusts its sources and sends what comes of them."""

    async def main() -> None:
        await cloud.upload(600 * KIB)
        (before,) = cloud.segments()
        dead, rotten = before.pieces[0], before.pieces[1]
        spoil(cloud, rotten.alias)
        cloud.kill_node(dead.alias)
        for piece in before.pieces[2:]:
            cloud.table.change(piece.alias, latency_ms=50.0)
        working = cloud.coordinator()
        result = await working.incarnation.start(working.repairer.repair(before.serial))
        assert result.repaired == 0
        assert cloud.segments()[0].pieces == before.pieces
        assert cloud.garbage() != {}, "what may have been stored is collected"

    monkeypatch.setattr("atoll.client.transfer.rebuild.check_rebuild", lambda *_: None)
    cloud.main(main)
