"""Locks: what objects are kept from being removed by, and how far the holders of pieces know.

``default_lock``: what new objects of a bucket get. ``object_lock``: one row per locked object.
``segment_lock``: the newest signed record of a segment and which holders have confirmed it; it is
the owner's word and can be told to nodes by anybody.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind
from atoll.core.retention import DAY_MS, Mode

_HOLDER = struct.Struct(">BI")

_DEFAULT = Statement("SELECT mode, days FROM default_lock WHERE bucket = :bucket")
_SET_DEFAULT = Statement("""
    INSERT INTO default_lock (bucket, mode, days) VALUES (:bucket, :mode, :days)
    ON CONFLICT (bucket) DO UPDATE SET mode = excluded.mode, days = excluded.days""")
_DROP_DEFAULT = Statement("DELETE FROM default_lock WHERE bucket = :bucket")
_LOCK = "bucket, key, stream, mode, until_ms, legal_hold, sequence, signed"
_FIND = Statement("SELECT {columns} FROM object_lock WHERE bucket = :bucket AND key = :key", _LOCK)
_HOLD = Statement(
    "SELECT {columns} FROM object_lock WHERE bucket = :bucket AND key = :key FOR UPDATE", _LOCK
)
_PUT = Statement(
    """INSERT INTO object_lock ({columns})
    VALUES (:bucket, :key, :stream, :mode, :until_ms, :legal_hold, :sequence, :signed)
    ON CONFLICT (bucket, key) DO UPDATE SET stream = excluded.stream, mode = excluded.mode,
        until_ms = excluded.until_ms, legal_hold = excluded.legal_hold,
        sequence = excluded.sequence, signed = excluded.signed""",
    _LOCK,
)
_DROP = Statement("DELETE FROM object_lock WHERE bucket = :bucket AND key = :key")
_UNSIGNED = Statement(
    """SELECT {columns} FROM object_lock WHERE signed = 0 AND bucket = :bucket
    ORDER BY key LIMIT :limit""",
    _LOCK,
)
_UNSIGNED_BUCKETS = Statement("""
    SELECT DISTINCT b.bucket, b.account, b.name FROM object_lock l
    JOIN bucket b ON b.bucket = l.bucket WHERE l.signed = 0 LIMIT :limit""")
_SEGMENT = "segment, bucket, record, lock_grant, confirmed, pending, due_ms, attempts"
_PUT_SEGMENT = Statement(
    """INSERT INTO segment_lock ({columns})
    VALUES (:segment, :bucket, :record, :lock_grant, :confirmed, 1, :due_ms, 0)
    ON CONFLICT (segment) DO UPDATE SET record = excluded.record,
        lock_grant = excluded.lock_grant, confirmed = excluded.confirmed, pending = 1,
        due_ms = excluded.due_ms, attempts = 0""",
    _SEGMENT,
)
_SEGMENT_LOCK = Statement("SELECT {columns} FROM segment_lock WHERE segment = :segment", _SEGMENT)
_DUE = Statement(
    """SELECT {columns} FROM segment_lock WHERE pending = 1 AND due_ms <= :now_ms
    ORDER BY due_ms LIMIT :limit""",
    _SEGMENT,
)
_AFTER = Statement(
    "SELECT {columns} FROM segment_lock WHERE segment > :after ORDER BY segment LIMIT :limit",
    _SEGMENT,
)
_NOTE = Statement("""
    UPDATE segment_lock SET confirmed = :confirmed, pending = :pending, due_ms = :due_ms,
        attempts = :attempts WHERE segment = :segment AND record = :record""")
_DROP_SEGMENT = Statement("DELETE FROM segment_lock WHERE segment = :segment")


@dataclass(frozen=True, slots=True)
class LockRow:
    """How one object is locked. ``sequence`` is 0 and ``signed`` false before its first record."""

    bucket: bytes
    key: bytes
    stream: bytes
    mode: Mode
    until_ms: int
    legal_hold: bool
    sequence: int
    signed: bool

    def locked(self, now_ms: int) -> bool:
        """Say whether the object must stay now."""
        return self.legal_hold or self.until_ms > now_ms


@dataclass(frozen=True, slots=True)
class SegmentLockRow:
    """A segment's newest record, and who confirmed it: (piece index, alias)."""

    segment: bytes
    bucket: bytes
    record: bytes
    grant: bytes
    confirmed: frozenset[tuple[int, int]]
    pending: bool
    due_ms: int
    attempts: int


def _lock(row: Any) -> LockRow:
    bucket, key, stream, mode, until_ms, hold, sequence, signed = row
    return LockRow(bucket, key, stream, Mode(mode), until_ms, bool(hold), sequence, bool(signed))


def _segment(row: Any) -> SegmentLockRow:
    segment, bucket, record, grant, confirmed, pending, due_ms, attempts = row
    return SegmentLockRow(
        segment, bucket, record, grant, _unpack(confirmed), bool(pending), due_ms, attempts
    )


def _pack(confirmed: frozenset[tuple[int, int]]) -> bytes:
    return b"".join(_HOLDER.pack(*holder) for holder in sorted(confirmed))


def _unpack(packed: bytes) -> frozenset[tuple[int, int]]:
    return frozenset((index, alias) for index, alias in _HOLDER.iter_unpack(packed))


# --- objects -------------------------------------------------------------------------------------


def default_lock(connection: Connection, bucket: bytes) -> tuple[Mode, int]:
    """Return mode and days that new objects of a bucket get; (NONE, 0) for nothing."""
    row = _DEFAULT.first(connection, bucket=bucket)
    return (Mode.NONE, 0) if row is None else (Mode(row[0]), int(row[1]))


def set_default_lock(connection: Connection, bucket: bytes, mode: Mode, days: int) -> None:
    """Set what new objects of a bucket get."""
    if mode is Mode.NONE:
        _DROP_DEFAULT.run(connection, bucket=bucket)
    else:
        _SET_DEFAULT.run(connection, bucket=bucket, mode=int(mode), days=days)


def find_lock(connection: Connection, bucket: bytes, key: bytes) -> LockRow | None:
    """Return an object's lock, if it ever had one."""
    row = _FIND.first(connection, bucket=bucket, key=key)
    return None if row is None else _lock(row)


def hold_lock(connection: Connection, bucket: bytes, key: bytes) -> LockRow | None:
    """Return an object's lock and keep others from changing it until the transaction ends."""
    row = _HOLD.first(connection, bucket=bucket, key=key)
    return None if row is None else _lock(row)


def put_lock(connection: Connection, row: LockRow) -> None:
    """Write an object's lock."""
    _PUT.run(
        connection,
        bucket=row.bucket,
        key=row.key,
        stream=row.stream,
        mode=int(row.mode),
        until_ms=row.until_ms,
        legal_hold=int(row.legal_hold),
        sequence=row.sequence,
        signed=int(row.signed),
    )


def is_locked(connection: Connection, bucket: bytes, key: bytes, now_ms: int) -> bool:
    """Say whether an object must stay now."""
    row = hold_lock(connection, bucket, key)
    return row is not None and row.locked(now_ms)


def begin_object(
    connection: Connection, bucket: bytes, key: bytes, stream: bytes, now_ms: int
) -> None:
    """Note that another object lies under a key now: it has the bucket's default lock, or none."""
    _DROP.run(connection, bucket=bucket, key=key)
    mode, days = default_lock(connection, bucket)
    if mode is not Mode.NONE:
        row = LockRow(bucket, key, stream, mode, now_ms + days * DAY_MS, False, 0, False)
        put_lock(connection, row)


def end_object(connection: Connection, bucket: bytes, key: bytes) -> None:
    """Forget the lock of an object that is gone."""
    _DROP.run(connection, bucket=bucket, key=key)


def end_bucket(connection: Connection, bucket: bytes) -> None:
    """Forget a bucket's default."""
    _DROP_DEFAULT.run(connection, bucket=bucket)


def check_free(connection: Connection, bucket: bytes, key: bytes, now_ms: int) -> None:
    """Raise ``RETAINED`` for an object that must stay."""
    row = hold_lock(connection, bucket, key)
    if row is not None and row.locked(now_ms):
        what = "a legal hold" if row.legal_hold else f"{row.mode.name.lower()} retention"
        raise AtollError(
            Kind.RETAINED,
            "remove object",
            f"the object is under {what}",
            hint="`atoll lock s3://BUCKET/KEY --show` says until when",
            about=key.decode("utf-8", "replace"),
        )


def unsigned_buckets(connection: Connection, limit: int) -> list[tuple[bytes, bytes, str]]:
    """Return (bucket, account, name) of buckets with locks that nobody has signed yet."""
    rows = _UNSIGNED_BUCKETS.all(connection, limit=limit)
    return [(bucket, account, bytes(name).decode()) for bucket, account, name in rows]


def unsigned_locks(connection: Connection, bucket: bytes, limit: int) -> list[LockRow]:
    """Return locks of a bucket that nobody has signed yet."""
    return [_lock(row) for row in _UNSIGNED.all(connection, bucket=bucket, limit=limit)]


# --- segments ------------------------------------------------------------------------------------


def put_segment_lock(
    connection: Connection, segment: bytes, bucket: bytes, record: bytes, grant: bytes, due_ms: int
) -> None:
    """Keep a segment's newest record, to be told to its holders from ``due_ms`` on."""
    _PUT_SEGMENT.run(
        connection,
        segment=segment,
        bucket=bucket,
        record=record,
        lock_grant=grant,
        confirmed=b"",
        due_ms=due_ms,
    )


def segment_lock(connection: Connection, segment: bytes) -> SegmentLockRow | None:
    """Return a segment's newest record."""
    row = _SEGMENT_LOCK.first(connection, segment=segment)
    return None if row is None else _segment(row)


def due_segment_locks(connection: Connection, now_ms: int, limit: int) -> list[SegmentLockRow]:
    """Return records that some holder is still to be told."""
    return [_segment(row) for row in _DUE.all(connection, now_ms=now_ms, limit=limit)]


def segment_locks_after(
    connection: Connection, after: bytes, limit: int
) -> Sequence[SegmentLockRow]:
    """Return records in the order of their segments."""
    return [_segment(row) for row in _AFTER.all(connection, after=after, limit=limit)]


def note_segment_lock(
    connection: Connection,
    row: SegmentLockRow,
    confirmed: frozenset[tuple[int, int]],
    *,
    pending: bool,
    due_ms: int,
    attempts: int,
) -> None:
    """Note who confirmed; nothing happens where a newer record is kept by now."""
    _NOTE.run(
        connection,
        segment=row.segment,
        record=row.record,
        confirmed=_pack(confirmed),
        pending=int(pending),
        due_ms=due_ms,
        attempts=attempts,
    )


def drop_segment_lock(connection: Connection, segment: bytes) -> None:
    """Forget the record of a segment that is gone."""
    _DROP_SEGMENT.run(connection, segment=segment)
