"""Claims about deletions that reach the nodes, in the simulated world."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.unit.coordinator.repair.world import Cloud

from atoll.coordinator.metadata.model import GarbagePiece
from atoll.coordinator.metadata.store.segments import add_garbage
from atoll.coordinator.placement.model import NodeState
from atoll.coordinator.repair.rules import LOCAL
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import StoredPiece
from atoll.core.retention import Mode, RetentionRecord, sign_record
from atoll.node.store.retention import write_down
from atoll.sim.network import NetworkFaults

KIB = 1 << 10


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("collection")
    yield made
    made.close()


def pieces(cloud: Cloud) -> int:
    """Count pieces that nodes hold and would serve."""
    stores = [node.store for node in cloud.nodes.values()]
    return sum(store.counters().pieces for store in stores if store is not None)


async def lock(cloud: Cloud, segment: bytes, piece: StoredPiece) -> bytes:
    """Let the owner lock a piece for the next ten years; return its id."""
    node, key = cloud.nodes[piece.alias], Identity(b"l" * 32)
    assert node.store is not None
    assert node.incarnation is not None
    until_ms = 2_100_000_000_000
    record = RetentionRecord(
        SegmentId(segment), key.public_key, Mode.COMPLIANCE, until_ms, False, 1
    )
    piece_id = piece_id_of(SegmentId(segment), piece.index)
    row = node.store.volume.index.get(piece_id)
    assert row is not None
    body = sign_record(key, record)
    await node.incarnation.start(write_down(node.store.volume, piece_id, row.issuer, body))
    assert node.store.retained(piece_id)
    return piece_id


def test_a_deletion_reaches_every_node_and_waits_in_its_trash(cloud: Cloud) -> None:
    async def main() -> None:
        serials = [await cloud.upload(50 * KIB) for _ in range(5)]
        assert pieces(cloud) == 40
        for serial in serials[:4]:
            cloud.delete(serial)
        working = cloud.coordinator()
        done = await working.incarnation.start(working.collection.collect())
        assert done == 32
        assert cloud.garbage() == {}
        assert pieces(cloud) == 8
        stores = [node.store for node in cloud.nodes.values()]
        assert sum(store.counters().trash_bytes for store in stores if store is not None) > 0
        assert await working.incarnation.start(working.collection.collect()) == 0

    cloud.main(main)


def test_garbage_of_a_dead_node_waits_for_it(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(50 * KIB)
        (segment,) = cloud.segments()
        absent = segment.pieces[0].alias
        cloud.kill_node(absent)
        cloud.delete(serial)
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.start())
        await asyncio.sleep(60)
        assert cloud.garbage() == {absent: 1}
        await cloud.start_node(absent)
        await cloud.until(lambda: cloud.garbage() == {})
        assert pieces(cloud) == 0

    cloud.main(main)


def test_a_node_that_does_not_answer_is_asked_ever_less_often(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(50 * KIB)
        (segment,) = cloud.segments()
        silent = segment.pieces[0].alias
        cloud.kill_node(silent, noticed=False)
        cloud.delete(serial)
        working = cloud.coordinator()
        asked = cloud.trace.counts["ask"]
        await working.incarnation.start(working.collection.start())
        await asyncio.sleep(120)
        assert cloud.garbage() == {silent: 1}
        assert 7 + 5 < cloud.trace.counts["ask"] - asked < 7 + 25
        await cloud.start_node(silent)
        await cloud.until(lambda: cloud.garbage() == {}, 30)

    cloud.main(main)


def test_what_a_node_refuses_stays_and_does_not_hold_up_the_rest(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(50 * KIB)
        cloud.delete(serial)
        # An index that no piece can have: the node refuses such an order.
        nonsense = GarbagePiece(3, b"n" * 16, 255, b"b" * 16, 0, 9)
        cloud.server.run(lambda c: add_garbage(c, [nonsense]), write=True)
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.collect())
        assert cloud.garbage() == {3: 1}
        assert pieces(cloud) == 0

    cloud.main(main)


def test_a_locked_piece_is_left_to_its_node_and_its_deletion_not_sent_again(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(50 * KIB)
        (segment,) = cloud.segments()
        locked = await lock(cloud, segment.segment, segment.pieces[0])
        cloud.delete(serial)
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.collect())
        assert cloud.garbage() == {}
        store = cloud.nodes[segment.pieces[0].alias].store
        assert store is not None
        assert store.retained(locked)
        assert pieces(cloud) == 1

    cloud.main(main)


def test_a_node_that_must_keep_a_replaced_piece_can_take_another_of_the_segment(
    cloud: Cloud,
) -> None:
    async def main() -> None:
        await cloud.upload(50 * KIB, leave_out=1)
        (segment,) = cloud.segments()
        piece = segment.pieces[0]
        locked = await lock(cloud, segment.segment, piece)
        holders = {one.alias for one in segment.pieces}
        spare, *rest = sorted(cloud.nodes.keys() - holders)
        for alias in rest:
            cloud.kill_node(alias)
        cloud.kill_node(piece.alias)
        working = cloud.coordinator()
        await working.incarnation.start(working.repair.start())
        await working.incarnation.start(working.collection.start())
        replaced = StoredPiece(index=piece.index, alias=spare)
        await cloud.until(lambda: replaced in cloud.segments()[0].pieces)
        # Its credit comes due: the replaced piece is to be deleted, and may not be.
        await asyncio.sleep(LOCAL.credit_ms / 1000)
        await cloud.start_node(piece.alias)
        await cloud.until(cloud.at_full_strength)
        assert replaced in cloud.segments()[0].pieces
        assert await cloud.wrong_pieces() == []
        store = cloud.nodes[piece.alias].store
        assert store is not None
        assert store.retained(locked)

    cloud.main(main)


def test_an_intent_of_a_running_repair_is_left_alone(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(50 * KIB)
        (segment,) = cloud.segments()
        piece = segment.pieces[0]
        later_ms = 1_800_000_000_000 + 100_000
        intent = GarbagePiece(piece.alias, segment.segment, piece.index, b"b" * 16, later_ms, 9)
        cloud.server.run(lambda c: add_garbage(c, [intent]), write=True)
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.start())
        await asyncio.sleep(90)
        assert pieces(cloud) == 8
        await asyncio.sleep(20)
        assert pieces(cloud) == 7

    cloud.main(main)


def test_many_pages_are_sent_and_a_lossy_network_only_delays_them(cloud: Cloud) -> None:
    async def main() -> None:
        serial = await cloud.upload(50 * KIB)
        cloud.delete(serial)
        rows = [
            GarbagePiece(alias, number.to_bytes(16, "big"), 0, b"b" * 16, 0, number)
            for alias in (1, 2)
            for number in range(1, 1201)
        ]
        cloud.server.run(lambda c: add_garbage(c, rows), write=True)
        cloud.network.faults = NetworkFaults(loss=0.3)
        cloud.see(12, NodeState.SUSPECT)
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.start())
        await cloud.until(lambda: set(cloud.garbage()) <= {12})
        cloud.see(12, NodeState.ALIVE)
        await cloud.until(lambda: cloud.garbage() == {})
        assert pieces(cloud) == 0

    cloud.main(main)


def test_a_node_that_answers_nonsense_is_asked_again_and_holds_up_nobody(cloud: Cloud) -> None:
    async def main() -> None:
        for _ in range(20):
            cloud.delete(await cloud.upload(5 * KIB))
        cloud.network.let_lie("node3")
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.start())
        await cloud.until(lambda: set(cloud.garbage()) <= {3})
        await asyncio.sleep(60)
        cloud.network.heal()
        await cloud.until(lambda: cloud.garbage() == {})
        assert not cloud.loop.unhandled

    cloud.main(main)


def test_deletions_for_a_lost_node_are_given_up_and_intents_are_not(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(50 * KIB)
        gone = [
            GarbagePiece(5, number.to_bytes(16, "big"), 0, b"b" * 16, 0, number)
            for number in range(1, 1201)
        ]
        later_ms = 1_800_000_000_000 + 3_600_000
        intent = GarbagePiece(5, b"i" * 16, 0, b"b" * 16, later_ms, 9)
        cloud.server.run(lambda c: add_garbage(c, [*gone, intent]), write=True)
        cloud.see(5, NodeState.DEAD)
        working = cloud.coordinator()
        await working.incarnation.start(working.collection.collect())
        assert cloud.garbage() == {5: 1201}
        cloud.see(5, NodeState.LOST)
        await working.incarnation.start(working.collection.collect())
        assert cloud.garbage() == {5: 1}

    cloud.main(main)
