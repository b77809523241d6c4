"""A network that grows while it is used, and what must have come of its old objects in the end.

Asserted (by the checkers, in scenarios with ``upgrades``): every segment of an object or a pack
that is not tiny has the class of scheme that so many operators offer; and then more nodes may
vanish at once than the scheme that the first objects were stored with allowed.
"""

import asyncio
import random
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.upgrade.rules import CLASSES, UpgradeProfile, operators_needed
from atoll.core.scheme import TINY_PLAIN_BYTES_MAX, scheme_for
from atoll.sim.stored import spare_pieces, stored_segments
from atoll.sim.workload import Violation

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.scenario import FaultPlan
    from atoll.sim.world import World

EAGER_UPGRADES = UpgradeProfile(
    hold_ms=4_000,
    age_ms=2_000,
    small_age_ms=8_000,
    survey_ms=2_000,
    grace_ms=8_000,
    bytes_per_hour_max=1 << 40,
    segments_per_hour_max=1_000_000,
    look_ms=1_000,
    unseen_ms_max=30_000,
    lease_ms=20_000,
    pause_ms=300,
)
"""What takes days in a real cloud takes seconds here."""
TOGETHER_MAX = 4
"""Providers that join at the same moment."""
POLL_S = 2.0
UPGRADED_S_MAX = 240.0
SHOWN_MAX = 5


async def grow(world: "World", plan: "FaultPlan", chance: random.Random) -> None:
    """Some providers join; so many that the scenario's clouds pass from class to class."""
    for _ in range(chance.randrange(1, TOGETHER_MAX + 1)):
        await world.add_node()
    world.trace.note("grow", f"{len(world.nodes)} nodes")


def narrow_segments(world: "World") -> list[str]:
    """Return the segments that are narrower than the nodes that are up offer, in words."""
    operators = sum(node.up and not node.gone for node in world.nodes)
    offered = max(
        (scheme.k for scheme in CLASSES if operators >= operators_needed(scheme)), default=0
    )

    manifests = world.database.run(_manifest_streams, write=False)
    return [
        f"segment {one.serial} of {one.plain_bytes} B is {one.k}/{one.n}"
        for one in stored_segments(world)[1]
        if one.k < offered
        and one.plain_bytes > TINY_PLAIN_BYTES_MAX
        and one.stream not in manifests
    ]


def _manifest_streams(connection: Connection) -> frozenset[bytes]:
    rows = connection.exec_driver_sql("SELECT stream FROM manifest")
    return frozenset(bytes(row[0]) for row in rows)


async def until_upgraded(world: "World") -> None:
    """Wait until nothing is narrower than it could be. Raises ``Violation``."""
    until = world.loop.time() + UPGRADED_S_MAX
    while found := narrow_segments(world):
        if world.loop.time() > until:
            raise Violation(
                f"not upgraded {UPGRADED_S_MAX:g} s after all faults ended: {len(found)} segments: "
                + "; ".join(found[:SHOWN_MAX])
            )
        await asyncio.sleep(POLL_S)
    world.trace.note("phase", "upgraded")


async def lose_more_than_before(world: "World") -> "list[NodeMachine]":
    """Kill one node more than the first scheme survives, or as many as the class now does.

    A node is spared whose death would leave some segment unreadable: tiny copies that wait for
    their pack survive no more than they always did. Raises ``Violation`` where too few can die.
    """
    up = [node for node in world.nodes if node.up and not node.gone]
    first = scheme_for(1 << 20, world.scenario.nodes)
    now = max((s for s in CLASSES if len(up) >= operators_needed(s)), key=lambda s: s.k)
    killed: list[NodeMachine] = []
    for node in up:
        if len(killed) < now.n - now.k and spare_pieces(world, node):
            node.crash()
            killed.append(node)
    world.trace.note("lose at once", f"{len(killed)} of {len(up)}")
    if now.k > first.k and len(killed) <= first.n - first.k:
        raise Violation(
            f"only {len(killed)} of {len(up)} nodes may die at {now.name}; "
            f"{first.name} allowed {first.n - first.k}"
        )
    return killed
