"""The machines of a world: what survives a crash, and how a process starts on it again."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import lru_cache

from typing_extensions import Buffer

from atoll.client.keys import Keyring
from atoll.client.locking import ObjectLocks
from atoll.client.objects import SegmentedObjects
from atoll.client.packing.pack import Packer
from atoll.client.packing.upgrade import Upgrader
from atoll.client.receipts import PayingTransport, ReceiptBook
from atoll.client.recovery.control import ManifestControl
from atoll.client.recovery.writer import ManifestWriter
from atoll.client.remote import RemoteControl
from atoll.client.segment.buffers import BufferPool
from atoll.client.transfer.download import SegmentDownloader
from atoll.client.transfer.upload import SegmentUploader
from atoll.coordinator.app import Coordinator
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.messages import (
    Answer,
    BucketInfo,
    CommitObject,
    CommitPart,
    CompletePart,
    CompleteUpload,
    Condition,
    ControlPlane,
    CreateUpload,
    DeletedKeys,
    DeleteObjects,
    Done,
    ListObjects,
    Message,
    ObjectFacts,
    ObjectInfo,
    ObjectList,
    ObjectRead,
    PartInfo,
    ReadObject,
    UploadInfo,
)
from atoll.core.ports import Address
from atoll.gateway.app import Gateway
from atoll.gateway.config import GatewayConfig
from atoll.gateway.s3.codec.compiled import Codec, compile_codec
from atoll.node.config import DAY_MS, NodeConfig, StoreConfig
from atoll.node.service import NodeService
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.customer import ACCESS_KEY, GATEWAY_ADDRESS, REGION, SECRET
from atoll.sim.database import SimDatabase
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Fenced, Incarnation
from atoll.sim.rng import SimRng
from atoll.sim.surroundings import Surroundings
from atoll.sim.transport import SimPieceTransport

PACKING_PAUSE_S = 2.0
"""Rest of a simulated packer after a fault."""
ACCOUNT = hashlib.sha256(b"the customer").digest()[:16]
NODE_PORT = 7000
COORDINATOR_ADDRESS = Address("127.0.0.1", 8000)
START_S_MAX = 60.0
"""A process that is not up after so many virtual seconds does not start at all."""
KIB = 1 << 10
SHORT_TRASH_MS = 8_000
PART_BYTES_MIN = 5 << 20


class Machine:
    """Something that runs one process at a time and keeps what that process made durable."""

    def __init__(self, world: Surroundings, name: str) -> None:
        self.world = world
        self.name = name
        self.incarnation: Incarnation | None = None
        self.starts = 0
        self.gone = False
        """It will never come back."""

    @property
    def up(self) -> bool:
        """Whether a process runs on it."""
        return self.incarnation is not None and not self.incarnation.dead

    def crash(self) -> None:
        """Kill its process, if one runs."""
        if self.incarnation is not None:
            self.incarnation.crash()

    async def start(self) -> None:
        """Start a process; return when it serves, or died in trying."""
        if self.up:
            return
        self.starts += 1
        life = self.incarnation = self.world.incarnation(self.name)
        starting = life.start(self._begin(life))
        ended = asyncio.create_task(life.ended.wait())
        done, _ = await asyncio.wait(
            {starting, ended}, timeout=START_S_MAX, return_when=asyncio.FIRST_COMPLETED
        )
        ended.cancel()
        if not done:
            self.world.violated(f"{self.name} did not start in {START_S_MAX:g} s")
            life.crash()
        elif starting in done:
            self._judge(starting, life)
        self.world.trace.note("start", f"{self.name}#{self.starts} {'down' if life.dead else 'up'}")

    def _judge(self, starting: "asyncio.Task[None]", life: Incarnation) -> None:
        """Look at a start that ended. Raises what is no failure but a bug."""
        if starting.cancelled() or isinstance(starting.exception(), Fenced):
            return
        try:
            starting.result()
        except AtollError as error:
            # Its disk's faults may keep it from starting: its supervisor will try again.
            self.world.trace.note("failed start", f"{self.name} {error.kind.value}")
            life.crash()

    async def _begin(self, life: Incarnation) -> None:
        raise NotImplementedError

    def seed(self, what: str) -> str:
        """Return a seed of its own for this start."""
        return f"{self.world.seed}/{self.name}/{self.starts}/{what}"


class NodeMachine(Machine):
    """A provider's node."""

    def __init__(self, world: Surroundings, number: int, capacity_bytes: int, skew_ms: int) -> None:
        """A node of its own operator, site and network."""
        super().__init__(world, f"node{number}")
        self.number = number
        self.skew_ms = skew_ms
        self.address = Address(f"127.0.{number}.1", NODE_PORT)
        self.honest_capacity_bytes = capacity_bytes + (8 << 20)
        self.platter = Platter(f"{world.seed}/{self.name}/platter", self.honest_capacity_bytes)
        self.identity = Identity(world.seeded(f"{self.name}/identity"))
        self.receipts: set[bytes] = set()
        """Pieces it acknowledged and must never lose, as long as its disk is honest."""
        self.moves_pieces = False
        """Its provider leaves or shrinks just now."""
        self.ever_moved = False
        """What it moved elsewhere is nothing that it lost."""
        self.service: NodeService | None = None
        self.config = NodeConfig(
            operator=f"operator{number}",
            site=f"site{number}",
            region="sim",
            country="PT",
            tier="home",
            host=self.address.host,
            port=self.address.port,
            coordinators=(COORDINATOR_ADDRESS,),
            watch_interval_s=2.0,
            store=StoreConfig(
                capacity_bytes=capacity_bytes,
                log_bytes=4 << 20,
                log_step_bytes=512 * KIB,
                reserve_bytes=2 << 20,
                maintenance_interval_s=10.0,
                scrub_bytes_per_s=16 << 20,
                scrub_pause_s=60.0,
                trash_ms=SHORT_TRASH_MS if world.scenario.short_trash_chance else DAY_MS,
            ),
        )

    async def _begin(self, life: Incarnation) -> None:
        clock = SimClock(life, skew_ms=self.skew_ms)
        service = self.service = NodeService(
            clock,
            SimRng(life, self.seed("rng")),
            SimDisk(life, self.platter, self.seed("disk")),
            SimCompute(life, self.seed("compute")),
            SimPieceTransport(life, self.world.network),
            self.identity,
            self.config,
        )
        direct = self.world.reachable(self)
        await service.start()
        self.world.started(self)
        if direct:
            self.world.network.listen(self.address.host, self.address.port, life, service.app)


class CoordinatorMachine(Machine):
    """A coordinator over the world's database, which outlives it."""

    def __init__(self, world: Surroundings) -> None:
        """The one coordinator."""
        super().__init__(world, "coordinator")
        self.identity = Identity(world.seeded("coordinator/identity"))
        self.service: Coordinator | None = None

    async def _begin(self, life: Incarnation) -> None:
        service = self.service = Coordinator(
            SimClock(life),
            SimRng(life, self.seed("rng")),
            SimDatabase(life, self.world.database, self.seed("database")),
            SimPieceTransport(life, self.world.network),
            SimCompute(life, self.seed("compute")),
            self.identity,
            self.world.coordinator_config(),
            loops=True,
        )
        await service.start()
        await service.metadata.create_credential(ACCOUNT, "customer", ACCESS_KEY, SECRET)
        host, port = COORDINATOR_ADDRESS.host, COORDINATOR_ADDRESS.port
        self.world.network.listen(host, port, life, service.app)


class GatewayMachine(Machine):
    """A gateway: the data's way, and the control plane over the network or in process."""

    def __init__(self, world: Surroundings) -> None:
        """The one gateway."""
        super().__init__(world, "gateway")
        self.shares_database = bool(world.scenario.shared_chance)
        self.identity = Identity(world.seeded("gateway/identity"))
        self.root = world.seeded("account/root")
        self.control: ControlPlane | None = None
        self.objects: SegmentedObjects | None = None
        self.packer: Packer | None = None
        self.locks: ObjectLocks | None = None
        self.books: list[ReceiptBook] = []
        """What it read and signed for, life by life."""

    async def _begin(self, life: Incarnation) -> None:
        clock = SimClock(life)
        transport = SimPieceTransport(life, self.world.network)
        compute = SimCompute(life, self.seed("compute"))
        control = await self._control(life, clock, transport, compute)
        buffers = BufferPool(32 << 20)
        rng = SimRng(life, self.seed("rng"))
        self.control = control
        keyring = Keyring(self.root, rng)
        uploader = SegmentUploader(control, transport, compute, clock, self.identity, buffers)
        self.books.append(ReceiptBook(self.identity, transport, clock, rng))
        paying = PayingTransport(transport, self.books[-1])
        downloader = SegmentDownloader(
            control, paying, compute, clock, self.identity.public_key, buffers
        )
        if self.world.scenario.recoverable:
            writer = ManifestWriter(control, keyring, uploader, clock, rng)
            self.writing = asyncio.create_task(writer.run())
            control = self.control = ManifestControl(control, writer)
        self.objects = SegmentedObjects(keyring, uploader, downloader)
        self.packer = Packer(control, keyring, uploader, downloader, clock, rng)
        if self.world.scenario.packing_chance:
            self.packing = asyncio.create_task(self._pack(self.packer))
        if self.world.scenario.upgrades:
            upgrader = Upgrader(control, keyring, uploader, downloader, clock, rng)
            self.upgrading = asyncio.create_task(self._upgrade(upgrader))
        self.locks = ObjectLocks(
            control, keyring, self.objects, paying, clock, self.identity.public_key
        )
        door = Gateway(
            control=control,
            objects=self.objects,
            locks=self.locks,
            clock=clock,
            rng=rng,
            compute=compute,
            config=GatewayConfig(region=REGION),
            codec=_codec(),
        )
        self.world.network.listen(GATEWAY_ADDRESS.host, GATEWAY_ADDRESS.port, life, door.app)

    async def _pack(self, packer: Packer) -> None:
        """Run the packer as a gateway does; the trace counts what it moved."""
        while True:
            before = packer.counts.moved
            try:
                pause_s = await packer.step()
            except AtollError:
                pause_s = PACKING_PAUSE_S
            if packer.counts.moved > before:
                self.world.trace.note("packed", str(packer.counts.moved - before))
            await asyncio.sleep(pause_s)

    async def _upgrade(self, upgrader: Upgrader) -> None:
        """Run the upgrader as a gateway does; the trace counts what it copied, also in vain."""
        counts = upgrader.counts
        while True:
            before = counts.upgraded, counts.overtaken
            try:
                pause_s = await upgrader.step()
            except AtollError:
                pause_s = PACKING_PAUSE_S
            if (counts.upgraded, counts.overtaken) != before:
                done, vain = counts.upgraded - before[0], counts.overtaken - before[1]
                self.world.trace.note("upgraded", f"{done}, {vain} in vain")
            await asyncio.sleep(pause_s)

    async def _control(
        self, life: Incarnation, clock: SimClock, transport: SimPieceTransport, compute: SimCompute
    ) -> ControlPlane:
        if not self.shares_database:
            return RemoteControl(transport, [COORDINATOR_ADDRESS], self.identity, clock)
        # A worker that shares the database holds the coordinator's key: it signs orders itself.
        worker = Coordinator(
            clock,
            SimRng(life, self.seed("worker")),
            SimDatabase(life, self.world.database, self.seed("database")),
            transport,
            compute,
            self.world.coordinator.identity,
            self.world.coordinator_config(),
            loops=False,
        )
        await worker.start()
        return worker

    # What customers have it do; each runs in its incarnation.

    async def put(self, bucket: BucketInfo, key: str, data: bytes, *, new: bool = False) -> None:
        """Store an object; with ``new`` only if there is none of that key."""
        assert self.objects is not None
        assert self.control is not None
        segments = await self.objects.write_object(bucket, key, len(data), _source(data))
        commit = CommitObject(
            bucket=bucket.bucket,
            key=key,
            facts=_facts(len(data)),
            segments=segments,
            condition=Condition(if_none_match="*" if new else ""),
        )
        await self.control.ask(commit, ObjectInfo)

    async def put_parts(self, bucket: BucketInfo, key: str, data: bytes) -> None:
        """Store an object as a multipart upload; parts are as small as parts may be."""
        assert self.objects is not None
        question = CreateUpload(bucket=bucket.bucket, key=key, facts=_facts(0))
        upload = (await self.ask(question, UploadInfo)).upload
        parts: list[CompletePart] = []
        for number, begin in enumerate(range(0, len(data), PART_BYTES_MIN), 1):
            part = data[begin : begin + PART_BYTES_MIN]
            segments = await self.objects.write_object(bucket, key, len(part), _source(part))
            info = PartInfo(number=number, size=len(part), etag=f"{number:032x}", modified_ms=0)
            await self.ask(
                CommitPart(
                    bucket=bucket.bucket, key=key, upload=upload, part=info, segments=segments
                ),
                Done,
            )
            parts.append(CompletePart(number=number, etag=info.etag))
        complete = CompleteUpload(
            bucket=bucket.bucket, key=key, upload=upload, parts=parts, facts=_facts(len(data))
        )
        await self.ask(complete, ObjectInfo)

    async def get(self, bucket: BucketInfo, key: str, start: int, end: int | None) -> bytes:
        """Read a range of an object (``end`` None: to its end)."""
        assert self.objects is not None
        found = await self.ask(ReadObject(bucket=bucket.bucket, key=key), ObjectRead)
        size = found.info.facts.size
        last = size if end is None else min(end, size)
        data = bytearray()
        stream = self.objects.read_object(bucket, key, found.segments, min(start, last), last)
        async with aclosing(stream) as views:
            async for view in views:
                data += view
        return bytes(data)

    async def delete(self, bucket: BucketInfo, key: str) -> None:
        """Remove an object."""
        await self.ask(DeleteObjects(bucket=bucket.bucket, keys=[key]), DeletedKeys)

    async def listing(self, bucket: BucketInfo) -> dict[str, int]:
        """Return all keys with their sizes."""
        found: dict[str, int] = {}
        after = ""
        while True:
            question = ListObjects(bucket=bucket.bucket, after=after, limit=50)
            page = await self.ask(question, ObjectList)
            found |= {one.key: one.facts.size for one in page.objects}
            if not page.truncated:
                return found
            after = page.next_after

    async def ask(self, question: Message, answer: type[Answer]) -> Answer:
        """Ask the control plane."""
        assert self.control is not None
        return await self.control.ask(question, answer)


@lru_cache(maxsize=1)
def _codec() -> Codec:
    """Compile the S3 model once per process."""
    return compile_codec()


def _facts(size: int) -> ObjectFacts:
    return ObjectFacts(size=size, etag="0" * 32, content_type="application/octet-stream")


async def _source(data: bytes) -> AsyncIterator[Buffer]:
    step = 50_000
    for begin in range(0, len(data), step):
        await asyncio.sleep(0)
        yield memoryview(data)[begin : begin + step]
