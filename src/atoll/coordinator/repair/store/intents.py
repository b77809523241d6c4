"""The SQL of intents and credits; all in the caller's transaction.

Both are rows of garbage whose time has not come. An *intent* is written before a piece is sent, so
that a piece whose repair never ended is collected, and removed when the piece is recorded. A
*credit* is a piece that was replaced while its node was gone; until it is collected it may be
adopted again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import GarbagePiece, StoredSegment
from atoll.coordinator.metadata.store.segments import add_garbage
from atoll.coordinator.sql import Statement
from atoll.core.messages import StoredPiece

_GARBAGE_THERE = Statement("""
    SELECT piece_index, since_ms FROM garbage WHERE alias = :alias AND segment = :segment
    ORDER BY piece_index""")
_ABANDON = Statement("""
    UPDATE garbage SET since_ms = :now_ms WHERE alias = :alias AND segment = :segment
    AND piece_index = :index AND since_ms > :now_ms""")
_INTEND = Statement("""
    INSERT INTO garbage (alias, segment, piece_index, bucket, since_ms, serial)
    VALUES (:alias, :segment, :index, :bucket, :until_ms, :serial)
    ON CONFLICT (alias, segment, piece_index) DO UPDATE SET since_ms = excluded.since_ms""")
_CONFIRM = Statement("""
    DELETE FROM garbage WHERE alias = :alias AND segment = :segment AND piece_index = :index
    AND since_ms > :now_ms""")
_ADD_CREDIT = Statement("""
    INSERT INTO repair_credit (serial, piece_index, alias, until_ms)
    VALUES (:serial, :index, :alias, :until_ms)
    ON CONFLICT (serial, piece_index, alias) DO UPDATE SET until_ms = excluded.until_ms""")
_CREDITS = Statement("""
    SELECT piece_index, alias FROM repair_credit WHERE serial = :serial
    ORDER BY piece_index, until_ms DESC, alias""")
_DROP_CREDIT = Statement("""
    DELETE FROM repair_credit
    WHERE serial = :serial AND piece_index = :index AND alias = :alias""")
_EXPIRE_CREDITS = Statement("DELETE FROM repair_credit WHERE until_ms <= :now_ms")

INTENT_MARGIN_MS = 60_000
"""How far the clocks of coordinators that share a database may differ."""


@dataclass(frozen=True, slots=True)
class Intents:
    """Pieces that may be sent now."""

    pieces: tuple[StoredPiece, ...]
    inherited: tuple[StoredPiece, ...]
    """Those of them that an earlier repair announced, and perhaps stored."""


def write_intents(
    connection: Connection,
    segment: StoredSegment,
    pieces: Sequence[StoredPiece],
    now_ms: int,
    until_ms: int,
) -> Intents:
    """Announce pieces about to be sent; return those that may be.

    Which index goes to which of the nodes may change: a node that an earlier repair meant to send
    (or has sent) an index gets that one, so that no node is sent two pieces of a segment. One
    that is being told to delete, or still holds, another piece of it is passed over: a deletion on
    its way must never meet a piece that is wanted again.
    """
    inherited, rest = [], []
    indexes = [piece.index for piece in pieces]
    for piece in pieces:
        there = _GARBAGE_THERE.all(connection, alias=piece.alias, segment=segment.segment)
        if not there:
            rest.append(piece)
            continue
        index, since_ms = there[0]
        if len(there) == 1 and index in indexes and since_ms > now_ms + INTENT_MARGIN_MS:
            indexes.remove(index)
            inherited.append(StoredPiece(index=index, alias=piece.alias))
            continue
        for index, _ in there:
            # Whoever announced it can no longer record it: it is collected, the node free again.
            _ABANDON.run(
                connection,
                alias=piece.alias,
                segment=segment.segment,
                index=index,
                now_ms=now_ms,
            )
    free = list(inherited)
    for piece in rest:
        if not indexes:
            break
        index = piece.index if piece.index in indexes else indexes[0]
        indexes.remove(index)
        free.append(StoredPiece(index=index, alias=piece.alias))
    _INTEND.many(
        connection,
        [
            {
                "alias": piece.alias,
                "segment": segment.segment,
                "index": piece.index,
                "bucket": segment.bucket,
                "until_ms": until_ms,
                "serial": segment.serial,
            }
            for piece in free
        ],
    )
    return Intents(tuple(free), tuple(inherited))


def confirm_intent(
    connection: Connection, segment: StoredSegment, piece: StoredPiece, now_ms: int
) -> bool:
    """Remove the intent of a piece that is recorded now; False if its time has come meanwhile."""
    return (
        _CONFIRM.run(
            connection,
            alias=piece.alias,
            segment=segment.segment,
            index=piece.index,
            now_ms=now_ms,
        )
        == 1
    )


def collect_pieces(
    connection: Connection, segment: StoredSegment, pieces: Iterable[StoredPiece], now_ms: int
) -> None:
    """Let pieces that lie on nodes and that nobody wants be deleted."""
    add_garbage(
        connection,
        [
            GarbagePiece(p.alias, segment.segment, p.index, segment.bucket, now_ms, segment.serial)
            for p in pieces
        ],
    )


def drop_intents(
    connection: Connection, segment: StoredSegment, pieces: Iterable[StoredPiece], now_ms: int
) -> None:
    """Forget intents of pieces that were certainly never finished: no commit mark was sent."""
    for piece in pieces:
        confirm_intent(connection, segment, piece, now_ms)


# --- credits -------------------------------------------------------------------------------------


def add_credits(
    connection: Connection, serial: int, pieces: Iterable[StoredPiece], until_ms: int
) -> None:
    """Remember pieces that were replaced while their nodes were gone, until they are collected."""
    _ADD_CREDIT.many(
        connection,
        [
            {"serial": serial, "index": p.index, "alias": p.alias, "until_ms": until_ms}
            for p in pieces
        ],
    )


def credits_of(connection: Connection, serial: int) -> list[StoredPiece]:
    """Return the replaced pieces of a segment that may come back, those kept longest first."""
    rows = _CREDITS.all(connection, serial=serial)
    return [StoredPiece(index=index, alias=alias) for index, alias in rows]


def drop_credits(connection: Connection, serial: int, pieces: Iterable[StoredPiece]) -> None:
    """Forget credits that were taken up."""
    _DROP_CREDIT.many(
        connection,
        [{"serial": serial, "index": p.index, "alias": p.alias} for p in pieces],
    )


def expire_credits(connection: Connection, now_ms: int) -> int:
    """Forget credits whose pieces are being collected; return how many."""
    return _EXPIRE_CREDITS.run(connection, now_ms=now_ms)
