"""The nouns of the index: states, rows, and the changes that a batch writes."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

SPENT_GRACE_MS = 3600 * 1000
"""A serial is kept so long beyond its order's expiry: an order is honoured within a clock skew."""
NOWHERE = 0
"""Log number of a row whose piece record was not met yet (a scan met its mark first)."""


class State(IntEnum):
    """What is the case with an indexed piece."""

    LIVE = 0
    TRASH = 1
    """Deleted; its bytes stay until the trash time has passed."""
    DEAD = 2
    """Past the trash; its bytes wait for compaction."""
    LOST = 3
    """Its bytes were found rotten."""


class Mark(IntEnum):
    """The last word about a piece after it was stored."""

    NONE = 0
    DELETED = 1
    REVIVED = 2
    PURGED = 3
    """Deleted, and the trash time has passed."""
    ROTTEN = 4


STATE_OF_MARK = {
    Mark.NONE: State.LIVE,
    Mark.DELETED: State.TRASH,
    Mark.REVIVED: State.LIVE,
    Mark.PURGED: State.DEAD,
    Mark.ROTTEN: State.LOST,
}


class Row(NamedTuple):
    """One piece of the index; order of fields as in the table."""

    log: int
    offset: int
    body_bytes: int
    head_bytes: int
    data_bytes: int
    sequence: int
    state: int
    mark_sequence: int
    mark: int
    marked_ms: int
    retention_ms: int
    issuer: int
    segment_serial: int
    issued_ms: int
    """When its PUT order was issued, by the coordinator's clock."""
    segment: bytes
    piece_index: int
    segment_root: bytes
    bucket_tag: bytes | None
    owner_hash: bytes | None


UNPLACED = Row(
    NOWHERE, 0, 0, 0, 0, 0, State.DEAD, 0, Mark.NONE, 0, 0, 0, 0, 0, b"", 0, b"", None, None
)
"""A mark that was met before the record it speaks of."""


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """A piece that the node holds, as its owner or its coordinator asks for it."""

    piece: bytes
    segment: bytes
    index: int
    segment_serial: int
    segment_root: bytes
    data_bytes: int
    head_bytes: int
    """Header and TLV area of its record."""
    body_bytes: int
    """The whole record."""
    state: int
    """``State.LIVE`` or ``State.TRASH``."""
    issuer: int
    bucket_tag: bytes | None
    retention_ms: int
    issued_ms: int
    marked_ms: int
    """When it was deleted or revived, by the node's clock; 0 where neither."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A piece record is durable at this place."""

    piece: bytes
    log: int
    offset: int
    body_bytes: int
    head_bytes: int
    data_bytes: int
    sequence: int
    retention_ms: int
    issuer: int
    serial: bytes
    expires_ms: int
    segment_serial: int
    issued_ms: int
    segment: bytes
    piece_index: int
    segment_root: bytes
    bucket_tag: bytes | None
    owner_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Marked:
    """A durable mark: the piece was deleted or revived."""

    piece: bytes
    mark: Mark
    sequence: int
    time_ms: int
    serial: bytes
    expires_ms: int
    """0 where no order was spent."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The order of this serial was used for this piece."""

    serial: bytes
    piece: bytes
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Locked:
    """A durable retention record of a piece: ``store.retention``."""

    piece: bytes
    body: bytes
    record_sequence: int
    """By which its owner numbers his records."""
    log_sequence: int
    """Of the log record that holds it."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A durable copy of the record exists at a new place."""

    piece: bytes
    from_log: int
    from_offset: int
    to_log: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class Purged:
    """The trash time of this piece has passed (if it is still in the trash since then)."""

    piece: bytes
    marked_ms: int


@dataclass(frozen=True, slots=True)
class Rotten:
    """The piece's bytes at this place were found damaged, or are gone."""

    piece: bytes
    log: int
    offset: int


@dataclass(frozen=True, slots=True)
class Doomed:
    """Nothing in a log is needed any more; its file will be removed, now or at the next start."""

    log: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A log's file is gone: so are the rows of the dead pieces in it."""

    log: int


@dataclass(frozen=True, slots=True)
class SpentForgotten:
    """Serials of orders that expired before a time are forgotten: such orders are refused."""

    expired_before_ms: int


@dataclass(frozen=True, slots=True)
class LostTold:
    """These lost pieces were told to every coordinator."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Adopted:
    """The piece's owner gave it to another coordinator."""

    piece: bytes
    issuer: int
    segment_serial: int
    sequence: int


Change = (
    Stored
    | Marked
    | Adopted
    | Locked
    | Spent
    | Moved
    | Purged
    | Rotten
    | Doomed
    | Dropped
    | SpentForgotten
    | LostTold
)


@dataclass(frozen=True, slots=True)
class LogMark:
    """How far a log is known: all before ``settled_bytes`` is in the index."""

    log: int
    settled_bytes: int
    tail_bytes: int
    doomed: bool = False


@dataclass(slots=True)
class Totals:
    """Figures kept in step with the rows. Bytes of whole piece records."""

    used_bytes: int = 0
    trash_bytes: int = 0
    pieces: int = 0
    trash_pieces: int = 0
    sequence: int = 0
    """Highest sequence number in the index."""
    live: dict[int, int] = field(default_factory=dict)
    """Log number to the bytes of extents in it whose piece is live or in the trash."""
