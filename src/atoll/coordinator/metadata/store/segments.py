"""Segments, the pieces on nodes, and garbage: what placement, repair and collection act upon."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import (
    GarbagePiece,
    StoredSegment,
    Usage,
    pack_pieces,
    segment_usage,
    unpack_pieces,
)
from atoll.coordinator.metadata.store import packs
from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import AbandonedSegment, SegmentRecord, StoredPiece
from atoll.core.packing import SMALL_PLAIN_BYTES_MAX
from atoll.core.scheme import Layout

COLUMNS = (
    "segment.serial, segment.segment, segment.bucket, segment.stream, segment.position,"
    " segment.k, segment.n, segment.unit_bytes, segment.plain_bytes, segment.root,"
    " segment.wrapped_key, segment.policy, segment.pieces, segment.created_ms,"
    " segment.repaired_ms"
)
"""What ``stored_segment`` reads, of the table ``segment``."""

_INSERT = Statement("""
    INSERT INTO segment (serial, segment, bucket, stream, position, k, n, unit_bytes, plain_bytes,
        root, wrapped_key, policy, pieces, created_ms, repaired_ms)
    SELECT :serial, :segment, :bucket, :stream, :position, :k, :n, :unit_bytes, :plain_bytes, :root,
        :wrapped_key, :policy, :pieces, :now_ms, 0
    WHERE NOT EXISTS (SELECT 1 FROM spent WHERE segment = :segment)""")
_SPEND = Statement("""
    INSERT INTO spent (segment, since_ms, account)
    VALUES (:segment, :now_ms, (SELECT account FROM bucket WHERE bucket = :bucket))
    ON CONFLICT (segment) DO NOTHING""")
_FORGET_SPENT = Statement("DELETE FROM spent WHERE since_ms < :before_ms")
_SEGMENT_EXISTS = Statement("SELECT 1 FROM segment WHERE segment = :segment")
_INSERT_PIECE = Statement("""
    INSERT INTO piece (alias, serial, piece_index, piece_bytes)
    VALUES (:alias, :serial, :index, :piece_bytes)""")
_DELETE_PIECE = Statement("""
    DELETE FROM piece WHERE alias = :alias AND serial = :serial AND piece_index = :index""")
_OF_STREAM = Statement(
    """SELECT {columns} FROM segment WHERE segment.stream = :stream AND segment.position >= :first
    AND segment.position < :end ORDER BY segment.position""",
    columns=COLUMNS,
)
_RECORDS = Statement("""
    SELECT position, segment, plain_bytes, k, n, unit_bytes, root, wrapped_key, pieces, serial
    FROM segment WHERE stream = :stream ORDER BY position""")
_BY_ID = Statement(
    "SELECT {columns} FROM segment WHERE segment.segment = :segment", columns=COLUMNS
)
_BY_SERIAL = Statement(
    "SELECT {columns} FROM segment WHERE segment.serial = :serial", columns=COLUMNS
)
_AFTER = Statement(
    """SELECT {columns} FROM segment WHERE segment.serial > :after
    ORDER BY segment.serial LIMIT :limit""",
    columns=COLUMNS,
)
_OF_NODE = Statement(
    """SELECT {columns} FROM piece p JOIN segment ON segment.serial = p.serial
    WHERE p.alias = :alias AND p.serial > :after ORDER BY p.serial LIMIT :limit""",
    columns=COLUMNS,
)
_COUNT_OF_NODE = Statement("SELECT count(*) FROM piece WHERE alias = :alias")
_SWAP = Statement("""
    UPDATE segment SET pieces = :pieces, repaired_ms = :now_ms
    WHERE serial = :serial AND pieces = :old_pieces""")
_DELETE = Statement(
    """DELETE FROM segment WHERE segment.stream = :stream AND segment.position >= :first
    AND segment.position < :end RETURNING {columns}""",
    columns=COLUMNS,
)
_TAKE = Statement(
    """DELETE FROM segment WHERE segment.segment = :segment AND segment.bucket = :bucket
    AND segment.position = 0 AND segment.plain_bytes <= :small RETURNING {columns}""",
    columns=COLUMNS,
)
_TAKE_ANY = Statement(
    """DELETE FROM segment WHERE segment.segment = :segment AND segment.bucket = :bucket
    AND segment.stream = :stream RETURNING {columns}""",
    columns=COLUMNS,
)

_INSERT_GARBAGE = Statement("""
    INSERT INTO garbage (alias, segment, piece_index, bucket, since_ms, serial)
    VALUES (:alias, :segment, :index, :bucket, :since_ms, :serial)
    ON CONFLICT (alias, segment, piece_index) DO NOTHING""")
_GARBAGE_OF_NODE = Statement("""
    SELECT alias, segment, piece_index, bucket, since_ms, serial FROM garbage
    WHERE alias = :alias ORDER BY segment, piece_index LIMIT :limit""")
_GARBAGE_AFTER = Statement("""
    SELECT alias, segment, piece_index, bucket, since_ms, serial FROM garbage
    WHERE alias = :alias AND (segment, piece_index) > (:segment, :index)
    ORDER BY segment, piece_index LIMIT :limit""")
_FORGET_GARBAGE = Statement("""
    DELETE FROM garbage WHERE alias = :alias AND segment = :segment AND piece_index = :index""")
_IS_GARBAGE = Statement("""
    SELECT 1 FROM garbage WHERE alias = :alias AND segment = :segment AND piece_index = :index""")
_GARBAGE_COUNTS = Statement("SELECT alias, count(*) FROM garbage GROUP BY alias ORDER BY alias")
_COUNT_GARBAGE = Statement("""
    SELECT count(*) FROM (SELECT 1 FROM garbage LIMIT :limit) AS counted""")
_ADD_USAGE = Statement("""
    INSERT INTO usage (bucket, shard, objects, object_bytes, segments, pieces, piece_bytes)
    VALUES (:bucket, :shard, :objects, :object_bytes, :segments, :pieces, :piece_bytes)
    ON CONFLICT (bucket, shard) DO UPDATE SET
        objects = usage.objects + excluded.objects,
        object_bytes = usage.object_bytes + excluded.object_bytes,
        segments = usage.segments + excluded.segments,
        pieces = usage.pieces + excluded.pieces,
        piece_bytes = usage.piece_bytes + excluded.piece_bytes""")
_ALL_USAGE = Statement("""
    SELECT coalesce(sum(objects), 0), coalesce(sum(object_bytes), 0), coalesce(sum(segments), 0),
        coalesce(sum(pieces), 0), coalesce(sum(piece_bytes), 0) FROM usage""")
_BUCKET_USAGE = Statement("""
    SELECT coalesce(sum(objects), 0), coalesce(sum(object_bytes), 0), coalesce(sum(segments), 0),
        coalesce(sum(pieces), 0), coalesce(sum(piece_bytes), 0) FROM usage
    WHERE bucket = :bucket""")
_ADD_COUNTER = Statement("""
    INSERT INTO counter (name, value) VALUES (:name, :value)
    ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value""")
_TAKE_COUNTER = Statement("""
    INSERT INTO counter (name, value) VALUES (:name, :value)
    ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value
    RETURNING value""")
_COUNTERS = Statement("SELECT name, value FROM counter")

POSITION_END = (1 << 63) - 1
"""Above every position."""
USAGE_SHARDS = 16
"""Rows of ``usage`` per bucket where writers are concurrent."""


def stored_segment(row: Any) -> StoredSegment:
    """Return the segment of a row with this module's columns."""
    (
        serial,
        segment,
        bucket,
        stream,
        position,
        k,
        n,
        unit_bytes,
        plain_bytes,
        root,
        wrapped_key,
        policy,
        pieces,
        created_ms,
        repaired_ms,
    ) = row
    return StoredSegment(
        serial,
        segment,
        bucket,
        stream,
        position,
        k,
        n,
        unit_bytes,
        plain_bytes,
        root,
        wrapped_key,
        policy,
        unpack_pieces(pieces),
        created_ms,
        repaired_ms,
        pieces,
    )


def insert_segments(
    connection: Connection,
    bucket: bytes,
    stream: bytes,
    first_position: int,
    records: Sequence[SegmentRecord],
    policy: int,
    now_ms: int,
) -> Usage:
    """Write segments at consecutive positions with their pieces; return what they add.

    Raises ``BAD_REQUEST`` for pieces that cannot be and ``CONFLICT`` for a segment that was
    collected; the id of a segment still in use is a unique violation of the database.
    """
    usage = Usage()
    rows: list[dict[str, Any]] = []
    for place, record in enumerate(records):
        inserted = _INSERT.run(
            connection,
            serial=record.serial,
            segment=record.segment,
            bucket=bucket,
            stream=stream,
            position=first_position + place,
            k=record.k,
            n=record.n,
            unit_bytes=record.unit_bytes,
            plain_bytes=record.plain_bytes,
            root=record.root,
            wrapped_key=record.wrapped_key,
            policy=policy,
            pieces=pack_pieces(record.pieces),
            now_ms=now_ms,
        )
        if not inserted:
            raise AtollError(
                Kind.CONFLICT,
                "commit segment",
                "this segment was collected before",
                hint="upload the data again",
            )
        piece_bytes = Layout(record.plain_bytes, record.k, record.n, record.unit_bytes).piece_bytes
        rows.extend(
            {**_piece_row(record.serial, piece), "piece_bytes": piece_bytes}
            for piece in record.pieces
        )
        usage = usage.plus(
            segment_usage(
                record.plain_bytes, record.k, record.n, record.unit_bytes, len(record.pieces)
            )
        )
    _INSERT_PIECE.many(connection, rows)
    return usage


def _piece_row(serial: int, piece: StoredPiece) -> dict[str, Any]:
    return {"alias": piece.alias, "serial": serial, "index": piece.index}


def segments_of_stream(
    connection: Connection, stream: bytes, first: int = 0, end: int = POSITION_END
) -> list[StoredSegment]:
    """Return a stream's segments with positions first..end-1 in order."""
    rows = _OF_STREAM.all(connection, stream=stream, first=first, end=end)
    return [stored_segment(row) for row in rows]


def records_of_stream(connection: Connection, stream: bytes, count: int) -> list[SegmentRecord]:
    """Return a stream's ``count`` segments in order, as messages name them.

    Those that have no row of their own lie in packs.
    """
    records = _own_records(connection, stream)
    if len(records) == count:
        return [record for _, record in records]
    records += packs.packed_of_stream(connection, stream)
    return [record for _, record in sorted(records, key=lambda one: one[0])]


def _own_records(connection: Connection, stream: bytes) -> list[tuple[int, SegmentRecord]]:
    return [
        (
            position,
            SegmentRecord(
                segment=segment,
                plain_bytes=plain_bytes,
                k=k,
                n=n,
                unit_bytes=unit_bytes,
                root=root,
                wrapped_key=wrapped_key,
                pieces=list(unpack_pieces(pieces)),
                serial=serial,
            ),
        )
        for (
            position,
            segment,
            plain_bytes,
            k,
            n,
            unit_bytes,
            root,
            wrapped_key,
            pieces,
            serial,
        ) in _RECORDS.all(connection, stream=stream)
    ]


def segment_by_id(connection: Connection, segment: bytes) -> StoredSegment | None:
    """Find a committed segment by its id."""
    row = _BY_ID.first(connection, segment=segment)
    return None if row is None else stored_segment(row)


def segment_by_serial(connection: Connection, serial: int) -> StoredSegment | None:
    """Find a committed segment by its serial."""
    row = _BY_SERIAL.first(connection, serial=serial)
    return None if row is None else stored_segment(row)


def segments_after(connection: Connection, after: int, limit: int) -> list[StoredSegment]:
    """Return up to ``limit`` segments with serials above ``after``: a full scan's step."""
    return [stored_segment(row) for row in _AFTER.all(connection, after=after, limit=limit)]


def segments_of_node(
    connection: Connection, alias: int, after: int, limit: int
) -> list[StoredSegment]:
    """Return up to ``limit`` segments with a piece on a node, serials above ``after``, in order."""
    rows = _OF_NODE.all(connection, alias=alias, after=after, limit=limit)
    return [stored_segment(row) for row in rows]


def count_pieces_of_node(connection: Connection, alias: int) -> int:
    """Return how many pieces a node should hold."""
    return int(_COUNT_OF_NODE.scalar(connection, alias=alias))


def replace_pieces(
    connection: Connection,
    old: StoredSegment,
    pieces: Sequence[StoredPiece],
    now_ms: int,
    *,
    collect: bool,
) -> bool:
    """Say that a segment's pieces now lie elsewhere, if nothing changed since ``old`` was read.

    Returns False, with nothing done, if it did (another repair, a deletion), or if a piece is said
    to lie where its deletion is still under way. With ``collect`` the pieces no longer named become
    garbage on their nodes.
    """
    packed = pack_pieces(pieces)
    before, after = set(old.pieces), set(pieces)
    gone = sorted(before - after, key=_piece_order)
    come = sorted(after - before, key=_piece_order)
    for piece in come:
        if _IS_GARBAGE.first(connection, alias=piece.alias, segment=old.segment, index=piece.index):
            return False
    swapped = _SWAP.run(
        connection,
        serial=old.serial,
        old_pieces=old.packed_pieces,
        pieces=packed,
        now_ms=now_ms,
    )
    if not swapped:
        return False
    _DELETE_PIECE.many(connection, [_piece_row(old.serial, piece) for piece in gone])
    piece_bytes = old.layout.piece_bytes
    _INSERT_PIECE.many(
        connection,
        [{**_piece_row(old.serial, piece), "piece_bytes": piece_bytes} for piece in come],
    )
    if collect:
        add_garbage(connection, (_garbage(old, piece, now_ms) for piece in gone))
    count = len(pieces) - len(old.pieces)
    add_usage(
        connection,
        old.bucket,
        Usage(pieces=count, piece_bytes=count * old.layout.piece_bytes),
    )
    return True


def _piece_order(piece: StoredPiece) -> tuple[int, int]:
    return piece.alias, piece.index


def _garbage(segment: StoredSegment, piece: StoredPiece, now_ms: int) -> GarbagePiece:
    return GarbagePiece(
        piece.alias, segment.segment, piece.index, segment.bucket, now_ms, segment.serial
    )


def collect_streams(
    connection: Connection, ranges: Iterable[tuple[bytes, int, int]], now_ms: int
) -> Usage:
    """Remove the segments of ``(stream, first, end)`` position ranges; pieces become garbage.

    Returns what they held: the caller takes it from the bucket's usage. A repair that runs on such
    a segment finds it gone when it wants to record its result. A pack whose last item goes is
    collected with it.
    """
    pending = list(ranges)
    withered: dict[bytes, list[int]] = {}
    for stream, first, end in pending:
        for pack, stored_bytes in packs.take_packed(connection, stream, first, end):
            withered.setdefault(pack, []).append(stored_bytes)
    # In order of their ids, so that two deletions never wait for each other.
    pending += [
        (pack, 0, POSITION_END)
        for pack in sorted(withered)
        if packs.lose_items(connection, pack, sum(withered[pack]), len(withered[pack]))
    ]
    # One statement finds and removes: no repair can slip in between.
    gone = [
        stored_segment(row)
        for stream, first, end in pending
        for row in _DELETE.all(connection, stream=stream, first=first, end=end)
    ]
    return _let_go(connection, gone, now_ms)


def take_segment(
    connection: Connection, bucket: bytes, segment: bytes, now_ms: int
) -> tuple[StoredSegment, Usage] | None:
    """Remove the only segment of an object written at once; its pieces become garbage.

    Returns the segment and what it held; None if the bucket has no such segment (any more).
    """
    row = _TAKE.first(connection, bucket=bucket, segment=segment, small=SMALL_PLAIN_BYTES_MAX)
    if row is None:
        return None
    taken = stored_segment(row)
    return taken, _let_go(connection, [taken], now_ms)


def swap_segment(
    connection: Connection,
    old: StoredSegment,
    record: SegmentRecord,
    stream: bytes,
    policy: int,
    now_ms: int,
    grace_ms: int,
) -> Usage | None:
    """Put a copy in a segment's place, in ``stream`` at the same position.

    The old pieces become garbage that is not collected for ``grace_ms``: downloads that began
    before may end. Returns what the bucket holds more; None, with nothing done, if the segment is
    gone. Raises as ``insert_segments``.
    """
    row = _TAKE_ANY.first(connection, bucket=old.bucket, segment=old.segment, stream=old.stream)
    if row is None:
        return None
    taken = stored_segment(row)
    freed = _let_go(connection, [taken], now_ms, due_ms=now_ms + grace_ms)
    added = insert_segments(connection, old.bucket, stream, old.position, [record], policy, now_ms)
    return added.minus(freed)


def _let_go(
    connection: Connection, gone: Sequence[StoredSegment], now_ms: int, due_ms: int | None = None
) -> Usage:
    """Make garbage of the pieces of removed segments, due at once; return what they held."""
    since_ms = now_ms if due_ms is None else due_ms
    usage = Usage()
    for segment in gone:
        usage = usage.plus(
            segment_usage(
                segment.plain_bytes, segment.k, segment.n, segment.unit_bytes, len(segment.pieces)
            )
        )
    _DELETE_PIECE.many(
        connection,
        [_piece_row(segment.serial, piece) for segment in gone for piece in segment.pieces],
    )
    _SPEND.many(
        connection,
        [{"segment": one.segment, "bucket": one.bucket, "now_ms": now_ms} for one in gone],
    )
    add_garbage(
        connection,
        [_garbage(segment, piece, since_ms) for segment in gone for piece in segment.pieces],
    )
    return usage


def discard_segments(
    connection: Connection,
    bucket: bytes,
    records: Sequence[SegmentRecord] | Sequence[AbandonedSegment],
    now_ms: int,
) -> None:
    """Let the pieces of segments that could not be committed become garbage.

    A segment that is committed after all (by an earlier attempt) is left alone.
    """
    for record in records:
        if _SEGMENT_EXISTS.first(connection, segment=record.segment) is not None:
            continue
        _SPEND.run(connection, segment=record.segment, bucket=bucket, now_ms=now_ms)
        add_garbage(
            connection,
            (
                GarbagePiece(
                    piece.alias, record.segment, piece.index, bucket, now_ms, record.serial
                )
                for piece in record.pieces
            ),
        )


def forget_spent(connection: Connection, before_ms: int) -> int:
    """Drop the ids of segments collected before a time; return how many."""
    return _FORGET_SPENT.run(connection, before_ms=before_ms)


def add_garbage(connection: Connection, pieces: Iterable[GarbagePiece]) -> None:
    """Note pieces that their nodes shall delete; one noted before stays as it is."""
    _INSERT_GARBAGE.many(
        connection,
        [
            {
                "alias": piece.alias,
                "segment": piece.segment,
                "index": piece.index,
                "bucket": piece.bucket,
                "since_ms": piece.since_ms,
                "serial": piece.serial,
            }
            for piece in pieces
        ],
    )


def garbage_of_node(
    connection: Connection, alias: int, limit: int, after: GarbagePiece | None = None
) -> list[GarbagePiece]:
    """Return up to ``limit`` pieces that a node shall delete, after one of an earlier page."""
    if after is None:
        rows = _GARBAGE_OF_NODE.all(connection, alias=alias, limit=limit)
    else:
        rows = _GARBAGE_AFTER.all(
            connection, alias=alias, segment=after.segment, index=after.index, limit=limit
        )
    return [GarbagePiece(*row) for row in rows]


def forget_garbage(connection: Connection, pieces: Iterable[GarbagePiece]) -> None:
    """Note that nodes deleted these pieces (or are gone for good)."""
    _FORGET_GARBAGE.many(
        connection,
        [
            {"alias": piece.alias, "segment": piece.segment, "index": piece.index}
            for piece in pieces
        ],
    )


def garbage_counts(connection: Connection) -> dict[int, int]:
    """Return the number of garbage pieces by node alias, nodes without any left out."""
    return {alias: count for alias, count in _GARBAGE_COUNTS.all(connection)}


def count_garbage(connection: Connection, limit: int) -> int:
    """Return the number of garbage pieces, counted up to ``limit``."""
    return int(_COUNT_GARBAGE.scalar(connection, limit=limit))


def add_usage(connection: Connection, bucket: bytes, change: Usage, shard_by: bytes = b"") -> None:
    """Add a change to a bucket's usage. Call it last: its row is the one most waited for."""
    shard = 0
    if connection.dialect.name != "sqlite" and shard_by:
        shard = shard_by[-1] % USAGE_SHARDS
    _ADD_USAGE.run(
        connection,
        bucket=bucket,
        shard=shard,
        objects=change.objects,
        object_bytes=change.object_bytes,
        segments=change.segments,
        pieces=change.pieces,
        piece_bytes=change.piece_bytes,
    )


def read_usage(connection: Connection, bucket: bytes | None = None) -> Usage:
    """Return what a bucket, or all together, hold."""
    if bucket is None:
        row = _ALL_USAGE.first(connection)
    else:
        row = _BUCKET_USAGE.first(connection, bucket=bucket)
    assert row is not None, "a sum always has a row"
    return Usage(*(int(value) for value in row))


def add_counters(connection: Connection, changes: dict[str, int]) -> None:
    """Add to named counters that live as long as the database."""
    rows = [{"name": name, "value": value} for name, value in sorted(changes.items()) if value]
    _ADD_COUNTER.many(connection, rows)


def take_counter(connection: Connection, name: str, count: int) -> int:
    """Raise a counter by ``count`` and return what it is then: those numbers are the caller's."""
    return int(_TAKE_COUNTER.scalar(connection, name=name, value=count))


def read_counters(connection: Connection) -> dict[str, int]:
    """Return all counters."""
    return {name: value for name, value in _COUNTERS.all(connection)}
