"""The time that beacons prove: a clock set forward frees no locked piece.

A beacon of a slot exists only once two thirds of its verifiers gave their values for that slot,
each by its own clock. The newest one seen, and the time that this process has run since (by the
monotonic clock, which nobody sets), are never ahead of the true time: what is retained is let go
only when this time has come as well as that of the machine's clock.
"""

import logging

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Compute, Disk

_LOG = logging.getLogger(__name__)
FILE = "beacon.time"
SAVE_S = 600.0
"""The file is at most so far behind: so much is waited for twice after a crash."""
AHEAD_MS_MAX = 24 * 3_600_000
"""A beacon further ahead of the machine's clock is not believed: made up, or the clock is wrong."""


class _Kept(msgspec.Struct, frozen=True):
    time_ms: int


class BeaconTime:
    """A lower bound of the time, from beacons; it survives restarts. Nothing before ``load``."""

    def __init__(self, disk: Disk, compute: Compute, clock: Clock) -> None:
        """Know nothing yet."""
        self._disk = disk
        self._compute = compute
        self._clock = clock
        self._time_ms = 0
        self._since_s = 0.0
        """By the monotonic clock, when ``_time_ms`` was true."""
        self._saved_s: float | None = None
        self._warned = False

    async def load(self) -> None:
        """Read what was known before a restart. Raises ``WRONG_FOLDER``."""
        self._take(await self._compute.run(_read, self._disk))

    def now_ms(self) -> int:
        """Return the time that is past for certain; 0 where no beacon was ever seen."""
        if not self._time_ms:
            return 0
        return self._time_ms + int((self._clock.monotonic() - self._since_s) * 1000)

    async def hear(self, beacon_ms: int) -> None:
        """Take the beginning of the slot of a checked beacon."""
        own_ms = self._clock.now_ms()
        if beacon_ms - own_ms > AHEAD_MS_MAX:
            _LOG.warning("a beacon is %d s ahead of our clock", (beacon_ms - own_ms) // 1000)
            return
        if beacon_ms > self.now_ms():
            self._take(beacon_ms)
        if not self._warned and own_ms - self.now_ms() > AHEAD_MS_MAX:
            self._warned = True
            _LOG.warning(
                "our clock is %d s ahead of the beacon: locks end by the beacon; set the clock",
                (own_ms - self.now_ms()) // 1000,
            )
        now_s = self._clock.monotonic()
        if self._saved_s is None or now_s - self._saved_s >= SAVE_S:
            await self.save()

    async def save(self) -> None:
        """Write the time down, durably; nothing where none is known."""
        if self._time_ms:
            body = msgspec.msgpack.encode(_Kept(self.now_ms()))
            await self._compute.run(self._disk.replace, FILE, body)
            self._saved_s = self._clock.monotonic()

    def _take(self, time_ms: int) -> None:
        self._time_ms, self._since_s = time_ms, self._clock.monotonic()


def _read(disk: Disk) -> int:
    if not disk.exists(FILE):
        return 0
    try:
        return msgspec.msgpack.decode(disk.read(FILE), type=_Kept).time_ms
    except msgspec.MsgspecError as cause:
        # Without it a clock set forward would free what is locked.
        raise AtollError(
            Kind.WRONG_FOLDER,
            "start node",
            f"{FILE} cannot be read: {cause}",
            hint=f"look that the clock is right, then remove {FILE}",
        ) from cause
