"""A small cloud in memory: nodes that check what they take, with faults to order."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Buffer

from atoll.client.keys import Keyring
from atoll.client.objects import SegmentedObjects
from atoll.client.segment.buffers import BufferPool
from atoll.client.transfer.download import DownloadLimits, SegmentDownloader
from atoll.client.transfer.upload import SegmentUploader, UploadLimits
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId
from atoll.core.messages import (
    BucketInfo,
    Done,
    GrantList,
    GrantReads,
    Message,
    OrderSegment,
    PieceGrant,
    ReplaceGrants,
    ReportLiar,
    SegmentGrant,
)
from atoll.core.messages.reputation import ReportTransfers
from atoll.core.orders import (
    ANY_INDEX,
    Action,
    OrderLimit,
    PieceReceipt,
    check_order,
    sign_orders,
    sign_receipt,
)
from atoll.core.pieces import RecordChecker, trailer_bytes
from atoll.core.ports import Address, PiecePart, Reply
from atoll.core.scheme import Scheme, layout_for, scheme_for

BUCKET = BucketInfo(
    bucket=b"b" * 16,
    account=b"a" * 16,
    name="bucket",
    region="eu",
    mode="managed",
    created_ms=0,
)


class TestClock:
    __test__ = False

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededRng:
    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def uniform(self) -> float:
        return self._random.random()

    def sample(self, population: Any, count: int) -> list[Any]:
        return self._random.sample(population, count)


class InlineCompute:
    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


@dataclass
class MemoryNode:
    """A node: honest and quick unless told otherwise."""

    alias: int
    identity: Identity
    pieces: dict[bytes, bytes] = field(default_factory=dict)
    heads: dict[bytes, int] = field(default_factory=dict)
    dead: bool = False
    refuses: Kind | None = None
    refuses_reads: Kind | None = None
    hangs_on_put: bool = False
    hangs_on_get: bool = False
    dies_after_bytes: int | None = None
    """Of an upload: takes so many bytes, then is dead."""
    stalls_after_bytes: int | None = None
    lies: bool = False
    lies_at: int = 0
    """Which byte of what it serves it changes when it lies; -1 is the last."""
    lies_once: bool = False
    dies_after_reads: int | None = None
    cuts_streams: int = 0
    """So many streams to come are cut after their first part, as if they had stood still."""
    puts: int = 0
    gets: int = 0
    bytes_served: int = 0

    def check_alive(self) -> None:
        if self.dead:
            raise AtollError(Kind.UNREACHABLE, "call", "connection refused", about=str(self.alias))

    def serve(self, piece_id: bytes, part: PiecePart, offset: int, length: int) -> bytes:
        if self.refuses_reads is not None:
            raise AtollError(self.refuses_reads, "get piece", "refused")
        record = self.pieces.get(piece_id)
        if record is None:
            raise AtollError(Kind.NOT_FOUND, "get piece", "no such piece")
        head, n = self.heads[piece_id] >> 8, self.heads[piece_id] & 255
        if part is PiecePart.HEAD:
            return record[:head]
        data = record[head : len(record) - trailer_bytes(n)]
        if part is PiecePart.TRAILER:
            return record[len(record) - trailer_bytes(n) :]
        served = data[offset : offset + length]
        if self.lies or self.lies_once:
            self.lies_once = False
            changed = bytearray(served)
            changed[self.lies_at] ^= 1
            served = bytes(changed)
        self.bytes_served += len(served)
        return served


async def hang(timeout_s: float) -> None:
    """Answer nothing until the caller's patience is over."""
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        raise AtollError(Kind.TIMEOUT, "call", "no answer in time") from None


class MemoryStream:
    def __init__(self, node: MemoryNode, data: bytes, timeout_s: float) -> None:
        self._node = node
        self._timeout_s = timeout_s
        self._data = memoryview(data)
        self._reads = 0
        self.length = len(data)
        self.closed = False

    async def read_into(self, buffer: memoryview) -> None:
        self._node.check_alive()
        if self._node.hangs_on_get:
            await hang(self._timeout_s)
        self._reads += 1
        if self._reads > 1 and self._node.cuts_streams:
            self._node.cuts_streams -= 1
            raise AtollError(Kind.UNREACHABLE, "read piece", "the stream broke")
        if self._node.dies_after_reads is not None:
            self._node.dies_after_reads -= 1
            self._node.dead = self._node.dies_after_reads <= 0
        assert len(buffer) <= len(self._data)
        buffer[:] = self._data[: len(buffer)]
        self._data = self._data[len(buffer) :]

    async def close(self) -> None:
        self.closed = True


class Cluster:
    """Nodes, a transport to them, a control plane, and a client of it all."""

    def __init__(
        self,
        nodes: int = 12,
        *,
        scheme: Scheme | None = None,
        pool_bytes: int = 64 << 20,
        upload: UploadLimits | None = None,
        download: DownloadLimits | None = None,
        compute: Any = None,
    ) -> None:
        self.coordinator = Identity(b"c" * 32)
        self.gateway = Identity(b"g" * 32)
        self.nodes = [
            MemoryNode(alias, Identity(hashlib.sha256(b"node%d" % alias).digest()))
            for alias in range(1, nodes + 1)
        ]
        self.scheme = scheme
        self.rng = SeededRng()
        self.clock = TestClock()
        self.liars: list[ReportLiar] = []
        self.serial = 0
        self.questions: list[Message] = []
        self.streams: list[MemoryStream] = []
        self.puts_running = 0
        self.spares = True
        self.replaces = True
        self.pool = BufferPool(pool_bytes)
        compute = compute or InlineCompute()
        self.uploader = SegmentUploader(
            self, self, compute, self.clock, self.gateway, self.pool,
            upload or UploadLimits(piece_timeout_s=0.2, lag_s=0.1, late_s_min=0.1),
        )  # fmt: skip
        self.downloader = SegmentDownloader(
            self, self, compute, self.clock, self.gateway.public_key, self.pool, download
        )
        self.keyring = Keyring(b"r" * 32, self.rng)
        self.objects = SegmentedObjects(self.keyring, self.uploader, self.downloader)

    # --- what a user of the client does ----------------------------------------------------------

    async def put(self, data: bytes, key: str = "key", cut: int = 100_000) -> list[Any]:
        return await self.objects.write_object(BUCKET, key, len(data), cut_up(data, cut))

    async def get(
        self, segments: list[Any], start: int = 0, end: int | None = None, key: str = "key"
    ) -> bytes:
        size = sum(segment.plain_bytes for segment in segments)
        views = self.objects.read_object(BUCKET, key, segments, start, size if end is None else end)
        return b"".join([bytes(view) async for view in views])

    def holder(self, segment: Any, index: int) -> MemoryNode:
        alias = next(piece.alias for piece in segment.pieces if piece.index == index)
        return self.nodes[alias - 1]

    # --- the control plane -----------------------------------------------------------------------

    async def ask(self, request: Any, answer: Any) -> Any:
        self.questions.append(request)
        if isinstance(request, OrderSegment):
            return self._order(request)
        if isinstance(request, ReplaceGrants):
            free = [
                node
                for node in self.nodes
                if node.alias not in request.used_aliases and not node.dead and self.replaces
            ]
            indexes = request.indexes[: len(free)]
            places = list(zip(indexes, free, strict=False))
            return GrantList(grants=self._grants(Action.PUT, request.segment, places))
        if isinstance(request, GrantReads):
            places = [(piece.index, self.nodes[piece.alias - 1]) for piece in request.pieces]
            return GrantList(grants=self._grants(Action.GET, request.segment, places))
        if isinstance(request, ReportTransfers):
            return Done()  # on a busy machine a test lasts longer than reports wait
        assert isinstance(request, ReportLiar)
        self.liars.append(request)
        return Done()

    def _order(self, request: OrderSegment) -> SegmentGrant:
        scheme = scheme_for(request.plain_bytes, len(self.nodes))
        if scheme.k > 1 and self.scheme is not None:
            scheme = self.scheme
        if len(self.nodes) < scheme.n:
            raise AtollError(Kind.TOO_FEW_NODES, "place", "too few nodes")
        segment = self.rng.bytes(16)
        self.serial += 1
        count = min(scheme.ask, len(self.nodes)) if self.spares else scheme.n
        chosen = self.rng.sample(self.nodes, count)
        indexes = list(range(scheme.n)) + [ANY_INDEX] * (count - scheme.n)
        layout = layout_for(request.plain_bytes, scheme)
        places = list(zip(indexes, chosen, strict=True))
        return SegmentGrant(
            segment=segment,
            serial=self.serial,
            k=scheme.k,
            n=scheme.n,
            durable=scheme.durable,
            commit=scheme.commit,
            unit_bytes=layout.unit_bytes,
            grants=self._grants(Action.PUT, segment, places),
        )

    def _grants(
        self, action: Action, segment: bytes, places: list[tuple[int, MemoryNode]]
    ) -> list[PieceGrant]:
        now = self.clock.now_ms()
        limits = [
            OrderLimit(
                action=action,
                node_id=NodeId(node.identity.node_id),
                segment_id=SegmentId(segment),
                segment_serial=self.serial,
                index=index,
                byte_cap=1 << 30,
                issued_ms=now,
                expires_ms=now + 60_000,
                serial=OrderSerial(self.rng.bytes(16)),
                payer_tag=PayerTag(b"p" * 16),
                gateway_key=self.gateway.public_key,
            )
            for index, node in places
        ]
        return [
            PieceGrant(
                index=index,
                alias=node.alias,
                node_id=node.identity.node_id,
                host="127.0.0.1",
                port=node.alias,
                fingerprint=b"",
                order=order,
            )
            for (index, node), order in zip(
                places, sign_orders(self.coordinator, limits), strict=True
            )
        ]

    # --- the transport ---------------------------------------------------------------------------

    async def put_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> bytes:
        self.puts_running += 1
        try:
            return await self._put(self.nodes[address.port - 1], piece_id, order, body, timeout_s)
        finally:
            self.puts_running -= 1

    async def _put(
        self,
        node: MemoryNode,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        timeout_s: float,
    ) -> bytes:
        node.puts += 1
        node.check_alive()
        limit = check_order(order, {self.coordinator.public_key}, self.clock.now_ms(), 1000)
        assert limit.node_id == node.identity.node_id
        assert limit.action is Action.PUT
        if node.refuses is not None:
            raise AtollError(node.refuses, "put piece", "refused")
        checker, record = RecordChecker(), bytearray()
        async for part in body:
            node.check_alive()
            stalled = node.stalls_after_bytes is not None and len(record) > node.stalls_after_bytes
            if stalled or node.hangs_on_put:
                await hang(timeout_s)
            checker.feed(part)
            record += part
            if node.dies_after_bytes is not None and len(record) >= node.dies_after_bytes:
                node.dead = True
                node.check_alive()
            await asyncio.sleep(0)
        trailer = checker.finish()
        header = checker.header
        assert header is not None
        assert header.piece_id == piece_id
        assert limit.index in (header.index, ANY_INDEX)
        assert header.payer_tag == limit.payer_tag
        node.pieces[piece_id] = bytes(record)
        node.heads[piece_id] = header.head_bytes << 8 | header.n
        return sign_receipt(
            node.identity,
            PieceReceipt(
                node_id=NodeId(node.identity.node_id),
                segment_id=header.segment_id,
                index=header.index,
                piece_root=trailer.piece_roots[header.index],
                serial=limit.serial,
                time_ms=self.clock.now_ms(),
            ),
        )

    async def get_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        part: PiecePart,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> bytes:
        node = self.nodes[address.port - 1]
        node.gets += 1
        node.check_alive()
        if node.hangs_on_get:
            await hang(timeout_s)
        await asyncio.sleep(0)
        return node.serve(piece_id, part, offset, length)

    async def open_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> MemoryStream:
        node = self.nodes[address.port - 1]
        node.gets += 1
        node.check_alive()
        stream = MemoryStream(node, node.serve(piece_id, PiecePart.DATA, offset, length), timeout_s)
        self.streams.append(stream)
        return stream

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        raise AssertionError("nothing calls a node here")


async def cut_up(data: bytes, cut: int) -> AsyncIterator[memoryview]:
    """Yield the data in parts, each in a buffer that is overwritten afterwards."""
    for start in range(0, len(data), cut):
        part = bytearray(data[start : start + cut])
        yield memoryview(part)
        part[:] = bytes(len(part))


def pattern(size: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(size)
