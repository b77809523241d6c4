"""Disguised reads alone, of true nodes: what is told of whom, and how often is read."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.unit.coordinator.repair.world import GATEWAY, Cloud
from typing_extensions import override

from atoll.coordinator.audit.reads import READS_AT_ONCE_MAX, START_S_MAX, DisguisedReads
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.orders import LIMIT_BYTES, Action, issued_with, parse_order
from atoll.core.ports import Address, PiecePart
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.disk import Platter
from atoll.sim.network import NetworkFaults
from atoll.sim.rng import SimRng
from atoll.sim.transport import SimPieceStream, SimPieceTransport

CUSTOMERS = (GATEWAY.public_key, Identity(b"h" * 32).public_key)
PLAIN_BYTES = 5 << 20
PERIOD_MS = 100_000


class Wire(SimPieceTransport):
    """The transport of the reads, tapped."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.orders: list[bytes] = []
        self.gone: int = 0
        """A segment that is deleted while it is being read."""
        self.cloud: Cloud

    @override
    async def open_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> SimPieceStream:
        self.orders.append(order)
        if self.gone:
            self.cloud.delete(self.gone)
        return await super().open_piece(address, piece_id, order, offset, length, timeout_s)

    @override
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
        self.orders.append(order)
        return await super().get_piece(address, piece_id, order, part, offset, length, timeout_s)


@dataclass
class Told:
    """One observation."""

    alias: int
    ok: bool
    piece: bytes
    reason: str


class Reader:
    """Disguised reads in a cloud, and what they told."""

    def __init__(
        self,
        cloud: Cloud,
        *,
        period_ms: int = PERIOD_MS,
        customers: tuple[bytes, ...] = CUSTOMERS,
    ) -> None:
        self.cloud = cloud
        process = cloud.coordinator()
        self.life = process.incarnation
        self.wire = Wire(self.life, cloud.network)
        self.wire.cloud = cloud
        self.told: list[Told] = []
        self.reads = DisguisedReads(
            clock=SimClock(self.life),
            rng=SimRng(self.life, "reads"),
            database=process.database,
            transport=self.wire,
            compute=SimCompute(self.life, "reads"),
            placement=process.placement,
            retrievals=self,
            customers=customers,
            period_ms=period_ms,
        )

    def observe_retrieval(
        self, alias: int, ok: bool, *, piece: bytes = b"", reason: str = "", evidence: str = ""
    ) -> None:
        self.told.append(Told(alias, ok, piece, reason))

    async def read(self, alias: int) -> bool | None:
        return await self.life.start(self.reads.read(self.cloud.table.rows[alias]))

    async def step(self) -> None:
        await self.life.start(self.reads.step())


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud("reads")
    yield made
    made.close()


def holder(cloud: Cloud) -> tuple[int, bytes]:
    """A node and the id of the only piece it holds."""
    (segment,) = cloud.segments()
    piece = segment.pieces[0]
    return piece.alias, piece_id_of(SegmentId(segment.segment), piece.index)


def test_a_node_that_serves_is_told_as_such_and_cannot_tell_who_asked(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(PLAIN_BYTES)
        alias, piece = holder(cloud)
        reader = Reader(cloud)
        seen = set()
        for _ in range(12):
            assert await reader.read(alias) is True
        assert reader.told == [Told(alias, True, piece, "")] * 12
        for order in reader.wire.orders:
            limit = parse_order(order)
            assert limit.action is Action.GET
            # Receipts would be taken for it as for a customer's.
            assert issued_with(cloud.gateway.placement.settlement_key, order[:LIMIT_BYTES])
            seen.add(limit.gateway_key)
        # In the name of gateways in use, not always of the same one.
        assert seen == set(CUSTOMERS)

    cloud.main(main)


def test_wrong_bytes_are_told(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(PLAIN_BYTES)
        alias, piece = holder(cloud)
        cloud.network.let_lie(f"node{alias}")
        reader = Reader(cloud)
        assert await reader.read(alias) is False
        assert reader.told == [Told(alias, False, piece, "wrong")]
        assert (reader.reads.reads, reader.reads.refused) == (1, 1)

    cloud.main(main)


def test_a_node_that_no_longer_has_it_is_told(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(PLAIN_BYTES)
        alias, piece = holder(cloud)
        cloud.kill_node(alias)
        cloud.nodes[alias].platter = Platter("empty", 1 << 30)
        await cloud.start_node(alias)
        reader = Reader(cloud)
        assert await reader.read(alias) is False
        assert reader.told == [Told(alias, False, piece, "refused: not_found")]

    cloud.main(main)


def test_a_node_that_says_it_is_busy_is_slow(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(PLAIN_BYTES)
        alias, piece = holder(cloud)
        cloud.network.let_refuse(f"node{alias}")
        reader = Reader(cloud)
        assert await reader.read(alias) is False
        assert reader.told == [Told(alias, False, piece, "slow")]

    cloud.main(main)


def test_an_answer_that_does_not_come_is_slow(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(PLAIN_BYTES)
        alias, piece = holder(cloud)
        cloud.network.faults = NetworkFaults(stall=1.0, stall_s=START_S_MAX + 5)
        reader = Reader(cloud)
        assert await reader.read(alias) is False
        assert reader.told == [Told(alias, False, piece, "slow")]

    cloud.main(main)


def test_nothing_is_told_of_a_node_that_is_away_or_has_nothing(cloud: Cloud) -> None:
    async def main() -> None:
        reader = Reader(cloud)
        assert await reader.read(1) is None
        await cloud.upload(PLAIN_BYTES)
        alias, _ = holder(cloud)
        cloud.kill_node(alias, noticed=False)
        assert await reader.read(alias) is None
        assert (reader.told, reader.reads.refused) == ([], 0)

    cloud.main(main)


def test_a_piece_deleted_meanwhile_is_held_against_nobody(cloud: Cloud) -> None:
    async def main() -> None:
        reader = Reader(cloud)
        reader.wire.gone = await cloud.upload(PLAIN_BYTES)
        alias, _ = holder(cloud)
        cloud.network.let_refuse(f"node{alias}")
        assert await reader.read(alias) is None
        assert (reader.told, reader.reads.refused) == ([], 0)

    cloud.main(main)


def test_each_node_is_read_about_once_in_a_period(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(9 << 10)
        nodes = len({piece.alias for piece in cloud.segments()[0].pieces})
        reader = Reader(cloud)
        began = cloud.loop.time()
        await reader.step()
        assert reader.reads.reads == 0
        steps = 1_000
        for _ in range(steps):
            await reader.life.start(pause(PERIOD_MS / 1000 / 50))
            await reader.step()
        periods = (cloud.loop.time() - began) * 1000 / PERIOD_MS
        # 4 standard deviations of a Poisson count.
        expected = nodes * periods
        assert abs(reader.reads.reads - expected) < 4 * expected**0.5
        assert all(one.ok for one in reader.told)

    cloud.main(main)


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_after_a_long_pause_few_are_read_at_once(cloud: Cloud) -> None:
    async def main() -> None:
        await cloud.upload(9 << 10)
        await cloud.upload(PLAIN_BYTES)
        reader = Reader(cloud)
        await reader.step()
        await reader.life.start(pause(10 * PERIOD_MS / 1000))
        await reader.step()
        assert 0 < reader.reads.reads <= READS_AT_ONCE_MAX

    cloud.main(main)


def test_where_more_are_due_than_can_be_read_every_node_has_its_share(cloud: Cloud) -> None:
    async def main() -> None:
        for _ in range(3):
            await cloud.upload(9 << 10)
        reader = Reader(cloud, period_ms=1_000)
        await reader.step()
        for _ in range(90):
            await reader.life.start(pause(1.0))
            await reader.step()
        told = Counter(one.alias for one in reader.told)
        holders = {piece.alias for segment in cloud.segments() for piece in segment.pieces}
        assert told.keys() == holders
        # 360 reads drawn of 12 nodes, 30 each.
        assert max(told.values()) < 3 * min(told.values())

    cloud.main(main)


@pytest.mark.parametrize(("period_ms", "customers"), [(0, CUSTOMERS), (PERIOD_MS, ())])
def test_without_a_period_or_gateways_nothing_is_read(
    cloud: Cloud, period_ms: int, customers: tuple[bytes, ...]
) -> None:
    async def main() -> None:
        await cloud.upload(9 << 10)
        reader = Reader(cloud, period_ms=period_ms, customers=customers)
        for _ in range(3):
            await reader.step()
            await reader.life.start(pause(PERIOD_MS / 1000))
        assert reader.reads.reads == 0

    cloud.main(main)
