"""Objects there and back: all sizes, all ranges, all cuts of the source."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.client.cluster import BUCKET, Cluster, cut_up, pattern

from atoll.client import objects as objects_module
from atoll.client.objects import segment_sizes
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import OrderSegment
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, SEGMENT_PLAIN_BYTES_MAX, Scheme

UNIT = 1024 - 16
SIZES = [
    0, 1, 4096, 8191, 8192, 8193, 9 * UNIT - 1, 9 * UNIT, 9 * UNIT + 1, 12 * UNIT, 65_536,
    (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 1 << 20, (1 << 20) + 1, (4 << 20) + 1,
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", [RS_2_4, RS_4_8, RS_10_20], ids=lambda s: s.name)
async def test_an_object_comes_back_as_it_was(size: int, scheme: Scheme) -> None:
    cluster = Cluster(24, scheme=scheme)
    data = pattern(size)
    segments = await cluster.put(data)
    assert await cluster.get(segments) == data
    assert all(len(s.pieces) == s.n for s in segments)
    await asyncio.sleep(0)
    assert cluster.pool.bytes_in_use == 0


def test_sizes_of_segments_add_up() -> None:
    largest = SEGMENT_PLAIN_BYTES_MAX
    assert segment_sizes(0) == []
    assert segment_sizes(largest - 1) == [largest - 1]
    assert segment_sizes(largest) == [largest]
    assert segment_sizes(largest + 1) == [largest, 1]
    assert segment_sizes(3 * largest) == [largest] * 3


async def test_an_object_of_several_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_module, "SEGMENT_PLAIN_BYTES_MAX", 300_000)
    cluster = Cluster()
    data = pattern(1_000_001)
    segments = await cluster.put(data, cut=70_001)
    assert [s.plain_bytes for s in segments] == [300_000, 300_000, 300_000, 100_001]
    assert await cluster.get(segments) == data
    assert await cluster.get(segments, 299_999, 600_001) == data[299_999:600_001]
    assert await cluster.get(segments, 900_000, 900_001) == data[900_000:900_001]
    assert await cluster.get(segments, 5, 5) == b""


async def test_the_next_segment_is_ordered_while_one_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects_module, "SEGMENT_PLAIN_BYTES_MAX", 300_000)
    cluster = Cluster()
    ordered_when: list[int] = []

    async def source():  # type: ignore[no-untyped-def]
        async for part in cut_up(pattern(600_000), 50_000):
            await asyncio.sleep(0)
            ordered_when.append(sum(isinstance(q, OrderSegment) for q in cluster.questions))
            yield part

    await cluster.objects.write_object(BUCKET, "key", 600_000, source())
    assert ordered_when[5] == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_range_of_any_size(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 400_000))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    cut = data.draw(st.integers(1000, 300_000))
    content = pattern(size)

    async def there_and_back() -> bytes:
        cluster = Cluster()
        return await cluster.get(await cluster.put(content, cut=cut), start, end)

    assert asyncio.run(there_and_back()) == content[start:end]


@pytest.mark.parametrize(("said", "sent"), [(10, 9), (10, 11), (200_000, 199_999), (0, 1)])
async def test_a_body_of_another_length_is_refused(said: int, sent: int) -> None:
    cluster = Cluster()
    with pytest.raises(AtollError) as caught:
        await cluster.objects.write_object(BUCKET, "key", said, cut_up(pattern(sent), 50_000))
    assert caught.value.kind is Kind.BAD_REQUEST
    assert cluster.puts_running == 0


async def test_a_source_that_fails_leaves_nothing_behind() -> None:
    cluster = Cluster()

    async def source():  # type: ignore[no-untyped-def]
        yield pattern(2 << 20)
        raise ConnectionResetError("the customer went away")

    with pytest.raises(ConnectionResetError):
        await cluster.objects.write_object(BUCKET, "key", 8 << 20, source())
    assert cluster.puts_running == 0
    await asyncio.sleep(0)
    assert cluster.pool.bytes_in_use == 0


async def test_a_cancelled_upload_leaves_nothing_behind() -> None:
    cluster = Cluster()
    sent = asyncio.Event()

    async def source():  # type: ignore[no-untyped-def]
        yield pattern(2 << 20)
        sent.set()
        await asyncio.get_running_loop().create_future()

    write = cluster.objects.write_object(BUCKET, "key", 8 << 20, source())
    task = asyncio.create_task(write)
    await sent.wait()
    assert cluster.puts_running == 8
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del write, task
    assert cluster.puts_running == 0
    await asyncio.sleep(0)
    assert cluster.pool.bytes_in_use == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_reader_that_leaves_early_leaves_nothing_behind() -> None:
    cluster = Cluster()
    segments = await cluster.put(pattern(5 << 20))
    async with aclosing(cluster.objects.read_object(BUCKET, "key", segments, 0, 5 << 20)) as views:
        async for _ in views:
            break
    assert all(stream.closed for stream in cluster.streams)
    del views, _
    await asyncio.sleep(0)
    assert cluster.pool.bytes_in_use == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_view_keeps_its_content_as_long_as_it_is_held() -> None:
    cluster = Cluster(pool_bytes=16 << 20)
    data = pattern(5 << 20)
    segments = await cluster.put(data)
    views = [
        view async for view in cluster.objects.read_object(BUCKET, "key", segments, 0, len(data))
    ]
    await cluster.put(pattern(5 << 20, seed=8))
    assert b"".join(views) == data


async def test_a_range_outside_the_object_is_refused() -> None:
    cluster = Cluster()
    segments = await cluster.put(pattern(100))
    for start, end in [(0, 101), (-1, 5), (50, 40)]:
        with pytest.raises(AtollError) as caught:
            await cluster.get(segments, start, end)
        assert caught.value.kind is Kind.BAD_REQUEST


async def test_another_key_does_not_open_an_object() -> None:
    cluster = Cluster()
    segments = await cluster.put(pattern(100), key="mine")
    with pytest.raises(AtollError) as caught:
        await cluster.get(segments, key="yours")
    assert caught.value.kind is Kind.CORRUPT


async def test_many_uploads_and_downloads_share_a_small_pool() -> None:
    cluster = Cluster(pool_bytes=12 << 20)
    contents = [pattern(3 << 20, seed) for seed in range(16)]
    stored = await asyncio.gather(*(cluster.put(content) for content in contents))
    read = await asyncio.gather(*(cluster.get(segments) for segments in stored))
    assert read == contents
    assert cluster.pool.bytes_high_water <= 12 << 20
    assert cluster.pool.bytes_mapped <= 12 << 20
