"""The TLVs of new segments: bucket tag, owner key hash, recovery capsule."""

from atoll.client.keys import Keyring
from atoll.core.capsule import (
    CAPSULE_VERSION,
    Capsule,
    CapsuleKind,
    StreamOrigin,
    TagFamily,
    label_tlvs,
    month_of,
    owner_hash_of,
    seal_capsule,
    tag_of,
)
from atoll.core.identity import Identity
from atoll.core.messages import BucketInfo
from atoll.core.pieces import Tlv

LABELS_KEPT_MAX = 4096
"""Tags and owner hashes remembered; each costs some key derivations anew."""


class Labels:
    """Makes the TLVs; one per worker, beside its keyring."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._owners: dict[bytes, bytes] = {}
        self._tags: dict[tuple[bytes, bytes, int, int], bytes] = {}

    def owner_hash(self, account: bytes) -> bytes:
        """Return the owner key hash of an account."""
        known = self._owners.get(account)
        if known is None:
            if len(self._owners) >= LABELS_KEPT_MAX:
                self._owners.clear()
            key = Identity(self._keyring.account(account).owner_seed()).public_key
            known = self._owners[account] = owner_hash_of(key)
        return known

    def tag(self, account: bytes, bucket: bytes, family: TagFamily, now_ms: int) -> bytes:
        """Return the tag of a bucket's pieces now."""
        month = month_of(now_ms)
        name = (account, bucket, int(family), month)
        known = self._tags.get(name)
        if known is None:
            if len(self._tags) >= LABELS_KEPT_MAX:
                self._tags.clear()
            recovery = self._keyring.account(account).recovery_key()
            known = self._tags[name] = tag_of(recovery, family, bucket, month)
        return known

    def tlvs(
        self, account: bytes, bucket: bytes, segment: bytes, capsule: Capsule
    ) -> tuple[Tlv, ...]:
        """Return the TLVs of one segment. Raises ``TOO_LARGE``."""
        manifest = capsule.kind == CapsuleKind.MANIFEST
        family, finder = TagFamily.OBJECTS, account
        if manifest and bucket == account:
            family, finder = TagFamily.CATALOGUES, self._keyring.first_account
        elif manifest:
            family = TagFamily.MANIFESTS
        recovery = self._keyring.bucket(account, bucket).recovery_key()
        return label_tlvs(
            self.tag(finder, bucket, family, capsule.created_ms),
            seal_capsule(recovery, segment, capsule),
            self.owner_hash(finder),
        )

    def pack_tlvs(
        self, bucket: BucketInfo, segment: bytes, wrapped_key: bytes, pack_bytes: int, now_ms: int
    ) -> tuple[Tlv, ...]:
        """Return the TLVs of a pack: its owner may read it; what is in it the manifests say."""
        capsule = Capsule(
            version=CAPSULE_VERSION,
            kind=CapsuleKind.PACK,
            created_ms=now_ms,
            wrapped_key=wrapped_key,
            position=0,
            stream_bytes=pack_bytes,
        )
        return self.tlvs(bucket.account, bucket.bucket, segment, capsule)


class StreamLabels:
    """The labels of one object or part while its segments are uploaded, in order."""

    def __init__(
        self, labels: Labels, bucket: BucketInfo, key: str, size: int, origin: StreamOrigin | None
    ) -> None:
        self._labels = labels
        self._bucket = bucket
        self._key = key
        self._size = size
        self._origin = origin or StreamOrigin()
        self._stream = b""
        self._position = 0

    def next(self, segment: bytes, wrapped_key: bytes, now_ms: int) -> tuple[Tlv, ...]:
        """Return the TLVs of the next segment."""
        first = self._position == 0
        capsule = Capsule(
            version=CAPSULE_VERSION,
            kind=CapsuleKind.OBJECT,
            created_ms=now_ms,
            wrapped_key=wrapped_key,
            position=self._position,
            stream_bytes=self._size,
            name=self._key if first else "",
            stream=self._stream,
            part=self._origin.part,
            upload=self._origin.upload,
            description=self._origin.description if first else None,
        )
        if first:
            self._stream = segment
        self._position += 1
        return self._labels.tlvs(self._bucket.account, self._bucket.bucket, segment, capsule)
