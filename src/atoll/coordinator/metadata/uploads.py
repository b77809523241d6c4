"""Answers to what gateways ask about multipart uploads, and their expiry.

A part's segments are written under the upload's id at positions that carry the part's number, so
that completing an upload moves nothing: the object's row names the upload as its stream.
"""

from collections.abc import Sequence
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import (
    Usage,
    pack_checksums,
    pack_composition,
    unpack_checksums,
    unpack_facts,
)
from atoll.coordinator.metadata.rules import (
    PART_NUMBER_MAX,
    Cursor,
    bad_request,
    check_condition,
    check_segments,
    choose_parts,
    first_cursor,
    key_bytes,
    part_range,
    parts_digest,
    roll_up,
    text_bytes,
)
from atoll.coordinator.metadata.serials import check_serials
from atoll.coordinator.metadata.service import (
    MetadataConfig,
    MetadataService,
    no_bucket,
    packed_facts,
    put_row,
)
from atoll.coordinator.metadata.store import buckets, changes, objects, segments, uploads
from atoll.coordinator.metadata.store.objects import ObjectRow
from atoll.coordinator.metadata.store.segments import POSITION_END
from atoll.coordinator.metadata.store.uploads import PartRow, UploadRow
from atoll.coordinator.part import Handler
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    LIST_KEYS_MAX,
    AbortUpload,
    CommitPart,
    CompleteUpload,
    CreateUpload,
    Done,
    GetUpload,
    ListParts,
    ListUploads,
    Message,
    ObjectInfo,
    PartInfo,
    PartList,
    UploadInfo,
    UploadList,
    decode,
    encode,
)
from atoll.core.ports import Clock, Database, Rng

PARTS_LISTED_MAX = PART_NUMBER_MAX
EXPIRED_AT_ONCE_MAX = 100
"""Stale uploads collected by one call of ``expire``."""


class UploadService:
    """Handles the requests about multipart uploads."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        database: Database,
        config: MetadataConfig,
        metadata: MetadataService,
    ) -> None:
        """Serve from the database of ``metadata``."""
        self._clock = clock
        self._rng = rng
        self._database = database
        self._config = config
        self._metadata = metadata
        self.handlers: dict[type[Message], Handler] = {
            CreateUpload: self.create_upload,
            GetUpload: self.get_upload,
            CommitPart: self.commit_part,
            ListParts: self.list_parts,
            ListUploads: self.list_uploads,
            CompleteUpload: self.complete_upload,
            AbortUpload: self.abort_upload,
        }
        """By request type: how it is answered."""

    async def create_upload(self, request: CreateUpload) -> UploadInfo:
        """Start an upload. Raises ``BUCKET_NOT_FOUND``."""
        row = UploadRow(
            bucket=request.bucket,
            key=key_bytes(request.key),
            upload=self._rng.bytes(16),
            facts=packed_facts(request.facts),
            checksum_algorithm=request.checksum_algorithm,
            created_ms=self._clock.now_ms(),
        )

        def insert(connection: Connection) -> None:
            if buckets.lock_bucket(connection, request.bucket) is None:
                raise no_bucket()
            uploads.insert_upload(connection, row)

        await self._database.write(insert)
        return _upload_info(row)

    async def get_upload(self, request: GetUpload) -> UploadInfo:
        """Find an upload. Raises ``UPLOAD_NOT_FOUND``."""
        key = key_bytes(request.key)
        row = await self._database.read(
            partial(uploads.find_upload, bucket=request.bucket, key=key, upload=request.upload)
        )
        if row is None:
            raise no_upload()
        return _upload_info(row)

    async def commit_part(self, request: CommitPart) -> Done:
        """Store a part in place of the one of its number.

        Raises ``UPLOAD_NOT_FOUND`` and ``BUCKET_NOT_FOUND``; then its pieces are collected.
        """
        if not 1 <= request.part.number <= PART_NUMBER_MAX:
            raise bad_request(f"a part's number is 1..{PART_NUMBER_MAX}")
        key = key_bytes(request.key)
        check_segments(request.segments, request.part.size)
        check_serials(self._config.segment_key, ((s.segment, s.serial) for s in request.segments))
        now_ms = self._clock.now_ms()
        try:
            await self._database.write(
                partial(_commit_part, request=request, key=key, now_ms=now_ms)
            )
        except AtollError as error:
            await self._metadata.discard(error, request.bucket, request.segments)
            raise
        return Done()

    async def list_parts(self, request: ListParts) -> PartList:
        """Return a page of an upload's parts. Raises ``UPLOAD_NOT_FOUND``."""
        key = key_bytes(request.key)
        limit = max(0, min(request.limit, PARTS_LISTED_MAX))

        def page(connection: Connection) -> PartList:
            upload = uploads.find_upload(connection, request.bucket, key, request.upload)
            if upload is None:
                raise no_upload()
            rows = uploads.list_parts(connection, request.upload, request.after, limit + 1)
            return PartList(
                upload=_upload_info(upload),
                parts=[_part_info(row) for row in rows[:limit]],
                truncated=0 < limit < len(rows),
            )

        return await self._database.read(page)

    async def list_uploads(self, request: ListUploads) -> UploadList:
        """Return a page of a bucket's uploads. Raises ``BUCKET_NOT_FOUND``."""
        prefix, delimiter = text_bytes(request.prefix), text_bytes(request.delimiter)
        after = text_bytes(request.after_key)
        start = first_cursor(prefix, delimiter, after, request.after_upload)
        limit = max(0, min(request.limit, LIST_KEYS_MAX))

        def page(connection: Connection) -> UploadList:
            if not buckets.bucket_exists(connection, request.bucket):
                raise no_bucket()

            def fetch(cursor: Cursor, stop: bytes, count: int) -> list[UploadRow]:
                return uploads.list_uploads(connection, request.bucket, cursor, stop, count)

            listed = roll_up(fetch, _cursor_after, start, prefix, delimiter, limit)
            last, next_key, next_upload = listed.last, b"", b""
            if listed.truncated and isinstance(last, UploadRow):
                next_key, next_upload = last.key, last.upload
            elif listed.truncated and isinstance(last, bytes):
                next_key = last
            return UploadList(
                uploads=[_upload_info(row) for row in listed.rows],
                prefixes=[rolled.decode("utf-8", "replace") for rolled in listed.prefixes],
                truncated=listed.truncated,
                next_key=next_key.decode("utf-8", "replace"),
                next_upload=next_upload,
            )

        return await self._database.read(page)

    async def complete_upload(self, request: CompleteUpload) -> ObjectInfo:
        """Make the object of an upload's parts; parts not named are collected.

        Raises ``UPLOAD_NOT_FOUND``, ``INVALID_PART``, ``INVALID_PART_ORDER``, ``PART_TOO_SMALL``,
        ``PRECONDITION_FAILED``, ``OBJECT_NOT_FOUND`` and ``BUCKET_NOT_FOUND``; the upload stays.
        """
        key = key_bytes(request.key)
        if len(request.parts) > PART_NUMBER_MAX:
            raise bad_request(f"an object has at most {PART_NUMBER_MAX} parts")
        now_ms = self._clock.now_ms()
        return await self._database.write(
            partial(_complete, request=request, key=key, now_ms=now_ms)
        )

    async def abort_upload(self, request: AbortUpload) -> Done:
        """Forget an upload and collect its parts. Raises ``UPLOAD_NOT_FOUND``."""
        key = key_bytes(request.key)
        now_ms = self._clock.now_ms()

        def abort(connection: Connection) -> None:
            if not _abort(connection, request.bucket, key, request.upload, now_ms):
                raise no_upload()

        await self._database.write(abort)
        return Done()

    async def expire(self) -> int:
        """Collect some stale uploads and old answers; return how many uploads were collected."""
        now_ms = self._clock.now_ms()
        before_ms = now_ms - self._config.upload_expiry_ms
        stale = await self._database.read(
            partial(uploads.stale_uploads, before_ms=before_ms, limit=EXPIRED_AT_ONCE_MAX)
        )
        for row in stale:
            await self._database.write(
                partial(_abort, bucket=row.bucket, key=row.key, upload=row.upload, now_ms=now_ms)
            )
        forget_ms = now_ms - self._config.completed_kept_ms

        def forget(connection: Connection) -> None:
            uploads.forget_completed(connection, forget_ms)
            segments.forget_spent(connection, forget_ms)

        await self._database.write(forget)
        return len(stale)


def no_upload() -> AtollError:
    """Return the error for an upload that is not there."""
    return AtollError(Kind.UPLOAD_NOT_FOUND, "find upload", "there is no such upload")


def _cursor_after(row: UploadRow) -> Cursor:
    return row.key, row.upload + b"\0"


def _upload_info(row: UploadRow) -> UploadInfo:
    return UploadInfo(
        upload=row.upload,
        bucket=row.bucket,
        key=row.key.decode("utf-8", "replace"),
        facts=unpack_facts(row.facts),
        checksum_algorithm=row.checksum_algorithm,
        created_ms=row.created_ms,
    )


def _part_info(row: PartRow) -> PartInfo:
    return PartInfo(
        number=row.number,
        size=row.size,
        etag=row.etag,
        modified_ms=row.modified_ms,
        checksums=unpack_checksums(row.checksums),
    )


def _commit_part(connection: Connection, request: CommitPart, key: bytes, now_ms: int) -> None:
    policy = buckets.lock_bucket(connection, request.bucket)
    if policy is None:
        raise no_bucket()
    if uploads.share_upload(connection, request.bucket, key, request.upload) is None:
        raise no_upload()
    part = request.part
    uploads.put_part(
        connection,
        request.upload,
        PartRow(
            number=part.number,
            size=part.size,
            etag=part.etag,
            checksums=pack_checksums(part.checksums),
            modified_ms=part.modified_ms or now_ms,
            segments=len(request.segments),
        ),
    )
    first, end = part_range(part.number)
    there = segments.segments_of_stream(connection, request.upload, first, first + 1)
    if there and request.segments and there[0].segment == request.segments[0].segment:
        return  # the same commit again, its first answer lost on the way
    freed = segments.collect_streams(connection, [(request.upload, first, end)], now_ms)
    added = segments.insert_segments(
        connection, request.bucket, request.upload, first, request.segments, policy, now_ms
    )
    segments.add_usage(connection, request.bucket, added.minus(freed), request.upload)


def _complete(
    connection: Connection, request: CompleteUpload, key: bytes, now_ms: int
) -> ObjectInfo:
    digest = parts_digest(request.parts)
    if buckets.lock_bucket(connection, request.bucket) is None:
        raise no_bucket()
    upload = uploads.lock_upload(connection, request.bucket, key, request.upload)
    if upload is None:
        done = uploads.find_completed(connection, request.bucket, key, request.upload)
        if done is None or done[0] != digest:
            raise no_upload()
        answer: ObjectInfo = decode(done[1], ObjectInfo)
        return answer
    stored = uploads.list_parts(connection, request.upload, 0, PART_NUMBER_MAX)
    chosen = choose_parts(request.parts, stored)
    sizes = [part.size for part in chosen]
    if sum(sizes) != request.facts.size:
        raise bad_request("the parts do not hold as many bytes as the object")
    facts = msgspec.structs.replace(request.facts, part_sizes=sizes)
    plain = msgspec.structs.replace(facts, part_sizes=[], part_checksums=[])
    row = ObjectRow(
        key=key,
        modified_ms=now_ms,
        size=facts.size,
        stream=request.upload,
        segments=sum(part.segments for part in chosen),
        parts=len(chosen),
        facts=packed_facts(plain),
    )

    def judge(old: ObjectRow | None) -> bool:
        etag = None if old is None else unpack_facts(old.facts).etag
        check_condition(request.condition, etag)
        return True

    change = put_row(connection, request.bucket, row, judge, now_ms)
    assert change is not None, "an upload is completed once"
    freed = segments.collect_streams(
        connection, _ranges_left_out(request.upload, chosen, stored), now_ms
    )
    objects.insert_composition(connection, request.upload, pack_composition(facts))
    answer = ObjectInfo(key=request.key, modified_ms=now_ms, facts=plain)
    uploads.keep_completed(connection, upload, digest, encode(answer), now_ms)
    uploads.delete_upload(connection, upload)
    changes.note_keys(connection, request.bucket, [key], now_ms, request.writer)
    segments.add_usage(connection, request.bucket, change.minus(freed), key)
    return answer


def _ranges_left_out(
    upload: bytes, chosen: Sequence[PartRow], stored: Sequence[PartRow]
) -> list[tuple[bytes, int, int]]:
    kept = {part.number for part in chosen}
    return [(upload, *part_range(part.number)) for part in stored if part.number not in kept]


def _abort(connection: Connection, bucket: bytes, key: bytes, upload: bytes, now_ms: int) -> bool:
    row = uploads.lock_upload(connection, bucket, key, upload)
    if row is None:
        return False
    freed = segments.collect_streams(connection, [(upload, 0, POSITION_END)], now_ms)
    uploads.delete_upload(connection, row)
    segments.add_usage(connection, bucket, Usage().minus(freed), upload)
    return True
