"""What signs the locks of a bucket, and what it signs."""

from dataclasses import dataclass
from functools import lru_cache

from atoll.client.keys import Keyring
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.messages import BucketInfo
from atoll.core.messages.retention import LockState
from atoll.core.pieces import Tlv, TlvType
from atoll.core.retention import DAY_MS, Mode, RetentionRecord, grant_lock_key, sign_record

BUCKETS_KEPT_MAX = 1024
"""Buckets whose lock key and grant are remembered: each costs two key derivations, a signature."""
MODES = {"": Mode.NONE, "governance": Mode.GOVERNANCE, "compliance": Mode.COMPLIANCE}


@dataclass(frozen=True, slots=True)
class LockKeys:
    """A bucket's lock key, and its owner's grant for it."""

    lock: Identity
    grant: bytes


@lru_cache(maxsize=BUCKETS_KEPT_MAX)
def lock_keys(keyring: Keyring, account: bytes, bucket: bytes) -> LockKeys:
    """Return what signs the locks of a bucket."""
    lock = Identity(keyring.bucket(account, bucket).lock_seed())
    owner = Identity(keyring.account(account).owner_seed())
    return LockKeys(lock, grant_lock_key(owner, lock.public_key))


def sign_state(keys: LockKeys, segment: bytes, state: LockState) -> bytes:
    """Return the record that says of a segment what an object's state says."""
    return sign_record(
        keys.lock,
        RetentionRecord(
            SegmentId(segment),
            keys.lock.public_key,
            MODES[state.mode],
            state.until_ms,
            state.legal_hold,
            state.sequence,
        ),
    )


def default_lock_tlvs(
    keyring: Keyring, bucket: BucketInfo, segment: bytes, now_ms: int
) -> tuple[Tlv, ...]:
    """Return what a new segment of this bucket is locked by from its first moment on."""
    if not bucket.lock_days:
        return ()
    keys = lock_keys(keyring, bucket.account, bucket.bucket)
    until_ms = now_ms + bucket.lock_days * DAY_MS
    state = LockState(mode=bucket.lock_mode, until_ms=until_ms, sequence=now_ms)
    return (
        Tlv(TlvType.RETENTION, sign_state(keys, segment, state)),
        Tlv(TlvType.LOCK_GRANT, keys.grant),
    )
