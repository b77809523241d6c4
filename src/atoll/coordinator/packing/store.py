"""The SQL of packing: which bucket is due, small objects in key order, the swap of places."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import StoredSegment, Usage
from atoll.coordinator.metadata.rules import bad_request
from atoll.coordinator.metadata.store import locks, packs, segments
from atoll.coordinator.metadata.store.packs import PackedRow
from atoll.coordinator.metadata.store.segments import COLUMNS, stored_segment
from atoll.coordinator.sql import Statement
from atoll.core.messages import BucketInfo, SegmentRecord
from atoll.core.messages.packing import PackedItem, PackItem
from atoll.core.packing import SMALL_PLAIN_BYTES_MAX, PackedLayout

_DUE = Statement("""
    SELECT b.bucket, b.account, b.name, b.region, b.mode, b.created_ms, b.policy,
        coalesce(w.after_key, :nothing)
    FROM bucket b LEFT JOIN pack_walk w ON w.bucket = b.bucket
    WHERE (w.bucket IS NULL OR w.due_ms <= :now_ms)
        AND (w.bucket IS NULL OR w.lease_until_ms <= :now_ms)
        AND NOT EXISTS (SELECT 1 FROM manifest_state s WHERE s.bucket = b.bucket
            AND s.keys <> :nothing AND s.keys <> :keys)
    ORDER BY coalesce(w.due_ms, 0), b.bucket LIMIT :limit""")
_KEEP_WALK = Statement("""
    INSERT INTO pack_walk (bucket, after_key, due_ms, lease_owner, lease_until_ms)
    VALUES (:bucket, :after_key, :due_ms, :lease_owner, :lease_until_ms)
    ON CONFLICT (bucket) DO UPDATE SET after_key = excluded.after_key, due_ms = excluded.due_ms,
        lease_owner = excluded.lease_owner, lease_until_ms = excluded.lease_until_ms
    WHERE pack_walk.lease_until_ms <= :now_ms""")
_RELEASE = Statement("""
    UPDATE pack_walk SET lease_until_ms = 0 WHERE bucket = :bucket""")
_DECLINE = Statement("""
    UPDATE pack_walk SET lease_until_ms = 0
    WHERE bucket = :bucket AND lease_owner = :worker AND lease_until_ms > 0""")
_KEYS = Statement("""
    SELECT key FROM object WHERE bucket = :bucket AND key > :after ORDER BY key LIMIT :limit""")
_SMALL = Statement(
    """SELECT object.key, {columns} FROM object JOIN segment
        ON segment.stream = object.stream AND segment.position = 0
    WHERE object.bucket = :bucket AND object.key > :after AND object.key <= :last
        AND object.segments = 1 AND object.parts = 0 AND object.size <= :small
        AND object.modified_ms < :before_ms
        AND NOT EXISTS (SELECT 1 FROM object_lock l
            WHERE l.bucket = object.bucket AND l.key = object.key)
    ORDER BY object.key LIMIT :limit""",
    columns=COLUMNS,
)
_BUCKET_ROWS = Statement("DELETE FROM pack_walk WHERE bucket NOT IN (SELECT bucket FROM bucket)")


@dataclass(frozen=True, slots=True)
class DueBucket:
    """A bucket to search, and from which key on."""

    info: BucketInfo
    after_key: bytes


def due_bucket(
    connection: Connection, now_ms: int, keys: bytes, declined: Collection[bytes]
) -> DueBucket | None:
    """Return the bucket whose search is due longest, that nobody works on or ``declined``.

    ``keys`` names the root key of who asks: a bucket under another is not for him.
    """
    rows = _DUE.all(connection, now_ms=now_ms, nothing=b"", keys=keys, limit=1 + len(declined))
    row = next((one for one in rows if one[0] not in declined), None)
    if row is None:
        return None
    bucket, account, name, region, mode, created_ms, policy, after_key = row
    info = BucketInfo(
        bucket=bucket,
        account=account,
        name=bytes(name).decode(),
        region=region,
        mode=mode,
        created_ms=created_ms,
        policy=policy,
    )
    return DueBucket(info, bytes(after_key))


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the search of a bucket is, when it goes on, and who holds it until when."""

    bucket: bytes
    after_key: bytes
    due_ms: int
    lease_owner: bytes = b""
    lease_until_ms: int = 0


def keep_walk(connection: Connection, walk: Walk, now_ms: int) -> bool:
    """Note how far a search is. Returns False if another worker took the bucket meanwhile."""
    return bool(
        _KEEP_WALK.run(
            connection,
            bucket=walk.bucket,
            after_key=walk.after_key,
            due_ms=walk.due_ms,
            lease_owner=walk.lease_owner,
            lease_until_ms=walk.lease_until_ms,
            now_ms=now_ms,
        )
    )


def release(connection: Connection, bucket: bytes) -> None:
    """Give a bucket back."""
    _RELEASE.run(connection, bucket=bucket)


def decline(connection: Connection, worker: bytes, declined: Collection[bytes]) -> None:
    """Give back buckets that a worker was given and does not want."""
    _DECLINE.many(connection, [{"bucket": one, "worker": worker} for one in declined])


def forget_walks(connection: Connection) -> None:
    """Drop what is kept of buckets that are gone."""
    _BUCKET_ROWS.run(connection)


def page_end(
    connection: Connection, bucket: bytes, after: bytes, limit: int
) -> tuple[bytes | None, bool]:
    """Return the last key of the next ``limit`` objects, and whether there may be more after it."""
    keys = _KEYS.all(connection, bucket=bucket, after=after, limit=limit)
    return (bytes(keys[-1][0]) if keys else None), len(keys) == limit


@dataclass(frozen=True, slots=True)
class Page:
    """A range of keys of a bucket: above ``after``, up to ``last``."""

    bucket: bytes
    after: bytes
    last: bytes


def small_objects(
    connection: Connection, page: Page, before_ms: int, limit: int
) -> list[tuple[bytes, StoredSegment]]:
    """Return objects of one small segment that lies by itself, in key order."""
    rows = _SMALL.all(
        connection,
        bucket=page.bucket,
        after=page.after,
        last=page.last,
        small=SMALL_PLAIN_BYTES_MAX,
        before_ms=before_ms,
        limit=limit,
    )
    return [(bytes(row[0]), stored_segment(row[1:])) for row in rows]


def item_of(key: bytes, segment: StoredSegment) -> PackItem:
    """Return a small object's segment as work."""
    return PackItem(key=key.decode("utf-8", "surrogateescape"), segment=segment.record())


def move_items(
    connection: Connection,
    bucket: bytes,
    pack: SegmentRecord,
    items: list[PackedItem],
    now_ms: int,
) -> tuple[int, int, Usage]:
    """Let readers find items in a pack whose segment row exists.

    Returns how many and how many bytes were moved, and what the bucket's usage loses by it. The
    pieces of segments that lay by themselves become garbage. Raises ``BAD_REQUEST``.
    """
    moved = moved_bytes = 0
    lost = Usage()
    rows: list[PackedRow] = []
    withered: dict[bytes, list[int]] = {}
    for item in items:
        if item.from_pack:
            stored = packs.move_packed(
                connection, item.from_pack, item.segment, pack.segment, item.offset
            )
            if stored:
                withered.setdefault(item.from_pack, []).append(stored)
        else:
            # One locked since it was handed out keeps its pieces: their holders obey its record.
            locked = locks.segment_lock(connection, item.segment) is not None
            taken = None
            if not locked:
                taken = segments.take_segment(connection, bucket, item.segment, now_ms)
            stored = 0
            if taken is not None:
                segment, held = taken
                stored = PackedLayout(segment.plain_bytes, segment.unit_bytes).stored_bytes
                rows.append(_packed_row(segment, pack.segment, item.offset))
                lost = lost.plus(held)
        if item.offset + stored > pack.plain_bytes:
            raise bad_request("an item reaches beyond its pack")
        moved += bool(stored)
        moved_bytes += stored
    packs.insert_packed(connection, rows)
    dead = [
        (old, 0, segments.POSITION_END)
        for old in sorted(withered)
        if packs.lose_items(connection, old, sum(withered[old]), len(withered[old]))
    ]
    return moved, moved_bytes, lost.plus(segments.collect_streams(connection, dead, now_ms))


def _packed_row(segment: StoredSegment, pack: bytes, offset: int) -> PackedRow:
    return PackedRow(
        stream=segment.stream,
        position=segment.position,
        segment=segment.segment,
        plain_bytes=segment.plain_bytes,
        unit_bytes=segment.unit_bytes,
        wrapped_key=segment.wrapped_key,
        pack=pack,
        pack_offset=offset,
    )
