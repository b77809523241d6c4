"""Uploads: replacements, cut-offs, the durable minimum, memory."""

import asyncio

import pytest
from tests.unit.client.cluster import BUCKET, Cluster, cut_up, pattern

from atoll.client.transfer.hedges import HedgeBudget
from atoll.client.transfer.upload import UploadLimits
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import OrderSegment, ReplaceGrants
from atoll.core.scheme import RS_4_8

SMALL, LARGE = 50_000, 3 << 20


@pytest.mark.parametrize("size", [4096, SMALL, LARGE])
async def test_a_refused_piece_goes_to_a_spare_at_once(size: int) -> None:
    cluster = Cluster(12)
    for node in cluster.nodes[:2]:
        node.refuses = Kind.DISK_FULL
    data = pattern(size)
    for _ in range(5):
        segments = await cluster.put(data)
        (segment,) = segments
        assert len(segment.pieces) == segment.n
        assert {1, 2}.isdisjoint(piece.alias for piece in segment.pieces)
        assert len({piece.alias for piece in segment.pieces}) == segment.n
        assert await cluster.get(segments) == data


async def test_without_spares_the_coordinator_is_asked_for_others() -> None:
    cluster = Cluster(12, scheme=RS_4_8)
    cluster.spares = False
    for node in cluster.nodes[:4]:
        node.dead = True
    segments = await cluster.put(pattern(LARGE))
    assert len(segments[0].pieces) == 8
    assert await cluster.get(segments) == pattern(LARGE)
    asked = [q for q in cluster.questions if isinstance(q, ReplaceGrants)]
    assert asked
    assert len(asked[0].used_aliases) == 8


@pytest.mark.parametrize("size", [SMALL, LARGE, 12 << 20])
@pytest.mark.parametrize("after", [1, 100_000, 300_000])
async def test_an_upload_outlives_four_nodes_of_twelve_dying_in_its_middle(
    size: int, after: int
) -> None:
    cluster = Cluster(12, scheme=RS_4_8)
    order = cluster._order
    victims = []

    def order_and_doom(request: OrderSegment):  # type: ignore[no-untyped-def]
        grant = order(request)
        for one in grant.grants[:4]:
            victims.append(cluster.nodes[one.alias - 1])
            victims[-1].dies_after_bytes = after
        return grant

    cluster._order = order_and_doom  # type: ignore[method-assign]
    data = pattern(size)
    segments = await cluster.put(data)
    assert len(segments[0].pieces) >= RS_4_8.durable
    assert any(node.dead for node in victims) or size < after * 4
    assert await cluster.get(segments) == data


async def test_too_few_nodes_is_a_clear_error_and_leaves_nothing_running() -> None:
    cluster = Cluster(12, scheme=RS_4_8)
    cluster.replaces = False
    for node in cluster.nodes[:7]:
        node.refuses = Kind.DISK_FULL
    for size in (SMALL, LARGE):
        with pytest.raises(AtollError) as caught:
            await cluster.put(pattern(size))
        assert caught.value.kind is Kind.TOO_FEW_NODES
        assert caught.value.meaning.http_status == 503
        assert "disk_full" in str(caught.value)
        assert cluster.puts_running == 0
        await asyncio.sleep(0)
        assert cluster.pool.bytes_in_use == 0


async def test_the_durable_minimum_is_enough_but_nothing_below() -> None:
    for dead, ok in [(2, True), (3, False)]:
        cluster = Cluster(8, scheme=RS_4_8)
        cluster.replaces = False
        for node in cluster.nodes[:dead]:
            node.dead = True
        for size in (SMALL, LARGE):
            if ok:
                segments = await cluster.put(pattern(size))
                assert len(segments[0].pieces) == 6
                assert await cluster.get(segments) == pattern(size)
            else:
                with pytest.raises(AtollError) as caught:
                    await cluster.put(pattern(size))
                assert caught.value.kind is Kind.TOO_FEW_NODES


@pytest.mark.parametrize("size", [4096, SMALL, LARGE])
async def test_one_node_that_hangs_is_left_behind(size: int) -> None:
    cluster = Cluster(12, upload=UploadLimits(piece_timeout_s=60, tail_s_min=0.02))
    cluster.spares = False
    order = cluster._order

    def order_and_hang(request: OrderSegment):  # type: ignore[no-untyped-def]
        grant = order(request)
        cluster.nodes[grant.grants[0].alias - 1].hangs_on_put = True
        return grant

    cluster._order = order_and_hang  # type: ignore[method-assign]
    data = pattern(size)
    async with asyncio.timeout(5):
        segments = await cluster.put(data)
    assert [piece.index for piece in segments[0].pieces] == list(range(1, segments[0].n))
    assert cluster.puts_running == 0
    assert await cluster.get(segments) == data


@pytest.mark.parametrize("size", [SMALL, LARGE, 12 << 20])
async def test_several_nodes_that_hang_get_rivals(size: int) -> None:
    cluster = Cluster(
        16,
        scheme=RS_4_8,
        upload=UploadLimits(piece_timeout_s=60, tail_s_min=0.02, lag_s=0.05, late_s_min=0.2),
    )
    order = cluster._order

    def order_and_hang(request: OrderSegment):  # type: ignore[no-untyped-def]
        grant = order(request)
        for one in grant.grants[1:3]:
            cluster.nodes[one.alias - 1].stalls_after_bytes = 10_000
        return grant

    cluster._order = order_and_hang  # type: ignore[method-assign]
    data = pattern(size)
    async with asyncio.timeout(10):
        segments = await cluster.put(data)
    assert len(segments[0].pieces) >= RS_4_8.commit
    assert await cluster.get(segments) == data
    assert cluster.puts_running == 0


@pytest.mark.parametrize("hedges", [0, 20])
async def test_slow_nodes_are_doubled_only_as_far_as_a_worker_can_afford(hedges: int) -> None:
    cluster = Cluster(
        16,
        scheme=RS_4_8,
        upload=UploadLimits(piece_timeout_s=60, tail_s_min=0.02, lag_s=0.05, late_s_min=0.2),
    )
    cluster.uploader.hedges = HedgeBudget(hedges)
    for node in cluster.nodes[:2]:
        node.stalls_after_bytes = 10_000
    async with asyncio.timeout(10):
        for _ in range(4):
            await cluster.put(pattern(LARGE))
    asked = sum(node.puts for node in cluster.nodes)
    assert (asked > 4 * RS_4_8.n) == bool(hedges)


async def test_a_stalled_node_holds_back_neither_the_source_nor_the_others() -> None:
    cluster = Cluster(8, scheme=RS_4_8, pool_bytes=8 << 20, upload=UploadLimits(piece_timeout_s=60))
    cluster.nodes[0].stalls_after_bytes = 1
    data = pattern(20 << 20)
    async with asyncio.timeout(10):
        segments = await cluster.put(data)
    assert 1 not in {piece.alias for piece in segments[0].pieces}
    assert cluster.pool.bytes_high_water <= 8 << 20
    assert await cluster.get(segments) == data


async def test_a_receipt_for_something_else_does_not_count() -> None:
    cluster = Cluster(12)
    put = cluster._put
    attacker = cluster.nodes[0]

    async def put_badly(node, piece_id, *rest):  # type: ignore[no-untyped-def]
        receipt = await put(node, piece_id, *rest)
        if node is attacker:
            return bytes([*receipt[:20], receipt[20] ^ 1, *receipt[21:]])
        return receipt

    cluster._put = put_badly  # type: ignore[method-assign]
    for _ in range(6):
        (segment,) = await cluster.put(pattern(SMALL))
        assert 1 not in {piece.alias for piece in segment.pieces}


async def test_an_answer_before_the_end_of_the_piece_does_not_count() -> None:
    cluster = Cluster(12, scheme=RS_4_8)
    put = cluster._put
    attacker = cluster.nodes[0]

    async def put_early(node, piece_id, order, body, timeout_s):  # type: ignore[no-untyped-def]
        if node is attacker:
            await anext(body)
            return bytes(200)
        return await put(node, piece_id, order, body, timeout_s)

    cluster._put = put_early  # type: ignore[method-assign]
    for size in (SMALL, LARGE):
        for _ in range(3):
            (segment,) = await cluster.put(pattern(size))
            assert 1 not in {piece.alias for piece in segment.pieces}


async def test_pieces_of_a_large_segment_are_never_all_in_memory() -> None:
    cluster = Cluster(8, scheme=RS_4_8, pool_bytes=8 << 20)
    data = pattern(40 << 20)
    segments = await cluster.put(data, cut=1 << 20)
    assert len(segments[0].pieces) == 8
    assert cluster.pool.bytes_high_water <= 8 << 20
    assert await cluster.get(segments) == data


async def test_loss_after_the_kept_groups_were_shed_is_left_to_repair() -> None:
    cluster = Cluster(12, scheme=RS_4_8, pool_bytes=8 << 20)
    order = cluster._order

    def order_and_doom(request: OrderSegment):  # type: ignore[no-untyped-def]
        grant = order(request)
        for one in grant.grants[:2]:
            cluster.nodes[one.alias - 1].dies_after_bytes = 4 << 20
        return grant

    cluster._order = order_and_doom  # type: ignore[method-assign]
    data = pattern(40 << 20)
    segments = await cluster.put(data, cut=1 << 20)
    assert len(segments[0].pieces) == RS_4_8.durable
    assert await cluster.get(segments) == data


async def test_an_unknown_fault_of_a_transport_is_raised_not_hung() -> None:
    cluster = Cluster(12)

    async def put_badly(*_):  # type: ignore[no-untyped-def]
        raise ZeroDivisionError

    cluster._put = put_badly  # type: ignore[method-assign,assignment]
    for size in (SMALL, LARGE):
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(5):
                await cluster.put(pattern(size))


async def test_a_grant_without_all_pieces_is_refused() -> None:
    cluster = Cluster(12)
    order = cluster._order

    def order_short(request: OrderSegment):  # type: ignore[no-untyped-def]
        grant = order(request)
        del grant.grants[1]
        return grant

    cluster._order = order_short  # type: ignore[method-assign]
    with pytest.raises(AtollError) as caught:
        await cluster.objects.write_object(BUCKET, "key", 10, cut_up(b"0123456789", 10))
    assert caught.value.kind is Kind.INTERNAL


async def test_uploads_wait_for_their_turn_and_are_refused_when_it_never_comes() -> None:
    cluster = Cluster(12, scheme=RS_4_8, upload=UploadLimits(uploads_max=1, wait_s_max=0.01))
    begun, go_on = asyncio.Event(), asyncio.Event()
    data = pattern(LARGE)

    async def source():  # type: ignore[no-untyped-def]
        begun.set()
        await go_on.wait()
        yield data

    first = asyncio.create_task(cluster.objects.write_object(BUCKET, "key", LARGE, source()))
    await begun.wait()
    with pytest.raises(AtollError) as caught:
        await cluster.put(data)
    assert caught.value.kind is Kind.OVERLOADED
    assert await cluster.put(b"small ones need no turn")
    go_on.set()
    assert await cluster.get(await first) == data
    assert await cluster.put(data)
