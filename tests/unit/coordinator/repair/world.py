"""A small simulated cloud for repair and collection: true nodes, true metadata, true services.

The node table alone is in the test's hands, so that a test says when a death is noticed.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from atoll.coordinator.collection import rules as collection_rules
from atoll.coordinator.collection.service import CollectionService
from atoll.coordinator.metadata.migrate import migrate_connection
from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store import segments as metadata
from atoll.coordinator.metering.model import MeteringConfig
from atoll.coordinator.metering.service import MeteringService
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.coordinator.placement.service import PlacementService, PolicySource
from atoll.coordinator.repair import store as queue
from atoll.coordinator.repair.offers import RepairOffers
from atoll.coordinator.repair.rules import LOCAL, Profile
from atoll.coordinator.repair.service import RepairService
from atoll.coordinator.repair.worker import SegmentRepairer
from atoll.core.erasure import codec
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.merkle import piece_root
from atoll.core.messages import OrderSegment, SegmentGrant, SegmentRecord, StoredPiece
from atoll.core.pieces import (
    Header,
    Tlv,
    crc32c,
    encode_header,
    encode_trailer,
    record_bytes,
    sign_trailer,
)
from atoll.core.ports import Address
from atoll.core.scheme import Layout
from atoll.node.app import NodeApp
from atoll.node.config import NodeConfig, StoreConfig
from atoll.node.orders import OrderDesk
from atoll.node.store.store import PieceStore
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.database import DatabaseServer, SimDatabase
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.network import Network
from atoll.sim.rng import SimRng
from atoll.sim.trace import Trace
from atoll.sim.transport import SimPieceTransport

Result = TypeVar("Result")
MIB = 1 << 20
COORDINATOR = Identity(b"c" * 32)
GATEWAY = Identity(b"g" * 32)
BUCKET = b"b" * 16
STORE = StoreConfig(
    capacity_bytes=512 * MIB,
    log_bytes=64 * MIB,
    log_step_bytes=4 * MIB,
    reserve_bytes=0,
    scrub_bytes_per_s=0,
)
TLVS = (Tlv(9, b"kept and served again"),)


class Table:
    """The node table: ``NodeSource`` with a pen."""

    def __init__(self) -> None:
        self.version = 1
        self.rows: dict[int, Candidate] = {}

    def candidates(self) -> list[Candidate]:
        return list(self.rows.values())

    async def fresh(self) -> None:
        """It always is."""

    def alias_of(self, node_id: bytes) -> int | None:
        return next((a for a, row in self.rows.items() if row.node_id == node_id), None)

    def change(self, alias: int, **facts: Any) -> None:
        self.rows[alias] = replace(self.rows[alias], **facts)
        self.version += 1


@dataclass
class Node:
    """One node: its medium outlives its process."""

    alias: int
    identity: Identity
    platter: Platter
    incarnation: Incarnation | None = None
    store: PieceStore | None = None

    @property
    def host(self) -> str:
        return f"127.0.{self.alias}.1"


@dataclass
class Coordinator:
    """One coordinator process."""

    incarnation: Incarnation
    database: SimDatabase
    transport: SimPieceTransport
    placement: PlacementService
    repair: RepairService
    repairer: SegmentRepairer
    collection: CollectionService
    offers: RepairOffers


class Cloud:
    """Nodes, one database, coordinators on demand."""

    def __init__(
        self,
        seed: str,
        nodes: int = 12,
        profile: Profile = LOCAL,
        policies: PolicySource | None = None,
    ) -> None:
        self.seed = seed
        self.policies = policies
        self.profile = profile
        self.accused: list[tuple[int, bytes, str]] = []
        self.loop = SimLoop(seed)
        self.trace = Trace(self.loop.time)
        self.network = Network(self.loop, f"{seed}/network", self.trace)
        self.server = DatabaseServer(migrate_connection)
        self.random = random.Random(seed)
        self.serials = itertools.count(1)
        self.table = Table()
        self.incarnations: list[Incarnation] = []
        self.nodes = {alias: self._node(alias) for alias in range(1, nodes + 1)}
        self.gateway = self.coordinator("gateway")

    # --- processes ---

    def _incarnation(self, name: str) -> Incarnation:
        made = Incarnation(name, len(self.incarnations), self.loop, self.trace)
        self.incarnations.append(made)
        return made

    def _node(self, alias: int) -> Node:
        identity = Identity(alias.to_bytes(32, "big"))
        node = Node(alias, identity, Platter(f"{self.seed}/disk{alias}", 1024 * MIB))
        self.table.rows[alias] = Candidate(
            alias=alias,
            node_id=identity.node_id,
            address=Address(node.host, 7000),
            operator=f"operator-{alias}",
            site=f"site-{alias}",
            region="eu",
            country="DE",
            tier="home",
            state=NodeState.ALIVE,
            full=False,
            free_bytes=256 * MIB,
        )
        return node

    def coordinator(self, name: str = "coordinator") -> Coordinator:
        """Start a coordinator's process; its loops run only after ``repair.start``."""
        life = self._incarnation(name)
        number = life.number
        clock, rng = SimClock(life), SimRng(life, f"{self.seed}/rng{number}")
        database = SimDatabase(life, self.server, f"{self.seed}/database{number}")
        transport = SimPieceTransport(life, self.network)
        compute = SimCompute(life, f"{self.seed}/compute{number}")
        placement = PlacementService(clock, rng, COORDINATOR, self.table, policies=self.policies)
        parts: dict[str, Any] = {
            "clock": clock,
            "rng": rng,
            "database": database,
            "transport": transport,
            "compute": compute,
            "placement": placement,
            "profile": self.profile,
        }
        metering = MeteringService(
            clock,
            database,
            self.table,  # type: ignore[arg-type]
            MeteringConfig(1.0),
            price_of=lambda view: 0,
            slot_ms=10_000,
        )
        repair = RepairService(**parts, accuse=lambda *words: self.accused.append(words))
        return Coordinator(
            incarnation=life,
            database=database,
            transport=transport,
            placement=placement,
            repair=repair,
            offers=RepairOffers(
                clock=clock,
                rng=rng,
                database=database,
                registry=self.table,
                placement=placement,
                repair=repair,
                profile=self.profile,
                done=metering.note_repair,
            ),
            repairer=SegmentRepairer(**parts),
            collection=CollectionService(
                clock=clock,
                database=database,
                transport=transport,
                placement=placement,
                limits=collection_rules.LOCAL,
            ),
        )

    async def start_node(self, alias: int) -> None:
        """Start a node's process on its medium; the table says it is alive."""
        node = self.nodes[alias]
        life = node.incarnation = self._incarnation(f"node{alias}")
        name = f"{self.seed}/{life.name}#{life.number}"
        clock = SimClock(life)
        store = node.store = PieceStore(
            SimDisk(life, node.platter, f"{name}/disk"),
            SimCompute(life, f"{name}/compute"),
            clock,
            SimRng(life, f"{name}/rng"),
            STORE,
        )
        await life.start(store.open())
        config = NodeConfig(
            operator=f"operator-{alias}",
            site=f"site-{alias}",
            region="eu",
            country="DE",
            tier="home",
            host=node.host,
            port=7000,
            store=STORE,
        )
        desk = OrderDesk(node.identity.node_id, {COORDINATOR.public_key: b""}, clock, 60_000)
        self.network.listen(
            node.host, 7000, life, NodeApp(store, node.identity, config, clock, desk)
        )
        self.see(alias, NodeState.ALIVE)

    def kill_node(self, alias: int, *, noticed: bool = True) -> None:
        """SIGKILL and, in the same moment, the loss of power."""
        node = self.nodes[alias]
        assert node.incarnation is not None
        node.incarnation.crash()
        if noticed:
            self.see(alias, NodeState.DEAD)

    def see(self, alias: int, state: NodeState) -> None:
        """Let the coordinators see a node in a state."""
        self.table.change(alias, state=state)

    # --- time ---

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run the world until a coroutine of the test has ended."""
        return self.loop.run_until_complete(coroutine)

    def main(self, test: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Start all nodes, then run a test."""

        async def whole() -> Result:
            await asyncio.gather(*(self.start_node(alias) for alias in self.nodes))
            return await test()

        return self.run(whole())

    async def until(self, holds: Callable[[], bool], seconds: float = 300.0) -> float:
        """Let virtual time pass until something holds; return how long that took."""
        began = self.loop.time()
        while not holds():
            assert self.loop.time() - began < seconds, "it never came true"
            await asyncio.sleep(0.05)
        return self.loop.time() - began

    def close(self) -> None:
        """End the world."""
        for incarnation in self.incarnations:
            incarnation.crash()
            incarnation.bury()
        self.loop.close()
        self.server.close()

    # --- data ---

    def read(self, function: Callable[[Connection], Result]) -> Result:
        """Ask the database from outside."""
        return self.server.run(function, write=False)

    def segments(self) -> list[StoredSegment]:
        """Return all committed segments."""
        return self.read(lambda c: metadata.segments_after(c, 0, 10_000))

    def queued(self) -> int:
        """Return the length of the repair queue."""
        return self.read(queue.queued)

    def garbage(self) -> dict[int, int]:
        """Return garbage by node, intents included."""
        return self.read(metadata.garbage_counts)

    def counters(self) -> dict[str, int]:
        """Return the counters of the database."""
        return self.read(metadata.read_counters)

    async def upload(self, plain_bytes: int, *, leave_out: int = 0) -> int:
        """Write a segment of random bytes as a gateway would; return its serial.

        ``leave_out`` pieces are not sent: an upload that ended at its usual commit.
        """
        grant = self.gateway.placement.order_segment(
            OrderSegment(bucket=BUCKET, plain_bytes=plain_bytes, gateway_key=GATEWAY.public_key),
            self.gateway.placement.policy_id(BUCKET),
            serial=next(self.serials),
        )
        columns, header = self._columns(grant, plain_bytes)
        roots = [piece_root(column) for column in columns]
        trailer = sign_trailer(GATEWAY, header, roots)
        pieces = []
        for piece in grant.grants[: grant.n - leave_out]:
            mine = replace(header, index=piece.index)
            record = encode_header(mine) + columns[piece.index]
            record += encode_trailer(mine, trailer, crc32c(record))
            assert len(record) == record_bytes(mine)
            await self.gateway.incarnation.start(
                self.gateway.transport.put_piece(
                    Address(piece.host, piece.port),
                    piece_id_of(SegmentId(grant.segment), piece.index),
                    piece.order,
                    parts_of(record),
                    len(record),
                    10,
                )
            )
            pieces.append(StoredPiece(index=piece.index, alias=piece.alias))
        stored = SegmentRecord(
            segment=grant.segment,
            serial=grant.serial,
            plain_bytes=plain_bytes,
            k=grant.k,
            n=grant.n,
            unit_bytes=grant.unit_bytes,
            root=trailer.segment_root,
            wrapped_key=b"",
            pieces=pieces,
        )
        self.server.run(
            lambda c: metadata.insert_segments(c, BUCKET, grant.segment, 0, [stored], 1, 0),
            write=True,
        )
        return self.segments()[-1].serial

    def _columns(self, grant: SegmentGrant, plain_bytes: int) -> tuple[list[bytes], Header]:
        layout = Layout(plain_bytes, grant.k, grant.n, grant.unit_bytes)
        length = layout.piece_bytes
        data = [self.random.randbytes(length) for _ in range(grant.k)]
        parity = [bytearray(length) for _ in range(grant.n - grant.k)]
        codec(grant.k, grant.n).encode(
            [memoryview(column) for column in data], [memoryview(p) for p in parity], length
        )
        columns = [*data, *(bytes(column) for column in parity)]
        payer = self.gateway.placement.payer_tag(BUCKET)
        return columns, Header(
            segment_id=SegmentId(grant.segment),
            index=0,
            k=grant.k,
            n=grant.n,
            unit_bytes=grant.unit_bytes,
            plain_bytes=plain_bytes,
            data_bytes=length,
            payer_tag=payer,
            tlvs=TLVS,
        )

    def delete(self, serial: int) -> None:
        """Delete a segment as the metadata does when its object goes."""
        (segment,) = [s for s in self.segments() if s.serial == serial]
        whole = (segment.stream, 0, metadata.POSITION_END)
        self.server.run(lambda c: metadata.collect_streams(c, [whole], 0), write=True)

    async def wrong_pieces(self) -> list[str]:
        """Read every recorded piece on a node alive; return what is wrong with any."""
        wrong = []
        for segment in self.segments():
            for piece in segment.pieces:
                if self.table.rows[piece.alias].state is NodeState.ALIVE:
                    reason = await self.gateway.incarnation.start(
                        self.gateway.repairer.check_piece(segment, piece)
                    )
                    if reason:
                        wrong.append(f"{segment.serial}/{piece.index}@{piece.alias}: {reason}")
        return wrong

    def at_full_strength(self) -> bool:
        """Say whether every segment has n pieces on n nodes alive."""
        return all(
            len({p.index for p in s.pieces}) == s.n == len(s.pieces)
            and all(self.table.rows[p.alias].state is NodeState.ALIVE for p in s.pieces)
            for s in self.segments()
        )


async def parts_of(record: bytes) -> Any:
    for start in range(0, len(record), 100_000):
        yield record[start : start + 100_000]
