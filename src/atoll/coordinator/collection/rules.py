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

_GONE = frozenset({"", Kind.NOT_FOUND.value})


def deleted(answer: str) -> bool:
    """Say whether a node's word for one deletion means that the piece is gone (or in its trash)."""
    return answer in _GONE


def retry_ms(failures: int, limits: CollectionLimits) -> int:
    """Return how long to leave a node alone after so many failures in a row."""
    return min(limits.retry_ms_max, limits.retry_ms_min << min(max(0, failures - 1), 20))
