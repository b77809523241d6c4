"""Threads for what blocks or computes long with the interpreter lock released.

Not ``concurrent.futures``: a node hands every sync of its disk to a thread, and of the 0.2 ms that
this took, most went into the locks and the two futures that are made there for each call.
"""

import asyncio
import collections
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

CALLS_WAITING_MAX = 256
"""Calls handed to the threads and not finished; a further one waits in its task."""


def threads_default() -> int:
    """Return a sensible number of threads: one per usable core and one to block on the disk."""
    return len(os.sched_getaffinity(0)) + 1


class _Call:
    """One call on its way through a thread; all but ``work`` happens on its loop."""

    __slots__ = ("_arguments", "_function", "_loop", "_unbegun", "after", "over", "waiter")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self._loop = loop
        self._function = function
        self._arguments = arguments
        self._unbegun = [True]
        self.waiter: asyncio.Future[Any] = loop.create_future()
        self.after: asyncio.Future[None] | None = None
        self.over = False

    def claim(self) -> bool:
        """Take the right to begin, or to prevent, the call: only one ever gets it."""
        try:
            return self._unbegun.pop()
        except IndexError:
            return False

    def work(self) -> None:
        """Make the call. Runs on a thread."""
        if not self.claim():
            return
        result, fault = _attempt(self._function, self._arguments)
        # The loop may be closed by the time a slow call ends; nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, result, fault)

    def _end(self, result: Any, fault: BaseException | None) -> None:
        self.over = True
        if self.after is not None and not self.after.done():
            self.after.set_result(None)
        if self.waiter.done():
            return
        if fault is not None:
            self.waiter.set_exception(fault)
        else:
            self.waiter.set_result(result)

    def drop(self) -> None:
        """Cancel the waiter of a call that will never begin; from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._dropped)

    def _dropped(self) -> None:
        self.over = True
        if self.after is not None and not self.after.done():
            self.after.set_result(None)
        self.waiter.cancel()

    async def ended(self) -> None:
        """Return when the call is over, however often this task is cancelled meanwhile."""
        while not self.over:
            self.after = self._loop.create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await self.after


class ThreadCompute:
    """``core.ports.Compute`` over a bounded pool of threads.

    A cancelled ``run`` whose function has begun waits for it to end before it raises: buffers that
    were lent to the function are free again by then.
    """

    __slots__ = ("_calls", "_closed", "_queue", "_threads", "_threads_max", "_turns")

    def __init__(self, threads: int | None = None) -> None:
        """Use ``threads`` threads, started on demand."""
        self._threads_max = threads or threads_default()
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._calls = 0
        self._turns: collections.deque[asyncio.Future[None]] = collections.deque()
        self._closed = False

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run ``function(*arguments)`` in a thread and return its result."""
        if self._calls >= CALLS_WAITING_MAX:
            await self._turn()
        if self._closed:
            raise RuntimeError("the threads are closed")
        call = _Call(asyncio.get_running_loop(), function, arguments)
        self._calls += 1
        try:
            if self._calls > len(self._threads) < self._threads_max:
                self._start()
            self._queue.put(call)
            result: Result = await call.waiter
        except asyncio.CancelledError:
            if not call.over and not call.claim():
                await call.ended()
            raise
        finally:
            self._calls -= 1
            self._next()
        return result

    async def _turn(self) -> None:
        while self._calls >= CALLS_WAITING_MAX:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()  # our turn came; pass it on
                raise

    def _next(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _start(self) -> None:
        # As daemons, or a process that never closes them could not end.
        number = len(self._threads)
        thread = threading.Thread(
            target=_work, args=(self._queue,), name=f"compute_{number}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Finish what runs; drop what has not begun."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                waiting = self._queue.get_nowait()
                if waiting is not None and waiting.claim():
                    waiting.drop()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()


def _attempt(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """Return a result or a fault, whose traceback holds no more than this frame."""
    try:
        return function(*arguments), None
    except StopIteration as cause:
        return None, RuntimeError(f"a call raised {cause!r}")  # no future can carry the other
    except BaseException as cause:  # noqa: BLE001 — whoever waits for the call gets it
        return None, cause


def _work(calls: "queue.SimpleQueue[_Call | None]") -> None:
    while (call := calls.get()) is not None:
        call.work()
        del call  # or what it was lent would stay until the next one
