"""Where the bytes of a stream lie, page by page. Functions take a connection."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import unpack_pieces
from atoll.coordinator.sql import Statement
from atoll.core.messages import StoredPiece

_FACTS = "s.segment, s.serial, s.plain_bytes, s.k, s.n, s.unit_bytes, s.policy, s.pieces"
_OWN = Statement(
    """SELECT s.position, {columns} FROM segment s
    WHERE s.stream = :stream AND s.position >= :first ORDER BY s.position LIMIT :limit""",
    columns=_FACTS,
)
_PACKED = Statement(
    """SELECT packed.position, {columns} FROM packed JOIN segment s ON s.segment = packed.pack
    WHERE packed.stream = :stream AND packed.position >= :first
    ORDER BY packed.position LIMIT :limit""",
    columns=_FACTS,
)
_PROVEN = Statement("""
    SELECT alias, max(slot) FROM proof_result WHERE slot >= :since AND outcome = :outcome
    GROUP BY alias""")
PROVEN_OUTCOME = "passed"
PROVEN_SLOTS = 100
"""How far back the last proof of a node is looked for."""


@dataclass(frozen=True, slots=True)
class Lying:
    """A segment of a stream and the pieces that hold its bytes: its own, or those of its pack."""

    position: int
    segment: bytes
    serial: int
    plain_bytes: int
    k: int
    n: int
    unit_bytes: int
    policy: int
    pieces: tuple[StoredPiece, ...]
    packed: bool


def lying(connection: Connection, stream: bytes, first: int, limit: int) -> list[Lying]:
    """Return up to ``limit`` segments of a stream from a position on, in order."""
    found = [
        Lying(
            position=row[0],
            segment=row[1],
            serial=row[2],
            plain_bytes=row[3],
            k=row[4],
            n=row[5],
            unit_bytes=row[6],
            policy=row[7],
            pieces=unpack_pieces(row[8]),
            packed=packed,
        )
        for statement, packed in ((_OWN, False), (_PACKED, True))
        for row in statement.all(connection, stream=stream, first=first, limit=limit)
    ]
    return sorted(found, key=lambda one: one.position)[:limit]


def last_proven(connection: Connection, now_ms: int, slot_ms: int) -> dict[int, int]:
    """Return, by alias, when nodes last proved what they hold, to the slot (ms)."""
    since = now_ms // slot_ms - PROVEN_SLOTS
    rows = _PROVEN.all(connection, since=since, outcome=PROVEN_OUTCOME)
    return {row[0]: row[1] * slot_ms for row in rows}
