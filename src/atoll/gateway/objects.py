"""What the gateway asks of the data's way: bytes to segments and back."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from atoll.core.capsule import StreamOrigin
from atoll.core.messages import BucketInfo, SegmentRecord


class ObjectStore(Protocol):
    """Encrypts, encodes and places bytes on nodes, and brings them back (``client.objects``)."""

    async def write_object(
        self,
        bucket: BucketInfo,
        key: str,
        size: int,
        source: AsyncIterator[memoryview],
        origin: StreamOrigin | None = None,
    ) -> list[SegmentRecord]:
        """Store exactly ``size`` bytes of ``source``; return when all lie durably on nodes.

        ``origin`` goes into the segments' recovery capsules.

        Nothing is visible before the segments are committed. Raises what ``source`` raises, and
        ``AtollError`` (``TOO_FEW_NODES``, ``OVERLOADED``, ``TIMEOUT``).
        """

    def read_object(
        self,
        bucket: BucketInfo,
        key: str,
        segments: Sequence[SegmentRecord],
        start: int,
        end: int,
    ) -> AsyncIterator[memoryview]:
        """Stream plaintext bytes ``start`` up to but without ``end``, verified.

        A yielded view keeps its content: its memory is never written again.
        """
