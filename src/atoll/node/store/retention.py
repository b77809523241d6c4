"""Retention records of the pieces held here: kept durably, and asked before anything goes.

The newest record of a piece lies in the log (in the piece's own record when it came with it, in a
record of kind ``RETENTION`` when it came later) and, to be found quickly, in the index.
Which record is kept: ``core.retention.compare``. Specified in ``docs/spec/retention.md``.
"""

import asyncio
from dataclasses import dataclass
from functools import lru_cache

from atoll.core.capsule import owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.pieces import Header, TlvType
from atoll.core.retention import (
    LOCK_GRANT_BYTES,
    RECORD_BYTES,
    RETENTION_RECEIPT_BYTES,
    Order,
    RetentionRecord,
    check_reach,
    check_record,
    compare,
    owner_of_grant,
    parse_record,
    retained,
)
from atoll.node.store.log import Envelope, Found, RecordKind
from atoll.node.store.model import Locked, Row, State
from atoll.node.store.volume import Volume

NO_SERIAL = bytes(16)
_GRANTED_BYTES = RECORD_BYTES + LOCK_GRANT_BYTES
BODY_LENGTHS = (
    RECORD_BYTES,
    _GRANTED_BYTES,
    RECORD_BYTES + RETENTION_RECEIPT_BYTES,
    _GRANTED_BYTES + RETENTION_RECEIPT_BYTES,
)
"""Of a log record: the retention record, the owner's grant for its lock key, and, where it was
handed over, the next holder's receipt. (Without a grant: as stores of before wrote it.)"""
GRANTS_CHECKED_MAX = 1024
"""Grants whose signature was verified lately: one serves all records of a bucket."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept about a piece's retention."""

    signed: bytes
    record: RetentionRecord
    handed_over: bool
    """Another node holds the piece under this record: this one may let it go."""
    grant: bytes = b""
    """The owner's grant for the lock key: the next holder asks for it."""

    @property
    def body(self) -> bytes:
        """What is kept while it is not handed over."""
        return self.signed + self.grant


def kept_of(volume: Volume, piece: bytes) -> Kept | None:
    """Return what is kept about a piece, if anything is."""
    body = volume.index.retention(piece)
    return None if body is None else read_kept(body)


def read_kept(body: bytes) -> Kept:
    """Read the body of a log record (checked when it was written)."""
    signed = body[:RECORD_BYTES]
    granted = len(body) in (_GRANTED_BYTES, _GRANTED_BYTES + RETENTION_RECEIPT_BYTES)
    grant = body[RECORD_BYTES:_GRANTED_BYTES] if granted else b""
    return Kept(signed, parse_record(signed), len(body) > len(signed) + len(grant), grant)


def now_ms(volume: Volume) -> int:
    """Return the time that counts for retention: a clock set forward frees nothing.

    The earlier of the machine's clock and what beacons prove, where any was ever seen.
    """
    own_ms = volume.clock.now_ms()
    beacon_ms = volume.beacon_ms()
    return min(own_ms, beacon_ms) if beacon_ms else own_ms


def is_retained(volume: Volume, piece: bytes, row: Row, time_ms: int) -> bool:
    """Say whether a piece must stay at this time, by its order or by its owner's record."""
    if row.retention_ms > time_ms:
        return True
    kept = kept_of(volume, piece)
    return kept is not None and not kept.handed_over and retained(kept.record, time_ms)


def check_may_go(volume: Volume, piece: bytes, row: Row) -> None:
    """Raise ``RETAINED`` for a piece that must stay."""
    if is_retained(volume, piece, row, now_ms(volume)):
        raise AtollError(
            Kind.RETAINED,
            "delete piece",
            "the piece is under retention: only its owner's lock key could have it go earlier",
            about=piece.hex()[:10],
        )


def record_in(header: Header) -> tuple[bytes, bytes]:
    """Return the retention record that a piece record carries, and its grant; empty for none.

    Raises ``CORRUPT`` for more than one.
    """
    record, grant = (
        [tlv.value for tlv in header.tlvs if tlv.type == wanted]
        for wanted in (TlvType.RETENTION, TlvType.LOCK_GRANT)
    )
    if len(record) > 1 or len(grant) > 1:
        raise AtollError(Kind.CORRUPT, "store piece", "the piece carries two retention records")
    return record[0] if record else b"", grant[0] if grant else b""


def carried(volume: Volume, piece: bytes, header: Header, owner: bytes | None) -> bytes:
    """Judge the record that a piece comes with; return what is to be kept of it: none if empty.

    A first record counts only with the owner's grant for its lock key, whichever way it comes and
    whatever of the piece lay here before: whoever makes a piece anew is believed no lock of his
    own. Raises as ``admitted`` and ``check_owner`` do.
    """
    record, grant = record_in(header)
    if not record:
        return b""
    kept = kept_of(volume, piece)
    order = admitted(volume, piece, header.segment_id, record)
    if kept is None:
        check_owner(record, grant, owner)
        return record + grant
    return b"" if order is Order.OLDER else record + kept.grant


def admitted(volume: Volume, piece: bytes, segment: bytes, signed: bytes) -> Order:
    """Judge a record offered for a piece against what is kept; check all of it.

    Raises what ``core.retention`` raises: ``BAD_REQUEST``, ``NEWER_FORMAT``, ``UNAUTHENTICATED``,
    ``FORBIDDEN``, ``CONFLICT``, ``RETAINED``.
    """
    kept = kept_of(volume, piece)
    if kept is not None and kept.signed == signed:
        return Order.SAME
    record = check_record(signed, segment)
    # By the machine's clock: beacons may be long past where a coordinator is gone.
    check_reach(record, volume.clock.now_ms())
    return compare(None if kept is None else kept.record, record)


def locked(piece: bytes, body: bytes, sequence: int) -> Locked:
    """Return the change that tells the index of a record, or of a hand-over."""
    record = parse_record(body[:RECORD_BYTES])
    return Locked(piece, body, record.sequence, sequence)


def locked_of_piece(piece: bytes, header: Header, sequence: int) -> Locked | None:
    """Return the change for a stored piece record met by a scan, if it carries a record."""
    signed, grant = record_in(header)
    body = signed + grant if len(grant) == LOCK_GRANT_BYTES else signed
    return locked(piece, body, sequence) if signed else None


def locked_of_log(found: Found) -> Locked | None:
    """Return the change for a ``RETENTION`` record met by a scan."""
    body = found.body_start
    if not found.whole or len(body) not in BODY_LENGTHS:
        return None
    return locked(found.envelope.piece, body, found.envelope.sequence)


async def write_down(volume: Volume, piece: bytes, issuer: int, body: bytes) -> None:
    """Keep a judged record (with the next holder's receipt, if any): durable on return."""
    volume.commit.check()
    envelope = Envelope(
        kind=RecordKind.RETENTION,
        body_bytes=len(body),
        sequence=volume.logs.sequence(),
        time_ms=volume.clock.now_ms(),
        piece=piece,
        serial=NO_SERIAL,
        expires_ms=0,
        retention_until_ms=0,
        issuer=issuer,
    )
    extent = await volume.logs.append(envelope, body)
    durable = volume.commit.add(locked(piece, body, envelope.sequence), extent.log)
    extent.log.land(extent.offset)
    await asyncio.shield(durable)


def check_owner(signed: bytes, grant: bytes, owner: bytes | None) -> None:
    """Raise unless the piece's owner granted the lock key of a first record.

    ``FORBIDDEN`` for another owner's, or where the piece names no owner.
    """
    owner_key = _granted_by(grant, parse_record(signed).lock_key) if grant else b""
    if not owner or not owner_key or owner_hash_of(owner_key) != owner:
        raise AtollError(
            Kind.FORBIDDEN,
            "extend retention",
            "a first record must come with the grant of the piece's owner for its lock key",
        )


@lru_cache(maxsize=GRANTS_CHECKED_MAX)
def _granted_by(grant: bytes, lock_key: bytes) -> bytes:
    return owner_of_grant(grant, lock_key)


def held_row(volume: Volume, piece: bytes) -> Row:
    """Return the row of a piece that is here. Raises ``NOT_FOUND``."""
    row = volume.index.get(piece)
    if row is None or row.state not in (State.LIVE, State.TRASH):
        raise AtollError(
            Kind.NOT_FOUND, "extend retention", "no such piece is stored here", about=piece.hex()
        )
    return row
