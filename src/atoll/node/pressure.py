"""The owner's own work comes first: the busier his machine, the less the node does beside it.

Linux tells by pressure stall information how long work waits (docs/providing.md has the
thresholds). What can wait gives way first: scrub, compaction and moving pieces at level 1 and 2,
customers' transfers only at level 3. Nothing ever stops altogether: a node on a machine that is
always busy still serves, checks and heals, only slowly.
"""

from collections.abc import Callable
from dataclasses import dataclass

from atoll.core.messages.terms import PressureShown
from atoll.core.ports import Compute, Host, HostPressure
from atoll.node.part import NodePart, Step

LOOK_S = 5.0
"""Pressure is averaged over ten seconds by the kernel; looking twice as often misses nothing."""
RISE_LOOKS = 2
"""So many looks in a row must show a higher level before it counts."""
FALL_LOOKS = 6
"""And so many a lower one: what was busy is likely to be so again."""
FALL_SHARE = 0.7
"""A level is left only when pressure is below this share of what brought it."""
THRESHOLDS = {
    "cpu": (25.0, 50.0, 80.0),
    "io": (15.0, 30.0, 60.0),
    "memory": (5.0, 15.0, 30.0),
}
"""Percent of the time in which something waited, for levels 1, 2 and 3."""
BACKGROUND_SHARES = (1.0, 0.25, 0.1, 0.1)
"""Pace of background work by level."""
EASED_BYTES_PER_S = 8 << 20
"""Pace of transfers in each direction at level 3."""


@dataclass(slots=True)
class Level:
    """The level with its inertia. ``look`` at every figure."""

    level: int = 0
    _higher: int = 0
    _lower: int = 0

    def look(self, pressure: HostPressure) -> int:
        """Take a figure; return the level now."""
        rising, staying = level_of(pressure, 1.0), level_of(pressure, FALL_SHARE)
        self._higher = self._higher + 1 if rising > self.level else 0
        self._lower = self._lower + 1 if staying < self.level else 0
        if self._higher >= RISE_LOOKS:
            self.level, self._higher = rising, 0
        elif self._lower >= FALL_LOOKS:
            self.level, self._lower = self.level - 1, 0
        return self.level


def level_of(pressure: HostPressure, share: float) -> int:
    """Return the level that a figure stands for, with thresholds scaled by ``share``."""
    if not pressure.known:
        return 0
    figures = {
        "cpu": pressure.cpu_percent,
        "io": pressure.io_percent,
        "memory": pressure.memory_percent,
    }
    return max(
        sum(figure >= threshold * share for threshold in THRESHOLDS[name])
        for name, figure in figures.items()
    )


class CalmHost:
    """A machine that tells nothing."""

    def pressure(self) -> HostPressure:
        """Nothing is known."""
        return HostPressure()

    def disk_warning(self) -> str:
        """Nothing is known."""
        return ""


class Pressure(NodePart):
    """Looks at the machine; others ask it how fast they may go."""

    def __init__(self, host: Host, compute: Compute, level_max: int) -> None:
        """Nothing is known yet: calm. ``level_max`` is how far the node gives way."""
        self._level_max = level_max
        self._host = host
        self._compute = compute
        self._level = Level()
        self._seen = HostPressure()
        self.listeners: list[Callable[[], None]] = []
        """Hear of every change of the level."""
        if not isinstance(host, CalmHost):
            self.steps = (Step("look at the machine's pressure", self.look, LOOK_S),)

    async def look(self) -> None:
        """Look once."""
        self._seen = await self._compute.run(self._host.pressure)
        before = self.level
        self._level.look(self._seen)
        if self.level != before:
            for listener in self.listeners:
                listener()

    @property
    def level(self) -> int:
        """0 (calm) to 3, as far as the node gives way."""
        return min(self._level.level, self._level_max)

    @property
    def background_share(self) -> float:
        """Pace of background work, 0..1 of what it is set to."""
        return BACKGROUND_SHARES[self.level]

    @property
    def eased_bytes_per_s(self) -> int:
        """Bound of transfers; 0 for none."""
        return EASED_BYTES_PER_S if self.level >= len(BACKGROUND_SHARES) - 1 else 0

    def shown(self) -> PressureShown:
        """Return the figures as the provider sees them."""
        seen = self._seen
        return PressureShown(
            level=self.level,
            cpu_percent=seen.cpu_percent,
            io_percent=seen.io_percent,
            memory_percent=seen.memory_percent,
            known=seen.known,
        )
