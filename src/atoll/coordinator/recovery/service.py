"""The coordinator's side of manifests: hands out changes, keeps what was written, makes room.

Gateways hold the keys and write; here is only what stands in which manifest. Every answer is one
transaction, so a writer may die at any point: what it had taken is taken by another.
"""

from collections.abc import Sequence
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import (
    POLICY_DEFAULT,
    Usage,
    unpack_composition,
    unpack_facts,
)
from atoll.coordinator.metadata.rules import bad_request, key_bytes
from atoll.coordinator.metadata.service import no_bucket, with_default_lock
from atoll.coordinator.metadata.store import (
    buckets,
    changes,
    locks,
    manifests,
    objects,
    packs,
    segments,
)
from atoll.coordinator.metadata.store.changes import KIND_CATALOGUE, KIND_PACK, ChangeRow
from atoll.coordinator.metadata.store.objects import ObjectRow
from atoll.coordinator.metadata.store.segments import POSITION_END
from atoll.coordinator.part import Handler, Part
from atoll.coordinator.recovery.rules import MANIFEST_MODES, wants_snapshot
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages import BucketInfo, Done, Message, SegmentRecord
from atoll.core.messages.recovery import (
    CHANGES_MAX,
    ENTRIES_MAX,
    BeginSnapshot,
    CatalogueEntry,
    ChangeBatch,
    CommitManifest,
    EntryPage,
    ManifestLag,
    ManifestState,
    ObjectChange,
    ObjectEntry,
    ReadEntries,
    SegmentMove,
    SetManifestMode,
    SnapshotLease,
    TakeChanges,
)
from atoll.core.messages.retention import LockState
from atoll.core.ports import Clock, Database
from atoll.core.retention import Mode

WRITE_LEASE_MS = 60_000
"""A manifest that was not committed for so long is written by another."""
SNAPSHOT_LEASE_MS = 15 * 60_000
BATCH_SEGMENTS_MAX = 20_000
"""Segments named in one batch of changes, unless a single object has more."""
GONE_BUCKETS_MAX = 100
"""Buckets gone meanwhile whose changes are dropped within one question."""
CATALOGUE_BUCKETS_MAX = 10_000
PACK_ITEMS_MAX = 100_000
"""More than fit into a pack."""


class RecoveryService(Part):
    """Answers manifest writers."""

    def __init__(self, clock: Clock, database: Database) -> None:
        """Serve from ``database``."""
        self._clock = clock
        self._database = database
        self.handlers: dict[type[Message], Handler] = {
            TakeChanges: self.take_changes,
            CommitManifest: self.commit_manifest,
            BeginSnapshot: self.begin_snapshot,
            ReadEntries: self.read_entries,
            ManifestLag: self.manifest_lag,
            SetManifestMode: self.set_mode,
        }

    async def take_changes(self, request: TakeChanges) -> ChangeBatch:
        """Give a writer changes of one bucket, or one account's catalogue; or an empty batch."""
        _check_writer(request.writer)
        now_ms = self._clock.now_ms()
        look = partial(changes.any_for, writer=request.writer, now_ms=now_ms)
        if not await self._database.read(look):
            return ChangeBatch()
        limit = max(1, min(request.limit, CHANGES_MAX))
        return await self._database.write(
            partial(_take, writer=request.writer, now_ms=now_ms, limit=limit)
        )

    async def commit_manifest(self, request: CommitManifest) -> Done:
        """Keep a manifest that lies on nodes. Raises ``CONFLICT``, ``BUCKET_NOT_FOUND``."""
        _check_writer(request.writer)
        if not request.segments:
            raise bad_request("a manifest has segments")
        now_ms = self._clock.now_ms()
        try:
            await self._database.write(partial(_commit, request=request, now_ms=now_ms))
        except AtollError as error:
            if error.kind in (Kind.CONFLICT, Kind.BUCKET_NOT_FOUND):
                discard = partial(
                    segments.discard_segments,
                    bucket=request.bucket,
                    records=request.segments,
                    now_ms=now_ms,
                )
                await self._database.write(discard)
            raise
        return Done()

    async def begin_snapshot(self, request: BeginSnapshot) -> SnapshotLease:
        """Lease a bucket's snapshot to a writer. Raises ``CONFLICT``, ``BUCKET_NOT_FOUND``."""
        _check_writer(request.writer)
        now_ms = self._clock.now_ms()

        def begin(connection: Connection) -> SnapshotLease:
            if buckets.lock_bucket(connection, request.bucket) is None:
                raise no_bucket()
            number = manifests.next_number(connection, request.bucket, request.writer)
            until_ms = now_ms + SNAPSHOT_LEASE_MS
            if not manifests.lease_snapshot(
                connection, request.bucket, request.writer, now_ms, until_ms
            ):
                raise AtollError(
                    Kind.CONFLICT, "make snapshot", "another writer makes a snapshot of this bucket"
                )
            # What is still being written is read by its writer before our pages are, but may
            # reach nodes later: it stays beside the snapshot.
            oldest = changes.outstanding(connection, request.bucket)
            return SnapshotLease(number=number, covers=(oldest or number) - 1)

        return await self._database.write(begin)

    async def read_entries(self, request: ReadEntries) -> EntryPage:
        """Return a page of a bucket's objects as manifests keep them."""
        after = key_bytes(request.after) + b"\0" if request.after else b""
        limit = max(1, min(request.limit, ENTRIES_MAX))

        def page(connection: Connection) -> EntryPage:
            rows = objects.list_objects(connection, request.bucket, after, b"\xff" * 4, limit)
            entries: list[ObjectEntry] = []
            named = 0
            for row in rows:
                named += row.segments
                if entries and named > BATCH_SEGMENTS_MAX:
                    break
                entries.append(_entry(connection, request.bucket, row))
            return EntryPage(
                entries=entries,
                more=len(entries) < len(rows) or len(rows) == limit,
                pending_sequence=changes.newest(connection, request.bucket),
            )

        return await self._database.read(page)

    async def manifest_lag(self, request: ManifestLag) -> ManifestState:
        """Say how far a bucket's manifests are behind."""

        def state(connection: Connection) -> ManifestState:
            waiting, oldest, oldest_ms = changes.waiting(connection, request.bucket)
            sums = manifests.sums(connection, request.bucket)
            return ManifestState(
                oldest_sequence=oldest,
                oldest_ms=oldest_ms,
                waiting=waiting,
                manifests=sums.manifests,
                manifest_bytes=sums.delta_bytes + sums.snapshot_bytes,
            )

        return await self._database.read(state)

    async def set_mode(self, request: SetManifestMode) -> BucketInfo:
        """Set how a bucket's writes wait. Raises ``BAD_REQUEST``, ``BUCKET_NOT_FOUND``."""
        if request.mode not in MANIFEST_MODES:
            raise bad_request(f"manifests are written in mode {' or '.join(MANIFEST_MODES)}")
        now_ms = self._clock.now_ms()

        def change(connection: Connection) -> BucketInfo:
            found = buckets.bucket_by_id(connection, request.bucket)
            if found is None:
                raise no_bucket()
            buckets.set_manifests(connection, request.bucket, request.mode)
            changes.note_catalogue(connection, found.account, now_ms, request.writer)
            return msgspec.structs.replace(found, manifests=request.mode)

        return await self._database.write(change)


def _check_writer(writer: bytes) -> None:
    if len(writer) != SHORT_ID_BYTES:
        raise bad_request(f"a writer's id has {SHORT_ID_BYTES} bytes")


# --- taking ---------------------------------------------------------------------------------------


def _take(connection: Connection, writer: bytes, now_ms: int, limit: int) -> ChangeBatch:
    for _ in range(GONE_BUCKETS_MAX):
        rows = changes.next_rows(connection, writer, now_ms, limit)
        if not rows:
            break
        if rows[0].kind == KIND_CATALOGUE:
            return _take_catalogue(connection, rows, writer, now_ms)
        bucket = buckets.bucket_by_id(connection, rows[0].bucket)
        if bucket is not None and rows[0].kind == KIND_PACK:
            return _take_pack(connection, bucket, rows[:1], writer, now_ms)
        if bucket is not None:
            return _take_objects(connection, bucket, rows, writer, now_ms)
        changes.drop_rows(connection, rows)
    return ChangeBatch()


def _take_catalogue(
    connection: Connection, rows: Sequence[ChangeRow], writer: bytes, now_ms: int
) -> ChangeBatch:
    account = rows[0].bucket
    # The number first: it keeps other writers of this catalogue waiting, so that a higher number
    # never carries an older list.
    number = manifests.next_number(connection, account, writer)
    changes.lease_rows(connection, rows, writer, number, now_ms + WRITE_LEASE_MS)
    found = buckets.list_buckets(connection, account, b"", b"\xff" * 4, CATALOGUE_BUCKETS_MAX)
    return ChangeBatch(
        account=account,
        number=number,
        buckets=[
            CatalogueEntry(
                bucket=with_default_lock(connection, bucket),
                policy_text=manifests.policy_text(connection, bucket.policy),
            )
            for bucket in found
        ],
        sequences=[row.sequence for row in rows],
    )


def _take_pack(
    connection: Connection,
    bucket: BucketInfo,
    rows: Sequence[ChangeRow],
    writer: bytes,
    now_ms: int,
) -> ChangeBatch:
    number = manifests.next_number(connection, bucket.bucket, writer)
    changes.lease_rows(connection, rows, writer, number, now_ms + WRITE_LEASE_MS)
    moved = packs.packed_in(connection, rows[0].key, PACK_ITEMS_MAX)
    return ChangeBatch(
        bucket=bucket,
        account=bucket.account,
        number=number,
        moves=[SegmentMove(record=_without_places(record)) for record in moved],
        sequences=[row.sequence for row in rows],
    )


def _take_objects(
    connection: Connection,
    bucket: BucketInfo,
    rows: Sequence[ChangeRow],
    writer: bytes,
    now_ms: int,
) -> ChangeBatch:
    number = manifests.next_number(connection, bucket.bucket, writer)
    taken: list[ChangeRow] = []
    last: dict[bytes, ObjectChange] = {}
    named = 0
    for row in rows:
        if row.key not in last:
            found = objects.find_object(connection, bucket.bucket, row.key)
            entry = None if found is None else _entry(connection, bucket.bucket, found)
            named += 0 if entry is None else len(entry.segments)
            if taken and named > BATCH_SEGMENTS_MAX:
                break
        else:
            entry = last[row.key].entry
        last[row.key] = ObjectChange(
            sequence=row.sequence,
            key=row.key.decode("utf-8", "surrogateescape"),
            time_ms=row.time_ms,
            entry=entry,
        )
        taken.append(row)
    changes.lease_rows(connection, taken, writer, number, now_ms + WRITE_LEASE_MS)
    return ChangeBatch(
        bucket=bucket,
        account=bucket.account,
        number=number,
        changes=list(last.values()),
        sequences=[row.sequence for row in taken],
        compact=wants_snapshot(manifests.sums(connection, bucket.bucket)),
    )


def _entry(connection: Connection, bucket: bytes, row: ObjectRow) -> ObjectEntry:
    facts = unpack_facts(row.facts)
    if row.parts:
        packed = objects.find_composition(connection, row.stream)
        assert packed is not None, "a multipart object keeps its composition"
        facts = unpack_composition(packed, facts)
    records: list[SegmentRecord] = []
    if row.segments:
        records = segments.records_of_stream(connection, row.stream, row.segments)
    return ObjectEntry(
        key=row.key.decode("utf-8", "surrogateescape"),
        modified_ms=row.modified_ms,
        facts=facts,
        segments=[_without_places(record) for record in records],
        lock=_lock(locks.find_lock(connection, bucket, row.key)),
    )


def _lock(row: locks.LockRow | None) -> LockState | None:
    if row is None:
        return None
    return LockState(
        mode="" if row.mode is Mode.NONE else row.mode.name.lower(),
        until_ms=row.until_ms,
        legal_hold=row.legal_hold,
        sequence=row.sequence,
    )


def _without_places(record: SegmentRecord) -> SegmentRecord:
    if record.packed is not None:
        packed = msgspec.structs.replace(record.packed, pieces=[])
        return msgspec.structs.replace(record, pieces=[], packed=packed)
    return msgspec.structs.replace(record, pieces=[])


# --- keeping --------------------------------------------------------------------------------------


def _commit(connection: Connection, request: CommitManifest, now_ms: int) -> None:
    policy = buckets.lock_bucket(connection, request.bucket)
    if policy is None:
        if changes.waiting(connection, request.bucket, KIND_CATALOGUE)[0] == 0:
            raise no_bucket()
        policy = POLICY_DEFAULT  # an account's catalogue
    replaces = request.snapshot
    if request.sequences:
        if not changes.finish_rows(connection, request.bucket, request.number, request.writer):
            raise _taken()
    elif not manifests.holds_lease(connection, request.bucket, request.writer, now_ms):
        raise _taken()
    stream = request.segments[0].segment
    change = segments.insert_segments(
        connection, request.bucket, stream, 0, request.segments, policy, now_ms
    )
    manifests.insert_manifest(
        connection,
        request.bucket,
        request.number,
        stream,
        sum(record.plain_bytes for record in request.segments),
        now_ms,
        snapshot=request.snapshot,
    )
    if replaces:
        old = manifests.delete_upto(connection, request.bucket, request.covers)
        freed = segments.collect_streams(
            connection, [(one, 0, POSITION_END) for one in old], now_ms
        )
        change = change.plus(Usage().minus(freed))
        manifests.release_lease(connection, request.bucket, request.writer)
    segments.add_usage(connection, request.bucket, change, stream)


def _taken() -> AtollError:
    return AtollError(Kind.CONFLICT, "commit manifest", "another writer took these changes over")
