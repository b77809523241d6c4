"""All logs of a store: which one grows, where the next extent goes, when a log may be removed."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.pieces import crc32c
from atoll.core.ports import Clock, Compute, Disk, DiskFile
from atoll.node.store.log import (
    HEAD_BYTES,
    Envelope,
    LogFile,
    encode_foot,
    encode_head,
    extent_bytes,
    log_name,
    log_number,
)

LOG_FOLDER = "logs"
OPEN_FILES_MAX = 256
"""Logs held open at a time, besides those in use: 10 TB are 10,000 logs."""
DRAIN_POLL_S = 0.05
DRAIN_S_MAX = 600.0
"""A log is not removed while somebody reads it; after so long its removal waits for a restart."""


@dataclass(slots=True)
class Extent:
    """Room given out in a log for one record."""

    log: LogFile
    offset: int
    envelope: Envelope
    head: bytes

    @property
    def body_offset(self) -> int:
        """Where the body begins."""
        return self.offset + HEAD_BYTES

    @property
    def foot_offset(self) -> int:
        """Where the foot begins."""
        return self.body_offset + self.envelope.body_bytes


class Logs:
    """The set of open logs. Everything but growth happens without waiting."""

    def __init__(
        self,
        disk: Disk,
        compute: Compute,
        clock: Clock,
        key: bytes,
        *,
        log_bytes: int,
        step_bytes: int,
    ) -> None:
        """Open nothing yet; ``log_bytes`` bounds a log, which grows by ``step_bytes``."""
        self._disk = disk
        self._compute = compute
        self._clock = clock
        self._growing = asyncio.Lock()
        self.key = key
        self.log_bytes = log_bytes
        self.step_bytes = step_bytes
        self.files: dict[int, LogFile] = {}
        self._opened: OrderedDict[int, LogFile] = OrderedDict()
        self.active: LogFile | None = None
        self.next_sequence = 1
        self.next_number = 1
        self.physical_bytes = 0
        """Sum of all tails, kept as extents come and go."""

    def open_all(self) -> None:
        """Open every log of the folder. Blocks."""
        for name in self._disk.names(LOG_FOLDER):
            number = log_number(name)
            if number is None:
                continue
            file = self._disk.open(log_name(number))
            size = file.size()
            file.close()
            self.files[number] = LogFile(number, tail=size, allocated=size)
            self.next_number = max(self.next_number, number + 1)

    @contextmanager
    def reading(self, log: LogFile) -> Iterator[DiskFile]:
        """Hold a log open for a while (and keep it from being removed)."""
        log.readers += 1
        try:
            yield self._hold(log)
        finally:
            log.readers -= 1

    def _hold(self, log: LogFile) -> DiskFile:
        """Open a log if it is not, and close another that is out of use if there are too many."""
        if log.opened is None:
            log.opened = self._disk.open(log.name)
        self._opened[log.number] = log
        self._opened.move_to_end(log.number)
        if len(self._opened) > OPEN_FILES_MAX:
            for other in self._opened.values():
                if not other.readers and not other.flying and other.sealed and not other.unsynced:
                    self._close(other)
                    break
        return log.opened

    def _close(self, log: LogFile) -> None:
        self._opened.pop(log.number, None)
        if log.opened is not None:
            log.opened.close()
            log.opened = None

    def choose_active(self) -> None:
        """After recovery: count what is there and go on with the newest log."""
        self.physical_bytes = sum(log.tail for log in self.files.values())
        if self.files:
            newest = self.files[max(self.files)]
            if newest.tail < self.log_bytes:
                self.active = newest
                self._hold(newest)
        for log in self.files.values():
            log.sealed = log is not self.active

    def room_ahead(self, need: int) -> int:
        """Return how much of the next ``need`` bytes is allocated on the disk already."""
        log = self.active
        if log is None or log.tail + need > self.log_bytes:
            return 0
        return min(need, log.allocated - log.tail)

    async def reserve(self, envelope: Envelope) -> Extent:
        """Give out room for a record and write its head. Raises ``DISK_FULL``.

        The head is in the log before any later extent of that log is given out, so that a scan can
        always step over an upload that was never finished.
        """
        await self._make_room(envelope.body_bytes)
        extent = self._take(envelope)
        self._write(extent, [extent.head])
        return extent

    async def append(self, envelope: Envelope, body: Buffer) -> Extent:
        """Write a whole record whose body was checked. Raises ``DISK_FULL``."""
        await self._make_room(envelope.body_bytes)
        extent = self._take(envelope)
        self._write(extent, [extent.head, body, encode_foot(extent.head, crc32c(body), self.key)])
        return extent

    async def _make_room(self, body_bytes: int) -> None:
        need = extent_bytes(body_bytes)
        while self.active is None or self.active.tail + need > self.active.allocated:
            async with self._growing:
                await self._grow(need)

    def _take(self, envelope: Envelope) -> Extent:
        log = self.active
        assert log is not None
        offset = log.take(extent_bytes(envelope.body_bytes))
        self.physical_bytes += log.tail - offset
        head = encode_head(envelope, self.key, log.number, offset)
        return Extent(log, offset, envelope, head)

    def _write(self, extent: Extent, parts: list[Buffer]) -> None:
        try:
            extent.log.file.write_at(extent.offset, parts)
        except AtollError:
            self.give_back(extent)
            raise

    def give_back(self, extent: Extent) -> None:
        """Take back an extent whose record will not be finished."""
        before = extent.log.tail
        extent.log.give_back(extent.offset)
        self.physical_bytes -= before - extent.log.tail

    def sequence(self) -> int:
        """Return the next sequence number."""
        number = self.next_sequence
        self.next_sequence += 1
        return number

    async def _grow(self, need: int) -> None:
        """Make room for ``need`` more bytes at the active log's tail, or begin another log."""
        log = self.active
        if log is not None and log.tail + need <= log.allocated:
            return  # Another waiter grew it meanwhile.
        if need > self.log_bytes:
            raise AtollError(
                Kind.TOO_LARGE, "store piece", f"{need} bytes do not fit a log of {self.log_bytes}"
            )
        if log is None or log.tail + need > self.log_bytes:
            log = await self._begin()
        target = -(-(log.tail + need) // self.step_bytes) * self.step_bytes
        target = min(target, self.log_bytes)
        await self._compute.run(log.file.allocate, target)
        log.allocated = target

    async def _begin(self) -> LogFile:
        number = self.next_number
        file = await self._compute.run(_create, self._disk, log_name(number))
        self.next_number = number + 1
        self.seal_active()
        log = self.files[number] = self.active = LogFile(number, file, fresh=True)
        self._hold(log)
        return log

    def seal_active(self) -> None:
        """Append no more to the active log; the next record begins another."""
        if self.active is not None:
            self.active.sealed = True
            self.active = None

    def trim(self, log: LogFile) -> None:
        """Return what a sealed log was allocated and will not use. Blocks."""
        if log.sealed and not log.flying and log.allocated > log.tail:
            with self.reading(log) as file:
                file.truncate(log.tail)
            log.allocated = log.tail

    async def remove(self, log: LogFile) -> bool:
        """Remove a doomed log's file once nobody reads it.

        Returns False where readers held it for ``DRAIN_S_MAX``; the file goes at the next start.
        """
        assert log.sealed
        assert not log.flying
        deadline = self._clock.monotonic() + DRAIN_S_MAX
        while log.readers:
            if self._clock.monotonic() > deadline:
                return False
            await self._clock.sleep(DRAIN_POLL_S)
        del self.files[log.number]
        self.physical_bytes -= log.tail
        self._close(log)
        await self._compute.run(self._unlink, log.name)
        return True

    def remove_now(self, number: int) -> None:
        """Remove a doomed log's file at a start, if it is there. Blocks."""
        self.files.pop(number, None)
        self._unlink(log_name(number))

    def _unlink(self, name: str) -> None:
        self._disk.remove(name)
        self._disk.sync_folder(LOG_FOLDER)

    def close(self) -> None:
        """Close all files."""
        for log in list(self.files.values()):
            self._close(log)
        self.files.clear()
        self.active = None


def _create(disk: Disk, name: str) -> DiskFile:
    return disk.open(name, create=True)
