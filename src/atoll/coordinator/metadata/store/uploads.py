"""Multipart uploads in progress, their parts, and the answers of those completed lately."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

_INSERT = Statement("""
    INSERT INTO upload (bucket, key, upload, facts, checksum_algorithm, created_ms)
    VALUES (:bucket, :key, :upload, :facts, :checksum_algorithm, :created_ms)""")
_FIND = Statement("""
    SELECT bucket, key, upload, facts, checksum_algorithm, created_ms FROM upload
    WHERE bucket = :bucket AND key = :key AND upload = :upload""")
_SHARE = Statement("""
    SELECT bucket, key, upload, facts, checksum_algorithm, created_ms FROM upload
    WHERE bucket = :bucket AND key = :key AND upload = :upload FOR KEY SHARE""")
_LOCK = Statement("""
    SELECT bucket, key, upload, facts, checksum_algorithm, created_ms FROM upload
    WHERE bucket = :bucket AND key = :key AND upload = :upload FOR UPDATE""")
_DELETE = Statement("""
    DELETE FROM upload WHERE bucket = :bucket AND key = :key AND upload = :upload""")
_LIST = Statement("""
    SELECT bucket, key, upload, facts, checksum_algorithm, created_ms FROM upload
    WHERE bucket = :bucket AND (key, upload) >= (:start, :start_upload) AND key < :stop
    ORDER BY key, upload LIMIT :limit""")
_STALE = Statement("""
    SELECT bucket, key, upload, facts, checksum_algorithm, created_ms FROM upload
    WHERE created_ms < :before_ms ORDER BY created_ms LIMIT :limit""")

_PUT_PART = Statement("""
    INSERT INTO part (upload, number, size, etag, checksums, modified_ms, segments)
    VALUES (:upload, :number, :size, :etag, :checksums, :modified_ms, :segments)
    ON CONFLICT (upload, number) DO UPDATE SET size = excluded.size, etag = excluded.etag,
        checksums = excluded.checksums, modified_ms = excluded.modified_ms,
        segments = excluded.segments""")
_PARTS = Statement("""
    SELECT number, size, etag, checksums, modified_ms, segments FROM part
    WHERE upload = :upload AND number > :after ORDER BY number LIMIT :limit""")
_DELETE_PARTS = Statement("DELETE FROM part WHERE upload = :upload")

_INSERT_COMPLETED = Statement("""
    INSERT INTO completed (upload, bucket, key, parts_digest, answer, completed_ms)
    VALUES (:upload, :bucket, :key, :parts_digest, :answer, :completed_ms)""")
_COMPLETED = Statement("""
    SELECT parts_digest, answer FROM completed
    WHERE upload = :upload AND bucket = :bucket AND key = :key""")
_FORGET_COMPLETED = Statement("DELETE FROM completed WHERE completed_ms < :before_ms")


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload in progress, as stored."""

    bucket: bytes
    key: bytes
    upload: bytes
    facts: bytes
    checksum_algorithm: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part, as stored."""

    number: int
    size: int
    etag: str
    checksums: bytes
    modified_ms: int
    segments: int


def insert_upload(connection: Connection, row: UploadRow) -> None:
    """Start an upload."""
    _INSERT.run(
        connection,
        bucket=row.bucket,
        key=row.key,
        upload=row.upload,
        facts=row.facts,
        checksum_algorithm=row.checksum_algorithm,
        created_ms=row.created_ms,
    )


def find_upload(
    connection: Connection, bucket: bytes, key: bytes, upload: bytes
) -> UploadRow | None:
    """Find an upload."""
    row = _FIND.first(connection, bucket=bucket, key=key, upload=upload)
    return None if row is None else UploadRow(*row)


def share_upload(
    connection: Connection, bucket: bytes, key: bytes, upload: bytes
) -> UploadRow | None:
    """Find an upload and keep it from ending until the transaction does."""
    row = _SHARE.first(connection, bucket=bucket, key=key, upload=upload)
    return None if row is None else UploadRow(*row)


def lock_upload(
    connection: Connection, bucket: bytes, key: bytes, upload: bytes
) -> UploadRow | None:
    """Find an upload and keep its parts from changing until the transaction ends."""
    row = _LOCK.first(connection, bucket=bucket, key=key, upload=upload)
    return None if row is None else UploadRow(*row)


def delete_upload(connection: Connection, row: UploadRow) -> None:
    """Forget an upload and its parts' rows; their segments are the caller's to judge."""
    _DELETE_PARTS.run(connection, upload=row.upload)
    _DELETE.run(connection, bucket=row.bucket, key=row.key, upload=row.upload)


def list_uploads(
    connection: Connection, bucket: bytes, start: tuple[bytes, bytes], stop: bytes, limit: int
) -> list[UploadRow]:
    """Return uploads with start <= (key, upload id) and key < stop, in that order."""
    rows = _LIST.all(
        connection,
        bucket=bucket,
        start=start[0],
        start_upload=start[1],
        stop=stop,
        limit=limit,
    )
    return [UploadRow(*row) for row in rows]


def stale_uploads(connection: Connection, before_ms: int, limit: int) -> list[UploadRow]:
    """Return uploads begun before a time, oldest first."""
    return [UploadRow(*row) for row in _STALE.all(connection, before_ms=before_ms, limit=limit)]


def put_part(connection: Connection, upload: bytes, part: PartRow) -> None:
    """Write a part's row, or replace it: whoever replaces the same part waits here."""
    _PUT_PART.run(
        connection,
        upload=upload,
        number=part.number,
        size=part.size,
        etag=part.etag,
        checksums=part.checksums,
        modified_ms=part.modified_ms,
        segments=part.segments,
    )


def list_parts(connection: Connection, upload: bytes, after: int, limit: int) -> Sequence[PartRow]:
    """Return parts with numbers above ``after``, in order."""
    rows = _PARTS.all(connection, upload=upload, after=after, limit=limit)
    return [PartRow(*row) for row in rows]


def keep_completed(
    connection: Connection, row: UploadRow, parts_digest: bytes, answer: bytes, now_ms: int
) -> None:
    """Keep the answer to a completion for those who ask again."""
    _INSERT_COMPLETED.run(
        connection,
        upload=row.upload,
        bucket=row.bucket,
        key=row.key,
        parts_digest=parts_digest,
        answer=answer,
        completed_ms=now_ms,
    )


def find_completed(
    connection: Connection, bucket: bytes, key: bytes, upload: bytes
) -> tuple[bytes, bytes] | None:
    """Return the digest of the parts and the answer of an upload completed lately."""
    row = _COMPLETED.first(connection, bucket=bucket, key=key, upload=upload)
    return None if row is None else (bytes(row[0]), bytes(row[1]))


def forget_completed(connection: Connection, before_ms: int) -> int:
    """Drop answers older than a time; return how many."""
    return _FORGET_COMPLETED.run(connection, before_ms=before_ms)
