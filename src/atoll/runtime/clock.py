"""The real clock."""

import asyncio
import time


class SystemClock:
    """``core.ports.Clock`` by the operating system."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, as this machine believes."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        await asyncio.sleep(seconds)
