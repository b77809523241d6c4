"""What a piece tells its owner, and nobody else: bucket tags, owner key hashes, recovery capsules.

With the recovery phrase alone an owner asks any nodes for pieces under the hash of his public key,
tells buckets apart by their tags and opens the capsules: each says what its segment is a part of
and brings the wrapped key. No coordinator and no database is needed.

Normative text: ``docs/spec/capsule.md``. Vectors: ``tests/golden/vectors/recovery.json``.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import IntEnum

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from atoll.core.crypto import KEY_BYTES, expand_key
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PUBLIC_KEY_BYTES, SHORT_ID_BYTES
from atoll.core.pieces import Header, Tlv, TlvType

CAPSULE_VERSION = 1
CAPSULE_BYTES_MAX = 4096
"""A sealed capsule is never longer: what S3 knows of an object is left out where it does not fit
(the manifests have it)."""
FIRST_MONTH = 202601
"""No bucket tag is older than this."""


class TagFamily(IntEnum):
    """What a tag marks."""

    OBJECTS = 1
    """Segments of a bucket's objects, parts and packs."""
    MANIFESTS = 2
    """Segments of a bucket's manifests."""
    CATALOGUES = 3
    """Segments of an account's catalogue: the tag of the account's id, made by the first account's
    key and found by the first account's owner, so that the phrase alone leads to all accounts."""


class CapsuleKind(IntEnum):
    """What a segment is a part of."""

    OBJECT = 0
    MANIFEST = 1
    PACK = 2


class Description(msgspec.Struct, frozen=True, array_like=True):
    """What S3 knows about an object before its bytes have passed."""

    content_type: str = ""
    headers: dict[str, str] = {}
    user_metadata: dict[str, str] = {}


class StreamOrigin(msgspec.Struct, frozen=True):
    """What an object's or part's bytes are for, as far as it is known before they have passed."""

    part: int = 0
    upload: bytes = b""
    description: Description | None = None


class Capsule(msgspec.Struct, frozen=True, array_like=True):
    """The content of a capsule. Fields of later versions follow and are ignored."""

    version: int
    kind: int
    """A ``CapsuleKind``."""
    created_ms: int
    """When the upload of this segment was ordered, by the writer's clock."""
    wrapped_key: bytes
    """The segment's content key, wrapped by the key of the object, manifest or pack."""
    position: int
    """Place of the segment in its stream (an object, a part, a manifest), from 0."""
    stream_bytes: int
    """Plaintext bytes of the whole stream; 0 where they were not known yet (manifests)."""
    name: str = ""
    """Position 0 only. Of an object or part: its key."""
    stream: bytes = b""
    """Id of the stream's first segment; empty in that one itself."""
    part: int = 0
    """Number of the part, 1..10,000; 0 for whole objects. Of a manifest: its number."""
    upload: bytes = b""
    """Of a part: the id of its multipart upload."""
    last: bool = False
    """Of a manifest: whether this is its last segment."""
    snapshot: bool = False
    """Of a manifest: whether it stands for all with lower numbers."""
    description: Description | None = None
    """Position 0 of whole objects only, where it is not the default."""


_DECODER = msgspec.msgpack.Decoder(Capsule)
_ENCODER = msgspec.msgpack.Encoder()


# --- owners --------------------------------------------------------------------------------------


def owner_hash_of(public_key: bytes) -> bytes:
    """Return the owner key hash (TLV 4) of an account owner's Ed25519 public key."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes")
    return hashlib.sha256(b"atoll/owner-key/1" + public_key).digest()


# --- tags ----------------------------------------------------------------------------------------


def month_of(time_ms: int) -> int:
    """Return the month of a moment as ``YYYYMM``, UTC."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.year * 100 + moment.month


def months_until(month: int) -> Iterator[int]:
    """Yield months from a given one back to ``FIRST_MONTH``."""
    while month >= FIRST_MONTH:
        yield month
        month = month - 1 if month % 100 > 1 else month - 89


def _tag_cipher(recovery_key: bytes, family: TagFamily, month: int) -> Cipher[modes.ECB]:
    label = b"bucket-tag/1\0" + bytes((family,)) + month.to_bytes(4, "big")
    # A single block of unique content: the tag is a permutation of the id, which only the owner
    # can compute or undo.
    return Cipher(algorithms.AES256(expand_key(recovery_key, label)), modes.ECB())  # noqa: S305


def tag_of(recovery_key: bytes, family: TagFamily, bucket: bytes, month: int) -> bytes:
    """Return the tag (16 bytes) of a bucket's pieces in a month; another month's tells nothing.

    ``recovery_key`` is the account's.
    """
    if len(bucket) != SHORT_ID_BYTES:
        raise ValueError(f"a bucket id has {SHORT_ID_BYTES} bytes")
    encryptor = _tag_cipher(recovery_key, family, month).encryptor()
    return encryptor.update(bucket) + encryptor.finalize()


def bucket_of_tag(recovery_key: bytes, family: TagFamily, tag: bytes, month: int) -> bytes:
    """Return the bucket id that has this tag in this month.

    Any 16 bytes give some id: whether it is one, a capsule that opens under its key shows.
    """
    if len(tag) != SHORT_ID_BYTES:
        raise ValueError(f"a bucket tag has {SHORT_ID_BYTES} bytes")
    decryptor = _tag_cipher(recovery_key, family, month).decryptor()
    return decryptor.update(tag) + decryptor.finalize()


# --- capsules ------------------------------------------------------------------------------------


def _siv(bucket_recovery_key: bytes) -> AESSIV:
    return AESSIV(expand_key(bucket_recovery_key, b"capsule/1", 2 * KEY_BYTES))


def seal_capsule(bucket_recovery_key: bytes, segment_id: bytes, capsule: Capsule) -> bytes:
    """Return a capsule sealed for one segment; its description is dropped where it is too long.

    Raises ``TOO_LARGE`` for one that does not fit even then.
    """
    cipher = _siv(bucket_recovery_key)
    sealed = cipher.encrypt(_ENCODER.encode(capsule), [segment_id])
    if len(sealed) > CAPSULE_BYTES_MAX and capsule.description is not None:
        bare = msgspec.structs.replace(capsule, description=None)
        sealed = cipher.encrypt(_ENCODER.encode(bare), [segment_id])
    if len(sealed) > CAPSULE_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE, "seal capsule", f"a capsule has at most {CAPSULE_BYTES_MAX} bytes"
        )
    return sealed


def open_capsule(bucket_recovery_key: bytes, segment_id: bytes, sealed: bytes) -> Capsule:
    """Return a segment's capsule.

    Raises ``CORRUPT`` for any other key, segment or bytes, ``NEWER_FORMAT`` for a later version.
    """
    try:
        plain = _siv(bucket_recovery_key).decrypt(sealed, [segment_id])
    except (InvalidTag, ValueError) as cause:
        raise AtollError(Kind.CORRUPT, "open capsule", "the capsule does not open") from cause
    try:
        capsule = _DECODER.decode(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise AtollError(Kind.CORRUPT, "open capsule", str(cause)) from cause
    if capsule.version != CAPSULE_VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT,
            "open capsule",
            f"version {capsule.version} of capsules is not known here",
            hint="update Atoll",
        )
    return capsule


def label_tlvs(tag: bytes, capsule: bytes, owner_hash: bytes) -> tuple[Tlv, ...]:
    """Return the TLVs of a segment's pieces."""
    return (
        Tlv(TlvType.BUCKET_TAG, tag),
        Tlv(TlvType.RECOVERY_CAPSULE, capsule),
        Tlv(TlvType.OWNER_KEY_HASH, owner_hash),
    )


def tlv_of(header: Header, kind: TlvType) -> bytes | None:
    """Return the value of the first TLV of a type, if there is one."""
    return next((tlv.value for tlv in header.tlvs if tlv.type == kind), None)
