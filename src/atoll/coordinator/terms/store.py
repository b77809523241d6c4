"""The SQL of departures; all in the caller's transaction."""

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement
from atoll.coordinator.terms.model import DepartureRow

_FIND = Statement("""
    SELECT alias, reason, began_ms, ended_ms, moved_pieces, moved_bytes FROM departure
    WHERE alias = :alias""")
_BEGIN = Statement("""
    INSERT INTO departure (alias, reason, began_ms, ended_ms, moved_pieces, moved_bytes)
    VALUES (:alias, :reason, :now_ms, 0, 0, 0)
    ON CONFLICT (alias) DO UPDATE SET reason = excluded.reason,
        began_ms = CASE WHEN departure.ended_ms > 0 THEN excluded.began_ms
            ELSE departure.began_ms END,
        moved_pieces = CASE WHEN departure.ended_ms > 0 THEN 0 ELSE departure.moved_pieces END,
        moved_bytes = CASE WHEN departure.ended_ms > 0 THEN 0 ELSE departure.moved_bytes END,
        ended_ms = 0
    WHERE departure.ended_ms > 0 OR departure.reason <> excluded.reason""")
_LEFT = Statement("SELECT alias FROM departure WHERE ended_ms > 0 AND reason = 'exit'")
_COUNT = Statement("""
    UPDATE departure SET moved_pieces = moved_pieces + :pieces, moved_bytes = moved_bytes + :bytes
    WHERE alias = :alias""")
_END = Statement("""
    UPDATE departure SET ended_ms = :now_ms WHERE alias = :alias AND ended_ms = 0""")


def find(connection: Connection, alias: int) -> DepartureRow | None:
    """Return a node's departure."""
    row = _FIND.first(connection, alias=alias)
    return None if row is None else DepartureRow(*row)


def left(connection: Connection) -> frozenset[int]:
    """Return the nodes of which it was confirmed that they left and hold nothing any more."""
    return frozenset(int(alias) for (alias,) in _LEFT.all(connection))


def begin(connection: Connection, alias: int, reason: str, now_ms: int) -> None:
    """Note that a node moves pieces away for this reason; one under way goes on."""
    _BEGIN.run(connection, alias=alias, reason=reason, now_ms=now_ms)


def count(connection: Connection, alias: int, pieces: int, byte_count: int) -> None:
    """Add what a node has moved."""
    _COUNT.run(connection, alias=alias, pieces=pieces, bytes=byte_count)


def end(connection: Connection, alias: int, now_ms: int) -> DepartureRow | None:
    """Note that nothing is recorded at a node any more; return its departure."""
    _END.run(connection, alias=alias, now_ms=now_ms)
    return find(connection, alias)
