"""Fills packs: reads small segments, writes their ciphertexts one after the other, swaps places.

A packed segment keeps its content key and its chunks: encrypting the same plaintext under the same
key and numbers gives the same bytes again, so nothing is weakened by doing it twice. The pack adds
a layer of its own, under a key of the bucket that opens nothing but ciphertext.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from typing_extensions import override

from atoll.client.packing.background import BackgroundWork
from atoll.client.packing.read import read_packed
from atoll.client.segment.source import PlainSource
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    AbandonedSegment,
    BucketInfo,
    DiscardSegments,
)
from atoll.core.messages.packing import (
    CommitPack,
    LeasePack,
    PackCommitted,
    PackedItem,
    PackItem,
    PackWork,
)
from atoll.core.packing import PackedLayout
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX, TAG_BYTES

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PackCounts:
    """What a packer has done since it started."""

    packs: int = 0
    moved: int = 0
    left_out: int = 0


class Packer(BackgroundWork[PackCounts]):
    """One gateway worker's packer: one pack at a time, in the background."""

    name = "packing"
    counts_type = PackCounts

    @override
    async def step(self) -> float:
        """Make one pack if any is worth it; return how many seconds to wait before the next."""
        question = LeasePack(
            worker=self._worker,
            keys=self._keyring.keys_id,
            declined=self._admission.declined(),
        )
        work = await self._control.ask(question, PackWork)
        if work.bucket is not None and work.items and await self._admission.admits(work.bucket):
            await self._pack(work.bucket, work.items)
        return work.pause_ms / 1000

    async def _pack(self, bucket: BucketInfo, items: list[PackItem]) -> None:
        layouts = [PackedLayout(i.segment.plain_bytes, i.segment.unit_bytes) for i in items]
        total = sum(layout.stored_bytes for layout in layouts)
        if total > SEGMENT_PLAIN_BYTES_MAX:
            raise AtollError(Kind.INTERNAL, "pack segments", "more was given than a pack can hold")
        grant = await self._uploader.order(bucket.bucket, total, bucket.policy, upkeep=True)
        wrapping = self._keyring.bucket(bucket.account, bucket.bucket).pack_key()
        cipher, wrapped = self._keyring.new_cipher(wrapping, grant.segment)
        now_ms = self._clock.now_ms()
        tlvs = self._labels.pack_tlvs(bucket, grant.segment, wrapped, total, now_ms)
        upload = self._uploader.open(bucket.bucket, grant, total, cipher, wrapped, tlvs)
        moved: list[PackedItem] = []
        try:
            async with aclosing(self._ciphertexts(bucket, wrapping, items, moved)) as source:
                plain = PlainSource(source, total)
                await upload.send(plain)
                record = await upload.finish()
                await plain.finish()
            answer = await self._control.ask(
                CommitPack(bucket=bucket.bucket, pack=record, items=moved), PackCommitted
            )
        except BaseException:
            # A commit whose answer was lost is left alone by the coordinator.
            left = upload.abandoned
            await upload.abort()
            await self._discard(bucket, left)
            raise
        await upload.abort()
        self.counts.packs += 1
        self.counts.moved += answer.moved
        self.counts.left_out += len(items) - answer.moved
        log.info("packed %d of %d small segments", answer.moved, len(items))

    async def _discard(self, bucket: BucketInfo, left: AbandonedSegment) -> None:
        await self._uploader.discard(DiscardSegments(bucket=bucket.bucket, segments=[left]))

    async def _ciphertexts(
        self, bucket: BucketInfo, wrapping: bytes, items: list[PackItem], moved: list[PackedItem]
    ) -> AsyncGenerator[memoryview, None]:
        """Yield the items' ciphertexts in order; note in ``moved`` those that could be read.

        The place of one that could not (deleted meanwhile, too few nodes) is filled with zeros.
        """
        offset = 0
        for item in items:
            segment = item.segment
            length = PackedLayout(segment.plain_bytes, segment.unit_bytes).stored_bytes
            try:
                stored = await self._ciphertext(bucket, wrapping, item)
                place = segment.packed
                moved.append(
                    PackedItem(
                        segment=segment.segment,
                        from_pack=b"" if place is None else place.segment,
                        offset=offset,
                    )
                )
            except AtollError as fault:
                log.info("a small segment stays where it is: %s", fault)
                stored = bytearray(length)
            yield memoryview(stored)
            offset += length

    async def _ciphertext(self, bucket: BucketInfo, wrapping: bytes, item: PackItem) -> bytearray:
        segment = item.segment
        layout = PackedLayout(segment.plain_bytes, segment.unit_bytes)
        if segment.packed is not None:
            cipher = self._keyring.cipher(wrapping, segment.packed.record())
            span = (0, layout.stored_bytes)
            return await read_packed(self._downloader, segment, cipher, span)
        cipher = self._keyring.cipher(self._keyring.content_key(bucket, item.key), segment)
        plain = bytearray()
        reading = self._downloader.read(segment, cipher, 0, segment.plain_bytes)
        async with aclosing(reading) as views:
            async for view in views:
                plain += view
        stored = bytearray(layout.stored_bytes)
        source, target = memoryview(plain), memoryview(stored)
        at = done = 0
        for chunk in range(layout.chunks):
            length = layout.chunk_plain_bytes(chunk)
            cipher.encrypt_chunk(
                chunk,
                chunk == layout.chunks - 1,
                source[at : at + length],
                target[done : done + length + TAG_BYTES],
            )
            at, done = at + length, done + length + TAG_BYTES
        return stored
