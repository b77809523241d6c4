"""Answers to what gateways ask about credentials, buckets, objects and listings.

Each change is one transaction: the condition is judged, the old segments become garbage and the
new ones visible together, or nothing happens. Uploads in parts: ``metadata.uploads``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import (
    POLICY_DEFAULT,
    Usage,
    pack_facts,
    unpack_composition,
    unpack_facts,
)
from atoll.coordinator.metadata.rules import (
    FACTS_BYTES_MAX,
    NAME_BYTES_MAX,
    Cursor,
    bad_request,
    check_condition,
    check_segments,
    first_cursor,
    key_bytes,
    roll_up,
    successor,
    text_bytes,
)
from atoll.coordinator.metadata.serials import check_serials
from atoll.coordinator.metadata.store import buckets, changes, locks, manifests, objects, segments
from atoll.coordinator.metadata.store.objects import ObjectRow
from atoll.coordinator.metadata.store.segments import POSITION_END
from atoll.coordinator.part import Handler
from atoll.core.crypto import NONCE_BYTES, open_secret, seal_secret
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages import (
    LIST_KEYS_MAX,
    BucketInfo,
    BucketList,
    CommitObject,
    CreateBucket,
    Credential,
    DeleteBucket,
    DeletedKeys,
    DeleteObjects,
    DiscardSegments,
    Done,
    GetBucket,
    GetCredential,
    ListBuckets,
    ListObjects,
    Message,
    ObjectFacts,
    ObjectInfo,
    ObjectList,
    ObjectRead,
    ReadObject,
    SegmentRecord,
)
from atoll.core.ports import Clock, Database, Rng
from atoll.core.retention import Mode

DELETE_KEYS_MAX = 1000
BUCKETS_LISTED_MAX = 10_000
CREDENTIALS_KEPT_MAX = 10_000
DISCARDED_MAX = 100_000
"""Segments of one discarded upload: more than a part of 5 GiB has."""
PIECES_MAX = 1024
"""Pieces of one discarded segment: all of its indexes on several nodes each."""
RACES_MAX = 8
"""Times a writer may find that another made or removed the key meanwhile; then ``CONFLICT``."""
BUCKET_MODES = ("managed", "sealed")
_DISCARDABLE = frozenset(
    {
        Kind.PRECONDITION_FAILED,
        Kind.OBJECT_NOT_FOUND,
        Kind.BUCKET_NOT_FOUND,
        Kind.UPLOAD_NOT_FOUND,
    }
)
"""Refusals after which nobody will commit the segments offered: their pieces are collected."""


@dataclass(frozen=True, slots=True)
class MetadataConfig:
    """Settings of the metadata."""

    region: str = "us-east-1"
    credential_cache_ms: int = 10_000
    """How long a revoked credential may still be accepted by another process."""
    upload_expiry_ms: int = 7 * 24 * 3600 * 1000
    """Uploads in parts older than this are collected."""
    completed_kept_ms: int = 24 * 3600 * 1000
    """How long a completed upload's answer is repeated, and a collected segment remembered."""
    secrets_key: bytes = field(default=b"", repr=False)
    """32 bytes under which secrets are sealed at rest."""
    segment_key: bytes = field(default=b"", repr=False)
    """Binds the ids of segments to their serials; empty: they are taken as they come."""


class MetadataService:
    """Handles the requests about credentials, buckets and whole objects."""

    def __init__(self, clock: Clock, rng: Rng, database: Database, config: MetadataConfig) -> None:
        """Serve from ``database``, which has this version's schema."""
        self._clock = clock
        self._rng = rng
        self._database = database
        self._config = config
        self._credentials: dict[str, tuple[float, Credential]] = {}
        self.handlers: dict[type[Message], Handler] = {
            GetCredential: self.get_credential,
            CreateBucket: self.create_bucket,
            GetBucket: self.get_bucket,
            ListBuckets: self.list_buckets,
            DeleteBucket: self.delete_bucket,
            CommitObject: self.commit_object,
            DiscardSegments: self.discard_segments,
            ReadObject: self.read_object,
            ListObjects: self.list_objects,
            DeleteObjects: self.delete_objects,
        }
        """By request type: how it is answered."""

    # --- credentials ----------------------------------------------------------------------------

    async def create_credential(
        self, account: bytes, owner_name: str, access_key: str, secret: str
    ) -> Credential:
        """Make an account, if there is none of that id, and a credential of it.

        A repeated call with the same access key answers with what is stored. Raises ``CONFLICT``
        if the access key belongs to another account.
        """
        if not 1 <= len(text_bytes(access_key)) <= NAME_BYTES_MAX:
            raise bad_request("an access key has 1..255 bytes")
        sealed = seal_secret(
            self._config.secrets_key,
            _label(access_key),
            secret.encode(),
            self._rng.bytes(NONCE_BYTES),
        )
        now_ms = self._clock.now_ms()

        def insert(connection: Connection) -> None:
            buckets.insert_account(connection, account, owner_name, now_ms)
            buckets.insert_credential(connection, access_key, account, sealed, now_ms)

        await self._database.write(insert)
        credential = await self.get_credential(GetCredential(access_key=access_key))
        if credential.account != account:
            raise AtollError(Kind.CONFLICT, "create credential", "this access key is taken")
        return credential

    async def list_credentials(self, limit: int = 1000) -> list[Credential]:
        """Return credentials with their secrets, oldest first (for the operator's own screen)."""
        rows = await self._database.read(partial(buckets.list_credentials, limit=limit))
        return [self._opened(row) for row in rows]

    async def get_credential(self, request: GetCredential) -> Credential:
        """Return a credential. Raises ``KEY_NOT_FOUND``."""
        now = self._clock.monotonic()
        kept = self._credentials.get(request.access_key)
        if kept is not None and now < kept[0]:
            return kept[1]
        row = await self._database.read(
            partial(buckets.find_credential, access_key=request.access_key)
        )
        if row is None:
            self._credentials.pop(request.access_key, None)
            raise AtollError(
                Kind.KEY_NOT_FOUND,
                "get credential",
                "there is no such access key",
                about=request.access_key,
            )
        credential = self._opened(row)
        if len(self._credentials) >= CREDENTIALS_KEPT_MAX:
            self._credentials.clear()
        until = now + self._config.credential_cache_ms / 1000
        self._credentials[request.access_key] = (until, credential)
        return credential

    def _opened(self, row: buckets.CredentialRow) -> Credential:
        secret = open_secret(self._config.secrets_key, _label(row.access_key), row.sealed_secret)
        active = row.status == row.account_status == "active"
        return Credential(
            access_key=row.access_key,
            secret=secret.decode(),
            account=row.account,
            owner_name=row.owner_name,
            status="active" if active else "suspended",
        )

    # --- buckets --------------------------------------------------------------------------------

    async def create_bucket(self, request: CreateBucket) -> BucketInfo:
        """Make a bucket. Raises ``BUCKET_OWNED`` or ``BUCKET_EXISTS``."""
        if not 1 <= len(text_bytes(request.name)) <= NAME_BYTES_MAX:
            raise bad_request("a bucket's name has 1..255 bytes")
        if request.mode not in BUCKET_MODES:
            raise bad_request(f"a bucket is one of {', '.join(BUCKET_MODES)}")
        bucket = BucketInfo(
            bucket=self._rng.bytes(16),
            account=request.account,
            name=request.name,
            region=request.region or self._config.region,
            mode=request.mode,
            created_ms=self._clock.now_ms(),
        )

        def insert(connection: Connection) -> BucketInfo:
            if buckets.insert_bucket(connection, bucket, POLICY_DEFAULT):
                changes.note_catalogue(
                    connection, bucket.account, bucket.created_ms, request.writer
                )
                return bucket
            there = buckets.find_bucket(connection, request.name)
            owned = there is not None and there.account == request.account
            raise AtollError(
                Kind.BUCKET_OWNED if owned else Kind.BUCKET_EXISTS,
                "create bucket",
                "you own this bucket already" if owned else "this bucket's name is taken",
                about=request.name,
            )

        return await self._database.write(insert)

    async def get_bucket(self, request: GetBucket) -> BucketInfo:
        """Find a bucket by name. Raises ``BUCKET_NOT_FOUND``."""
        name = text_bytes(request.name).decode()
        found = await self._database.read(partial(_find_bucket, name=name))
        if found is None:
            raise no_bucket(request.name)
        return found

    async def list_buckets(self, request: ListBuckets) -> BucketList:
        """Return an account's buckets in name order."""
        prefix, after = text_bytes(request.prefix), text_bytes(request.after)
        limit = max(0, min(request.limit, BUCKETS_LISTED_MAX))
        start = max(prefix, after + b"\0" if after else b"")
        found = await self._database.read(
            partial(
                buckets.list_buckets,
                account=request.account,
                start=start,
                stop=successor(prefix),
                limit=limit + 1,
            )
        )
        return BucketList(buckets=found[:limit], truncated=0 < limit < len(found))

    async def delete_bucket(self, request: DeleteBucket) -> Done:
        """Remove a bucket without objects; uploads in progress in it are collected.

        Raises ``BUCKET_NOT_FOUND``, ``BUCKET_NOT_EMPTY`` and ``FORBIDDEN``.
        """
        name = text_bytes(request.name).decode()

        def delete(connection: Connection) -> None:
            bucket = buckets.lock_bucket_by_name(connection, name)
            if bucket is None:
                raise no_bucket(name)
            if bucket.account != request.account:
                raise AtollError(
                    Kind.FORBIDDEN, "delete bucket", "this bucket is another's", about=name
                )
            if not buckets.bucket_is_empty(connection, bucket.bucket):
                raise AtollError(
                    Kind.BUCKET_NOT_EMPTY, "delete bucket", "the bucket holds objects", about=name
                )
            buckets.delete_bucket(connection, bucket.bucket)
            locks.end_bucket(connection, bucket.bucket)
            changes.forget_bucket(connection, bucket.bucket)
            streams = manifests.forget_bucket(connection, bucket.bucket)
            freed = segments.collect_streams(
                connection, [(stream, 0, POSITION_END) for stream in streams], now_ms
            )
            segments.add_usage(connection, bucket.bucket, Usage().minus(freed))
            changes.note_catalogue(connection, bucket.account, now_ms, request.writer)

        now_ms = self._clock.now_ms()
        await self._database.write(delete)
        return Done()

    # --- objects --------------------------------------------------------------------------------

    async def commit_object(self, request: CommitObject) -> ObjectInfo:
        """Make an object visible; the same commit again answers the same.

        Raises ``BUCKET_NOT_FOUND``, ``PRECONDITION_FAILED``, ``OBJECT_NOT_FOUND`` (``if_match`` on
        nothing); then the offered segments' pieces are collected.
        """
        key = key_bytes(request.key)
        check_segments(request.segments, request.facts.size)
        check_serials(self._config.segment_key, ((s.segment, s.serial) for s in request.segments))
        row = ObjectRow(
            key=key,
            modified_ms=self._clock.now_ms(),
            size=request.facts.size,
            stream=request.segments[0].segment if request.segments else b"",
            segments=len(request.segments),
            parts=0,
            facts=packed_facts(request.facts),
        )
        try:
            return await self._database.write(partial(_commit, request=request, row=row))
        except AtollError as error:
            await self.discard(error, request.bucket, request.segments)
            raise

    async def discard(self, error: AtollError, bucket: bytes, offered: list[SegmentRecord]) -> None:
        """Collect the pieces of segments that were refused for good."""
        if error.kind in _DISCARDABLE and offered:
            await self._database.write(
                partial(
                    segments.discard_segments,
                    bucket=bucket,
                    records=offered,
                    now_ms=self._clock.now_ms(),
                )
            )

    async def discard_segments(self, request: DiscardSegments) -> Done:
        """Let the pieces of a failed upload become garbage, unless it was committed after all."""
        if len(request.segments) > DISCARDED_MAX:
            raise bad_request(f"at most {DISCARDED_MAX} segments can be discarded at once")
        if any(len(one.segment) != SHORT_ID_BYTES for one in request.segments):
            raise bad_request(f"a segment id has {SHORT_ID_BYTES} bytes")
        if any(len(one.pieces) > PIECES_MAX for one in request.segments):
            raise bad_request(f"a segment has at most {PIECES_MAX} pieces to discard")
        await self._database.write(
            partial(
                segments.discard_segments,
                bucket=request.bucket,
                records=request.segments,
                now_ms=self._clock.now_ms(),
            )
        )
        return Done()

    async def read_object(self, request: ReadObject) -> ObjectRead:
        """Look an object up. Raises ``BUCKET_NOT_FOUND`` and ``OBJECT_NOT_FOUND``."""
        key = key_bytes(request.key)
        return await self._database.read(partial(_read, request=request, key=key))

    async def list_objects(self, request: ListObjects) -> ObjectList:
        """Return one page of a listing. Raises ``BUCKET_NOT_FOUND``.

        The facts of multipart objects come without their parts.
        """
        prefix, delimiter = text_bytes(request.prefix), text_bytes(request.delimiter)
        start = first_cursor(prefix, delimiter, text_bytes(request.after))
        limit = max(0, min(request.limit, LIST_KEYS_MAX))

        def page(connection: Connection) -> ObjectList:
            if not buckets.bucket_exists(connection, request.bucket):
                raise no_bucket()

            def fetch(cursor: Cursor, stop: bytes, count: int) -> list[ObjectRow]:
                return objects.list_objects(connection, request.bucket, cursor[0], stop, count)

            listed = roll_up(fetch, _cursor_after, start, prefix, delimiter, limit)
            last = listed.last.key if isinstance(listed.last, ObjectRow) else listed.last
            return ObjectList(
                objects=[object_info(row) for row in listed.rows],
                prefixes=[rolled.decode("utf-8", "replace") for rolled in listed.prefixes],
                truncated=listed.truncated,
                next_after=last.decode("utf-8", "replace") if listed.truncated and last else "",
            )

        return await self._database.read(page)

    async def delete_objects(self, request: DeleteObjects) -> DeletedKeys:
        """Remove keys. Raises ``BUCKET_NOT_FOUND``, ``PRECONDITION_FAILED``."""
        if len(request.keys) > DELETE_KEYS_MAX:
            raise bad_request(f"at most {DELETE_KEYS_MAX} keys are deleted at once")
        if (request.condition.if_match or request.condition.if_none_match) and (
            len(request.keys) != 1
        ):
            raise bad_request("a conditional deletion names one key")
        keys = sorted({key_bytes(key) for key in request.keys})
        now_ms = self._clock.now_ms()
        return await self._database.write(
            partial(delete_in, request=request, keys=keys, now_ms=now_ms)
        )


def _find_bucket(connection: Connection, name: str) -> BucketInfo | None:
    found = buckets.find_bucket(connection, name)
    return None if found is None else with_default_lock(connection, found)


def with_default_lock(connection: Connection, bucket: BucketInfo) -> BucketInfo:
    """Return a bucket with what its new objects are locked by."""
    mode, days = locks.default_lock(connection, bucket.bucket)
    if mode is Mode.NONE:
        return bucket
    return msgspec.structs.replace(bucket, lock_mode=mode.name.lower(), lock_days=days)


def _label(access_key: str) -> str:
    return f"credential/{access_key}"


def no_bucket(about: str = "") -> AtollError:
    """Return the error for a bucket that is not there."""
    return AtollError(Kind.BUCKET_NOT_FOUND, "find bucket", "there is no such bucket", about=about)


def no_object(key: bytes) -> AtollError:
    """Return the error for an object that is not there."""
    return AtollError(
        Kind.OBJECT_NOT_FOUND,
        "find object",
        "there is no such object",
        about=key.decode("utf-8", "replace"),
    )


def packed_facts(facts: ObjectFacts) -> bytes:
    """Encode an object's facts. Raises ``TOO_LARGE``."""
    packed = pack_facts(facts)
    if len(packed) > FACTS_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE, "commit object", f"headers and metadata exceed {FACTS_BYTES_MAX} bytes"
        )
    return packed


def object_info(row: ObjectRow) -> ObjectInfo:
    """Return an object as listings show it."""
    return ObjectInfo(
        key=row.key.decode("utf-8", "replace"),
        modified_ms=row.modified_ms,
        facts=unpack_facts(row.facts),
    )


def _cursor_after(row: ObjectRow) -> Cursor:
    return row.key + b"\0", b""


def put_row(
    connection: Connection,
    bucket: bytes,
    row: ObjectRow,
    judge: Callable[[ObjectRow | None], bool],
    now_ms: int,
) -> Usage | None:
    """Write an object's row in place of what was there, whose segments become garbage.

    ``judge`` sees what is there, locked, and raises, or returns False to leave all as it is.
    Returns the change of usage, or None for that.
    """
    for _ in range(RACES_MAX):
        old = objects.lock_object(connection, bucket, row.key)
        if not judge(old):
            return None
        if old is not None:
            locks.check_free(connection, bucket, row.key, now_ms)
        if old is None:
            if objects.insert_object(connection, bucket, row):
                locks.begin_object(connection, bucket, row.key, row.stream, now_ms)
                return Usage(objects=1, object_bytes=row.size)
            continue
        objects.update_object(connection, bucket, row)
        locks.begin_object(connection, bucket, row.key, row.stream, now_ms)
        change = Usage(object_bytes=row.size).minus(Usage(object_bytes=old.size))
        return change.minus(_collect(connection, [old], now_ms))
    raise AtollError(Kind.CONFLICT, "commit object", "others keep changing this key")


def _collect(connection: Connection, rows: list[ObjectRow], now_ms: int) -> Usage:
    for row in rows:
        if row.parts:
            objects.delete_composition(connection, row.stream)
    streams = [(row.stream, 0, POSITION_END) for row in rows if row.stream]
    return segments.collect_streams(connection, streams, now_ms)


def _commit(connection: Connection, request: CommitObject, row: ObjectRow) -> ObjectInfo:
    policy = buckets.lock_bucket(connection, request.bucket)
    if policy is None:
        raise no_bucket()
    repeated: list[ObjectRow] = []

    def judge(old: ObjectRow | None) -> bool:
        if old is not None and row.stream and replace(row, modified_ms=old.modified_ms) == old:
            repeated.append(old)
            return False
        if request.condition.if_match or request.condition.if_none_match:
            check_condition(
                request.condition, None if old is None else unpack_facts(old.facts).etag
            )
        return True

    change = put_row(connection, request.bucket, row, judge, row.modified_ms)
    if change is None:
        return object_info(repeated[0])
    if request.segments:
        added = segments.insert_segments(
            connection, request.bucket, row.stream, 0, request.segments, policy, row.modified_ms
        )
        change = change.plus(added)
    changes.note_keys(connection, request.bucket, [row.key], row.modified_ms, request.writer)
    segments.add_usage(connection, request.bucket, change, row.key)
    return ObjectInfo(key=request.key, modified_ms=row.modified_ms, facts=request.facts)


def _read(connection: Connection, request: ReadObject, key: bytes) -> ObjectRead:
    row = objects.find_object(connection, request.bucket, key)
    if row is None:
        if not buckets.bucket_exists(connection, request.bucket):
            raise no_bucket()
        raise no_object(key)
    facts = unpack_facts(row.facts)
    if row.parts:
        packed = objects.find_composition(connection, row.stream)
        assert packed is not None, "a multipart object keeps its composition"
        facts = unpack_composition(packed, facts)
    records = []
    if request.segments and row.segments:
        records = segments.records_of_stream(connection, row.stream, row.segments)
        assert len(records) == row.segments, "an object's segments are all there"
    return ObjectRead(
        info=ObjectInfo(key=request.key, modified_ms=row.modified_ms, facts=facts),
        segments=records,
    )


def delete_in(
    connection: Connection, request: DeleteObjects, keys: list[bytes], now_ms: int
) -> DeletedKeys:
    """Remove keys, in order, within a transaction; what is locked stays."""
    if buckets.lock_bucket(connection, request.bucket) is None:
        raise no_bucket()
    if request.condition.if_match or request.condition.if_none_match:
        old = objects.lock_object(connection, request.bucket, keys[0])
        check_condition(request.condition, None if old is None else unpack_facts(old.facts).etag)
    gone, locked = [], set[bytes]()
    for key in keys:
        if locks.is_locked(connection, request.bucket, key, now_ms):
            locked.add(key)
            continue
        row = objects.delete_object(connection, request.bucket, key)
        if row is not None:
            locks.end_object(connection, request.bucket, key)
            gone.append(row)
    if gone:
        keys_gone = [row.key for row in gone]
        changes.note_keys(connection, request.bucket, keys_gone, now_ms, request.writer)
        freed = _collect(connection, gone, now_ms)
        freed = freed.plus(Usage(objects=len(gone), object_bytes=sum(row.size for row in gone)))
        segments.add_usage(connection, request.bucket, Usage().minus(freed), keys[0])
    existed = {row.key for row in gone}
    return DeletedKeys(
        existed=[key for key in request.keys if key.encode() in existed],
        locked=[key for key in request.keys if key.encode() in locked],
    )
