"""The SQL of the repair queue: rows and leases; all in the caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.repair.store.measures import note_healed
from atoll.coordinator.sql import Statement

_ENQUEUE = Statement("""
    INSERT INTO repair (serial, healthy, urgent, attempts, due_ms, lease_owner, lease_until_ms,
        reason, since_ms)
    VALUES (:serial, :healthy, :urgent, 0, :now_ms, :nobody, 0, :reason, :now_ms)
    ON CONFLICT (serial) DO UPDATE SET
        attempts = CASE WHEN repair.healthy = excluded.healthy THEN repair.attempts ELSE 0 END,
        due_ms = CASE WHEN repair.healthy = excluded.healthy THEN repair.due_ms
            ELSE excluded.due_ms END,
        lease_owner = CASE WHEN :disturb = 1 THEN excluded.lease_owner
            ELSE repair.lease_owner END,
        healthy = excluded.healthy, urgent = excluded.urgent, reason = excluded.reason""")
_CLAIMABLE = Statement("""
    SELECT serial, attempts FROM repair
    WHERE due_ms <= :now_ms AND lease_until_ms <= :now_ms AND urgent >= :urgent
    AND (urgent >= :urgent_sure OR due_ms <= :patient_ms)
    AND urgent <= :urgent_max
    ORDER BY urgent DESC, healthy, due_ms, serial LIMIT :limit FOR UPDATE SKIP LOCKED""")
_LEASE = Statement("""
    UPDATE repair SET lease_owner = :owner, lease_until_ms = :until_ms WHERE serial = :serial""")
_RENEW = Statement("""
    UPDATE repair SET lease_until_ms = :until_ms
    WHERE serial = :serial AND lease_owner = :owner""")
_RELEASE = Statement("""
    UPDATE repair SET lease_owner = :nobody, lease_until_ms = 0 WHERE lease_owner = :owner""")
_RELEASE_BUT = Statement("""
    UPDATE repair SET lease_owner = :nobody, lease_until_ms = 0
    WHERE lease_owner = :owner AND serial <> :serial""")
_FINISH = Statement("""
    DELETE FROM repair WHERE serial = :serial AND lease_owner = :owner RETURNING since_ms""")
_POSTPONE = Statement("""
    UPDATE repair SET healthy = :healthy, urgent = :urgent, attempts = :attempts,
        due_ms = :due_ms, lease_owner = :nobody, lease_until_ms = 0, reason = :reason
    WHERE serial = :serial AND lease_owner = :owner""")
_FREE = Statement("""
    UPDATE repair SET lease_until_ms = 0, due_ms = :now_ms
    WHERE serial = :serial AND lease_owner = :nobody AND lease_until_ms > 0""")
_WAKE_NODE = Statement("""
    UPDATE repair SET due_ms = :now_ms, attempts = 0 WHERE due_ms > :now_ms
    AND serial IN (SELECT serial FROM piece WHERE alias = :alias)""")
_WAKE_CREDITS = Statement("""
    UPDATE repair SET due_ms = :now_ms, attempts = 0 WHERE due_ms > :now_ms
    AND serial IN (SELECT serial FROM repair_credit WHERE alias = :alias)""")
_WAKE_ALL = Statement("""
    UPDATE repair SET due_ms = :now_ms, attempts = 0 WHERE due_ms > :now_ms""")
_LEASE_MOVE = Statement("""
    INSERT INTO repair (serial, healthy, urgent, attempts, due_ms, lease_owner, lease_until_ms,
        reason, since_ms)
    VALUES (:serial, 0, 0, 0, :now_ms, :owner, :until_ms, :reason, :now_ms)
    ON CONFLICT (serial) DO UPDATE SET lease_owner = excluded.lease_owner,
        lease_until_ms = excluded.lease_until_ms
    WHERE repair.lease_until_ms <= :now_ms OR repair.lease_owner = excluded.lease_owner""")
_END_MOVE = Statement("""
    DELETE FROM repair WHERE serial = :serial AND lease_owner = :owner AND reason = :reason""")
_LEAVE_MOVE = Statement("""
    UPDATE repair SET lease_owner = :nobody, lease_until_ms = 0
    WHERE serial = :serial AND (lease_owner = :owner OR (lease_owner = :nobody
    AND lease_until_ms > 0 AND reason = :reason))""")
_QUEUED = Statement("SELECT count(*) FROM repair")
_REASONS = Statement("""
    SELECT reason, count(*) FROM repair GROUP BY reason ORDER BY reason""")

NOBODY = b""
MOVE_REASON = "its holder moves a piece"
URGENT_MAX = 255


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A segment to queue: pieces healthy, urgency (``rules.urgency``), why."""

    serial: int
    healthy: int
    urgent: int
    reason: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased row: which segment, and how often it failed before."""

    serial: int
    attempts: int


def enqueue(
    connection: Connection, entries: Sequence[QueueEntry], now_ms: int, *, disturb: bool
) -> None:
    """Queue segments. One queued already keeps its wait unless its health changed.

    With ``disturb`` (something happened to its nodes) the worker that may just be at it can no
    longer take it off the queue: it is judged again when that lease is over.
    """
    _ENQUEUE.many(
        connection,
        [
            {
                "serial": entry.serial,
                "healthy": entry.healthy,
                "urgent": entry.urgent,
                "now_ms": now_ms,
                "nobody": NOBODY,
                "reason": entry.reason,
                "disturb": int(disturb),
            }
            for entry in entries
        ],
    )


def claim(
    connection: Connection,
    owner: bytes,
    now_ms: int,
    lease_ms: int,
    limit: int,
    urgent_min: int,
    urgent_max: int = URGENT_MAX,
    urgent_sure: int = 0,
    patience_ms: int = 0,
) -> list[Claim]:
    """Lease up to ``limit`` due segments, the most urgent first.

    Those less urgent than ``urgent_sure`` only once they have been due for ``patience_ms``.
    """
    rows = _CLAIMABLE.all(
        connection,
        now_ms=now_ms,
        urgent=urgent_min,
        urgent_max=urgent_max,
        urgent_sure=urgent_sure,
        patient_ms=now_ms - patience_ms,
        limit=limit,
    )
    until_ms = now_ms + lease_ms
    _LEASE.many(
        connection,
        [{"serial": serial, "owner": owner, "until_ms": until_ms} for serial, _ in rows],
    )
    return [Claim(serial, attempts) for serial, attempts in rows]


def renew(
    connection: Connection, owner: bytes, serials: Iterable[int], now_ms: int, lease_ms: int
) -> None:
    """Extend an owner's leases of these segments, where they still are its own."""
    _RENEW.many(
        connection,
        [
            {"serial": serial, "owner": owner, "until_ms": now_ms + lease_ms}
            for serial in sorted(serials)
        ],
    )


def release(connection: Connection, owner: bytes) -> None:
    """Give up all leases of an owner (it stops)."""
    _RELEASE.run(connection, owner=owner, nobody=NOBODY)


def release_but(connection: Connection, owner: bytes, serial: int) -> None:
    """Give up all leases of an owner but one."""
    _RELEASE_BUT.run(connection, owner=owner, nobody=NOBODY, serial=serial)


def finish(connection: Connection, serial: int, owner: bytes, now_ms: int) -> None:
    """Take a segment off the queue, if the lease is still the owner's; count how long it waited."""
    since_ms = _FINISH.scalar(connection, serial=serial, owner=owner)
    if since_ms:
        note_healed(connection, now_ms, max(0, now_ms - since_ms))


def postpone(
    connection: Connection, entry: QueueEntry, owner: bytes, attempts: int, due_ms: int
) -> bool:
    """Put a segment back for later; False where the lease is not the owner's any more."""
    changed = _POSTPONE.run(
        connection,
        serial=entry.serial,
        owner=owner,
        nobody=NOBODY,
        healthy=entry.healthy,
        urgent=entry.urgent,
        attempts=attempts,
        due_ms=due_ms,
        reason=entry.reason,
    )
    return changed == 1


def free(connection: Connection, serial: int, now_ms: int) -> None:
    """Let a segment that was disturbed while it was repaired be taken up at once: that is over."""
    _FREE.run(connection, serial=serial, nobody=NOBODY, now_ms=now_ms)


def wake(connection: Connection, now_ms: int, alias: int | None = None) -> int:
    """Make waiting segments due: those with a piece on a node that returned, or all."""
    if alias is None:
        return _WAKE_ALL.run(connection, now_ms=now_ms)
    _WAKE_CREDITS.run(connection, now_ms=now_ms, alias=alias)
    return _WAKE_NODE.run(connection, now_ms=now_ms, alias=alias)


# --- moves by the holder -------------------------------------------------------------------------


def lease_for_move(
    connection: Connection, serial: int, owner: bytes, now_ms: int, until_ms: int
) -> bool:
    """Keep repair off a segment while its holder moves a piece; False where repair is at it.

    A row that was there already (somebody wants it repaired) waits for as long.
    """
    changed = _LEASE_MOVE.run(
        connection,
        serial=serial,
        owner=owner,
        now_ms=now_ms,
        until_ms=until_ms,
        reason=MOVE_REASON,
    )
    return changed == 1


def end_move(connection: Connection, serial: int, owner: bytes) -> None:
    """Give a segment back to repair, which looks at it again if it was queued meanwhile."""
    _END_MOVE.run(connection, serial=serial, owner=owner, reason=MOVE_REASON)
    _LEAVE_MOVE.run(connection, serial=serial, owner=owner, nobody=NOBODY, reason=MOVE_REASON)


def queued(connection: Connection) -> int:
    """Return the length of the queue."""
    return int(_QUEUED.scalar(connection))


def queue_reasons(connection: Connection) -> dict[str, int]:
    """Return how many segments wait for which reason."""
    return {reason: int(count) for reason, count in _REASONS.all(connection)}
