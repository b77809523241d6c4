"""Nodes that take repair work and lie about what came of it.

What is asserted (by the checkers): a worker's word alone records no piece and strikes none; what it
stored and denied is collected; in the end everything is whole.
"""

import asyncio
import hashlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from atoll.coordinator.repair.rules import LOCAL
from atoll.core.ids import NodeId, SegmentId, piece_id_of
from atoll.core.messages.repairs import FinishRepairWork, RepairTask
from atoll.core.orders import PieceReceipt, parse_order, sign_receipt
from atoll.sim.scenario import FaultPlan
from atoll.sim.stored import stored_segments

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.world import World

NODES_FIRST = replace(
    LOCAL, workers=1, patience_ms=15_000, offer_again_ms=2_000, intent_ms=240_000, credit_ms=30_000
)
"""The coordinator leaves repairs to nodes for a while, as it does in a wide network; what a repair
leaves behind comes due within the run."""
LIES = ("slanders", "denies", "invents")
"""Says that all its sources are wrong; stores the pieces and says that it did not; stores nothing
and shows receipts of its own making."""


async def crooked_worker(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """One more node lies about its repair work from now on, over its restarts."""
    honest = [
        node for node in world.nodes if node.up and not node.gone and node.name not in world.crooks
    ]
    if not honest:
        return
    node = chance.choice(honest)
    world.crooks[node.name] = LIES[len(world.crooks) % len(LIES)]
    world.trace.note("crook", f"{node.name} {world.crooks[node.name]}")
    disguise(world, node)


async def watch_records(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """No fault, a look at every moment: what is recorded of a node, the node has.

    A record that a lie made is mended within seconds, once the node compares its set: in the end
    nothing would be seen of it.
    """
    while True:
        await asyncio.sleep(plan.down_s)
        for phantom in phantoms(world):
            world.violated(phantom)


def phantoms(world: "World") -> list[str]:
    """Return pieces recorded of nodes that never had them; the one of spoilt disks is left out."""
    aliases, segments = stored_segments(world)
    machines = {bytes(node.identity.node_id): node for node in world.nodes}
    found = []
    for segment in segments:
        for piece in segment.pieces:
            node = machines.get(aliases.get(piece.alias, b""))
            if node is None or node.gone or not node.up or node is world.victim:
                continue
            if node.service is None or not node.service.store.is_open:
                continue
            piece_id = piece_id_of(SegmentId(segment.segment), piece.index)
            if node.service.store.volume.index.get(piece_id) is None:
                found.append(f"piece {piece.index} is recorded of {node.name}, which never had it")
    return found


def disguise(world: "World", node: "NodeMachine") -> None:
    """Let a running node lie, if it is one that does."""
    lie, service = world.crooks.get(node.name), node.service
    if lie is None or service is None:
        return
    honest = service.repairs.carry_out

    async def lying(task: RepairTask) -> FinishRepairWork:
        world.trace.note("crooked work", f"{node.name} {lie}")
        if lie == "slanders":
            wrong = [source.index for source in task.sources]
            return FinishRepairWork(task=task.task, wrong=wrong, failure="all of them lie")
        if lie == "invents":
            forged = [_forged(node, task, target.index, target.order) for target in task.targets]
            return FinishRepairWork(task=task.task, receipts=forged, released=True)
        done = await honest(task)
        return msgspec.structs.replace(done, trailer=b"", receipts=[], released=False)

    service.repairs.carry_out = lying  # type: ignore[method-assign]


def _forged(node: "NodeMachine", task: RepairTask, index: int, order: bytes) -> bytes:
    return sign_receipt(
        node.identity,
        PieceReceipt(
            NodeId(node.identity.node_id),
            SegmentId(task.segment),
            index,
            hashlib.sha256(order).digest(),
            parse_order(order).serial,
            task.until_ms,
        ),
    )
