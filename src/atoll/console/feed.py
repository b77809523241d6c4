"""Asks the coordinator how it is, once a second, and only while somebody looks."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator

from atoll.console.model import CloudView, Sample
from atoll.console.rules import sample_of, view_of
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CloudStatus, ControlPlane, GetStatus
from atoll.core.messages.payouts import AllEarnings, GetAllEarnings, NodeEarnings
from atoll.core.ports import Clock

INTERVAL_S = 1.0
HISTORY_SAMPLES_MAX = 121
VIEWERS_MAX = 64
GAP_MS_MAX = 10_000
"""After a longer pause without viewers the chart begins anew."""


class StatusFeed:
    """One poll for all viewers."""

    def __init__(self, control: ControlPlane, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._history: deque[Sample] = deque(maxlen=HISTORY_SAMPLES_MAX)
        self._viewers: set[asyncio.Queue[CloudView | None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def status(self) -> CloudStatus:
        """Ask now."""
        return await self._control.ask(GetStatus(), CloudStatus)

    async def earnings(self, days: int = 0) -> AllEarnings | None:
        """Ask what nodes earn; None where the coordinator settles nothing."""
        found: list[NodeEarnings] = []
        after, time_ms = 0, 0
        try:
            while True:
                page = await self._control.ask(GetAllEarnings(after=after, days=days), AllEarnings)
                found += page.nodes
                time_ms = page.time_ms
                if not page.more or not page.nodes:
                    return AllEarnings(time_ms=time_ms, nodes=found)
                after = page.nodes[-1].alias
        except AtollError as error:
            if error.kind is not Kind.NOT_IMPLEMENTED:
                raise
            return None

    async def view(self) -> CloudView:
        """Ask now; return what to show."""
        status = await self.status()
        self._keep(status)
        return view_of(status, list(self._history), await self.earnings())

    async def watch(self) -> AsyncGenerator[CloudView, None]:
        """Yield views as they come. Raises ``OVERLOADED`` where too many watch already."""
        if len(self._viewers) >= VIEWERS_MAX:
            raise AtollError(
                Kind.OVERLOADED, "watch cloud", f"{VIEWERS_MAX} pages are open", hint="close some"
            )
        queue: asyncio.Queue[CloudView | None] = asyncio.Queue(maxsize=2)
        self._viewers.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll(), name="status feed")
        try:
            while (view := await queue.get()) is not None:
                yield view
        finally:
            self._viewers.discard(queue)

    async def stop(self) -> None:
        """End all watching."""
        for queue in self._viewers:
            _offer(queue, None)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _poll(self) -> None:
        while self._viewers:
            with contextlib.suppress(AtollError):  # the page shows that it stands still
                view = await self.view()
                for queue in self._viewers:
                    _offer(queue, view)
            await self._clock.sleep(INTERVAL_S)

    def _keep(self, status: CloudStatus) -> None:
        if self._history and status.time_ms - self._history[-1].time_ms > GAP_MS_MAX:
            self._history.clear()
        if not self._history or status.time_ms - self._history[-1].time_ms >= 1000 * INTERVAL_S / 2:
            self._history.append(sample_of(status))


def _offer(queue: "asyncio.Queue[CloudView | None]", view: CloudView | None) -> None:
    """A slow viewer misses old views, never the newest."""
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(view)
