"""Claims about repair work that nodes take over: any node may, none is believed."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.coordinator.repair.world import Cloud, Coordinator, parts_of

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metering import store as metering
from atoll.coordinator.placement.model import NodeState, Standing
from atoll.coordinator.repair import store
from atoll.coordinator.repair.rules import LOCAL
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import PayerTag, SegmentId, piece_id_of
from atoll.core.merkle import piece_root
from atoll.core.messages import Message, PieceGrant
from atoll.core.messages.repairs import (
    AskRepairWork,
    FinishRepairWork,
    RepairOffer,
    RepairSettled,
    RepairTask,
)
from atoll.core.orders import (
    SIGNED_RECEIPT_BYTES,
    PieceReceipt,
    check_receipt,
    parse_order,
    sign_receipt,
)
from atoll.core.pieces import (
    Header,
    crc32c,
    encode_header,
    encode_trailer,
    record_bytes,
    sign_trailer,
)
from atoll.core.ports import Address, PiecePart
from atoll.node.link import Link
from atoll.node.repairs import RepairWorker
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.transport import SimPieceTransport

KIB, MIB = 1 << 10, 1 << 20
PLENTY = AskRepairWork(bytes_max=1 << 30)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("offers", nodes=14)
    yield made
    made.close()


async def call(coordinator: Coordinator, cloud: Cloud, alias: int, request: Message) -> Any:
    """Ask as a node asks; the door would have checked its signature."""
    key = cloud.nodes[alias].identity.public_key
    handler = coordinator.offers.node_handlers[type(request)]
    return await coordinator.incarnation.start(handler(request, key, 0))


def worker_on(cloud: Cloud, coordinator: Coordinator, alias: int, **limits: Any) -> RepairWorker:
    life = cloud.nodes[alias].incarnation
    assert life is not None
    link = Link(Address("127.0.0.1", 8000), alias=alias, registered=True)

    async def ask(_: Link, request: Message, __: type[Any]) -> Any:
        return await call(coordinator, cloud, alias, request)

    settings: dict[str, Any] = {"tasks_max": 2, "bytes_per_s": 64 * MIB, "busy": lambda: False}
    return RepairWorker(
        clock=SimClock(life),
        compute=SimCompute(life, "worker"),
        transport=SimPieceTransport(life, cloud.network),
        links=[link],
        ask=ask,
        **(settings | limits),
    )


async def wound(cloud: Cloud, coordinator: Coordinator, size: int, deaths: int) -> StoredSegment:
    """Store a segment and kill some of its nodes; it is queued, and nobody is at it."""
    await cloud.upload(size)
    segment = cloud.segments()[-1]
    for piece in segment.pieces[:deaths]:
        cloud.kill_node(piece.alias)
    judged = coordinator.repair.judge([segment], "test", disturb=True)
    assert await coordinator.incarnation.start(judged) == 1
    return segment


def bystander(cloud: Cloud, segment: StoredSegment) -> int:
    return min(set(cloud.nodes) - {piece.alias for piece in segment.pieces})


def work_of(cloud: Cloud, alias: int) -> store.Work:
    return cloud.read(lambda c: store.work_of(c, alias))


async def task_for(cloud: Cloud, coordinator: Coordinator, alias: int) -> RepairTask:
    offer = await call(coordinator, cloud, alias, PLENTY)
    assert isinstance(offer, RepairOffer)
    assert offer.task is not None
    return offer.task


@pytest.mark.parametrize("size", [100, 300 * KIB, 3 * MIB])
def test_a_node_repairs_what_it_has_no_part_in_and_is_paid_for_it(cloud: Cloud, size: int) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, size, 2)
        alias = bystander(cloud, segment)
        worker = worker_on(cloud, coordinator, alias)
        await worker.look()
        await cloud.until(lambda: worker.pieces == 2)
        assert cloud.at_full_strength()
        assert await cloud.wrong_pieces() == []
        assert not cloud.queued()
        work = work_of(cloud, alias)
        piece_bytes = segment.layout.piece_bytes
        assert (work.tasks, work.failed, work.pieces) == (1, 0, 2)
        assert work.downloaded_bytes == segment.k * piece_bytes
        assert work.uploaded_bytes == 2 * piece_bytes
        assert worker.paid_bytes == work.downloaded_bytes + work.uploaded_bytes
        assert cloud.counters()["repair_pieces"] == 2
        metered = cloud.read(lambda c: metering.repairs_of(c, 0))
        dead = sorted(piece.alias for piece in segment.pieces[:2])
        assert [(one.worker, one.failed) for one in metered] == [(alias, one) for one in dead]
        for one in metered:
            assert one.piece_bytes == piece_bytes
            assert len(one.receipts) == 2 * SIGNED_RECEIPT_BYTES
            receipt = check_receipt(one.receipts[:SIGNED_RECEIPT_BYTES])
            assert receipt.segment_id == segment.segment

    cloud.main(main)


def test_a_node_moves_a_piece_that_must_not_stay(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        await cloud.upload(300 * KIB)
        (segment,) = cloud.segments()
        cloud.table.change(segment.pieces[0].alias, exiting=True)
        await coordinator.incarnation.start(
            coordinator.repair.judge([segment], "test", disturb=True)
        )
        alias = bystander(cloud, segment)
        worker = worker_on(cloud, coordinator, alias)
        await worker.look()
        await cloud.until(lambda: worker.pieces == 1)
        assert work_of(cloud, alias).downloaded_bytes == segment.layout.piece_bytes
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_a_holder_is_not_given_the_other_pieces_of_its_segment(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 300 * KIB, 1)
        for piece in segment.pieces[1:]:
            offer = await call(coordinator, cloud, piece.alias, PLENTY)
            assert offer.task is None
        task = await task_for(cloud, coordinator, bystander(cloud, segment))
        assert task.segment == segment.segment
        targets = {grant.alias for grant in task.targets}
        assert bystander(cloud, segment) not in targets, "nor does it become one by its own work"

    cloud.main(main)


@pytest.mark.parametrize(
    "facts",
    [{"standing": Standing.SUSPENDED}, {"standing": Standing.DISQUALIFIED}, {"state": "suspect"}],
    ids=str,
)
def test_nodes_in_bad_standing_get_no_work(cloud: Cloud, facts: dict[str, Any]) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 300 * KIB, 1)
        alias = bystander(cloud, segment)
        if "state" in facts:
            cloud.see(alias, NodeState(facts["state"]))
        else:
            cloud.table.change(alias, **facts)
        assert (await call(coordinator, cloud, alias, PLENTY)).task is None

    cloud.main(main)


def test_a_task_too_large_for_a_node_waits_for_another(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 3 * MIB, 1)
        alias = bystander(cloud, segment)
        small = await call(coordinator, cloud, alias, AskRepairWork(bytes_max=1 * MIB))
        assert small.task is None
        assert all(count == 0 for count in cloud.garbage().values()), "nothing is announced"
        await task_for(cloud, coordinator, alias)

    cloud.main(main)


def test_a_worker_that_dies_costs_its_lease_and_nothing_more(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 300 * KIB, 2)
        alias = bystander(cloud, segment)
        task = await task_for(cloud, coordinator, alias)
        again = await call(coordinator, cloud, bystander(cloud, segment) + 0, PLENTY)
        assert again.task is None, "one segment is one worker's at a time"
        await coordinator.incarnation.start(coordinator.repair.start())
        await cloud.until(cloud.at_full_strength, 120)
        await asyncio.sleep(5)
        late = FinishRepairWork(task=task.task)
        await coordinator.incarnation.start(coordinator.offers.expire())
        with pytest.raises(AtollError) as caught:
            await call(coordinator, cloud, alias, late)
        assert caught.value.kind is Kind.NOT_FOUND
        assert work_of(cloud, alias).failed == 1
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


def test_another_node_cannot_finish_a_task(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 300 * KIB, 1)
        alias = bystander(cloud, segment)
        task = await task_for(cloud, coordinator, alias)
        with pytest.raises(AtollError):
            await call(coordinator, cloud, alias + 1, FinishRepairWork(task=task.task))

    cloud.main(main)


# --- liars ---------------------------------------------------------------------------------------


def header_of(task: RepairTask, index: int) -> Header:
    return Header(
        segment_id=SegmentId(task.segment),
        index=index,
        k=task.k,
        n=task.n,
        unit_bytes=task.unit_bytes,
        plain_bytes=task.plain_bytes,
        data_bytes=task.data_bytes,
        payer_tag=PayerTag(task.payer_tag),
    )


async def upload_nonsense(cloud: Cloud, task: RepairTask) -> tuple[bytes, list[bytes]]:
    """Send the target a well-formed piece that the attacker made up: it refuses. Claim it anyway.

    The order names the segment's root, so no node stores what another root commits to.
    """
    attacker = Identity(b"a" * 32)
    junk = bytes(task.data_bytes)
    header = header_of(task, task.targets[0].index)
    trailer = sign_trailer(attacker, header, [piece_root(junk)] * task.n)
    for grant in task.targets:
        mine = replace(header, index=grant.index)
        record = encode_header(mine) + junk
        record += encode_trailer(mine, trailer, crc32c(record))
        with pytest.raises(AtollError) as refused:
            await put(cloud, grant, mine, record)
        assert refused.value.kind is Kind.CORRUPT
    assert not await stored_by(cloud, task)
    _, receipts = await forged(cloud, task)
    return encode_trailer(header, trailer, 0), receipts


async def stored_by(cloud: Cloud, task: RepairTask) -> list[bytes]:
    """What the targets hold of the task's pieces."""
    found = []
    for grant in task.targets:
        piece = piece_id_of(SegmentId(task.segment), grant.index)
        store = cloud.nodes[grant.alias].store
        if store is not None and store.volume.index.get(piece) is not None:
            found.append(piece)
    return found


async def put(cloud: Cloud, grant: PieceGrant, header: Header, record: bytes) -> bytes:
    assert len(record) == record_bytes(header)
    return await cloud.gateway.incarnation.start(
        cloud.gateway.transport.put_piece(
            Address(grant.host, grant.port),
            piece_id_of(header.segment_id, grant.index),
            grant.order,
            parts_of(record),
            len(record),
            10,
        )
    )


async def forged(cloud: Cloud, task: RepairTask) -> tuple[bytes, list[bytes]]:
    """True roots, and receipts that the attacker signed in the targets' place."""
    attacker = Identity(b"a" * 32)
    receipt = PieceReceipt(
        node_id=attacker.node_id,
        segment_id=SegmentId(task.segment),
        index=task.targets[0].index,
        piece_root=b"r" * 32,
        serial=parse_order(task.targets[0].order).serial,
        time_ms=0,
    )
    return await true_trailer(cloud, task), [sign_receipt(attacker, receipt)]


async def true_trailer(cloud: Cloud, task: RepairTask) -> bytes:
    source = task.sources[0]
    return await cloud.gateway.incarnation.start(
        cloud.gateway.transport.get_piece(
            Address(source.host, source.port),
            piece_id_of(SegmentId(task.segment), source.index),
            source.order,
            PiecePart.TRAILER,
            0,
            0,
            10,
        )
    )


async def in_league_with_the_target(cloud: Cloud, task: RepairTask) -> tuple[bytes, list[bytes]]:
    """True roots, and a receipt that the target itself signed for other bytes."""
    grant = task.targets[0]
    target = cloud.nodes[grant.alias].identity
    receipt = PieceReceipt(
        node_id=target.node_id,
        segment_id=SegmentId(task.segment),
        index=grant.index,
        piece_root=b"r" * 32,
        serial=parse_order(grant.order).serial,
        time_ms=0,
    )
    return await true_trailer(cloud, task), [sign_receipt(target, receipt)]


LIES = [upload_nonsense, forged, in_league_with_the_target]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lying_worker_gets_nothing_recorded_and_soon_no_work(cloud: Cloud, lie: Any) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segments = [await wound(cloud, coordinator, 100 * KIB, 1)]
        segments += [await degraded(cloud, coordinator) for _ in range(3)]
        held = {piece.alias for segment in segments for piece in segment.pieces}
        strangers = set(cloud.nodes) - held
        liar = min(strangers) if strangers else bystander(cloud, segments[0])
        for count in range(3):
            task = await next_task(cloud, coordinator, liar)
            trailer, receipts = await lie(cloud, task)
            settled = await call(
                coordinator,
                cloud,
                liar,
                FinishRepairWork(task=task.task, trailer=trailer, receipts=receipts, released=True),
            )
            assert settled == RepairSettled(pieces=0, downloaded_bytes=0, uploaded_bytes=0)
            assert work_of(cloud, liar).false_claims == count + 1
        with pytest.raises(AtollError) as caught:
            await call(coordinator, cloud, liar, PLENTY)
        assert caught.value.kind is Kind.FORBIDDEN
        assert "repair_pieces" not in cloud.counters()
        await coordinator.incarnation.start(coordinator.repair.start())
        await cloud.until(cloud.at_full_strength, 300)
        assert await cloud.wrong_pieces() == []

    cloud.main(main)


async def degraded(cloud: Cloud, coordinator: Coordinator) -> StoredSegment:
    await cloud.upload(100 * KIB, leave_out=1)
    segment = cloud.segments()[-1]
    await coordinator.incarnation.start(coordinator.repair.judge([segment], "x", disturb=True))
    return segment


async def next_task(cloud: Cloud, coordinator: Coordinator, alias: int) -> RepairTask:
    for _ in range(20):
        offer = await call(coordinator, cloud, alias, PLENTY)
        if offer.task is not None:
            return offer.task
        await asyncio.sleep(1)
    raise AssertionError("no work was offered")


def test_a_source_found_wrong_by_a_worker_is_looked_at_before_it_is_struck(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 100 * KIB, 1)
        alias = bystander(cloud, segment)
        task = await task_for(cloud, coordinator, alias)
        slander = [source.index for source in task.sources]
        await call(coordinator, cloud, alias, FinishRepairWork(task=task.task, wrong=slander))
        await coordinator.incarnation.start(coordinator.repair.start())
        await cloud.until(cloud.at_full_strength, 120)
        assert cloud.counters().get("repair_pieces_wrong", 0) == 0

    cloud.main(main)


# --- the owner's limits --------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"tasks_max": 0}, {"busy": lambda: True}], ids=["none", "busy"])
def test_a_node_asks_for_nothing_its_owner_did_not_allow(
    cloud: Cloud, limits: dict[str, Any]
) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 100 * KIB, 1)
        worker = worker_on(cloud, coordinator, bystander(cloud, segment), **limits)
        await worker.look()
        await asyncio.sleep(10)
        assert worker.pieces == 0
        assert work_of(cloud, bystander(cloud, segment)).tasks == 0
        assert bool(worker.steps) == bool(limits.get("tasks_max", 1))

    cloud.main(main)


def test_a_worker_keeps_to_its_pace(cloud: Cloud) -> None:
    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 4 * MIB, 1)
        alias = bystander(cloud, segment)
        worker = worker_on(cloud, coordinator, alias, bytes_per_s=256 * KIB)
        await worker.look()
        took = await cloud.until(lambda: worker.pieces == 1)
        assert took > 0.8 * 5 * segment.layout.piece_bytes / (256 * KIB) - 1

    cloud.main(main)


def test_while_nodes_ask_for_work_the_coordinator_leaves_it_to_them_for_a_while() -> None:
    patient = replace(LOCAL, patience_ms=20_000)
    cloud = Cloud("patience", nodes=14, profile=patient)

    async def main() -> None:
        coordinator = cloud.coordinator()
        segment = await wound(cloud, coordinator, 300 * KIB, 1)
        alias = bystander(cloud, segment)
        nothing = await call(coordinator, cloud, alias, AskRepairWork(bytes_max=1))
        assert nothing.task is None
        await coordinator.incarnation.start(coordinator.repair.start())
        await asyncio.sleep(10)
        assert cloud.queued() == 1, "left to the nodes"
        assert await cloud.until(cloud.at_full_strength, 60) > 5, "and done when none took it"

    try:
        cloud.main(main)
    finally:
        cloud.close()
