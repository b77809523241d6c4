"""Locks of objects: signed by the bucket's lock key, told to every holder.

A coordinator keeps the records and tells holders that were away; it can neither make one nor take
one back. So what a coordinator, its database and its keys can do to a locked object is nothing
(docs/locking.md).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TypeVar

from typing_extensions import Buffer

from atoll.client.keys import Keyring
from atoll.client.lock_keys import LockKeys, lock_keys, sign_state
from atoll.client.objects import SegmentedObjects
from atoll.client.retention import tell_holder
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    BucketInfo,
    CommitObject,
    Condition,
    ControlPlane,
    Done,
    GetBucket,
    GrantList,
    GrantReads,
    ObjectInfo,
    ObjectRead,
    PieceGrant,
    ReadObject,
    SegmentRecord,
)
from atoll.core.messages.retention import (
    RETENTION_ITEMS_MAX,
    SEGMENTS_LOCKED_MAX,
    ConfirmLocks,
    GetLock,
    HolderWord,
    LockObject,
    LockReport,
    LockState,
    RetentionItem,
    SegmentLock,
    UnsignedList,
    UnsignedLock,
    UnsignedLocks,
)
from atoll.core.ports import Address, Clock, PieceTransport
from atoll.core.retention import (
    Mode,
    next_sequence,
)

_LOG = logging.getLogger(__name__)
MODES = {"": Mode.NONE, "governance": Mode.GOVERNANCE, "compliance": Mode.COMPLIANCE}
TELL_TIMEOUT_S = 5.0
GRANTS_AT_ONCE = 16
NODES_AT_ONCE = 16
CONFIRMED_MAX = 5_000
UNSIGNED_AT_ONCE = 100
SIGN_PAUSE_S = 1.0
SIGN_PAUSE_S_MAX = 60.0
ATTEMPTS_MAX = 8
"""A lock that others change at the same moment, or whose segments are being copied into a wider
scheme one after the other, is tried so often."""

Change = Callable[[LockState, int], LockState]
"""From the state that is and the time (ms since 1970) to the state that shall be."""

Item = TypeVar("Item")


class ObjectLocks:
    """Changes locks of objects; signs what buckets' defaults left to be signed."""

    def __init__(
        self,
        control: ControlPlane,
        keyring: Keyring,
        objects: SegmentedObjects,
        transport: PieceTransport,
        clock: Clock,
        gateway_key: bytes,
    ) -> None:
        """One per gateway worker; ``gateway_key`` is its public key."""
        self._control = control
        self._keyring = keyring
        self._objects = objects
        self._transport = transport
        self._clock = clock
        self._gateway_key = gateway_key

    def keys(self, account: bytes, bucket: bytes) -> LockKeys:
        """Return a bucket's lock key and the owner's grant for it."""
        return lock_keys(self._keyring, account, bucket)

    async def report(self, bucket: BucketInfo, key: str) -> LockReport:
        """Return how an object is locked. Raises ``OBJECT_NOT_FOUND``."""
        return await self._control.ask(GetLock(bucket=bucket.bucket, key=key), LockReport)

    async def change(self, bucket: BucketInfo, key: str, change: Change) -> LockReport:
        """Change an object's lock and tell its holders; return how far they know.

        Raises ``OBJECT_NOT_FOUND``, ``RETAINED`` (compliance would be shortened), ``BAD_REQUEST``.
        """
        for attempt in range(ATTEMPTS_MAX):
            try:
                await self._change_once(bucket, key, change)
            except AtollError as error:
                if error.kind is not Kind.CONFLICT or attempt + 1 == ATTEMPTS_MAX:
                    raise
            else:
                break
        return await self.report(bucket, key)

    async def _change_once(self, bucket: BucketInfo, key: str, change: Change) -> None:
        now_ms = self._clock.now_ms()
        old = (await self.report(bucket, key)).state
        wanted = change(old, now_ms)
        sequence = next_sequence(old.sequence, now_ms)
        state = LockState(
            mode=wanted.mode,
            until_ms=wanted.until_ms,
            legal_hold=wanted.legal_hold,
            sequence=sequence,
        )
        read = await self._control.ask(ReadObject(bucket=bucket.bucket, key=key), ObjectRead)
        segments: Sequence[SegmentRecord] = read.segments
        if any(segment.packed is not None for segment in segments):
            segments = await self._unpack(bucket, key, read)
        await self._lock(bucket, key, state, segments)

    async def _lock(
        self, bucket: BucketInfo, key: str, state: LockState, segments: Sequence[SegmentRecord]
    ) -> None:
        keys = self.keys(bucket.account, bucket.bucket)
        records = {one.segment: sign_state(keys, one.segment, state) for one in segments}
        pages = list(_pages(list(records.items()), SEGMENTS_LOCKED_MAX)) or [[]]
        for number, page in enumerate(pages, 1):
            request = LockObject(
                bucket=bucket.bucket,
                key=key,
                state=state,
                grant=keys.grant,
                locks=[SegmentLock(segment=segment, record=record) for segment, record in page],
                last=number == len(pages),
            )
            await self._control.ask(request, Done)
        await self._tell(segments, records, keys.grant)

    async def _unpack(
        self, bucket: BucketInfo, key: str, read: ObjectRead
    ) -> Sequence[SegmentRecord]:
        """Give an object that lies in a pack segments of its own: a record locks a segment."""
        size = read.info.facts.size

        async def plain() -> AsyncIterator[Buffer]:
            stream = self._objects.read_object(bucket, key, read.segments, 0, size)
            async with aclosing(stream):
                async for view in stream:
                    yield view

        segments = await self._objects.write_object(bucket, key, size, plain())
        commit = CommitObject(
            bucket=bucket.bucket,
            key=key,
            facts=read.info.facts,
            segments=segments,
            condition=Condition(if_match=read.info.facts.etag),
        )
        await self._control.ask(commit, ObjectInfo)
        return segments

    # --- holders ---

    async def _tell(
        self, segments: Sequence[SegmentRecord], records: dict[bytes, bytes], grant: bytes
    ) -> None:
        """Tell all holders at once; those that cannot be reached are told by the coordinator."""
        holders: dict[int, PieceGrant] = {}
        items: dict[int, list[RetentionItem]] = defaultdict(list)
        for page in _pages(list(segments), GRANTS_AT_ONCE):
            try:
                found = await asyncio.gather(*(self._grants(one) for one in page))
            except AtollError as cause:
                _LOG.info("holders are told later: %s", cause)
                continue
            for segment, grants in zip(page, found, strict=True):
                for one in grants:
                    holders[one.alias] = one
                    record = records[segment.segment]
                    items[one.alias].append(RetentionItem(one.index, record, grant))
        gate = asyncio.Semaphore(NODES_AT_ONCE)
        answers = await asyncio.gather(
            *(self._tell_one(gate, holders[alias], some) for alias, some in items.items())
        )
        for page_of_words in _pages([word for words in answers for word in words], CONFIRMED_MAX):
            await self._control.ask(ConfirmLocks(words=page_of_words), Done)

    async def _grants(self, segment: SegmentRecord) -> list[PieceGrant]:
        question = GrantReads(
            segment=segment.segment,
            serial=segment.serial,
            pieces=segment.pieces,
            byte_cap=0,
            gateway_key=self._gateway_key,
        )
        return (await self._control.ask(question, GrantList)).grants

    async def _tell_one(
        self, gate: asyncio.Semaphore, holder: PieceGrant, items: list[RetentionItem]
    ) -> list[HolderWord]:
        address = Address(holder.host, holder.port, holder.fingerprint)
        words: list[HolderWord] = []
        async with gate:
            for page in _pages(items, RETENTION_ITEMS_MAX):
                try:
                    told = await tell_holder(
                        self._transport, address, holder.node_id, page, TELL_TIMEOUT_S
                    )
                except AtollError as cause:
                    _LOG.info("node %d is told later: %s", holder.alias, cause)
                    break
                words += [
                    HolderWord(
                        alias=holder.alias,
                        node_id=holder.node_id,
                        index=one.item.index,
                        segment=one.item.record[8:24],
                        receipt=one.receipt,
                    )
                    for one in told
                    if not one.kind
                ]
        return words

    # --- what defaults left ---

    async def sign_waiting(self) -> int:
        """Sign locks that a bucket's default made; return how many."""
        waiting = await self._control.ask(UnsignedLocks(limit=UNSIGNED_AT_ONCE), UnsignedList)
        done = 0
        for one in waiting.locks:
            try:
                await self._sign_one(one)
                done += 1
            except AtollError as cause:
                _LOG.info("the lock of %s/%s is signed later: %s", one.bucket_name, one.key, cause)
        return done

    async def _sign_one(self, one: UnsignedLock) -> None:
        bucket = await self._control.ask(GetBucket(name=one.bucket_name), BucketInfo)
        if bucket.bucket != one.bucket:
            return
        await self._change_once(bucket, one.key, lambda old, _: old)

    async def run(self) -> None:
        """Sign what waits, for ever; cancel to stop."""
        pause_s = SIGN_PAUSE_S
        while True:
            try:
                done = await self.sign_waiting()
                pause_s = 0.0 if done == UNSIGNED_AT_ONCE else SIGN_PAUSE_S
            except AtollError as cause:
                _LOG.info("locks are signed later: %s", cause)
                pause_s = min(SIGN_PAUSE_S_MAX, 2 * pause_s + SIGN_PAUSE_S)
            await self._clock.sleep(pause_s)


def _pages(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
