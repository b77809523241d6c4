"""Segments copied into wider schemes, once a network has grown: work for gateways, what came of it.

A coordinator says which segments have a narrower scheme than their placement has long offered.
Only a gateway can copy one: it signs the trailer, and a segment's chunks are bound to its id by
keys that only gateways have. The swap is one transaction; what changed meanwhile wins.
"""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import BucketInfo, SegmentRecord


class LeaseUpgrade(Message, frozen=True):
    """A gateway has time: give it segments to copy."""

    worker: bytes
    """16 bytes naming the worker; a lease is its own until it expires."""
    keys: bytes = b""
    """Names the gateway's root key (``keys_id``): buckets under another are not for it."""
    declined: list[bytes] = []
    """Buckets whose policies keep this gateway from serving them: they are given to others."""


class UpgradeItem(Message, frozen=True):
    """One segment to copy."""

    key: str
    """Key of the object it belongs to; empty for a pack."""
    segment: SegmentRecord


class UpgradeWork(Message, frozen=True):
    """Segments of one bucket to copy; no bucket where there is nothing to do now."""

    bucket: BucketInfo | None
    k: int = 0
    """A copy has a scheme of at least this ``k``; placement that gives less is not used."""
    items: list[UpgradeItem] = []
    pause_ms: int = 1000
    """Not to be asked again before."""


class CommitUpgrade(Message, frozen=True):
    """A copy lies durably on nodes: let it take the segment's place.

    The bytes are the same; id, keys, scheme and pieces are other ones.
    """

    bucket: bytes
    key: str
    """As in ``UpgradeItem``."""
    old: bytes
    segment: SegmentRecord


class UpgradeCommitted(Message, frozen=True):
    """Whether the copy took the place.

    If not, the segment was deleted, replaced, packed or locked meanwhile, or the copy is not
    safer; the copy's pieces are collected.
    """

    swapped: bool


class GetUpgrades(Message, frozen=True):
    """How far are upgrades?"""


class UpgradeStatus(Message, frozen=True):
    """The answer to ``GetUpgrades``: by the last whole survey, less what was done since."""

    below_segments: int = 0
    """Segments of a narrower scheme than their placement offers; they wait to be copied."""
    below_bytes: int = 0
    """Plaintext bytes of those."""
    locked_segments: int = 0
    """Of a narrower scheme too, and kept as they are while their owner's lock lasts."""
    upgraded_segments: int = 0
    """Copied since the coordinator's first start."""
    upgraded_bytes: int = 0
    offered: list[int] = []
    """Values of ``k`` of the widest classes that placement offers now, by policy, ascending."""
    surveyed_ms: int = 0
    """When the last whole survey ended; 0: there was none yet."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    LeaseUpgrade: UpgradeWork,
    CommitUpgrade: UpgradeCommitted,
    GetUpgrades: UpgradeStatus,
}
"""Requests of gateways of this family and their answers."""
