"""Numbers for new segments: leased in blocks, so that an order costs no write of its own.

A block is taken from the database and synced before its first number is given. What a process did
not use of its block is lost when it stops; serials are dense enough all the same, and never given
twice.
"""

import asyncio
from functools import partial

from atoll.coordinator.metadata.store.segments import take_counter
from atoll.core.ports import Database

BLOCK_SERIALS = 1000
"""Serials per lease."""
COUNTER = "segment_serial"
"""Row of the table ``counter``: the highest serial leased."""


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
