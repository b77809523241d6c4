"""Pure decisions of collection: which answers mean done, how long to leave a node alone."""

from dataclasses import dataclass

from atoll.core.errors import Kind


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """How collection works. One per timer profile."""

    poll_s: float
    """Rest between two looks at what is waiting."""
    batch_pieces: int = 500
    """Deletions sent to a node at once; a node takes at most 1,000."""
    nodes_at_once: int = 8
    timeout_s: float = 30.0
    retry_ms_min: int = 1000
    retry_ms_max: int = 600_000
    """A node that does not answer, or refuses, is left alone for this long at most."""


LOCAL = CollectionLimits(poll_s=1.0, retry_ms_max=15_000)
WAN = CollectionLimits(poll_s=30.0, retry_ms_min=30_000, retry_ms_max=3_600_000)
LIMITS = {"local": LOCAL, "wan": WAN, "demo": LOCAL}

_SETTLED = frozenset({"", Kind.NOT_FOUND.value, Kind.RETAINED.value, Kind.FORBIDDEN.value})


def settled(answer: str) -> bool:
    """Say whether a node's word for one deletion leaves nothing to send again.

    The piece is gone, in the trash, no longer ours (its owner gave it to another coordinator:
    ``forbidden``), or *retained*: its owner locked it, perhaps for years. That one
    goes to the trash without an order when sets are compared after the lock has ended. Sent again
    and again until then, its deletion would hold up others for the node, and keep the node from
    taking any other piece of the segment in a repair.
    """
    return answer in _SETTLED


def retry_ms(failures: int, limits: CollectionLimits) -> int:
    """Return how long to leave a node alone after so many failures in a row."""
    return min(limits.retry_ms_max, limits.retry_ms_min << min(max(0, failures - 1), 20))
