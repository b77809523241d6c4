"""Seeded chance."""

import random
from collections.abc import Sequence
from typing import TypeVar

from atoll.sim.incarnation import Incarnation

Member = TypeVar("Member")


class SimRng:
    """``core.ports.Rng`` that follows from a seed. Not fit for anything real."""

    def __init__(self, incarnation: Incarnation, seed: str) -> None:
        """Draw for one incarnation."""
        self._incarnation = incarnation
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        """Return ``count`` bytes."""
        self._incarnation.check()
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        """Return a whole number in 0..bound-1."""
        self._incarnation.check()
        return self._random.randrange(bound)

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        self._incarnation.check()
        return self._random.random()

    def sample(self, population: Sequence[Member], count: int) -> list[Member]:
        """Return ``count`` distinct members in random order."""
        self._incarnation.check()
        return self._random.sample(population, count)
