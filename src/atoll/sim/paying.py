"""What is paid for reads, by the simulator's eyes: not a byte more than came, in calm none less.

Gateways' books say what came, life by life; the database says what nodes are paid for. Nobody's
receipt is asked.
"""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.registry.store import all_nodes
from atoll.coordinator.traffic import store
from atoll.sim.workload import Violation

if TYPE_CHECKING:
    from atoll.sim.world import World

POLL_S = 1.0
SETTLED_S_MAX = 120.0
"""Receipts are signed, kept and claimed within so much calm."""


def paid(world: "World") -> Counter[bytes]:
    """Return the bytes that each node is paid for, by its id."""

    def read(connection: Connection) -> Counter[bytes]:
        node_ids = {view.alias: bytes(view.node_id) for view in all_nodes(connection)}
        found: Counter[bytes] = Counter()
        for line in store.lines_of(connection, 0):
            found[node_ids[line.alias]] += line.byte_count
        return found

    found: Counter[bytes] = world.database.run(read, write=False)
    return found


def came(world: "World") -> Counter[bytes]:
    """Return the bytes that gateways had from each node, in all their lives."""
    found: Counter[bytes] = Counter()
    for book in world.gateway.books:
        found.update(book.by_node())
    return found


async def until_reads_are_paid(world: "World") -> None:
    """Wait until what came is paid for. Raises ``Violation``.

    Where a gateway or a node died, what it had not signed or not kept is lost, and only that
    nobody is paid for more can be said.
    """
    calm = len(world.gateway.books) == 1 and all(
        node.starts == 1 and node.up for node in world.nodes
    )
    until = world.loop.time() + SETTLED_S_MAX
    while True:
        had, has = came(world), paid(world)
        for node, count in has.items():
            if count > had[node]:
                raise Violation(
                    f"a node is paid for {count} bytes read, and {had[node]} came from it"
                )
        lost = any(book.given_up for book in world.gateway.books)
        if had == has or not calm or lost:
            world.trace.note("paid reads", str(sum(has.values())))
            return
        if world.loop.time() > until:
            raise Violation(
                f"{sum(had.values())} bytes were read, {sum(has.values())} are paid for"
            )
        await asyncio.sleep(POLL_S)
