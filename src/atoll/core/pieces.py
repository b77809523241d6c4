"""The piece record: what a node stores and serves for one piece of one segment.

``fixed header | TLV area | data | trailer``. The header tells the length of the whole record; the
trailer holds what is known only when the data have passed: the roots of all pieces, the segment
root, the uploader's signature, a CRC32C of all that is before it, and a commit mark. So a record is
written, checked and served as a stream.

Normative text: ``docs/spec/piece.md``. Vectors: ``tests/golden/vectors/piece.json``.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from awscrt.checksums import crc32c as _crc32c
from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import PUBLIC_KEY_BYTES, SHORT_ID_BYTES, PieceId, SegmentId, piece_id_of
from atoll.core.merkle import HASH_BYTES, PieceHasher, segment_root
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX, Layout

VERSION = 1
MAGIC = b"ATPC"
COMMIT_MARK = b"ATOLLEND"
HEADER_FIXED_BYTES = 96
TLV_AREA_BYTES_MAX = 64 << 10
TLV_HEAD_BYTES = 6
UNIT_BYTES_MAX = 1 << 20
"""A unit is at most 64 KiB today; readers admit more so that a later scheme needs no new format."""
SIGNATURE_PURPOSE = b"piece-trailer/1"

_FIXED = struct.Struct(">4sBBBBB3xIQQ16s16s16sI4xII")
_TLV = struct.Struct(">HI")
_CRC = struct.Struct(">I")
assert _FIXED.size == HEADER_FIXED_BYTES
_CRC_OFFSET = HEADER_FIXED_BYTES - _CRC.size


class TlvType(IntEnum):
    """Types reserved in the TLV area; others are kept and served again unread."""

    RETENTION = 1
    BUCKET_TAG = 2
    RECOVERY_CAPSULE = 3
    OWNER_KEY_HASH = 4
    LOCK_GRANT = 5
    """The owner's grant for the lock key of the retention record beside it."""


LOCK_TLVS = frozenset({TlvType.RETENTION, TlvType.LOCK_GRANT})
"""Signed by themselves, not by the uploader: whoever makes a piece anew puts the newest there."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """One entry of the TLV area: a type (0..65535) and its value."""

    type: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What a record says before its data. All sizes in bytes."""

    segment_id: SegmentId
    index: int
    k: int
    n: int
    unit_bytes: int
    plain_bytes: int
    """Plaintext of the whole segment."""
    data_bytes: int
    """The data area of this piece: rows times unit."""
    payer_tag: bytes
    tlvs: tuple[Tlv, ...] = ()

    @property
    def piece_id(self) -> PieceId:
        """The id of this piece."""
        return piece_id_of(self.segment_id, self.index)

    @property
    def tlv_bytes(self) -> int:
        """Length of the TLV area."""
        return sum(TLV_HEAD_BYTES + len(tlv.value) for tlv in self.tlvs)

    @property
    def head_bytes(self) -> int:
        """Length of the fixed header and the TLV area."""
        return HEADER_FIXED_BYTES + self.tlv_bytes


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a record says after its data. The same for all pieces of a segment, but for the CRC."""

    piece_roots: tuple[bytes, ...]
    segment_root: bytes
    signer_key: bytes
    signature: bytes


def _corrupt(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "read piece record", message)


def crc32c(data: Buffer, crc: int = 0) -> int:
    """Return the CRC32C (Castagnoli) of ``data`` continued from ``crc``."""
    return int(_crc32c(data, crc))


# --- header --------------------------------------------------------------------------------------


def encode_header(header: Header) -> bytes:
    """Return the fixed header and the TLV area. Raises ``BAD_REQUEST`` for impossible fields."""
    try:
        _check_geometry(header)
    except AtollError as cause:
        raise AtollError(Kind.BAD_REQUEST, "write piece record", cause.message) from None
    if header.tlv_bytes > TLV_AREA_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE,
            "write piece record",
            f"the TLV area has {header.tlv_bytes} of at most {TLV_AREA_BYTES_MAX} bytes",
        )
    if any(not 0 <= tlv.type <= 0xFFFF for tlv in header.tlvs):
        raise AtollError(Kind.BAD_REQUEST, "write piece record", "a TLV type has 16 bits")
    area = _tlv_area(header.tlvs)
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        0,
        header.index,
        header.k,
        header.n,
        header.unit_bytes,
        header.plain_bytes,
        header.data_bytes,
        header.piece_id,
        header.segment_id,
        header.payer_tag,
        len(area),
        crc32c(area),
        0,
    )[:_CRC_OFFSET]
    return fixed + _CRC.pack(crc32c(fixed)) + area


def _tlv_area(tlvs: Iterable[Tlv]) -> bytes:
    return b"".join(_TLV.pack(tlv.type, len(tlv.value)) + tlv.value for tlv in tlvs)


def _check_geometry(header: Header) -> None:
    if len(header.segment_id) != SHORT_ID_BYTES or len(header.payer_tag) != SHORT_ID_BYTES:
        raise _corrupt(f"segment id and payer tag have {SHORT_ID_BYTES} bytes")
    if not 0 <= header.index < header.n:
        raise _corrupt(f"no piece {header.index} among {header.n}")
    if not 0 <= header.plain_bytes <= SEGMENT_PLAIN_BYTES_MAX:
        raise _corrupt(f"a segment holds at most {SEGMENT_PLAIN_BYTES_MAX} bytes")
    if header.unit_bytes > UNIT_BYTES_MAX:
        raise _corrupt(f"a unit has at most {UNIT_BYTES_MAX} bytes")
    try:
        layout = Layout(header.plain_bytes, header.k, header.n, header.unit_bytes)
        piece_bytes = layout.piece_bytes
    except ValueError as cause:
        raise _corrupt(str(cause)) from cause
    if header.data_bytes != piece_bytes:
        raise _corrupt(f"such a piece has {piece_bytes} bytes of data, not {header.data_bytes}")


def header_length(first_bytes: Buffer) -> int:
    """Return the length of header and TLV area from (at least) the fixed header.

    Raises ``CORRUPT`` for a header cut short or damaged, ``NEWER_FORMAT`` for a later version,
    ``TOO_LARGE`` for a TLV area over its limit.
    """
    return HEADER_FIXED_BYTES + _tlv_area_bytes(_fixed_fields(first_bytes))


def _fixed_fields(first_bytes: Buffer) -> tuple[int | bytes, ...]:
    view = memoryview(first_bytes).cast("B")
    if len(view) < HEADER_FIXED_BYTES:
        raise _corrupt(f"the record ends within its header, after {len(view)} bytes")
    fields = _FIXED.unpack_from(view)
    if fields[0] != MAGIC:
        raise _corrupt("this is no piece record: its first bytes are others")
    if fields[-1] != crc32c(view[:_CRC_OFFSET]):
        raise _corrupt("the header's CRC does not hold")
    if fields[1] != VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT,
            "read piece record",
            f"version {fields[1]} of the piece record is not known here",
            hint="update this node",
        )
    if fields[2] != 0 or any(view[9:12]) or any(view[84:88]):
        raise _corrupt("reserved bits of the header are set")
    return fields


def _tlv_area_bytes(fields: tuple[int | bytes, ...]) -> int:
    area_bytes = int(fields[-3])
    if area_bytes > TLV_AREA_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE,
            "read piece record",
            f"the TLV area has {area_bytes} of at most {TLV_AREA_BYTES_MAX} bytes",
        )
    return area_bytes


def parse_header(data: Buffer) -> Header:
    """Read a header with its TLV area; bytes after them are ignored.

    Raises what ``header_length`` raises, and ``CORRUPT`` for fields that contradict each other.
    """
    fields = _fixed_fields(data)
    area_bytes = _tlv_area_bytes(fields)
    area = bytes(memoryview(data).cast("B")[HEADER_FIXED_BYTES : HEADER_FIXED_BYTES + area_bytes])
    if len(area) != area_bytes:
        raise _corrupt("the record ends within its TLV area")
    if crc32c(area) != fields[-2]:
        raise _corrupt("the TLV area's CRC does not hold")
    _, _, _, index, k, n, unit, plain, length, piece_id, segment_id, payer_tag = fields[:12]
    header = Header(
        segment_id=SegmentId(_as_bytes(segment_id)),
        index=int(index),
        k=int(k),
        n=int(n),
        unit_bytes=int(unit),
        plain_bytes=int(plain),
        data_bytes=int(length),
        payer_tag=_as_bytes(payer_tag),
        tlvs=_parse_tlvs(area),
    )
    _check_geometry(header)
    if piece_id != header.piece_id:
        raise _corrupt("the piece id is not that of this segment and index")
    return header


def _as_bytes(field: int | bytes) -> bytes:
    assert isinstance(field, bytes)
    return field


def _parse_tlvs(area: bytes) -> tuple[Tlv, ...]:
    tlvs = []
    offset = 0
    while offset < len(area):
        if offset + TLV_HEAD_BYTES > len(area):
            raise _corrupt("the TLV area ends within an entry")
        kind, length = _TLV.unpack_from(area, offset)
        offset += TLV_HEAD_BYTES
        if length > len(area) - offset:
            raise _corrupt("an entry reaches beyond the TLV area")
        tlvs.append(Tlv(kind, area[offset : offset + length]))
        offset += length
    return tuple(tlvs)


def record_bytes(header: Header) -> int:
    """Return the length of the whole record, trailer included."""
    return header.head_bytes + header.data_bytes + trailer_bytes(header.n)


# --- trailer -------------------------------------------------------------------------------------

_TRAILER_FIXED_BYTES = (
    HASH_BYTES + PUBLIC_KEY_BYTES + SIGNATURE_BYTES + _CRC.size + len(COMMIT_MARK)
)


def trailer_bytes(n: int) -> int:
    """Return the length of the trailer of a segment of ``n`` pieces."""
    return n * HASH_BYTES + _TRAILER_FIXED_BYTES


def sign_trailer(identity: Identity, header: Header, piece_roots: Sequence[bytes]) -> Trailer:
    """Commit to all pieces of a segment and to their TLVs; any of its headers will do.

    Raises ``ValueError`` for a wrong number of roots.
    """
    root = _segment_root_of(header, piece_roots)
    return Trailer(
        piece_roots=tuple(piece_roots),
        segment_root=root,
        signer_key=identity.public_key,
        signature=identity.sign(SIGNATURE_PURPOSE, _signed_text(header, root)),
    )


def _signed_text(header: Header, root: bytes) -> bytes:
    """Return what the trailer's signature covers: the root, and all TLVs but retention records.

    Those are signed by the bucket's lock key (and that by the owner), and a newer one takes an
    older one's place.
    """
    kept = (tlv for tlv in header.tlvs if tlv.type not in LOCK_TLVS)
    return root + hashlib.sha256(_tlv_area(kept)).digest()


def _segment_root_of(header: Header, piece_roots: Sequence[bytes]) -> bytes:
    return segment_root(
        header.segment_id,
        header.k,
        header.n,
        header.unit_bytes,
        header.plain_bytes,
        piece_roots,
    )


def encode_trailer(header: Header, trailer: Trailer, crc32c_of_all_before: int) -> bytes:
    """Return the trailer's bytes. The CRC given is that of header, TLV area and data."""
    assert len(trailer.piece_roots) == header.n
    body = b"".join(
        (*trailer.piece_roots, trailer.segment_root, trailer.signer_key, trailer.signature)
    )
    encoded = body + _CRC.pack(crc32c(body, crc32c_of_all_before)) + COMMIT_MARK
    assert len(encoded) == trailer_bytes(header.n)
    return encoded


def parse_trailer(header: Header, data: Buffer) -> tuple[Trailer, int]:
    """Read a trailer and the CRC32C it states for all bytes of the record before that CRC.

    Raises ``CORRUPT`` for a wrong length or an absent commit mark; checks no hash, no signature.
    """
    body = bytes(memoryview(data).cast("B"))
    if len(body) != trailer_bytes(header.n):
        raise _corrupt(f"the trailer has {len(body)} bytes, not {trailer_bytes(header.n)}")
    if not body.endswith(COMMIT_MARK):
        raise _corrupt("the commit mark is missing: the record was never finished")
    roots_end = header.n * HASH_BYTES
    key_start = roots_end + HASH_BYTES
    signature_start = key_start + PUBLIC_KEY_BYTES
    crc_start = signature_start + SIGNATURE_BYTES
    trailer = Trailer(
        piece_roots=tuple(body[i : i + HASH_BYTES] for i in range(0, roots_end, HASH_BYTES)),
        segment_root=body[roots_end:key_start],
        signer_key=body[key_start:signature_start],
        signature=body[signature_start:crc_start],
    )
    (crc,) = _CRC.unpack_from(body, crc_start)
    return trailer, crc


def check_trailer(header: Header, trailer: Trailer, *, signature: bool = True) -> None:
    """Raise ``CORRUPT`` unless the roots make the segment root and the signature holds.

    ``signature=False`` leaves the signature (0.1 ms), which needs the header's TLVs, to those who
    will rely on it.
    """
    if _segment_root_of(header, trailer.piece_roots) != trailer.segment_root:
        raise _corrupt("the piece roots do not make the segment root")
    if signature and not signature_holds(
        trailer.signer_key,
        SIGNATURE_PURPOSE,
        _signed_text(header, trailer.segment_root),
        trailer.signature,
    ):
        raise _corrupt("the uploader's signature does not hold")


# --- a whole record, checked as it passes --------------------------------------------------------


class RecordChecker:
    """Checks a record as its bytes pass in any cuts: header, CRC32C, root, trailer, signature.

    ``header`` becomes known as soon as its bytes have passed. Give ``expected`` where the header
    must be a certain one (a copy of a known piece). Memory does not grow with the record.
    """

    def __init__(self, expected: Header | None = None, *, signature: bool = True) -> None:
        self._expected = expected
        self._signature = signature
        self._head = bytearray()
        self._head_bytes = HEADER_FIXED_BYTES
        self._tail = bytearray()
        self._hasher = PieceHasher()
        self._crc = 0
        self._data_left = 0
        self.header: Header | None = None
        self.bytes_seen = 0

    def feed(self, data: Buffer) -> None:
        """Take the next bytes.

        Raises ``CORRUPT``, ``NEWER_FORMAT`` or ``TOO_LARGE`` as soon as it is certain that the
        record is bad; after that the checker is of no more use.
        """
        view = memoryview(data).cast("B")
        self.bytes_seen += len(view)
        if self.header is None:
            view = self._feed_head(view)
        if len(view) and self._data_left:
            part = view[: self._data_left]
            self._crc = crc32c(part, self._crc)
            self._hasher.update(part)
            self._data_left -= len(part)
            view = view[len(part) :]
        if len(view):
            assert self.header is not None
            if len(self._tail) + len(view) > trailer_bytes(self.header.n):
                raise AtollError(
                    Kind.TOO_LARGE, "read piece record", "bytes follow the record's commit mark"
                )
            self._tail += view

    def _feed_head(self, view: memoryview) -> memoryview:
        while self.header is None and len(view):
            part = view[: self._head_bytes - len(self._head)]
            self._head += part
            view = view[len(part) :]
            if len(self._head) < self._head_bytes:
                break
            self._head_bytes = header_length(self._head)
            if len(self._head) == self._head_bytes:
                self._head_complete()
        return view

    def _head_complete(self) -> None:
        header = parse_header(self._head)
        if self._expected is not None and header != self._expected:
            raise _corrupt("this is the record of another piece, or one with another header")
        self.header = header
        self._data_left = header.data_bytes
        self._crc = crc32c(self._head)

    @property
    def record_crc(self) -> int:
        """CRC32C of all bytes fed so far, trailer included."""
        return crc32c(self._tail, self._crc)

    def finish(self) -> Trailer:
        """Return the trailer of a record that is whole and right. Raises ``CORRUPT`` otherwise."""
        header = self.header
        if header is None or self._data_left or len(self._tail) != trailer_bytes(header.n):
            raise _corrupt(f"the record ends early, after {self.bytes_seen} bytes")
        trailer, stated_crc = parse_trailer(header, self._tail)
        body_bytes = len(self._tail) - _CRC.size - len(COMMIT_MARK)
        if crc32c(memoryview(self._tail)[:body_bytes], self._crc) != stated_crc:
            raise _corrupt("the record's CRC does not hold")
        if trailer.piece_roots[header.index] != self._hasher.root():
            raise _corrupt("the data do not have the root that the trailer states")
        check_trailer(header, trailer, signature=self._signature)
        return trailer
