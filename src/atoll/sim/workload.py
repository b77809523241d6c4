"""The customers of a world: what they write, and what they may therefore read.

Every key belongs to one client, whose operations follow each other; so what a key may hold is
known exactly. After an operation whose outcome is unknown (its answer was lost) the key may hold
the old or the new, and is not written again: the lost question may still take effect later.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atoll.core.errors import AtollError, Kind

if TYPE_CHECKING:
    from atoll.sim.world import World

ABSENT = None


@dataclass(frozen=True, slots=True)
class Content:
    """What an object holds: bytes that follow from a label."""

    label: str
    size: int

    def data(self) -> bytes:
        """Return the bytes."""
        return random.Random(self.label).randbytes(self.size)


@dataclass(slots=True)
class KeyState:
    """What a key may hold now: contents, or ``ABSENT``."""

    possible: list[Content | None] = field(default_factory=lambda: [ABSENT])
    writes: int = 0

    @property
    def certain(self) -> bool:
        """Whether the outcome of every operation on it is known."""
        return len(self.possible) == 1


class Violation(Exception):  # noqa: N818 - it is found, not raised by mistake
    """An invariant does not hold."""


class Ledger:
    """What every key may hold."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self.keys: dict[str, KeyState] = {}
        self.winners: dict[str, Content] = {}
        """Who created a key that several tried to create."""
        self.acknowledged = 0
        self.uncertain = 0

    def state(self, key: str) -> KeyState:
        """Return the state of a key."""
        return self.keys.setdefault(key, KeyState())

    def begin(self, key: str, content: Content | None) -> None:
        """Note an operation that may take effect from now on."""
        state = self.state(key)
        if content not in state.possible:
            state.possible.append(content)
        state.writes += 1

    def acknowledge(self, key: str, content: Content | None) -> None:
        """Note that the operation took effect."""
        self.state(key).possible = [content]
        self.acknowledged += 1

    def refuse(self, key: str, content: Content | None) -> None:
        """Note that the operation certainly took no effect."""
        state = self.state(key)
        if len(state.possible) > 1 and content in state.possible:
            state.possible.remove(content)

    def check_read(self, key: str, found: bytes | None, start: int, end: int | None) -> None:
        """Compare what was read (``None``: no such object) with what may be there.

        Raises ``Violation``.
        """
        for content in self.state(key).possible:
            if content is ABSENT:
                if found is None:
                    return
            elif found is not None and content.data()[start:end] == found:
                return
        expected = ", ".join(
            "absent" if c is None else f"{c.size} B" for c in self.state(key).possible
        )
        seen = "no such object" if found is None else f"{len(found)} other bytes"
        raise Violation(f"{key}: read {seen}; it may hold {expected}")

    def check_listing(self, listed: dict[str, int]) -> None:
        """Compare a whole listing (key to size) with what may be there. Raises ``Violation``."""
        for key, size in listed.items():
            if not any(c is not None and c.size == size for c in self.state(key).possible):
                raise Violation(f"{key}: listed with {size} bytes, which it cannot hold")
        for key, state in self.keys.items():
            if ABSENT not in state.possible and key not in listed:
                raise Violation(f"{key}: acknowledged, and not listed")


def size_of(chance: random.Random, big_bytes_max: int) -> int:
    """Draw the size of an object: mostly small, the edges of the schemes often."""
    edges = (0, 1, 4096, 8191, 8192, 8193, 65_536, 1_048_575)
    draw = chance.random()
    if draw < 0.25:
        return min(big_bytes_max, chance.choice(edges))
    if draw < 0.6:
        return chance.randrange(1, 8192)
    return chance.randrange(1, chance.choice((20_000, big_bytes_max)))


_UNHEARD = frozenset(
    {
        Kind.TIMEOUT,
        Kind.UNREACHABLE,
        Kind.INTERNAL,
        Kind.CONFLICT,
        Kind.OVERLOADED,
        Kind.TOO_FEW_NODES,
        Kind.DISK_FULL,
        Kind.DATA_LOST,
    }
)
"""Failures a customer may meet while things break: he tries again. All others are violations."""


async def run_client(world: "World", number: int) -> None:
    """Work as one customer until cancelled. Raises ``Violation``."""
    client = _Client(world, number)
    pause_s = world.scenario.workload.pause_s
    while True:
        await asyncio.sleep(client.chance.expovariate(1 / pause_s))
        await client.step()


class _Client:
    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.chance = random.Random(f"{world.seed}/client/{number}")
        self.keys: list[str] = []

    async def step(self) -> None:
        plan = self.world.scenario.workload
        draw = self.chance.random()
        if self.chance.random() < plan.races:
            await self.race()
            return
        if self.keys and draw < plan.reads:
            await self.read(self.chance.choice(self.keys))
            return
        certain = [k for k in self.keys if self.world.ledger.state(k).certain]
        if certain and draw < plan.reads + plan.deletes:
            await self.change(self.chance.choice(certain), None)
            return
        if certain and self.chance.random() < plan.overwrites:
            key = self.chance.choice(certain)
        else:
            key = f"client{self.number}/{len(self.keys):04d}"
            self.keys.append(key)
        writes = self.world.ledger.state(key).writes
        size = size_of(self.chance, plan.big_bytes_max)
        if self.chance.random() < plan.huge:
            size = self.chance.randrange(plan.big_bytes_max, plan.huge_bytes_max)
        in_parts = size > 0 and self.chance.random() < plan.parts
        content = Content(f"{self.world.seed}/{key}/{writes}", size)
        await self.change(key, content, in_parts=in_parts)

    async def race(self) -> None:
        """Create a key that other clients create too: at most one may be told that he did."""
        world, ledger = self.world, self.world.ledger
        key = f"race/{self.chance.randrange(int(world.loop.time()) + 1):04d}"
        content = Content(f"{world.seed}/{key}/{self.number}/{len(ledger.keys)}", 5000)
        won = ledger.winners.get(key)
        if won is None:
            ledger.begin(key, content)
        try:
            await world.ask_front(world.front.put(world.bucket, key, content.data(), new=True))
        except AtollError as error:
            world.trace.note("race", f"{key} {error.kind.value}")
            if error.kind is Kind.PRECONDITION_FAILED:
                # Not necessarily a loss: the first answer to his question may have been lost.
                return
            self._tolerate("race", key, error)
        else:
            world.trace.note("race", f"{key} won")
            if key in ledger.winners:
                raise Violation(f"{key}: two clients were told that they created it")
            ledger.winners[key] = content
            ledger.acknowledge(key, content)

    async def change(self, key: str, content: Content | None, *, in_parts: bool = False) -> None:
        """Write or (``None``) delete; an outcome nobody heard of leaves the key uncertain."""
        world, front = self.world, self.world.front
        world.ledger.begin(key, content)
        if content is None:
            action = front.delete(world.bucket, key)
        elif in_parts:
            action = front.put_parts(world.bucket, key, content.data())
        else:
            action = front.put(world.bucket, key, content.data())
        way = "parts" if in_parts else "put"
        what = "delete" if content is None else f"{way} {content.size}"
        try:
            await world.ask_front(action)
        except AtollError as error:
            world.trace.note(what, f"{key} {error.kind.value}")
            self._tolerate(what, key, error)
            world.ledger.uncertain += 1
        else:
            world.trace.note(what, key)
            world.ledger.acknowledge(key, content)

    async def read(self, key: str) -> None:
        """Read all or a range, and compare."""
        world = self.world
        start, end = 0, None
        if self.chance.random() < 0.3:
            start = self.chance.randrange(0, 100_000)
            end = start + self.chance.randrange(1, 50_000)
        found: bytes | None
        try:
            found = await world.ask_front(world.front.get(world.bucket, key, start, end))
        except AtollError as error:
            world.trace.note("get", f"{key} {error.kind.value}")
            if error.kind is not Kind.OBJECT_NOT_FOUND:
                self._tolerate("get", key, error)
                return
            found = None
        else:
            world.trace.note("get", f"{key} {len(found)}")
        world.ledger.check_read(key, found, start, end)

    def _tolerate(self, what: str, key: str, error: AtollError) -> None:
        if error.kind not in _UNHEARD:
            raise Violation(f"{what} {key}: {error.kind.value}: {error}")
