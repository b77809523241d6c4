"""The world of an SDK used by itself.

Inside Atoll every room is handed its clock and its chance. The SDK is also a door: programs of
customers make a client with an endpoint and keys and nothing else, so here, and only here, the
``client`` room falls back to the real ones. Whoever hands ports in never gets these.
"""

import asyncio
import random  # noqa: TID251 — see the docstring
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class RealTime:
    """The part of ``core.ports.Clock`` that requests need."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000  # noqa: TID251 — see the module's docstring

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        await asyncio.sleep(seconds)  # noqa: TID251 — see the module's docstring


def real_chance() -> float:
    """Return a number in [0, 1): spreads retries, guards nothing."""
    return random.random()  # noqa: S311 — see the module's docstring


async def offload(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function that blocks on files or hashes long in the loop's own thread pool."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
