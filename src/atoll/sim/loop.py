"""A seeded event loop on virtual time, in which incarnations can be fenced.

It runs the true rooms: their tasks, timeouts and queues. Time jumps to the next timer when nothing
is ready; ready callbacks run in an order that the seed decides; threads are refused. Every
callback belongs to the incarnation in whose context it was made; the callbacks of a dead one never
run.

Relies on private parts of asyncio (``_ready``, ``_scheduled``, ``_run_once``, ``Handle._context``),
which are the same in CPython 3.11 to 3.13; ``tests/unit/sim/test_loop.py`` watches over them.
"""

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

from typing_extensions import override

Result = TypeVar("Result")

CANCELLED_TIMERS_MAX = 100
TICKS_MAX = 50_000_000
"""Callbacks of one world; more means that something spins."""


class Life(Protocol):
    """What the loop asks of an incarnation."""

    dead: bool

    def step(self) -> bool:
        """Count a callback about to run; False where the incarnation dies instead."""


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("LIFE", default=None)
"""The incarnation that the running code belongs to; None is the simulator itself."""


class Deadlock(RuntimeError):  # noqa: N818 - the name says it
    """Nothing is ready, nothing is scheduled, and the world is not done."""


class SimTask(asyncio.Task[Result]):
    """A task whose place in a set does not depend on its address in memory."""

    def __init__(self, coro: Coroutine[Any, Any, Result], *, number: int, **rest: Any) -> None:
        # Before the task exists it is put into a set by its hash.
        self.number = number
        self.life = LIFE.get()
        super().__init__(coro, **rest)

    @override
    def __hash__(self) -> int:
        return self.number

    @override
    def __eq__(self, other: object) -> bool:
        return self is other


class SimFuture(asyncio.Future[Result]):
    """A future whose place in a set does not depend on its address in memory."""

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    @override
    def __hash__(self) -> int:
        return self.number

    @override
    def __eq__(self, other: object) -> bool:
        return self is other


class SimLoop(asyncio.BaseEventLoop):
    """The loop. ``time()`` is virtual seconds since the world began."""

    # asyncio's own, untyped in the type stubs.
    _ready: Any
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self, seed: str) -> None:
        """Make a loop whose every choice follows from ``seed``."""
        super().__init__()
        self._now = 0.0
        self._random = random.Random(seed)
        self._numbers = 0
        self.ticks = 0
        self._clock_resolution = 1e-9
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note_exception)
        self.unhandled: list[str] = []
        """What tasks died of that nobody awaited."""

    @override
    def time(self) -> float:
        return self._now

    @override
    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return SimFuture(number=self._numbers, loop=self)

    @override
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("threads are refused in the simulator; ask the Compute port")

    def start(
        self, coroutine: Coroutine[Any, Any, Result], life: Life | None
    ) -> asyncio.Task[Result]:
        """Start a task that belongs to an incarnation (None: to the simulator)."""
        context = contextvars.copy_context()
        context.run(LIFE.set, life)
        return context.run(self.create_task, coroutine)

    def call_in(self, life: Life | None, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function soon in an incarnation's context."""
        context = contextvars.copy_context()
        context.run(LIFE.set, life)
        self.call_soon(function, *arguments, context=context)

    def _make_task(
        self,
        _loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Result] | Generator[Any, None, Result],
        **rest: Any,
    ) -> "SimTask[Result]":
        self._numbers += 1
        return SimTask(coro, number=self._numbers, loop=self, **rest)  # type: ignore[arg-type]

    def _note_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        if isinstance(exception, Exception):
            self.unhandled.append(f"{context.get('message')}: {exception!r}")

    def _run_once(self) -> None:
        self._drop_cancelled()
        scheduled = self._scheduled
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Deadlock("nothing is ready and nothing is scheduled")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)
        self._run_ready()

    def _drop_cancelled(self) -> None:
        """Forget cancelled timers: those in front always, all when they are many."""
        scheduled = self._scheduled
        if len(scheduled) > CANCELLED_TIMERS_MAX and (
            self._timer_cancelled_count > len(scheduled) // 2
        ):
            for handle in scheduled:
                handle._scheduled = not handle._cancelled
            scheduled[:] = [handle for handle in scheduled if not handle._cancelled]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False

    def _run_ready(self) -> None:
        count = len(self._ready)
        if count > 1:
            batch = list(self._ready)
            self._ready.clear()
            self._random.shuffle(batch)
            self._ready.extend(batch)
        for _ in range(count):
            handle = self._ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(LIFE)
            if life is not None and (life.dead or not life.step()):
                continue
            self.ticks += 1
            handle._run()
        if self.ticks > TICKS_MAX:
            raise Deadlock(f"more than {TICKS_MAX} callbacks: something spins")

    def _process_events(self, event_list: Any) -> None:
        """No files are watched."""

    def _write_to_self(self) -> None:
        """No thread needs to wake this loop."""
