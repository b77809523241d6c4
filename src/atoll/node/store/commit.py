"""The group commit: many records, one sync, one index transaction, then the acknowledgements."""

import asyncio
import logging
import sqlite3
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Compute, Disk
from atoll.node.store.index import Index
from atoll.node.store.log import LogFile
from atoll.node.store.logs import LOG_FOLDER
from atoll.node.store.model import Change, LogMark

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    changes: list[Change] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    landings: list[LogFile] = field(default_factory=list)
    """The log of each change that has bytes."""


class GroupCommit:
    """Makes changes durable in batches. A failed sync is final: the volume takes no more writes.

    A batch is bounded by what its callers may have under way: uploads, deletes of a request.
    After a failed sync the system may have dropped the dirty pages and report success next time, so
    to try again would acknowledge what is not there.
    """

    def __init__(
        self,
        disk: Disk,
        compute: Compute,
        clock: Clock,
        index: Index,
        *,
        window_s: float,
    ) -> None:
        """``window_s`` (at most 0.01) is how long a busy store gathers before a sync."""
        self._disk = disk
        self._compute = compute
        self._clock = clock
        self._index = index
        self._window_s = window_s
        self._next = _Batch()
        self._task: asyncio.Task[None] | None = None
        self.failure: AtollError | None = None
        self.syncs = 0
        self.synced_changes = 0

    def check(self) -> None:
        """Raise what made the volume fail, if it did."""
        if self.failure is not None:
            raise AtollError(
                Kind.INTERNAL,
                "write to store",
                f"the volume failed and takes no writes: {self.failure.message}",
                hint="check the disk, then restart the node",
            )

    def add(self, change: Change, log: LogFile | None = None) -> "asyncio.Future[None]":
        """Queue a change whose bytes are written (in ``log``); done when it is durable."""
        self.check()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next.changes.append(change)
        self._next.waiters.append(waiter)
        if log is not None:
            log.unsynced += 1
            self._next.landings.append(log)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return waiter

    async def flush(self) -> None:
        """Return when all that was queued is durable (or the volume failed)."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            crowded = False
            while self._next.changes:
                if crowded:
                    await self._clock.sleep(self._window_s)
                # The batch is taken before the sync begins: what is written while it runs may or
                # may not be covered by it, so it belongs to the next one.
                batch, self._next = self._next, _Batch()
                crowded = len(batch.changes) > 1
                await self._commit(batch)
        finally:
            self._task = None

    async def _commit(self, batch: _Batch) -> None:
        files = sorted(set(batch.landings), key=lambda file: file.number)
        marks = [LogMark(f.number, f.settled, f.tail) for f in files]
        fresh = [file for file in files if file.fresh]
        try:
            if self.failure is not None:
                raise self.failure
            if self._index.may_defer(batch.changes):
                await self._compute.run(self._sync, files, bool(fresh))
                self._index.defer(batch.changes, marks)
                if self._index.crowded:
                    # Many new pieces are written down together at a third of the cost of each.
                    await self._compute.run(self._index.apply, [], [])
            else:
                await self._compute.run(self._write_down, files, bool(fresh), batch.changes, marks)
            for log in batch.landings:
                log.unsynced -= 1
        except (AtollError, sqlite3.Error) as cause:
            self._fail(cause)
            for waiter in batch.waiters:
                if not waiter.done():
                    waiter.set_exception(self._refusal())
            return
        for file in fresh:
            file.fresh = False
        self.syncs += 1
        self.synced_changes += len(batch.changes)
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _write_down(
        self, files: list[LogFile], fresh: bool, changes: list[Change], marks: list[LogMark]
    ) -> None:
        """Sync the data, then tell the index. Runs on a compute thread, one at a time."""
        self._sync(files, fresh)
        self._index.apply(changes, marks)

    def _sync(self, files: list[LogFile], fresh: bool) -> None:
        for log in files:
            log.file.sync()
        if fresh:
            self._disk.sync_folder(LOG_FOLDER)

    def _fail(self, cause: AtollError | sqlite3.Error) -> None:
        if self.failure is not None:
            return
        if isinstance(cause, AtollError):
            self.failure = cause
        else:
            self.failure = AtollError(Kind.INTERNAL, "write index", str(cause))
        _LOG.error("the volume failed and takes no more writes: %s", self.failure)

    def _refusal(self) -> AtollError:
        try:
            self.check()
        except AtollError as refusal:
            return refusal
        raise AssertionError("a refusal without a failure")
