"""The nouns of sets: what is counted, how it is marked, what a node answered."""

from dataclasses import dataclass

from atoll.core.messages.sets import ReportSet


@dataclass(frozen=True, slots=True)
class SetEntry:
    """One piece that a node is held to."""

    serial: int
    segment: bytes
    index: int
    segment_root: bytes
    leaf_count: int
    """Leaves of 4 KiB of its data area, at least one."""
    piece_bytes: int
    """Of its data area."""


@dataclass(frozen=True, slots=True)
class RangeMark:
    """What tells, cheaply and surely enough, whether a range changed since it was looked at."""

    pieces: int
    piece_bytes: int
    mark: int
    """``rules.mark_of``, summed over the pieces."""


@dataclass(frozen=True, slots=True)
class ToldRange:
    """A range as its node was told it last."""

    mark: RangeMark
    digest: bytes


@dataclass(frozen=True, slots=True)
class Counted:
    """Pieces and bytes of their data areas."""

    pieces: int
    piece_bytes: int


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node answered last."""

    alias: int
    reported_ms: int
    counted: Counted
    """What the coordinator counted in that comparison."""
    report: ReportSet
