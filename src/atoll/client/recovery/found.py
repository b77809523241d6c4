"""What a search finds of segments and buckets, before it knows the objects."""

import hashlib
from dataclasses import dataclass, field

from atoll.core.capsule import Capsule
from atoll.core.messages import SegmentRecord
from atoll.core.messages.recovery import CatalogueEntry, ObjectEntry
from atoll.core.pieces import Header


@dataclass(frozen=True, slots=True)
class FoundSegment:
    """A segment as its capsule and head describe it."""

    segment: bytes
    capsule: Capsule
    header: Header

    def record(self, root: bytes) -> SegmentRecord:
        """Return the message form, without pieces."""
        return SegmentRecord(
            segment=self.segment,
            plain_bytes=self.header.plain_bytes,
            k=self.header.k,
            n=self.header.n,
            unit_bytes=self.header.unit_bytes,
            root=root,
            wrapped_key=self.capsule.wrapped_key,
            pieces=[],
        )


@dataclass(slots=True)
class FoundBucket:
    """A bucket whose pieces were met."""

    bucket: bytes
    account: bytes
    info: CatalogueEntry | None = None
    object_tags: list[bytes] = field(default_factory=list)
    manifest_tags: list[bytes] = field(default_factory=list)
    newest_ms: int = 0
    """When its newest manifest was written; 0 for none."""
    newest_number: int = 0


def stamp_of(entry: ObjectEntry) -> bytes:
    """Tell one version of an object from others: its segments, or what an empty one is like."""
    digest = hashlib.sha256()
    for record in entry.segments:
        digest.update(record.segment)
    digest.update(f"{entry.modified_ms}/{entry.facts.size}/{entry.facts.etag}".encode())
    return digest.digest()[:16]
