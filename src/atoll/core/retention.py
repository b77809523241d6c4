"""Retention records: an owner's signed word that a segment's pieces stay until a time.

A record is signed by the bucket's lock key, which no coordinator has. Every node that holds a piece
keeps the newest record of its segment and obeys it against everybody, its coordinators included.
Records only ever grow: a later one has a higher sequence number, and what a ``COMPLIANCE`` record
promised no later record takes back, whoever signs it.

Normative text: ``docs/spec/retention.md``. Vectors: ``tests/golden/vectors/retention.json``.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import Enum, IntEnum

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import PUBLIC_KEY_BYTES, SHORT_ID_BYTES, NodeId, SegmentId, node_id_of

MAGIC = b"ATRT"
VERSION = 1
RECORD_PURPOSE = b"retention/1"
LOCK_KEY_PURPOSE = b"lock-key/1"
RECEIPT_PURPOSE = b"retention-receipt/1"
DAY_MS = 24 * 3600 * 1000
RETENTION_MS_MAX = 100 * 366 * DAY_MS
"""Furthest from now that a record may reach, as in S3: a hundred years."""
SEQUENCE_AHEAD_MS = DAY_MS
"""How far a sequence number may be ahead of the clock: so none can use them up."""

_FIXED = struct.Struct(">4sBBBx16s32sQQ")
RECORD_BYTES = _FIXED.size + SIGNATURE_BYTES
LOCK_GRANT_BYTES = PUBLIC_KEY_BYTES + SIGNATURE_BYTES
_RECEIPT = struct.Struct(">BB2xQ16s32s32s")
RETENTION_RECEIPT_BYTES = _RECEIPT.size + SIGNATURE_BYTES
_MS_MAX = (1 << 63) - 1
assert RECORD_BYTES == 136
assert RETENTION_RECEIPT_BYTES == 156


class Mode(IntEnum):
    """Who may shorten a retention period."""

    NONE = 0
    """There is no period (a legal hold there may be)."""
    GOVERNANCE = 1
    """The lock key may shorten or end it."""
    COMPLIANCE = 2
    """Nobody may: a later record reaches at least as far, and is of this mode too."""


@dataclass(frozen=True, slots=True)
class RetentionRecord:
    """What is promised about one segment."""

    segment_id: SegmentId
    lock_key: bytes
    """Ed25519 public key that signs all records of this segment."""
    mode: Mode
    until_ms: int
    """End of the period; 0 with ``Mode.NONE``."""
    legal_hold: bool
    """In force until a later record takes it off, whatever the time is."""
    sequence: int
    """Grows with every record of the segment: the time of signing in ms since 1970, or one more
    than the last record's where that is not later."""


class Order(Enum):
    """How a record stands to the one kept."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read retention record", message)


def _check_fields(record: RetentionRecord) -> None:
    if len(record.segment_id) != SHORT_ID_BYTES or len(record.lock_key) != PUBLIC_KEY_BYTES:
        raise _bad("a segment id has 16 bytes, a lock key 32")
    if not 0 <= record.until_ms <= _MS_MAX or not 1 <= record.sequence <= _MS_MAX:
        raise _bad("time and sequence number are 63-bit numbers, the latter not 0")
    if (record.mode is Mode.NONE) != (record.until_ms == 0):
        raise _bad("a period needs a mode and an end, and neither is there without the other")


def sign_record(lock: Identity, record: RetentionRecord) -> bytes:
    """Return the signed record (136 bytes). Raises ``BAD_REQUEST`` for impossible fields."""
    _check_fields(record)
    if record.lock_key != lock.public_key:
        raise _bad("the record names another lock key")
    body = _FIXED.pack(
        MAGIC,
        VERSION,
        record.mode,
        record.legal_hold,
        record.segment_id,
        record.lock_key,
        record.until_ms,
        record.sequence,
    )
    return body + lock.sign(RECORD_PURPOSE, body)


def parse_record(signed: bytes) -> RetentionRecord:
    """Read a record **without** checking its signature.

    Raises ``BAD_REQUEST`` and ``NEWER_FORMAT``.
    """
    if len(signed) != RECORD_BYTES:
        raise _bad(f"a retention record has {RECORD_BYTES} bytes, not {len(signed)}")
    magic, version, mode, hold, segment, lock_key, until_ms, sequence = _FIXED.unpack_from(signed)
    if magic != MAGIC:
        raise _bad("this is no retention record: its first bytes are others")
    if version != VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT,
            "read retention record",
            f"version {version} of retention records is not known here",
            hint="update this node",
        )
    if hold not in (0, 1) or signed[7] or mode > Mode.COMPLIANCE:
        raise _bad("a flag of the record has no meaning")
    record = RetentionRecord(
        SegmentId(segment), lock_key, Mode(mode), until_ms, bool(hold), sequence
    )
    _check_fields(record)
    return record


def check_record(signed: bytes, segment_id: bytes | None = None) -> RetentionRecord:
    """Return a record that its lock key signed; with ``segment_id``, for that very segment.

    Raises ``BAD_REQUEST``, ``NEWER_FORMAT``, ``FORBIDDEN`` (another segment) and
    ``UNAUTHENTICATED`` (the signature does not hold).
    """
    record = parse_record(signed)
    if segment_id is not None and record.segment_id != segment_id:
        raise AtollError(
            Kind.FORBIDDEN, "check retention record", "the record is for another segment"
        )
    body, signature = signed[: _FIXED.size], signed[_FIXED.size :]
    if not signature_holds(record.lock_key, RECORD_PURPOSE, body, signature):
        raise AtollError(
            Kind.UNAUTHENTICATED, "check retention record", "the record's signature does not hold"
        )
    return record


def retained(record: RetentionRecord | None, now_ms: int) -> bool:
    """Say whether a record forbids to let the segment's pieces go now."""
    return record is not None and (record.legal_hold or record.until_ms > now_ms)


def compare(kept: RetentionRecord | None, new: RetentionRecord) -> Order:
    """Say how a (checked) record stands to the one kept for its segment, if any.

    Only a ``NEWER`` one takes its place. Raises ``FORBIDDEN`` for another lock key than the first
    record's, ``CONFLICT`` for two different records of one sequence number, and ``RETAINED`` for
    one that takes back what a ``COMPLIANCE`` record promised.
    """
    if kept is None:
        return Order.NEWER
    if (new.segment_id, new.lock_key) != (kept.segment_id, kept.lock_key):
        raise AtollError(
            Kind.FORBIDDEN,
            "extend retention",
            "the segment's retention is in the hands of another lock key",
        )
    if new.sequence < kept.sequence:
        return Order.OLDER
    if new.sequence == kept.sequence:
        if new != kept:
            raise AtollError(
                Kind.CONFLICT,
                "extend retention",
                "another record bears the same sequence number",
                hint="sign it again with a higher one",
            )
        return Order.SAME
    if kept.mode is Mode.COMPLIANCE and (
        new.mode is not Mode.COMPLIANCE or new.until_ms < kept.until_ms
    ):
        raise AtollError(
            Kind.RETAINED,
            "extend retention",
            f"compliance retention until {kept.until_ms} ms since 1970 can only be extended",
        )
    return Order.NEWER


def next_sequence(kept: int, now_ms: int) -> int:
    """Return the sequence number of a record signed now, after one numbered ``kept`` (or 0)."""
    return max(kept + 1, now_ms)


def check_reach(record: RetentionRecord, now_ms: int) -> None:
    """Raise ``BAD_REQUEST`` for a period or a sequence number too far ahead of the clock."""
    if record.until_ms > now_ms + RETENTION_MS_MAX:
        raise AtollError(
            Kind.BAD_REQUEST, "extend retention", "a period ends within a hundred years"
        )
    if record.sequence > now_ms + SEQUENCE_AHEAD_MS:
        raise AtollError(
            Kind.BAD_REQUEST,
            "extend retention",
            "the record's sequence number is more than a day ahead of the clock",
            hint="set the clock of the machine that signs (NTP)",
        )


# --- whose lock key ------------------------------------------------------------------------------


def grant_lock_key(owner: Identity, lock_key: bytes) -> bytes:
    """Return the owner's signed word (96 bytes) that this lock key may lock his segments.

    It goes with the first record of a segment that was stored without one, so that nobody else can
    lock what is not his.
    """
    return owner.public_key + owner.sign(LOCK_KEY_PURPOSE, lock_key)


def owner_of_grant(grant: bytes, lock_key: bytes) -> bytes:
    """Return the owner's public key of a lock key's grant.

    Raises ``BAD_REQUEST`` for another length, ``UNAUTHENTICATED`` for a signature that fails.
    """
    if len(grant) != LOCK_GRANT_BYTES:
        raise AtollError(
            Kind.BAD_REQUEST, "check lock key", f"a lock key's grant has {LOCK_GRANT_BYTES} bytes"
        )
    owner_key = grant[:PUBLIC_KEY_BYTES]
    if not signature_holds(owner_key, LOCK_KEY_PURPOSE, lock_key, grant[PUBLIC_KEY_BYTES:]):
        raise AtollError(
            Kind.UNAUTHENTICATED, "check lock key", "the owner's signature does not hold"
        )
    return owner_key


# --- a holder's word -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetentionReceipt:
    """A node's word that it holds a piece and obeys this record of its segment."""

    node_id: NodeId
    segment_id: SegmentId
    index: int
    record_digest: bytes
    """SHA-256 of the signed record."""
    time_ms: int
    """By the node's clock."""


def record_digest(signed: bytes) -> bytes:
    """Return what receipts say of a signed record."""
    return hashlib.sha256(signed).digest()


def sign_retention_receipt(node: Identity, receipt: RetentionReceipt) -> bytes:
    """Return the signed form (156 bytes) of a node's own receipt."""
    assert receipt.node_id == node.node_id
    body = _RECEIPT.pack(
        VERSION,
        receipt.index,
        receipt.time_ms,
        receipt.segment_id,
        receipt.record_digest,
        node.public_key,
    )
    return body + node.sign(RECEIPT_PURPOSE, body)


def check_retention_receipt(signed: bytes, node_id: bytes | None = None) -> RetentionReceipt:
    """Return a receipt that its node signed; with ``node_id``, that very node.

    Raises ``BAD_REQUEST``, ``NEWER_FORMAT`` and ``UNAUTHENTICATED``.
    """
    operation = "check retention receipt"
    if len(signed) != RETENTION_RECEIPT_BYTES:
        raise AtollError(
            Kind.BAD_REQUEST, operation, f"a receipt has {RETENTION_RECEIPT_BYTES} bytes"
        )
    version, index, time_ms, segment_id, digest, public_key = _RECEIPT.unpack_from(signed)
    if version != VERSION:
        raise AtollError(Kind.NEWER_FORMAT, operation, f"version {version} is not known here")
    if signed[2] or signed[3]:
        raise AtollError(Kind.BAD_REQUEST, operation, "a reserved byte is set")
    receipt = RetentionReceipt(
        node_id_of(public_key), SegmentId(segment_id), index, digest, time_ms
    )
    if node_id is not None and receipt.node_id != node_id:
        raise AtollError(Kind.UNAUTHENTICATED, operation, "another node signed the receipt")
    body, signature = signed[: _RECEIPT.size], signed[_RECEIPT.size :]
    if not signature_holds(public_key, RECEIPT_PURPOSE, body, signature):
        raise AtollError(Kind.UNAUTHENTICATED, operation, "the receipt's signature does not hold")
    return receipt
