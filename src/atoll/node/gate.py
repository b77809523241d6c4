"""A gate before a bounded resource: whoever does not fit waits his turn, but not for ever."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from atoll.core.errors import AtollError, Kind


class Gate:
    """Shares ``capacity`` units (bytes of memory) first come, first served."""

    def __init__(self, capacity: int, waiting_max: int, wait_s: float) -> None:
        """At most ``waiting_max`` wait, each at most ``wait_s``; the rest are refused."""
        self._capacity = capacity
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._held = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, units: int) -> AsyncIterator[None]:
        """Hold so many units (at most the capacity). Raises ``OVERLOADED``."""
        units = min(units, self._capacity)
        if self._queue or self._held + units > self._capacity:
            await self._wait(units)
        else:
            self._held += units
        try:
            yield
        finally:
            self._held -= units
            self._let_in()

    async def _wait(self, units: int) -> None:
        if len(self._queue) >= self._waiting_max:
            raise _overloaded()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (units, turn)
        self._queue.append(entry)
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as cause:
            if turn.done() and not turn.cancelled():
                # The turn came in the same moment: hand it on.
                self._held -= units
            else:
                with contextlib.suppress(ValueError):  # Already passed over as cancelled.
                    self._queue.remove(entry)
            self._let_in()
            if isinstance(cause, TimeoutError):
                raise _overloaded() from None
            raise

    def _let_in(self) -> None:
        while self._queue and self._held + self._queue[0][0] <= self._capacity:
            units, turn = self._queue.popleft()
            if turn.cancelled():
                continue
            self._held += units
            turn.set_result(None)


def _overloaded() -> AtollError:
    return AtollError(Kind.OVERLOADED, "transfer piece", "too many transfers at the same time")
