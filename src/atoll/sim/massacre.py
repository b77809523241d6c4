"""A large part of all nodes dies for good within seconds."""

import asyncio
import random
from typing import TYPE_CHECKING

from atoll.sim.stored import spare_pieces

if TYPE_CHECKING:
    from atoll.sim.scenario import FaultPlan
    from atoll.sim.world import World

WHOLE_S_MAX = 240.0


async def massacre(world: "World", plan: "FaultPlan", chance: random.Random) -> None:
    """``rate`` of the nodes go for good, with their disks, within ``down_s``; repair must do.

    A node is spared where its death would leave a committed segment with fewer pieces than it
    takes to read it: what no scheme survives is not asked for.
    """
    if not await world.whole(WHOLE_S_MAX):
        return
    nodes = [node for node in world.nodes if node.up and not node.gone]
    wanted = round(plan.rate * len(nodes))
    killed = 0
    began = world.loop.time()
    for node in chance.sample(nodes, len(nodes)):
        if killed == wanted:
            break
        if not node.up or not spare_pieces(world, node):
            continue
        node.gone = True
        node.crash()
        node.platter.wipe()
        killed += 1
        world.trace.note("lose", node.name)
        await asyncio.sleep(chance.random() * 2 * plan.down_s / max(1, wanted))
    took = world.loop.time() - began
    world.trace.note("massacre", f"{killed} of {len(nodes)} in {took:.1f} s")
    if await world.whole(WHOLE_S_MAX):
        world.trace.note("whole again", f"{world.loop.time() - began - took:.1f} s")
    else:
        world.violated(f"{killed} of {len(nodes)} nodes died; {WHOLE_S_MAX:g} s do not heal that")
