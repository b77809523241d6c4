"""A coordinator that tells its nodes for a while that it counts nothing of what they hold.

Whoever holds its database can make it say so. Nodes move what is not counted to the trash and keep
it there for days whatever is said; counted again, it is taken out. So in the end nothing may be
missing.
"""

import asyncio
import random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from atoll.coordinator.sets import store
from atoll.coordinator.sets.rules import SetTimers
from atoll.sim.scenario import FaultPlan

if TYPE_CHECKING:
    from atoll.sim.world import World

QUICK_SETS = SetTimers(again_ms=3_000, surplus_age_ms=8_000)
"""What hours and days are in a real cloud are seconds here."""


async def count_nothing(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """Every answer about sets says for a while that no piece is counted."""

    def nothing(_: Any, __: int, ___: int, end: int) -> tuple[dict[int, Any], int]:
        return {}, end

    world.trace.note("counts nothing", "coordinator")
    with patch.object(store, "marks", nothing):
        await asyncio.sleep(plan.down_s + chance.expovariate(1 / plan.down_s))
    world.trace.note("counts again", "coordinator")
