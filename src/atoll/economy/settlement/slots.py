"""Which slots of proofs belong to an epoch: known from its document and the length of a slot."""

from typing import Final

SLOTS_SETTLED_AFTER: Final = 3
"""A slot counts in an epoch that ends so many slots after it: by then its verdicts are in."""


def slots_end_of(until_ms: int, slot_ms: int) -> int:
    """Return the first slot that is too young to count in an epoch that ends then."""
    return max(0, until_ms // slot_ms - SLOTS_SETTLED_AFTER)


def slots_of(from_ms: int, until_ms: int, slot_ms: int, ended: int | None) -> tuple[int, int]:
    """Return the first slot of an epoch, and the first one after it.

    ``ended``: that of the epoch before; None for the first epoch.
    """
    first = from_ms // slot_ms if ended is None else ended
    return first, max(slots_end_of(until_ms, slot_ms), first)
