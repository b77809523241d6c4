"""Threads for what blocks or computes long with the interpreter lock released."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

CALLS_WAITING_MAX = 256
"""Calls handed to the pool and not finished; a further one waits in its task."""


def threads_default() -> int:
    """Return a sensible number of threads: one per usable core and one to block on the disk."""
    return len(os.sched_getaffinity(0)) + 1


class ThreadCompute:
    """``core.ports.Compute`` over a bounded pool of threads.

    A cancelled ``run`` whose function has begun waits for it to end before it raises: buffers that
    were lent to the function are free again by then.
    """

    __slots__ = ("_pool", "_slots")

    def __init__(self, threads: int | None = None) -> None:
        """Use ``threads`` threads, started on demand."""
        self._pool = ThreadPoolExecutor(threads or threads_default(), thread_name_prefix="compute")
        self._slots = asyncio.Semaphore(CALLS_WAITING_MAX)

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run ``function(*arguments)`` in a thread and return its result."""
        async with self._slots:
            future = self._pool.submit(function, *arguments)
            waiter = asyncio.wrap_future(future)
            try:
                return await asyncio.shield(waiter)
            except asyncio.CancelledError:
                if not waiter.done() and not future.cancel():
                    await _ended(future)
                raise

    def close(self) -> None:
        """Finish what runs; drop what has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)


async def _ended(future: Future[Any]) -> None:
    """Wait until a running call is over, however often this task is cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_: Future[Any]) -> None:
        # The loop may be closed by the time a slow call ends; nobody waits then.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    while not done.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await done.wait()
