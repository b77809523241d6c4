"""What came is signed for, no more and no less, once for many reads, until its node keeps it."""

import asyncio
from typing import Any

import pytest
from tests.unit.client.cluster import Cluster, SeededRng

from atoll.client import receipts
from atoll.client.receipts import PayingTransport, ReceiptBook
from atoll.client.segment.buffers import BufferPool
from atoll.client.transfer.download import SegmentDownloader
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId
from atoll.core.messages import encode, failure_of
from atoll.core.orders import Action, OrderLimit, serial_of, sign_orders
from atoll.core.ports import Address, PiecePart, Reply
from atoll.core.receipts import (
    RECEIPTS_PATH,
    ReadReceipt,
    gateway_signed,
    parse_read_receipt,
)

GATEWAY = Identity(b"g" * 32)
COORDINATOR = Identity(b"c" * 32)
NODE = Identity(b"n" * 32)
ADDRESS = Address("127.0.0.1", 1)


async def turns() -> None:
    """Let everybody do what is to be done now."""
    for _ in range(10):
        await asyncio.sleep(0)


class StepClock:
    """Sleeps end when the test says so."""

    def __init__(self) -> None:
        self.time_s = 1_000.0
        self._sleeping: list[asyncio.Future[None]] = []

    def now_ms(self) -> int:
        return int(self.time_s * 1000)

    def monotonic(self) -> float:
        return self.time_s

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleeping.append(future)
        await future

    async def pass_s(self, seconds: float) -> None:
        await turns()
        self.time_s += seconds
        sleeping, self._sleeping = self._sleeping, []
        for future in sleeping:
            if not future.done():
                future.set_result(None)
        await turns()


class Wire:
    """A node that takes receipts, or not; and serves zeros."""

    def __init__(self) -> None:
        self.taken: list[ReadReceipt] = []
        self.fault: AtollError | None = None

    async def call(self, address: Address, method: str, path: str, *rest: Any) -> Reply:
        assert (address, method, path) == (ADDRESS, "POST", RECEIPTS_PATH)
        if self.fault is not None:
            if self.fault.kind is Kind.UNREACHABLE:
                raise self.fault
            return Reply(self.fault.meaning.http_status, {}, encode(failure_of(self.fault)))
        body = rest[1]
        assert gateway_signed(body)
        self.taken.append(parse_read_receipt(body))
        return Reply(200, {}, b"")

    async def get_piece(self, *asked: Any) -> bytes:
        return bytes(asked[-2])

    async def open_piece(self, *asked: Any) -> "Wire":
        return self

    async def put_piece(self, *asked: Any) -> bytes:
        return b"receipt"

    async def read_into(self, buffer: memoryview) -> None:
        buffer[:] = bytes(len(buffer))

    async def close(self) -> None:
        return


def order(action: Action = Action.GET, name: int = 1, node: Identity = NODE) -> bytes:
    limit = OrderLimit(
        action, NodeId(node.node_id), SegmentId(b"s" * 16), 1, 0, 1 << 30, 0, 1,
        OrderSerial(bytes([name]) * 16), PayerTag(bytes(16)),
        b"" if action is Action.REPAIR_PUT else GATEWAY.public_key,
    )  # fmt: skip
    return sign_orders(COORDINATOR, [limit])[0]


class Gateway:
    def __init__(self) -> None:
        self.clock, self.wire = StepClock(), Wire()
        self.book = ReceiptBook(GATEWAY, self.wire, self.clock, SeededRng())  # type: ignore[arg-type]
        self.transport = PayingTransport(self.wire, self.book)  # type: ignore[arg-type]

    async def get(self, signed: bytes, length: int, part: PiecePart = PiecePart.DATA) -> None:
        await self.transport.get_piece(ADDRESS, b"p", signed, part, 0, length, 1.0)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_many_reads_are_signed_for_at_once(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.get(order(name=1), 100)
    await gateway.get(order(name=2), 7)
    stream = await gateway.transport.open_piece(ADDRESS, b"p", order(name=3), 0, 500, 1.0)
    for length in (200, 300):
        await stream.read_into(memoryview(bytearray(length)))
    assert gateway.wire.taken == []
    await gateway.clock.pass_s(receipts.SIGN_S)
    (receipt,) = gateway.wire.taken
    assert dict(receipt.entries) == {
        serial_of(order(name=1)): 300,
        serial_of(order(name=2)): 7,
        serial_of(order(name=3)): 500,
    }
    assert (receipt.sequence, receipt.byte_count, receipt.order_count) == (1, 807, 3)
    # The next one goes on from there: so far, not since.
    await gateway.get(order(name=1), 50)
    await gateway.clock.pass_s(receipts.SIGN_S)
    receipt = gateway.wire.taken[-1]
    assert dict(receipt.entries) == {serial_of(order(name=1)): 350}
    assert (receipt.sequence, receipt.byte_count, receipt.order_count) == (2, 857, 3)


async def test_only_customers_reads_of_data_are_signed_for(gateway: Gateway) -> None:
    await gateway.get(order(), 10, PiecePart.TRAILER)
    await gateway.get(order(Action.REPAIR_GET), 10)
    await gateway.get(b"ATOW" + bytes(200), 10)
    stream = await gateway.transport.open_piece(ADDRESS, b"p", order(Action.REPAIR_GET), 0, 9, 1.0)
    await stream.read_into(memoryview(bytearray(9)))
    assert gateway.book.read_bytes == 0


async def test_bytes_that_did_not_come_are_not_signed_for(gateway: Gateway) -> None:
    async def broken(*asked: Any) -> bytes:
        raise AtollError(Kind.UNREACHABLE, "read", "it broke")

    gateway.wire.get_piece = broken  # type: ignore[method-assign]
    with pytest.raises(AtollError):
        await gateway.get(order(), 10)
    assert gateway.book.read_bytes == 0


async def test_much_is_signed_for_at_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "SIGN_BYTES_MAX", 1_000)
    await gateway.get(order(), 999)
    await asyncio.sleep(0)
    assert not gateway.wire.taken
    await gateway.get(order(), 1)
    for _ in range(3):
        await asyncio.sleep(0)
    assert [one.byte_count for one in gateway.wire.taken] == [1_000]


async def test_a_receipt_is_sent_again_until_its_node_takes_it(gateway: Gateway) -> None:
    gateway.wire.fault = AtollError(Kind.UNREACHABLE, "call", "away")
    await gateway.get(order(), 10)
    for _ in range(3):
        await gateway.clock.pass_s(receipts.SIGN_S)
    gateway.wire.fault = None
    await gateway.get(order(), 5)
    await gateway.clock.pass_s(receipts.RETRY_S_MAX)
    await gateway.clock.pass_s(receipts.SIGN_S)
    assert sorted(one.byte_count for one in gateway.wire.taken) == [10, 15]
    assert gateway.book.given_up == 0


async def test_one_that_is_refused_is_given_up(gateway: Gateway) -> None:
    gateway.wire.fault = AtollError(Kind.FORBIDDEN, "take receipt", "not here")
    await gateway.get(order(), 10)
    await gateway.clock.pass_s(receipts.SIGN_S)
    await gateway.clock.pass_s(receipts.SIGN_S)
    assert (gateway.book.given_up, gateway.wire.taken) == (1, [])
    assert gateway.book._running is None, "nothing is left to do"


async def test_what_is_left_is_signed_for_at_the_end(gateway: Gateway) -> None:
    await gateway.get(order(), 10)
    await gateway.book.close()
    assert [one.byte_count for one in gateway.wire.taken] == [10]


async def test_every_way_of_reading_a_segment_is_counted() -> None:
    """With a node that lies, one that is dead and decoding: what nodes sent is what is signed."""
    cluster = Cluster(nodes=12)
    book = ReceiptBook(GATEWAY, cluster, cluster.clock, SeededRng())  # type: ignore[arg-type]
    transport = PayingTransport(cluster, book)  # type: ignore[arg-type]
    segments = await cluster.put(bytes(3 << 20))
    downloader = SegmentDownloader(
        cluster,
        transport,
        cluster_compute(cluster),
        cluster.clock,
        GATEWAY.public_key,
        BufferPool(64 << 20),
    )
    cluster.objects = type(cluster.objects)(cluster.keyring, cluster.uploader, downloader)
    for spoil in (nothing, lie, die):
        spoil(cluster, segments)
        for start, end in ((0, 3 << 20), (100, 200), (0, 300_000)):
            assert len(await cluster.get(segments, start, end)) == end - start
    served = sum(node.bytes_served for node in cluster.nodes)
    assert 0 < book.read_bytes <= served
    await downloader.close()
    await book.close()


def cluster_compute(cluster: Cluster) -> Any:
    return cluster.downloader.compute


def nothing(cluster: Cluster, segments: list[Any]) -> None:
    return


def lie(cluster: Cluster, segments: list[Any]) -> None:
    cluster.holder(segments[0], 1).lies = True


def die(cluster: Cluster, segments: list[Any]) -> None:
    cluster.holder(segments[0], 0).dead = True
