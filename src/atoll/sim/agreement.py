"""The invariant of sets: when it is quiet, every node holds exactly what the coordinator counts.

To the piece and to the byte; nothing waits to be deleted, and nobody's garbage stays behind. What
the coordinator itself announced for later (the pieces of a repair that it did not live to end, or
that were replaced and may come back) has until then, and as long again as all else.
"""

import asyncio
from collections.abc import Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store.segments import garbage_counts, garbage_of_node
from atoll.coordinator.registry.store import all_nodes
from atoll.coordinator.sets import store
from atoll.node.orders import issuer_of_key
from atoll.node.store.model import State
from atoll.sim.clock import WORLD_BEGINS_MS
from atoll.sim.workload import Violation

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.world import World

PAGE_PIECES = 1000
PAUSE_S = 5.0
SHOWN_MAX = 5
Held = dict[tuple[int, int], int]
"""(serial, index) to bytes."""
Garbage = dict[tuple[int, int, int], int]
"""(alias, serial, index) of pieces to be deleted to since when, in milliseconds."""


@dataclass(slots=True)
class _Books:
    """What the coordinator's database says of its nodes."""

    aliases: dict[bytes, int]
    """By node id."""
    counted: dict[int, Held] = field(default_factory=dict)
    """By alias."""
    garbage: Garbage = field(default_factory=dict)


def differences(world: "World", spared: Container[tuple[int, int, int]] = ()) -> list[str]:
    """Return where a node's set is not the coordinator's, seen on its own disk and database.

    ``spared`` pieces (alias, serial, index) may be there or not, and wait to be deleted.
    """
    books = world.database.run(_books, write=False)
    found = []
    for node in world.nodes:
        alias = books.aliases.get(node.identity.node_id)
        if node.gone or alias is None:
            continue
        if not node.up or node.service is None or not node.service.store.is_open:
            found.append(f"{node.name} is down")
            continue
        held, mine = _held(node), books.counted.get(alias, {})
        extra = [one for one in held.keys() - mine.keys() if (alias, *one) not in spared]
        absent = mine.keys() - held.keys()
        waiting = sum(one[0] == alias and one not in spared for one in books.garbage)
        if extra:
            found.append(f"{node.name} holds {len(extra)} pieces that nobody counts")
        if absent:
            found.append(f"{node.name} does not hold {len(absent)} pieces that are counted")
        if any(held[one] != mine[one] for one in held.keys() & mine.keys()):
            found.append(f"{node.name} and the coordinator count other bytes")
        if waiting:
            found.append(f"{waiting} deletions wait for {node.name}")
    return found


def _books(connection: Connection) -> _Books:
    books = _Books({view.node_id: view.alias for view in all_nodes(connection)})
    for alias in books.aliases.values():
        mine: Held = books.counted.setdefault(alias, {})
        after = 0
        while page := store.entries(connection, alias, after, PAGE_PIECES):
            mine.update(((one.serial, one.index), one.piece_bytes) for one in page)
            after = page[-1].serial
    books.garbage = _garbage(connection)
    return books


def _garbage(connection: Connection) -> Garbage:
    return {
        (alias, piece.serial, piece.index): piece.since_ms
        for alias, rows in garbage_counts(connection).items()
        for piece in garbage_of_node(connection, alias, rows)
    }


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
    heal_s = world.scenario.heal_s
    until_s = world.loop.time() + heal_s
    spared_until_s: dict[tuple[int, int, int], float] = {}
    while found := differences(world):
        now_s = world.loop.time()
        if now_s <= until_s:
            for piece, since_ms in world.database.run(_garbage, write=False).items():
                due_s = (since_ms - WORLD_BEGINS_MS) / 1000
                if due_s > now_s:
                    spared_until_s[piece] = due_s + heal_s
        else:
            spared = {piece for piece, spared_s in spared_until_s.items() if spared_s >= now_s}
            found = differences(world, spared)
            if found:
                shown = "; ".join(found[:SHOWN_MAX])
                raise Violation(f"sets differ {heal_s:g} s after all is whole: {shown}")
        await asyncio.sleep(PAUSE_S)
    world.trace.note("phase", "sets are equal")
