"""Part-time nodes: how many pieces may lie on them, and what remains when all of them are away."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tests.unit.coordinator.placement.test_rules import SeededRng, node, pool

from atoll.coordinator.placement import rules
from atoll.coordinator.placement.model import POLICY_EVERYWHERE, NodeState
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40, TINY, Scheme, scheme_for

SCHEMES = (TINY, RS_2_4, RS_4_8, RS_10_20, RS_20_40)
EVENINGS = 25 / 168


@pytest.mark.parametrize(
    ("scheme", "pieces"), [(TINY, 1), (RS_2_4, 1), (RS_4_8, 1), (RS_10_20, 5), (RS_20_40, 6)]
)
def test_the_table_of_the_manual(scheme: Scheme, pieces: int) -> None:
    assert rules.part_time_max(scheme) == pieces


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_all_part_time_nodes_away_data_are_readable_and_need_no_repair(
    scheme: Scheme,
) -> None:
    most = rules.part_time_max(scheme)
    assert scheme.n - most >= scheme.durable, "what remains of a whole segment is durable"
    assert scheme.n - most >= scheme.repair, "and nothing calls for repair"
    assert scheme.durable - most >= scheme.k, "what was just acknowledged can be read"


@settings(max_examples=60, deadline=None)
@given(some.integers(4, 60), some.integers(0, 60), some.integers(0, 1 << 30))
def test_no_segment_leans_on_part_time_nodes(full: int, part: int, seed: int) -> None:
    nodes = [node(alias) for alias in range(1, full + 1)]
    nodes += [node(full + a, online_share=EVENINGS) for a in range(1, part + 1)]
    offered = pool(nodes)
    scheme = scheme_for(1 << 20, offered.independent)
    most = rules.part_time_max(scheme)
    chosen = rules.choose(offered, scheme.ask, SeededRng(seed), part_time_max=most)
    evenings = [one for one in chosen if one.part_time]
    assert len(evenings) <= most
    assert len(chosen) - len(evenings) >= min(scheme.durable, full)
    # A segment's later pieces count those that it has.
    more = rules.choose(
        offered, 3, SeededRng(seed), holders=evenings + chosen[:1], part_time_max=most
    )
    assert sum(one.part_time for one in more) <= most - len(evenings)


def test_a_crowd_of_part_time_nodes_makes_no_wider_scheme() -> None:
    full = [node(alias) for alias in range(1, 8)]
    crowd = [node(alias, online_share=EVENINGS) for alias in range(8, 80)]
    assert rules.independent(full) == 7
    assert rules.independent(full + crowd) == 9
    assert rules.independent(crowd) == 0


def test_who_is_hardly_ever_online_or_leaves_gets_nothing() -> None:
    for one in (node(1, online_share=0.0), node(1, exiting=True), node(1, state=NodeState.AWAY)):
        assert not rules.eligible(one, POLICY_EVERYWHERE, 1)
    assert rules.eligible(node(1, online_share=EVENINGS), POLICY_EVERYWHERE, 1)
