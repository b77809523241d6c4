"""Buckets brought along: settings, locks and objects are here as they were there."""

from typing import Any

import msgspec
import pytest
from tests.unit.coordinator.metadata.world import Metadata, facts_of, tiny

from atoll.coordinator.metadata.serials import SerialAllocator
from atoll.coordinator.metadata.store import locks
from atoll.coordinator.policy.store import policies_of
from atoll.coordinator.recovery.adoption import AdoptionService
from atoll.coordinator.recovery.service import RecoveryService
from atoll.coordinator.retention.rules import PROFILES
from atoll.coordinator.retention.service import RetentionService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.messages import BucketInfo, CommitObject, GetBucket, ObjectInfo, SegmentRecord
from atoll.core.messages.recovery import (
    AdoptBucket,
    AdoptedLock,
    AdoptObjects,
    ChangeBatch,
    CommitManifest,
    ObjectEntry,
    ReadEntries,
    TakeChanges,
)
from atoll.core.messages.retention import (
    DefaultLock,
    GetLock,
    LockObject,
    LockState,
    SegmentLock,
    SetDefaultLock,
)
from atoll.core.retention import Mode, RetentionRecord, sign_record
from atoll.runtime.database import SqlDatabase

LOCK_KEY = Identity(b"l" * 32)
WRITER = b"one root" + b"w" * 8
BUCKET = BucketInfo(
    bucket=b"b" * 16,
    account=b"a" * 16,
    name="moved",
    region="r",
    mode="managed",
    created_ms=7,
    policy=42,
    manifests="sync",
    lock_mode="compliance",
    lock_days=30,
)
LOCK = LockState(mode="compliance", until_ms=9_000, legal_hold=True, sequence=5)


class Place:
    """A coordinator's metadata, and what answers about locks and manifests."""

    def __init__(self, database: SqlDatabase) -> None:
        self.metadata = Metadata(database)
        self.database = database
        clock = self.metadata.clock
        self.adoption = AdoptionService(
            clock,
            database,
            SerialAllocator(database),
            None,
            b"c" * 32,  # type: ignore[arg-type]
        )
        self.manifests = RecoveryService(clock, database)
        self.locks = RetentionService(clock, database, None, None, PROFILES["local"])  # type: ignore[arg-type]

    async def commit(self, batch: ChangeBatch) -> None:
        await self.manifests.commit_manifest(
            CommitManifest(
                writer=WRITER,
                bucket=batch.account,
                number=batch.number,
                snapshot=True,
                covers=batch.number - 1,
                sequences=batch.sequences,
                segments=[tiny()],
            )
        )

    async def adopt(self, **changes: Any) -> BucketInfo:
        request = AdoptBucket(
            bucket=BUCKET,
            owner_name="o",
            manifest_number=3,
            catalogue_number=2,
            policy_text="country in DE, FR",
        )
        return await self.adoption.adopt_bucket(msgspec.structs.replace(request, **changes))


@pytest.fixture
def place(database: SqlDatabase) -> Place:
    return Place(database)


def entry_of(key: str, record: SegmentRecord, lock: LockState | None) -> ObjectEntry:
    return ObjectEntry(
        key=key, modified_ms=11, facts=facts_of(record.plain_bytes), segments=[record], lock=lock
    )


def record_of(segment: bytes, lock: LockState) -> SegmentLock:
    said = RetentionRecord(
        SegmentId(segment),
        LOCK_KEY.public_key,
        Mode[lock.mode.upper()],
        lock.until_ms,
        lock.legal_hold,
        lock.sequence,
    )
    return SegmentLock(segment=segment, record=sign_record(LOCK_KEY, said))


async def test_a_bucket_comes_with_its_policy_its_default_lock_and_its_mode(place: Place) -> None:
    made = await place.adopt()
    found = await place.metadata.ask(GetBucket(name="moved"), BucketInfo)
    assert found == msgspec.structs.replace(BUCKET, policy=made.policy)
    (policy,) = await place.database.read(lambda c: policies_of(c, BUCKET.bucket, 10))
    assert (policy[0], policy[2], policy[3]) == (made.policy, 1, "country in DE, FR")
    again = await place.adopt(policy_text="country in US")
    assert again.policy == made.policy
    assert len(await place.database.read(lambda c: policies_of(c, BUCKET.bucket, 10))) == 1
    # And the catalogue of the account says so from now on, whoever writes it.
    batch = await place.manifests.take_changes(TakeChanges(writer=WRITER))
    (listed,) = batch.buckets
    assert listed.policy_text == "country in DE, FR"
    assert (listed.bucket.lock_mode, listed.bucket.lock_days) == ("compliance", 30)


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_text": "country is somewhere"},
        {"bucket": msgspec.structs.replace(BUCKET, lock_days=0)},
        {"bucket": msgspec.structs.replace(BUCKET, lock_mode="forever")},
        {"bucket": msgspec.structs.replace(BUCKET, lock_mode="")},
    ],
)
async def test_what_cannot_be_understood_is_refused_as_a_whole(
    place: Place, changes: dict[str, Any]
) -> None:
    with pytest.raises(AtollError) as refused:
        await place.adopt(**changes)
    assert refused.value.kind is Kind.BAD_REQUEST
    with pytest.raises(AtollError):
        await place.metadata.ask(GetBucket(name="moved"), BucketInfo)


async def test_objects_come_with_their_locks_signed_or_still_to_be_signed(place: Place) -> None:
    await place.adopt()
    signed, waiting, free = tiny(), tiny(), tiny()
    unsigned = LockState(mode="governance", until_ms=8_000)
    request = AdoptObjects(
        bucket=BUCKET.bucket,
        entries=[
            entry_of("free", free, None),
            entry_of("signed", signed, LOCK),
            entry_of("waiting", waiting, unsigned),
        ],
        locks=[AdoptedLock(key="signed", records=[record_of(signed.segment, LOCK)])],
        grant=b"g" * 96,
    )
    assert (await place.adoption.adopt_objects(request)).written == 3
    report = await place.locks.get_lock(GetLock(bucket=BUCKET.bucket, key="signed"))
    assert (report.state, report.segments) == (LOCK, 1)
    report = await place.locks.get_lock(GetLock(bucket=BUCKET.bucket, key="free"))
    assert (report.state, report.segments) == (LockState(), 0)
    rows = await place.database.read(lambda c: locks.unsigned_locks(c, BUCKET.bucket, 10))
    assert [(row.key, row.mode, row.until_ms) for row in rows] == [
        (b"waiting", Mode.GOVERNANCE, 8_000)
    ]
    kept = await place.database.read(lambda c: locks.segment_lock(c, signed.segment))
    assert kept is not None
    assert (kept.grant, kept.pending) == (b"g" * 96, True)
    # What comes out again for manifests is what came in.
    page = await place.manifests.read_entries(ReadEntries(bucket=BUCKET.bucket))
    assert [one.lock for one in page.entries] == [None, LOCK, unsigned]


async def test_records_that_say_something_else_are_refused(place: Place) -> None:
    await place.adopt()
    record = tiny()
    shorter = msgspec.structs.replace(LOCK, until_ms=8_999)
    for lock, records in (
        (LOCK, [record_of(record.segment, shorter)]),
        (LOCK, [record_of(b"x" * 16, LOCK)]),
        (LOCK, []),
        (None, [record_of(record.segment, LOCK)]),
    ):
        request = AdoptObjects(
            bucket=BUCKET.bucket,
            entries=[entry_of("key", record, lock)],
            locks=[AdoptedLock(key="key", records=records)],
        )
        with pytest.raises(AtollError) as refused:
            await place.adoption.adopt_objects(request)
        assert refused.value.kind is Kind.BAD_REQUEST


async def test_a_lock_and_a_default_reach_the_next_manifest(place: Place) -> None:
    bucket = await place.metadata.make_bucket()
    record = tiny()
    commit = CommitObject(
        bucket=bucket, key="k", facts=facts_of(record.plain_bytes), segments=[record]
    )
    await place.metadata.ask(commit, ObjectInfo)
    await place.locks.set_default(
        SetDefaultLock(bucket=bucket, lock=DefaultLock(mode="governance", days=3))
    )
    lock = msgspec.structs.replace(LOCK, until_ms=place.metadata.clock.now_ms() + 9_000)
    request = LockObject(
        bucket=bucket,
        key="k",
        state=lock,
        grant=b"g" * 96,
        locks=[record_of(record.segment, lock)],
        writer=WRITER,
    )
    await place.locks.lock_object(request)
    # The catalogue first: it changed first.
    batch = await place.manifests.take_changes(TakeChanges(writer=WRITER))
    while batch.bucket is None:
        (listed,) = batch.buckets
        assert (listed.bucket.lock_mode, listed.bucket.lock_days) == ("governance", 3)
        await place.commit(batch)
        batch = await place.manifests.take_changes(TakeChanges(writer=WRITER))
    (change,) = batch.changes
    assert change.entry is not None
    assert change.entry.lock == lock
