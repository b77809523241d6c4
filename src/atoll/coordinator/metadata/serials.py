"""Numbers for new segments: leased in blocks, so that an order costs no write of its own.

A block is taken from the database and synced before its first number is given. What a process did
not use of its block is lost when it stops; serials are dense enough all the same, and never given
twice.
"""

import asyncio
import hmac
from collections.abc import Iterable
from functools import partial

from atoll.coordinator.metadata.rules import bad_request
from atoll.coordinator.metadata.store.segments import take_counter
from atoll.core.ids import SegmentId
from atoll.core.ports import Database

BLOCK_SERIALS = 1000
"""Serials per lease."""
COUNTER = "segment_serial"
"""Row of the table ``counter``: the highest serial leased."""


NOISE_BYTES = 8
"""Of a segment's id: chance; the other half binds it to its serial."""


def segment_id(key: bytes, serial: int, noise: bytes) -> SegmentId:
    """Return an id that only who has ``key`` can make for this serial; ``noise`` is 8 bytes.

    So a commit cannot take a serial that was given to another segment, or to none yet.
    """
    bound = hmac.digest(key, serial.to_bytes(8, "big") + noise, "sha256")
    return SegmentId(noise + bound[: 16 - NOISE_BYTES])


def check_serials(key: bytes, segments: Iterable[tuple[bytes, int]]) -> None:
    """Raise ``BAD_REQUEST`` unless every (segment id, serial) was given out together.

    Without a key nothing is checked.
    """
    for segment, serial in segments if key else ():
        if not hmac.compare_digest(segment_id(key, serial, segment[:NOISE_BYTES]), segment):
            raise bad_request("a segment is named with a serial that was not given for it")


class SerialAllocator:
    """Gives each new segment of this coordinator a serial: 1, 2, 3, with gaps."""

    def __init__(self, database: Database, block_serials: int = BLOCK_SERIALS) -> None:
        """Lease from ``database``."""
        self._database = database
        self._block_serials = block_serials
        self._next = 1
        self._last = 0
        self._leasing = asyncio.Lock()

    async def take(self) -> int:
        """Return a serial that was never given before."""
        while self._next > self._last:
            async with self._leasing:
                if self._next > self._last:
                    await self._lease()
        serial = self._next
        self._next += 1
        return serial

    async def _lease(self) -> None:
        last = await self._database.write(
            partial(take_counter, name=COUNTER, count=self._block_serials)
        )
        self._next, self._last = last - self._block_serials + 1, last
