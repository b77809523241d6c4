"""How likely data is lost, and what keeping it costs: the Markov model behind every such figure.

A segment is a continuous-time Markov chain on its healthy pieces ``k..n``. Each piece is lost for
good at the rate that the nodes' monthly churn gives; at or below the repair threshold all missing
pieces return together, after a time that is exponential with a given mean. A loss takes the chain
back to ``n`` (a new segment in the lost one's place), so its stationary flow into "fewer than
``k``" is the rate of losses. The stationary vector comes from elimination without subtraction
(W. K. Grassmann, M. I. Taksar, D. P. Heyman, "Regenerative Analysis and Steady State Distributions
for Markov Chains", Operations Research 33(5), 1985): probabilities of 1e-80 keep all their digits.

Beside single losses there are *domain losses* (an operator with ``d`` pieces of one segment goes)
and *shocks* (each piece vanishes with probability ``q`` at the same moment).

No figure here means anything without its assumptions: churn, repair time, domain cap. All are
fields of ``Assumptions`` and are printed with every result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from atoll.core.scheme import Scheme

HOURS_PER_MONTH = 30 * 24.0
HOURS_PER_YEAR = 365 * 24.0
MONTHS_PER_YEAR = HOURS_PER_YEAR / HOURS_PER_MONTH
NINES_MAX = 300.0
"""Beyond this a double cannot tell a probability from zero."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Under what a durability figure holds. Rates are per piece, times in hours."""

    churn_month: float
    """Share of nodes that leave for good in a month, 0..1 (exclusive)."""
    repair_hours: float
    """Mean time from the threshold to full strength."""
    repair_hours_min: float = 0.0
    """With priority: mean repair time of a segment two pieces above ``k``; linear in between.
    0: every repair takes ``repair_hours``."""
    domain_pieces: int = 0
    """Pieces of one segment that go with one failure domain."""
    domain_losses_year: float = 1.0
    """How often that happens to a segment in a year; only with ``domain_pieces``."""
    shock_share: float = 0.0
    """Each piece vanishes with this probability at a shock."""
    shocks_year: float = 1.0
    """Only with ``shock_share``."""

    def __post_init__(self) -> None:
        if not 0 <= self.churn_month < 1 or not 0 <= self.shock_share < 1:
            raise ValueError("churn and shock are shares, 0 up to below 1")
        if not 0 < self.repair_hours < math.inf or self.repair_hours_min < 0:
            raise ValueError("repair takes some time, in hours")
        if self.domain_pieces < 0 or self.domain_losses_year < 0 or self.shocks_year < 0:
            raise ValueError("no rate or count is below zero")

    @property
    def loss_per_hour(self) -> float:
        """Rate at which one node, and with it one piece, is lost."""
        return -math.log1p(-self.churn_month) / HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Durability:
    """What a scheme gives under assumptions, for one segment."""

    scheme: Scheme
    assumptions: Assumptions
    loss_per_year: float
    """Probability that a segment is lost in a year."""
    traffic_month: float
    """Bytes that repair reads and writes in a month, per byte of user data."""
    shares: tuple[float, ...]
    """Share of time with ``n``, ``n - 1``, … ``k`` healthy pieces."""

    @property
    def nines(self) -> float:
        """-log10 of the yearly loss, for one segment; at most ``NINES_MAX``."""
        return nines_of(self.loss_per_year)

    @property
    def expansion(self) -> float:
        """Bytes stored per byte of user data."""
        return self.scheme.n / self.scheme.k

    @property
    def due_share(self) -> float:
        """Share of time at or below the repair threshold."""
        return sum(self.shares[self.scheme.n - min(self.scheme.repair, self.scheme.n - 1) :])

    def unavailable(self, online: float) -> float:
        """Return the probability that a segment cannot be read just now.

        Each of its nodes is up with probability ``online``; averaged over the pieces it has.
        """
        k, n = self.scheme.k, self.scheme.n
        return sum(
            share * unavailable(k, n - state, online) for state, share in enumerate(self.shares)
        )


def nines_of(probability: float) -> float:
    """Return -log10 of a probability, at most ``NINES_MAX``, never below zero."""
    if probability <= 10**-NINES_MAX:
        return NINES_MAX
    return max(0.0, -math.log10(probability))


def repair_hours_at(scheme: Scheme, healthy: int, assumptions: Assumptions) -> float:
    """Return the mean repair time of a segment with so many healthy pieces, at or below ``r``.

    With priority it falls linearly from the full time at ``r`` to the least at ``k + 2``; where
    ``r`` is no higher than that, every repair is urgent.
    """
    slow, quick = assumptions.repair_hours, assumptions.repair_hours_min
    floor = scheme.k + 2
    if not quick:
        return slow
    if healthy <= floor:
        return quick
    if healthy >= scheme.repair:
        return slow
    return quick + (slow - quick) * (healthy - floor) / (scheme.repair - floor)


def durability_of(scheme: Scheme, assumptions: Assumptions) -> Durability:
    """Solve the chain. O(n^3) with n <= 255: milliseconds."""
    k, n = scheme.k, scheme.n
    states = n - k + 1  # state s holds n - s healthy pieces
    rates = [[0.0] * states for _ in range(states)]
    lost = [0.0] * states
    for state in range(states):
        for fallen, rate in _falls(n - state, assumptions):
            below = state + fallen
            if below < states:
                rates[state][below] += rate
            else:
                lost[state] += rate
                rates[state][0] += rate
        if state and n - state <= scheme.repair:
            rates[state][0] += 1 / repair_hours_at(scheme, n - state, assumptions)
        rates[state][state] = 0.0
    share = stationary(rates)
    flow = sum(share[s] * lost[s] for s in range(states))
    moved = sum(
        share[s] / repair_hours_at(scheme, n - s, assumptions) * (k + s) / k
        for s in range(1, states)
        if n - s <= scheme.repair
    )
    return Durability(
        scheme=scheme,
        assumptions=assumptions,
        loss_per_year=-math.expm1(-flow * HOURS_PER_YEAR),
        traffic_month=moved * HOURS_PER_MONTH,
        shares=tuple(share),
    )


def _falls(healthy: int, assumptions: Assumptions) -> list[tuple[int, float]]:
    """Return (pieces lost at once, rate per hour) of a segment with so many healthy pieces."""
    falls = [(1, healthy * assumptions.loss_per_hour)]
    if assumptions.domain_pieces:
        falls.append((assumptions.domain_pieces, assumptions.domain_losses_year / HOURS_PER_YEAR))
    if assumptions.shock_share:
        rate = assumptions.shocks_year / HOURS_PER_YEAR
        falls += [
            (fallen, rate * binomial(healthy, fallen, assumptions.shock_share))
            for fallen in range(1, healthy + 1)
        ]
    return falls


def stationary(rates: Sequence[Sequence[float]]) -> list[float]:
    """Return the stationary distribution of an irreducible chain by its off-diagonal rates.

    Grassmann, Taksar and Heyman's elimination: sums, products and quotients of what is not
    negative, so nothing cancels. Where state 0 is absorbing in effect (nothing leads away from
    it) the whole mass is there.
    """
    count = len(rates)
    work = [list(row) for row in rates]
    into = [0.0] * count
    for last in range(count - 1, 0, -1):
        out = sum(work[last][:last])
        into[last] = out
        if out == 0.0:
            continue
        for row in range(last):
            if work[row][last] == 0.0:
                continue
            share = work[row][last] / out
            for column in range(last):
                if column != row:
                    work[row][column] += share * work[last][column]
    weight = [1.0] + [0.0] * (count - 1)
    for state in range(1, count):
        if into[state]:
            flow = sum(weight[row] * work[row][state] for row in range(state))
            weight[state] = flow / into[state]
    whole = sum(weight)
    return [one / whole for one in weight]


def binomial(count: int, hits: int, probability: float) -> float:
    """Return the probability of exactly ``hits`` among ``count`` independent trials."""
    return math.comb(count, hits) * probability**hits * (1 - probability) ** (count - hits)


def unavailable(k: int, pieces: int, online: float) -> float:
    """Return the probability that fewer than ``k`` of ``pieces`` nodes are up just now."""
    return sum(binomial(pieces, up, online) for up in range(min(k, pieces + 1)))


def compare(schemes: Sequence[Scheme], assumptions: Assumptions) -> list[Durability]:
    """Return what each scheme would give under the same assumptions, the most durable first."""
    found = [durability_of(scheme, assumptions) for scheme in schemes]
    return sorted(found, key=lambda one: one.loss_per_year)


def without_domains(assumptions: Assumptions) -> Assumptions:
    """Return the assumptions with single losses only."""
    return replace(assumptions, domain_pieces=0, shock_share=0.0)
