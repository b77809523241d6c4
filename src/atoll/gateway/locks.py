"""What the gateway asks of whoever signs locks."""

from typing import Protocol

from atoll.core.messages import BucketInfo
from atoll.core.messages.retention import LockReport, LockState


class LockKeeper(Protocol):
    """What signs and tells locks (``client.locking.ObjectLocks``)."""

    async def report(self, bucket: BucketInfo, key: str) -> LockReport:
        """Return how an object is locked."""

    async def change(self, bucket: BucketInfo, key: str, change: "Change") -> LockReport:
        """Change an object's lock; return how far its holders know."""


class Change(Protocol):
    """From the state that is and the time in ms to the state that shall be."""

    def __call__(self, old: LockState, now_ms: int, /) -> LockState:
        """Return the new state; its sequence number does not matter."""
