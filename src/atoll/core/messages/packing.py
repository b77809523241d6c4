"""Small segments merged into packs: work handed to gateways, and what they made of it.

A *pack* is an ordinary segment whose plaintext is the ciphertexts of many small segments, one after
the other. Only gateways can fill one (an object's chunks are bound to keys that nobody else has);
the coordinator says what is worth packing and swaps the places in one transaction.
"""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import BucketInfo, SegmentRecord

DECLINED_MAX = 1_000
"""Buckets that a worker may decline."""


class LeasePack(Message, frozen=True):
    """A gateway has time: give it small segments to merge."""

    worker: bytes
    """16 bytes naming the worker; a lease is its own until it expires."""
    keys: bytes = b""
    """Names the gateway's root key (``keys_id``): buckets under another are not for it."""
    declined: list[bytes] = []
    """Buckets whose policies keep this gateway from serving them: they are given to others."""


class PackItem(Message, frozen=True):
    """One small segment to move into a pack."""

    key: str
    """Key of the object it belongs to; empty where it lies in an older pack already."""
    segment: SegmentRecord


class PackWork(Message, frozen=True):
    """Segments of one bucket and policy to merge; no bucket where nothing is worth it now."""

    bucket: BucketInfo | None
    items: list[PackItem] = []
    pause_ms: int = 1000
    """Not to be asked again before."""


class PackedItem(Message, frozen=True):
    """Where one segment now lies in the pack."""

    segment: bytes
    from_pack: bytes
    """The pack it was moved out of; empty for a segment that had pieces of its own."""
    offset: int


class CommitPack(Message, frozen=True):
    """The pack lies durably on nodes: let readers find its items there.

    Items deleted or overwritten meanwhile are left out; their bytes in the pack count as dead.
    """

    bucket: bytes
    pack: SegmentRecord
    items: list[PackedItem]


class PackCommitted(Message, frozen=True):
    """How many items were moved; with none the pack is collected again."""

    moved: int


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    LeasePack: PackWork,
    CommitPack: PackCommitted,
}
"""Requests of gateways of this family and their answers."""
