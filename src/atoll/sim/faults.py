"""What goes wrong in a world: one function per kind of fault, each a task of the simulator.

Faults that destroy data (a disk lost, bits rotten, a disk that lies) hit one node at a time, and
the next only after everything is whole again: what is promised to survive is the loss of one node
among the two that hold a tiny object's acknowledged copies. Faults that only interrupt have no such
bound.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError, Kind
from atoll.sim import verifying
from atoll.sim.crooks import crooked_worker, watch_records
from atoll.sim.disk import DiskFaults
from atoll.sim.emigrants import change_mind, emigrate
from atoll.sim.growth import grow
from atoll.sim.leavers import dying_disk, leave, shrink
from atoll.sim.machines import Machine, NodeMachine
from atoll.sim.massacre import massacre
from atoll.sim.mergers import merge
from atoll.sim.misleading import count_nothing
from atoll.sim.network import NetworkFaults
from atoll.sim.offenders import flap, refuse_reads
from atoll.sim.relays import relay_away, relays_away
from atoll.sim.scenario import FaultPlan
from atoll.sim.thief import thief
from atoll.sim.world import World

CRASH_CALLBACKS_MAX = 3000
CRASH_CHANGES_MAX = 40
WHOLE_S_MAX = 120.0

FaultFunction = Callable[[World, FaultPlan, random.Random], Awaitable[None]]


async def run_faults(world: World) -> None:
    """Run all faults of the world's scenario until cancelled."""
    async with asyncio.TaskGroup() as group:
        for number, plan in enumerate(world.scenario.faults):
            chance = random.Random(f"{world.seed}/fault/{number}/{plan.kind}")
            group.create_task(_run(world, plan, chance))


async def _run(world: World, plan: FaultPlan, chance: random.Random) -> None:
    function = FAULTS.get(plan.kind)
    if function is None:
        raise AtollError(Kind.CONFIG, "run fault", f"no fault is called {plan.kind}")
    for _ in range(plan.most):
        await asyncio.sleep(chance.expovariate(1 / plan.every_s))
        await function(world, plan, chance)


def _up(machines: list[NodeMachine]) -> list[NodeMachine]:
    return [m for m in machines if m.up and not m.gone]


async def _kill(machine: Machine, chance: random.Random) -> None:
    """Let a process die: now, or at some await of its choosing within the next moments."""
    life = machine.incarnation
    if life is None or life.dead:
        return
    if chance.random() < 0.3:
        life.crash()
        return
    life.crash_in = chance.randrange(1, CRASH_CALLBACKS_MAX)
    await asyncio.wait([asyncio.create_task(life.ended.wait())], timeout=5.0)
    life.crash_in = 0
    if not life.dead:
        life.crash()


async def _down_and_up(machine: Machine, plan: FaultPlan, chance: random.Random) -> None:
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    if not machine.up and not machine.gone:
        await machine.start()


async def crash_node(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """A node's process is killed, power lost, and comes back."""
    nodes = _up(world.nodes)
    if len(nodes) <= world.nodes_up_min:
        return
    node = chance.choice(nodes)
    if chance.random() < 0.5:
        # Right at a change of its disk: between a write and its sync, say.
        node.platter.faults.crash_at = chance.randrange(1, CRASH_CHANGES_MAX)
        life = node.incarnation
        assert life is not None
        await asyncio.wait([asyncio.create_task(life.ended.wait())], timeout=5.0)
        node.platter.faults.crash_at = 0
    await _kill(node, chance)
    world.background(_down_and_up(node, plan, chance))


async def crash_coordinator(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The coordinator is killed and comes back over the same database."""
    await _kill(world.coordinator, chance)
    await _down_and_up(world.coordinator, plan, chance)


async def crash_gateway(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The gateway is killed, whatever it was uploading, and comes back."""
    await _kill(world.gateway, chance)
    await _down_and_up(world.gateway, plan, chance)


async def lose_node(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """A node goes for good, with its disk; a new one may take its place."""
    if not await world.whole(WHOLE_S_MAX):
        return
    nodes = _up(world.nodes)
    if len(nodes) <= world.nodes_up_min:
        return
    node = chance.choice(nodes)
    node.gone = True
    world.trace.note("lose", node.name)
    node.crash()
    node.platter.wipe()
    await world.add_node()
    await world.whole(WHOLE_S_MAX)


async def blackout(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """More nodes than any scheme survives lose power at once, and come back with their disks."""
    nodes = _up(world.nodes)
    dark = chance.sample(nodes, chance.randrange(len(nodes) // 2, len(nodes) + 1))
    world.trace.note("blackout", f"{len(dark)} of {len(nodes)}")
    for node in dark:
        node.crash()
    if chance.random() < 0.3:
        world.coordinator.crash()
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    if not world.coordinator.up:
        await world.coordinator.start()
    for node in dark:
        world.background(_down_and_up(node, plan, chance))


async def partition(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Some machines cannot reach some others for a while."""
    nodes = _up(world.nodes)
    some = chance.sample(nodes, chance.randrange(1, max(2, len(nodes) // 3)))
    others: list[Machine] = [world.coordinator, world.gateway]
    others = others if chance.random() < 0.6 else [chance.choice(others)]
    for node in some:
        for other in others:
            world.network.cut(node.name, other.name)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    for node in some:
        for other in others:
            world.network.join_again(node.name, other.name)


async def part_gateway(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The gateway cannot reach some nodes, which the coordinator hears as ever."""
    some = chance.sample(world.nodes, chance.randrange(1, 4))
    for node in some:
        world.network.cut(node.name, "gateway")
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    for node in some:
        world.network.join_again(node.name, "gateway")


async def isolate_coordinator(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The gateway cannot reach the coordinator for a while."""
    world.network.cut("gateway", "coordinator")
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    world.network.join_again("gateway", "coordinator")


async def bad_network(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Connections are lost and held up for a while."""
    world.network.faults = NetworkFaults(
        delay_s_mean=chance.choice((0.002, 0.02, 0.1)), loss=plan.rate, stall=plan.rate
    )
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    world.network.faults = NetworkFaults()


async def rot(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Bits flip on the victim's disk."""
    where = world.victim.platter.rot(chance.randrange(1, 20), "logs/")
    if where:
        world.trace.note("rot", f"{world.victim.name} {len(where)}")
        world.victim.receipts.clear()


async def spoil_pieces(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The victim loses the bytes of some of its pieces, and does not look."""
    found = verifying.spoil(world.victim)
    if found:
        world.trace.note("spoil", f"{world.victim.name} {len(found)}")
        world.spoilt |= found
        world.victim.receipts.clear()


async def crash_verifier(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """A verifier dies and comes back."""
    if world.verifiers:
        await _down_and_up(chance.choice(world.verifiers), plan, chance)


async def liar(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The victim serves wrong bytes for a while."""
    world.network.let_lie(world.victim.name)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    world.network.let_be_honest(world.victim.name)


async def garbled_path(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Some node is sent damaged bytes for a while: a bad cable, bad memory."""
    node = chance.choice(world.nodes)
    world.network.garble(node.name, on=True)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    world.network.garble(node.name, on=False)


async def lying_disk(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """The victim's disk says it synced and did not; then power is lost."""
    node = world.victim
    node.platter.faults.lies = True
    node.receipts.clear()
    world.trace.note("lies", node.name)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    node.crash()
    node.platter.faults = DiskFaults()
    node.receipts.clear()
    await _down_and_up(node, plan, chance)


async def failing_disk(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Reads and syncs of the victim's disk fail for a while; then it is restarted."""
    node = world.victim
    node.ever_moved = True  # it flees from such a disk
    node.platter.faults = DiskFaults(sync_fails=plan.rate, read_fails=plan.rate)
    world.trace.note("failing disk", node.name)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    node.platter.faults = DiskFaults()
    node.crash()
    await _down_and_up(node, plan, chance)


async def full_disk(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Something else fills a node's disk for a while."""
    node = chance.choice(world.nodes)
    capacity = node.platter.capacity_bytes
    node.ever_moved = True  # it gives up room by moving pieces elsewhere
    node.platter.capacity_bytes = node.platter.used_bytes() + chance.randrange(0, 400_000)
    world.trace.note("full disk", node.name)
    await asyncio.sleep(chance.expovariate(1 / plan.down_s))
    node.platter.capacity_bytes = capacity


FAULTS: dict[str, FaultFunction] = {
    "crash-node": crash_node,
    "crash-coordinator": crash_coordinator,
    "crash-gateway": crash_gateway,
    "lose-node": lose_node,
    "massacre": massacre,
    "blackout": blackout,
    "partition": partition,
    "isolate-coordinator": isolate_coordinator,
    "part-gateway": part_gateway,
    "flap": flap,
    "refuse-reads": refuse_reads,
    "bad-network": bad_network,
    "rot": rot,
    "spoil-pieces": spoil_pieces,
    "crash-verifier": crash_verifier,
    "liar": liar,
    "garbled-path": garbled_path,
    "lying-disk": lying_disk,
    "failing-disk": failing_disk,
    "full-disk": full_disk,
    "thief": thief,
    "leave": leave,
    "shrink": shrink,
    "dying-disk": dying_disk,
    "emigrate": emigrate,
    "change-mind": change_mind,
    "merge": merge,
    "crooked-worker": crooked_worker,
    "watch-records": watch_records,
    "count-nothing": count_nothing,
    "grow": grow,
    "relay-away": relay_away,
    "relays-away": relays_away,
}
