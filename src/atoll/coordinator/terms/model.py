"""The nouns of departures."""

from dataclasses import dataclass

from atoll.coordinator.metadata.model import StoredSegment
from atoll.core.messages import StoredPiece

REASONS = ("evacuate", "exit", "shrink")


@dataclass(frozen=True, slots=True)
class DepartureRow:
    """What a node moved away since it began to leave, shrink or evacuate."""

    alias: int
    reason: str
    began_ms: int
    ended_ms: int
    """0 while it is under way."""
    moved_pieces: int
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class Wish:
    """A piece to be moved, as it is recorded."""

    segment: StoredSegment
    piece: StoredPiece
    spare: float
    """Pieces that the segment has above what is needed to read it."""
