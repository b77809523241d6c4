"""The ranged loop: the safety net under everything that is noticed at once.

Every segment is judged once a round. A round is cut into leased ranges whose positions are rows:
it survives restarts, and coordinators over one database share it.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import segments_after
from atoll.coordinator.repair import store
from atoll.coordinator.repair.rules import Profile
from atoll.core.ports import Clock, Database

PAGE_SEGMENTS = 1000

Judge = Callable[[Sequence[StoredSegment]], Awaitable[int]]
"""Queues those of some segments that need repair; returns how many."""


class RangedLoop:
    """One coordinator's part in the rounds."""

    def __init__(
        self, clock: Clock, database: Database, owner: bytes, profile: Profile, judge: Judge
    ) -> None:
        self._clock = clock
        self._database = database
        self._owner = owner
        self._profile = profile
        self._judge = judge

    async def work(self) -> int:
        """Do what is left of the round, or begin the next if it is time; return segments judged."""
        now_ms = self._clock.now_ms()
        interval_ms = int(self._profile.scan_interval_s * 1000)
        await self._database.write(partial(self._begin, now_ms=now_ms, interval_ms=interval_ms))
        judged = 0
        while True:
            now_ms = self._clock.now_ms()
            claimed = await self._database.write(
                partial(
                    store.claim_range,
                    owner=self._owner,
                    now_ms=now_ms,
                    lease_ms=self._profile.lease_ms,
                )
            )
            if claimed is None:
                return judged
            judged += await self._range(claimed)

    @staticmethod
    def _begin(connection: Connection, now_ms: int, interval_ms: int) -> None:
        store.expire_credits(connection, now_ms)
        store.begin_round(connection, now_ms, interval_ms)

    async def _range(self, claimed: store.Range) -> int:
        """Judge one range page by page, at the profile's pace; stop where the lease went."""
        after, judged = claimed.after_serial, 0
        while after < claimed.end_serial:
            page = await self._database.read(
                partial(segments_after, after=after, limit=PAGE_SEGMENTS)
            )
            mine = [segment for segment in page if segment.serial <= claimed.end_serial]
            if mine:
                await self._judge(mine)
            done = len(mine) < PAGE_SEGMENTS
            after = claimed.end_serial if done else mine[-1].serial
            judged += len(mine)
            held = await self._database.write(
                partial(
                    store.advance_range,
                    owner=self._owner,
                    end_serial=claimed.end_serial,
                    after_serial=after,
                    segments=len(mine),
                    now_ms=self._clock.now_ms(),
                    lease_ms=self._profile.lease_ms,
                )
            )
            if not held:
                break
            await self._clock.sleep(self._profile.scan_pause_s)
        return judged
