"""What a person is shown about a cloud. Plain text and whole figures, ready to print."""

from dataclasses import dataclass
from enum import Enum


class Health(Enum):
    """The cloud in one word."""

    WAITING = "waiting"
    """No node has joined yet."""
    HEALTHY = "healthy"
    REPAIRING = "repairing"
    """Pieces are missing and being rebuilt; everything is readable."""
    EXPOSED = "exposed"
    """The death of one more node would make objects unreadable."""


@dataclass(frozen=True, slots=True)
class Euros:
    """An amount that grows while it is looked at."""

    text: str
    """At the view's time: ``0.000012345``."""
    pico: int
    pico_per_s: int
    decimals: int
    """So many that it moves and can still be read."""


@dataclass(frozen=True, slots=True)
class EarningsView:
    """What providers earn, all together."""

    total: Euros
    """Ever earned."""
    facts: tuple["Fact", ...]
    """Projected, held, due, paid."""
    remark: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node's line."""

    alias: int
    """Given by the coordinator; never used twice."""
    number: int
    """What people call it by; see ``rules.number_of``."""
    name: str
    """Short id: ``n-3f2a9c0b11``."""
    operator: str
    site: str
    place: str
    """Region and country."""
    tier: str
    address: str
    state: str
    """``alive``, ``suspect``, ``dead`` or ``lost``."""
    seen: str
    """``now`` or ``12 s ago``."""
    used: str
    capacity: str
    filled_percent: float
    pieces: int
    errors: int
    full: bool
    standing: str
    """What reputation thinks of it, in one word."""
    page: str
    """Path of its public page at the coordinator's door."""
    earned: Euros | None = None
    """Ever earned; None where nothing is settled here."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure with its label and a quieter remark."""

    label: str
    value: str
    remark: str


@dataclass(frozen=True, slots=True)
class RepairView:
    """What repair is doing."""

    active: bool
    headline: str
    detail: str
    percent: float
    """0..100 of the pieces that went missing since all was whole."""


@dataclass(frozen=True, slots=True)
class ThroughputView:
    """Bytes per second that nodes took and gave, over the last two minutes."""

    put: str
    get: str
    put_points: str
    """Points of an SVG polyline in a box of 240 x 48."""
    get_points: str
    peak: str


@dataclass(frozen=True, slots=True)
class CloudView:
    """The whole cloud."""

    health: Health
    headline: str
    """How many nodes may die now, in one sentence."""
    warning: str
    """The plain warning of one machine, or empty."""
    facts: tuple[Fact, ...]
    repair: RepairView
    throughput: ThroughputView
    nodes: tuple[NodeView, ...]
    time: str
    """Of the coordinator, UTC."""
    profile: str
    earnings: EarningsView | None = None
    """None where nothing is settled here."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a history keeps of one status."""

    time_ms: int
    put_bytes: int
    get_bytes: int
    pieces_missing: int
