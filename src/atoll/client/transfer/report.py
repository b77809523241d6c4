"""What a worker tells the coordinator about nodes: every few seconds, in one small message.

Counted are pieces, not requests: one spoilt piece that many ask for is one complaint, and stays one
for as long as it is remembered.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ControlPlane, Done
from atoll.core.messages.reputation import ReportTransfers, TransferSum
from atoll.core.ports import Clock

INTERVAL_S = 5.0
NODES_MAX = 10_000
PIECES_PER_NODE_MAX = 10_000
"""Pieces told apart per node and report; more count no further."""
REFUSALS_REMEMBERED_MAX = 4096
LATENCIES_KEPT_MAX = 64
RATE_BYTES_MIN = 64 << 10
"""Reads at least this long tell of a rate."""
_SILENT = (Kind.UNREACHABLE, Kind.TIMEOUT)
"""No answer came: the node's fault, or the line's."""

PieceKey = tuple[bytes, int]
"""Segment id and piece index."""


@dataclass(slots=True)
class _Seen:
    reads: set[PieceKey] = field(default_factory=set)
    refused: int = 0
    silent: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    answers: int = 0
    rate_bytes: int = 0
    rate_s: float = 0.0
    puts: int = 0
    full: int = 0


class TransferReport:
    """Collects what transfers meet, and sends it in the background."""

    def __init__(self, control: ControlPlane, clock: Clock, region: str = "") -> None:
        """``region`` is where this worker stands."""
        self._control = control
        self._clock = clock
        self._region = region
        self._nodes: dict[int, _Seen] = {}
        self._complained: OrderedDict[tuple[int, PieceKey], None] = OrderedDict()
        self._sent_s = clock.monotonic()
        self._sending: asyncio.Task[None] | None = None

    def read(self, alias: int, piece: PieceKey, seconds: float, length: int) -> None:
        """Note a read that was answered. ``length`` is 0 where only the answer time matters."""
        seen = self._seen(alias)
        if seen is None:
            return
        if len(seen.reads) < PIECES_PER_NODE_MAX:
            seen.reads.add(piece)
        if length >= RATE_BYTES_MIN:
            seen.rate_bytes += length
            seen.rate_s += seconds
        else:
            if len(seen.latencies_ms) < LATENCIES_KEPT_MAX:
                seen.latencies_ms.append(1000 * seconds)
            else:
                seen.latencies_ms[seen.answers % LATENCIES_KEPT_MAX] = 1000 * seconds
            seen.answers += 1
        self._send_if_due()

    def failed(self, alias: int, piece: PieceKey, kind: Kind) -> None:
        """Note a read that failed, once per piece."""
        seen = self._seen(alias)
        # A node that waits for receipts is in its right; disguised reads see to those who pretend.
        if seen is None or kind in (Kind.CANCELLED, Kind.UNPAID):
            return
        if (alias, piece) not in self._complained:
            self._complained[alias, piece] = None
            while len(self._complained) > REFUSALS_REMEMBERED_MAX:
                self._complained.popitem(last=False)
            seen.silent += kind in _SILENT
            seen.refused += kind not in _SILENT
        self._send_if_due()

    def put(self, alias: int, fault: AtollError | None) -> None:
        """Note a new piece that a node took, or refused for want of room."""
        seen = self._seen(alias)
        if seen is None:
            return
        seen.puts += fault is None
        seen.full += fault is not None and fault.kind is Kind.DISK_FULL
        self._send_if_due()

    async def close(self) -> None:
        """Give up what is being sent."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    def take(self) -> ReportTransfers:
        """Return what was seen since the last time, and begin anew."""
        nodes, self._nodes = self._nodes, {}
        return ReportTransfers(
            region=self._region, nodes=[_sum_of(alias, nodes[alias]) for alias in sorted(nodes)]
        )

    def _seen(self, alias: int) -> _Seen | None:
        seen = self._nodes.get(alias)
        if seen is None and len(self._nodes) < NODES_MAX:
            seen = self._nodes[alias] = _Seen()
        return seen

    def _send_if_due(self) -> None:
        now = self._clock.monotonic()
        if now - self._sent_s < INTERVAL_S or (self._sending and not self._sending.done()):
            return
        self._sent_s = now
        self._sending = asyncio.create_task(self._send(self.take()), name="report transfers")

    async def _send(self, report: ReportTransfers) -> None:
        try:
            await self._control.ask(report, Done)
        except AtollError:
            # The next report comes in a few seconds; transfers must not suffer from this one.
            return


def _sum_of(alias: int, seen: _Seen) -> TransferSum:
    order = sorted(seen.latencies_ms)
    return TransferSum(
        alias=alias,
        reads=len(seen.reads),
        refused=seen.refused,
        silent=seen.silent,
        p50_ms=order[len(order) // 2] if order else 0.0,
        p95_ms=order[(len(order) * 95) // 100] if order else 0.0,
        bytes_per_s=seen.rate_bytes / seen.rate_s if seen.rate_s > 0 else 0.0,
        puts=seen.puts,
        full=seen.full,
    )
