"""Changes on their way into manifests: exact, in order, through any writer's death."""

import pytest
from tests.unit.coordinator.metadata.world import ACCOUNT, Metadata, tiny

from atoll.coordinator.metadata.store import segments
from atoll.coordinator.metadata.store.changes import OWN_LEASE_MS
from atoll.coordinator.metadata.store.manifests import ManifestSums
from atoll.coordinator.recovery.rules import DELTAS_MAX, DELTAS_MIN, wants_snapshot
from atoll.coordinator.recovery.service import WRITE_LEASE_MS, RecoveryService
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    CommitObject,
    DeleteBucket,
    DeletedKeys,
    DeleteObjects,
    Done,
    ObjectInfo,
    SegmentRecord,
)
from atoll.core.messages.recovery import (
    BeginSnapshot,
    ChangeBatch,
    CommitManifest,
    ManifestLag,
    ReadEntries,
    SetManifestMode,
    TakeChanges,
)
from atoll.runtime.database import SqlDatabase

MINE, THEIRS = b"one root" + b"m" * 8, b"one root" + b"t" * 8
FOREIGN = b"strange!" + b"f" * 8
"""A gateway of another root key."""


class Cloud:
    """The metadata with the recovery service and a bucket."""

    def __init__(self, database: SqlDatabase) -> None:
        self.metadata = Metadata(database)
        self.database = database
        self.service = RecoveryService(self.metadata.clock, database)

    async def begin(self) -> bytes:
        """A bucket whose account's catalogue is written already."""
        self.bucket = await self.metadata.make_bucket()
        batch = await self.take()
        assert [one.bucket.bucket for one in batch.buckets] == [self.bucket]
        await self.commit(batch)
        return self.bucket

    async def put(self, key: str, writer: bytes = MINE) -> SegmentRecord:
        record = tiny()
        request = await self.metadata_request(key, record, writer)
        await self.metadata.ask(request, ObjectInfo)
        return record

    async def metadata_request(
        self, key: str, record: SegmentRecord, writer: bytes
    ) -> CommitObject:
        from tests.unit.coordinator.metadata.world import facts_of

        return CommitObject(
            bucket=self.bucket,
            key=key,
            facts=facts_of(record.plain_bytes),
            segments=[record],
            writer=writer,
        )

    async def delete(self, *keys: str, writer: bytes = MINE) -> None:
        request = DeleteObjects(bucket=self.bucket, keys=list(keys), writer=writer)
        await self.metadata.ask(request, DeletedKeys)

    async def take(self, writer: bytes = MINE, limit: int = 1000) -> ChangeBatch:
        return await self.service.take_changes(TakeChanges(writer=writer, limit=limit))

    async def commit(self, batch: ChangeBatch, writer: bytes = MINE) -> SegmentRecord:
        record = tiny()
        bucket = batch.bucket.bucket if batch.bucket else batch.account
        await self.service.commit_manifest(
            CommitManifest(
                writer=writer,
                bucket=bucket,
                number=batch.number,
                snapshot=batch.bucket is None,
                covers=batch.number - 1 if batch.bucket is None else 0,
                sequences=batch.sequences,
                segments=[record],
            )
        )
        return record

    async def waiting(self) -> int:
        return (await self.service.manifest_lag(ManifestLag(bucket=self.bucket))).waiting

    async def has_segment(self, record: SegmentRecord) -> bool:
        found = await self.database.read(lambda c: segments.segment_by_id(c, record.segment))
        return found is not None


@pytest.fixture
def cloud(database: SqlDatabase) -> Cloud:
    return Cloud(database)


async def test_each_change_reaches_one_manifest_with_the_newest_state(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.put("a")
    newest = await cloud.put("a")
    await cloud.put("b")
    await cloud.delete("b", "never there")
    batch = await cloud.take()
    assert batch.bucket is not None
    assert {one.key: one.entry for one in batch.changes}.keys() == {"a", "b"}
    by_key = {one.key: one.entry for one in batch.changes}
    assert by_key["b"] is None
    assert by_key["a"] is not None
    assert [one.segment for one in by_key["a"].segments] == [newest.segment]
    assert by_key["a"].segments[0].pieces == []
    assert len(batch.sequences) == 4
    await cloud.commit(batch)
    assert await cloud.waiting() == 0
    assert (await cloud.take()).sequences == []


async def test_a_refused_write_leaves_no_change(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.delete("never there")
    assert await cloud.waiting() == 0


async def test_a_change_is_its_writers_for_a_while_and_then_anybodys(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.put("a")
    assert (await cloud.take(THEIRS)).sequences == []
    cloud.metadata.clock.time_ms += OWN_LEASE_MS + 1
    taken = await cloud.take(THEIRS)
    assert [one.key for one in taken.changes] == ["a"]
    assert (await cloud.take(MINE)).sequences == []


async def test_a_writer_that_failed_takes_its_changes_again(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.put("a")
    first = await cloud.take()
    again = await cloud.take()
    assert again.sequences == first.sequences
    assert again.number > first.number


async def test_a_late_commit_is_refused_and_its_segments_are_collected(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.put("a")
    slow = await cloud.take()
    cloud.metadata.clock.time_ms += WRITE_LEASE_MS + 1
    quick = await cloud.take(THEIRS)
    assert quick.sequences == slow.sequences
    kept = await cloud.commit(quick, THEIRS)
    with pytest.raises(AtollError) as refused:
        await cloud.commit(slow)
    assert refused.value.kind is Kind.CONFLICT
    assert await cloud.has_segment(kept)
    garbage = await cloud.database.read(lambda c: segments.count_garbage(c, 100))
    assert garbage == 3


async def test_a_catalogue_replaces_the_one_before(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.metadata.make_bucket("second")
    batch = await cloud.take()
    assert sorted(one.bucket.name for one in batch.buckets) == ["photos", "second"]
    await cloud.commit(batch)
    await cloud.metadata.ask(DeleteBucket(name="second", account=ACCOUNT), Done)
    batch = await cloud.take()
    assert [one.bucket.name for one in batch.buckets] == ["photos"]
    await cloud.commit(batch)
    lag = await cloud.service.manifest_lag(ManifestLag(bucket=ACCOUNT))
    assert lag.manifests == 1


async def test_a_snapshot_replaces_what_it_covers_and_nothing_being_written(cloud: Cloud) -> None:
    bucket = await cloud.begin()
    await cloud.put("a")
    old = await cloud.commit(await cloud.take())
    await cloud.put("b", THEIRS)
    flying = await cloud.take(THEIRS)
    lease = await cloud.service.begin_snapshot(BeginSnapshot(writer=MINE, bucket=bucket))
    assert lease.covers < flying.number < lease.number
    with pytest.raises(AtollError) as refused:
        await cloud.service.begin_snapshot(BeginSnapshot(writer=THEIRS, bucket=bucket))
    assert refused.value.kind is Kind.CONFLICT
    beside = await cloud.commit(flying, THEIRS)
    page = await cloud.service.read_entries(ReadEntries(bucket=bucket))
    assert [one.key for one in page.entries] == ["a", "b"]
    snapshot = tiny()
    await cloud.service.commit_manifest(
        CommitManifest(
            writer=MINE,
            bucket=bucket,
            number=lease.number,
            snapshot=True,
            covers=lease.covers,
            segments=[snapshot],
        )
    )
    assert not await cloud.has_segment(old)
    assert await cloud.has_segment(beside)
    assert await cloud.has_segment(snapshot)


async def test_pages_of_entries_follow_each_other(cloud: Cloud) -> None:
    bucket = await cloud.begin()
    for number in range(5):
        await cloud.put(f"k{number}")
    keys, after, more = [], "", True
    while more:
        page = await cloud.service.read_entries(ReadEntries(bucket=bucket, after=after, limit=2))
        keys += [one.key for one in page.entries]
        after, more = keys[-1], page.more
        assert page.pending_sequence
    assert keys == [f"k{number}" for number in range(5)]


async def test_a_bucket_that_goes_takes_its_manifests_with_it(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.put("a")
    manifest = await cloud.commit(await cloud.take())
    await cloud.delete("a")
    await cloud.metadata.ask(DeleteBucket(name="photos", account=ACCOUNT), Done)
    assert not await cloud.has_segment(manifest)
    assert (await cloud.take()).buckets == []
    assert await cloud.waiting() == 0


async def test_modes_are_two(cloud: Cloud) -> None:
    bucket = await cloud.begin()
    changed = await cloud.service.set_mode(SetManifestMode(bucket=bucket, mode="sync"))
    assert changed.manifests == "sync"
    assert (await cloud.take()).buckets[0].bucket.manifests == "sync"
    for mode, unknown, kind in [
        ("never", bucket, Kind.BAD_REQUEST),
        ("sync", b"x" * 16, Kind.BUCKET_NOT_FOUND),
    ]:
        with pytest.raises(AtollError) as refused:
            await cloud.service.set_mode(SetManifestMode(bucket=unknown, mode=mode))
        assert refused.value.kind is kind


def test_snapshots_are_made_when_the_deltas_outweigh_them() -> None:
    assert not wants_snapshot(ManifestSums(DELTAS_MIN - 1, 1 << 30, 0, DELTAS_MIN))
    assert wants_snapshot(ManifestSums(DELTAS_MIN, 10, 10, DELTAS_MIN + 1))
    assert not wants_snapshot(ManifestSums(DELTAS_MIN, 9, 10, DELTAS_MIN + 1))
    assert wants_snapshot(ManifestSums(DELTAS_MAX, 9, 10, DELTAS_MAX + 1))


async def test_a_writer_with_other_keys_gets_nothing_of_ours(cloud: Cloud) -> None:
    """What it wrote nobody could read."""
    await cloud.begin()
    await cloud.put("first")
    await cloud.commit(await cloud.take())
    await cloud.put("a")
    await cloud.put("b", b"")
    await cloud.metadata.make_bucket("second")
    cloud.metadata.clock.time_ms += 10 * OWN_LEASE_MS
    assert (await cloud.take(FOREIGN)).sequences == []
    assert [one.key for one in (await cloud.take(THEIRS)).changes] == ["a", "b"]
