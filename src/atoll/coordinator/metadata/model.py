"""The nouns of the metadata as the other sub-rooms see them, and how rows encode them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ObjectFacts, SegmentRecord, StoredPiece
from atoll.core.scheme import Layout

POLICY_DEFAULT = 1
"""The placement policy of buckets that chose none."""
PART_POSITIONS = 1 << 32
"""A segment's position is its part's number times this, plus its place in the part."""
INDEX_ANY = 255
"""No piece has this index: an order that bears it admits any one piece of its segment."""


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A committed segment, as its row says."""

    serial: int
    segment: bytes
    bucket: bytes
    stream: bytes
    position: int
    k: int
    n: int
    unit_bytes: int
    plain_bytes: int
    root: bytes
    wrapped_key: bytes
    policy: int
    pieces: tuple[StoredPiece, ...]
    created_ms: int
    repaired_ms: int
    packed_pieces: bytes
    """``pieces`` as stored: what a compare-and-swap compares."""

    @property
    def layout(self) -> Layout:
        """The geometry of this segment."""
        return Layout(self.plain_bytes, self.k, self.n, self.unit_bytes)

    def record(self) -> SegmentRecord:
        """Return the message form."""
        return SegmentRecord(
            segment=self.segment,
            plain_bytes=self.plain_bytes,
            k=self.k,
            n=self.n,
            unit_bytes=self.unit_bytes,
            root=self.root,
            wrapped_key=self.wrapped_key,
            pieces=list(self.pieces),
            serial=self.serial,
        )


@dataclass(frozen=True, slots=True)
class GarbagePiece:
    """A piece that its node shall delete. ``bucket`` says who paid for it."""

    alias: int
    segment: bytes
    index: int
    bucket: bytes
    since_ms: int
    serial: int
    """Of its segment."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a bucket holds (or, as a difference, what a change adds to it)."""

    objects: int = 0
    object_bytes: int = 0
    segments: int = 0
    pieces: int = 0
    piece_bytes: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum."""
        return Usage(
            self.objects + other.objects,
            self.object_bytes + other.object_bytes,
            self.segments + other.segments,
            self.pieces + other.pieces,
            self.piece_bytes + other.piece_bytes,
        )

    def minus(self, other: "Usage") -> "Usage":
        """Return the difference."""
        return Usage(
            self.objects - other.objects,
            self.object_bytes - other.object_bytes,
            self.segments - other.segments,
            self.pieces - other.pieces,
            self.piece_bytes - other.piece_bytes,
        )


def segment_usage(plain_bytes: int, k: int, n: int, unit_bytes: int, pieces: int) -> Usage:
    """Return what a segment with so many stored pieces adds to its bucket."""
    piece_bytes = Layout(plain_bytes, k, n, unit_bytes).piece_bytes
    return Usage(segments=1, pieces=pieces, piece_bytes=pieces * piece_bytes)


def pack_pieces(pieces: Sequence[StoredPiece]) -> bytes:
    """Encode where pieces lie: index byte, then alias as LEB128, in index order.

    Two to four bytes a piece. Raises ``BAD_REQUEST`` for an index or alias out of range or twice.
    """
    out = bytearray()
    ordered = sorted((piece.index, piece.alias) for piece in pieces)
    for index, alias in ordered:
        if not 0 <= index < INDEX_ANY or not 0 < alias < 1 << 31:
            raise AtollError(Kind.BAD_REQUEST, "pack pieces", "no such piece index or node alias")
        out.append(index)
        while alias > 0x7F:
            out.append(alias & 0x7F | 0x80)
            alias >>= 7
        out.append(alias)
    if len({index for index, _ in ordered}) != len(ordered):
        raise AtollError(Kind.BAD_REQUEST, "pack pieces", "a piece is named twice")
    if len({alias for _, alias in ordered}) != len(ordered):
        raise AtollError(Kind.BAD_REQUEST, "pack pieces", "a node holds two pieces of a segment")
    return bytes(out)


def unpack_pieces(packed: bytes) -> tuple[StoredPiece, ...]:
    """Read ``pack_pieces``' form. Raises ``CORRUPT`` for anything else."""
    pieces = []
    offset, end = 0, len(packed)
    try:
        while offset < end:
            index = packed[offset]
            offset += 1
            alias = shift = 0
            while (byte := packed[offset]) > 0x7F:
                alias |= (byte & 0x7F) << shift
                shift += 7
                offset += 1
            pieces.append(StoredPiece(index=index, alias=alias | byte << shift))
            offset += 1
    except IndexError:
        raise AtollError(Kind.CORRUPT, "unpack pieces", "a segment's row is cut short") from None
    return tuple(pieces)


_FACTS_ENCODER = msgspec.msgpack.Encoder()
_FACTS_DECODER = msgspec.msgpack.Decoder(ObjectFacts)
_CHECKSUMS_DECODER = msgspec.msgpack.Decoder(dict[str, str])


def pack_facts(facts: ObjectFacts) -> bytes:
    """Encode an object's facts for its row."""
    return _FACTS_ENCODER.encode(facts)


def unpack_facts(packed: bytes) -> ObjectFacts:
    """Read an object's facts from its row."""
    return _FACTS_DECODER.decode(packed)


def pack_checksums(checksums: dict[str, str]) -> bytes:
    """Encode a part's checksums for its row."""
    return _FACTS_ENCODER.encode(checksums)


def unpack_checksums(packed: bytes) -> dict[str, str]:
    """Read a part's checksums from its row."""
    return _CHECKSUMS_DECODER.decode(packed)


_Composition = tuple[list[int], list[dict[str, str]]]
_COMPOSITION_DECODER = msgspec.msgpack.Decoder(_Composition)


def pack_composition(facts: ObjectFacts) -> bytes:
    """Encode the sizes and checksums of a multipart object's parts for their row."""
    return _FACTS_ENCODER.encode((facts.part_sizes, facts.part_checksums))


def unpack_composition(packed: bytes, facts: ObjectFacts) -> ObjectFacts:
    """Return an object's facts with what its composition's row says."""
    sizes, checksums = _COMPOSITION_DECODER.decode(packed)
    return msgspec.structs.replace(facts, part_sizes=sizes, part_checksums=checksums)
