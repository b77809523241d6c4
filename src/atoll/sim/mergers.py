"""Operators that buy each other, move in with each other, part again, and change their prices.

What is asserted (by the checkers): once the faults have ended, no two pieces of a segment lie with
one operator or at one site, as nodes say then; and nothing was lost on the way.
"""

import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from atoll.sim.machines import NodeMachine
from atoll.sim.scenario import FaultPlan

if TYPE_CHECKING:
    from atoll.sim.world import World

APART_MIN = 9
"""So many operators stay independent: a segment at full strength needs eight."""
FACTS = ("operator", "site")


async def merge(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """A node restarts under another's name or at another's site, or on its own again."""
    nodes = [node for node in world.nodes if node.up and not node.gone and not node.moves_pieces]
    fact = chance.choice(FACTS)
    shared = [node for node in nodes if getattr(node.config, fact) != own(node, fact)]
    alone = [node for node in nodes if node not in shared]
    if shared and (len(independent(world)) <= APART_MIN or chance.random() < 0.4):
        node = chance.choice(shared)
        name = own(node, fact)
    elif len(independent(world)) > APART_MIN and len(alone) > 1:
        node, other = chance.sample(alone, 2)
        name = getattr(other.config, fact)
    else:
        return
    world.trace.note("merge", f"{node.name} {fact} {name}")
    node.ever_moved = True
    config = node.config
    node.config = (
        replace(config, operator=name) if fact == "operator" else replace(config, site=name)
    )
    node.crash()
    await node.start()


def own(node: NodeMachine, fact: str) -> str:
    """Return what a node calls itself as long as it is on its own."""
    return f"{fact}{node.number}"


def independent(world: "World") -> set[tuple[str, str]]:
    """Return operators and sites of nodes that share neither, as far as they can be chosen so."""
    taken: set[tuple[str, str]] = set()
    for node in world.nodes:
        config = node.config
        if node.gone or any(config.operator == o or config.site == s for o, s in taken):
            continue
        taken.add((config.operator, config.site))
    return taken


def clumps(nodes: list[NodeMachine]) -> str:
    """Say which name the holders of one segment share; empty where they share none."""
    for fact in FACTS:
        name, count = Counter(getattr(node.config, fact) for node in nodes).most_common(1)[0]
        if count > 1:
            return f"{count} pieces lie with one {fact}: {name}"
    return ""
