"""From the phrase and nodes alone: exact, through liars, deaths and any history of writes."""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.unit.client.recovery.world import World

from atoll.client.recovery.model import Source
from atoll.core.errors import AtollError
from atoll.core.messages import BucketInfo
from atoll.core.messages.recovery import SetManifestMode


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.close()


async def test_what_is_in_manifests_comes_back_exactly(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "a", b"tiny")
    await world.put(bucket, "b", random.Random(1).randbytes(300_000), user_metadata={"x": "y"})
    await world.put(bucket, "empty", b"")
    await world.put(bucket, "gone", b"soon")
    await world.writer.flush()
    await world.put(bucket, "a", b"newer")
    await world.delete(bucket, "gone")
    await world.writer.flush()
    back = await world.recover()
    assert back.bodies == {
        ("photos", "a"): b"newer",
        ("photos", "b"): random.Random(1).randbytes(300_000),
        ("photos", "empty"): b"",
    }
    assert back.objects["photos", "b"].facts.user_metadata == {"x": "y"}
    assert back.report.problems_total == 0
    assert back.search.problems == []
    assert {one.source for one in back.objects.values()} == {Source.MANIFEST}


async def test_what_is_in_no_manifest_comes_back_by_its_capsules(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "old", b"kept")
    await world.put(bucket, "both", b"before")
    await world.writer.flush()
    await asyncio.sleep(0.005)
    await world.put(bucket, "new", b"just in time")
    await world.put(bucket, "both", b"after")
    back = await world.recover()
    assert back.bodies["photos", "new"] == b"just in time"
    assert back.bodies["photos", "both"] == b"after"
    assert back.objects["photos", "new"].source == Source.CAPSULES
    assert back.objects["photos", "old"].source == Source.MANIFEST
    assert back.report.figures.objects_from_capsules == 2


async def test_without_any_manifest_capsules_are_enough(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "deep/key", b"body")
    back = await world.recover()
    name = f"bucket-{bucket.bucket.hex()}"
    assert back.bodies == {(name, "deep/key"): b"body"}
    assert any("catalogue" in one.what for one in back.search.problems)


async def test_a_snapshot_stands_for_what_came_before(world: World) -> None:
    bucket = await world.make_bucket()
    expected = {}
    for number in range(40):
        await world.put(bucket, f"k{number}", b"%d" % number)
        await world.writer.flush()
        expected["photos", f"k{number}"] = b"%d" % number
    await world.delete(bucket, "k3")
    del expected["photos", "k3"]
    await world.writer.flush()
    await world.writer.snapshot(bucket)
    await world.put(bucket, "after", b"it")
    await world.writer.flush()
    expected["photos", "after"] = b"it"
    back = await world.recover()
    assert back.bodies == expected
    # Old deltas still lie on these nodes; nobody follows them.
    assert back.report.figures.manifests == 2


async def test_liars_dead_and_confused_nodes_change_nothing(world: World) -> None:
    bucket = await world.make_bucket()
    big = random.Random(2).randbytes(400_000)
    for number in range(6):
        await world.put(bucket, f"k{number}", b"body %d" % number)
    await world.put(bucket, "big", big)
    await world.writer.flush()
    nodes = world.cluster.nodes
    nodes[0].dead = True
    nodes[1].lies = True
    world.lists_nonsense.add(nodes[2].alias)
    back = await world.recover()
    expected = {("photos", f"k{number}"): b"body %d" % number for number in range(6)}
    assert back.bodies == expected | {("photos", "big"): big}
    assert "refused" in back.nodes.outcomes[0].fault


async def test_another_phrase_finds_nothing(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "a", b"secret")
    await world.writer.flush()
    back = await world.recover(b"another root".ljust(32))
    assert back.bodies == {}
    assert back.nodes.outcomes[0].pieces == 0


async def test_what_is_lost_is_named(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "kept", b"kept")
    await world.writer.flush()
    before = {piece for node in world.cluster.nodes for piece in node.pieces}
    await world.put(bucket, "lost", random.Random(3).randbytes(50_000))
    pieces = {piece for node in world.cluster.nodes for piece in node.pieces} - before
    await world.writer.flush()
    for node in world.cluster.nodes:
        for piece in pieces:
            node.pieces.pop(piece, None)
    back = await world.recover()
    assert back.bodies == {("photos", "kept"): b"kept"}
    assert [one.what for one in back.report.problems] == ["photos/lost"]
    assert back.report.figures.failed == 1


async def test_the_phrase_leads_to_accounts_that_others_named(world: World) -> None:
    other = b"chosen elsewhere"
    await world.make_bucket("theirs", account=other)
    await world.make_bucket("ours")
    await world.writer.flush()
    back = await world.recover()
    found = back.search.catalogues
    assert {account: [e.bucket.name for e in one.entries] for account, one in found.items()} == {
        world.account: ["ours"],
        other: ["theirs"],
    }


async def test_in_mode_sync_a_write_is_in_a_manifest_when_it_returns(world: World) -> None:
    bucket = await world.make_bucket()
    request = SetManifestMode(bucket=bucket.bucket, mode="sync")
    await world.control.ask(request, BucketInfo)
    running = asyncio.create_task(world.writer.run())
    try:
        for number in range(5):
            await world.put(bucket, f"k{number}", b"%d" % number)
        await world.delete(bucket, "k0")
        back = await world.recover()
    finally:
        running.cancel()
    assert sorted(back.bodies) == [("photos", f"k{number}") for number in range(1, 5)]
    assert {one.source for one in back.objects.values()} == {Source.MANIFEST}


async def test_a_writer_that_dies_is_followed_by_another(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "a", b"1")
    for node in world.cluster.nodes:
        node.dead = True
    with pytest.raises(AtollError):
        await world.writer.flush()
    for node in world.cluster.nodes:
        node.dead = False
    await world.put(bucket, "b", b"2")
    await world.writer.flush()
    back = await world.recover()
    assert {key: one.source for key, one in back.objects.items()} == {
        ("photos", "a"): Source.MANIFEST,
        ("photos", "b"): Source.MANIFEST,
    }


STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 2000)),
    st.tuples(st.just("delete"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("flush"), st.just(0), st.just(0)),
    st.tuples(st.just("snapshot"), st.just(0), st.just(0)),
    st.tuples(st.just("fail"), st.just(0), st.just(0)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=14))
@example([("put", 0, 1), ("delete", 0, 0), ("snapshot", 0, 0)])
def test_any_history_comes_back(history: list[tuple[str, int, int]]) -> None:
    """Whatever was written, deleted, compacted, and failed: after a flush it is exact."""

    async def live(folder: Path) -> None:
        world = World(folder)
        bucket = await world.make_bucket()
        model: dict[tuple[str, str], bytes] = {}
        for what, number, size in history:
            key = f"k{number}"
            if what == "put":
                body = random.Random(f"{key}/{size}").randbytes(size)
                await world.put(bucket, key, body)
                model["photos", key] = body
            elif what == "delete":
                await world.delete(bucket, key)
                model.pop(("photos", key), None)
            elif what == "flush":
                await world.writer.flush()
            elif what == "snapshot":
                await world.writer.flush()
                await world.writer.snapshot(bucket)
            else:
                for node in world.cluster.nodes[1:]:
                    node.dead = True
                with contextlib.suppress(AtollError):
                    await world.writer.flush()
                for node in world.cluster.nodes:
                    node.dead = False
        await world.writer.flush()
        back = await world.recover()
        assert back.bodies == model
        assert back.report.problems_total == 0
        await world.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder)))
