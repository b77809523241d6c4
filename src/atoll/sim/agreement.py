"""The invariant of sets: when it is quiet, every node holds exactly what the coordinator counts.

To the piece and to the byte; nothing waits to be deleted, and nobody's garbage stays behind.
"""

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store.segments import garbage_counts
from atoll.coordinator.registry.store import all_nodes
from atoll.coordinator.sets import store
from atoll.node.orders import issuer_of_key
from atoll.node.store.model import State
from atoll.sim.workload import Violation

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.world import World

PAGE_PIECES = 1000
PAUSE_S = 5.0
SHOWN_MAX = 5
Held = dict[tuple[int, int], int]
"""(serial, index) to bytes."""


def differences(world: "World") -> list[str]:
    """Return where a node's set is not the coordinator's, seen on its own disk and database."""
    counted, aliases, garbage = world.database.run(_counted, write=False)
    found = []
    for node in world.nodes:
        alias = aliases.get(node.identity.node_id)
        if node.gone or alias is None:
            continue
        if not node.up or node.service is None or not node.service.store.is_open:
            found.append(f"{node.name} is down")
            continue
        held, mine = _held(node), counted.get(alias, {})
        extra, absent = held.keys() - mine.keys(), mine.keys() - held.keys()
        if extra:
            found.append(f"{node.name} holds {len(extra)} pieces that nobody counts")
        if absent:
            found.append(f"{node.name} does not hold {len(absent)} pieces that are counted")
        if not extra and not absent and sum(held.values()) != sum(mine.values()):
            found.append(f"{node.name} and the coordinator count other bytes")
        if garbage.get(alias):
            found.append(f"{garbage[alias]} deletions wait for {node.name}")
    return found


def _counted(
    connection: Connection,
) -> tuple[dict[int, Held], dict[bytes, int], dict[int, int]]:
    aliases = {view.node_id: view.alias for view in all_nodes(connection)}
    counted: dict[int, Held] = {}
    for alias in aliases.values():
        mine: Held = counted.setdefault(alias, {})
        after = 0
        while page := store.entries(connection, alias, after, PAGE_PIECES):
            mine.update(((one.serial, one.index), one.piece_bytes) for one in page)
            after = page[-1].serial
    return counted, aliases, garbage_counts(connection)


def _held(node: "NodeMachine") -> Held:
    assert node.service is not None
    held: Held = {}
    for link in node.service.links:
        issuer, after = issuer_of_key(link.key), 0
        while page := node.service.store.held(issuer, after, PAGE_PIECES):
            held.update(
                ((one.segment_serial, one.index), one.data_bytes)
                for one in page
                if one.state == State.LIVE
            )
            after = page[-1].segment_serial
    return held


async def until_sets_are_equal(world: "World") -> None:
    """Wait until nothing differs. Raises ``Violation``."""
    until = world.loop.time() + world.scenario.heal_s
    while found := differences(world):
        if world.loop.time() > until:
            shown = "; ".join(found[:SHOWN_MAX])
            raise Violation(f"sets differ {world.scenario.heal_s:g} s after all is whole: {shown}")
        await asyncio.sleep(PAUSE_S)
    world.trace.note("phase", "sets are equal")
