"""Pure decisions of repair: how healthy a segment is, what comes first, when to hold back.

The figures behind the thresholds: docs/repair.md.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from atoll.coordinator.placement.model import Candidate, NodeState, Policy, Standing
from atoll.coordinator.placement.rules import beyond_relays
from atoll.core.messages import StoredPiece
from atoll.core.scheme import Scheme, scheme_of

PIECE_LOSS_PER_MONTH = 0.03
"""Share of nodes expected to leave for good in a month: the churn our promises are made for."""
HOURS_PER_MONTH = 30 * 24
SUSPECT_WEIGHT = 0.5
"""A suspect's piece is readable as long as the node answers; it counts half towards safety."""
URGENCY_MAX = 9


@dataclass(frozen=True, slots=True)
class Profile:
    """When repair holds back, how fast it works, how long it waits. One per timer profile."""

    name: str
    freeze_fraction: float
    """Repair freezes when more than this share of the nodes vanished within the window; 1 never."""
    freeze_nodes_min: int
    """So many must vanish at least: in a small network a few deaths are no mass event."""
    freeze_window_ms: int
    freeze_ms_max: int
    """A frozen repair resumes after this, come what may."""
    settle_ms: int
    """Nothing is judged in this time after a start: nodes need a moment to report."""
    fill_share: float
    """Part of the pieces between full strength and the threshold that must be missing before an
    idle repair fills them: each filling reads k pieces, however few are missing. 0: any."""
    lease_ms: int
    """A worker that says nothing for this long has lost its segment."""
    intent_ms: int
    """A piece that was sent but never recorded is collected after this; no repair takes longer."""
    credit_ms: int
    """A piece that was replaced because its node was gone is kept for so long after: if the node
    comes back and the segment needs it, it is adopted instead of rebuilt."""
    retry_ms_min: int
    retry_ms_max: int
    scan_pause_s: float
    """Rest between two pages of the ranged loop over all segments."""
    scan_interval_s: float
    """Rest between two rounds of it."""
    poll_s: float
    """How often the queue is looked at when nobody rings."""
    patience_ms: int
    """While nodes ask for work a coordinator leaves them all but the most urgent for so long."""
    offer_again_ms: int
    """How often a node may ask for repair work."""
    bytes_per_second: int
    """Bandwidth of one coordinator's repair, down and up together."""
    workers: int
    stall_s: float
    """A source or target that moves nothing for this long has failed."""


LOCAL = Profile(
    name="local",
    freeze_fraction=1.0,
    freeze_nodes_min=1,
    freeze_window_ms=60_000,
    freeze_ms_max=60_000,
    settle_ms=2_000,
    fill_share=0.0,
    lease_ms=15_000,
    intent_ms=15 * 60_000,
    credit_ms=90_000,
    retry_ms_min=500,
    retry_ms_max=30_000,
    scan_pause_s=0.02,
    scan_interval_s=60.0,
    poll_s=0.5,
    patience_ms=0,
    offer_again_ms=5_000,
    bytes_per_second=512 << 20,
    workers=8,
    stall_s=10.0,
)
"""One machine: whoever kills a node wants to see it heal, be it one or most of them."""

WAN = Profile(
    name="wan",
    freeze_fraction=0.05,
    freeze_nodes_min=5,
    freeze_window_ms=3_600_000,
    freeze_ms_max=24 * 3_600_000,
    settle_ms=10 * 60_000,
    fill_share=0.5,
    lease_ms=120_000,
    intent_ms=4 * 3_600_000,
    credit_ms=72 * 3_600_000,
    retry_ms_min=15_000,
    retry_ms_max=3_600_000,
    scan_pause_s=0.5,
    scan_interval_s=24 * 3600.0,
    poll_s=5.0,
    patience_ms=180_000,
    offer_again_ms=60_000,
    bytes_per_second=32 << 20,
    workers=8,
    stall_s=60.0,
)
"""Independent providers: a mass vanishing is a cut cable far more often than mass death."""

PROFILES = {"local": LOCAL, "wan": WAN, "demo": LOCAL}
"""By the name of the timers: a demo calls a node dead later, then works as fast."""


# --- health --------------------------------------------------------------------------------------


class Verdict(Enum):
    """What one piece is worth, by what is known of its node."""

    HEALTHY = "healthy"
    HALF = "half"
    """Readable as long as its node answers, but doubted: it counts half towards safety."""
    MISPLACED = "misplaced"
    """There, and a good source, but it must not stay where it is."""
    LOST = "lost"
    """Not to be counted on; it counts again if its node comes back before it was rebuilt."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, how much the piece adds to safety, and why it is not simply healthy."""

    verdict: Verdict
    weight: float
    reason: str = ""


_HEALTHY = Judgement(Verdict.HEALTHY, 1.0)
_GONE_STATES = frozenset({NodeState.DEAD, NodeState.LOST})
_DOUBTED_STANDINGS = frozenset({Standing.SUSPECT, Standing.SUSPENDED})


def judge_node(node: Candidate | None, policy: Policy | None = None) -> Judgement:
    """Judge the pieces of a node, apart from what they share with others of their segment.

    The one place where the facts about nodes become health: state (a node that is away within its
    declared hours is healthy), standing, graceful exit, and whether ``policy`` (that of the
    segment; None where any node will do) still admits it.
    """
    if node is None:
        return Judgement(Verdict.LOST, 0.0, "its node is unknown")
    if node.state in _GONE_STATES:
        return Judgement(Verdict.LOST, 0.0, f"its node is {node.state.value}")
    if node.standing is Standing.DISQUALIFIED:
        return Judgement(Verdict.LOST, 0.0, "its node is disqualified")
    if node.forfeit:
        return Judgement(Verdict.LOST, 0.0, "its node is suspended beyond its grace")
    weight, reason = 1.0, ""
    if node.state is NodeState.SUSPECT:
        weight, reason = SUSPECT_WEIGHT, f"its node is {node.state.value}"
    elif node.standing in _DOUBTED_STANDINGS:
        weight, reason = SUSPECT_WEIGHT, f"its node's standing is {node.standing.value}"
    if policy is not None and not policy.admits(node):
        lacks = "; ".join(policy.lacks(node)) or "the policy no longer admits its node"
        return Judgement(Verdict.MISPLACED, weight, lacks)
    if node.exiting or node.standing is Standing.EXITING:
        return Judgement(Verdict.MISPLACED, weight, "its node is leaving")
    if reason:
        return Judgement(Verdict.HALF, weight, reason)
    return _HEALTHY


def is_lost(node: Candidate) -> bool:
    """Say whether nothing is expected of a node any more: what counts as churn."""
    return node.state is NodeState.LOST or node.standing is Standing.DISQUALIFIED


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A piece that must move, and why."""

    piece: StoredPiece
    reason: str


@dataclass(frozen=True, slots=True)
class Health:
    """How a segment stands, by what is known of the nodes that hold its pieces."""

    scheme: Scheme
    kept: tuple[StoredPiece, ...]
    """Pieces that are not lost, misplaced ones included."""
    gone: tuple[StoredPiece, ...]
    """Pieces that are lost: still recorded, they count again on return."""
    missing: tuple[int, ...]
    """Indexes with no piece in ``kept``: what repair would rebuild."""
    alive: int
    """Pieces in ``kept`` that count whole."""
    suspect: int
    """Pieces in ``kept`` that count half."""
    shared: int
    """Most kept pieces in one failure domain (operator, network or site); 1 by the caps."""
    misplaced: tuple[Misplaced, ...] = ()
    """Pieces in ``kept`` to be moved: by policy, exit, or because they share a domain."""
    away: int = 0
    """Pieces in ``kept`` whose nodes are away within their declared hours: safe, not readable."""

    @property
    def readable(self) -> bool:
        """Whether enough pieces can be had now, as far as anybody knows."""
        return len(self.kept) - self.away >= self.scheme.k

    @property
    def full(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    @property
    def settled(self) -> bool:
        """Whether nothing is missing and nothing is to be moved."""
        return not self.missing and not self.misplaced

    @property
    def safe(self) -> float:
        """Pieces to count on: doubted ones half, and the worst domain reduced to one piece."""
        return self.alive + SUSPECT_WEIGHT * self.suspect - max(0, self.shared - 1)

    @property
    def due(self) -> bool:
        """Whether the segment is at or below its repair threshold."""
        return bool(self.missing) and self.safe <= self.scheme.repair


DOMAINS = ("operator", "network", "site")
"""Failure domains of which a segment has one piece each."""


def shared_domain(nodes: Iterable[Candidate]) -> int:
    """Return the most nodes in one operator, network or site."""
    held = list(nodes)
    most = 0
    for fact in DOMAINS:
        names = [getattr(node, fact) for node in held]
        if len(set(names)) == len(names):
            most = max(most, min(1, len(names)))
        else:
            most = max(most, *Counter(names).values())
    return most


def clumped(pieces: Sequence[StoredPiece], nodes: Mapping[int, Candidate]) -> list[Misplaced]:
    """Return pieces to move so that no two of a segment share a domain; as few as may be.

    Those with the fewest rivals stay, as in ``placement.rules.independent``.
    """
    rivals: Counter[tuple[str, str]] = Counter()
    for piece in pieces:
        rivals.update(_domains(nodes[piece.alias]))
    order = sorted(
        pieces, key=lambda p: (sum(rivals[d] for d in _domains(nodes[p.alias])), p.alias)
    )
    taken: set[tuple[str, str]] = set()
    moved = []
    for piece in order:
        domains = _domains(nodes[piece.alias])
        both = sorted(taken.intersection(domains))
        if both:
            fact, name = both[0]
            moved.append(Misplaced(piece, f"it shares the {fact} {name!r} with another piece"))
        else:
            taken.update(domains)
    return moved


def _domains(node: Candidate) -> list[tuple[str, str]]:
    return [(fact, getattr(node, fact)) for fact in DOMAINS]


def health_of(
    k: int,
    n: int,
    pieces: Sequence[StoredPiece],
    nodes: Mapping[int, Candidate],
    policy: Policy | None = None,
) -> Health:
    """Judge a segment. Nothing is counted twice: one piece per index, the best of them.

    Raises ``ValueError`` for an unknown scheme.
    """
    best: dict[int, tuple[float, bool, StoredPiece, Judgement]] = {}
    gone: list[StoredPiece] = []
    for piece in pieces:
        judged = judge_node(nodes.get(piece.alias), policy)
        if judged.verdict is Verdict.LOST:
            gone.append(piece)
            continue
        placed = judged.verdict is not Verdict.MISPLACED
        held = best.get(piece.index)
        if held is None or (judged.weight, placed) > held[:2]:
            best[piece.index] = (judged.weight, placed, piece, judged)
    kept = tuple(best[index][2] for index in sorted(best))
    misplaced = [
        Misplaced(piece, judged.reason) for _, placed, piece, judged in best.values() if not placed
    ]
    shared = shared_domain(nodes[piece.alias] for piece in kept)
    if shared > 1:
        leaving = {one.piece for one in misplaced}
        misplaced += clumped([piece for piece in kept if piece not in leaving], nodes)
    leaving = {one.piece for one in misplaced}
    misplaced += [
        Misplaced(piece, "too many of the segment's pieces lie behind relays")
        for piece in beyond_relays((one for one in kept if one not in leaving), nodes, n)
    ]
    whole = sum(weight == 1.0 for weight, _, _, _ in best.values())
    return Health(
        scheme=scheme_of(k, n),
        kept=kept,
        gone=tuple(gone),
        missing=tuple(index for index in range(n) if index not in best),
        alive=whole,
        suspect=len(kept) - whole,
        shared=shared,
        misplaced=tuple(sorted(misplaced, key=lambda one: one.piece.index)),
        away=sum(nodes[piece.alias].state is NodeState.AWAY for piece in kept),
    )


# --- priority ------------------------------------------------------------------------------------


def hours_to_loss(health: Health) -> float:
    """Return the expected hours until no margin is left (``k`` pieces) if nobody repaired.

    A pure death chain from ``safe`` pieces down: the sum of 1 / (i x rate). Without margin it is
    zero: such a segment is one death from being unreadable, or beyond.
    """
    rate = -math.log1p(-PIECE_LOSS_PER_MONTH) / HOURS_PER_MONTH
    whole = math.floor(health.safe)
    if whole < health.scheme.k:
        return 0.0
    hours = sum(1 / (rate * i) for i in range(health.scheme.k + 1, whole + 1))
    return hours + (health.safe - whole) / (rate * (whole + 1))


def urgency(health: Health) -> int:
    """Return 0 for a segment above its threshold, else 1 (due) .. ``URGENCY_MAX`` (one from loss).

    Each level halves the square of the expected time to loss, counted from that at the threshold:
    segments of different schemes are compared by what threatens them, not by pieces counted.
    """
    if not health.due:
        return 0
    left = hours_to_loss(health)
    threshold = hours_to_loss(_at_threshold(health.scheme))
    if left <= 0 or threshold <= 0:
        return URGENCY_MAX
    return max(1, min(URGENCY_MAX, 1 + math.floor(2 * math.log2(threshold / left))))


def _at_threshold(scheme: Scheme) -> Health:
    return Health(scheme, (), (), (0,), scheme.repair, 0, 1)


def critical(health: Health) -> bool:
    """Say whether one more death could make the segment unreadable: repaired even when frozen."""
    return health.safe <= health.scheme.k


def vanished(nodes: Iterable[Candidate], now_ms: int, profile: Profile) -> tuple[int, int]:
    """Return (nodes that died within the window, nodes that were there before)."""
    gone = there = 0
    for node in nodes:
        if node.state not in _GONE_STATES:
            there += 1
        elif now_ms - node.since_ms <= profile.freeze_window_ms:
            gone += 1
    return gone, there + gone


class Freezer:
    """Remembers whether repair is frozen, and by the vanishing of which nodes."""

    __slots__ = ("_profile", "_since_ms", "_vanished", "frozen")

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._since_ms = 0
        self._vanished: frozenset[int] = frozenset()
        self.frozen = False

    def look(self, nodes: Mapping[int, Candidate], now_ms: int) -> bool:
        """Look at the nodes again; return whether repair is frozen.

        It thaws when enough of those that vanished are back, or after ``freeze_ms_max``; the same
        nodes then do not freeze it again.
        """
        present = {a for a, n in nodes.items() if n.state not in _GONE_STATES}
        if not self.frozen:
            fresh = [n for a, n in nodes.items() if a not in self._vanished]
            self._vanished = frozenset(self._vanished - present)
            if must_freeze(fresh, now_ms, self._profile):
                self.frozen, self._since_ms = True, now_ms
                self._vanished = frozenset(nodes) - present
            return self.frozen
        still = len(self._vanished - present)
        if thaws(still, len(nodes), now_ms - self._since_ms, self._profile):
            self.frozen = False
        return self.frozen


def must_freeze(nodes: Iterable[Candidate], now_ms: int, profile: Profile) -> bool:
    """Say whether so many nodes vanished at once that it looks like one cause, not many deaths."""
    gone, before = vanished(nodes, now_ms, profile)
    return freezes(gone, before, profile)


def freezes(gone: int, before: int, profile: Profile) -> bool:
    """Say whether ``gone`` of ``before`` nodes within the window are too many for single deaths."""
    return gone >= profile.freeze_nodes_min and gone > profile.freeze_fraction * before


def thaws(still: int, nodes: int, frozen_ms: int, profile: Profile) -> bool:
    """Say whether a freeze ends: few of the vanished are still away, or it took long enough."""
    few = still < profile.freeze_nodes_min or still <= profile.freeze_fraction * nodes
    return few or not 0 <= frozen_ms < profile.freeze_ms_max


def fill_at(scheme: Scheme, profile: Profile) -> int:
    """Return how few pieces a segment above its threshold has when it is filled up after all."""
    return scheme.n - max(1, math.ceil(profile.fill_share * (scheme.n - scheme.repair)))


def worth_repair(health: Health, profile: Profile) -> bool:
    """Say whether a segment belongs into the queue: due, misplaced, or so weak that filling pays.

    Measured on a year of 100,000 nodes: docs/decisions/0110-filling.md.
    """
    if health.misplaced or health.due:
        return True
    return bool(health.missing) and len(health.kept) <= fill_at(health.scheme, profile)


def urgency_of(scheme: Scheme, healthy: int) -> int:
    """Return the urgency of a segment with so many whole, well placed pieces."""
    missing = tuple(range(scheme.n - healthy))
    return urgency(Health(scheme, (), (), missing, healthy, 0, 1))


def retry_ms(attempts: int, profile: Profile) -> int:
    """Return how long to wait after ``attempts`` failures: doubling within the profile's bounds."""
    return min(profile.retry_ms_max, profile.retry_ms_min << min(max(0, attempts - 1), 20))
