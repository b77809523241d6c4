"""Objects: the row per key that readers and listings see."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

LIVE = 1
"""Status of an object that readers see; others are reserved for delete markers."""
NULL_VERSION = b""

_FIND = Statement("""
    SELECT key, modified_ms, size, stream, segments, parts, facts FROM object
    WHERE bucket = :bucket AND key = :key""")
_LOCK = Statement("""
    SELECT key, modified_ms, size, stream, segments, parts, facts FROM object
    WHERE bucket = :bucket AND key = :key FOR UPDATE""")
_INSERT = Statement("""
    INSERT INTO object (bucket, key, version, status, modified_ms, size, stream, segments, parts,
        facts)
    VALUES (:bucket, :key, :version, :status, :modified_ms, :size, :stream, :segments, :parts,
        :facts)
    ON CONFLICT (bucket, key) DO NOTHING""")
_UPDATE = Statement("""
    UPDATE object SET version = :version, status = :status, modified_ms = :modified_ms,
        size = :size, stream = :stream, segments = :segments, parts = :parts, facts = :facts
    WHERE bucket = :bucket AND key = :key""")
_DELETE = Statement("""
    DELETE FROM object WHERE bucket = :bucket AND key = :key
    RETURNING key, modified_ms, size, stream, segments, parts, facts""")
_LIST = Statement("""
    SELECT key, modified_ms, size, stream, segments, parts, facts FROM object
    WHERE bucket = :bucket AND key >= :start AND key < :stop ORDER BY key LIMIT :limit""")
_INSERT_COMPOSITION = Statement("""
    INSERT INTO composition (stream, parts) VALUES (:stream, :parts)""")
_COMPOSITION = Statement("SELECT parts FROM composition WHERE stream = :stream")
_DELETE_COMPOSITION = Statement("DELETE FROM composition WHERE stream = :stream")


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object as stored. ``parts`` counts those of a multipart object, else 0."""

    key: bytes
    modified_ms: int
    size: int
    stream: bytes
    segments: int
    parts: int
    facts: bytes


def find_object(connection: Connection, bucket: bytes, key: bytes) -> ObjectRow | None:
    """Look a key up."""
    row = _FIND.first(connection, bucket=bucket, key=key)
    return None if row is None else ObjectRow(*row)


def lock_object(connection: Connection, bucket: bytes, key: bytes) -> ObjectRow | None:
    """Look a key up and keep others from changing it until the transaction ends."""
    row = _LOCK.first(connection, bucket=bucket, key=key)
    return None if row is None else ObjectRow(*row)


def insert_object(connection: Connection, bucket: bytes, row: ObjectRow) -> bool:
    """Write a new key. Returns False, with nothing done, if another was quicker."""
    return _put(_INSERT, connection, bucket, row)


def update_object(connection: Connection, bucket: bytes, row: ObjectRow) -> None:
    """Replace a key that ``lock_object`` found."""
    changed = _put(_UPDATE, connection, bucket, row)
    assert changed, "the row was locked"


def _put(statement: Statement, connection: Connection, bucket: bytes, row: ObjectRow) -> bool:
    return bool(
        statement.run(
            connection,
            bucket=bucket,
            key=row.key,
            version=NULL_VERSION,
            status=LIVE,
            modified_ms=row.modified_ms,
            size=row.size,
            stream=row.stream,
            segments=row.segments,
            parts=row.parts,
            facts=row.facts,
        )
    )


def delete_object(connection: Connection, bucket: bytes, key: bytes) -> ObjectRow | None:
    """Remove a key; return what was there."""
    row = _DELETE.first(connection, bucket=bucket, key=key)
    return None if row is None else ObjectRow(*row)


def list_objects(
    connection: Connection, bucket: bytes, start: bytes, stop: bytes, limit: int
) -> list[ObjectRow]:
    """Return objects with start <= key < stop in byte order."""
    rows = _LIST.all(connection, bucket=bucket, start=start, stop=stop, limit=limit)
    return [ObjectRow(*row) for row in rows]


def insert_composition(connection: Connection, stream: bytes, parts: bytes) -> None:
    """Keep what is known of a multipart object's parts."""
    _INSERT_COMPOSITION.run(connection, stream=stream, parts=parts)


def find_composition(connection: Connection, stream: bytes) -> bytes | None:
    """Return what is known of a multipart object's parts."""
    row = _COMPOSITION.first(connection, stream=stream)
    return None if row is None else bytes(row[0])


def delete_composition(connection: Connection, stream: bytes) -> None:
    """Forget a multipart object's parts."""
    _DELETE_COMPOSITION.run(connection, stream=stream)
