"""Pure decisions of the market: which nodes post, how a class moves, what a price weighs."""

from collections.abc import Callable, Iterable, Mapping

from atoll.coordinator.market.model import (
    EGRESS_MICRO_PER_TB,
    PICO_PER_MICRO_OF_TB,
    PRICE_SPREAD,
    REPAIR_MICRO_PER_TB,
    STARTS,
    ClassState,
    ClassUse,
    Start,
)
from atoll.coordinator.registry.model import NodeState, NodeView
from atoll.core.money import BPS
from atoll.economy.tariff import rules
from atoll.economy.tariff.model import SCORE_BPS_MAX, ClassTariff, Posted, Tariff

BEGINNINGS: Mapping[str, Start] = {start.tier: start for start in STARTS}


def price_of(view: NodeView) -> int:
    """Return what a node asks, pico-euro per GB-month; 0 where it leaves that to the market."""
    return view.facts.price_micro * PICO_PER_MICRO_OF_TB


def tier_of(view: NodeView) -> str:
    """Return a node's class; what is not known is sold as the humblest."""
    return view.facts.tier if view.facts.tier in BEGINNINGS else "edge"


def of_class(nodes: Iterable[NodeView], tier: str) -> list[NodeView]:
    """Return the nodes that offer room in a class now."""
    return [
        view
        for view in nodes
        if tier_of(view) == tier
        and view.state in (NodeState.ALIVE, NodeState.AWAY)
        and not view.facts.exiting
    ]


def first_state(tier: str) -> ClassState:
    """Return a class as it begins."""
    price = BEGINNINGS[tier].price_micro * PICO_PER_MICRO_OF_TB
    return ClassState(tier, price, BPS, 0)


def prices_of(state: ClassState) -> ClassTariff:
    """Return the prices of a class."""
    start = BEGINNINGS[state.tier].price_micro * PICO_PER_MICRO_OF_TB
    return ClassTariff(
        tier=state.tier,
        price_min_pico=start // PRICE_SPREAD,
        price_max_pico=start * PRICE_SPREAD,
        reference_pico=state.reference_pico,
        multiplier_bps=state.multiplier_bps,
        egress_pico=EGRESS_MICRO_PER_TB * PICO_PER_MICRO_OF_TB,
    )


def tariff_of(states: Mapping[str, ClassState]) -> Tariff:
    """Return all prices; a class of which nothing is remembered is at its beginning."""
    classes = [prices_of(states.get(tier) or first_state(tier)) for tier in sorted(BEGINNINGS)]
    return Tariff(classes, REPAIR_MICRO_PER_TB * PICO_PER_MICRO_OF_TB)


def use_of(nodes: Iterable[NodeView]) -> ClassUse:
    """Return how much the nodes of a class offer and hold."""
    listed = list(nodes)
    capacity = sum(view.facts.capacity_bytes for view in listed)
    used = sum(min(view.counters.used_bytes, view.facts.capacity_bytes) for view in listed)
    return ClassUse(len(listed), capacity, used)


def moved(
    state: ClassState, nodes: Iterable[NodeView], proven: Callable[[int], bool], now_ms: int
) -> ClassState:
    """Return a class after some time: towards what its nodes post, multiplied by its use.

    Only nodes that prove what they hold (``proven``, by alias) weigh in the reference, by the
    room they offer. The first time nothing moves: there is no time it could have moved in.
    """
    listed = of_class(nodes, state.tier)
    prices = prices_of(state)
    posted = [
        Posted(rules.posted_price(price_of(view), prices), view.free_bytes)
        for view in listed
        # Who leaves the price to the market follows it and does not make it.
        if proven(view.alias) and price_of(view)
    ]
    elapsed_ms = now_ms - state.moved_ms if state.moved_ms else 0
    reference = rules.reference_price(state.reference_pico, posted, elapsed_ms)
    use = use_of(listed)
    return ClassState(
        state.tier, reference, rules.multiplier_bps(use.used_bytes, use.capacity_bytes), now_ms
    )


def price_factor(view: NodeView, prices: ClassTariff) -> float:
    """Return by how much a node's price raises its weight in placement: 0.5 … 2."""
    price = rules.posted_price(price_of(view), prices)
    best = SCORE_BPS_MAX
    own = rules.placement_weight(best, price, prices.reference_pico)
    return own / rules.placement_weight(best, prices.reference_pico, prices.reference_pico)
