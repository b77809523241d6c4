"""Processes of the simulated world: they start, and they die at any callback.

A crash fences the incarnation. Its callbacks never run again (``sim.loop`` sees to that), its ports
raise ``Fenced``, and since the world outside is reached by ports only, no ``finally`` of it has any
effect. ``Fenced`` is no ``Exception``: code that handles failures does not get to handle its own
death.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from atoll.sim.loop import SimLoop, SimTask
from atoll.sim.trace import Trace

Result = TypeVar("Result")


class Fenced(BaseException):
    """The caller is dead."""


class Incarnation:
    """One run of one process, from its start to its crash.

    ``crash_in`` callbacks from now it dies by itself, between two awaits of its choosing.
    """

    def __init__(self, name: str, number: int, loop: SimLoop, trace: Trace) -> None:
        """Begin to live."""
        self.name = name
        self.number = number
        self.loop = loop
        self.trace = trace
        self.dead = False
        self.crash_in = 0
        """Callbacks left until it dies; 0: it lives on."""
        self.ended = asyncio.Event()
        self._at_crash: list[Callable[[], None]] = []
        self._remains: list[SimTask[Any]] = []

    def step(self) -> bool:
        """Count a callback about to run; False where it dies instead."""
        if self.crash_in:
            self.crash_in -= 1
            if self.crash_in == 0:
                self.crash()
                return False
        return True

    def check(self) -> None:
        """Raise ``Fenced`` where this incarnation is dead: every port asks first."""
        if self.dead:
            raise Fenced

    def start(self, coroutine: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start a task of this incarnation."""
        return self.loop.start(coroutine, self)

    def at_crash(self, function: Callable[[], None]) -> None:
        """Have ``function`` called when it dies: how disks and networks learn of it."""
        self._at_crash.append(function)

    def crash(self) -> None:
        """Die now. Nothing is told to the code inside; the world outside notices."""
        if self.dead:
            return
        self.dead = True
        self.trace.note("crash", f"{self.name}#{self.number}")
        # Kept, not collected: closing a coroutine would run its finally blocks.
        tasks = (t for t in asyncio.all_tasks(self.loop) if isinstance(t, SimTask))
        self._remains = sorted((t for t in tasks if t.life is self), key=lambda t: t.number)
        for function in self._at_crash:
            function()
        self.ended.set()

    def bury(self) -> None:
        """After the world's end: close what the dead left, whatever it says."""
        for task in self._remains:
            _close(task)
        self._remains.clear()


def close_tasks(loop: SimLoop) -> None:
    """Close what still waits in a loop that will not run again."""
    tasks = [task for task in asyncio.all_tasks(loop) if isinstance(task, SimTask)]
    for task in sorted(tasks, key=lambda t: t.number):
        _close(task)


def _close(task: SimTask[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    with contextlib.suppress(BaseException):
        if coroutine is not None:
            coroutine.close()


class SimProcess:
    """``core.ports.Process`` over an incarnation.

    ``stop`` is what the process does on SIGTERM; without it the signal kills.
    """

    def __init__(
        self, incarnation: Incarnation, stop: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Watch over a running incarnation."""
        self._incarnation = incarnation
        self._stop = stop
        self._status = 0
        self._stopping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """A number of its own."""
        return self._incarnation.number

    def terminate(self) -> None:
        """Ask it to stop; one that has ended is no error."""
        if self._incarnation.dead or self._stopping is not None:
            return
        if self._stop is None:
            self._end(-15)
            return
        self._stopping = self._incarnation.start(self._stop())
        self._stopping.add_done_callback(lambda _: self._end(0))

    def kill(self) -> None:
        """Stop it at once; one that has ended is no error."""
        self._end(-9)

    async def wait(self) -> int:
        """Return its exit status when it has ended (negative: the signal that ended it)."""
        await self._incarnation.ended.wait()
        return self._status

    def _end(self, status: int) -> None:
        if not self._incarnation.dead:
            self._status = status
            self._incarnation.crash()
