"""Where capsules and manifests differ: what is locked comes back, else what was acknowledged."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.client.recovery.world import Recovered, World

from atoll.client.recovery.model import Source
from atoll.core.identity import Identity
from atoll.core.messages import BucketInfo
from atoll.core.pieces import parse_header

DAY_MS = 24 * 3600 * 1000
BODY = random.Random(1).randbytes(50_000)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


async def put(world: World, bucket: BucketInfo, key: str, body: bytes) -> bytes:
    """Store an object of one segment; return the segment."""
    before = world.segments()
    await world.put(bucket, key, body)
    await asyncio.sleep(0.005)
    (segment,) = world.segments() - before
    return segment


async def upload(world: World, bucket: BucketInfo, key: str, body: bytes) -> bytes:
    """Upload an object whose commit is refused; return its segment."""
    before = world.segments()

    async def source() -> AsyncIterator[memoryview]:
        yield memoryview(body)

    await world.cluster.objects.write_object(bucket, key, len(body), source())
    (segment,) = world.segments() - before
    return segment


def lock(world: World, bucket: BucketInfo, segment: bytes, key: Identity | None = None) -> None:
    world.lock(bucket, segment, world.cluster.clock.now_ms() + DAY_MS, key)


def body_of(back: Recovered, key: str) -> bytes | None:
    return back.bodies.get(("photos", key))


def notes(back: Recovered) -> str:
    return "; ".join(f"{note.what}: {note.why}" for note in back.search.notes)


async def test_an_upload_that_broke_off_takes_nothings_place(world: World) -> None:
    bucket = await world.make_bucket()
    await put(world, bucket, "a", b"acknowledged")
    await world.writer.flush()
    broken = await upload(world, bucket, "a", BODY)
    new = await upload(world, bucket, "b", BODY)
    kept: dict[bytes, int] = {}
    for node in world.cluster.nodes:
        for piece, raw in list(node.pieces.items()):
            header = parse_header(raw)
            if header.segment_id in (broken, new) and header.index >= header.k - 1:
                del node.pieces[piece]
                kept[header.segment_id] = header.k
    assert all(k > 1 for k in kept.values()), "some pieces are left, too few"
    back = await world.recover()
    assert back.bodies == {("photos", "a"): b"acknowledged"}
    assert back.report.problems_total == 0
    assert "photos/a: an upload that was not finished" in notes(back)


async def test_an_upload_that_was_refused_takes_nothings_place(world: World) -> None:
    bucket = await world.make_bucket()
    await put(world, bucket, "a", b"acknowledged")
    await world.writer.flush()
    world.trash.add(await upload(world, bucket, "a", b"refused"))
    back = await world.recover()
    assert body_of(back, "a") == b"acknowledged"


async def test_where_a_coordinator_deleted_everything_the_newest_comes_back(world: World) -> None:
    bucket = await world.make_bucket()
    old = await put(world, bucket, "a", b"old")
    await world.writer.flush()
    world.trash |= {old, await put(world, bucket, "a", b"newer, in no manifest yet")}
    back = await world.recover()
    assert body_of(back, "a") == b"newer, in no manifest yet"


async def test_what_is_locked_comes_back_though_manifests_say_it_was_deleted(world: World) -> None:
    bucket = await world.make_bucket()
    lock(world, bucket, await put(world, bucket, "a", b"locked"))
    await put(world, bucket, "b", b"not locked")
    await world.writer.flush()
    await world.delete(bucket, "a", "b")
    await world.writer.flush()
    await world.writer.snapshot(bucket)
    back = await world.recover()
    assert back.bodies == {("photos", "a"): b"locked"}
    assert back.objects["photos", "a"].source == Source.CAPSULES


async def test_what_is_locked_gives_way_to_no_version_without_a_lock(world: World) -> None:
    bucket = await world.make_bucket()
    lock(world, bucket, await put(world, bucket, "a", b"locked"))
    await world.writer.flush()
    await put(world, bucket, "a", b"pay us")
    await world.writer.flush()
    await put(world, bucket, "a", b"pay us more")
    back = await world.recover()
    assert body_of(back, "a") == b"locked"
    assert "photos/a: a version was left out" in notes(back)


@pytest.mark.parametrize("flushed", [False, True])
async def test_of_two_locked_versions_the_older_kept_the_other_out(
    world: World, flushed: bool
) -> None:
    bucket = await world.make_bucket()
    lock(world, bucket, await put(world, bucket, "a", b"first"))
    lock(world, bucket, await put(world, bucket, "a", b"second"))
    if flushed:
        await world.writer.flush()
    back = await world.recover()
    assert list(back.bodies.values()) == [b"first"]
    assert "/a: a version was left out" in notes(back)


@pytest.mark.parametrize("lie", ["another key", "over"])
async def test_records_that_bind_nobody_change_nothing(world: World, lie: str) -> None:
    bucket = await world.make_bucket()
    segment = await put(world, bucket, "a", b"gone")
    await world.writer.flush()
    await world.delete(bucket, "a")
    await world.writer.flush()
    if lie == "another key":
        lock(world, bucket, segment, Identity(b"a thief's".ljust(32)))
    else:
        world.lock(bucket, segment, world.cluster.clock.now_ms() - 1, None)
    assert (await world.recover()).bodies == {}
