"""The SQL of the repair queue: rows, leases, intents; all in the caller's transaction.

An *intent* is a row of garbage whose time has not come: it is written before a piece is sent, so
that a piece whose repair never ended is collected, and removed when the piece is recorded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import GarbagePiece, StoredSegment
from atoll.coordinator.metadata.store.segments import add_garbage
from atoll.coordinator.sql import Statement
from atoll.core.messages import StoredPiece

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
    ORDER BY urgent DESC, healthy, due_ms, serial LIMIT :limit FOR UPDATE SKIP LOCKED""")
_LEASE = Statement("""
    UPDATE repair SET lease_owner = :owner, lease_until_ms = :until_ms WHERE serial = :serial""")
_RENEW = Statement("""
    UPDATE repair SET lease_until_ms = :until_ms
    WHERE serial = :serial AND lease_owner = :owner""")
_RELEASE = Statement("""
    UPDATE repair SET lease_owner = :nobody, lease_until_ms = 0 WHERE lease_owner = :owner""")
_FINISH = Statement("DELETE FROM repair WHERE serial = :serial AND lease_owner = :owner")
_POSTPONE = Statement("""
    UPDATE repair SET healthy = :healthy, urgent = :urgent, attempts = :attempts,
        due_ms = :due_ms, lease_owner = :nobody, lease_until_ms = 0, reason = :reason
    WHERE serial = :serial AND lease_owner = :owner""")
_WAKE_NODE = Statement("""
    UPDATE repair SET due_ms = :now_ms, attempts = 0 WHERE due_ms > :now_ms
    AND serial IN (SELECT serial FROM piece WHERE alias = :alias)""")
_WAKE_ALL = Statement("""
    UPDATE repair SET due_ms = :now_ms, attempts = 0 WHERE due_ms > :now_ms""")
_QUEUED = Statement("SELECT count(*) FROM repair")
_REASONS = Statement("""
    SELECT reason, count(*) FROM repair GROUP BY reason ORDER BY reason""")

_GARBAGE_THERE = Statement("""
    SELECT piece_index, since_ms FROM garbage WHERE alias = :alias AND segment = :segment
    ORDER BY piece_index""")
_ABANDON = Statement("""
    UPDATE garbage SET since_ms = :now_ms WHERE alias = :alias AND segment = :segment
    AND piece_index = :index AND since_ms > :now_ms""")
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
_WAKE_CREDITS = Statement("""
    UPDATE repair SET due_ms = :now_ms, attempts = 0 WHERE due_ms > :now_ms
    AND serial IN (SELECT serial FROM repair_credit WHERE alias = :alias)""")
_INTEND = Statement("""
    INSERT INTO garbage (alias, segment, piece_index, bucket, since_ms, serial)
    VALUES (:alias, :segment, :index, :bucket, :until_ms, :serial)
    ON CONFLICT (alias, segment, piece_index) DO UPDATE SET since_ms = excluded.since_ms""")
_CONFIRM = Statement("""
    DELETE FROM garbage WHERE alias = :alias AND segment = :segment AND piece_index = :index
    AND since_ms > :now_ms""")

NOBODY = b""
INTENT_MARGIN_MS = 60_000
"""How far the clocks of coordinators that share a database may differ."""


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
    connection: Connection, owner: bytes, now_ms: int, lease_ms: int, limit: int, urgent_min: int
) -> list[Claim]:
    """Lease up to ``limit`` due segments, the most urgent first."""
    rows = _CLAIMABLE.all(connection, now_ms=now_ms, urgent=urgent_min, limit=limit)
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


def finish(connection: Connection, serial: int, owner: bytes) -> None:
    """Take a segment off the queue, if the lease is still the owner's."""
    _FINISH.run(connection, serial=serial, owner=owner)


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


def wake(connection: Connection, now_ms: int, alias: int | None = None) -> int:
    """Make waiting segments due: those with a piece on a node that returned, or all."""
    if alias is None:
        return _WAKE_ALL.run(connection, now_ms=now_ms)
    _WAKE_CREDITS.run(connection, now_ms=now_ms, alias=alias)
    return _WAKE_NODE.run(connection, now_ms=now_ms, alias=alias)


def queued(connection: Connection) -> int:
    """Return the length of the queue."""
    return int(_QUEUED.scalar(connection))


def queue_reasons(connection: Connection) -> dict[str, int]:
    """Return how many segments wait for which reason."""
    return {reason: int(count) for reason, count in _REASONS.all(connection)}


# --- intents -------------------------------------------------------------------------------------


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
    (or has sent) an index gets that one, so that no node ever holds two pieces of a segment. One
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
