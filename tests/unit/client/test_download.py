"""Downloads: any k nodes, late nodes, dead nodes, lying nodes, few bytes."""

import asyncio
import itertools
import random

import msgspec
import pytest
from tests.unit.client.cluster import BUCKET, Cluster, SeededRng, pattern

from atoll.client.transfer.download import DownloadLimits
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import GrantReads
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20

SHORT, LONG = 50_000, 3 << 20


@pytest.mark.parametrize("size", [4096, SHORT, LONG])
async def test_every_subset_of_k_nodes_reads_back(size: int) -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    data = pattern(size)
    segments = await cluster.put(data)
    (segment,) = segments
    for alive in itertools.combinations(range(segment.n), segment.k):
        for index in range(segment.n):
            cluster.holder(segment, index).dead = index not in alive
        assert await cluster.get(segments) == data, alive
        assert await cluster.get(segments, size // 2, size // 2 + 1) == data[size // 2 :][:1]


@pytest.mark.parametrize("size", [4096, SHORT, LONG])
async def test_one_node_too_few_is_a_clear_error_before_the_first_byte(size: int) -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    segments = await cluster.put(pattern(size))
    (segment,) = segments
    for index in range(segment.n - segment.k + 1):
        cluster.holder(segment, index).dead = True
    with pytest.raises(AtollError) as caught:
        await cluster.get(segments)
    assert caught.value.kind is Kind.TOO_FEW_NODES
    for index in range(segment.n):
        cluster.holder(segment, index).dead = False
        if index <= segment.n - segment.k:
            cluster.holder(segment, index).pieces.clear()
    with pytest.raises(AtollError) as caught:
        await cluster.get(segments)
    assert caught.value.kind is Kind.DATA_LOST


@pytest.mark.parametrize("size", [4096, SHORT, LONG])
@pytest.mark.parametrize("once", [False, True], ids=["always", "once"])
async def test_any_n_minus_k_liars_are_tolerated_and_named(size: int, once: bool) -> None:
    for chosen in [(0,), (3,), (0, 1), (0, 4), (2, 5, 6), (0, 1, 4, 5), (0, 1, 2, 3)]:
        cluster = Cluster(8, scheme=RS_4_8)
        data = pattern(size)
        segments = await cluster.put(data)
        (segment,) = segments
        liars = [index for index in chosen if index < segment.n][: segment.n - segment.k]
        for index in liars:
            cluster.holder(segment, index).lies = not once
            cluster.holder(segment, index).lies_once = once
        assert await cluster.get(segments) == data
        await cluster.downloader.examiner.settle()
        served = {i for i in liars if cluster.holder(segment, i).bytes_served}
        named = {report.index for report in cluster.liars}
        assert named <= set(liars), "nobody honest is ever named"
        if once:
            told = [i for i in liars if not cluster.holder(segment, i).lies_once]
            assert named or not told, "a lie told once is traced as well"
        else:
            assert named == served, "whoever was asked and lied is named"
        for report in cluster.liars:
            assert report.alias == cluster.holder(segment, report.index).alias


async def test_lies_in_parity_are_traced_among_several_suspects() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    data = pattern(LONG)
    segments = await cluster.put(data)
    (segment,) = segments
    for index in (0, 1):
        cluster.holder(segment, index).dead = True
    # Of six pieces left two are wrong: every choice but one of four decodes wrongly.
    for index in (4, 5):
        cluster.holder(segment, index).lies = True
    assert await cluster.get(segments) == data
    await cluster.downloader.examiner.settle()
    assert {report.index for report in cluster.liars} <= {4, 5}


@pytest.mark.parametrize(("size", "liar"), [(8_193, 9), (8_193, 8), (300_000, 9), (300_000, 7)])
@pytest.mark.parametrize("lies_at", [0, -1])
@pytest.mark.parametrize("dead", [0, 2])
async def test_a_lie_where_no_tag_reaches_spoils_nothing_that_is_rebuilt(
    size: int, liar: int, lies_at: int, dead: int
) -> None:
    # Units of the last row end in zeros, or are nothing else: others are rebuilt from them too.
    cluster = Cluster(25, scheme=RS_10_20)
    data = pattern(size)
    segments = await cluster.put(data)
    (segment,) = segments
    cluster.holder(segment, dead).dead = True
    lying = cluster.holder(segment, liar)
    lying.lies, lying.lies_at = True, lies_at
    for _ in range(3):
        assert await cluster.get(segments) == data
    await cluster.downloader.examiner.settle()
    assert {report.index for report in cluster.liars} <= {liar}


@pytest.mark.parametrize("seed", range(25))
async def test_any_liars_are_tolerated_as_long_as_k_honest_pieces_are_left(seed: int) -> None:
    chance = random.Random(seed)
    cluster = Cluster(25, scheme=RS_10_20)
    cluster.rng = SeededRng(seed)
    data = pattern(chance.choice([8_193, 8_193, 40_000, 300_000, 1 << 20]), seed)
    (segment,) = await cluster.put(data)
    kept = chance.sample(list(segment.pieces), chance.randrange(15, len(segment.pieces) + 1))
    for piece in chance.sample(kept, 5):
        node = cluster.nodes[piece.alias - 1]
        if chance.random() < 0.3:
            node.refuses_reads = Kind.OVERLOADED
        else:
            node.lies, node.lies_at = True, chance.choice([0, 500, -1])
    pieces = sorted(kept, key=lambda piece: piece.index)
    segments = [msgspec.structs.replace(segment, pieces=pieces)]
    for _ in range(2):
        assert await cluster.get(segments) == data


async def test_too_many_liars_deliver_nothing_wrong() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    segments = await cluster.put(pattern(SHORT))
    for index in range(5):
        cluster.holder(segments[0], index).lies = True
    with pytest.raises(AtollError) as caught:
        await cluster.get(segments)
    assert caught.value.kind in (Kind.TOO_FEW_NODES, Kind.DATA_LOST)


async def test_a_stream_goes_on_when_nodes_die_in_its_middle() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    data = pattern(8 << 20)
    segments = await cluster.put(data)
    for index in range(4):
        cluster.holder(segments[0], index).dies_after_reads = 2 + index
    assert await cluster.get(segments) == data
    assert all(cluster.holder(segments[0], index).dead for index in range(4))


@pytest.mark.parametrize("size", [4096, SHORT, LONG])
async def test_nodes_that_hang_get_rivals(size: int) -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    data = pattern(size)
    segments = await cluster.put(data)
    (segment,) = segments
    for index in range(segment.n - segment.k):
        cluster.holder(segment, index).hangs_on_get = True
    async with asyncio.timeout(5):
        assert await cluster.get(segments) == data
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert all(stream.closed for stream in cluster.streams)


async def test_a_small_range_asks_one_node_for_one_unit() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    size = 17 << 20
    segments = await cluster.put(pattern(size))
    unit = segments[0].unit_bytes
    assert unit == 64 << 10
    plain = unit - 16
    for start, end, units in [
        (0, 1, 1),
        (plain - 1, plain, 1),
        (plain - 1, plain + 1, 2),
        (size - 1, size, 1),
        (3 * plain, 5 * plain, 2),
    ]:
        for node in cluster.nodes:
            node.gets = node.bytes_served = 0
        assert await cluster.get(segments, start, end) == pattern(size)[start:end]
        assert sum(node.gets for node in cluster.nodes) == units
        assert sum(node.bytes_served for node in cluster.nodes) == units * unit


async def test_a_whole_read_asks_for_each_column_once() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    segments = await cluster.put(pattern(LONG))
    assert await cluster.get(segments) == pattern(LONG)
    assert sum(node.gets for node in cluster.nodes) == 4


async def test_reading_holds_a_bounded_piece_of_the_object_in_memory() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    segments = await cluster.put(pattern(20 << 20))
    cluster.pool.bytes_high_water = 0
    async for view in cluster.objects.read_object(BUCKET, "key", segments, 0, 20 << 20):
        assert len(view) <= 2 << 20
    assert cluster.pool.bytes_high_water <= 10 << 20


async def test_a_segment_that_was_uploaded_wrong_accuses_nobody() -> None:
    cluster = Cluster(4, scheme=RS_2_4)
    segments = await cluster.put(pattern(SHORT))
    cluster.keyring._ciphers.put(
        (segments[0].segment, segments[0].wrapped_key),
        cluster.keyring.new_cipher(b"k" * 32, segments[0].segment)[0],
    )
    with pytest.raises(AtollError) as caught:
        await cluster.get(segments)
    assert caught.value.kind is Kind.DATA_LOST
    await cluster.downloader.examiner.settle()
    assert not cluster.liars


async def test_a_slow_reader_holds_neither_streams_nor_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("atoll.client.transfer.fetch.LANE_IDLE_S_MAX", 0.0)
    cluster = Cluster(8, scheme=RS_4_8, download=DownloadLimits(streams_max=1))
    data = pattern(8 << 20)
    segments = await cluster.put(data)
    seen = bytearray()
    async for view in cluster.objects.read_object(BUCKET, "key", segments, 0, len(data)):
        seen += view
        # The reader lingers; somebody else reads all of it meanwhile, by the only turn there is.
        if len(seen) == len(view):
            async with asyncio.timeout(5):
                assert await cluster.get(segments) == data
        async with asyncio.timeout(5), cluster.downloader.turns:
            pass
        assert all(stream.closed for stream in cluster.streams)
    assert seen == data
    piece_bytes = cluster.streams[0].length
    assert cluster.streams[-1].length <= (1 << 20) // 4 < piece_bytes


async def test_long_reads_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.client.transfer.fetch.TURN_S_MAX", 0.01)
    cluster = Cluster(8, scheme=RS_4_8, download=DownloadLimits(streams_max=1))
    segments = await cluster.put(pattern(8 << 20))
    reading = cluster.objects.read_object(BUCKET, "key", segments, 0, 8 << 20)
    await anext(reading)
    with pytest.raises(AtollError) as caught:
        await cluster.get(segments)
    assert caught.value.kind is Kind.OVERLOADED
    assert await cluster.get(segments, 5, 9) == pattern(8 << 20)[5:9]
    await reading.aclose()
    assert await cluster.get(segments) == pattern(8 << 20)


async def test_a_stream_that_was_cut_is_opened_again_at_the_same_node() -> None:
    cluster = Cluster(8, scheme=RS_4_8)
    data = pattern(8 << 20)
    segments = await cluster.put(data)
    for index in range(4):
        cluster.holder(segments[0], index).cuts_streams = 2
    assert await cluster.get(segments) == data
    asked = {i for i in range(8) if cluster.holder(segments[0], i).gets}
    assert asked == {0, 1, 2, 3}


async def test_old_read_limits_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.client.transfer.fetch.GRANTS_S_MAX", -1.0)
    cluster = Cluster(8, scheme=RS_4_8)
    segments = await cluster.put(pattern(8 << 20))
    assert await cluster.get(segments) == pattern(8 << 20)
    assert len([q for q in cluster.questions if isinstance(q, GrantReads)]) > 2
