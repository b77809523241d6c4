"""Nodes that offend against their promises, and whether reputation tells them from the honest.

Two kinds, one node each: one that comes and goes all the time, and one that keeps its pieces,
beats and takes new ones, but refuses to serve reads.
"""

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.reputation import store
from atoll.coordinator.reputation.model import LOCAL, Axis, Event, Standing
from atoll.sim.scenario import FaultPlan

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.world import World

QUICK = replace(LOCAL, window_ms=2_000, windows_min=24, look_ms=250, grace_ms=3_600_000)
"""A run is short: windows and their judgement as well."""
UP_S_MEAN = 1.5
NODES_UP_MIN = 6


def _chosen(world: "World", what: str, chance: random.Random) -> "NodeMachine | None":
    """Choose a node that is neither the victim of disks nor an offender yet."""
    free = [
        node
        for node in world.nodes
        if node.up and not node.gone and node.name not in world.offenders
    ]
    if len(free) <= NODES_UP_MIN:
        return None
    node = chance.choice(free)
    world.offenders[node.name] = what
    world.trace.note(what, node.name)
    return node


async def flap(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """One node comes and goes until the end."""
    node = _chosen(world, Axis.AVAILABILITY.value, chance)
    while node is not None:
        await asyncio.sleep(chance.expovariate(1 / UP_S_MEAN))
        node.crash()
        await asyncio.sleep(plan.down_s + chance.expovariate(1 / plan.down_s))
        await node.start()


async def refuse_reads(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """One node refuses every read from now on; all else it does as it should."""
    node = _chosen(world, Axis.RETRIEVAL.value, chance)
    if node is not None:
        world.network.let_refuse(node.name)
        await asyncio.sleep(world.scenario.workload.seconds)


def misjudged(world: "World") -> list[str]:
    """Return in words where a standing is not what the node deserved."""
    names = {bytes(node.identity.node_id): node.name for node in world.nodes}
    lines = world.database.run(_lines, write=False)
    wrong: list[str] = []
    for name, why in world.offenders.items():
        found = [event for node_id, event in lines if names.get(node_id) == name]
        if not any(event.after == Standing.SUSPENDED.value for event in found):
            wrong.append(f"{name} offended ({why}) and was never suspended")
        if any(event.axis.value != why for event in found if event.after == "suspended"):
            wrong.append(f"{name} was suspended for something else than its {why}")
    for node_id, event in lines:
        name = names.get(node_id, "?")
        if event.after == Standing.DISQUALIFIED.value:
            wrong.append(f"{name} was disqualified: {event.figure}")
        elif event.after == Standing.SUSPENDED.value and name not in world.offenders:
            wrong.append(f"{name} is honest and was suspended: {event.axis.value} {event.figure}")
    return wrong


def _lines(connection: Connection) -> list[tuple[bytes, Event]]:
    return [
        (record.node_id, event)
        for record in store.all_records(connection)
        for event in store.events_of(connection, record.alias)
        if event.kind == "standing"
    ]
