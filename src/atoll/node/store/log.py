"""The log format: how one record lies in a log, and one open log file.

A log is a row of extents. An extent is ``head (120) | body | foot (24) | zeros to 8``. The head
says what follows and how long it is; the foot is written only when all of the body is there and
right.
Both carry a keyed check that is bound to the log's number and the offset: bytes that a customer
stored in a piece, or a block that the disk wrote to another place, never pass for a record.

Normative text: ``docs/spec/node-store.md``. Vectors: ``tests/golden/vectors/node-store.json``.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from atoll.core.pieces import crc32c
from atoll.core.ports import DiskFile

HEAD_MAGIC = b"ATLR"
FOOT_MAGIC = b"ATLE"
VERSION = 1
ALIGN_BYTES = 8
KEY_BYTES = 32
CHECK_BYTES = 16

_HEAD = struct.Struct("<4sBBHQQQ16s16sQQQQQ")
_PLACE = struct.Struct("<QQ")
_FOOT = struct.Struct("<4sI")
HEAD_BYTES = _HEAD.size + CHECK_BYTES
FOOT_BYTES = _FOOT.size + CHECK_BYTES
assert HEAD_BYTES == 120
assert FOOT_BYTES == 24


class RecordKind(IntEnum):
    """What an extent holds."""

    PIECE = 1
    """A piece record as received; serial and expiry are those of its PUT order."""
    TOMBSTONE = 2
    """The piece was deleted by the DELETE order of this serial; no body."""
    REVIVE = 3
    """The piece was taken back out of the trash; no body."""
    SPENT = 4
    """The order of this serial was used for this piece; no body (left by compaction)."""
    RETENTION = 5
    """The piece's newer retention record (``store.retention``)."""
    ADOPTION = 6
    """The piece obeys this coordinator from now on (``store.adoption``); no body."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a head says. Bytes and milliseconds since the Unix epoch."""

    kind: RecordKind
    body_bytes: int
    sequence: int
    """Grows with every record of the store; kept when compaction copies a record."""
    time_ms: int
    piece: bytes
    serial: bytes
    expires_ms: int
    retention_until_ms: int
    issuer: int
    """Coordinator whose order this was: 56 bits of a hash of its public key."""
    segment_serial: int = 0
    """The segment's number at that coordinator, as the order says; 0 for none."""
    issued_ms: int = 0
    """When the order was issued, by the coordinator's clock; 0 where there was no order."""


def extent_bytes(body_bytes: int) -> int:
    """Return the room an extent with such a body takes in a log."""
    return -(-(HEAD_BYTES + body_bytes + FOOT_BYTES) // ALIGN_BYTES) * ALIGN_BYTES


def _check(key: bytes, *parts: bytes) -> bytes:
    digest = hashlib.blake2b(key=key, digest_size=CHECK_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def encode_head(envelope: Envelope, key: bytes, log: int, offset: int) -> bytes:
    """Return the head of a record that will lie at ``offset`` of log number ``log``."""
    fields = _HEAD.pack(
        HEAD_MAGIC,
        VERSION,
        envelope.kind,
        0,
        envelope.body_bytes,
        envelope.sequence,
        envelope.time_ms,
        envelope.piece,
        envelope.serial,
        envelope.expires_ms,
        envelope.retention_until_ms,
        envelope.issuer,
        envelope.segment_serial,
        envelope.issued_ms,
    )
    return fields + _check(key, fields, _PLACE.pack(log, offset))


def parse_head(data: bytes, key: bytes, log: int, offset: int) -> Envelope | None:
    """Read a head; ``None`` if these bytes are not a head that this store wrote here."""
    if len(data) < HEAD_BYTES or data[:4] != HEAD_MAGIC:
        return None
    fields = bytes(data[: _HEAD.size])
    if _check(key, fields, _PLACE.pack(log, offset)) != data[_HEAD.size : HEAD_BYTES]:
        return None
    _, version, kind, _, body, *said = _HEAD.unpack(fields)
    if version != VERSION:
        return None
    try:
        known = RecordKind(kind)
    except ValueError:
        return None
    return Envelope(known, body, *said)


def encode_foot(head: bytes, body_crc: int, key: bytes) -> bytes:
    """Return foot and padding of a record with this head and this CRC32C of its body."""
    fields = _FOOT.pack(FOOT_MAGIC, body_crc)
    foot = fields + _check(key, b"foot", head, fields)
    (body_bytes,) = struct.unpack_from("<Q", head, 8)
    return foot + bytes(extent_bytes(body_bytes) - HEAD_BYTES - body_bytes - FOOT_BYTES)


def parse_foot(data: bytes, head: bytes, key: bytes) -> int | None:
    """Return the CRC32C that a foot states for the body; ``None`` if it does not belong here."""
    if len(data) < FOOT_BYTES or data[:4] != FOOT_MAGIC:
        return None
    fields = data[: _FOOT.size]
    if _check(key, b"foot", head, fields) != data[_FOOT.size : FOOT_BYTES]:
        return None
    crc: int = _FOOT.unpack(fields)[1]
    return crc


@dataclass(slots=True, eq=False)
class LogFile:
    """One open log. ``tail`` is the end of the last extent given out."""

    number: int
    opened: DiskFile | None = None
    """The handle, while it is open; ``Logs`` opens and closes it."""
    tail: int = 0
    allocated: int = 0
    sealed: bool = False
    """Nothing is appended any more."""
    fresh: bool = False
    """Made since the last sync: its entry in the folder is not yet durable."""
    readers: int = 0
    unsynced: int = 0
    """Changes queued for the group commit whose bytes lie here."""
    flying: dict[int, int] = field(default_factory=dict)
    """Extents given out and neither committed nor given back: start to end."""

    @property
    def name(self) -> str:
        """The file's name."""
        return log_name(self.number)

    def take(self, length: int) -> int:
        """Give out the next ``length`` bytes; the caller made sure that they are allocated."""
        start = self.tail
        self.tail = start + length
        assert self.tail <= self.allocated
        self.flying[start] = self.tail
        return start

    def give_back(self, start: int) -> None:
        """Take back an extent that will not be finished; the last one leaves no hole."""
        end = self.flying.pop(start)
        if end == self.tail and not self.sealed:
            self.tail = start

    def land(self, start: int) -> None:
        """Note that the extent is whole and about to be committed."""
        del self.flying[start]

    @property
    def settled(self) -> int:
        """All extents before this offset are committed or given back."""
        return min(self.flying, default=self.tail)

    @property
    def file(self) -> DiskFile:
        """The open handle."""
        assert self.opened is not None
        return self.opened


def log_name(number: int) -> str:
    """Return the file name of log ``number``."""
    return f"logs/{number:08d}.log"


def log_number(name: str) -> int | None:
    """Return the number of a log's file name (without folder); ``None`` for another file."""
    stem, dot, suffix = name.partition(".")
    if suffix != "log" or not dot or len(stem) != 8 or not stem.isascii() or not stem.isdigit():
        return None
    return int(stem)


SCAN_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record met by a scan."""

    offset: int
    end: int
    envelope: Envelope
    whole: bool
    """The foot is there and the body's CRC holds."""
    finished: bool
    """The foot is there; with ``whole`` false, the body has rotted since it was written."""
    body_crc: int
    """As the foot states it."""
    body_start: bytes
    """The first bytes of the body (at most 64 KiB and a header)."""


BODY_START_BYTES = (64 << 10) + 256


def scan(
    file: DiskFile, log: int, key: bytes, start: int, end: int, *, bodies: bool = True
) -> Iterator[Found]:
    """Walk the records between two offsets, skipping what is no record. Blocks.

    Without ``bodies`` the bodies are not read, and ``whole`` says only that the foot is there.
    """
    offset = start
    while offset + HEAD_BYTES + FOOT_BYTES <= end:
        head = file.read_at(offset, HEAD_BYTES)
        envelope = parse_head(head, key, log, offset)
        if envelope is None or offset + extent_bytes(envelope.body_bytes) > end:
            # A head whose extent leaves the file was cut with the file: nothing of it is left.
            found = _next_head(file, log, key, offset + ALIGN_BYTES, end)
            if found is None:
                return
            offset = found
            continue
        yield _examine(file, head, envelope, offset, key, bodies)
        offset += extent_bytes(envelope.body_bytes)


def _examine(
    file: DiskFile, head: bytes, envelope: Envelope, offset: int, key: bytes, bodies: bool
) -> Found:
    body = offset + HEAD_BYTES
    end = body + envelope.body_bytes
    stated = parse_foot(file.read_at(end, FOOT_BYTES), head, key)
    first = b""
    crc = 0
    if bodies and stated is not None:
        for position in range(body, end, SCAN_WINDOW_BYTES):
            part = file.read_at(position, min(SCAN_WINDOW_BYTES, end - position))
            first = first or part[:BODY_START_BYTES]
            crc = crc32c(part, crc)
    return Found(
        offset=offset,
        end=offset + extent_bytes(envelope.body_bytes),
        envelope=envelope,
        whole=stated is not None and (not bodies or stated == crc),
        body_crc=stated or 0,
        finished=stated is not None,
        body_start=first,
    )


def _next_head(file: DiskFile, log: int, key: bytes, start: int, end: int) -> int | None:
    """Return the offset of the next genuine head at or after ``start``."""
    position = start
    while position < end:
        window = file.read_at(position, min(SCAN_WINDOW_BYTES, end - position))
        if not window:
            return None
        at = window.find(HEAD_MAGIC)
        while at >= 0:
            offset = position + at
            if offset % ALIGN_BYTES == 0 and parse_head(
                file.read_at(offset, HEAD_BYTES), key, log, offset
            ):
                return offset
            at = window.find(HEAD_MAGIC, at + 1)
        # Windows overlap by a magic less a byte, so that none is missed at their seam.
        position += max(1, len(window) - len(HEAD_MAGIC) + 1)
    return None
