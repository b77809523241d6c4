"""What the line may carry: bytes per second in each direction, bytes in a calendar month.

The month's figure is kept on disk every minute, so a crash forgets at most that.
Ninety percent of it are for everybody; from there on nothing new is taken, so that what is held can
still be read to the end of the month. At a hundred percent only those are served who keep data
alive: repair, verifiers, the data's owner.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.orders import Action
from atoll.core.ports import Clock, Compute, Disk

TRAFFIC_FILE = "node.traffic"
NEW_PIECES_PERCENT = 90
"""Share of the month's traffic from which no new pieces are taken."""
BURST_S = 1.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SERVED_ALWAYS = frozenset({Action.REPAIR_GET, Action.AUDIT})


class _Month(msgspec.Struct, frozen=True, tag=True):
    """The content of ``node.traffic``."""

    month: str = ""
    byte_count: int = 0


class _Bucket:
    """A token bucket: ``take`` says how long to wait."""

    __slots__ = ("_ready_s",)

    def __init__(self) -> None:
        self._ready_s = float("-inf")

    def take(self, now_s: float, count: int, bytes_per_s: int) -> float:
        """Take bytes out; return the seconds until they may move."""
        self._ready_s = max(self._ready_s, now_s - BURST_S) + count / bytes_per_s
        return max(0.0, self._ready_s - now_s)


class TrafficMeter:
    """Counts and bounds what passes; ``load`` ties it to a disk."""

    def __init__(self, clock: Clock) -> None:
        """No limits yet, and nothing counted."""
        self._clock = clock
        self._file: tuple[Disk, Compute] | None = None
        self.bandwidth_bytes_per_s = 0
        self.traffic_bytes_month = 0
        self.eased_bytes_per_s = 0
        """A further bound while the machine is busy with its owner's work; 0 for none."""
        self._in, self._out = _Bucket(), _Bucket()
        self._name = ""
        self._byte_count = 0
        self._until_ms = 0
        """When this month ends."""
        self._saved_bytes = 0

    async def load(self, disk: Disk, compute: Compute) -> None:
        """Read the month's figure; one that cannot be read begins at nothing."""
        self._file = disk, compute
        kept = await compute.run(_read, disk)
        if kept.month == self.month:
            self._byte_count = self._saved_bytes = kept.byte_count

    async def save(self) -> None:
        """Write the month's figure down if it changed."""
        kept = _Month(self.month, self._byte_count)
        if self._file is None or kept.byte_count == self._saved_bytes:
            return
        disk, compute = self._file
        self._saved_bytes = kept.byte_count
        await compute.run(disk.replace, TRAFFIC_FILE, msgspec.msgpack.encode(kept))

    @property
    def month(self) -> str:
        """The calendar month (UTC) that is counted, as ``2026-11``."""
        now_ms = self._clock.now_ms()
        if now_ms >= self._until_ms:
            first = (EPOCH + timedelta(milliseconds=now_ms)).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
            later = (first + timedelta(days=32)).replace(day=1)
            self._until_ms = (later - EPOCH) // timedelta(milliseconds=1)
            name = f"{first:%Y-%m}"
            if name != self._name:
                self._name, self._byte_count, self._saved_bytes = name, 0, 0
        return self._name

    @property
    def month_bytes(self) -> int:
        """Bytes of both directions in this month so far."""
        assert self.month
        return self._byte_count

    @property
    def spent_percent(self) -> int:
        """Share of the month's traffic that is used, in whole percent; 0 without a limit."""
        limit = self.traffic_bytes_month
        return self.month_bytes * 100 // limit if limit else 0

    @property
    def takes_new(self) -> bool:
        """Whether the month has traffic left for new pieces."""
        return self.spent_percent < NEW_PIECES_PERCENT

    def check_write(self) -> None:
        """Raise ``OVERLOADED`` where this month's traffic is kept for what is held already."""
        if not self.takes_new:
            raise AtollError(
                Kind.OVERLOADED, "store piece", "this month's traffic is kept for reads"
            )

    def check_read(self, action: Action) -> None:
        """Raise ``OVERLOADED`` where the month's traffic is spent, unless data live by the read."""
        if self.spent_percent >= 100 and action not in SERVED_ALWAYS:
            raise AtollError(Kind.OVERLOADED, "read piece", "this month's traffic is spent")

    async def came_in(self, count: int) -> None:
        """Count received bytes; wait as long as the line's limit says."""
        await self._pass(self._in, count)

    async def goes_out(self, count: int) -> None:
        """Count bytes about to be sent; wait as long as the line's limit says."""
        await self._pass(self._out, count)

    async def _pass(self, bucket: _Bucket, count: int) -> None:
        assert self.month
        self._byte_count += count
        rate = self.bandwidth_bytes_per_s
        if self.eased_bytes_per_s:
            rate = min(rate or self.eased_bytes_per_s, self.eased_bytes_per_s)
        if rate:
            wait_s = bucket.take(self._clock.monotonic(), count, rate)
            if wait_s > 0:
                await self._clock.sleep(wait_s)


def _read(disk: Disk) -> _Month:
    if not disk.exists(TRAFFIC_FILE):
        return _Month()
    try:
        return msgspec.msgpack.decode(disk.read(TRAFFIC_FILE), type=_Month)
    except (msgspec.MsgspecError, AtollError):
        # A figure, not data: better one month counted short than a node that does not start.
        return _Month()
