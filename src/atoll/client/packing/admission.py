"""Which buckets a gateway's background work keeps its hands off: their policies exclude it.

A packer and an upgrader decrypt what they move, so they may only work for buckets that this gateway
may serve (docs/sovereignty.md). What was declined is named to the coordinator, which gives it to
another gateway instead.
"""

from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo
from atoll.core.messages.packing import DECLINED_MAX
from atoll.core.ports import Clock

Admit = Callable[[BucketInfo], Awaitable[None]]
"""Raises ``FORBIDDEN`` for a bucket whose policy keeps this gateway from serving it."""
AGAIN_S = 600.0
"""A declined bucket is asked about again after so long: policies and certificates change."""


class Admission:
    """What one worker's job may touch."""

    def __init__(self, admit: Admit | None, clock: Clock) -> None:
        """Without ``admit`` everything."""
        self._admit = admit
        self._clock = clock
        self._declined: dict[bytes, float] = {}

    async def admits(self, bucket: BucketInfo) -> bool:
        """Say whether this gateway may work for a bucket; what it may not is remembered.

        Raises what the question raises, but for the refusal itself.
        """
        if self._admit is None:
            return True
        try:
            await self._admit(bucket)
        except AtollError as refused:
            if refused.kind is not Kind.FORBIDDEN:
                raise
            if len(self._declined) < DECLINED_MAX:
                self._declined[bucket.bucket] = self._clock.monotonic() + AGAIN_S
            return False
        return True

    def declined(self) -> list[bytes]:
        """Return the buckets that this worker does not want."""
        now = self._clock.monotonic()
        for bucket in [one for one, until in self._declined.items() if until <= now]:
            del self._declined[bucket]
        return list(self._declined)
