"""Small objects into packs and out of them, over the real metadata; only nodes are in memory."""

from typing import Any

import pytest
from tests.unit.client.cluster import BUCKET, Cluster
from tests.unit.coordinator.metadata.world import Metadata

from atoll.client.packing.pack import Packer
from atoll.coordinator.packing.rules import PackingProfile
from atoll.coordinator.packing.service import PackingService
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import BucketInfo, DiscardSegments
from atoll.core.messages.packing import CommitPack, LeasePack
from atoll.runtime.database import SqlDatabase

PROFILE = PackingProfile(age_ms=1_000, bytes_min=20_000, pass_ms=1_000)
SIZES = (1, 15, 4_096, 8_192, 8_193, 20_000, 70_000, 1 << 20)
"""One chunk and many, replicated and coded, in the smallest and the largest that is packed."""


class Cloud:
    """A cluster whose objects are committed to a database."""

    def __init__(self, database: SqlDatabase) -> None:
        self.cluster = Cluster()
        self.metadata = Metadata(database)
        self.packing = PackingService(self.metadata.clock, database, PROFILE)
        self.packer = Packer(
            self,
            self.cluster.keyring,
            self.cluster.uploader,
            self.cluster.downloader,
            self.metadata.clock,
            self.cluster.rng,
        )
        self.loses_answers = False
        self.cluster.uploader.control = self

    async def ask(self, request: Any, answer: Any) -> Any:
        handler = self.packing.handlers.get(type(request))
        if isinstance(request, DiscardSegments):
            handler = self.metadata.handlers[DiscardSegments]
        if handler is None:
            return await self.cluster.ask(request, answer)
        said = await handler(request)
        if self.loses_answers and isinstance(request, CommitPack):
            raise AtollError(Kind.TIMEOUT, "ask", "the answer was lost")
        return said

    async def start(self) -> BucketInfo:
        bucket = await self.metadata.make_bucket("photos")
        self.bucket = BucketInfo(
            bucket=bucket, account=b"customer-account", name="photos", region="r",
            mode="managed", created_ms=0,
        )  # fmt: skip
        return self.bucket

    async def put(self, key: str, data: bytes) -> None:
        async def source() -> Any:
            yield memoryview(data)

        objects = self.cluster.objects
        records = await objects.write_object(self.bucket, key, len(data), source())
        await self.metadata.put(self.bucket.bucket, key, records)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        found = await self.metadata.read(self.bucket.bucket, key)
        size = found.info.facts.size
        views = self.cluster.objects.read_object(
            self.bucket, key, found.segments, start, size if end is None else end
        )
        return b"".join([bytes(view) async for view in views])

    async def in_packs(self, key: str) -> bool:
        (segment,) = (await self.metadata.read(self.bucket.bucket, key)).segments
        return segment.packed is not None


@pytest.fixture
async def cloud(database: SqlDatabase) -> Cloud:
    cloud = Cloud(database)
    await cloud.start()
    return cloud


def content(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


async def fill(cloud: Cloud) -> None:
    for size in SIZES:
        await cloud.put(f"n{size}", content(size))
    cloud.metadata.clock.time_ms += PROFILE.age_ms + 1


async def test_every_range_of_every_size_is_the_same_after_packing(cloud: Cloud) -> None:
    await fill(cloud)
    await cloud.packer.step()
    assert cloud.packer.counts.moved == len(SIZES)
    for size in SIZES:
        assert await cloud.in_packs(f"n{size}")
        whole = content(size)
        ranges = [(0, size), (0, 1), (size - 1, size), (size // 3, size // 2 + 1)]
        for start, end in ranges:
            assert await cloud.get(f"n{size}", start, end) == whole[start:end]
    await cloud.metadata.check()


async def test_what_cannot_be_read_now_stays_where_it_is(cloud: Cloud) -> None:
    await fill(cloud)
    (segment,) = (await cloud.metadata.read(cloud.bucket.bucket, "n20000")).segments
    lost = {
        (node.alias - 1, key): node.pieces.pop(key)
        for node in cloud.cluster.nodes
        for key in [piece_id_of(SegmentId(segment.segment), index) for index in range(segment.n)]
        if key in node.pieces
    }
    await cloud.packer.step()
    assert not await cloud.in_packs("n20000")
    assert cloud.packer.counts.moved == len(SIZES) - 1
    for (place, key), record in lost.items():
        cloud.cluster.nodes[place].pieces[key] = record
    for size in SIZES:
        assert await cloud.get(f"n{size}") == content(size)
    await cloud.metadata.check()


async def test_a_pack_is_written_anew_without_any_object_s_key(cloud: Cloud) -> None:
    await fill(cloud)
    await cloud.packer.step()
    (before,) = (await cloud.metadata.read(cloud.bucket.bucket, "n70000")).segments
    await cloud.metadata.delete(cloud.bucket.bucket, f"n{1 << 20}")
    cloud.metadata.clock.time_ms += PROFILE.pass_ms
    work = await cloud.packing.lease(LeasePack(worker=b"x" * 16))
    assert {item.key for item in work.items} == {""}
    cloud.metadata.clock.time_ms += PROFILE.lease_ms + PROFILE.pass_ms
    await cloud.packer.step()
    (after,) = (await cloud.metadata.read(cloud.bucket.bucket, "n70000")).segments
    assert before.packed is not None
    assert after.packed is not None
    assert after.packed.segment != before.packed.segment
    for size in SIZES[:-1]:
        assert await cloud.get(f"n{size}") == content(size)
    await cloud.metadata.check()


async def test_a_lost_answer_loses_nothing(cloud: Cloud) -> None:
    await fill(cloud)
    cloud.loses_answers = True
    with pytest.raises(AtollError):
        await cloud.packer.step()
    for size in SIZES:
        assert await cloud.get(f"n{size}") == content(size)
    await cloud.metadata.check()


async def test_packed_bytes_on_nodes_are_about_twice_the_data(cloud: Cloud) -> None:
    for number in range(300):
        await cloud.put(f"small-{number}", content(4_096))
    cloud.metadata.clock.time_ms += PROFILE.age_ms + 1
    before = {key for node in cloud.cluster.nodes for key in node.pieces}
    await cloud.packer.step()
    stored = sum(
        len(record)
        for node in cloud.cluster.nodes
        for key, record in node.pieces.items()
        if key not in before
    )
    assert cloud.packer.counts.moved == 300
    assert stored <= 2.1 * 300 * 4_096
    assert BUCKET.name != cloud.bucket.name
