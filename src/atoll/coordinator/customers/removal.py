"""Removes what nobody pays for, when its day has come; never what is locked.

A page of objects at a time, through the way every removal takes: an object under a retention
period or a legal hold stays, in the transaction that removes its neighbours. A customer who pays
meanwhile is past it with the next page.
"""

import logging
from dataclasses import dataclass
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.customers import store
from atoll.coordinator.customers.model import DELETED_AT_ONCE, Standing
from atoll.coordinator.metadata.service import delete_in
from atoll.core.messages import DeleteObjects
from atoll.core.ports import Clock, Database

AGAIN_MS = 3_600_000
"""After everything but what is locked is gone: when it is looked again, at the latest."""
log = logging.getLogger("atoll.coordinator.customers")


@dataclass(frozen=True, slots=True)
class Removed:
    """What one page brought."""

    objects: int
    locked: int
    after: bytes
    """The last key that was looked at."""
    more: bool
    stopped: bool = False
    """The customer has paid meanwhile."""


class Removal:
    """Goes through the buckets of customers whose time is over."""

    def __init__(self, clock: Clock, database: Database) -> None:
        self._clock = clock
        self._database = database
        self._rest_until_ms: dict[bytes, int] = {}
        """By account: all that may go is gone until then."""

    async def step(self) -> int:
        """Go once through what may go now; return how many objects were removed."""
        now_ms = self._clock.now_ms()
        total = 0
        for account in await self._database.read(store.to_remove):
            if now_ms < self._rest_until_ms.get(account, 0):
                continue
            objects, until_ms = await self._remove(account)
            total += objects
            self._rest_until_ms[account] = until_ms
        return total

    async def _remove(self, account: bytes) -> tuple[int, int]:
        """Remove an account's objects; return how many, and until when nothing more may go."""
        total = locked = 0
        for bucket in sorted(
            await self._database.read(partial(store.bucket_names, account=account))
        ):
            after, more = b"", True
            while more:
                page = await self._database.write(
                    partial(self._page, account=account, bucket=bucket, after=after)
                )
                if page.stopped:
                    return total, 0
                total, locked = total + page.objects, locked + page.locked
                after, more = page.after, page.more
        if total:
            log.info("%d objects nobody pays for were removed, %d are locked", total, locked)
        ends_ms = await self._database.read(
            partial(store.next_lock_end, account=account, now_ms=self._clock.now_ms())
        )
        again_ms = self._clock.now_ms() + AGAIN_MS
        return total, min(again_ms, ends_ms) if ends_ms else again_ms

    def _page(self, connection: Connection, account: bytes, bucket: bytes, after: bytes) -> Removed:
        customer = store.hold_customer(connection, account)
        if customer.standing is not Standing.DELETION:
            return Removed(0, 0, after, more=False, stopped=True)
        keys = store.keys_after(connection, bucket, after, DELETED_AT_ONCE)
        if not keys:
            return Removed(0, 0, after, more=False)
        request = DeleteObjects(bucket=bucket, keys=[key.decode() for key in keys])
        gone = delete_in(connection, request, sorted(keys), self._clock.now_ms())
        return Removed(
            len(gone.existed), len(gone.locked), keys[-1], more=len(keys) == DELETED_AT_ONCE
        )
