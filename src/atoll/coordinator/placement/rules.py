"""Pure decisions of placement: who is eligible, how independent they are, who is drawn.

Caps are hard: at most one piece of a segment per operator, per network group (/24 or /48) and per
site, and few on part-time nodes (``part_time_max``). Spread over regions and autonomous systems is
soft: it gives way when nothing else is left. Weight is ``sqrt(free) x success x latency``, so that
big nodes fill faster but do not drown small ones.
"""

import math
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from atoll.coordinator.placement.model import Candidate, NodeState, Policy, Standing
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import StoredPiece
from atoll.core.policy.text import show_expression
from atoll.core.ports import Rng
from atoll.core.scheme import Scheme, scheme_for

LATENCY_REFERENCE_MS = 100.0
"""A node this slow weighs half as much as an immediate one."""
SUCCESS_MIN = 0.05
"""Even a node with a bad record gets a few pieces: else it could never improve it."""
WEIGHT_MIN = 1e-3
OPERATOR_SHARE_MAX = 0.10
"""An operator's part of all weight, where there are enough operators for that to be possible."""
FREE_MARGIN = 2
"""A node needs room for this many records of the size asked: figures are seconds old."""
REGION_SHARE_MAX = 0.4
"""Part of a segment's pieces in one region that is not exceeded while others have room."""
ASN_SHARE_MAX = 10
"""One autonomous system gets at most one piece in so many, but may always have two."""
NOTHING_NEW = (Standing.SUSPENDED, Standing.EXITING, Standing.DISQUALIFIED)
"""Standings that get no new pieces."""
STANDING_WEIGHTS = {Standing.SUSPECT: 0.5, Standing.TRUSTED: 1.25}
UNVETTED_SHARE_MAX = 20
"""Nodes that are not vetted get one piece in so many, as long as vetted ones have room. Not only
beyond ``n``: a node that holds nothing could never be vetted."""
UNVETTED_OPERATORS_COUNTED = 8
"""Fresh keys cost nothing: beyond so many operators only vetted ones widen the scheme."""
POOL_SCAN_MAX = 256
"""Pools up to this size are ordered whole; in larger ones members are drawn one by one."""
DRAW_ROUNDS_MAX = 4
"""Times a large pool is drawn from before it is ordered whole."""
ORDER_TRIES_MAX = 3
"""Random orders tried before fewer nodes than possible are accepted."""


def eligible(node: Candidate, policy: Policy, record_bytes: int) -> bool:
    """Say whether a node may get a new piece record of that length."""
    return (
        node.state is NodeState.ALIVE
        and not node.full
        and not node.exiting
        and node.standing not in NOTHING_NEW
        and node.online_share > 0
        and not node.off_hours
        and node.free_bytes >= FREE_MARGIN * record_bytes
        and policy.admits(node)
    )


def weight(node: Candidate) -> float:
    """Return how often a node is drawn, relative to others; always above zero."""
    latency = LATENCY_REFERENCE_MS / (LATENCY_REFERENCE_MS + max(0.0, node.latency_ms))
    success = min(1.0, max(SUCCESS_MIN, node.success))
    standing = STANDING_WEIGHTS.get(node.standing, 1.0)
    room = math.sqrt(max(0, node.free_bytes) / 2**30)
    return max(WEIGHT_MIN, room * success * latency * standing * node.price_factor)


def weights(nodes: Sequence[Candidate]) -> list[float]:
    """Return the nodes' weights with no operator above ``OPERATOR_SHARE_MAX`` of the whole.

    Where operators are too few for that, the cap is twice an even share. Nodes that are not vetted
    have at most one part in ``UNVETTED_SHARE_MAX`` together, beside vetted ones.
    """
    plain = _unvetted_capped(nodes, [weight(node) for node in nodes])
    by_operator: dict[str, float] = {}
    for node, one in zip(nodes, plain, strict=True):
        by_operator[node.operator] = by_operator.get(node.operator, 0.0) + one
    if len(by_operator) < 2:
        return plain
    share = max(OPERATOR_SHARE_MAX, 2 / len(by_operator))
    limit = share * sum(by_operator.values())
    return [
        one if by_operator[node.operator] <= limit else one * limit / by_operator[node.operator]
        for node, one in zip(nodes, plain, strict=True)
    ]


def _unvetted_capped(nodes: Sequence[Candidate], plain: list[float]) -> list[float]:
    fresh = sum(one for node, one in zip(nodes, plain, strict=True) if not node.vetted)
    limit = (sum(plain) - fresh) / (UNVETTED_SHARE_MAX - 1)
    if fresh <= limit or limit <= 0:
        return plain
    return [
        one if node.vetted else one * limit / fresh for node, one in zip(nodes, plain, strict=True)
    ]


def part_time_max(scheme: Scheme) -> int:
    """Return how many pieces of a segment may lie on part-time nodes.

    Calendars are alike (everybody sleeps at night), so all of them are taken to be away at once.
    Then the rest must be above what calls for repair and be what an upload is acknowledged with
    (``n - max(durable, repair)``), and of an upload acknowledged with no more than the durable
    minimum ``k`` must remain to be read (``durable - k``). docs/providing.md has the table.
    """
    return min(scheme.n - max(scheme.durable, scheme.repair), scheme.durable - scheme.k)


PART_TIME_SHARE_MAX = 3
"""One part-time operator for so many full-time ones counts when a scheme is chosen."""


RELAYED_SHARE = 3
"""At most one piece in so many lies behind relays: the loss of all relays at once costs no more."""


def relayed_max(pieces: int) -> int:
    """Return how many of a segment's pieces may lie on nodes behind relays."""
    return max(1, pieces // RELAYED_SHARE)


def beyond_relays(
    pieces: Iterable[StoredPiece], nodes: Mapping[int, Candidate], whole: int
) -> list[StoredPiece]:
    """Return the pieces to move so that no more than is allowed lie behind relays.

    ``whole`` is the number of the segment's pieces. Nodes come to be behind relays after they took
    their pieces: a provider moves house, a router is changed.
    """
    behind = [piece for piece in pieces if nodes[piece.alias].relayed]
    return sorted(behind, key=lambda piece: piece.alias)[relayed_max(whole) :]


class Domains:
    """What a segment already occupies: operators, network groups, sites, nodes."""

    __slots__ = (
        "_aliases",
        "_asns",
        "_networks",
        "_operators",
        "_part_time_left",
        "_regions",
        "_relayed_left",
        "_relays",
        "_sites",
        "_unvetted",
    )

    def __init__(
        self,
        holders: Iterable[Candidate] = (),
        refused: Iterable[int] = (),
        part_time_max: int | None = None,
        relayed_max: int | None = None,
    ) -> None:
        """Start from the nodes that hold a piece and aliases that must not be given again.

        At most ``part_time_max`` of all are part-time, at most ``relayed_max`` behind relays; None
        for any number.
        """
        self._relayed_left = 1 << 30 if relayed_max is None else relayed_max
        self._relays: set[bytes] = set()
        self._aliases = set(refused)
        self._part_time_left = 1 << 30 if part_time_max is None else part_time_max
        self._operators: set[str] = set()
        self._networks: set[str] = set()
        self._sites: set[str] = set()
        self._regions: Counter[str] = Counter()
        self._asns: Counter[int] = Counter()
        self._unvetted = 0
        for node in holders:
            self.take(node)

    def admit(self, node: Candidate) -> bool:
        """Say whether the node is independent of all that is occupied."""
        return not (
            node.operator in self._operators
            or node.alias in self._aliases
            or node.network in self._networks
            or node.site in self._sites
            or (node.part_time and self._part_time_left <= 0)
            or (node.relayed and self._relayed_left <= 0)
        )

    def take(self, node: Candidate) -> None:
        """Occupy the node's domains."""
        self._aliases.add(node.alias)
        self._operators.add(node.operator)
        self._networks.add(node.network)
        self._sites.add(node.site)
        self._regions[node.region] += 1
        if node.asn:
            self._asns[node.asn] += 1
        self._part_time_left -= node.part_time
        self._relayed_left -= node.relayed
        self._relays.update(relay.node_id for relay in node.relays)
        self._unvetted += not node.vetted

    def crowded(self, node: Candidate, region_cap: int, asn_cap: int) -> bool:
        """Say whether the node's region or autonomous system, or unvetted nodes, have their share.

        So have relays that all carry another piece already.
        ``UNVETTED_SHARE_MAX`` allows one of a segment, two from 40 pieces on.
        """
        return (
            self._regions[node.region] >= region_cap
            or self._asns[node.asn] >= asn_cap
            or (node.relayed and all(r.node_id in self._relays for r in node.relays))
            or (
                not node.vetted
                and self._unvetted >= max(1, len(self._aliases) // UNVETTED_SHARE_MAX)
            )
        )


def independent(nodes: Sequence[Candidate]) -> int:
    """Return how many pieces of one segment these nodes can take under the caps.

    The exact figure is a three-dimensional matching; this takes the nodes with the fewest
    competitors first, which is exact where operators, networks and sites nest, and never too high.
    """
    operators = Counter(node.operator for node in nodes)
    networks = Counter(node.network for node in nodes)
    sites = Counter(node.site for node in nodes)
    order = sorted(
        nodes,
        key=lambda n: (operators[n.operator] + networks[n.network] + sites[n.site], n.alias),
    )
    domains = Domains()
    full_time = part_time = relayed = 0
    # Full-time nodes first: a part-time one must not take the place of one.
    for node in sorted(order, key=lambda n: (n.part_time, n.relayed)):
        if domains.admit(node):
            domains.take(node)
            part_time += node.part_time
            relayed += node.relayed and not node.part_time
            full_time += not (node.part_time or node.relayed)
    # Those behind relays are at most a third of all full-time ones.
    full_time += min(relayed, full_time // (RELAYED_SHARE - 1))
    return full_time + min(part_time, full_time // PART_TIME_SHARE_MAX)


def vouched_independent(nodes: Sequence[Candidate]) -> int:
    """Return ``independent``, with nodes not vetted counted only as far as a small cloud needs.

    Where none is vetted yet (a new cloud) all count: there is nobody to prefer.
    """
    everybody = independent(nodes)
    vetted = [node for node in nodes if node.vetted]
    if len(vetted) == len(nodes) or not vetted:
        return everybody
    return max(independent(vetted), min(everybody, UNVETTED_OPERATORS_COUNTED))


@dataclass(frozen=True, slots=True)
class Pool:
    """Eligible nodes of one policy and size, prepared for many draws. Immutable."""

    nodes: tuple[Candidate, ...]
    weights: tuple[float, ...]
    cumulative: tuple[float, ...] = field(repr=False)
    independent: int
    """Pieces of one segment that fit under the caps: counts as independent operators."""
    alive: int
    """Nodes alive under the policy, with or without room."""
    regions: int


def pool_of(nodes: Iterable[Candidate], policy: Policy, record_bytes: int) -> Pool:
    """Filter and weigh nodes for records of one size."""
    alive = [n for n in nodes if n.state is NodeState.ALIVE and policy.admits(n)]
    members = tuple(n for n in alive if eligible(n, policy, record_bytes))
    weighed = tuple(weights(members))
    return Pool(
        nodes=members,
        weights=weighed,
        cumulative=tuple(accumulate(weighed)),
        independent=vouched_independent(members),
        alive=len(alive),
        regions=len({n.region for n in members}),
    )


def _uniforms(rng: Rng, count: int) -> tuple[float, ...]:
    """Return ``count`` numbers in (0, 1] from one call of the port."""
    whole = struct.unpack(f"<{count}I", rng.bytes(4 * count))
    return tuple((number + 1) / 4294967296 for number in whole)


def _ordered(pool: Pool, rng: Rng) -> list[Candidate]:
    """Return the whole pool in weighted random order (exponential keys: Efraimidis, Spirakis)."""
    log = math.log
    keys = [
        (-log(u) / w, position)
        for position, (u, w) in enumerate(
            zip(_uniforms(rng, len(pool.nodes)), pool.weights, strict=True)
        )
    ]
    keys.sort()
    return [pool.nodes[position] for _, position in keys]


def _drawn(pool: Pool, rng: Rng, count: int) -> list[Candidate]:
    """Draw ``count`` times with replacement; return the distinct nodes in order of first draw."""
    total = pool.cumulative[-1]
    last = len(pool.nodes) - 1
    positions = dict.fromkeys(
        min(last, bisect_right(pool.cumulative, u * total)) for u in _uniforms(rng, count)
    )
    return [pool.nodes[position] for position in positions]


def _greedy(
    order: Sequence[Candidate], count: int, domains: Domains, region_cap: int, asn_cap: int
) -> list[Candidate]:
    """Take nodes in order under the caps; those beyond a soft cap come last."""
    chosen: list[Candidate] = []
    late: list[Candidate] = []
    for node in order:
        if len(chosen) == count:
            return chosen
        if not domains.admit(node):
            continue
        if domains.crowded(node, region_cap, asn_cap):
            late.append(node)
            continue
        domains.take(node)
        chosen.append(node)
    for node in late:
        if len(chosen) == count:
            break
        if domains.admit(node):
            domains.take(node)
            chosen.append(node)
    return chosen


def choose(
    pool: Pool,
    count: int,
    rng: Rng,
    *,
    holders: Sequence[Candidate] = (),
    refused: Iterable[int] = (),
    part_time_max: int | None = None,
) -> list[Candidate]:
    """Draw up to ``count`` nodes, best first in random weighted order, under the caps.

    ``holders`` are nodes that keep their pieces of this segment; ``refused`` aliases are never
    given; at most ``part_time_max`` part-time nodes, holders included. The answer is shorter where
    independent nodes run out.
    """
    if count <= 0 or not pool.nodes:
        return []
    gone = set(refused)

    whole = count + len(holders)

    def domains() -> Domains:
        return Domains(holders, gone, part_time_max, relayed_max(whole))

    region_cap = whole if pool.regions < 2 else _region_cap(whole, pool.regions)
    asn_cap = asn_cap_of(whole)
    if len(pool.nodes) > POOL_SCAN_MAX:
        for round_ in range(DRAW_ROUNDS_MAX):
            order = _drawn(pool, rng, 4 * count << round_)
            chosen = _greedy(order, count, domains(), region_cap, asn_cap)
            if len(chosen) == count:
                return chosen
    best: list[Candidate] = []
    for _ in range(ORDER_TRIES_MAX):
        chosen = _greedy(_ordered(pool, rng), count, domains(), region_cap, asn_cap)
        if len(chosen) > len(best):
            best = chosen
        if len(best) >= min(count, pool.independent - len(holders)):
            break
    return best


def step_aside(
    pool: Pool,
    staying: Sequence[Candidate],
    refused: Iterable[int] = (),
    part_time_max: int | None = None,
) -> tuple[Candidate, Candidate] | None:
    """Return a holder and the node to move its piece to, so that one more piece finds a node.

    Where no node is independent of all that stay, one may still be that stands in the way of a
    single holder, which can go elsewhere: an augmenting path of length two. None where there is no
    such pair, and for pools beyond ``POOL_SCAN_MAX``, in which nodes are not that scarce.
    """
    if len(pool.nodes) > POOL_SCAN_MAX:
        return None
    gone, whole = set(refused), len(staying) + 1
    for holder in staying:
        rest = [node for node in staying if node is not holder]
        domains = Domains(rest, gone, part_time_max, relayed_max(whole))
        for node in filter(domains.admit, pool.nodes):
            both = Domains([*rest, node], gone, part_time_max, relayed_max(whole))
            other = next(filter(both.admit, pool.nodes), None)
            if other is not None:
                return holder, other
    return None


def _region_cap(count: int, regions: int) -> int:
    return max(math.ceil(count * REGION_SHARE_MAX), math.ceil(count / regions))


def asn_cap_of(count: int) -> int:
    """Return how many of ``count`` pieces one autonomous system may have without being crowded."""
    return max(2, count // ASN_SHARE_MAX)


def scheme_in(pool: Pool, plain_bytes: int) -> Scheme:
    """Choose the scheme of a new segment, or say what is missing.

    Fewer than ``n`` but at least ``durable`` independent nodes are enough: the segment starts
    below full strength and repair fills it. Raises ``TOO_FEW_NODES``.
    """
    scheme = scheme_for(plain_bytes, pool.independent)
    if pool.independent < scheme.durable:
        raise too_few(scheme, pool)
    return scheme


def too_few(scheme: Scheme, pool: Pool) -> AtollError:
    """Return the error that tells in words which nodes are missing for a scheme."""
    room = pool.independent
    if pool.alive > len(pool.nodes):
        found = f"{pool.alive} nodes are alive, {room} of them independent with room"
    elif pool.alive > room:
        found = f"{pool.alive} nodes are alive, but they make only {room} independent operators"
    else:
        found = f"{room} {'is' if room == 1 else 'are'} alive"
    missing = scheme.durable - room
    return AtollError(
        Kind.TOO_FEW_NODES,
        "place segment",
        f"needs {scheme.durable} independent operators with free space for a {scheme.name} "
        f"segment; {found}",
        hint=f"start or add {missing} more node{'' if missing == 1 else 's'} "
        "of other operators, networks and sites",
    )


def too_few_under(
    policy: Policy, scheme: Scheme, pool: Pool, nodes: Iterable[Candidate]
) -> AtollError:
    """Return the error for a policy that cannot be met: which part keeps how many nodes out."""
    alive = [node for node in nodes if node.state is NodeState.ALIVE]
    refusals = refused_by(policy, alive)
    parts = ", ".join(f"`{part}` keeps out {count}" for part, count in refusals) or "none is full"
    missing = scheme.durable - pool.independent
    return AtollError(
        Kind.TOO_FEW_NODES,
        "place segment",
        f"the bucket's policy needs {scheme.durable} independent operators with free space for a "
        f"{scheme.name} segment and finds {pool.independent} among {len(alive)} nodes alive: "
        f"{parts}",
        hint=f"{missing} more that satisfy it are missing; `atoll policy check` shows which part "
        "of the policy costs how many",
        about=policy.name,
    )


def refused_by(policy: Policy, nodes: Iterable[Candidate]) -> list[tuple[str, int]]:
    """Return the parts of a policy with the number of nodes that each keeps out, most first."""
    counts: Counter[str] = Counter()
    for node in nodes:
        counts.update(
            {show_expression(part) for part in policy.rules.lacking("data", node.subject)}
        )
        for relay in node.relays:
            counts.update(
                f"relays: {show_expression(p)}" for p in policy.rules.lacking("relays", relay)
            )
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
