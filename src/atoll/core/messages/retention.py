"""Retention records on their way: to nodes over HTTP, between gateway and metadata."""

import msgspec

from atoll.core.messages.base import Message
from atoll.core.messages.objects import Done, StoredPiece

RETENTION_PATH = "/v1/retention"
"""Of a node: takes records."""
RETENTION_SHOW_PATH = "/v1/retention/show"
"""Of a node: shows the records it keeps."""
RETENTION_ITEMS_MAX = 1000
"""Records in one request to a node."""
SEGMENTS_LOCKED_MAX = 10_000
"""Segments in one request to the metadata; a longer object is locked in several."""


class RetentionItem(msgspec.Struct, frozen=True, array_like=True):
    """One record for one piece, as ``POST /v1/retention`` takes it."""

    index: int
    record: bytes
    """``core.retention.sign_record``."""
    grant: bytes = b""
    """``core.retention.grant_lock_key``, for the first record of a piece stored without one."""


class RetentionOutcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one item."""

    kind: str
    """Empty where the node keeps this record now; else why not."""
    receipt: bytes
    """The node's retention receipt; empty where it does not keep this record."""
    record: bytes
    """The record it keeps; empty for none."""


class LockState(Message, frozen=True):
    """What an object is locked by. Times are ms since 1970."""

    mode: str = ""
    """``governance``, ``compliance`` or empty for no period."""
    until_ms: int = 0
    legal_hold: bool = False
    sequence: int = 0
    """Of the signed records; 0 where the object was never locked."""


class DefaultLock(Message, frozen=True):
    """What new objects of a bucket are locked by; no days for nothing."""

    mode: str = ""
    """``governance`` or ``compliance``."""
    days: int = 0


class SetDefaultLock(Message, frozen=True):
    """Set what new objects of a bucket are locked by. Errors: ``BUCKET_NOT_FOUND``."""

    bucket: bytes
    lock: DefaultLock
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


class GetDefaultLock(Message, frozen=True):
    """Ask for a bucket's default. Error: ``BUCKET_NOT_FOUND``."""

    bucket: bytes


class SegmentLock(Message, frozen=True):
    """The signed record of one segment."""

    segment: bytes
    record: bytes


class LockObject(Message, frozen=True):
    """Lock an object, or change its lock: one record for each of its segments.

    A longer object is locked in several requests, the last one with ``last``: the object's state
    changes with that one. Errors: ``BUCKET_NOT_FOUND``, ``OBJECT_NOT_FOUND``, ``CONFLICT`` (the
    object is another by now, or a record is for none of its segments), ``RETAINED`` (compliance
    would be shortened).
    """

    bucket: bytes
    key: str
    state: LockState
    grant: bytes
    """The owner's grant for the lock key."""
    locks: list[SegmentLock]
    last: bool = True
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


class GetLock(Message, frozen=True):
    """Ask how an object is locked. Errors: ``BUCKET_NOT_FOUND``, ``OBJECT_NOT_FOUND``."""

    bucket: bytes
    key: str


class LockReport(Message, frozen=True):
    """How an object is locked, and how far its holders know."""

    state: LockState
    segments: int = 0
    """Segments of the object with a record."""
    holders: int = 0
    """Pieces of them that are stored."""
    confirmed: int = 0
    """Pieces whose holder has signed that it obeys the newest record."""
    waiting: list[StoredPiece] = []
    """Some of those that have not (at most 1,000)."""


class UnsignedLocks(Message, frozen=True):
    """Ask for objects whose lock (by a bucket's default) nobody has signed for their holders."""

    limit: int = 100


class UnsignedLock(Message, frozen=True):
    """One of them."""

    account: bytes
    bucket_name: str
    bucket: bytes
    key: str
    state: LockState


class UnsignedList(Message, frozen=True):
    """Locks to be signed."""

    locks: list[UnsignedLock]


class HolderWord(Message, frozen=True):
    """A node's retention receipt for one piece."""

    alias: int
    node_id: bytes
    index: int
    segment: bytes
    receipt: bytes


class ConfirmLocks(Message, frozen=True):
    """What holders signed (at most 10,000 receipts)."""

    words: list[HolderWord]


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    SetDefaultLock: Done,
    GetDefaultLock: DefaultLock,
    LockObject: Done,
    GetLock: LockReport,
    ConfirmLocks: Done,
    UnsignedLocks: UnsignedList,
}
"""Requests of gateways of this family and their answers."""
