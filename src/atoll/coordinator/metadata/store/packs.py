"""Packs: where small segments lie since they were merged, and how much of a pack is still alive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import unpack_pieces
from atoll.coordinator.sql import Statement
from atoll.core.messages import SegmentRecord
from atoll.core.messages.objects import PackPlace
from atoll.core.packing import PackedLayout

_PLACE = (
    "packed.segment, packed.plain_bytes, packed.unit_bytes, packed.wrapped_key,"
    " packed.pack_offset, s.segment, s.plain_bytes, s.k, s.n, s.unit_bytes, s.root,"
    " s.wrapped_key, s.pieces, s.serial"
)
_OF_STREAM = Statement(
    """SELECT packed.position, {columns} FROM packed JOIN segment s ON s.segment = packed.pack
    WHERE packed.stream = :stream ORDER BY packed.position""",
    columns=_PLACE,
)
_OF_PACK = Statement(
    """SELECT {columns} FROM packed JOIN segment s ON s.segment = packed.pack
    WHERE packed.pack = :pack ORDER BY packed.pack_offset LIMIT :limit""",
    columns=_PLACE,
)
_ADOPT_ITEMS = Statement("""
    INSERT INTO pack (segment, bucket, live_bytes, dead_bytes, items, created_ms)
    VALUES (:segment, :bucket, :live_bytes, 0, :items, :now_ms)
    ON CONFLICT (segment) DO UPDATE SET live_bytes = pack.live_bytes + excluded.live_bytes,
        items = pack.items + excluded.items""")
_INSERT_PACK = Statement("""
    INSERT INTO pack (segment, bucket, live_bytes, dead_bytes, items, created_ms)
    VALUES (:segment, :bucket, :live_bytes, :dead_bytes, :items, :now_ms)""")
_INSERT = Statement("""
    INSERT INTO packed (stream, position, segment, plain_bytes, unit_bytes, wrapped_key, pack,
        pack_offset)
    VALUES (:stream, :position, :segment, :plain_bytes, :unit_bytes, :wrapped_key, :pack,
        :pack_offset)""")
_MOVE = Statement("""
    UPDATE packed SET pack = :pack, pack_offset = :pack_offset
    WHERE pack = :old AND segment = :segment RETURNING plain_bytes, unit_bytes""")
_TAKE = Statement("""
    DELETE FROM packed WHERE stream = :stream AND position >= :first AND position < :end
    RETURNING pack, plain_bytes, unit_bytes""")
_LOSE_ITEMS = Statement("""
    UPDATE pack SET live_bytes = live_bytes - :dead, dead_bytes = dead_bytes + :dead,
        items = items - :items
    WHERE segment = :segment RETURNING items""")
_DELETE_PACK = Statement("DELETE FROM pack WHERE segment = :segment")
_MOVE_ALL = Statement("UPDATE packed SET pack = :pack WHERE pack = :old")
_RENAME = Statement("UPDATE pack SET segment = :pack WHERE segment = :old")
_DEAD = Statement("""
    SELECT segment, live_bytes FROM pack WHERE bucket = :bucket AND dead_bytes > live_bytes
    ORDER BY segment LIMIT :limit""")
_TOTALS = Statement("""
    SELECT count(*), coalesce(sum(items), 0), coalesce(sum(live_bytes), 0),
        coalesce(sum(dead_bytes), 0) FROM pack""")


@dataclass(frozen=True, slots=True)
class PackTotals:
    """All packs together."""

    packs: int
    items: int
    live_bytes: int
    dead_bytes: int


def _record(row: Sequence[Any]) -> SegmentRecord:
    segment, plain_bytes, unit_bytes, wrapped_key, offset, *pack = row
    pack_id, pack_plain, k, n, pack_unit, root, pack_key, pieces, serial = pack
    return SegmentRecord(
        segment=segment,
        plain_bytes=plain_bytes,
        k=1,
        n=1,
        unit_bytes=unit_bytes,
        root=b"",
        wrapped_key=wrapped_key,
        pieces=[],
        packed=PackPlace(
            segment=pack_id,
            plain_bytes=pack_plain,
            k=k,
            n=n,
            unit_bytes=pack_unit,
            root=root,
            wrapped_key=pack_key,
            pieces=list(unpack_pieces(pieces)),
            serial=serial,
            offset=offset,
        ),
    )


def packed_of_stream(connection: Connection, stream: bytes) -> list[tuple[int, SegmentRecord]]:
    """Return the packed segments of a stream, with their positions, in order."""
    return [(row[0], _record(row[1:])) for row in _OF_STREAM.all(connection, stream=stream)]


def packed_in(connection: Connection, pack: bytes, limit: int) -> list[SegmentRecord]:
    """Return the segments that lie in a pack, in the order of their places."""
    return [_record(row) for row in _OF_PACK.all(connection, pack=pack, limit=limit)]


def insert_pack(
    connection: Connection, pack: SegmentRecord, bucket: bytes, live: tuple[int, int], now_ms: int
) -> None:
    """Note a new pack; ``live`` are the bytes and the number of the items that readers find."""
    live_bytes, items = live
    _INSERT_PACK.run(
        connection,
        segment=pack.segment,
        bucket=bucket,
        live_bytes=live_bytes,
        dead_bytes=pack.plain_bytes - live_bytes,
        items=items,
        now_ms=now_ms,
    )


def adopt_items(
    connection: Connection, pack: bytes, bucket: bytes, live: tuple[int, int], now_ms: int
) -> None:
    """Count further items of a pack that comes from another coordinator, as live.

    What of it is dead is not known here: nobody asks for it.
    """
    live_bytes, items = live
    _ADOPT_ITEMS.run(
        connection, segment=pack, bucket=bucket, live_bytes=live_bytes, items=items, now_ms=now_ms
    )


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A small segment's place in its stream and in a pack."""

    stream: bytes
    position: int
    segment: bytes
    plain_bytes: int
    unit_bytes: int
    wrapped_key: bytes
    pack: bytes
    pack_offset: int


def insert_packed(connection: Connection, rows: Iterable[PackedRow]) -> None:
    """Let readers find small segments in their pack."""
    _INSERT.many(
        connection,
        [
            {
                "stream": row.stream,
                "position": row.position,
                "segment": row.segment,
                "plain_bytes": row.plain_bytes,
                "unit_bytes": row.unit_bytes,
                "wrapped_key": row.wrapped_key,
                "pack": row.pack,
                "pack_offset": row.pack_offset,
            }
            for row in rows
        ],
    )


def move_packed(
    connection: Connection, old: bytes, segment: bytes, pack: bytes, offset: int
) -> int:
    """Let readers find a packed segment in another pack; return its bytes there, 0 if it is gone.

    The old pack withers by ``lose_items``.
    """
    row = _MOVE.first(connection, old=old, segment=segment, pack=pack, pack_offset=offset)
    return 0 if row is None else PackedLayout(row[0], row[1]).stored_bytes


def take_packed(
    connection: Connection, stream: bytes, first: int, end: int
) -> list[tuple[bytes, int]]:
    """Remove a stream's packed segments; return (pack, bytes in it) of each."""
    rows = _TAKE.all(connection, stream=stream, first=first, end=end)
    return [(pack, PackedLayout(plain, unit).stored_bytes) for pack, plain, unit in rows]


def lose_items(connection: Connection, pack: bytes, dead_bytes: int, items: int) -> bool:
    """Count bytes of a pack as dead; return True, with its row removed, if none live any more."""
    row = _LOSE_ITEMS.first(connection, segment=pack, dead=dead_bytes, items=items)
    if row is None or row[0] > 0:
        return False
    _DELETE_PACK.run(connection, segment=pack)
    return True


def rename_pack(connection: Connection, old: bytes, pack: bytes) -> bool:
    """Let readers find all items of a pack in its copy; False if there is no such pack any more.

    The items first: a deletion takes an item's row before that of its pack.
    """
    _MOVE_ALL.run(connection, old=old, pack=pack)
    return bool(_RENAME.run(connection, old=old, pack=pack))


def half_dead(connection: Connection, bucket: bytes, limit: int) -> list[tuple[bytes, int]]:
    """Return packs of a bucket that are more dead than alive, with their live bytes."""
    return [(row[0], row[1]) for row in _DEAD.all(connection, bucket=bucket, limit=limit)]


def pack_totals(connection: Connection) -> PackTotals:
    """Return the sums over all packs."""
    row = _TOTALS.first(connection)
    assert row is not None, "a sum always has a row"
    return PackTotals(*(int(value) for value in row))
