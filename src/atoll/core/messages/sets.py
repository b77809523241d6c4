"""The exact set of pieces of a node: compared by bitmaps, agreed by both sides.

The node asks, so that it works behind NAT. ``core.sets`` has the encodings; docs/spec/sets.md says
who does what when.
"""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import Done

MISSING_REPORTED_MAX = 10_000
"""Missing pieces named in one report; the next comparison names the rest."""


class CompareSet(Message, frozen=True):
    """A node: this I last heard of my set, in a window of ranges; what is it now?"""

    first_range: int
    end_range: int
    """At most ``core.sets.WINDOW_RANGES_MAX`` after ``first_range``."""
    base: bytes
    """``window_digest`` of what the node was last told."""
    digests: bytes = b""
    """``pack_digests`` of the same; only when asked for by ``SetChange.known``."""


class SetChange(Message, frozen=True):
    """What changed in a window, up to ``until_range``, since the node was told last."""

    as_of_ms: int
    """The coordinator's clock when it looked."""
    known: bool
    """False: what the node was told is not known here; ask again with ``digests``."""
    until_range: int
    """The answer speaks of ranges ``first_range`` to this one (excluded)."""
    next_range: int
    """The next range from ``until_range`` on of which there is something to say; -1 for none."""
    whole: bytes = b""
    removed: bytes = b""
    added: bytes = b""
    indexes: bytes = b""
    """These four: ``WindowChange.encode``."""
    kept: bytes = b""
    """Serials, less the window's first, of pieces that are not counted and that the node shall keep
    for now: on their way, or of use if it was thought dead."""
    digest: bytes = b""
    """``window_digest`` of what results, ranges ``first_range`` to ``until_range``."""
    surplus_age_ms: int = 0
    """A piece that is not counted is surplus once its order is older than this at ``as_of_ms``."""
    again_ms: int = 0
    """When to compare again."""


class Tally(Message, frozen=True):
    """Pieces and the bytes of their data areas."""

    pieces: int = 0
    piece_bytes: int = 0


class ReportSet(Message, frozen=True):
    """A node, after a comparison: what it found, by cause.

    ``held`` is ``counted`` + ``young`` + ``kept`` + ``retained`` + ``surplus``.
    """

    as_of_ms: int
    held: Tally
    """All pieces in force that this coordinator's orders stored."""
    counted: Tally
    """Of them, those that the coordinator counts."""
    young: Tally
    """Not counted, of orders too young to judge: uploads under way."""
    kept: Tally
    """Not counted, kept on the coordinator's word."""
    retained: Tally
    """Not counted, kept under retention."""
    surplus: Tally
    """Not counted and not yet moved to the trash (the volume takes no writes)."""
    discarded: Tally
    """Moved to the trash by this comparison."""
    revived: Tally
    """Taken back out of the trash by this comparison."""
    settling: int
    """Pieces counted that were deleted here a moment ago: judged next time."""
    missing: int
    """Pieces counted that are not here."""
    missing_pieces: bytes = b""
    """``pack_missing`` of the first ``MISSING_REPORTED_MAX`` of them."""


class AskSet(Message, frozen=True):
    """A node asks what it is held to and what it reported; it is known by its signature."""


class NodeSet(Message, frozen=True):
    """One node's set as both sides see it."""

    alias: int
    node_id: bytes
    operator: str
    state: str
    counted: Tally
    """What the coordinator holds it to at this moment."""
    deleting: int
    """Pieces that are no longer counted and whose deletion the node did not confirm."""
    compared_ms: int = 0
    """When it reported last; 0 for never."""
    told: Tally = Tally()
    """What the coordinator counted in that comparison."""
    report: ReportSet | None = None
    """What the node found in it."""

    @property
    def agreed(self) -> bool:
        """Whether both sides counted the same, to the byte, when they compared last."""
        if self.report is None:
            return False
        return self.report.counted == self.told and not self.report.surplus.pieces


class ListNodeSets(Message, frozen=True):
    """The sets of the nodes with aliases above ``after``, by alias."""

    after: int = 0
    limit: int = 1000


class NodeSets(Message, frozen=True):
    """One page; ``more`` where there are nodes after it."""

    time_ms: int
    nodes: list[NodeSet]
    more: bool


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    CompareSet: SetChange,
    ReportSet: Done,
    AskSet: NodeSet,
}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {ListNodeSets: NodeSets}
"""Requests of gateways of this family and their answers."""
