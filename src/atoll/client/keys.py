"""The keys a gateway holds: from the account's root to the key of one object's content."""

from collections import OrderedDict
from typing import Generic, TypeVar

from atoll.core.crypto import (
    AccountKeys,
    BucketKeys,
    SegmentCipher,
    account_keys,
    first_account,
    keys_id,
    unwrap_key,
    wrap_key,
)
from atoll.core.ids import AccountId, BucketId, SegmentId
from atoll.core.messages import BucketInfo, SegmentRecord
from atoll.core.ports import Rng

CONTENT_KEY_BYTES = 32
ACCOUNTS_CACHED_MAX = 256
BUCKETS_CACHED_MAX = 1024
CONTENT_KEYS_CACHED_MAX = 4096
CIPHERS_CACHED_MAX = 4096

Name = TypeVar("Name")
Value = TypeVar("Value")


class _Recent(Generic[Name, Value]):
    """The values used last, at most ``count_max`` of them."""

    __slots__ = ("_count_max", "_values")

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._values: OrderedDict[Name, Value] = OrderedDict()

    def get(self, name: Name) -> Value | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: Name, value: Value) -> Value:
        self._values[name] = value
        if len(self._values) > self._count_max:
            self._values.popitem(last=False)
        return value


class Keyring:
    """Derives and remembers (within limits) the keys below one recovery root. Never printed."""

    def __init__(self, root: bytes, rng: Rng) -> None:
        """Take the 32-byte root (``crypto.root_from_phrase``) and chance for new content keys."""
        self._root = root
        self.first_account: bytes = first_account(root)
        """The account that the phrase alone leads to."""
        self.keys_id: bytes = keys_id(root)
        """Names the root key to those who must not know it."""
        self._rng = rng
        self._accounts: _Recent[bytes, AccountKeys] = _Recent(ACCOUNTS_CACHED_MAX)
        self._buckets: _Recent[tuple[bytes, bytes], BucketKeys] = _Recent(BUCKETS_CACHED_MAX)
        self._keys: _Recent[tuple[bytes, bytes, str], bytes] = _Recent(CONTENT_KEYS_CACHED_MAX)
        self._ciphers: _Recent[tuple[bytes, bytes], SegmentCipher] = _Recent(CIPHERS_CACHED_MAX)

    def account(self, account: bytes) -> AccountKeys:
        """Return the keys of an account (16-byte id)."""
        keys = self._accounts.get(account)
        if keys is None:
            keys = self._accounts.put(account, account_keys(self._root, AccountId(account)))
        return keys

    def bucket(self, account: bytes, bucket: bytes) -> BucketKeys:
        """Return the keys of a bucket (16-byte ids)."""
        keys = self._buckets.get((account, bucket))
        if keys is None:
            made = self.account(account).bucket(BucketId(bucket))
            keys = self._buckets.put((account, bucket), made)
        return keys

    def content_key(self, bucket: BucketInfo, key: str) -> bytes:
        """Return the key that wraps the content keys of an object's segments."""
        name = (bucket.account, bucket.bucket, key)
        wrapping = self._keys.get(name)
        if wrapping is None:
            made = self.bucket(bucket.account, bucket.bucket).content_key(key)
            wrapping = self._keys.put(name, made)
        return wrapping

    def new_cipher(self, wrapping: bytes, segment: bytes) -> tuple[SegmentCipher, bytes]:
        """Draw a fresh content key for a segment; return its cipher and the wrapped key."""
        content_key = self._rng.bytes(CONTENT_KEY_BYTES)
        cipher = SegmentCipher(content_key, SegmentId(segment))
        return cipher, wrap_key(wrapping, SegmentId(segment), content_key)

    def cipher(self, wrapping: bytes, segment: SegmentRecord) -> SegmentCipher:
        """Return the cipher of a stored segment. Raises ``CORRUPT`` if the key does not open."""
        name = (segment.segment, segment.wrapped_key)
        cipher = self._ciphers.get(name)
        if cipher is None:
            content_key = unwrap_key(wrapping, SegmentId(segment.segment), segment.wrapped_key)
            cipher = self._ciphers.put(name, SegmentCipher(content_key, SegmentId(segment.segment)))
        return cipher

    def __repr__(self) -> str:
        return "Keyring(…)"
