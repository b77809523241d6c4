"""Statements and their signatures: exact bytes, who signed them, and proof of two-facedness."""

import hashlib
from typing import Any, TypeVar

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds

DIGEST_BYTES = 32
STATEMENT_BYTES_MAX = 8 << 20
_sha256 = hashlib.sha256
_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {}

Statement = TypeVar("Statement", bound=msgspec.Struct)


class Signed(msgspec.Struct, frozen=True, array_like=True):
    """The encoded bytes of a statement with one signature over their SHA-256."""

    body: bytes
    key: bytes
    signature: bytes


def encode_statement(statement: msgspec.Struct) -> bytes:
    """Return the bytes that are signed and sent: a MessagePack array of the fields in order."""
    return _ENCODER.encode(statement)


def decode_statement(body: bytes, kind: type[Statement]) -> Statement:
    """Read a statement. Raises ``CORRUPT`` for bytes that are none of this kind."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    try:
        found: Statement = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as cause:
        raise AtollError(
            Kind.CORRUPT, "read statement", f"this is no {kind.__name__}: {cause}"
        ) from cause
    return found


def digest_of(body: bytes) -> bytes:
    """Return the digest by which a statement is named and signed."""
    return _sha256(body).digest()


def sign_statement(identity: Identity, purpose: bytes, body: bytes) -> Signed:
    """Sign encoded bytes for one purpose."""
    return Signed(body, identity.public_key, identity.sign(purpose, digest_of(body)))


def holds(signed: Signed, purpose: bytes) -> bool:
    """Say whether the signature is that key's over these bytes for this purpose."""
    return signature_holds(signed.key, purpose, digest_of(signed.body), signed.signature)


def check_signed(
    signed: Signed, purpose: bytes, kind: type[Statement], key: bytes | None = None
) -> Statement:
    """Return the statement of a signed body; with ``key``, only if that key signed.

    Raises ``UNAUTHENTICATED`` and ``CORRUPT``.
    """
    if key is not None and signed.key != key:
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check statement",
            f"another key signed this {kind.__name__}",
            about=signed.key.hex()[:16],
        )
    if not holds(signed, purpose):
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check statement",
            f"the signature of this {kind.__name__} does not hold",
            about=signed.key.hex()[:16],
        )
    return decode_statement(signed.body, kind)
