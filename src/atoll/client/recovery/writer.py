"""Writes manifests: changes of buckets, encrypted, onto nodes, in groups, again and again.

The coordinator keeps the changes until a manifest that carries them lies durably on nodes. So a
writer may die at any point: others take its changes over after a while.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from typing_extensions import Buffer

from atoll.client.keys import Keyring
from atoll.client.labels import Labels
from atoll.client.segment.source import PlainSource
from atoll.client.transfer.upload import SegmentUploader
from atoll.core.capsule import CAPSULE_VERSION, Capsule, CapsuleKind
from atoll.core.errors import AtollError, Kind
from atoll.core.manifest import ManifestKind, encode_item, pack_items
from atoll.core.messages import (
    AbandonedSegment,
    BucketInfo,
    ControlPlane,
    DiscardSegments,
    Done,
    SegmentRecord,
)
from atoll.core.messages.recovery import (
    BeginSnapshot,
    ChangeBatch,
    CommitManifest,
    EntryPage,
    ManifestLag,
    ManifestState,
    ObjectChange,
    ReadEntries,
    SnapshotLease,
    TakeChanges,
)
from atoll.core.ports import Clock, Rng

log = logging.getLogger(__name__)

WRITER_BYTES = 16
GROUP_S = 0.4
"""Changes are gathered for so long, unless somebody waits: the lag stays below a second."""
IDLE_S = 1.0
"""How often changes are looked for that others made or left behind."""
FAULT_S_MIN = 0.5
FAULT_S_MAX = 30.0
WAIT_S_MAX = 12.0
"""A write that waits for its manifest longer than this has an answer: ``TIMEOUT``. Below the time
after which another writer may take its change over (``changes.OWN_LEASE_MS``)."""
PART_BYTES = 4 << 20
"""Encoded items of one segment of a manifest."""
POLICY_NONE = 1
"""Policy of an account's catalogue: buckets' policies are not the account's."""
SNAPSHOT_DRAIN_S_MAX = 120.0


@dataclass(slots=True)
class ManifestCounts:
    """What a writer has done since it started."""

    manifests: int = 0
    changes: int = 0
    plain_bytes: int = 0
    snapshots: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class _Stream:
    """A manifest being written."""

    account: bytes
    bucket: bytes
    kind: ManifestKind
    number: int
    covers: int = 0
    policy: int = POLICY_NONE


class ManifestWriter:
    """One per gateway worker. ``run`` it; ``notify`` it of changes; ``settled`` waits for them."""

    def __init__(
        self,
        control: ControlPlane,
        keyring: Keyring,
        uploader: SegmentUploader,
        clock: Clock,
        rng: Rng,
    ) -> None:
        """``control`` answers the requests of ``core.messages.recovery``."""
        self._control = control
        self._keyring = keyring
        self._labels = Labels(keyring)
        self._uploader = uploader
        self._clock = clock
        self.writer = keyring.keys_id + rng.bytes(WRITER_BYTES - len(keyring.keys_id))
        """Under this id changes are left to this writer."""
        self.counts = ManifestCounts()
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._snapshots: dict[bytes, asyncio.Task[None]] = {}

    def notify(self) -> None:
        """Say that a change was committed for this writer."""
        self._news.set()

    async def settled(self) -> None:
        """Return when all changes committed before this call lie in manifests on nodes.

        Raises ``TIMEOUT`` if that takes too long; the changes are committed all the same.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._news.set()
        self._hurry.set()
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                await done
        except TimeoutError:
            raise AtollError(
                Kind.TIMEOUT,
                "write manifest",
                "the write is committed, its manifest is not yet on nodes",
                hint="it follows by itself; ask again, or set the bucket's manifests to `group`",
            ) from None
        finally:
            if done in self._waiting:
                self._waiting.remove(done)

    async def run(self) -> None:
        """Write manifests until cancelled; a fault is logged and tried again."""
        pause_s = FAULT_S_MIN
        try:
            while True:
                await self._pause()
                try:
                    await self.flush()
                    pause_s = FAULT_S_MIN
                except AtollError as fault:
                    self.counts.faults += 1
                    log.warning("manifests wait: %s", fault)
                    await self._clock.sleep(pause_s)
                    pause_s = min(2 * pause_s, FAULT_S_MAX)
                    self._news.set()
        finally:
            for task in self._snapshots.values():
                task.cancel()

    async def _pause(self) -> None:
        """Wait for news, then a little for more of it; or until it is time to look around."""
        if not await self._wait(self._news, IDLE_S):
            return
        if not self._hurry.is_set():
            await self._wait(self._hurry, GROUP_S)
        self._news.clear()
        self._hurry.clear()

    async def _wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for an event, by this world's clock; say whether it came."""
        if event.is_set():
            return True
        sleep = asyncio.create_task(self._clock.sleep(seconds))
        wake = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({sleep, wake}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()
        return event.is_set()

    async def flush(self) -> None:
        """Write all that waits for this writer. Raises ``AtollError``."""
        waiting = list(self._waiting)
        while True:
            batch = await self._control.ask(TakeChanges(writer=self.writer), ChangeBatch)
            if not batch.sequences:
                break
            await self._write(batch)
        for done in waiting:
            if not done.done():
                done.set_result(None)

    async def _write(self, batch: ChangeBatch) -> None:
        if batch.bucket is None:
            stream = _Stream(
                account=batch.account,
                bucket=batch.account,
                kind=ManifestKind.CATALOGUE,
                number=batch.number,
                covers=batch.number - 1,
            )
            items = [encode_item(bucket) for bucket in batch.buckets]
        else:
            stream = _Stream(
                account=batch.account,
                bucket=batch.bucket.bucket,
                kind=ManifestKind.DELTA,
                number=batch.number,
                policy=batch.bucket.policy,
            )
            items = [encode_item(change) for change in batch.changes]
            items += [encode_item(move) for move in batch.moves]
        records = await self._store(stream, items)
        await self._commit(stream, records, batch.sequences)
        self.counts.manifests += 1
        self.counts.changes += len(batch.sequences)
        if batch.compact and batch.bucket is not None:
            self._compact_later(batch.bucket)

    async def _store(self, stream: _Stream, items: list[bytes]) -> list[SegmentRecord]:
        """Store a manifest's items as its segments, the last one marked."""
        parts = _cut(items)
        records: list[SegmentRecord] = []
        try:
            for position, part in enumerate(parts):
                last = position + 1 == len(parts)
                records.append(await self._store_part(stream, part, records, last=last))
        except AtollError:
            await self._discard(stream.bucket, records)
            raise
        return records

    async def _store_part(
        self, stream: _Stream, part: list[bytes], before: list[SegmentRecord], *, last: bool
    ) -> SegmentRecord:
        plain = pack_items(stream.kind, stream.number, stream.covers, part)
        uploader = self._uploader
        grant = await uploader.order(stream.bucket, len(plain), stream.policy, upkeep=True)
        wrapping = self._keyring.bucket(stream.account, stream.bucket).manifest_key()
        cipher, wrapped = self._keyring.new_cipher(wrapping, grant.segment)
        capsule = Capsule(
            version=CAPSULE_VERSION,
            kind=CapsuleKind.MANIFEST,
            created_ms=self._clock.now_ms(),
            wrapped_key=wrapped,
            position=len(before),
            stream_bytes=0,
            stream=before[0].segment if before else b"",
            part=stream.number,
            last=last,
            snapshot=stream.kind is not ManifestKind.DELTA,
        )
        tlvs = self._labels.tlvs(stream.account, stream.bucket, grant.segment, capsule)
        upload = uploader.open(stream.bucket, grant, len(plain), cipher, wrapped, tlvs)
        try:
            source = PlainSource(_once(plain), len(plain))
            await upload.send(source)
            await source.finish()
            record = await upload.finish()
        except BaseException:
            left = upload.abandoned
            await upload.abort()
            await self._discard(stream.bucket, [left])
            raise
        await upload.abort()
        self.counts.plain_bytes += len(plain)
        return record

    async def _commit(
        self, stream: _Stream, records: list[SegmentRecord], sequences: list[int]
    ) -> None:
        request = CommitManifest(
            writer=self.writer,
            bucket=stream.bucket,
            number=stream.number,
            snapshot=stream.kind is not ManifestKind.DELTA,
            segments=records,
            covers=stream.covers,
            sequences=sequences,
        )
        try:
            await self._control.ask(request, Done)
        except AtollError as fault:
            # Refused for good, the segments are collected there; another carries the changes on.
            if fault.kind not in (Kind.CONFLICT, Kind.BUCKET_NOT_FOUND):
                raise
            log.info("manifest %d was not wanted any more: %s", stream.number, fault)

    async def _discard(
        self, bucket: bytes, left: list[SegmentRecord] | list[AbandonedSegment]
    ) -> None:
        if left:
            abandoned = [
                AbandonedSegment(segment=one.segment, serial=one.serial, pieces=one.pieces)
                for one in left
            ]
            await self._uploader.discard(DiscardSegments(bucket=bucket, segments=abandoned))

    # --- snapshots -------------------------------------------------------------------------------

    def _compact_later(self, bucket: BucketInfo) -> None:
        """Make a snapshot beside the deltas; one at a time in a worker."""
        if self._snapshots:
            return
        task = asyncio.create_task(self._compact(bucket))
        self._snapshots[bucket.bucket] = task
        task.add_done_callback(lambda _: self._snapshots.pop(bucket.bucket, None))

    async def _compact(self, bucket: BucketInfo) -> None:
        try:
            await self.snapshot(bucket)
        except AtollError as fault:
            level = logging.DEBUG if fault.kind is Kind.CONFLICT else logging.WARNING
            log.log(level, "no snapshot now: %s", fault)

    async def snapshot(self, info: BucketInfo) -> None:
        """Write all objects of a bucket as one manifest in place of the earlier ones.

        Its last segment is stored only when every change that the pages may show lies in a delta:
        whoever finds all its segments finds nothing older in the deltas after it. Raises
        ``CONFLICT`` where another writer is at it.
        """
        bucket = info.bucket
        lease = await self._control.ask(
            BeginSnapshot(writer=self.writer, bucket=bucket), SnapshotLease
        )
        stream = _Stream(
            account=info.account,
            bucket=bucket,
            kind=ManifestKind.SNAPSHOT,
            number=lease.number,
            covers=lease.covers,
            policy=info.policy,
        )
        records: list[SegmentRecord] = []
        held: list[bytes] = []
        held_bytes, after, newest, more = 0, "", 0, True
        try:
            while more:
                question = ReadEntries(bucket=bucket, after=after)
                page = await self._control.ask(question, EntryPage)
                for entry in page.entries:
                    change = ObjectChange(
                        sequence=0, key=entry.key, time_ms=entry.modified_ms, entry=entry
                    )
                    held.append(encode_item(change))
                    held_bytes += len(held[-1])
                    after = entry.key
                newest, more = max(newest, page.pending_sequence), page.more
                if held_bytes >= PART_BYTES and more:
                    records.append(await self._store_part(stream, held, records, last=False))
                    held, held_bytes = [], 0
            await self._drained(bucket, newest)
            records.append(await self._store_part(stream, held, records, last=True))
        except BaseException:
            await self._discard(bucket, records)
            raise
        await self._commit(stream, records, [])
        self.counts.snapshots += 1

    async def _drained(self, bucket: bytes, newest: int) -> None:
        """Wait until no change up to ``newest`` waits for its delta. Raises ``TIMEOUT``."""
        until_s = self._clock.monotonic() + SNAPSHOT_DRAIN_S_MAX
        while self._clock.monotonic() < until_s:
            state = await self._control.ask(ManifestLag(bucket=bucket), ManifestState)
            if not state.waiting or state.oldest_sequence > newest:
                return
            self.notify()
            await self._clock.sleep(GROUP_S)
        raise AtollError(Kind.TIMEOUT, "make snapshot", "earlier changes are not yet on nodes")


def _cut(items: list[bytes]) -> list[list[bytes]]:
    """Cut items into parts of about ``PART_BYTES``; no items are one empty part."""
    parts: list[list[bytes]] = [[]]
    size = 0
    for item in items:
        if size and size + len(item) > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += len(item)
    return parts


async def _once(plain: bytes) -> AsyncGenerator[Buffer, None]:
    yield plain
