"""Verifiers in a world, honest and lying, and what must hold of verdicts."""

import asyncio
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy.engine import Connection
from typing_extensions import override

from atoll.coordinator.audit import store
from atoll.coordinator.audit.model import FAILED, PASSED, ProofTimes, Result
from atoll.coordinator.registry.store import all_nodes
from atoll.core.identity import Identity
from atoll.core.ports import Address
from atoll.core.proofs.samples import Fault
from atoll.core.proofs.signed import Signed
from atoll.core.proofs.verdicts import FailedSample, Judged
from atoll.node.prover.service import issuer_number
from atoll.node.store.log import HEAD_BYTES
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Incarnation
from atoll.sim.machines import COORDINATOR_ADDRESS, NODE_PORT, Machine, NodeMachine
from atoll.sim.surroundings import Surroundings
from atoll.sim.transport import SimPieceTransport
from atoll.sim.workload import Violation
from atoll.verifier.app import VerifierApp
from atoll.verifier.config import VerifierConfig
from atoll.verifier.desk import Desk
from atoll.verifier.service import VerifierService

if TYPE_CHECKING:
    from atoll.sim.world import World

TIMES = ProofTimes("sim", 4_000, 4, results_slots=10_000, read_slots=2, samples_more=64)
"""Slots of seconds."""
RESULTS_MAX = 100_000
PIECES_MAX = 1_000
PROVE_S_MAX = 120.0
SHOWN_MAX = 5
SPOILT_SHARE = 4
"""A dropper loses one piece in so many."""
DISK_BYTES = 256 << 20


class LyingVerifier(VerifierService):
    """Says of every node but the first it meets that all its samples failed."""

    @override
    async def _say(self, desk: Desk, judged: Judged, body: bytes) -> Signed:
        verdict = judged.verdict
        slander = [
            FailedSample(number, 0, Fault.LEAF.value, b"", 0) for number in range(verdict.samples)
        ]
        lie = msgspec.structs.replace(verdict, failed=slander)
        return await super()._say(desk, Judged(judged.proof, judged.head, judged.beacon, lie), body)


class VerifierMachine(Machine):
    """A verifier's machine."""

    def __init__(self, world: Surroundings, number: int, *, lies: bool) -> None:
        """Verifier ``number`` (1..4)."""
        super().__init__(world, f"verifier{number}")
        self.lies = lies
        self.identity = Identity(world.seeded(f"{self.name}/identity"))
        self.address = Address(f"127.0.{250 + number}.1", NODE_PORT)
        self.platter = Platter(f"{world.seed}/{self.name}/platter", DISK_BYTES)
        self.service: VerifierService | None = None

    async def _begin(self, life: Incarnation) -> None:
        kind = LyingVerifier if self.lies else VerifierService
        service = self.service = kind(
            SimClock(life),
            SimDisk(life, self.platter, self.seed("disk")),
            SimCompute(life, self.seed("compute")),
            SimPieceTransport(life, self.world.network),
            self.identity,
            VerifierConfig(
                operator=self.name,
                host=self.address.host,
                port=self.address.port,
                coordinators=(COORDINATOR_ADDRESS,),
                keep_bytes=32 << 20,
            ),
        )
        await service.start()
        app = VerifierApp(service)
        self.world.network.listen(self.address.host, self.address.port, life, app)


def verifiers_of(world: Surroundings) -> list[VerifierMachine]:
    """Return the verifiers that a scenario asks for; the last ones lie."""
    scenario = world.scenario
    honest = scenario.verifiers - scenario.lying_verifiers
    return [
        VerifierMachine(world, number, lies=number > honest)
        for number in range(1, scenario.verifiers + 1)
    ]


def spoil(machine: NodeMachine, share: int = SPOILT_SHARE) -> set[bytes]:
    """Overwrite the data of some of a node's pieces on its medium, behind its back."""
    if machine.service is None or not machine.service.store.is_open:
        return set()
    index = machine.service.store.volume.index
    issuer = issuer_number(machine.world.coordinator.identity.public_key)
    spoilt: set[bytes] = set()
    for number, piece in enumerate(machine.service.store.held(issuer, 0, PIECES_MAX)):
        row = index.get(piece.piece)
        if number % share or row is None:
            continue
        file = machine.platter.files.get(f"logs/{row.log:08d}.log")
        if file is None:
            continue
        start = row.offset + HEAD_BYTES + piece.head_bytes
        file.content.write(start, b"\xee" * piece.data_bytes)
        spoilt.add(piece.piece)
    return spoilt


async def until_verdicts_are_right(world: "World") -> None:
    """Wait until everybody proves again. Raises ``Violation`` for verdicts that are wrong."""
    until = world.loop.time() + PROVE_S_MAX
    while True:
        wrong = wrong_verdicts(world)
        if wrong:
            raise Violation("; ".join(wrong[:SHOWN_MAX]))
        if _all_passed_lately(world):
            world.trace.note("phase", "proven")
            return
        if world.loop.time() > until:
            raise Violation(f"not every node proves what it holds within {PROVE_S_MAX:g} s")
        await asyncio.sleep(1.0)


def _all_passed_lately(world: "World") -> bool:
    """Say whether there is a slot in which every node that holds anything passed."""
    _, results, holders = world.database.run(_read, write=False)
    passed: dict[int, set[int]] = {}
    for result in results:
        if result.outcome == PASSED:
            passed.setdefault(result.slot, set()).add(result.alias)
    return any(holders <= aliases for aliases in passed.values())


def wrong_verdicts(world: "World") -> list[str]:
    """Return what is wrong with the verdicts that stand: honest nodes blamed, liars believed."""
    nodes, results, _ = world.database.run(_read, write=False)
    names = {bytes(node.identity.node_id): node.name for node in world.nodes}
    wrong = []
    for result in results:
        name = names.get(nodes.get(result.alias, b""), "?")
        if result.outcome != FAILED:
            continue
        if not set(result.pieces) <= world.spoilt:
            wrong.append(f"{name} is blamed for a piece that is whole, in slot {result.slot}")
        elif name != world.victim.name:
            wrong.append(f"{name} is blamed in slot {result.slot}, and keeps what it should")
    return wrong


def _read(connection: Connection) -> tuple[dict[int, bytes], list[Result], set[int]]:
    nodes = {view.alias: view.node_id for view in all_nodes(connection)}
    holders = {alias for alias in nodes if store.last_serial(connection, alias)}
    return nodes, store.read_results(connection, 0, store.SERIAL_END, RESULTS_MAX), holders
