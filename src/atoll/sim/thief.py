"""A thief of the coordinator's key: orders everything deleted that its owner has locked.

What a node has promised its owner it keeps, over crashes of its process, whatever is ordered by the
key that it otherwise obeys.
"""

import random
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import msgspec

from atoll.core.errors import AtollError
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId, piece_id_of
from atoll.core.messages import BucketInfo, CreateBucket, ObjectRead, ReadObject, SegmentRecord
from atoll.core.messages.retention import LockState
from atoll.core.orders import Action, OrderLimit, sign_orders
from atoll.core.retention import DAY_MS
from atoll.node.store.model import State
from atoll.sim.clock import SimClock
from atoll.sim.disk import DiskFaults
from atoll.sim.machines import ACCOUNT, NodeMachine
from atoll.sim.scenario import FaultPlan
from atoll.sim.transport import SimPieceTransport
from atoll.sim.world import World

OBJECTS_MAX = 8
OBJECT_BYTES_MAX = 60_000
CALL_S_MAX = 5.0
LOCK_DAYS = 365


@dataclass(slots=True)
class Vault:
    """What was locked in one world, and which nodes promised to keep it."""

    bucket: BucketInfo
    bodies: dict[str, bytes] = field(default_factory=dict)
    segments: dict[bytes, SegmentRecord] = field(default_factory=dict)
    promised: set[tuple[int, bytes]] = field(default_factory=set)
    """Node's number and piece: seen to be kept durably under a record."""


_VAULTS: WeakKeyDictionary[World, Vault] = WeakKeyDictionary()


async def thief(world: World, plan: FaultPlan, chance: random.Random) -> None:
    """Lock one more object, then order all that is locked deleted, at every node, directly."""
    try:
        vault = await _vault(world)
        if len(vault.bodies) < OBJECTS_MAX:
            await _lock_one(world, vault, chance)
    except AtollError:
        return  # The gateway or its coordinator is down: another time.
    _note_promises(world, vault)
    await _attack(world, vault, chance)
    _check(world, vault)
    await _read_back(world, vault, chance)


async def _vault(world: World) -> Vault:
    vault = _VAULTS.get(world)
    if vault is None:
        question = CreateBucket(account=ACCOUNT, name="vault", region="sim")
        bucket = await world.ask_gateway(world.gateway.ask(question, BucketInfo))
        vault = _VAULTS[world] = Vault(bucket)
    return vault


async def _lock_one(world: World, vault: Vault, chance: random.Random) -> None:
    key = f"jewel{len(vault.bodies)}"
    body = chance.randbytes(chance.randrange(1, OBJECT_BYTES_MAX))
    await world.ask_gateway(world.gateway.put(vault.bucket, key, body))
    locks = world.gateway.locks
    if locks is None:
        return

    def change(_: LockState, now_ms: int) -> LockState:
        return LockState(mode="compliance", until_ms=now_ms + LOCK_DAYS * DAY_MS)

    await world.ask_gateway(locks.change(vault.bucket, key, change))
    question = ReadObject(bucket=vault.bucket.bucket, key=key)
    read: ObjectRead = await world.ask_gateway(world.gateway.ask(question, ObjectRead))
    vault.bodies[key] = body
    vault.segments.update({one.segment: one for one in read.segments})
    world.trace.note("locked", key)


def _honest(world: World) -> list[NodeMachine]:
    """Nodes that are up, on disks that do what they say."""
    return [
        node
        for node in world.nodes
        if node.up and node.service is not None and node.platter.faults == DiskFaults()
    ]


def _pieces(vault: Vault) -> list[bytes]:
    return [
        piece_id_of(SegmentId(record.segment), index)
        for record in vault.segments.values()
        for index in range(record.n)
    ]


def _note_promises(world: World, vault: Vault) -> None:
    for node in _honest(world):
        assert node.service is not None
        if not node.service.store.is_open:
            continue
        for piece in _pieces(vault):
            if node.service.store.retained(piece):
                vault.promised.add((node.number, piece))


async def _attack(world: World, vault: Vault, chance: random.Random) -> None:
    life = world.incarnation("thief")
    transport = SimPieceTransport(life, world.network)
    now_ms = SimClock(life).now_ms()
    identity = world.coordinator.identity
    for node in _honest(world):
        limits = [
            OrderLimit(
                action=Action.DELETE,
                node_id=NodeId(node.identity.node_id),
                segment_id=SegmentId(record.segment),
                segment_serial=record.serial,
                index=index,
                byte_cap=0,
                issued_ms=now_ms,
                expires_ms=now_ms + 60_000,
                serial=OrderSerial(chance.randbytes(16)),
                payer_tag=PayerTag(bytes(16)),
                gateway_key=identity.public_key,
            )
            for record in vault.segments.values()
            for index in range(record.n)
            if (node.number, piece_id_of(SegmentId(record.segment), index)) in vault.promised
        ]
        if not limits:
            continue
        body = msgspec.msgpack.encode(sign_orders(identity, limits))
        try:
            reply = await life.start(
                transport.call(node.address, "POST", "/v1/delete", {}, body, CALL_S_MAX)
            )
        except AtollError:
            continue
        if reply.status == 200:
            answers = msgspec.msgpack.decode(reply.body, type=list[str])
            world.trace.note("theft", f"{node.name} {len(answers)}")
            if "" in answers:
                world.violated(f"{node.name} deleted a locked piece")


def _check(world: World, vault: Vault) -> None:
    for node in _honest(world):
        assert node.service is not None
        store = node.service.store
        if not store.is_open:
            continue
        for number, piece in vault.promised:
            if number != node.number:
                continue
            row = store.volume.index.get(piece)
            if row is None or row.state != State.LIVE:
                world.violated(f"{node.name} let a locked piece go: {piece.hex()[:10]}")
            elif not store.retained(piece):
                world.violated(f"{node.name} forgot the lock of {piece.hex()[:10]}")


async def _read_back(world: World, vault: Vault, chance: random.Random) -> None:
    if not vault.bodies:
        return
    key = chance.choice(sorted(vault.bodies))
    try:
        body = await world.ask_gateway(world.gateway.get(vault.bucket, key, 0, None))
    except AtollError:
        return
    if body != vault.bodies[key]:
        world.violated(f"the locked object {key} is another")
    world.trace.note("read locked", key)
