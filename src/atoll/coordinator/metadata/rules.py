"""The metadata's pure decisions: conditions, what a listing shows, which parts make an object."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

import msgspec

from atoll.coordinator.metadata.model import PART_POSITIONS, unpack_checksums
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CompletePart, Condition, SegmentRecord
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX, scheme_of, unit_bytes_for

KEY_BYTES_MAX = 1024
NAME_BYTES_MAX = 255
PART_NUMBER_MAX = 10_000
PART_BYTES_MIN = 5 << 20
"""Every part but the last is at least this long."""
SEGMENTS_MAX = 1 << 17
"""Segments of one object or part."""
WRAPPED_KEY_BYTES_MAX = 256
FACTS_BYTES_MAX = 64 << 10
"""Encoded facts of an object, its parts not counted."""
BATCH_ROWS_MIN = 8
"""Rows a listing asks for at least when common prefixes hide most of what it finds."""
_ABOVE_ALL_KEYS = b"\xff"
_TOP_BYTE = 0xFF


def bad_request(message: str, about: str = "") -> AtollError:
    """Return the error for a request that makes no sense."""
    return AtollError(Kind.BAD_REQUEST, "check request", message, about=about)


def key_bytes(key: str) -> bytes:
    """Return an object key as stored. Raises ``BAD_REQUEST`` unless it is 1..1024 bytes."""
    encoded = text_bytes(key)
    if not 1 <= len(encoded) <= KEY_BYTES_MAX:
        raise bad_request(f"a key has 1..{KEY_BYTES_MAX} bytes of UTF-8, not {len(encoded)}")
    return encoded


def text_bytes(text: str) -> bytes:
    """Return text as UTF-8. Raises ``BAD_REQUEST`` for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as cause:
        raise bad_request("not valid UTF-8") from cause


def successor(prefix: bytes) -> bytes:
    """Return the least byte string above all that start with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return _ABOVE_ALL_KEYS
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def check_condition(condition: Condition, etag: str | None) -> None:
    """Judge a conditional write against the ETag of what is there (None: nothing).

    Raises ``PRECONDITION_FAILED``, and ``OBJECT_NOT_FOUND`` for ``if_match`` on nothing.
    """
    if condition.if_match:
        if etag is None:
            raise AtollError(Kind.OBJECT_NOT_FOUND, "check condition", "there is no such object")
        if condition.if_match not in ("*", etag):
            raise AtollError(
                Kind.PRECONDITION_FAILED, "check condition", "the object has another ETag"
            )
    if condition.if_none_match and etag is not None and condition.if_none_match in ("*", etag):
        raise AtollError(Kind.PRECONDITION_FAILED, "check condition", "the object exists")


# --- listings ------------------------------------------------------------------------------------


class Keyed(Protocol):
    """A row with a key."""

    @property
    def key(self) -> bytes:
        """The key's bytes."""


KeyedRow = TypeVar("KeyedRow", bound=Keyed)
Cursor = tuple[bytes, bytes]
"""A place in a listing: a key and, for uploads, an upload id. Rows at or after it follow."""


@dataclass(slots=True)
class Listed(Generic[KeyedRow]):
    """One page: rows and common prefixes, each in order."""

    rows: list[KeyedRow] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    truncated: bool = False
    last: KeyedRow | bytes | None = None
    """What came last on the page: a row or a common prefix."""


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """Return the common prefix that stands for a key, or None where it stands for itself."""
    if not delimiter:
        return None
    place = key.find(delimiter, len(prefix))
    return None if place < 0 else key[: place + len(delimiter)]


def first_cursor(prefix: bytes, delimiter: bytes, after: bytes, after_id: bytes = b"") -> Cursor:
    """Return where a page begins that follows ``after`` (and, there, ``after_id``).

    A page that ended with a common prefix goes on behind all that it stands for.
    """
    if not after:
        return prefix, b""
    if after_id:
        start: Cursor = (after, after_id + b"\0")
    elif after.startswith(prefix) and common_prefix(after, prefix, delimiter) == after:
        start = (successor(after), b"")
    else:
        start = (after + b"\0", b"")
    return max(start, (prefix, b""))


def roll_up(
    fetch: Callable[[Cursor, bytes, int], Sequence[KeyedRow]],
    cursor_after: Callable[[KeyedRow], Cursor],
    start: Cursor,
    prefix: bytes,
    delimiter: bytes,
    limit: int,
) -> Listed[KeyedRow]:
    """List one page, rolling keys up at the delimiter.

    ``fetch(cursor, stop, count)`` returns up to ``count`` rows from a cursor on with keys below
    ``stop``, in order. A common prefix is skipped by a jump behind it: at most one fetch per entry,
    however many keys it stands for.
    """
    page: Listed[KeyedRow] = Listed()
    stop = successor(prefix)
    count = limit + 1 if not delimiter else min(limit + 1, 4 * BATCH_ROWS_MIN)
    cursor, behind = start, b""
    entries = 0
    while limit > 0:
        rows = fetch(cursor, stop, count)
        before = entries
        for row in rows:
            if row.key < behind:
                continue
            if entries == limit:
                page.truncated = True
                return page
            entries += 1
            rolled = common_prefix(row.key, prefix, delimiter)
            if rolled is None:
                page.rows.append(row)
                page.last = row
            else:
                page.prefixes.append(rolled)
                page.last = rolled
                behind = successor(rolled)
        if len(rows) < count:
            break
        cursor = (behind, b"") if rows[-1].key < behind else cursor_after(rows[-1])
        if entries - before > count // 2:
            count = min(limit + 1, count * 4)
        else:
            count = min(limit + 1, BATCH_ROWS_MIN)
    return page


# --- segments and parts --------------------------------------------------------------------------


def check_segments(records: Sequence[SegmentRecord], size: int) -> None:
    """Check that segments can be and hold ``size`` bytes, durably. Raises ``BAD_REQUEST``."""
    if len(records) > SEGMENTS_MAX:
        raise bad_request(f"an object has at most {SEGMENTS_MAX} segments")
    if sum(record.plain_bytes for record in records) != size:
        raise bad_request("the segments do not hold as many bytes as the object")
    for record in records:
        try:
            scheme = scheme_of(record.k, record.n)
        except ValueError as cause:
            raise bad_request(str(cause)) from cause
        if not 0 <= record.plain_bytes <= SEGMENT_PLAIN_BYTES_MAX:
            raise bad_request("a segment is too long")
        if record.unit_bytes != unit_bytes_for(record.plain_bytes, record.k):
            raise bad_request("a segment of this size has other units")
        if len(record.segment) != 16 or len(record.root) != 32:
            raise bad_request("a segment's id has 16 bytes, its root 32")
        if not 0 < record.serial < 1 << 63:
            raise bad_request("a segment is named by the serial that its grant gave it")
        if not 0 < len(record.wrapped_key) <= WRAPPED_KEY_BYTES_MAX:
            raise bad_request("a segment's wrapped key is missing or too long")
        if not scheme.durable <= len(record.pieces) <= scheme.n:
            raise bad_request(
                f"a {scheme.name} segment is durable with {scheme.durable} pieces, "
                f"not {len(record.pieces)}"
            )
        if any(not 0 <= piece.index < scheme.n for piece in record.pieces):
            raise bad_request("a segment names a piece it cannot have")


def part_range(number: int) -> tuple[int, int]:
    """Return the positions first..end-1 of a part's segments in its upload's stream."""
    return number * PART_POSITIONS, (number + 1) * PART_POSITIONS


class StoredPart(Protocol):
    """What is known of an uploaded part."""

    @property
    def number(self) -> int:
        """1..10,000."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def etag(self) -> str:
        """Without quotes."""

    @property
    def checksums(self) -> bytes:
        """Encoded by ``model.pack_checksums``."""


PartLike = TypeVar("PartLike", bound=StoredPart)


def choose_parts(wanted: Sequence[CompletePart], stored: Sequence[PartLike]) -> list[PartLike]:
    """Return the stored parts that a client names, in order.

    Raises ``INVALID_PART_ORDER``, ``INVALID_PART`` and ``PART_TOO_SMALL``.
    """
    operation = "complete upload"
    if not wanted:
        raise AtollError(Kind.INVALID_PART, operation, "an object has at least one part")
    numbers = [part.number for part in wanted]
    if any(later <= number for number, later in pairwise(numbers)):
        raise AtollError(Kind.INVALID_PART_ORDER, operation, "part numbers must ascend")
    by_number = {part.number: part for part in stored}
    chosen = []
    for part in wanted:
        found = by_number.get(part.number)
        if found is None or found.etag != part.etag:
            raise AtollError(
                Kind.INVALID_PART,
                operation,
                f"part {part.number} was not uploaded or has another ETag",
            )
        known = unpack_checksums(found.checksums)
        if any(known.get(name) != value for name, value in part.checksums.items()):
            raise AtollError(
                Kind.INVALID_PART, operation, f"part {part.number} has another checksum"
            )
        chosen.append(found)
    for found in chosen[:-1]:
        if found.size < PART_BYTES_MIN:
            raise AtollError(
                Kind.PART_TOO_SMALL,
                operation,
                f"part {found.number} has {found.size} bytes; all but the last need "
                f"{PART_BYTES_MIN}",
            )
    return chosen


def parts_digest(parts: Sequence[CompletePart]) -> bytes:
    """Return a digest of the parts a client names: the same list completes the same way."""
    listed = [(part.number, part.etag) for part in parts]
    return hashlib.sha256(msgspec.msgpack.encode(listed)).digest()
