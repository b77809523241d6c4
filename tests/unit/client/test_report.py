"""What workers tell of nodes: pieces, not requests; seldom; and never to a transfer's harm."""

import asyncio

from tests.unit.coordinator.metadata.world import StillClock

from atoll.client.transfer.report import INTERVAL_S, NODES_MAX, TransferReport
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Answer, Done, Message
from atoll.core.messages.reputation import ReportTransfers, TransferSum

SEGMENT = b"s" * 16


class Coordinator:
    """Takes reports, or is away."""

    def __init__(self) -> None:
        self.reports: list[ReportTransfers] = []
        self.away = False

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        if self.away:
            raise AtollError(Kind.UNREACHABLE, "ask", "away")
        assert isinstance(request, ReportTransfers)
        self.reports.append(request)
        done = Done()
        assert isinstance(done, answer)
        return done


def of(report: ReportTransfers, alias: int) -> TransferSum:
    return next(node for node in report.nodes if node.alias == alias)


def test_a_piece_counts_once_however_often_it_is_read() -> None:
    report = TransferReport(Coordinator(), StillClock())
    for _ in range(50):
        report.read(1, (SEGMENT, 0), 0.010, 0)
        report.failed(2, (SEGMENT, 1), Kind.NOT_FOUND)
        report.failed(3, (SEGMENT, 2), Kind.TIMEOUT)
    told = report.take()
    assert (of(told, 1).reads, of(told, 1).p50_ms, of(told, 1).p95_ms) == (1, 10, 10)
    assert (of(told, 2).refused, of(told, 2).silent) == (1, 0)
    assert (of(told, 3).refused, of(told, 3).silent) == (0, 1)
    report.failed(2, (SEGMENT, 1), Kind.NOT_FOUND)
    assert of(report.take(), 2).refused == 0  # complained of before


def test_long_reads_tell_of_a_rate_and_short_ones_of_a_time() -> None:
    report = TransferReport(Coordinator(), StillClock())
    report.read(1, (SEGMENT, 0), 2.0, 1 << 20)
    for n in range(100):
        report.read(1, (SEGMENT, n), n / 1000, 0)
    node = of(report.take(), 1)
    assert node.bytes_per_s == (1 << 20) / 2
    assert 36 <= node.p50_ms <= 99
    assert node.p95_ms >= node.p50_ms


def test_only_want_of_room_is_told_of_uploads() -> None:
    report = TransferReport(Coordinator(), StillClock())
    report.put(1, None)
    report.put(1, AtollError(Kind.DISK_FULL, "put", "full"))
    report.put(1, AtollError(Kind.TIMEOUT, "put", "slow"))
    assert (of(report.take(), 1).puts, report.take().nodes) == (1, [])
    report.put(1, AtollError(Kind.DISK_FULL, "put", "full"))
    assert of(report.take(), 1).full == 1


async def test_reports_go_out_seldom_and_a_coordinator_that_is_away_costs_nothing() -> None:
    coordinator, clock = Coordinator(), StillClock()
    report = TransferReport(coordinator, clock, "eu")
    for n in range(100):
        report.read(1, (SEGMENT, n), 0.01, 0)
    await asyncio.sleep(0)
    assert coordinator.reports == []
    clock.time_ms += round(INTERVAL_S * 1000)
    report.read(1, (SEGMENT, 100), 0.01, 0)
    report.read(1, (SEGMENT, 101), 0.01, 0)
    await asyncio.sleep(0)
    assert [(r.region, of(r, 1).reads) for r in coordinator.reports] == [("eu", 101)]
    coordinator.away = True
    clock.time_ms += round(INTERVAL_S * 1000)
    report.read(1, (SEGMENT, 102), 0.01, 0)
    await asyncio.sleep(0)
    coordinator.away = False
    clock.time_ms += round(INTERVAL_S * 1000)
    report.read(1, (SEGMENT, 103), 0.01, 0)
    await asyncio.sleep(0)
    assert len(coordinator.reports) == 2
    await report.close()


def test_nodes_and_complaints_are_bounded() -> None:
    report = TransferReport(Coordinator(), StillClock())
    for alias in range(NODES_MAX + 5):
        report.failed(alias, (SEGMENT, alias), Kind.CORRUPT)
    assert len(report.take().nodes) == NODES_MAX
    assert len(report._complained) <= 4096
