"""The only SQL of sets."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.sets.model import Counted, NodeReport, RangeMark, SetEntry, ToldRange
from atoll.coordinator.sets.rules import (
    INDEX_FACTOR,
    MARK_FACTOR,
    MARK_MASK,
    MARK_SHIFT,
    range_mark,
)
from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError
from atoll.core.merkle import leaf_count
from atoll.core.messages.sets import ReportSet
from atoll.core.scheme import Layout
from atoll.core.sets import EMPTY, RANGE_BITS, RANGE_SERIALS, RangeSet

MARKED_ROWS = 16_384
"""Pieces summed by one statement: about 5 ms in SQLite; more where one range has more."""
ENTRIES_PAGE = 1000
_SCRAMBLED = (
    f"(((serial & {RANGE_SERIALS - 1}) * {MARK_FACTOR} + piece_index * {INDEX_FACTOR})"
    f" & {MARK_MASK})"
)
MARK = f"sum(({_SCRAMBLED} * {_SCRAMBLED}) >> {MARK_SHIFT})"
"""``rules.mark_of``, summed, in SQL."""

_MARKS = Statement(
    """SELECT serial >> 16 AS number, count(*), sum(piece_bytes), {columns} FROM (
        SELECT serial, piece_index, piece_bytes FROM piece
        WHERE alias = :alias AND serial >= :first AND serial < :end_serial
        ORDER BY serial LIMIT :limit) AS page
    GROUP BY number ORDER BY number""",
    columns=MARK,
)
_PIECES = Statement("""
    SELECT serial, piece_index, piece_bytes FROM piece
    WHERE alias = :alias AND serial >= :first AND serial < :end_serial ORDER BY serial""")
_NEXT_PIECE = Statement("""
    SELECT serial FROM piece WHERE alias = :alias AND serial >= :first ORDER BY serial LIMIT 1""")
_NEXT_TOLD = Statement("""
    SELECT number FROM node_set WHERE alias = :alias AND number >= :first
    ORDER BY number LIMIT 1""")
_TOLD = Statement("""
    SELECT number, pieces, piece_bytes, mark, digest FROM node_set
    WHERE alias = :alias AND number >= :first AND number < :end_number ORDER BY number""")
_TOLD_SET = Statement("""
    SELECT serials, indexes FROM node_set WHERE alias = :alias AND number = :number""")
_KEEP = Statement("""
    INSERT INTO node_set (alias, number, pieces, piece_bytes, mark, digest, indexes, serials)
    VALUES (:alias, :number, :pieces, :piece_bytes, :mark, :digest, :indexes, :serials)
    ON CONFLICT (alias, number) DO UPDATE SET
        pieces = excluded.pieces, piece_bytes = excluded.piece_bytes, mark = excluded.mark,
        digest = excluded.digest, indexes = excluded.indexes, serials = excluded.serials""")
_FORGET = Statement("DELETE FROM node_set WHERE alias = :alias AND number = :number")
_TOLD_SUM = Statement("""
    SELECT coalesce(sum(pieces), 0), coalesce(sum(piece_bytes), 0) FROM node_set
    WHERE alias = :alias""")
_SUM = Statement("""
    SELECT count(*), coalesce(sum(piece_bytes), 0) FROM piece WHERE alias = :alias""")
_SUMS = Statement("""
    SELECT alias, count(*), sum(piece_bytes) FROM piece GROUP BY alias ORDER BY alias""")
_KEPT = Statement("""
    SELECT serial FROM garbage WHERE alias = :alias AND serial >= :first AND serial < :end_serial
    AND since_ms > :now_ms ORDER BY serial LIMIT :limit""")
_GONE = Statement("DELETE FROM garbage WHERE alias = :alias AND since_ms <= :before_ms")
_SEGMENT_OF = Statement("""
    SELECT s.segment FROM piece p JOIN segment s ON s.serial = p.serial
    WHERE p.alias = :alias AND p.serial = :serial AND p.piece_index = :index""")
_DELETING = Statement("""
    SELECT count(*) FROM garbage WHERE alias = :alias AND since_ms <= :now_ms""")
_PUT_REPORT = Statement("""
    INSERT INTO node_report (alias, reported_ms, pieces, piece_bytes, report)
    VALUES (:alias, :reported_ms, :pieces, :piece_bytes, :report)
    ON CONFLICT (alias) DO UPDATE SET
        reported_ms = excluded.reported_ms, pieces = excluded.pieces,
        piece_bytes = excluded.piece_bytes, report = excluded.report""")
_REPORT_OF = Statement("""
    SELECT alias, reported_ms, pieces, piece_bytes, report FROM node_report
    WHERE alias = :alias""")
_REPORTS = Statement("""
    SELECT alias, reported_ms, pieces, piece_bytes, report FROM node_report ORDER BY alias""")
_ENTRIES = Statement("""
    SELECT p.serial, s.segment, p.piece_index, s.root, s.plain_bytes, s.k, s.n, s.unit_bytes
    FROM piece p JOIN segment s ON s.serial = p.serial
    WHERE p.alias = :alias AND p.serial > :after ORDER BY p.serial LIMIT :limit""")
_REPORT = msgspec.msgpack.Decoder(ReportSet)


def marks(
    connection: Connection, alias: int, first: int, end: int
) -> tuple[dict[int, RangeMark], int]:
    """Return the marks of a node's ranges from ``first`` on, and the range reached (at most end).

    All ranges before the one reached are whole.
    """
    found = _marks(connection, alias, first, end, MARKED_ROWS)
    if sum(one.pieces for one in found.values()) < MARKED_ROWS:
        return found, end
    cut = max(found)
    del found[cut]
    if found:
        return found, cut
    return _marks(connection, alias, cut, cut + 1, RANGE_SERIALS), cut + 1


def _marks(
    connection: Connection, alias: int, first: int, end: int, limit: int
) -> dict[int, RangeMark]:
    rows = _MARKS.all(
        connection,
        alias=alias,
        first=first << RANGE_BITS,
        end_serial=end << RANGE_BITS,
        limit=limit,
    )
    return {number: RangeMark(count, int(total), int(mark)) for number, count, total, mark in rows}


def pieces_of_ranges(
    connection: Connection, alias: int, first: int, end: int
) -> Iterator[tuple[int, RangeMark, RangeSet]]:
    """Yield (range, mark, set) of a node's ranges first..end-1 in which it has pieces."""
    rows = _PIECES.all(
        connection, alias=alias, first=first << RANGE_BITS, end_serial=end << RANGE_BITS
    )
    for number, some in groupby(rows, key=_number_of):
        pieces = list(some)
        low = RANGE_SERIALS - 1
        # Ordered, and a node has one piece of a segment: no need to sort or to look for doubles.
        lows = tuple([serial & low for serial, _, _ in pieces])
        yield number, range_mark(pieces), RangeSet(lows, bytes([index for _, index, _ in pieces]))


def _number_of(row: tuple[int, int, int]) -> int:
    return row[0] >> RANGE_BITS


def next_range(connection: Connection, alias: int, number: int) -> int:
    """Return the next range from ``number`` on where a node has pieces or was told of; or -1."""
    serial = _NEXT_PIECE.scalar(connection, alias=alias, first=number << RANGE_BITS)
    told_number = _NEXT_TOLD.scalar(connection, alias=alias, first=number)
    found = [] if serial is None else [serial >> RANGE_BITS]
    found += [] if told_number is None else [told_number]
    return min(found, default=-1)


def told(connection: Connection, alias: int, first: int, end: int) -> dict[int, ToldRange]:
    """Return the ranges first..end-1 as the node was told them last, ascending."""
    rows = _TOLD.all(connection, alias=alias, first=first, end_number=end)
    return {
        number: ToldRange(RangeMark(pieces, piece_bytes, mark), digest)
        for number, pieces, piece_bytes, mark, digest in rows
    }


def told_set(connection: Connection, alias: int, number: int) -> RangeSet | None:
    """Return a range's set as the node was told it; None where that cannot be read."""
    row = _TOLD_SET.first(connection, alias=alias, number=number)
    if row is None:
        return EMPTY
    try:
        return RangeSet.decode(*row)
    except AtollError:
        return None


def keep(
    connection: Connection, alias: int, changed: Iterable[tuple[int, RangeMark, RangeSet]]
) -> None:
    """Note what a node is told now; an empty range is forgotten."""
    rows, gone = [], []
    for number, mark, held in changed:
        if not len(held):
            gone.append({"alias": alias, "number": number})
            continue
        serials, indexes = held.encode()
        rows.append(
            {
                "alias": alias,
                "number": number,
                "pieces": mark.pieces,
                "piece_bytes": mark.piece_bytes,
                "mark": mark.mark,
                "digest": held.digest(number),
                "indexes": indexes,
                "serials": serials,
            }
        )
    _KEEP.many(connection, rows)
    _FORGET.many(connection, gone)


def told_sum(connection: Connection, alias: int) -> Counted:
    """Return the sum of what a node was told last."""
    pieces, piece_bytes = _TOLD_SUM.first(connection, alias=alias)
    return Counted(int(pieces), int(piece_bytes))


def counted(connection: Connection, alias: int) -> Counted:
    """Return what a node is held to now, to the byte."""
    pieces, piece_bytes = _SUM.first(connection, alias=alias)
    return Counted(int(pieces), int(piece_bytes))


def all_counted(connection: Connection) -> dict[int, Counted]:
    """Return the same for all nodes that are held to anything."""
    return {alias: Counted(int(p), int(b)) for alias, p, b in _SUMS.all(connection)}


def kept_serials(
    connection: Connection, alias: int, first: int, end: int, now_ms: int, limit: int
) -> list[int]:
    """Return serials of pieces that are not counted and may yet be: intents and credits."""
    rows = _KEPT.all(
        connection,
        alias=alias,
        first=first << RANGE_BITS,
        end_serial=end << RANGE_BITS,
        now_ms=now_ms,
        limit=limit,
    )
    return [serial for (serial,) in rows]


def forget_gone(connection: Connection, alias: int, before_ms: int) -> int:
    """Forget the garbage of a node that holds none any more; return how many rows."""
    return _GONE.run(connection, alias=alias, before_ms=before_ms)


def segments_of(
    connection: Connection, alias: int, pieces: Iterable[tuple[int, int]]
) -> list[tuple[bytes, int]]:
    """Return (segment id, index) of those (serial, index) that the node is still held to."""
    found = []
    for serial, index in pieces:
        segment = _SEGMENT_OF.scalar(connection, alias=alias, serial=serial, index=index)
        if segment is not None:
            found.append((segment, index))
    return found


def put_report(connection: Connection, one: NodeReport) -> None:
    """Keep a node's latest report."""
    report = msgspec.structs.replace(one.report, missing_pieces=b"")
    _PUT_REPORT.run(
        connection,
        alias=one.alias,
        reported_ms=one.reported_ms,
        pieces=one.counted.pieces,
        piece_bytes=one.counted.piece_bytes,
        report=msgspec.msgpack.encode(report),
    )


def deleting(connection: Connection, alias: int, now_ms: int) -> int:
    """Return how many deletions of pieces a node did not confirm."""
    return int(_DELETING.scalar(connection, alias=alias, now_ms=now_ms))


def report_of(connection: Connection, alias: int) -> NodeReport | None:
    """Return a node's latest report."""
    row = _REPORT_OF.first(connection, alias=alias)
    return None if row is None else _report(row)


def _report(row: tuple[int, int, int, int, bytes]) -> NodeReport:
    alias, at_ms, pieces, piece_bytes, report = row
    return NodeReport(alias, at_ms, Counted(pieces, piece_bytes), _REPORT.decode(report))


def reports(connection: Connection) -> dict[int, NodeReport]:
    """Return the latest report of each node that gave one."""
    return {row[0]: _report(row) for row in _REPORTS.all(connection)}


def entries(connection: Connection, alias: int, after: int, limit: int) -> list[SetEntry]:
    """Return up to ``limit`` pieces that a node is held to, serials above ``after``, in order."""
    found = []
    for serial, segment, index, root, *shape in _ENTRIES.all(
        connection, alias=alias, after=after, limit=limit
    ):
        piece_bytes = Layout(*shape).piece_bytes
        leaves = leaf_count(piece_bytes)
        found.append(SetEntry(serial, segment, index, root, leaves, piece_bytes))
    return found
