"""Nouns of reputation: standings, axes, what was seen of a node, and the limits of a profile."""

from dataclasses import dataclass, field
from enum import Enum
from math import log

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WINDOWS_KEPT = 720
"""Windows that availability looks back: 30 days of hours."""
PIECE_ID_BYTES = 16


class Standing(Enum):
    """What is thought of a node; what each means to placement: ``rules.MEANINGS``."""

    UNVETTED = "unvetted"
    VETTED = "vetted"
    TRUSTED = "trusted"
    SUSPECT = "suspect"
    SUSPENDED = "suspended"
    EXITING = "exiting"
    DISQUALIFIED = "disqualified"


class Axis(Enum):
    """What a node is judged by; each axis has its own window and rule."""

    POSSESSION = "possession"
    ANSWERS = "answers"
    """Proofs that came at all: silence is no evidence of loss, but no proof either."""
    AVAILABILITY = "availability"
    RETRIEVAL = "retrieval"
    CAPACITY = "capacity"
    SPEED = "speed"
    LIFECYCLE = "lifecycle"
    """Not measured: vetting, exit, the end of a suspension."""


class Level(Enum):
    """How an axis stands. Only the last two have an effect."""

    UNKNOWN = "unknown"
    """Too little was seen to judge."""
    FINE = "fine"
    WARNING = "warning"
    """Told early, without any effect."""
    SUSPECT = "suspect"
    BREACH = "breach"


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Wald's sequential probability ratio test between two shares of failing samples.

    Each sample adds its log likelihood ratio to a score. At ``out`` the node is held for faulty,
    wrongly with a chance of ``alpha``; at ``clean`` for honest, wrongly with a chance of ``beta``.
    The score never falls below ``clean``: a long good past buys no more than that. Wald,
    "Sequential Tests of Statistical Hypotheses" (1945); the floor makes it Page's test (1954).
    """

    honest: float
    """Failing share of a node that keeps what it should (H0)."""
    faulty: float
    """Failing share of one that does not (H1)."""
    alpha: float = 1e-6
    beta: float = 1e-3

    @property
    def fail_step(self) -> float:
        """What a failed sample adds."""
        return log(self.faulty / self.honest)

    @property
    def pass_step(self) -> float:
        """What a passed sample adds: less than zero."""
        return log((1 - self.faulty) / (1 - self.honest))

    @property
    def out(self) -> float:
        """The score at which H1 is taken."""
        return log((1 - self.beta) / self.alpha)

    @property
    def clean(self) -> float:
        """The score at which H0 is taken, and the floor."""
        return log(self.beta / (1 - self.alpha))


@dataclass(frozen=True, slots=True)
class Score:
    """A sequential test under way."""

    score: float = 0.0
    passed: int = 0
    failed: int = 0
    at_ms: int = 0
    """When the latest sample came; 0 for never."""

    @property
    def count(self) -> int:
        """Samples judged so far."""
        return self.passed + self.failed


@dataclass(frozen=True, slots=True)
class Windows:
    """Availability: one bit per closed window; bit 0 is the window before ``current``."""

    current: int = 0
    """Number of the open window: time divided by its length."""
    counted: int = 0
    online: int = 0
    seen: int = 0
    """Times the node was looked at in the open window, outside its declared offline hours."""
    here: int = 0
    """Of these, times it was there."""

    @property
    def count(self) -> int:
        """Windows that count."""
        return self.counted.bit_count()

    @property
    def share(self) -> float:
        """Share of the counted windows in which the node was online; 1 where none counts."""
        counted = self.counted.bit_count()
        return (self.online & self.counted).bit_count() / counted if counted else 1.0

    def only_latest(self, most: int) -> "Windows":
        """Let no more than the latest ``most`` counted windows count."""
        counted, kept = self.counted, 0
        for _ in range(most):
            kept |= counted & -counted
            counted &= counted - 1
        return Windows(self.current, kept, self.online & kept, self.seen, self.here)

    def latest(self, most: int) -> tuple[int, float]:
        """Return how many of the latest ``most`` counted windows there are, and their share."""
        counted, online, found, there = self.counted, self.online, 0, 0
        while counted and found < most:
            skip = (counted & -counted).bit_length()
            found += 1
            there += online >> (skip - 1) & 1
            counted >>= skip
            online >>= skip
        return found, there / found if found else 1.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What gateways of one region measured: smoothed quantiles of batches."""

    region: str
    p50_ms: float
    p95_ms: float
    bytes_per_s: float
    reads: int


@dataclass(frozen=True, slots=True)
class FailedSample:
    """One possession sample that a node failed."""

    piece: bytes
    """16 bytes; empty where the whole answer was missing."""
    slot: int
    at_ms: int = 0
    """When the sample was due; 0 for now."""
    reason: str = ""
    """``wrong``, ``missing`` and the like, in one word or line."""
    evidence: str = ""
    """Where the signed verdict is found: ``verdict:<hash in hex>``."""


@dataclass(frozen=True, slots=True)
class SampleNote:
    """A failed sample as it is kept and shown."""

    alias: int
    axis: Axis
    at_ms: int
    slot: int
    piece: bytes
    reason: str
    evidence: str
    forgiven: str = ""
    """Why it does not count; empty where it does."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a node's history: a new standing, a warning or an amnesty, with its reason."""

    alias: int
    at_ms: int
    kind: str
    """``standing``, ``warning``, ``well`` (the end of a warning) or ``amnesty``."""
    before: str
    after: str
    axis: Axis
    rule: str
    figure: str
    threshold: str
    evidence: str = ""
    deadline_ms: int = 0
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one node's conduct. Changed only by ``rules``."""

    alias: int
    node_id: bytes
    registered_ms: int
    standing: Standing = Standing.UNVETTED
    since_ms: int = 0
    """When it came into this standing."""
    vetted_ms: int = 0
    """When vetting ended; 0 for not yet."""
    clean_ms: int = 0
    """Since when no axis was suspect or worse."""
    cause: Axis = Axis.LIFECYCLE
    """What made it suspect, suspended or disqualified."""
    deadline_ms: int = 0
    """End of a suspension's grace; 0 where there is none."""
    overdue: bool = False
    """Suspended beyond its grace: its pieces are rebuilt elsewhere."""
    possession: Score = field(default_factory=Score)
    answers: Score = field(default_factory=Score)
    retrieval: Score = field(default_factory=Score)
    capacity: Score = field(default_factory=Score)
    windows: Windows = field(default_factory=Windows)
    speeds: tuple[Speed, ...] = ()
    levels: tuple[tuple[str, str], ...] = ()
    """Axis and level where that was not fine when last judged: news are told once."""
    amnesties: int = 0
    """Pieces that the node itself said it had lost, and samples forgiven."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What placement and repair need to know of a node."""

    alias: int
    standing: Standing
    since_ms: int = 0
    forfeit: bool = False
    """Its pieces count as lost: disqualified, or suspended beyond its grace."""
    vetted: bool = True
    success: float = 1.0
    """Share of its reads that succeeded, 0..1, smoothed."""
    latency_ms: float = 0.0
    """Usual time to a read's answer; 0 where nothing is known."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules' figures; one set per timer profile. Times in milliseconds."""

    name: str
    window_ms: int
    """Length of an availability window."""
    windows_min: int
    """Availability is judged from so many counted windows on."""
    recovery_windows: int
    """A suspension for absence ends after so many counted windows above the threshold."""
    look_ms: int
    """How often a node's presence is looked at."""
    vetting_ms: int
    vetting_samples: int
    founding_ms: int
    """Nodes that registered within this time of the first are vetted at once."""
    trusted_ms: int
    trusted_samples: int
    grace_ms: int
    """How long a suspended node's pieces stay where they are."""
    settle_ms: int
    """A slot's samples are judged this long after its first: mass failures show by then."""
    capacity_forget_ms: int
    """Refusals for want of room are forgotten after so long."""
    tick_ms: int
    possession: SequentialTest = SequentialTest(honest=0.001, faulty=0.01)
    retrieval: SequentialTest = SequentialTest(honest=0.01, faulty=0.1)
    capacity: SequentialTest = SequentialTest(honest=0.02, faulty=0.2)
    here_share: float = 0.8
    """A window counts as online when the node was there in this share of the looks."""
    looks_share: float = 0.5
    """A window with fewer looks than this share of the usual does not count: we were away."""
    mass_share: float = 0.2
    """More of the vetted operators than this failing at once are forgiven: not their doing."""
    mass_operators: int = 3
    """At least so many must fail together."""


WAN = Limits(
    name="wan",
    window_ms=HOUR_MS,
    windows_min=72,
    recovery_windows=72,
    look_ms=60_000,
    vetting_ms=21 * DAY_MS,
    vetting_samples=100,
    founding_ms=0,
    trusted_ms=90 * DAY_MS,
    trusted_samples=10_000,
    grace_ms=7 * DAY_MS,
    settle_ms=10 * 60_000,
    capacity_forget_ms=DAY_MS,
    tick_ms=5_000,
)
"""Independent providers."""
LOCAL = Limits(
    name="local",
    window_ms=5_000,
    windows_min=60,
    recovery_windows=12,
    look_ms=500,
    vetting_ms=20_000,
    vetting_samples=0,
    founding_ms=600_000,
    trusted_ms=600_000,
    trusted_samples=0,
    grace_ms=300_000,
    settle_ms=2_000,
    capacity_forget_ms=60_000,
    tick_ms=500,
)
"""One machine: everything within minutes, so that it can be watched."""
DEMO = Limits(
    name="demo",
    window_ms=5_000,
    windows_min=60,
    recovery_windows=12,
    look_ms=500,
    vetting_ms=20_000,
    vetting_samples=0,
    founding_ms=600_000,
    trusted_ms=600_000,
    trusted_samples=0,
    grace_ms=300_000,
    settle_ms=2_000,
    capacity_forget_ms=60_000,
    tick_ms=500,
)
"""As local."""
LIMITS = {limits.name: limits for limits in (LOCAL, DEMO, WAN)}
"""By profile."""

SHARE_ONLINE_MIN = {"dc": 0.95, "pro": 0.90, "home": 0.80, "edge": 0.80}
"""Share of counted windows online below which a node is suspended, by tier."""
