"""A whole cloud of true code in one process, on virtual time, from one seed.

It is set up, then lives through the safety phase: customers work, faults happen, and whatever is
read must be right. Then the liveness phase: the faults end, everything is started again, and all
that was acknowledged must be there, byte by byte, and at full strength.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from typing_extensions import override

from atoll.coordinator.app import CoordinatorConfig
from atoll.coordinator.metadata.migrate import migrate_connection
from atoll.coordinator.packing.rules import PackingProfile
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo, CloudStatus, CreateBucket, GetStatus
from atoll.sim import checkers, verifying
from atoll.sim.crooks import NODES_FIRST, disguise
from atoll.sim.customer import S3Customer
from atoll.sim.database import DatabaseServer
from atoll.sim.disk import DiskFaults
from atoll.sim.emigrants import must_set_policy
from atoll.sim.growth import EAGER_UPGRADES
from atoll.sim.incarnation import Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.machines import ACCOUNT, CoordinatorMachine, GatewayMachine, Machine, NodeMachine
from atoll.sim.misleading import QUICK_SETS
from atoll.sim.network import Network
from atoll.sim.offenders import QUICK, misjudged
from atoll.sim.pages import short_pages
from atoll.sim.paying import until_reads_are_paid
from atoll.sim.relays import Relays
from atoll.sim.scenario import Scenario
from atoll.sim.trace import Trace
from atoll.sim.workload import Ledger, Violation, run_client

READY_S_MAX = 60.0
POLL_S = 1.0
NODES_ADDED_MAX = 20

EAGER_PACKING = PackingProfile(age_ms=3_000, bytes_min=30_000, pass_ms=2_000, lease_ms=20_000)
"""What days are in a real cloud are seconds here."""


class World:
    """One run of one scenario. It answers ``sim.surroundings.Surroundings``."""

    def __init__(
        self,
        scenario: Scenario,
        seed: str,
        loop: SimLoop,
        trace: Trace,
        run_faults: "Callable[[World], Coroutine[Any, Any, None]]",
    ) -> None:
        """Make the machines; nothing runs yet. ``run_faults`` breaks them until cancelled."""
        self._run_faults = run_faults
        self.scenario = scenario
        self.seed = seed
        self.loop = loop
        self.trace = trace
        self.chance = random.Random(f"{seed}/world")
        self.network = Network(loop, f"{seed}/network", trace)
        self.network.on_stored = self._stored
        self.database = DatabaseServer(migrate_connection)
        self.ledger = Ledger()
        self.violations: list[str] = []
        self.offenders: dict[str, str] = {}
        """Nodes that offend on purpose, by name, and the axis they offend on."""
        self.crooks: dict[str, str] = {}
        """Nodes that lie about their repair work, by name, and how."""
        self.failed = asyncio.Event()
        self._incarnations: list[Incarnation] = []
        self._background: set[asyncio.Task[None]] = set()
        self._coordinator = CoordinatorMachine(self)
        self.gateway = GatewayMachine(self)
        self._customer_life = self.incarnation("customer")
        self.customer = S3Customer(self, self._customer_life)
        self.nodes = [self._node(number) for number in range(1, scenario.nodes + 1)]
        self.victim = self.chance.choice(self.nodes)
        """The one node whose disk may lose or spoil what it holds."""
        self.nodes_up_min = max(5, scenario.nodes // 2)
        """Crashes stop at so few nodes up."""
        self.verifiers = verifying.verifiers_of(self)
        self.relays = Relays(self)
        self.spoilt: set[bytes] = set()
        """Pieces whose bytes were overwritten behind their node's back."""
        self.bucket = BucketInfo(
            bucket=b"", account=ACCOUNT, name="", region="", mode="", created_ms=0
        )

    @property
    def coordinator(self) -> CoordinatorMachine:
        """The coordinator's machine."""
        return self._coordinator

    # --- what machines ask (Surroundings) -------------------------------------------------------

    def incarnation(self, name: str) -> Incarnation:
        """Return a new incarnation of this name."""
        life = Incarnation(name, len(self._incarnations) + 1, self.loop, self.trace)
        self._incarnations.append(life)
        return life

    def seeded(self, what: str) -> bytes:
        """Return 32 bytes that follow from the world's seed."""
        return hashlib.sha256(f"{self.seed}/{what}".encode()).digest()

    def coordinator_config(self) -> CoordinatorConfig:
        """Return how a coordinator of this world is set up."""
        return CoordinatorConfig(
            profile="local",
            gateway_keys=frozenset({self.gateway.identity.public_key}),
            packing=EAGER_PACKING,
            upgrade=EAGER_UPGRADES if self.scenario.upgrades else None,
            reputation=QUICK if self.scenario.standings else None,
            verifier_keys=frozenset(one.identity.public_key for one in self.verifiers),
            proofs=verifying.TIMES,
            repair=NODES_FIRST if self.scenario.node_repairs else None,
            sets=QUICK_SETS if self.scenario.quick_sets else None,
        )

    def reachable(self, node: object) -> bool:
        """Connect a node that has just started; say whether it can be called itself."""
        if not isinstance(node, NodeMachine) or not self.relays.behind(node):
            return True
        self.relays.connect(node)
        return False

    def violated(self, what: str) -> None:
        """Note that an invariant does not hold."""
        self.trace.note("VIOLATION", what)
        self.violations.append(f"at {self.loop.time():.3f} s: {what}")
        self.failed.set()

    def started(self, machine: object) -> None:
        """Check that a node that came back has all that it ever acknowledged."""
        if isinstance(machine, NodeMachine):
            for lost in checkers.lost_receipts(self, machine):
                self.violated(lost)
            disguise(self, machine)

    # --- what faults ask ------------------------------------------------------------------------

    def background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something of the simulator beside all else."""
        task = self.loop.start(coroutine, None)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def add_node(self) -> None:
        """A new node joins."""
        if len(self.nodes) >= self.scenario.nodes + NODES_ADDED_MAX:
            return
        node = self._node(len(self.nodes) + 1)
        self.nodes.append(node)
        await node.start()

    async def whole(self, seconds_max: float) -> bool:
        """Wait until every segment is at full strength; say whether it came to that in time."""
        until = self.loop.time() + seconds_max
        while self.loop.time() < until:
            if not checkers.weaknesses(self):
                return True
            await asyncio.sleep(POLL_S)
        return False

    # --- the run --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Set up, live through both phases. What is wrong is in ``violations`` afterwards."""
        with _listening(self), short_pages(bool(self.scenario.short_pages_chance)):
            try:
                await self._set_up()
                await self._safety()
                if self.scenario.standings and not self.violations:
                    for wrong in misjudged(self):
                        self.violated(wrong)
                if not self.violations:
                    await self._liveness()
            except Violation as violation:
                self.violated(str(violation))
        for what in self.loop.unhandled:
            self.violated(f"a bug: {what}")

    async def _set_up(self) -> None:
        await self.coordinator.start()
        await self.gateway.start()
        await asyncio.gather(*(node.start() for node in (*self.nodes, *self.verifiers)))
        until = self.loop.time() + READY_S_MAX
        while True:
            status = await self.status()
            if status and sum(n.state == "alive" for n in status.nodes) == len(self.nodes):
                break
            if self.loop.time() > until:
                raise Violation("the nodes did not register in time")
            await asyncio.sleep(POLL_S)
        question = CreateBucket(account=ACCOUNT, name="bucket", region="sim")
        self.bucket = await self.ask_gateway(self.gateway.ask(question, BucketInfo))
        if self.scenario.policy:
            await must_set_policy(self, self.scenario.policy)
        self.trace.note("phase", "safety")

    async def _safety(self) -> None:
        seconds = self.scenario.workload.seconds
        faults = self.loop.start(self._run_faults(self), None)
        clients = [
            self.loop.start(run_client(self, number), None)
            for number in range(self.scenario.workload.clients)
        ]
        failed = self.loop.start(self._until_failed(), None)
        tasks: set[asyncio.Task[Any]] = {faults, failed, *clients}
        done, pending = await asyncio.wait(
            tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in pending | self._background:
            task.cancel()
        await asyncio.gather(*pending, *self._background, return_exceptions=True)
        for task in done - {failed}:
            task.result()

    async def _until_failed(self) -> None:
        await self.failed.wait()
        raise Violation("stopped at the first violation")

    async def _liveness(self) -> None:
        self.trace.note("phase", "liveness")
        self.network.heal()
        await self.relays.heal()
        machines: list[Machine] = [
            self.coordinator,
            self.gateway,
            *self.nodes,
            *self.verifiers,
        ]
        for node in self.nodes:
            if node.platter.faults != DiskFaults():
                # A disk that lied or failed is not trusted further without a restart.
                node.crash()
            node.platter.faults = DiskFaults()
            node.platter.capacity_bytes = node.honest_capacity_bytes
        for machine in machines:
            if machine.incarnation is not None:
                machine.incarnation.crash_in = 0
        await asyncio.gather(*(m.start() for m in machines if not m.up and not m.gone))
        await checkers.until_all_is_well(self)
        if self.verifiers:
            await verifying.until_verdicts_are_right(self)
        await until_reads_are_paid(self)

    async def status(self) -> CloudStatus | None:
        """Return the coordinator's own view, or None where it has none to give now."""
        try:
            found: CloudStatus = await self.ask_gateway(self.gateway.ask(GetStatus(), CloudStatus))
        except AtollError:
            return None
        return found

    async def ask_gateway(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the gateway's process. Raises ``UNREACHABLE`` if that dies meanwhile."""
        life = self.gateway.incarnation
        if life is None or life.dead:
            coroutine.close()
            raise AtollError(Kind.UNREACHABLE, "ask gateway", "the gateway is down")
        task = life.start(coroutine)
        ended = asyncio.create_task(life.ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            if not task.done() and not life.dead:
                task.cancel()
        if not task.done() or life.dead:
            raise AtollError(Kind.UNREACHABLE, "ask gateway", "the gateway died")
        return task.result()

    @property
    def front(self) -> "GatewayMachine | S3Customer":
        """Where this run's customers go: to the gateway's own parts, or to its S3 endpoint."""
        return self.customer if self.scenario.s3_chance else self.gateway

    async def ask_front(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run one of the front's actions in the process it belongs to. Raises ``AtollError``."""
        if self.scenario.s3_chance:
            return await self._customer_life.start(coroutine)
        return await self.ask_gateway(coroutine)

    def bury(self) -> None:
        """After the end: let nothing of the dead or the living run on."""
        for life in self._incarnations:
            life.crash()
        for life in self._incarnations:
            life.bury()
        self.database.close()

    def _stored(self, name: str, path: str) -> None:
        for node in self.nodes:
            if node.name == name and not node.platter.faults.lies:
                node.receipts.add(bytes.fromhex(path.rpartition("/")[2]))

    def _node(self, number: int) -> NodeMachine:
        skew_max = self.scenario.skew_ms_max
        skew_ms = self.chance.randint(-skew_max, skew_max)
        return NodeMachine(self, number, self.scenario.capacity_bytes, skew_ms)


class _Listener(logging.Handler):
    """Takes what a room logs as an exception it did not expect for the bug that it is."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if not record.exc_info:
            return
        cause = record.exc_info[1]
        if isinstance(cause, Exception) and not isinstance(cause, AtollError):
            self._world.violated(f"a bug: {record.getMessage()}: {cause!r}")
            self._world.trace.note("bug", logging.Formatter().formatException(record.exc_info))


@contextlib.contextmanager
def _listening(world: World) -> Any:
    logger = logging.getLogger("atoll")
    listener = _Listener(world)
    before = logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate = before
