"""Pure decisions of sets: when to compare, what is too old, whether a range changed."""

from collections.abc import Iterable
from dataclasses import dataclass

from atoll.coordinator.sets.model import RangeMark
from atoll.core.sets import RANGE_SERIALS


@dataclass(frozen=True, slots=True)
class SetTimers:
    """How sets are compared. One per timer profile."""

    again_ms: int
    """Between two comparisons of a node."""
    surplus_age_ms: int
    """A piece that is not counted is surplus once its order is this old: an upload that takes
    longer has its first pieces moved to the trash, and taken out of it when it is committed."""

    def __post_init__(self) -> None:
        if self.again_ms <= 0 or self.surplus_age_ms < 0:
            raise ValueError(f"timers that cannot be: {self}")


LOCAL = SetTimers(10_000, 60_000)
WAN = SetTimers(6 * 3_600_000, 48 * 3_600_000)
PROFILES = {"local": LOCAL, "demo": LOCAL, "wan": WAN}

MARK_FACTOR = 2_654_435_761
INDEX_FACTOR = 40_503
MARK_MASK = (1 << 31) - 1
MARK_SHIFT = 16


def mark_of(serial: int, index: int) -> int:
    """Return a piece's share of its range's mark (below 2^46): scrambled, so that sums differ.

    The same as SQL, ``store.MARK``. It tells changes of our own rows, not of an adversary's.
    """
    low = serial & (RANGE_SERIALS - 1)
    scrambled = (low * MARK_FACTOR + index * INDEX_FACTOR) & MARK_MASK
    return (scrambled * scrambled) >> MARK_SHIFT


def range_mark(pieces: Iterable[tuple[int, int, int]]) -> RangeMark:
    """Return the mark of a range's pieces: (serial, index, bytes)."""
    listed = list(pieces)
    mark = sum([mark_of(serial, index) for serial, index, _ in listed])
    return RangeMark(len(listed), sum([piece_bytes for _, _, piece_bytes in listed]), mark)
