"""Copies segments into wider schemes once the network has grown, beside the packer.

A copy is a segment like any other: id, content key and signature of its own, the same plaintext,
streamed row group by row group from the old pieces to the new ones. Its chunks are encrypted anew,
since the old ones are bound to the old id, under a fresh key, since the old key and chunk numbers
with another id would give away GCM's authentication key. What the old pieces told their owner (tag,
capsule) the new ones tell too; the capsule differs by the wrapped key alone, so it still says when
the object was written and where in it the segment belongs.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from typing_extensions import override

from atoll.client.packing.background import BackgroundWork
from atoll.client.segment.source import PlainSource
from atoll.core.capsule import Capsule, open_capsule, tlv_of
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import (
    AbandonedSegment,
    BucketInfo,
    DiscardSegments,
    GrantList,
    GrantReads,
    PieceGrant,
    SegmentGrant,
    SegmentRecord,
)
from atoll.core.messages.upgrades import (
    CommitUpgrade,
    LeaseUpgrade,
    UpgradeCommitted,
    UpgradeItem,
    UpgradeWork,
)
from atoll.core.pieces import TlvType, parse_header
from atoll.core.ports import Address, PiecePart

log = logging.getLogger(__name__)

HEAD_TIMEOUT_S = 10.0
HEAD_BYTES_MAX = 16 << 10
"""Room for a head: orders leave 8 KiB for TLVs."""
HEAD_TRIES_MAX = 8
"""Holders asked for a segment's capsule."""


@dataclass(slots=True)
class UpgradeCounts:
    """What an upgrader has done since it started."""

    upgraded: int = 0
    overtaken: int = 0
    """Copies made in vain: the segment was deleted, replaced, packed or locked meanwhile."""
    failed: int = 0
    """Segments that could not be read or stored; they are tried again with the next search."""


class Upgrader(BackgroundWork[UpgradeCounts]):
    """One gateway worker's upgrader: one segment at a time, in the background."""

    name = "upgrading"
    counts_type = UpgradeCounts

    @override
    async def step(self) -> float:
        """Copy what is leased, if anything; return how many seconds to wait before the next.

        Raises where placement gives no wider scheme now, or the control plane does not answer.
        """
        question = LeaseUpgrade(
            worker=self._worker,
            keys=self._keyring.keys_id,
            declined=self._admission.declined(),
        )
        work = await self._control.ask(question, UpgradeWork)
        if work.bucket is None or not await self._admission.admits(work.bucket):
            return work.pause_ms / 1000
        done = 0
        for item in work.items:
            grant = await self._order(work.bucket, work.k, item.segment)
            try:
                done += await self._upgrade(work.bucket, item, grant)
            except AtollError as fault:
                self.counts.failed += 1
                log.info("a segment keeps its scheme for now: %s", fault)
        if done:
            log.info("upgraded %d of %d segments to k=%d", done, len(work.items), work.k)
        return work.pause_ms / 1000

    async def _order(self, bucket: BucketInfo, k: int, segment: SegmentRecord) -> SegmentGrant:
        grant = await self._uploader.order(
            bucket.bucket, segment.plain_bytes, bucket.policy, upkeep=True
        )
        if grant.k < k:
            # Nothing was sent: an order that nobody uses leaves nothing behind.
            raise AtollError(
                Kind.TOO_FEW_NODES,
                "upgrade segment",
                f"placement gives {grant.k}/{grant.n} now, not a scheme of k={k}",
            )
        return grant

    async def _upgrade(self, bucket: BucketInfo, item: UpgradeItem, grant: SegmentGrant) -> bool:
        old = item.segment
        wrapping = self._wrapping(bucket, item.key)
        capsule = await self._capsule(bucket, old)
        cipher, wrapped = self._keyring.new_cipher(wrapping, grant.segment)
        told = msgspec.structs.replace(
            capsule, wrapped_key=wrapped, stream=self._stream(item, capsule)
        )
        tlvs = self._labels.tlvs(bucket.account, bucket.bucket, grant.segment, told)
        upload = self._uploader.open(bucket.bucket, grant, old.plain_bytes, cipher, wrapped, tlvs)
        try:
            async with aclosing(self._plain(old, wrapping)) as source:
                plain = PlainSource(source, old.plain_bytes)
                await upload.send(plain)
                record = await upload.finish()
                await plain.finish()
            request = CommitUpgrade(
                bucket=bucket.bucket, key=item.key, old=old.segment, segment=record
            )
            answer = await self._control.ask(request, UpgradeCommitted)
        except BaseException:
            # A commit whose answer was lost is left alone by the coordinator.
            left = upload.abandoned
            await upload.abort()
            await self._discard(bucket, left)
            raise
        await upload.abort()
        self.counts.upgraded += answer.swapped
        self.counts.overtaken += not answer.swapped
        return answer.swapped

    @staticmethod
    def _stream(item: UpgradeItem, capsule: Capsule) -> bytes:
        """Return by what id the object's other segments name its first one: the one it began with.

        A pack is a stream of its own, whatever it is a copy of.
        """
        return (capsule.stream or item.segment.segment) if item.key else b""

    def _wrapping(self, bucket: BucketInfo, key: str) -> bytes:
        """Return the key that wraps the content keys of an object's segments, or of packs."""
        if key:
            return self._keyring.content_key(bucket, key)
        return self._keyring.bucket(bucket.account, bucket.bucket).pack_key()

    async def _plain(
        self, segment: SegmentRecord, wrapping: bytes
    ) -> AsyncGenerator[memoryview, None]:
        cipher = self._keyring.cipher(wrapping, segment)
        reading = self._downloader.read(segment, cipher, 0, segment.plain_bytes)
        async with aclosing(reading) as views:
            async for view in views:
                yield view

    async def _discard(self, bucket: BucketInfo, left: AbandonedSegment) -> None:
        await self._uploader.discard(DiscardSegments(bucket=bucket.bucket, segments=[left]))

    # --- what the old pieces tell their owner ---------------------------------------------------

    async def _capsule(self, bucket: BucketInfo, segment: SegmentRecord) -> Capsule:
        """Return a segment's capsule, as the first honest holder serves it.

        Nobody else can make one that opens: holders need not be trusted. Raises the last fault.
        """
        question = GrantReads(
            segment=segment.segment,
            pieces=segment.pieces,
            byte_cap=HEAD_BYTES_MAX,
            gateway_key=self._downloader.gateway_key,
            serial=segment.serial,
        )
        grants = (await self._control.ask(question, GrantList)).grants
        recovery = self._keyring.bucket(bucket.account, bucket.bucket).recovery_key()
        fault = AtollError(Kind.TOO_FEW_NODES, "read capsule", "no holder can be asked now")
        for grant in grants[:HEAD_TRIES_MAX]:
            try:
                return await self._capsule_at(grant, segment, recovery)
            except AtollError as cause:
                fault = cause
        raise fault

    async def _capsule_at(
        self, grant: PieceGrant, segment: SegmentRecord, recovery: bytes
    ) -> Capsule:
        data = await self._downloader.transport.get_piece(
            Address(grant.host, grant.port, grant.fingerprint),
            piece_id_of(SegmentId(segment.segment), grant.index),
            grant.order,
            PiecePart.HEAD,
            0,
            0,
            HEAD_TIMEOUT_S,
        )
        sealed = tlv_of(parse_header(data), TlvType.RECOVERY_CAPSULE)
        if sealed is None:
            raise AtollError(Kind.CORRUPT, "read capsule", "the piece has no capsule")
        return open_capsule(recovery, segment.segment, sealed)
