"""Decides what goes into a pack."""

from collections.abc import Iterable
from dataclasses import dataclass

from atoll.core.messages import SegmentRecord
from atoll.core.packing import PACK_ITEMS_MAX, PackedLayout
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX, TINY, scheme_for


@dataclass(frozen=True, slots=True)
class PackingProfile:
    """How eagerly small objects are packed. Times in milliseconds."""

    age_ms: int
    """An object is left alone until it is so old: what is young is often deleted or overwritten."""
    bytes_min: int
    """Less than this is not worth a pack, unless it is a rest."""
    pass_ms: int
    """Rest between two searches through one bucket."""
    lease_ms: int = 15 * 60_000
    """A worker that has not finished by then is taken for dead."""
    rest_age_ms: int = 7 * 24 * 3_600_000
    """What is so old and still alone is a rest: its bucket has too little for a usual pack."""
    rest_bytes_min: int = 64 << 10
    """From here on a pack of a rest costs no more bytes on nodes than four copies of each do."""
    pause_ms: int = 1_000
    """Between two packs of one worker."""


PROFILES = {
    "local": PackingProfile(
        age_ms=10 * 60_000, bytes_min=4 << 20, pass_ms=60_000, rest_age_ms=20 * 60_000
    ),
    "demo": PackingProfile(
        age_ms=60 * 60_000, bytes_min=4 << 20, pass_ms=60_000, rest_age_ms=90 * 60_000
    ),
    "wan": PackingProfile(age_ms=24 * 3_600_000, bytes_min=16 << 20, pass_ms=6 * 3_600_000),
}
"""By the coordinator's profile."""


@dataclass(slots=True)
class Basket:
    """Fills up to one pack."""

    items: int = 0
    stored_bytes: int = 0

    def take(self, segment: SegmentRecord) -> bool:
        """Take a segment if it still fits; say whether it did."""
        stored = PackedLayout(segment.plain_bytes, segment.unit_bytes).stored_bytes
        if self.items >= PACK_ITEMS_MAX or self.stored_bytes + stored > SEGMENT_PLAIN_BYTES_MAX:
            return False
        self.items += 1
        self.stored_bytes += stored
        return True

    @property
    def full(self) -> bool:
        """Whether hardly anything more would fit."""
        return self.items >= PACK_ITEMS_MAX or self.stored_bytes > SEGMENT_PLAIN_BYTES_MAX - (
            1 << 16
        )


def rest_is_safer(operators: int) -> bool:
    """Say whether a pack among so many operators survives more losses than a tiny object's copies.

    Where it does not, packing a rest would make it weaker and save nothing.
    """
    scheme = scheme_for(SEGMENT_PLAIN_BYTES_MAX, operators)
    return scheme.n - scheme.k > TINY.n - TINY.k


def worth_it(segments: Iterable[SegmentRecord], profile: PackingProfile) -> bool:
    """Say whether so many small segments make a pack worth writing."""
    stored = sum(PackedLayout(s.plain_bytes, s.unit_bytes).stored_bytes for s in segments)
    return stored >= profile.bytes_min
