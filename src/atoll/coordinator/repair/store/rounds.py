"""The SQL of the ranged loop: one round over all segments, cut into ranges that are leased.

What is left of a round is rows: a coordinator that starts goes on where the last one was, and
several share a round.
"""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

RANGE_SERIALS_MIN = 10_000
RANGES_MAX = 4096

_ROUND = Statement("SELECT began_ms, ended_ms, segments FROM repair_round WHERE id = 1 FOR UPDATE")
_LEFT = Statement("SELECT count(*) FROM repair_range")
_SERIALS = Statement("SELECT min(serial), max(serial) FROM segment")
_BEGIN = Statement("""
    INSERT INTO repair_round (id, began_ms, ended_ms, segments, measured_ms)
    VALUES (1, :now_ms, 0, 0, 0)
    ON CONFLICT (id) DO UPDATE SET began_ms = excluded.began_ms, ended_ms = 0, segments = 0""")
_ADD_RANGE = Statement("""
    INSERT INTO repair_range (end_serial, after_serial, lease_owner, lease_until_ms)
    VALUES (:end_serial, :after_serial, :nobody, 0) ON CONFLICT (end_serial) DO NOTHING""")
_FREE = Statement("""
    SELECT end_serial, after_serial FROM repair_range WHERE lease_until_ms <= :now_ms
    ORDER BY end_serial LIMIT 1 FOR UPDATE SKIP LOCKED""")
_LEASE = Statement("""
    UPDATE repair_range SET lease_owner = :owner, lease_until_ms = :until_ms
    WHERE end_serial = :end_serial""")
_ADVANCE = Statement("""
    UPDATE repair_range SET after_serial = :after_serial, lease_until_ms = :until_ms
    WHERE end_serial = :end_serial AND lease_owner = :owner""")
_DROP = Statement("""
    DELETE FROM repair_range WHERE end_serial = :end_serial AND lease_owner = :owner""")
_RELEASE = Statement("""
    UPDATE repair_range SET lease_owner = :nobody, lease_until_ms = 0
    WHERE lease_owner = :owner""")
_COUNT = Statement("UPDATE repair_round SET segments = segments + :segments WHERE id = 1")
_END = Statement("""
    UPDATE repair_round SET ended_ms = :now_ms
    WHERE id = 1 AND NOT EXISTS (SELECT 1 FROM repair_range)""")


@dataclass(frozen=True, slots=True)
class Round:
    """The last round: when it began and ended (0: still under way), what it has seen."""

    began_ms: int
    ended_ms: int
    segments: int
    ranges_left: int


@dataclass(frozen=True, slots=True)
class Range:
    """Segments with serials after ``after_serial`` up to ``end_serial``, still to be judged."""

    after_serial: int
    end_serial: int


def begin_round(connection: Connection, now_ms: int, interval_ms: int) -> bool:
    """Begin a round if none is under way and the last one began long enough ago."""
    last = _ROUND.first(connection)
    if int(_LEFT.scalar(connection)):
        return False
    if last is not None and 0 <= now_ms - last[0] < interval_ms:
        return False
    _BEGIN.run(connection, now_ms=now_ms)
    row = _SERIALS.first(connection)
    if row is None or row[0] is None:
        _END.run(connection, now_ms=now_ms)
        return False
    first, last_serial = row
    step = max(RANGE_SERIALS_MIN, -(-(last_serial - first + 1) // RANGES_MAX))
    _ADD_RANGE.many(
        connection,
        [
            {
                "after_serial": after,
                "end_serial": min(after + step, last_serial),
                "nobody": b"",
            }
            for after in range(first - 1, last_serial, step)
        ],
    )
    return True


def claim_range(connection: Connection, owner: bytes, now_ms: int, lease_ms: int) -> Range | None:
    """Lease a range of the round; None where none is free."""
    row = _FREE.first(connection, now_ms=now_ms)
    if row is None:
        return None
    end_serial, after_serial = row
    _LEASE.run(connection, end_serial=end_serial, owner=owner, until_ms=now_ms + lease_ms)
    return Range(after_serial, end_serial)


def advance_range(
    connection: Connection,
    owner: bytes,
    end_serial: int,
    after_serial: int,
    segments: int,
    now_ms: int,
    lease_ms: int,
) -> bool:
    """Note how far a range is judged; False where the lease is not the owner's any more."""
    if after_serial >= end_serial:
        held = _DROP.run(connection, end_serial=end_serial, owner=owner)
    else:
        held = _ADVANCE.run(
            connection,
            end_serial=end_serial,
            after_serial=after_serial,
            owner=owner,
            until_ms=now_ms + lease_ms,
        )
    if held:
        _COUNT.run(connection, segments=segments)
        _END.run(connection, now_ms=now_ms)
    return bool(held)


def release_ranges(connection: Connection, owner: bytes) -> None:
    """Give up the leases of an owner (it stops)."""
    _RELEASE.run(connection, owner=owner, nobody=b"")


def read_round(connection: Connection) -> Round | None:
    """Return the last round; None before the first."""
    row = _ROUND.first(connection)
    if row is None or not row[0]:
        return None
    began_ms, ended_ms, segments = row
    return Round(began_ms, ended_ms, segments, int(_LEFT.scalar(connection)))
