"""The nouns of the registry: a node as the coordinator sees it, its states, the timers."""

from dataclasses import dataclass
from enum import Enum

from atoll.coordinator.registry.hours import ALL_HOURS, Hours, Notice
from atoll.core.messages import NodeCounters, NodeFacts
from atoll.core.ports import Address

NO_COUNTERS = NodeCounters(
    used_bytes=0, trash_bytes=0, free_bytes=0, pieces=0, put_bytes=0, get_bytes=0, errors=0
)
"""What is known of a node before its first heartbeat: it has no room yet."""


class NodeState(Enum):
    """How sure the coordinator is that a node is there."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    """Late with its heartbeat: still read from, given nothing new."""
    AWAY = "away"
    """Silent within hours that its calendar declares offline: nothing is missed or rebuilt."""
    DEAD = "dead"
    """Gone for long enough that its pieces are rebuilt elsewhere; it may come back."""
    LOST = "lost"
    """Gone for so long that nothing is expected of it any more."""


_IN_TIME = Notice(24 * 3_600_000, 3)


@dataclass(frozen=True, slots=True)
class Timers:
    """When silence changes a node's state. All in milliseconds of silence."""

    name: str
    heartbeat_interval_ms: int
    suspect_ms: int
    dead_ms: int
    lost_ms: int
    tick_ms: int
    """How often states are judged."""
    away_ms_max: int = 35 * 24 * 3_600_000
    """Longest silence that a calendar excuses."""
    notice: Notice = _IN_TIME
    """What changes of a calendar must keep to."""

    def __post_init__(self) -> None:
        if not (
            0 < 2 * self.heartbeat_interval_ms <= self.suspect_ms < self.dead_ms < self.lost_ms
        ):
            raise ValueError(f"timers that contradict each other: {self}")


_AT_ONCE = Notice(2_000, 1_000)
"""For clouds on one machine, where one wants to see what a calendar does."""
LOCAL = Timers("local", 1_000, 3_000, 10_000, 72 * 3_600_000, 250, notice=_AT_ONCE)
"""One machine: a killed process is noticed while one watches."""
WAN = Timers("wan", 60_000, 5 * 60_000, 4 * 3_600_000, 72 * 3_600_000, 5_000)
"""Independent providers: lines fail and machines restart; repair is dear."""
DEMO = Timers("demo", 1_000, 3_000, 25_000, 72 * 3_600_000, 250, notice=_AT_ONCE)
"""One machine, with time to read everything while nodes are dead and before repair begins."""
TIMERS = {timers.name: timers for timers in (LOCAL, WAN, DEMO)}
"""The named profiles."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A registered node, as its row and its latest heartbeat say."""

    alias: int
    node_id: bytes
    facts: NodeFacts
    signed_facts: bytes
    """``facts`` as the node encoded them; ``signature`` is over these bytes."""
    signature: bytes
    proof_ms: int
    """The node's time at its latest registration: an older one is a replay."""
    registered_ms: int
    last_seen_ms: int
    heartbeat_ms: int
    """The node's time at its latest heartbeat."""
    incarnation: int
    full: bool
    skew_ms: int
    """The node's clock minus ours at its latest heartbeat."""
    state: NodeState
    state_since_ms: int
    counters: NodeCounters
    hours: Hours = ALL_HOURS
    """When it owes to be online."""
    off_hours: bool = False
    """Whether its calendar excuses it now or in a moment: it may be there, but gets nothing new."""

    @property
    def address(self) -> Address:
        """Where the node listens."""
        return Address(self.facts.host, self.facts.port, self.facts.fingerprint)

    @property
    def free_bytes(self) -> int:
        """Room for new pieces: what the node says, within the capacity it offered."""
        counters = self.counters
        offered = self.facts.capacity_bytes - counters.used_bytes - counters.trash_bytes
        return max(0, min(counters.free_bytes, offered))
