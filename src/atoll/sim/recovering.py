"""The invariant of recovery: with everything but the nodes dead, phrase and nodes give all back.

An owner's machine, new in this world, knows the root key and where nodes listen. It runs what
``atoll recover`` runs, over the simulated network, and every key is held against the ledger.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from atoll.client.keys import Keyring
from atoll.client.objects import SegmentedObjects
from atoll.client.recovery.model import NodePlace, RecoveryFigures, RecoveryReport, Source
from atoll.client.recovery.nodes import OwnerControl, OwnerNodes
from atoll.client.recovery.restore import Restore, Restored
from atoll.client.recovery.search import Catalogue, Search
from atoll.client.recovery.store import RecoveryStore
from atoll.client.segment.buffers import BufferPool
from atoll.client.transfer.download import SegmentDownloader
from atoll.client.transfer.upload import SegmentUploader
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.messages.recovery import ManifestLag, ManifestState
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.rng import SimRng
from atoll.sim.transport import SimPieceTransport
from atoll.sim.workload import ABSENT, Violation

if TYPE_CHECKING:
    from atoll.sim.incarnation import Incarnation
    from atoll.sim.world import World

DRAIN_S_MAX = 120.0
POLL_S = 1.0
BUFFER_BYTES = 32 << 20


class _Hands:
    """A target that keeps what it gets."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.alone: dict[str, bytes] = {}
        """What capsules alone tell of: perhaps it was never acknowledged."""

    async def begin_bucket(self, bucket: str) -> None:
        """Nothing to prepare."""

    async def put(self, restored: Restored, body: AsyncIterator[memoryview]) -> None:
        """Keep an object."""
        data = b"".join([bytes(view) async for view in body])
        named = restored.source == Source.MANIFEST
        (self.bodies if named else self.alone)[restored.key] = data


async def check_recovery(world: "World") -> None:
    """Let manifests settle, kill gateway and coordinator, recover. Raises ``Violation``."""
    await _drained(world)
    world.gateway.crash()
    world.coordinator.crash()
    world.trace.note("phase", "only nodes are left")
    life = world.incarnation("owner")
    hands, report = await life.start(_recover(world, life))
    for problem in report.problems:
        raise Violation(f"not recovered: {problem.what}: {problem.why}")
    for key in sorted(world.ledger.keys):
        body = hands.bodies.pop(key, None)
        if body is None and ABSENT not in world.ledger.state(key).possible:
            # An overwrite that nobody heard the end of is newer than what manifests say.
            body = hands.alone.get(key)
        world.ledger.check_read(key, body, 0, None)
    for key in hands.bodies:
        raise Violation(f"{key} was recovered and never written")


async def _drained(world: "World") -> None:
    """Wait until no change waits for its manifest; the same as a second without writes."""
    until = world.loop.time() + DRAIN_S_MAX
    while world.loop.time() < until:
        question = ManifestLag(bucket=world.bucket.bucket)
        try:
            asked = world.gateway.ask(question, ManifestState)
            state: ManifestState = await world.ask_gateway(asked)
        except AtollError:
            state = ManifestState(
                oldest_sequence=1, oldest_ms=0, waiting=1, manifests=0, manifest_bytes=0
            )
        if not state.waiting:
            return
        await asyncio.sleep(POLL_S)
    raise Violation(f"changes wait for their manifest {DRAIN_S_MAX:g} s after all faults ended")


async def _recover(world: "World", life: "Incarnation") -> tuple[_Hands, RecoveryReport]:
    hands = _Hands()
    report, others = await _account(world, life, hands, None)
    for other in others.items():
        more, _ = await _account(world, life, hands, other)
        report = report.joined(more)
    return hands, report


async def _account(
    world: "World", life: "Incarnation", hands: _Hands, other: tuple[bytes, Catalogue] | None
) -> tuple[RecoveryReport, dict[bytes, Catalogue]]:
    clock, rng = SimClock(life), SimRng(life, f"{world.seed}/owner")
    compute = SimCompute(life, f"{world.seed}/owner")
    transport = SimPieceTransport(life, world.network)
    keyring = Keyring(world.gateway.root, rng)
    account, catalogue = other or (keyring.first_account, None)
    owner = Identity(keyring.account(account).owner_seed())
    places = [
        NodePlace(node.identity.node_id.hex(), node.address.host, node.address.port)
        for node in world.nodes
        if not node.gone
    ]
    nodes = OwnerNodes(places, owner, transport, clock)
    control = OwnerControl(nodes)
    buffers = BufferPool(BUFFER_BYTES)
    downloader = SegmentDownloader(control, transport, compute, clock, owner.public_key, buffers)
    uploader = SegmentUploader(control, transport, compute, clock, owner, buffers)
    store = RecoveryStore(":memory:")
    report = RecoveryReport(RecoveryFigures(nodes=len(places)))
    await nodes.survey(store.add_pieces)
    search = Search(
        account, keyring, nodes, store, downloader, report.figures, clock.now_ms(), catalogue
    )
    await search.run()
    objects = SegmentedObjects(keyring, uploader, downloader)
    await Restore(search, store, objects, hands, compute, report).run()
    await downloader.close()
    store.close()
    report.nodes = nodes.outcomes
    others = dict(search.catalogues)
    others.pop(account, None)
    return report, others
