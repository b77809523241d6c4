"""Objects from nodes to a target, every byte checked, one after the other in a few lanes."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec

from atoll.client.objects import SegmentedObjects
from atoll.client.recovery.model import PROBLEMS_MAX, Problem, RecoveryFigures, RecoveryReport
from atoll.client.recovery.search import READ_TURNS_MAX, Search
from atoll.client.recovery.store import FoundObject, RecoveryStore
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo, ObjectFacts, SegmentRecord
from atoll.core.messages.retention import LockState
from atoll.core.ports import Compute

log = logging.getLogger(__name__)
LANES = 8
"""Objects restored at the same time."""
HASH_BYTES_MIN = 256 << 10
"""Longer views are hashed off the loop."""
_HOPELESS = frozenset({Kind.DISK_FULL, Kind.FORBIDDEN, Kind.UNAUTHENTICATED, Kind.CANCELLED})
"""Faults of the target after which nothing else will succeed either."""


@dataclass(frozen=True, slots=True)
class Restored:
    """An object on its way to a target."""

    bucket: str
    key: str
    facts: ObjectFacts
    modified_ms: int
    source: str
    segments: list[SegmentRecord]
    check: "Check"
    """Knows the ETag once the body has passed."""
    lock: LockState | None = None


class Target(Protocol):
    """Where objects go. ``put`` stores one for good; calls come from several lanes."""

    async def begin_bucket(self, bucket: str) -> None:
        """Get ready for a bucket's objects."""

    async def put(self, restored: Restored, body: AsyncIterator[memoryview]) -> None:
        """Store an object; nothing of it may stay if ``body`` raises."""


class Check:
    """Holds passing bytes against an object's ETag, of one part or of many."""

    def __init__(self, facts: ObjectFacts, compute: Compute) -> None:
        self._facts = facts
        self._compute = compute
        self._digest = hashlib.md5(usedforsecurity=False)
        self._sizes = list(facts.part_sizes)
        self._parts: list[bytes] = []
        self._left = facts.size
        self.size = 0
        if self._sizes:
            self._begin_part()

    async def update(self, view: memoryview) -> None:
        """Take the next bytes."""
        self.size += len(view)
        while len(view):
            part = view[: self._left] if self._left > 0 else view
            if len(part) < HASH_BYTES_MIN:
                self._digest.update(part)
            else:
                await self._compute.run(self._digest.update, part)
            self._left -= len(part)
            view = view[len(part) :]
            if not self._left and self._facts.part_sizes:
                self._end_part()

    def _end_part(self) -> None:
        self._parts.append(self._digest.digest())
        self._digest = hashlib.md5(usedforsecurity=False)
        self._begin_part()

    def _begin_part(self) -> None:
        """Go to the next part that has bytes."""
        self._left = 0
        while self._sizes and not self._left:
            self._left = self._sizes.pop(0)
            if not self._left:
                self._parts.append(self._digest.digest())

    @property
    def etag(self) -> str:
        """The ETag of what has passed."""
        if not self._facts.part_sizes:
            return self._digest.hexdigest()
        whole = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self._parts)}"

    def finish(self) -> str:
        """Return the ETag of the whole. Raises ``CORRUPT`` where size or ETag are others."""
        if self.size != self._facts.size:
            raise AtollError(
                Kind.CORRUPT, "restore object", f"{self.size} bytes instead of {self._facts.size}"
            )
        if self._facts.etag and self.etag != self._facts.etag:
            raise AtollError(
                Kind.CORRUPT, "restore object", "its bytes do not have the ETag of the object"
            )
        return self.etag


class Restore:
    """Brings what a search found to a target."""

    def __init__(
        self,
        search: Search,
        store: RecoveryStore,
        objects: SegmentedObjects,
        target: Target,
        compute: Compute,
        report: RecoveryReport,
    ) -> None:
        self._search = search
        self._store = store
        self._objects = objects
        self._target = target
        self._compute = compute
        self._report = report

    @property
    def figures(self) -> RecoveryFigures:
        """Progress."""
        return self._report.figures

    async def run(self, only: str = "") -> None:
        """Restore all objects (of one bucket); faults of single ones go into the report.

        Raises what makes going on useless: a full or forbidden target.
        """
        self.figures.stage = "objects"
        queue: asyncio.Queue[FoundObject | None] = asyncio.Queue(2 * LANES)
        lanes = [asyncio.create_task(self._lane(queue)) for _ in range(LANES)]
        try:
            for bucket in sorted(self._search.buckets):
                if only and self._search.name_of(bucket) != only:
                    continue
                name = self._search.name_of(bucket)
                self._report.buckets.append(name)
                await self._target.begin_bucket(name)
                for found in self._store.objects(bucket):
                    await self._give(queue, lanes, found)
            for _ in lanes:
                await self._give(queue, lanes, None)
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        self.figures.stage = "done"

    async def _give(
        self,
        queue: "asyncio.Queue[FoundObject | None]",
        lanes: "list[asyncio.Task[None]]",
        found: FoundObject | None,
    ) -> None:
        """Hand on an object; raise the fault of a lane that gave up."""
        putting = asyncio.create_task(queue.put(found))
        await asyncio.wait({putting, *lanes}, return_when=asyncio.FIRST_COMPLETED)
        for lane in lanes:
            if lane.done() and (fault := lane.exception()) is not None:
                putting.cancel()
                raise fault
        await putting

    async def _lane(self, queue: "asyncio.Queue[FoundObject | None]") -> None:
        while (found := await queue.get()) is not None:
            await self._one(found)

    async def _one(self, found: FoundObject) -> None:
        figures = self.figures
        if self._store.finished(found):
            figures.skipped += 1
            return
        try:
            await self._restore(found)
        except AtollError as fault:
            if fault.kind in _HOPELESS:
                raise
            figures.failed += 1
            self._report.problems_total += 1
            if len(self._report.problems) < PROBLEMS_MAX:
                name = f"{self._search.name_of(found.bucket)}/{found.key}"
                self._report.problems.append(Problem(name, str(fault)))
            return
        self._store.finish(found)
        figures.restored += 1

    async def _restore(self, found: FoundObject) -> None:
        """Restore one object; other holders of its pieces are tried in turn. Raises."""
        for turn in range(READ_TURNS_MAX):
            segments = [self._placed(record, turn) for record in found.entry.segments]
            restored = Restored(
                bucket=self._search.name_of(found.bucket),
                key=found.key,
                facts=found.entry.facts,
                modified_ms=found.entry.modified_ms,
                source=found.source.value,
                segments=segments,
                check=Check(found.entry.facts, self._compute),
                lock=found.entry.lock,
            )
            info = self._search.info_of(found.bucket)
            before = self.figures.restored_bytes
            try:
                async with aclosing(self._body(info, restored)) as body:
                    await self._target.put(restored, body)
            except AtollError as fault:
                self.figures.restored_bytes = before
                if fault.kind in _HOPELESS or turn + 1 == READ_TURNS_MAX:
                    raise
                log.info("%s: %s; asking other holders", found.key, fault)
            else:
                return

    async def _body(self, info: BucketInfo, restored: Restored) -> AsyncGenerator[memoryview, None]:
        check = restored.check
        size = sum(record.plain_bytes for record in restored.segments)
        if size:
            reading = self._objects.read_object(info, restored.key, restored.segments, 0, size)
            async with aclosing(reading) as views:
                async for view in views:
                    await check.update(view)
                    self.figures.restored_bytes += len(view)
                    yield view
        check.finish()

    def _placed(self, record: SegmentRecord, turn: int) -> SegmentRecord:
        """Return a segment with one holder for each piece: its own, or those of its pack."""
        store = self._store
        places = store.places(record.segment, turn)
        # A segment that was packed after the manifest was written may still be in the trash.
        move = store.move_of(record.segment)
        if record.packed is None and len(places) >= record.k and (move is None or turn % 2 == 0):
            return msgspec.structs.replace(record, pieces=places)
        packed = move.record.packed if move is not None else record.packed
        if packed is None:
            return msgspec.structs.replace(record, pieces=places)
        lying = msgspec.structs.replace(packed, pieces=store.places(packed.segment, turn))
        return msgspec.structs.replace(record, pieces=[], packed=lying)
