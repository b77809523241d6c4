"""Keys and ciphers: from the recovery phrase down to one chunk of one segment.

``phrase → root → account → bucket → path``: each step is one-way, so a lower key tells nothing of a
higher one, and the key of a prefix opens exactly what lies under it. Separate labels for content,
names, recovery, ownership and lock keep one key from serving two purposes.

This module draws no random bytes: content keys, entropies and nonces come in from ``Rng``.
Normative text: ``docs/spec/keys.md``, ``docs/spec/segment.md``.
Vectors: ``tests/golden/vectors/keys.json``, ``segment.json``.
"""

import hashlib
import hmac
import struct
from functools import cache, lru_cache

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from mnemonic import Mnemonic

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES, AccountId, BucketId
from atoll.core.scheme import TAG_BYTES

KEY_BYTES = 32
ENTROPY_BYTES = 16
PHRASE_WORDS = 12
NONCE_BYTES = 12
SEGMENT_CIPHER_VERSION = 1
CHUNKS_MAX = 1 << 32
"""GCM nonces count chunks; a segment of 64 MiB in the smallest units has far fewer."""
KEY_BYTES_MAX = 4096
"""Longest object key in UTF-8 that is derived for; S3 allows 1,024."""
PREFIXES_CACHED_MAX = 1024

_ROOT_SALT = b"atoll/root/1 recovery phrase"
_ARGON_TIME = 3
_ARGON_MEMORY_KIB = 64 << 10
_ARGON_LANES = 4


# --- the recovery phrase -------------------------------------------------------------------------


@cache
def _words() -> Mnemonic:
    return Mnemonic("english")


def new_phrase(entropy: bytes) -> str:
    """Return the recovery phrase (12 words of BIP-39's English list) of 16 random bytes."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a recovery phrase is made of {ENTROPY_BYTES} bytes")
    return str(_words().to_mnemonic(entropy))


def _normalised(phrase: str) -> str:
    return " ".join(phrase.lower().split())


def check_phrase(phrase: str) -> None:
    """Raise ``BAD_REQUEST``, with a hint, unless this is a recovery phrase.

    Case and the space between words do not matter. The message never repeats the phrase.
    """
    words = _normalised(phrase).split(" ") if phrase.strip() else []
    if len(words) != PHRASE_WORDS:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read recovery phrase",
            f"a recovery phrase has {PHRASE_WORDS} words, this one has {len(words)}",
            hint="write all twelve words in their order, with spaces between them",
        )
    known = set(_words().wordlist)
    strange = [str(place) for place, word in enumerate(words, 1) if word not in known]
    if strange:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read recovery phrase",
            f"word {', '.join(strange)} is not in the list of words",
            hint="look for a misspelling; the first four letters of a word are enough to tell it",
        )
    if not _words().check(" ".join(words)):
        raise AtollError(
            Kind.BAD_REQUEST,
            "read recovery phrase",
            "the words do not belong together: their checksum does not hold",
            hint="two words may be swapped, or one may be another word of the list",
        )


def root_from_phrase(phrase: str) -> bytes:
    """Return the 32-byte root key of a recovery phrase, by Argon2id (t=3, 64 MiB, 4 lanes).

    Takes about 0.2 s and 64 MiB. Raises ``BAD_REQUEST`` as ``check_phrase`` does.
    """
    check_phrase(phrase)
    return hash_secret_raw(
        secret=_normalised(phrase).encode(),
        salt=_ROOT_SALT,
        time_cost=_ARGON_TIME,
        memory_cost=_ARGON_MEMORY_KIB,
        parallelism=_ARGON_LANES,
        hash_len=KEY_BYTES,
        type=Type.ID,
    )


# --- keys ----------------------------------------------------------------------------------------


def _expand(key: bytes, label: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869), no salt, the label as info."""
    return HKDF(SHA256(), length, salt=None, info=b"atoll/" + label).derive(key)


def expand_key(key: bytes, label: bytes, length: int = KEY_BYTES) -> bytes:
    """Return a key derived from another for one purpose, which ``label`` names with a version."""
    return _expand(key, label, length)


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), hashlib.sha256)


class BucketKeys:
    """All keys of one bucket. Never printed."""

    __slots__ = ("_chain", "_secret")

    def __init__(self, secret: bytes) -> None:
        """Build from the bucket's 32-byte secret."""
        self._secret = secret
        self._chain = lru_cache(maxsize=PREFIXES_CACHED_MAX)(self._chain_uncached)

    def _chain_uncached(self, prefix: bytes) -> bytes:
        """Return the chain key after all components of ``prefix``, without its last "/"."""
        key = self._secret
        for component in prefix.split(b"/"):
            key = _mac(key, b"path\0", component)
        return key

    def prefix_key(self, prefix: str) -> bytes:
        """Return the key that opens all objects under ``prefix`` (which ends with ``/``).

        The empty prefix gives the bucket's own secret. Raises ``BAD_REQUEST``.
        """
        if not prefix:
            return self._secret
        encoded = _encoded_key(prefix)
        if not encoded.endswith(b"/"):
            raise AtollError(Kind.BAD_REQUEST, "derive key", "a prefix ends with /")
        return self._chain(encoded[:-1])

    def _key_of(self, label: bytes, key: str) -> bytes:
        encoded = _encoded_key(key)
        parent, slash, name = encoded.rpartition(b"/")
        chain = self._chain(parent) if slash else self._secret
        return _mac(_mac(chain, b"path\0", name), label)

    def content_key(self, key: str) -> bytes:
        """Return the key that wraps the content keys of the object at ``key``."""
        return self._key_of(b"content", key)

    def path_key(self, prefix: str) -> bytes:
        """Return the key that seals the names directly under ``prefix`` (empty or ends in /)."""
        return _mac(self.prefix_key(prefix), b"name")

    def recovery_key(self) -> bytes:
        """Return the key of recovery capsules and manifests."""
        return _mac(self._secret, b"recovery")

    def pack_key(self) -> bytes:
        """Return the key that wraps the content keys of packs, which hold only ciphertexts."""
        return _mac(self._secret, b"pack")

    def manifest_key(self) -> bytes:
        """Return the key that wraps the content keys of the bucket's manifests."""
        return _mac(self._secret, b"manifest")

    def lock_seed(self) -> bytes:
        """Return the Ed25519 seed that signs retention records."""
        return _mac(self._secret, b"lock")

    def __repr__(self) -> str:
        return "BucketKeys(…)"


def _encoded_key(key: str) -> bytes:
    try:
        encoded = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as cause:
        raise AtollError(Kind.BAD_REQUEST, "derive key", "the key is not UTF-8") from cause
    if len(encoded) > KEY_BYTES_MAX:
        raise AtollError(
            Kind.BAD_REQUEST, "derive key", f"the key has more than {KEY_BYTES_MAX} bytes"
        )
    return encoded


class AccountKeys:
    """The keys of one account. Never printed."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Build from the account's 32-byte secret."""
        self._secret = secret

    def bucket(self, bucket: BucketId) -> BucketKeys:
        """Return the keys of a bucket of this account."""
        if len(bucket) != SHORT_ID_BYTES:
            raise ValueError(f"a bucket id has {SHORT_ID_BYTES} bytes")
        return BucketKeys(_expand(self._secret, b"bucket/1\0" + bucket))

    def owner_seed(self) -> bytes:
        """Return the Ed25519 seed of the owner's signature, which nodes obey for his own pieces."""
        return _expand(self._secret, b"owner/1")

    def recovery_key(self) -> bytes:
        """Return the key from which the account's manifests are found and opened."""
        return _expand(self._secret, b"recovery/1")

    def __repr__(self) -> str:
        return "AccountKeys(…)"


def account_keys(root: bytes, account: AccountId) -> AccountKeys:
    """Return the keys of an account under a 32-byte root key."""
    if len(root) != KEY_BYTES or len(account) != SHORT_ID_BYTES:
        raise ValueError(f"a root has {KEY_BYTES} bytes, an account id {SHORT_ID_BYTES}")
    return AccountKeys(_expand(root, b"account/1\0" + account))


def first_account(root: bytes) -> AccountId:
    """Return the account that a root key's first start makes: the phrase alone finds it again."""
    return AccountId(hmac.digest(root, b"atoll/first-account/1", hashlib.sha256)[:SHORT_ID_BYTES])


def keys_id(root: bytes) -> bytes:
    """Return 8 bytes that name a root key and tell nothing of it."""
    return hmac.digest(root, b"atoll/keys-id/1", hashlib.sha256)[:8]


# --- wrapped keys, sealed names, secrets ---------------------------------------------------------


def _siv(key: bytes, label: bytes) -> AESSIV:
    return AESSIV(_expand(key, label, 2 * KEY_BYTES))


def wrap_key(kek: bytes, segment_id: bytes, content_key: bytes) -> bytes:
    """Return a segment's content key wrapped for storage (48 bytes): AES-256-SIV, RFC 5297.

    It needs no nonce, so the same key wrapped again is the same bytes; the segment id is bound.
    """
    if len(content_key) != KEY_BYTES:
        raise ValueError(f"a content key has {KEY_BYTES} bytes")
    return _siv(kek, b"wrap/1").encrypt(content_key, [segment_id])


def unwrap_key(kek: bytes, segment_id: bytes, wrapped: bytes) -> bytes:
    """Return a wrapped content key. Raises ``CORRUPT`` for any other key, segment or bytes."""
    try:
        return _siv(kek, b"wrap/1").decrypt(wrapped, [segment_id])
    except (InvalidTag, ValueError) as cause:
        raise AtollError(
            Kind.CORRUPT,
            "unwrap key",
            "the segment's key does not open: another recovery phrase, or damaged metadata",
        ) from cause


def seal_name(path_key: bytes, name: str) -> bytes:
    """Return one component of a key, sealed (16 bytes longer); equal names give equal bytes."""
    return _siv(path_key, b"name/1").encrypt(_encoded_key(name), [b"name"])


def open_name(path_key: bytes, sealed: bytes) -> str:
    """Return a sealed component. Raises ``CORRUPT``."""
    try:
        name = _siv(path_key, b"name/1").decrypt(sealed, [b"name"])
    except (InvalidTag, ValueError) as cause:
        raise AtollError(Kind.CORRUPT, "open name", "the sealed name does not open") from cause
    return name.decode("utf-8", "surrogateescape")


def seal_secret(root: bytes, label: str, plain: bytes, nonce: bytes) -> bytes:
    """Return a secret sealed for rest: version, nonce, AES-256-GCM ciphertext and tag.

    ``label`` names the secret's place and is bound. ``nonce`` are 12 random bytes, never reused.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    key = _expand(root, b"secret/1\0" + label.encode())
    return b"\x01" + nonce + AESGCM(key).encrypt(nonce, plain, label.encode())


def open_secret(root: bytes, label: str, sealed: bytes) -> bytes:
    """Return a sealed secret. Raises ``CORRUPT``, or ``NEWER_FORMAT`` for another version."""
    if len(sealed) < 1 + NONCE_BYTES + TAG_BYTES:
        raise AtollError(Kind.CORRUPT, "open secret", "the sealed secret is cut short", about=label)
    if sealed[0] != 1:
        raise AtollError(
            Kind.NEWER_FORMAT, "open secret", f"version {sealed[0]} is not known here", about=label
        )
    key = _expand(root, b"secret/1\0" + label.encode())
    nonce = sealed[1 : 1 + NONCE_BYTES]
    try:
        return AESGCM(key).decrypt(nonce, sealed[1 + NONCE_BYTES :], label.encode())
    except InvalidTag as cause:
        raise AtollError(
            Kind.CORRUPT,
            "open secret",
            "the secret does not open: another recovery phrase, or damaged bytes",
            about=label,
        ) from cause


# --- chunks --------------------------------------------------------------------------------------

Octets = bytes | bytearray | memoryview
"""What the cipher reads from: contiguous bytes."""

_AAD = struct.Struct(">B16sIB")


class SegmentCipher:
    """Encrypts and decrypts the chunks of one segment in place. Safe for many threads.

    AES-256-GCM in the fashion of STREAM: the nonce is the chunk's number; the associated data bind
    format, segment, number and whether it is the last, so nothing can be cut off, moved or swapped.
    A content key serves one segment and one attempt to upload it: never encrypt two plaintexts
    under one (key, number).
    """

    __slots__ = ("_gcm", "_segment_id")

    def __init__(self, key: bytes, segment_id: bytes) -> None:
        if len(key) != KEY_BYTES or len(segment_id) != SHORT_ID_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, a segment id {SHORT_ID_BYTES}")
        self._gcm = AESGCM(key)
        self._segment_id = segment_id

    def _bound(self, number: int, last: bool) -> bytes:
        return _AAD.pack(SEGMENT_CIPHER_VERSION, self._segment_id, number, last)

    def encrypt_chunk(self, number: int, last: bool, plain: Octets, out: memoryview) -> None:
        """Fill ``out``, 16 bytes longer than ``plain``, with ciphertext and tag.

        Raises ``ValueError`` for a wrong length, a number over 2^32-1 or overlapping buffers.
        """
        if not 0 <= number < CHUNKS_MAX:
            raise ValueError("the chunk's number is out of range")
        nonce = number.to_bytes(NONCE_BYTES, "big")
        self._gcm.encrypt_into(nonce, plain, self._bound(number, last), out)

    def decrypt_chunk(self, number: int, last: bool, cipher: Octets, out: memoryview) -> None:
        """Fill ``out``, 16 bytes shorter than ``cipher``, with the plaintext.

        Raises ``CORRUPT`` where the tag does not hold (what is in ``out`` then must not be used)
        and ``ValueError`` for wrong lengths.
        """
        if not 0 <= number < CHUNKS_MAX:
            raise ValueError("the chunk's number is out of range")
        nonce = number.to_bytes(NONCE_BYTES, "big")
        try:
            self._gcm.decrypt_into(nonce, cipher, self._bound(number, last), out)
        except InvalidTag:
            raise AtollError(
                Kind.CORRUPT, "decrypt chunk", f"chunk {number} does not have its tag"
            ) from None
