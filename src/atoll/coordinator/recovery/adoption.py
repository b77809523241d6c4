"""Buckets taken over from elsewhere: the owner brings what he found on nodes, we keep it."""

from functools import partial
from itertools import groupby

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import (
    POLICY_DEFAULT,
    Usage,
    pack_composition,
)
from atoll.coordinator.metadata.rules import bad_request, check_segments, key_bytes
from atoll.coordinator.metadata.serials import SerialAllocator
from atoll.coordinator.metadata.service import no_bucket, packed_facts
from atoll.coordinator.metadata.store import (
    buckets,
    changes,
    locks,
    manifests,
    objects,
    packs,
    segments,
)
from atoll.coordinator.metadata.store.locks import LockRow
from atoll.coordinator.metadata.store.objects import ObjectRow
from atoll.coordinator.metadata.store.packs import PackedRow
from atoll.coordinator.part import Handler, Part
from atoll.coordinator.policy.store import add_policy
from atoll.coordinator.registry.service import RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages import BucketInfo, Message, SegmentRecord
from atoll.core.messages.recovery import (
    AdoptBucket,
    AdoptedLock,
    AdoptedSerials,
    AdoptObjects,
    AdoptSerials,
    ObjectEntry,
    ObjectsAdopted,
)
from atoll.core.messages.retention import LockState
from atoll.core.packing import PackedLayout
from atoll.core.policy.text import parse
from atoll.core.ports import Clock, Database
from atoll.core.retention import Mode, parse_record

DEFAULT_DAYS_MAX = 36_500
SEGMENTS_MAX = 10_000
"""Segments of one question for serials."""


class AdoptionService(Part):
    """Answers an owner (through a gateway's key) who brings his buckets along."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        serials: SerialAllocator,
        registry: RegistryService,
        coordinator_key: bytes,
    ) -> None:
        """``coordinator_key`` is what adopted pieces will obey."""
        self._clock = clock
        self._database = database
        self._serials = serials
        self._registry = registry
        self._key = coordinator_key
        self.handlers: dict[type[Message], Handler] = {
            AdoptBucket: self.adopt_bucket,
            AdoptSerials: self.adopt_serials,
            AdoptObjects: self.adopt_objects,
        }

    async def adopt_bucket(self, request: AdoptBucket) -> BucketInfo:
        """Make the bucket under its own id; the same again changes nothing.

        Raises ``BUCKET_EXISTS`` where another bucket has its name.
        """
        bucket = msgspec.structs.replace(request.bucket, policy=POLICY_DEFAULT)
        if len(bucket.bucket) != SHORT_ID_BYTES or len(bucket.account) != SHORT_ID_BYTES:
            raise bad_request(f"ids have {SHORT_ID_BYTES} bytes")
        default = _mode(bucket.lock_mode)
        if (default is Mode.NONE) != (bucket.lock_days == 0) or not (
            0 <= bucket.lock_days <= DEFAULT_DAYS_MAX
        ):
            raise bad_request(f"a default lock lasts 1 to {DEFAULT_DAYS_MAX} days")
        if request.policy_text:
            parse(request.policy_text)
        now_ms = self._clock.now_ms()

        def adopt(connection: Connection) -> BucketInfo:
            known = buckets.bucket_by_id(connection, bucket.bucket)
            if known is not None:
                return known
            buckets.insert_account(connection, bucket.account, request.owner_name, now_ms)
            if not buckets.insert_bucket(connection, bucket, POLICY_DEFAULT):
                raise AtollError(
                    Kind.BUCKET_EXISTS,
                    "adopt bucket",
                    "another bucket has this name here",
                    about=bucket.name,
                )
            locks.set_default_lock(connection, bucket.bucket, default, bucket.lock_days)
            policy = POLICY_DEFAULT
            if request.policy_text:
                policy = add_policy(connection, bucket.bucket, 1, request.policy_text, now_ms)[0]
            manifests.raise_number(connection, bucket.bucket, request.manifest_number)
            manifests.raise_number(connection, bucket.account, request.catalogue_number)
            changes.note_catalogue(connection, bucket.account, now_ms)
            return msgspec.structs.replace(bucket, policy=policy)

        return await self._database.write(adopt)

    async def adopt_serials(self, request: AdoptSerials) -> AdoptedSerials:
        """Return the serial of each segment: the one it has here, else a new one."""
        if len(request.segments) > SEGMENTS_MAX:
            raise bad_request(f"at most {SEGMENTS_MAX} segments at a time")
        known = await self._database.read(
            lambda c: [segments.segment_by_id(c, segment) for segment in request.segments]
        )
        await self._registry.fresh()
        return AdoptedSerials(
            serials=[one.serial if one else await self._serials.take() for one in known],
            coordinator_key=self._key,
            nodes={view.node_id.hex(): view.alias for view in self._registry.nodes()},
        )

    async def adopt_objects(self, request: AdoptObjects) -> ObjectsAdopted:
        """Keep objects; keys that exist stay as they are. Raises ``BUCKET_NOT_FOUND``."""
        for entry in request.entries:
            own = [record for record in entry.segments if record.packed is None]
            if len(own) == len(entry.segments):
                check_segments(own, entry.facts.size)
        _check_locks(request)
        now_ms = self._clock.now_ms()
        written = await self._database.write(partial(_adopt, request=request, now_ms=now_ms))
        return ObjectsAdopted(written=written)


def _adopt(connection: Connection, request: AdoptObjects, now_ms: int) -> int:
    bucket = request.bucket
    policy = buckets.lock_bucket(connection, bucket)
    if policy is None:
        raise no_bucket()
    usage, keys = Usage(), []
    signed = {one.key: one for one in request.locks}
    for entry in request.entries:
        row = _row_of(entry)
        if not objects.insert_object(connection, bucket, row):
            continue
        keys.append(row.key)
        usage = usage.plus(Usage(objects=1, object_bytes=row.size))
        if row.parts:
            objects.insert_composition(connection, row.stream, pack_composition(entry.facts))
        usage = usage.plus(_adopt_segments(connection, bucket, row, entry, policy, now_ms))
        if entry.lock is not None:
            records = signed.get(entry.key)
            _adopt_lock(connection, row, entry.lock, (request, records), now_ms)
    changes.note_keys(connection, bucket, keys, now_ms, changes.NOBODY)
    segments.add_usage(connection, bucket, usage)
    return len(keys)


def _mode(name: str) -> Mode:
    try:
        return Mode[name.upper()] if name else Mode.NONE
    except KeyError:
        raise bad_request("a lock's mode is governance, compliance or empty") from None


def _check_locks(request: AdoptObjects) -> None:
    """Raise ``BAD_REQUEST`` unless the records say of every segment what its object's lock says."""
    entries = {entry.key: entry for entry in request.entries}
    for entry in request.entries:
        if entry.lock is not None:
            _mode(entry.lock.mode)
    for one in request.locks:
        named = entries.get(one.key)
        if named is None or named.lock is None:
            raise bad_request("records come with an object and its lock")
        own = {record.segment for record in named.segments if record.packed is None}
        lock = named.lock
        says = (_mode(lock.mode), lock.until_ms, lock.legal_hold, lock.sequence)
        for signed in one.records:
            record = parse_record(signed.record)
            said = (record.mode, record.until_ms, record.legal_hold, record.sequence)
            if record.segment_id != signed.segment or said != says:
                raise bad_request("a record does not say what the object's lock says")
        if {signed.segment for signed in one.records} != own:
            raise bad_request("a lock has one record for each of its object's segments")


def _adopt_lock(
    connection: Connection,
    row: ObjectRow,
    lock: LockState,
    told: tuple[AdoptObjects, AdoptedLock | None],
    now_ms: int,
) -> None:
    """Write how an object is locked; its holders are told again, and confirm, by and by."""
    request, records = told
    locks.put_lock(
        connection,
        LockRow(
            request.bucket,
            row.key,
            row.stream,
            _mode(lock.mode),
            lock.until_ms,
            lock.legal_hold,
            lock.sequence,
            signed=records is not None,
        ),
    )
    for one in records.records if records is not None else ():
        locks.put_segment_lock(
            connection, one.segment, request.bucket, one.record, request.grant, now_ms
        )


def _row_of(entry: ObjectEntry) -> ObjectRow:
    facts = msgspec.structs.replace(entry.facts, part_sizes=[], part_checksums=[])
    return ObjectRow(
        key=key_bytes(entry.key),
        modified_ms=entry.modified_ms,
        size=entry.facts.size,
        stream=entry.segments[0].segment if entry.segments else b"",
        segments=len(entry.segments),
        parts=len(entry.facts.part_sizes),
        facts=packed_facts(facts),
    )


def _adopt_segments(
    connection: Connection,
    bucket: bytes,
    row: ObjectRow,
    entry: ObjectEntry,
    policy: int,
    now_ms: int,
) -> Usage:
    """Write an object's segments at positions 0, 1, …, and the packs that some of them lie in."""
    usage = Usage()
    placed = list(enumerate(entry.segments))
    for packed, run in groupby(placed, lambda one: one[1].packed is not None):
        members = list(run)
        if not packed:
            records = [record for _, record in members]
            usage = usage.plus(
                segments.insert_segments(
                    connection, bucket, row.stream, members[0][0], records, policy, now_ms
                )
            )
            continue
        for position, record in members:
            usage = usage.plus(
                _adopt_packed(connection, bucket, (row.stream, position), record, policy, now_ms)
            )
    return usage


def _adopt_packed(
    connection: Connection,
    bucket: bytes,
    place: tuple[bytes, int],
    record: SegmentRecord,
    policy: int,
    now_ms: int,
) -> Usage:
    packed = record.packed
    assert packed is not None
    usage = Usage()
    pack = packed.record()
    if segments.segment_by_id(connection, pack.segment) is None:
        usage = segments.insert_segments(
            connection, bucket, pack.segment, 0, [pack], policy, now_ms
        )
    stored = PackedLayout(record.plain_bytes, record.unit_bytes).stored_bytes
    packs.adopt_items(connection, pack.segment, bucket, (stored, 1), now_ms)
    stream, position = place
    packs.insert_packed(
        connection,
        [
            PackedRow(
                stream=stream,
                position=position,
                segment=record.segment,
                plain_bytes=record.plain_bytes,
                unit_bytes=record.unit_bytes,
                wrapped_key=record.wrapped_key,
                pack=pack.segment,
                pack_offset=packed.offset,
            )
        ],
    )
    return usage
