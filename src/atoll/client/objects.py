"""Objects of any size to segments and back: what the gateway writes and reads with."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing

from typing_extensions import Buffer

from atoll.client.keys import Keyring
from atoll.client.labels import Labels, StreamLabels
from atoll.client.lock_keys import default_lock_tlvs
from atoll.client.packing.read import PackedRead
from atoll.client.segment.source import PlainSource
from atoll.client.transfer.download import SegmentDownloader, SegmentRead
from atoll.client.transfer.upload import SegmentUpload, SegmentUploader
from atoll.core.capsule import StreamOrigin
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    AbandonedSegment,
    BucketInfo,
    DiscardSegments,
    SegmentGrant,
    SegmentRecord,
)
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX

READ_AHEAD_GROUPS = 2
"""With so few row groups left in a segment, the next one's first group is asked for."""


DISCARDS_MAX = 64
"""Failed uploads whose remains are being reported at once; further ones are left to collection."""


class SegmentedObjects:
    """Objects (or parts of multipart uploads) as sequences of segments of at most 64 MiB."""

    def __init__(
        self, keyring: Keyring, uploader: SegmentUploader, downloader: SegmentDownloader
    ) -> None:
        """One per worker."""
        self._keyring = keyring
        self._labels = Labels(keyring)
        self._uploader = uploader
        self._downloader = downloader
        self._discards: set[asyncio.Task[None]] = set()

    async def write_object(
        self,
        bucket: BucketInfo,
        key: str,
        size: int,
        source: AsyncIterator[Buffer],
        origin: StreamOrigin | None = None,
    ) -> list[SegmentRecord]:
        """Store exactly ``size`` bytes of ``source``; return when all lie durably on nodes.

        ``origin`` goes into the recovery capsules: which part it is, what S3 knows of the object.

        An empty object has no segments. Nothing is visible before the segments are committed.
        Raises what ``source`` raises, ``BAD_REQUEST`` if it has another length, and
        ``TOO_FEW_NODES``, ``OVERLOADED`` or ``TIMEOUT``.
        """
        plain = PlainSource(source, size)
        labels = StreamLabels(self._labels, bucket, key, size, origin)
        wrapping = self._keyring.content_key(bucket, key)
        sizes = segment_sizes(size)
        records: list[SegmentRecord] = []
        uploads: list[SegmentUpload] = []
        ordered: asyncio.Task[SegmentGrant] | None = None
        ending: asyncio.Task[SegmentRecord] | None = None
        try:
            for number, plain_bytes in enumerate(sizes):
                if ordered is None:
                    grant = await self._uploader.order(bucket.bucket, plain_bytes, bucket.policy)
                else:
                    grant = await ordered
                ordered = None
                cipher, wrapped = self._keyring.new_cipher(wrapping, grant.segment)
                now_ms = self._uploader.clock.now_ms()
                tlvs = labels.next(grant.segment, wrapped, now_ms)
                tlvs += default_lock_tlvs(self._keyring, bucket, grant.segment, now_ms)
                upload = self._uploader.open(
                    bucket.bucket, grant, plain_bytes, cipher, wrapped, tlvs
                )
                uploads = [*uploads[-1:], upload]
                if number + 1 < len(sizes):
                    ordered = asyncio.create_task(
                        self._uploader.order(bucket.bucket, sizes[number + 1], bucket.policy)
                    )
                await upload.send(plain)
                if ending is not None:
                    records.append(await ending)
                    ending = None
                if number + 1 < len(sizes):
                    # The last nodes of this segment answer while the next one is already sent.
                    ending = asyncio.create_task(upload.finish())
                else:
                    records.append(await upload.finish())
            await plain.finish()
        except (Exception, asyncio.CancelledError):
            self._abandon(bucket, records, uploads)
            raise
        finally:
            for task in (ordered, ending):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            for upload in uploads:
                await upload.abort()
        return records

    def _abandon(
        self, bucket: BucketInfo, records: list[SegmentRecord], uploads: list[SegmentUpload]
    ) -> None:
        """Ask, in the background, that what a failed upload left on nodes be deleted.

        Best effort: what is not asked for here waits for the comparison of sets.
        """
        left = {
            record.segment: AbandonedSegment(
                segment=record.segment, serial=record.serial, pieces=record.pieces
            )
            for record in records
        } | {upload.abandoned.segment: upload.abandoned for upload in uploads}
        if left and len(self._discards) < DISCARDS_MAX:
            task = asyncio.create_task(
                self._uploader.discard(
                    DiscardSegments(bucket=bucket.bucket, segments=list(left.values()))
                )
            )
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)

    async def read_object(
        self,
        bucket: BucketInfo,
        key: str,
        segments: Sequence[SegmentRecord],
        start: int,
        end: int,
    ) -> AsyncGenerator[memoryview, None]:
        """Stream plaintext bytes ``start`` up to but without ``end``, every byte verified.

        A yielded view keeps its content for as long as anybody holds it. Close the iterator
        (``aclosing``) when leaving early. Raises ``BAD_REQUEST`` for a range outside the object,
        ``TOO_FEW_NODES`` or ``DATA_LOST``.
        """
        size = sum(segment.plain_bytes for segment in segments)
        if not 0 <= start <= end <= size:
            raise AtollError(Kind.BAD_REQUEST, "read object", "the range is outside the object")
        wrapping = self._keyring.content_key(bucket, key)
        waiting = _reads(self._downloader, self._keyring, (bucket, wrapping), segments, start, end)
        current: SegmentRead | PackedRead | None = next(waiting, None)
        following: SegmentRead | PackedRead | None = None
        try:
            while current is not None:
                async with aclosing(current.views()) as views:
                    async for view in views:
                        if following is None and current.groups_left < READ_AHEAD_GROUPS:
                            following = next(waiting, None)
                            if following is not None:
                                following.start()
                        yield view
                        del view
                current, following = following or next(waiting, None), None
        finally:
            for read in (current, following):
                if read is not None:
                    await read.close()


def segment_sizes(size: int) -> list[int]:
    """Return the plaintext bytes of each segment of an object or part of ``size`` bytes."""
    whole, rest = divmod(size, SEGMENT_PLAIN_BYTES_MAX)
    return [SEGMENT_PLAIN_BYTES_MAX] * whole + [rest] * bool(rest)


def _reads(
    downloader: SegmentDownloader,
    keyring: Keyring,
    owner: tuple[BucketInfo, bytes],
    segments: Sequence[SegmentRecord],
    start: int,
    end: int,
) -> Iterator[SegmentRead | PackedRead]:
    """Yield a read for each segment that the range touches, in order, none of them begun.

    ``owner`` is the bucket and the key that wraps the object's content keys.
    """
    bucket, wrapping = owner
    offset = 0
    for segment in segments:
        first = max(start - offset, 0)
        last = min(end - offset, segment.plain_bytes)
        offset += segment.plain_bytes
        if first >= last:
            continue
        cipher = keyring.cipher(wrapping, segment)
        if segment.packed is None:
            yield downloader.open(segment, cipher, first, last)
            continue
        pack_wrapping = keyring.bucket(bucket.account, bucket.bucket).pack_key()
        pack_cipher = keyring.cipher(pack_wrapping, segment.packed.record())
        yield PackedRead(downloader, segment, (pack_cipher, cipher), first, last)
