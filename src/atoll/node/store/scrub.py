"""The scrub: reads every stored record at a bounded rate and finds rot before a customer does."""

import logging
from collections.abc import Iterator
from itertools import islice

from atoll.core.errors import AtollError
from atoll.core.pieces import RecordChecker
from atoll.core.ports import DiskFile
from atoll.node.store.log import HEAD_BYTES, Found, LogFile, RecordKind, extent_bytes, scan
from atoll.node.store.model import Rotten, Row, State
from atoll.node.store.volume import Volume

_LOG = logging.getLogger(__name__)
BLOCK_BYTES = 256 << 10
RECORDS_PER_STEP = 16
RECORD_BYTES_MIN = 64 << 10
"""A small record costs the processor as much as so many bytes of a large one."""


class Scrubber:
    """Checks logs one by one: CRC, piece root, segment root of each record that is needed."""

    def __init__(self, volume: Volume) -> None:
        """Work on one volume."""
        self._volume = volume

    async def check_log(self, log: LogFile) -> int:
        """Check all needed records of a log; return how many were found rotten."""
        volume = self._volume
        rotten = 0
        seen_bytes = 0
        with volume.logs.reading(log) as file:
            found = scan(file, log.number, volume.logs.key, 0, log.settled, bodies=False)
            while records := await volume.compute.run(_take, found):
                for record in records:
                    row = self._needed(log, record)
                    if row is None:
                        continue
                    seen_bytes += extent_bytes(row.body_bytes)
                    if not record.finished or not await self._holds(file, record):
                        rotten += await self._note(record.envelope.piece, row)
        if log.sealed and seen_bytes != volume.index.totals.live.get(log.number, 0):
            rotten += await self._check_unseen(log)
        return rotten

    def _needed(self, log: LogFile, found: Found) -> Row | None:
        if found.envelope.kind is not RecordKind.PIECE:
            return None
        row = self._volume.index.get(found.envelope.piece)
        if row is None or (row.log, row.offset) != (log.number, found.offset):
            return None
        return row if row.state in (State.LIVE, State.TRASH) else None

    async def _holds(self, file: DiskFile, found: Found) -> bool:
        volume = self._volume
        checker = RecordChecker(signature=False)
        body = found.offset + HEAD_BYTES
        left = found.envelope.body_bytes
        try:
            while left:
                length = min(BLOCK_BYTES, left)
                await volume.compute.run(_feed, checker, file, body, length)
                pace = max(1.0, volume.config.scrub_bytes_per_s * volume.background_share)
                await volume.clock.sleep(max(length, RECORD_BYTES_MIN) / pace)
                volume.counts.scrubbed_bytes += length
                body += length
                left -= length
            await volume.compute.run(checker.finish)
        except AtollError as cause:
            _LOG.warning("piece %s: %s", found.envelope.piece.hex()[:10], cause.message)
            return False
        return True

    async def _check_unseen(self, log: LogFile) -> int:
        """Find rows whose record the walk did not meet: its head is damaged."""
        volume = self._volume
        rotten = 0
        for piece, row in await volume.compute.run(volume.index.pieces_in, log.number):
            if row.state not in (State.LIVE, State.TRASH):
                continue
            try:
                volume.envelope_of(row)
            except AtollError:
                rotten += await self._note(piece, row)
        return rotten

    async def _note(self, piece: bytes, row: Row) -> int:
        self._volume.counts.rotten += 1
        await self._volume.commit.add(Rotten(piece, row.log, row.offset))
        return 1


def _take(found: Iterator[Found]) -> list[Found]:
    return list(islice(found, RECORDS_PER_STEP))


def _feed(checker: RecordChecker, file: DiskFile, offset: int, length: int) -> None:
    checker.feed(file.read_at(offset, length))
