"""The outbox of the manifests: which keys changed, written in the transaction that changes them.

A row names the key, not what became of it: whoever writes the manifest reads that in the
transaction that numbers the manifest, so a higher number never carries an older state of a key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

KIND_OBJECT = 0
KIND_CATALOGUE = 1
"""A bucket came, went or was changed; ``bucket`` is then the account's id, ``key`` empty."""
KIND_PACK = 2
"""Segments were moved into a pack; ``key`` is the pack's id."""
OWN_LEASE_MS = 15_000
"""So long a change is left to the process that made it; then anybody may write it."""

# Changes that a writer with other keys made, or that belong to a bucket of other keys, are not ours
# to write: nobody could read the manifest.
_MINE = """(substr(writer, 1, 8) = :keys OR (writer = :nobody AND NOT EXISTS (
        SELECT 1 FROM manifest_state s WHERE s.bucket = change.bucket
        AND s.keys <> :nobody AND s.keys <> :keys)))"""
_INSERT = Statement("""
    INSERT INTO change (bucket, kind, key, time_ms, writer, number, lease_until_ms)
    VALUES (:bucket, :kind, :key, :now_ms, :writer, 0, :lease_until_ms)""")
_ANY = Statement(
    """
    SELECT 1 FROM change WHERE writer = :writer
    OR (lease_until_ms < :now_ms AND {columns}) LIMIT 1""",
    columns=_MINE,
)
_OWN = Statement("""
    SELECT sequence, bucket, kind, key, time_ms FROM change
    WHERE writer = :writer ORDER BY sequence LIMIT :limit FOR UPDATE SKIP LOCKED""")
_LEFT = Statement(
    """SELECT sequence, bucket, kind, key, time_ms FROM change
    WHERE lease_until_ms < :now_ms AND {columns}
    ORDER BY sequence LIMIT :limit FOR UPDATE SKIP LOCKED""",
    columns=_MINE,
)
_LEASE = Statement("""
    UPDATE change SET writer = :writer, number = :number, lease_until_ms = :until_ms
    WHERE sequence = :sequence""")
_DROP = Statement("DELETE FROM change WHERE sequence = :sequence")
_DONE = Statement("""
    DELETE FROM change WHERE bucket = :bucket AND number = :number AND writer = :writer""")
_WAITING = Statement("""
    SELECT count(*), coalesce(min(sequence), 0), coalesce(min(time_ms), 0) FROM change
    WHERE bucket = :bucket AND (kind = 1) = (:kind = 1)""")
_NEWEST = Statement("""
    SELECT coalesce(max(sequence), 0) FROM change WHERE bucket = :bucket""")
_OUTSTANDING = Statement("""
    SELECT coalesce(min(number), 0) FROM change WHERE bucket = :bucket AND number > 0""")
_FORGET = Statement("DELETE FROM change WHERE bucket = :bucket")
NOBODY = b""
KEYS_BYTES = 8
"""The first bytes of a writer's id name the keys it has: the same for all gateways of one root."""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change that waits."""

    sequence: int
    bucket: bytes
    kind: int
    key: bytes
    time_ms: int


def note_keys(
    connection: Connection, bucket: bytes, keys: Iterable[bytes], now_ms: int, writer: bytes
) -> None:
    """Note that keys changed in this transaction; ``writer`` means to write them itself.

    Call it after the rows of the keys were written or locked.
    """
    _INSERT.many(
        connection,
        [
            {
                "bucket": bucket,
                "kind": KIND_OBJECT,
                "key": key,
                "now_ms": now_ms,
                "writer": writer,
                "lease_until_ms": now_ms + OWN_LEASE_MS if writer else 0,
            }
            for key in keys
        ],
    )


def note_catalogue(
    connection: Connection, account: bytes, now_ms: int, writer: bytes = NOBODY
) -> None:
    """Note that a bucket of this account came, went or was changed in this transaction."""
    _INSERT.run(
        connection,
        bucket=account,
        kind=KIND_CATALOGUE,
        key=b"",
        now_ms=now_ms,
        writer=writer,
        lease_until_ms=now_ms + OWN_LEASE_MS if writer else 0,
    )


def note_pack(connection: Connection, bucket: bytes, pack: bytes, now_ms: int) -> None:
    """Note that segments were moved into a pack in this transaction."""
    _INSERT.run(
        connection,
        bucket=bucket,
        kind=KIND_PACK,
        key=pack,
        now_ms=now_ms,
        writer=NOBODY,
        lease_until_ms=0,
    )


def any_for(connection: Connection, writer: bytes, now_ms: int) -> bool:
    """Say whether something waits for this writer: its own, or what others left."""
    found = _ANY.first(
        connection, writer=writer, now_ms=now_ms, keys=writer[:KEYS_BYTES], nobody=NOBODY
    )
    return found is not None


def next_rows(connection: Connection, writer: bytes, now_ms: int, limit: int) -> list[ChangeRow]:
    """Return changes of one bucket for this writer, locked, the oldest first; its own go first.

    A writer writes one manifest at a time: what it took before and is still here, it failed with.
    """
    rows = _OWN.all(connection, writer=writer, limit=limit)
    if not rows:
        rows = _LEFT.all(
            connection, now_ms=now_ms, limit=limit, keys=writer[:KEYS_BYTES], nobody=NOBODY
        )
    found = [ChangeRow(sequence, bytes(b), kind, bytes(k), t) for sequence, b, kind, k, t in rows]
    return [row for row in found if (row.bucket, row.kind) == (found[0].bucket, found[0].kind)]


def lease_rows(
    connection: Connection, rows: Sequence[ChangeRow], writer: bytes, number: int, until_ms: int
) -> None:
    """Give changes to a writer as the content of a manifest."""
    _LEASE.many(
        connection,
        [
            {"writer": writer, "number": number, "until_ms": until_ms, "sequence": row.sequence}
            for row in rows
        ],
    )


def drop_rows(connection: Connection, rows: Sequence[ChangeRow]) -> None:
    """Forget changes that need no manifest."""
    _DROP.many(connection, [{"sequence": row.sequence} for row in rows])


def finish_rows(connection: Connection, bucket: bytes, number: int, writer: bytes) -> int:
    """Forget what a manifest carries on; return how many changes that were: 0 if others took it."""
    return _DONE.run(connection, bucket=bucket, number=number, writer=writer)


def waiting(connection: Connection, bucket: bytes, kind: int = KIND_OBJECT) -> tuple[int, int, int]:
    """Return how many changes of a bucket wait, the oldest's sequence and time; 0 for none."""
    count, oldest, oldest_ms = _WAITING.first(connection, bucket=bucket, kind=kind)
    return int(count), int(oldest), int(oldest_ms)


def newest(connection: Connection, bucket: bytes) -> int:
    """Return the sequence of the newest change that waits; 0 for none."""
    return int(_NEWEST.scalar(connection, bucket=bucket))


def outstanding(connection: Connection, bucket: bytes) -> int:
    """Return the lowest number of a manifest that is being written; 0 for none."""
    return int(_OUTSTANDING.scalar(connection, bucket=bucket))


def forget_bucket(connection: Connection, bucket: bytes) -> None:
    """Forget what waits for a bucket that goes."""
    _FORGET.run(connection, bucket=bucket)
