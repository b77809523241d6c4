"""Compaction: what is still needed of a log with much dead space is copied on; the log goes.

It never holds up a write, copies no faster than the operator allows, checks what it copies, and a
crash at any point leaves either the old log or the copies in force.
"""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from atoll.core.errors import AtollError, Kind
from atoll.core.pieces import crc32c
from atoll.core.ports import DiskFile
from atoll.node.store.adoption import copy_adoption
from atoll.node.store.log import HEAD_BYTES, Found, LogFile, RecordKind, encode_foot, scan
from atoll.node.store.model import (
    NOWHERE,
    SPENT_GRACE_MS,
    Change,
    Doomed,
    Dropped,
    Locked,
    Moved,
    Rotten,
    Row,
    Spent,
    SpentForgotten,
    State,
)
from atoll.node.store.volume import Volume

_LOG = logging.getLogger(__name__)
COPY_BLOCK_BYTES = 256 << 10
RECORDS_PER_STEP = 64
"""Heads read, and copies under way, at a time."""
SHORT_OF_ROOM_PERCENT = 90
"""Share of the capacity in use from which dead space is collected more eagerly."""
EAGER_LIVE_PERCENT = 90


class Compactor:
    """Chooses logs and copies them together."""

    def __init__(self, volume: Volume) -> None:
        """Work on one volume."""
        self._volume = volume

    async def run_once(self) -> bool:
        """Compact the log with the least live bytes, if any is worth it; say whether one was.

        Raises ``DISK_FULL`` where there is no room for the copies, ``INTERNAL`` on a failed volume.
        """
        log = self._choose()
        if log is None:
            return False
        await self._compact(log)
        return True

    def _choose(self) -> LogFile | None:
        volume = self._volume
        offered = volume.config.capacity_bytes
        short = volume.logs.physical_bytes * 100 > offered * SHORT_OF_ROOM_PERCENT
        percent = EAGER_LIVE_PERCENT if short else volume.config.compaction_live_percent
        active = volume.logs.active
        if short and active is not None and active.tail and self._live_percent(active) < percent:
            volume.logs.seal_active()
        candidates = [
            log
            for log in volume.logs.files.values()
            if log.sealed
            and not log.flying
            and not log.unsynced
            and (log.tail == 0 or self._live_percent(log) < percent)
        ]
        return min(candidates, key=self._live_bytes, default=None)

    def _live_bytes(self, log: LogFile) -> int:
        return self._volume.index.totals.live.get(log.number, 0)

    def _live_percent(self, log: LogFile) -> float:
        return self._live_bytes(log) * 100 / log.tail

    async def _compact(self, log: LogFile) -> None:
        volume = self._volume
        before = log.tail
        with volume.logs.reading(log) as file:
            found = scan(file, log.number, volume.logs.key, 0, log.tail, bodies=False)
            while records := await volume.compute.run(_take, found):
                waiters = [w for record in records if (w := await self._keep(log, file, record))]
                if waiters:
                    await asyncio.gather(*waiters)
        for piece, row in await volume.compute.run(volume.index.pieces_in, log.number):
            if row.state in (State.LIVE, State.TRASH):
                # Its head is damaged: the walk did not meet it.
                await self._rotten(piece, row)
        await volume.commit.add(Doomed(log.number))
        if await volume.logs.remove(log):
            await volume.commit.add(Dropped(log.number))
        volume.counts.compacted_logs += 1
        volume.counts.compacted_bytes += before
        _LOG.info("log %d compacted: %d bytes", log.number, before)

    async def _rotten(self, piece: bytes, row: Row) -> None:
        self._volume.counts.rotten += 1
        await self._volume.commit.add(Rotten(piece, row.log, row.offset))

    async def _keep(
        self, log: LogFile, file: DiskFile, found: Found
    ) -> "asyncio.Future[None] | None":
        """Copy a record if it is still needed; return what to wait for."""
        if not found.finished:
            return None
        volume, envelope = self._volume, found.envelope
        row = volume.index.get(envelope.piece)
        here = row is not None and (row.log, row.offset) == (log.number, found.offset)
        if row is not None and here and row.state in (State.LIVE, State.TRASH):
            return await self._copy_piece(log, file, found, row)
        if envelope.kind is RecordKind.RETENTION:
            if volume.index.retention_place(envelope.piece) == envelope.sequence:
                return await self._copy_lock(file, found)
            return None
        if envelope.kind is RecordKind.ADOPTION:
            if volume.index.adoption_sequence(envelope.piece) == envelope.sequence:
                return await copy_adoption(volume, found)
            return None
        if envelope.kind in (RecordKind.TOMBSTONE, RecordKind.REVIVE) and _mark_needed(
            log, found, row
        ):
            return await self._copy_small(found, RecordKind(envelope.kind))
        if envelope.expires_ms + SPENT_GRACE_MS > volume.clock.now_ms():
            return await self._copy_small(found, RecordKind.SPENT)
        return None

    async def _copy_small(self, found: Found, kind: RecordKind) -> "asyncio.Future[None]":
        volume = self._volume
        envelope = replace(found.envelope, kind=kind, body_bytes=0)
        extent = await volume.logs.append(envelope, b"")
        change: Change = SpentForgotten(0)
        if envelope.expires_ms:
            change = Spent(envelope.serial, envelope.piece, envelope.expires_ms)
        durable = volume.commit.add(change, extent.log)
        extent.log.land(extent.offset)
        return durable

    async def _copy_lock(self, file: DiskFile, found: Found) -> "asyncio.Future[None]":
        volume, envelope = self._volume, found.envelope
        body = await volume.compute.run(
            file.read_at, found.offset + HEAD_BYTES, envelope.body_bytes
        )
        if crc32c(body) != found.body_crc:
            _LOG.warning("a retention record was found rotten: the index's copy is written down")
            body = volume.index.retention(envelope.piece) or b""
        envelope = replace(envelope, body_bytes=len(body))
        extent = await volume.logs.append(envelope, body)
        durable = volume.commit.add(Locked(envelope.piece, body, 0, envelope.sequence), extent.log)
        extent.log.land(extent.offset)
        return durable

    async def _copy_piece(
        self, log: LogFile, file: DiskFile, found: Found, row: Row
    ) -> "asyncio.Future[None] | None":
        volume, envelope = self._volume, found.envelope
        extent = await volume.logs.reserve(envelope)
        landed = False
        try:
            crc = 0
            for done in range(0, envelope.body_bytes, COPY_BLOCK_BYTES):
                length = min(COPY_BLOCK_BYTES, envelope.body_bytes - done)
                crc = await volume.compute.run(
                    _copy_block,
                    file,
                    found.offset + HEAD_BYTES + done,
                    extent.log.file,
                    extent.body_offset + done,
                    length,
                    crc,
                )
                pace = volume.config.compaction_bytes_per_s * volume.background_share
                await volume.clock.sleep(length / pace)
            if crc != found.body_crc:
                _LOG.warning("piece %s was found rotten", envelope.piece.hex()[:10])
                await self._rotten(envelope.piece, row)
                return None
            foot = encode_foot(extent.head, crc, volume.logs.key)
            extent.log.file.write_at(extent.foot_offset, [foot])
            moved = Moved(
                envelope.piece, log.number, found.offset, extent.log.number, extent.offset
            )
            durable = volume.commit.add(moved, extent.log)
            extent.log.land(extent.offset)
            landed = True
            return durable
        finally:
            if not landed:
                volume.logs.give_back(extent)


def _mark_needed(log: LogFile, found: Found, row: Row | None) -> bool:
    """Say whether a tombstone or revival must outlive its log: the piece's record is in another."""
    if row is None or row.log == NOWHERE or row.mark_sequence != found.envelope.sequence:
        return False
    return not (row.log == log.number and row.state == State.DEAD)


def _take(found: Iterator[Found]) -> list[Found]:
    return list(islice(found, RECORDS_PER_STEP))


def _copy_block(
    source: DiskFile,
    source_offset: int,
    target: DiskFile,
    target_offset: int,
    length: int,
    crc: int,
) -> int:
    data = source.read_at(source_offset, length)
    if len(data) != length:
        raise AtollError(Kind.DATA_LOST, "compact log", "the log ends within a record")
    target.write_at(target_offset, [data])
    return crc32c(data, crc)
