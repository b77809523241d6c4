"""Providers who leave, offer less, or whose disks begin to die: pieces must move, none be lost.

Each of them uses his node as its owner does. What is asserted is what he is promised: it ends, the
coordinator confirms it, and (by the checkers) every object is whole afterwards.
"""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from atoll.core.messages.terms import MoveProgress, SetTerms
from atoll.node.service import NodeService
from atoll.sim.machines import NodeMachine
from atoll.sim.scenario import FaultPlan
from atoll.sim.world import World

NODES_LEFT_MIN = 8
"""So many stay: below, there would be nowhere to go."""
LOOK_S = 0.5
LEAVE_S_MAX = 150.0
SHRINK_S_MAX = 120.0
SHRINK_BYTES_MIN = 1 << 20


def _service(node: NodeMachine) -> NodeService | None:
    service = node.service
    return service if node.up and service is not None and service.store.is_open else None


def _candidates(world: World) -> list[NodeMachine]:
    return [
        node
        for node in world.nodes
        if _service(node) is not None and not node.moves_pieces and node is not world.victim
    ]


async def _in(node: NodeMachine, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run something in a node's process; say whether it came to its end."""
    life = node.incarnation
    assert life is not None
    task: asyncio.Task[Any] = life.start(coroutine)
    ended = asyncio.create_task(life.ended.wait())
    await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    return task.done() and not life.dead and task.exception() is None


async def leave(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """A provider leaves; now and then his node crashes on the way, or dies for good."""
    staying = [node for node in world.nodes if not node.gone and not node.moves_pieces]
    nodes = _candidates(world)
    if len(staying) <= NODES_LEFT_MIN or not nodes:
        return
    node = chance.choice(nodes)
    node.moves_pieces = node.ever_moved = True
    service = _service(node)
    assert service is not None
    world.trace.note("fault", f"{node.name} leaves")
    if not await _in(node, service.terms.leave(exiting=True)):
        return
    dies_s = chance.expovariate(1 / plan.down_s) if chance.random() < plan.rate else None
    until = world.loop.time() + LEAVE_S_MAX
    while world.loop.time() < until:
        await asyncio.sleep(LOOK_S)
        if dies_s is not None:
            dies_s -= LOOK_S
            if dies_s <= 0:
                world.trace.note("fault", f"{node.name} dies on its way out")
                node.gone = True
                node.crash()
                await world.add_node()
                return
        if _progress(node).state == "done":
            left = _service(node)
            if left is None or len(left.settings.kept.statements) != 1:
                world.violated(f"{node.name} left without a statement")
            world.trace.note("left", node.name)
            node.gone = True
            node.crash()
            await world.add_node()
            return


def _progress(node: NodeMachine) -> MoveProgress:
    service = _service(node)
    return MoveProgress() if service is None else service.terms.progress()


async def shrink(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """A provider offers less than his node holds, and more again later."""
    nodes = _candidates(world)
    if not nodes:
        return
    node = chance.choice(nodes)
    service = _service(node)
    assert service is not None
    held = service.store.volume.index.totals.used_bytes
    wanted = max(SHRINK_BYTES_MIN, held * chance.randint(20, 80) // 100)
    node.moves_pieces = node.ever_moved = True
    world.trace.note("fault", f"{node.name} shrinks from {held} to {wanted}")
    if not await _in(node, service.terms.change(SetTerms(capacity_bytes=wanted))):
        return
    until = world.loop.time() + SHRINK_S_MAX
    while world.loop.time() < until:
        await asyncio.sleep(LOOK_S)
        now = _service(node)
        if now is not None and now.store.volume.index.totals.used_bytes <= wanted:
            world.trace.note("shrunk", node.name)
            break
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    now = _service(node)
    if now is not None:
        await _in(node, now.terms.change(SetTerms(reset=["capacity_bytes"])))
    node.moves_pieces = False


async def dying_disk(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """A disk fails a write: its node moves everything away while it can be read, then is gone."""
    staying = [node for node in world.nodes if not node.gone and not node.moves_pieces]
    nodes = _candidates(world)
    if len(staying) <= NODES_LEFT_MIN or not nodes:
        return
    node = chance.choice(nodes)
    node.moves_pieces = node.ever_moved = True
    world.trace.note("fault", f"{node.name}: its disk dies slowly")
    node.platter.faults.sync_fails = 1.0
    until = world.loop.time() + LEAVE_S_MAX
    while world.loop.time() < until:
        await asyncio.sleep(LOOK_S)
        service = _service(node)
        if service is None or not service.settings.kept.evacuating:
            continue
        if _progress(node).state == "done":
            world.trace.note("evacuated", node.name)
            break
    node.gone = True
    node.crash()
    await world.add_node()
