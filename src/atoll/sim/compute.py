"""Threads of the simulated world: functions run inline, between two seeded delays."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, TypeVar

from atoll.sim.incarnation import Incarnation

Result = TypeVar("Result")


class SimCompute:
    """``core.ports.Compute``: a call takes virtual time, others run meanwhile.

    ``delay_s_mean`` is the mean of the time it takes; the function itself runs in one go somewhere
    within, so that crashes fall before it, after it, or (by a disk's fault) inside it.
    """

    def __init__(
        self, incarnation: Incarnation, seed: str, *, delay_s_mean: float = 0.0005
    ) -> None:
        """Compute for one incarnation."""
        self._incarnation = incarnation
        self._random = random.Random(seed)
        self._rate = 1 / delay_s_mean

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run ``function(*arguments)`` after a while; return its result after a while more."""
        self._incarnation.check()
        await asyncio.sleep(self._random.expovariate(self._rate))
        self._incarnation.check()
        try:
            return function(*arguments)
        finally:
            # A thread's result reaches its task later, even when it failed.
            self._incarnation.check()
            await asyncio.sleep(self._random.expovariate(self._rate))
