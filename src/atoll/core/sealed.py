"""Sealed boxes: bytes that only one Ed25519 identity can read.

Every party has an Ed25519 key and signs with it; the same key, moved to its Montgomery form, takes
part in a Diffie-Hellman exchange (RFC 7748, section 4.1, the birational map), so nobody needs a
second key to be written to. Each box has an ephemeral key of its own, derived from 32 bytes that
come in: this module draws no chance.

    box = ephemeral X25519 key (32) | AES-256-GCM ciphertext and tag
    key = HKDF-SHA256(shared secret, no salt,
                      info = "atoll/sealed/1" | 00 | purpose | 00 | ephemeral | reader)

The nonce is zero: no key seals twice. The box says neither who reads it nor who wrote it.
"""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atoll.core.crypto import KEY_BYTES, NONCE_BYTES, expand_key
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SEED_BYTES, Identity
from atoll.core.ids import PUBLIC_KEY_BYTES

BOX_OVERHEAD_BYTES = PUBLIC_KEY_BYTES + 16
_PRIME = 2**255 - 19
_NONCE = bytes(NONCE_BYTES)


def exchange_key_of(public_key: bytes) -> bytes:
    """Return the X25519 public key of an Ed25519 public key: ``u = (1 + y) / (1 - y)``.

    Raises ``BAD_REQUEST`` for bytes that are no point of the curve's, or its neutral one.
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise _bad("a public key has 32 bytes")
    y = int.from_bytes(public_key, "little") & ((1 << 255) - 1)
    if y >= _PRIME or y in (0, 1, _PRIME - 1):
        raise _bad("this is nobody's key")
    u = (1 + y) * pow(1 - y, -1, _PRIME) % _PRIME
    return u.to_bytes(PUBLIC_KEY_BYTES, "little")


def _exchange_secret(seed: bytes) -> X25519PrivateKey:
    """Return the X25519 private key of an Ed25519 seed (RFC 8032, section 5.1.5, steps 1 and 2)."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes")
    return X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:KEY_BYTES])


def _key(shared: bytes, purpose: bytes, ephemeral: bytes, reader: bytes) -> AESGCM:
    return AESGCM(expand_key(shared, b"sealed/1\0" + purpose + b"\0" + ephemeral + reader))


def seal_for(public_key: bytes, purpose: bytes, plain: bytes, ephemeral_seed: bytes) -> bytes:
    """Return a box for the holder of an Ed25519 key.

    ``ephemeral_seed``: 32 bytes that nobody can guess and that seal nothing else. Raises
    ``BAD_REQUEST`` for a key that is nobody's.
    """
    secret = X25519PrivateKey.from_private_bytes(expand_key(ephemeral_seed, b"sealed-ephemeral/1"))
    ephemeral = secret.public_key().public_bytes_raw()
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(exchange_key_of(public_key)))
    except ValueError as cause:
        raise _bad("this is nobody's key") from cause
    return ephemeral + _key(shared, purpose, ephemeral, public_key).encrypt(_NONCE, plain, None)


def open_sealed(seed: bytes, purpose: bytes, box: bytes) -> bytes:
    """Return what a box holds, with the reader's Ed25519 seed.

    Raises ``CORRUPT`` where it is for somebody else, for another purpose, or was changed.
    """
    ephemeral, cipher = box[:PUBLIC_KEY_BYTES], box[PUBLIC_KEY_BYTES:]
    try:
        shared = _exchange_secret(seed).exchange(X25519PublicKey.from_public_bytes(ephemeral))
        reader = Identity(seed).public_key
        return _key(shared, purpose, ephemeral, reader).decrypt(_NONCE, cipher, None)
    except (InvalidTag, ValueError):
        raise AtollError(Kind.CORRUPT, "open sealed box", "the box is not for this key") from None


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "seal box", message)
