"""What is thought of a node and why: states, figures, remedies."""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import Done


class TransferSum(Message, frozen=True):
    """What one gateway saw of one node since its last report."""

    alias: int
    reads: int = 0
    """Pieces it served, each counted once."""
    refused: int = 0
    """Pieces whose read it refused or answered wrongly, each counted once."""
    silent: int = 0
    """Pieces whose read got no answer: the node's fault, or the line's."""
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    """Quantiles of the time to a read's answer; 0 where nothing was read."""
    bytes_per_s: float = 0.0
    """Mean rate of long reads; 0 where there were none."""
    puts: int = 0
    """New pieces it took."""
    full: int = 0
    """New pieces it refused for want of room, although it had told of room."""


class ReportTransfers(Message, frozen=True):
    """A gateway tells what it saw of nodes, some seconds together."""

    region: str = ""
    nodes: list[TransferSum] = []
    """At most 10,000."""
    reporter: bytes = b""
    """Key of a gateway that is not the coordinator's own; set by the coordinator, from the
    request's signature."""


class AskHealth(Message, frozen=True):
    """A node asks what is thought of it; it is known by its signature."""


class GetNodeHealth(Message, frozen=True):
    """What is thought of one node."""

    alias: int


class AxisHealth(Message, frozen=True):
    """One axis: its rule and how the node stands against it."""

    axis: str
    level: str
    """``unknown``, ``fine``, ``warning``, ``suspect`` or ``breach``."""
    rule: str
    figure: str
    threshold: str
    margin: str
    window: str
    remedy: str = ""
    deadline_ms: int = 0
    """Until when the remedy is to be done; 0 where there is no such time."""
    used: float = 0.0
    """How much of the way to the threshold is gone, 0..1."""


class FailedCheck(Message, frozen=True):
    """One failed sample or read."""

    axis: str
    at_ms: int
    slot: int
    piece: bytes
    """Piece id; empty where the whole answer was missing."""
    reason: str
    evidence: str = ""
    """Where the signed verdict is found."""
    forgiven: str = ""
    """Why it does not count; empty where it does."""


class StandingEvent(Message, frozen=True):
    """One line of a node's history."""

    at_ms: int
    kind: str
    """``standing``, ``warning``, ``well`` or ``amnesty``."""
    before: str
    after: str
    axis: str
    rule: str
    figure: str
    threshold: str
    evidence: str = ""
    deadline_ms: int = 0
    remedy: str = ""


class RegionSpeed(Message, frozen=True):
    """How quick a node is, seen from one region."""

    region: str
    p50_ms: float
    p95_ms: float
    bytes_per_s: float
    reads: int


class NodeHealth(Message, frozen=True):
    """All that is thought of one node, with reasons."""

    time_ms: int
    alias: int
    node_id: bytes
    operator: str
    region: str
    country: str
    tier: str
    state: str
    """As the registry has it: ``alive``, ``suspect``, ``dead``, ``lost``, ``away``."""
    last_seen_ms: int
    registered_ms: int
    standing: str
    since_ms: int
    meaning: str
    """What the standing means for new pieces and income."""
    deadline_ms: int
    axes: list[AxisHealth]
    speeds: list[RegionSpeed]
    failed: list[FailedCheck]
    """Latest first, at most 1,000."""
    history: list[StandingEvent]
    """Latest first, at most 200."""
    samples_passed: int
    samples_failed: int
    last_proof_ms: int
    """When its latest possession samples were judged; 0 for never."""
    profile: str


class ListStandings(Message, frozen=True):
    """The standings of nodes, by alias."""

    after: int = 0
    """Only aliases above this one."""
    limit: int = 1000
    """At most 1,000."""


class NodeStanding(Message, frozen=True):
    """One node's standing in short."""

    alias: int
    node_id: bytes
    operator: str
    region: str
    country: str
    tier: str
    state: str
    standing: str
    since_ms: int
    deadline_ms: int
    possession: float
    """Score of the sequential test; out at +13.8."""
    online_share: float
    """Share of the counted windows."""
    windows: int
    """How many counted."""
    success: float
    p50_ms: float
    p95_ms: float
    samples_passed: int
    samples_failed: int
    last_proof_ms: int
    warnings: list[str] = []
    """Axes that are not fine, with their level: ``availability warning``."""


class MassFailure(Message, frozen=True):
    """So many failed at once that it counted against nobody."""

    axis: str
    number: int
    """Slot or window."""
    at_ms: int
    operators_failed: int
    operators: int
    reason: str


class StandingList(Message, frozen=True):
    """The answer to ``ListStandings``."""

    time_ms: int
    profile: str
    nodes: list[NodeStanding]
    more: bool
    forgiven: list[MassFailure] = []
    """Latest first, at most 100."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {AskHealth: NodeHealth}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    ReportTransfers: Done,
    GetNodeHealth: NodeHealth,
    ListStandings: StandingList,
}
"""Requests of gateways of this family and their answers."""
