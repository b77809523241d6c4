"""Real chance: the operating system's cryptographic source."""

import os
import random
import secrets
from collections.abc import Sequence
from typing import TypeVar

Member = TypeVar("Member")


class SystemRng:
    """``core.ports.Rng`` by the operating system; fit for keys and ids."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def bytes(self, count: int) -> bytes:
        """Return ``count`` random bytes."""
        return os.urandom(count)

    def below(self, bound: int) -> int:
        """Return a whole number in 0..bound-1."""
        return secrets.randbelow(bound)

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return self._random.random()

    def sample(self, population: Sequence[Member], count: int) -> list[Member]:
        """Return ``count`` distinct members in random order."""
        return self._random.sample(population, count)
