"""Manifests: the truth about a bucket's objects, as segments on nodes hold it.

A manifest is a *delta* (keys that changed), a *snapshot* (all keys, in place of all manifests up to
a number) or an account's *catalogue* (its buckets). This is the plaintext of one segment of it;
each segment can be read by itself. Normative text: ``docs/spec/manifest.md``. Vectors:
``tests/golden/vectors/recovery.json``.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.recovery import CatalogueEntry, ObjectChange, SegmentMove

MAGIC = b"ATMF"
VERSION = 1
RAW_BYTES_MAX = 48 << 20
"""Bytes of one segment's content before compression."""
ZLIB_LEVEL = 1
"""Most of a manifest is random (ids, roots, keys): more effort finds nothing."""

_HEAD = struct.Struct(">4sBB2xQQI")
HEAD_BYTES = _HEAD.size
_ENCODER = msgspec.msgpack.Encoder()
_CHANGES = msgspec.msgpack.Decoder(list[ObjectChange | SegmentMove])
_BUCKETS = msgspec.msgpack.Decoder(list[CatalogueEntry])


class ManifestKind(IntEnum):
    """What a manifest says."""

    DELTA = 0
    SNAPSHOT = 1
    CATALOGUE = 2


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """The content of one segment of a manifest."""

    kind: ManifestKind
    number: int
    covers: int
    """Manifests up to this number are replaced; 0 for a delta."""
    changes: tuple[ObjectChange | SegmentMove, ...] = ()
    buckets: tuple[CatalogueEntry, ...] = ()


def _corrupt(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "read manifest", message)


def encode_manifest(part: ManifestPart) -> bytes:
    """Return the plaintext of one segment. Raises ``TOO_LARGE``."""
    items: Sequence[object] = part.changes
    if part.kind is ManifestKind.CATALOGUE:
        items = part.buckets
    return pack_items(part.kind, part.number, part.covers, [_ENCODER.encode(one) for one in items])


def pack_items(kind: ManifestKind, number: int, covers: int, encoded: Sequence[bytes]) -> bytes:
    """Return the plaintext of one segment from its encoded items. Raises ``TOO_LARGE``."""
    # An array 32 header, so that items need not be encoded twice.
    raw = b"".join((b"\xdd", len(encoded).to_bytes(4, "big"), *encoded))
    if len(raw) > RAW_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE, "write manifest", f"a part of it has at most {RAW_BYTES_MAX} bytes"
        )
    head = _HEAD.pack(MAGIC, VERSION, kind, number, covers, len(raw))
    return head + zlib.compress(raw, ZLIB_LEVEL)


def encode_item(item: ObjectChange | SegmentMove | CatalogueEntry) -> bytes:
    """Return one item encoded for ``pack_items``."""
    return _ENCODER.encode(item)


def decode_manifest(plain: bytes) -> ManifestPart:
    """Read the plaintext of one segment. Raises ``CORRUPT``, ``NEWER_FORMAT``."""
    if len(plain) < HEAD_BYTES or not plain.startswith(MAGIC):
        raise _corrupt("this is no manifest: its first bytes are others")
    _, version, kind_byte, number, covers, raw_bytes = _HEAD.unpack_from(plain)
    if version != VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT,
            "read manifest",
            f"version {version} of manifests is not known here",
            hint="update Atoll",
        )
    if raw_bytes > RAW_BYTES_MAX or any(plain[6:8]):
        raise _corrupt("its head is not one of this version")
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(plain[HEAD_BYTES:], raw_bytes + 1)
    except zlib.error as cause:
        raise _corrupt("its content does not unpack") from cause
    if len(raw) != raw_bytes or not inflater.eof:
        raise _corrupt("its content has another length than stated")
    try:
        kind = ManifestKind(kind_byte)
        if kind is ManifestKind.CATALOGUE:
            return ManifestPart(kind, number, covers, buckets=tuple(_BUCKETS.decode(raw)))
        return ManifestPart(kind, number, covers, changes=tuple(_CHANGES.decode(raw)))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as cause:
        raise _corrupt(str(cause)) from cause
