"""What the parts of a store share: logs, index, commit, and who works on which piece."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Compute, Disk
from atoll.node.config import StoreConfig
from atoll.node.store.commit import GroupCommit
from atoll.node.store.index import Index
from atoll.node.store.log import HEAD_BYTES, Envelope, LogFile, extent_bytes, parse_head
from atoll.node.store.logs import Logs
from atoll.node.store.model import Row

REGION_BYTES = 1 << 20
WARM_REGIONS_MAX = 512
"""Regions taken to be in the page cache: the last half GiB touched."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a checked order admits, as far as the store needs it."""

    piece: bytes
    segment: bytes
    serial: bytes
    issued_ms: int
    expires_ms: int
    retention_until_ms: int
    issuer: int
    segment_serial: int
    segment_root: bytes = b""
    """What is stored must be committed to by this root; empty where the order names none."""


@dataclass(slots=True)
class Counts:
    """Events since the start."""

    put_bytes: int = 0
    get_bytes: int = 0
    puts: int = 0
    repeats: int = 0
    deletes: int = 0
    discarded: int = 0
    """Pieces moved to the trash because their coordinator counts them no more."""
    revived: int = 0
    """Pieces read by a new order although they lay in the trash: somebody deleted too much."""
    rotten: int = 0
    compacted_logs: int = 0
    compacted_bytes: int = 0
    scrubbed_bytes: int = 0
    scrub_rounds: int = 0
    errors: int = 0


@dataclass(slots=True, eq=False)
class Watch:
    """Whether anybody decided about a piece since a certain moment."""

    piece: bytes
    stale: bool = False


@dataclass(slots=True)
class Volume:
    """One open store."""

    disk: Disk
    compute: Compute
    clock: Clock
    config: StoreConfig
    logs: Logs
    index: Index
    commit: GroupCommit
    counts: Counts = field(default_factory=Counts)
    beacon_ms: Callable[[], int] = int
    """Time that is past for certain, by beacons, in ms since 1970; 0 where none was ever seen."""
    background_share: float = 1.0
    """Pace of scrub and compaction, above 0 to 1: less while the machine is busy otherwise."""
    disk_slow_until_s: float = 0.0
    """Until then, by the monotonic clock, writes of blocks go through a thread."""
    _busy: dict[bytes, asyncio.Event] = field(default_factory=dict)
    _flying_serials: dict[bytes, list[bytes]] = field(default_factory=dict)
    _watches: dict[bytes, list[Watch]] = field(default_factory=dict)
    _warm: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)

    @asynccontextmanager
    async def alone(self, piece: bytes) -> AsyncIterator[None]:
        """Let one task at a time decide about a piece."""
        while (other := self._busy.get(piece)) is not None:
            await other.wait()
        event = self._busy[piece] = asyncio.Event()
        try:
            yield
        finally:
            del self._busy[piece]
            event.set()
            for watch in self._watches.get(piece, ()):
                watch.stale = True

    def watch(self, piece: bytes) -> Watch:
        """Watch for decisions about a piece until ``unwatch``."""
        watch = Watch(piece)
        self._watches.setdefault(piece, []).append(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """End a watch."""
        watches = self._watches[watch.piece]
        watches.remove(watch)
        if not watches:
            del self._watches[watch.piece]

    # --- orders ---

    def check_serial(self, serial: bytes, piece: bytes) -> bool:
        """Say whether this order was used for this piece before.

        Raises ``REPLAYED`` if it was used, or is being used, for another piece.
        """
        self.check_flying(serial, piece)
        used_for = self.index.spent_for(serial)
        if used_for is not None and used_for != piece:
            raise replayed(piece)
        return used_for is not None

    def check_flying(self, serial: bytes, piece: bytes) -> None:
        """Raise ``REPLAYED`` if the order is being used for another piece."""
        flying = self._flying_serials.get(serial)
        if flying and flying[0] != piece:
            raise replayed(piece)

    def begin_serial(self, serial: bytes, piece: bytes) -> None:
        """Note that an order is being used; every ``begin`` has its ``end``."""
        self._flying_serials.setdefault(serial, []).append(piece)

    def end_serial(self, serial: bytes) -> None:
        """Note that this use of an order is over; by now it is spent, or free again."""
        uses = self._flying_serials[serial]
        uses.pop()
        if not uses:
            del self._flying_serials[serial]

    # --- room ---

    def room_bytes(self) -> int:
        """Return how many bytes of new pieces the volume would take now."""
        if self.commit.failure is not None:
            return 0
        log = self.logs.active
        ahead = log.allocated - log.tail if log is not None else 0
        offered = self.config.capacity_bytes - self.logs.physical_bytes
        free = self.disk.free_bytes() - self.config.reserve_bytes + ahead
        return max(0, min(offered, free))

    def check_room(self, body_bytes: int) -> None:
        """Raise ``DISK_FULL`` where such a piece would go over the capacity or into the reserve."""
        need = extent_bytes(body_bytes)
        over = self.logs.physical_bytes + need > self.config.capacity_bytes
        more = need - self.logs.room_ahead(need)
        if not over and more <= 0:
            return
        if over or more + self.config.reserve_bytes > self.disk.free_bytes():
            what = "the capacity offered is used up" if over else "the disk has no room to spare"
            raise AtollError(Kind.DISK_FULL, "store piece", what)

    # --- reading ---

    def log_of(self, row: Row) -> LogFile:
        """Return the log that holds a row's record. Raises ``DATA_LOST`` if it is gone."""
        log = self.logs.files.get(row.log)
        if log is None:
            raise AtollError(Kind.DATA_LOST, "read piece", "the log that held the piece is gone")
        return log

    def envelope_of(self, row: Row) -> Envelope:
        """Read the head of a row's record. Raises ``DATA_LOST`` if it is damaged."""
        log = self.log_of(row)
        with self.logs.reading(log) as file:
            head = file.read_at(row.offset, HEAD_BYTES)
        envelope = parse_head(head, self.logs.key, row.log, row.offset)
        if envelope is None:
            raise AtollError(Kind.DATA_LOST, "read piece", "the record's head is damaged")
        return envelope

    def body_part(self, row: Row, offset: int, length: int) -> bytes:
        """Read bytes of a stored record, counted from its first. Raises ``DATA_LOST``."""
        with self.logs.reading(self.log_of(row)) as file:
            data = file.read_at(row.offset + HEAD_BYTES + offset, length)
        if len(data) != length:
            raise AtollError(Kind.DATA_LOST, "read piece", "the log ends within the piece")
        return data

    def warm(self, log: int, offset: int) -> bool:
        """Say whether a region was used lately, and note that it is."""
        region = (log, offset // REGION_BYTES)
        known = region in self._warm
        self._warm[region] = None
        self._warm.move_to_end(region)
        if len(self._warm) > WARM_REGIONS_MAX:
            self._warm.popitem(last=False)
        return known


def replayed(piece: bytes) -> AtollError:
    """Return the refusal of an order that was used before."""
    return AtollError(
        Kind.REPLAYED, "check order", "the order was used before", about=piece.hex()[:10]
    )
