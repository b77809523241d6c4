"""Segments copied into a wider scheme over the real metadata; only nodes are in memory."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.client.cluster import Cluster, MemoryNode, pattern
from tests.unit.coordinator.metadata.world import Metadata
from tests.unit.coordinator.placement.test_service import COORDINATOR, SeededRng, Table

from atoll.client import objects as objects_module
from atoll.client.packing.pack import Packer
from atoll.client.packing.upgrade import Upgrader
from atoll.coordinator.packing.rules import PackingProfile
from atoll.coordinator.packing.service import PackingService
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.upgrade.rules import UpgradeProfile
from atoll.coordinator.upgrade.service import UpgradeService
from atoll.core.capsule import Capsule, Description, StreamOrigin, open_capsule, tlv_of
from atoll.core.crypto import unwrap_key
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import BucketInfo, DiscardSegments, SegmentRecord
from atoll.core.messages.upgrades import CommitUpgrade
from atoll.core.pieces import Header, TlvType, parse_header
from atoll.runtime.database import SqlDatabase

PROFILE = UpgradeProfile(
    hold_ms=1,
    age_ms=1,
    small_age_ms=1,
    survey_ms=1,
    grace_ms=60_000,
    bytes_per_hour_max=1 << 40,
    segments_per_hour_max=1_000_000,
)
PACKING = PackingProfile(age_ms=1, bytes_min=20_000, pass_ms=1)
ORIGIN = StreamOrigin(description=Description("image/jpeg", {}, {"camera": "old"}))


class Cloud:
    """A cluster that grows, whose objects are committed to a database."""

    def __init__(self, database: SqlDatabase, nodes: int = 6) -> None:
        self.cluster = Cluster(nodes)
        self.metadata = Metadata(database)
        clock = self.metadata.clock
        self.table = Table(nodes)
        placement = PlacementService(clock, SeededRng(1), COORDINATOR, self.table)
        self.upgrades = UpgradeService(clock, database, placement, PROFILE)
        self.packing = PackingService(clock, database, PACKING)
        cluster = self.cluster
        parts = (cluster.keyring, cluster.uploader, cluster.downloader, clock, cluster.rng)
        self.upgrader = Upgrader(self, *parts)
        self.packer = Packer(self, *parts)
        self.loses_answers = False
        cluster.uploader.control = self

    async def ask(self, request: Any, answer: Any) -> Any:
        handlers = {**self.packing.handlers, **self.upgrades.handlers}
        handler = handlers.get(type(request))
        if isinstance(request, DiscardSegments):
            handler = self.metadata.handlers[DiscardSegments]
        if handler is None:
            return await self.cluster.ask(request, answer)
        said = await handler(request)
        if self.loses_answers and isinstance(request, CommitUpgrade):
            raise AtollError(Kind.TIMEOUT, "ask", "the answer was lost")
        return said

    async def start(self) -> BucketInfo:
        bucket = await self.metadata.make_bucket("photos")
        self.bucket = BucketInfo(
            bucket=bucket, account=b"customer-account", name="photos", region="r",
            mode="managed", created_ms=0,
        )  # fmt: skip
        return self.bucket

    def grow(self, count: int) -> None:
        """Let further providers join."""
        for alias in range(len(self.cluster.nodes) + 1, len(self.cluster.nodes) + count + 1):
            identity = Identity(hashlib.sha256(b"node%d" % alias).digest())
            self.cluster.nodes.append(MemoryNode(alias, identity))
        self.table.__init__(len(self.cluster.nodes))  # type: ignore[misc]
        self.table.version = len(self.cluster.nodes)

    async def settle(self) -> None:
        """Let the coordinator see operators and segments for as long as it wants to."""
        for _ in range(2):
            self.metadata.clock.time_ms += 10
            await self.upgrades.survey()
            await self.upgrades.look()

    async def put(self, key: str, data: bytes) -> None:
        async def source() -> AsyncIterator[memoryview]:
            yield memoryview(data)

        objects = self.cluster.objects
        records = await objects.write_object(self.bucket, key, len(data), source(), ORIGIN)
        await self.metadata.put(self.bucket.bucket, key, records)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        found = await self.metadata.read(self.bucket.bucket, key)
        size = found.info.facts.size
        views = self.cluster.objects.read_object(
            self.bucket, key, found.segments, start, size if end is None else end
        )
        return b"".join([bytes(view) async for view in views])

    async def segments(self, key: str) -> list[SegmentRecord]:
        return (await self.metadata.read(self.bucket.bucket, key)).segments

    async def shapes(self, key: str) -> list[tuple[int, int]]:
        return [(one.k, one.n) for one in await self.segments(key)]

    def head(self, record: SegmentRecord) -> Header:
        piece = record.pieces[0]
        node = self.cluster.nodes[piece.alias - 1]
        key = piece_id_of(SegmentId(record.segment), piece.index)
        return parse_header(node.pieces[key][: node.heads[key] >> 8])

    def capsule(self, record: SegmentRecord) -> Capsule:
        sealed = tlv_of(self.head(record), TlvType.RECOVERY_CAPSULE)
        assert sealed is not None
        keys = self.cluster.keyring.bucket(self.bucket.account, self.bucket.bucket)
        return open_capsule(keys.recovery_key(), record.segment, sealed)


@pytest.fixture
async def cloud(database: SqlDatabase) -> Cloud:
    cloud = Cloud(database)
    await cloud.start()
    return cloud


SIZES = (8_193, 20_000, 300_000, (1 << 20) + 1, 5 << 20)


async def test_every_range_is_the_same_in_the_wider_scheme(cloud: Cloud) -> None:
    for size in SIZES:
        await cloud.put(f"n{size}", pattern(size, size))
        assert await cloud.shapes(f"n{size}") == [(2, 4)]
    await cloud.settle()
    await cloud.upgrader.step()
    assert cloud.upgrader.counts.upgraded == 0, "six operators are no reason"
    cloud.grow(6)
    await cloud.settle()
    await cloud.upgrader.step()
    assert cloud.upgrader.counts.upgraded == len(SIZES)
    for size in SIZES:
        assert await cloud.shapes(f"n{size}") == [(4, 8)]
        whole = pattern(size, size)
        for start, end in [(0, size), (0, 1), (size - 1, size), (size // 3, size // 2 + 1)]:
            assert await cloud.get(f"n{size}", start, end) == whole[start:end]
    await cloud.metadata.check()


async def test_more_nodes_may_die_than_the_old_scheme_allowed(cloud: Cloud) -> None:
    await cloud.put("photo", pattern(3 << 20))
    cloud.grow(6)
    await cloud.settle()
    await cloud.upgrader.step()
    (copy,) = await cloud.segments("photo")
    for piece in copy.pieces[:4]:
        cloud.cluster.nodes[piece.alias - 1].dead = True
    assert await cloud.get("photo") == pattern(3 << 20)


async def test_the_copy_tells_its_owner_what_the_old_one_told(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "SEGMENT_PLAIN_BYTES_MAX", 200_000)
    await cloud.put("film", pattern(500_000))
    before = await cloud.segments("film")
    heads = [cloud.head(one) for one in before]
    told = [cloud.capsule(one) for one in before]
    cloud.metadata.clock.time_ms += 400 * 24 * 3_600_000  # another month's tag, were it made anew
    for nodes in (6, 12):
        cloud.grow(nodes)
        await cloud.settle()
        await cloud.upgrader.step()
    after = await cloud.segments("film")
    assert [(one.k, one.n) for one in after] == [(10, 20)] * 3
    wrapping = cloud.cluster.keyring.content_key(cloud.bucket, "film")
    for place, copy in enumerate(after):
        capsule, was = cloud.capsule(copy), told[place]
        for kind in (TlvType.BUCKET_TAG, TlvType.OWNER_KEY_HASH):
            assert tlv_of(cloud.head(copy), kind) == tlv_of(heads[place], kind)
        assert capsule.wrapped_key == copy.wrapped_key != was.wrapped_key
        assert unwrap_key(wrapping, SegmentId(copy.segment), capsule.wrapped_key)
        assert capsule.stream == before[0].segment
        same = ("kind", "created_ms", "position", "stream_bytes", "name", "description", "part")
        for name in same:
            assert getattr(capsule, name) == getattr(was, name), name
    assert told[0].description == ORIGIN.description


async def test_a_pack_is_copied_and_its_items_read_from_the_copy(cloud: Cloud) -> None:
    sizes = (1, 100, 8_000, 8_193, 40_000)
    for size in sizes:
        await cloud.put(f"n{size}", pattern(size, size))
    cloud.metadata.clock.time_ms += 10
    await cloud.packer.step()
    assert cloud.packer.counts.moved == len(sizes)
    (before,) = await cloud.segments("n100")
    cloud.grow(6)
    await cloud.settle()
    await cloud.upgrader.step()
    (after,) = await cloud.segments("n100")
    assert before.packed is not None
    assert after.packed is not None
    assert (before.packed.k, after.packed.k) == (2, 4)
    assert cloud.capsule(after.packed.record()).stream == b""
    for size in sizes:
        assert await cloud.get(f"n{size}") == pattern(size, size)
    await cloud.metadata.check()


async def test_what_cannot_be_read_now_stays_and_the_rest_goes_on(cloud: Cloud) -> None:
    for key in ("lost", "there"):
        await cloud.put(key, pattern(300_000))
    (lost,) = await cloud.segments("lost")
    taken = [
        (node, key, node.pieces.pop(key))
        for node in cloud.cluster.nodes
        for key in [piece_id_of(SegmentId(lost.segment), index) for index in range(lost.n)]
        if key in node.pieces
    ]
    cloud.grow(6)
    await cloud.settle()
    await cloud.upgrader.step()
    counts = cloud.upgrader.counts
    assert (counts.upgraded, counts.failed) == (1, 1)
    assert await cloud.shapes("lost") == [(2, 4)]
    for node, key, record in taken:
        node.pieces[key] = record
    await cloud.settle()
    await cloud.upgrader.step()
    assert await cloud.shapes("lost") == [(4, 8)]
    assert await cloud.get("lost") == pattern(300_000)
    await cloud.metadata.check()


async def test_a_holder_that_lies_about_the_capsule_is_passed_over(cloud: Cloud) -> None:
    await cloud.put("photo", pattern(300_000))
    (old,) = await cloud.segments("photo")
    liar = cloud.cluster.holder(old, old.pieces[0].index)
    key = piece_id_of(SegmentId(old.segment), old.pieces[0].index)
    head = liar.heads[key] >> 8
    record = bytearray(liar.pieces[key])
    record[head - 60] ^= 1
    liar.pieces[key] = bytes(record)
    cloud.grow(6)
    await cloud.settle()
    await cloud.upgrader.step()
    assert await cloud.shapes("photo") == [(4, 8)]
    assert await cloud.get("photo") == pattern(300_000)


async def test_where_placement_gives_no_more_now_nothing_is_sent(cloud: Cloud) -> None:
    await cloud.put("photo", pattern(300_000))
    cloud.grow(6)
    await cloud.settle()
    del cloud.cluster.nodes[6:]
    puts = sum(node.puts for node in cloud.cluster.nodes)
    with pytest.raises(AtollError) as caught:
        await cloud.upgrader.step()
    assert caught.value.kind is Kind.TOO_FEW_NODES
    assert sum(node.puts for node in cloud.cluster.nodes) == puts
    assert await cloud.get("photo") == pattern(300_000)


async def test_a_lost_answer_loses_nothing(cloud: Cloud) -> None:
    await cloud.put("photo", pattern(300_000))
    cloud.grow(6)
    await cloud.settle()
    cloud.loses_answers = True
    await cloud.upgrader.step()
    assert await cloud.get("photo") == pattern(300_000)
    assert await cloud.shapes("photo") == [(4, 8)]
    await cloud.metadata.check()


async def test_a_copy_that_finds_too_few_nodes_leaves_the_old_one_and_its_own_garbage(
    cloud: Cloud,
) -> None:
    await cloud.put("photo", pattern(300_000))
    cloud.grow(6)
    await cloud.settle()
    for node in cloud.cluster.nodes[6:]:
        node.refuses = Kind.DISK_FULL
    cloud.cluster.replaces = False
    await cloud.upgrader.step()
    assert cloud.upgrader.counts.failed == 1
    assert await cloud.shapes("photo") == [(2, 4)]
    assert await cloud.get("photo") == pattern(300_000)
    named = {piece[0] for piece in await cloud.metadata.garbage()}
    (old,) = await cloud.segments("photo")
    assert named
    assert old.segment not in named
    await cloud.metadata.check()


async def test_a_gateway_that_a_policy_excludes_decrypts_nothing_of_the_bucket(
    cloud: Cloud,
) -> None:
    for number in range(8):
        await cloud.put(f"n{number}", pattern(8_000, number))
    await cloud.put("photo", pattern(3 << 20))
    asked: list[bytes] = []

    async def refuse(bucket: BucketInfo) -> None:
        asked.append(bucket.bucket)
        raise AtollError(Kind.FORBIDDEN, "serve bucket", "its policy excludes this gateway")

    cluster, clock = cloud.cluster, cloud.metadata.clock
    parts = (cluster.keyring, cluster.uploader, cluster.downloader, clock, cluster.rng, refuse)
    cloud.grow(6)
    await cloud.settle()
    gets = sum(node.gets for node in cluster.nodes)
    for job in (Upgrader(cloud, *parts), Packer(cloud, *parts)):
        for _ in range(3):
            clock.time_ms += 10
            await job.step()
    assert asked == [cloud.bucket.bucket] * 2, "once each: then it was declined"
    assert sum(node.gets for node in cluster.nodes) == gets
    await cloud.settle()
    await cloud.upgrader.step()
    await cloud.packer.step()
    assert await cloud.shapes("photo") == [(4, 8)]
    assert cloud.packer.counts.moved == 8
