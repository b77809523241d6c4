"""The simulated clock: the loop's virtual time, as one machine believes it to be."""

import asyncio

from atoll.sim.incarnation import Incarnation

WORLD_BEGINS_MS = 1_800_000_000_000
"""Wall time at virtual second 0 (January 2027)."""


class SimClock:
    """``core.ports.Clock`` on virtual time; ``skew_ms`` is how wrong this machine's clock is."""

    def __init__(self, incarnation: Incarnation, *, skew_ms: int = 0) -> None:
        """Tell the time to one incarnation."""
        self._incarnation = incarnation
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, as this machine believes."""
        self._incarnation.check()
        return WORLD_BEGINS_MS + self.skew_ms + int(self._incarnation.loop.time() * 1000)

    def monotonic(self) -> float:
        """Seconds since the world began."""
        self._incarnation.check()
        return self._incarnation.loop.time()

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass."""
        self._incarnation.check()
        await asyncio.sleep(seconds)
