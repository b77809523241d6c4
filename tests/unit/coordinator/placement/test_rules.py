"""Claims about placement's pure rules."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.coordinator.placement import rules
from atoll.coordinator.placement.model import (
    POLICY_EVERYWHERE,
    Candidate,
    NodeState,
    Policy,
    network_of,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.policy.text import parse
from atoll.core.ports import Address
from atoll.core.scheme import scheme_for

GIB = 1 << 30


class SeededRng:
    """The Rng port on the standard generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def uniform(self) -> float:
        return self._random.random()

    def sample(self, population: Sequence[Any], count: int) -> list[Any]:
        return self._random.sample(list(population), count)


def node(alias: int, **facts: object) -> Candidate:
    base: dict[str, object] = {
        "alias": alias,
        "node_id": alias.to_bytes(32, "big"),
        "address": Address(f"10.{alias >> 8 & 255}.{alias & 255}.1", 7000),
        "operator": f"operator-{alias}",
        "site": f"site-{alias}",
        "region": "eu",
        "country": "DE",
        "tier": "home",
        "state": NodeState.ALIVE,
        "full": False,
        "free_bytes": 100 * GIB,
    }
    return Candidate(**(base | facts))  # type: ignore[arg-type]


def pool(nodes: Sequence[Candidate], record_bytes: int = 1 << 20) -> rules.Pool:
    return rules.pool_of(nodes, POLICY_EVERYWHERE, record_bytes)


def test_networks_group_by_24_and_48() -> None:
    assert network_of("192.0.2.77") == network_of("192.0.2.1") != network_of("192.0.3.1")
    assert network_of("2001:db8:1:ffff::1") == network_of("2001:db8:1::2")
    assert network_of("2001:db8:2::1") != network_of("2001:db8:1::1")
    assert network_of("127.0.4.1") != network_of("127.0.5.1")
    assert network_of("Node.Example") == "node.example"


@pytest.mark.parametrize(
    ("facts", "admitted"),
    [
        ({}, True),
        ({"state": NodeState.SUSPECT}, False),
        ({"state": NodeState.DEAD}, False),
        ({"full": True}, False),
        ({"free_bytes": 2 << 20}, True),
        ({"free_bytes": (2 << 20) - 1}, False),
    ],
)
def test_only_alive_nodes_with_room_are_eligible(facts: dict[str, object], admitted: bool) -> None:
    assert rules.eligible(node(1, **facts), POLICY_EVERYWHERE, 1 << 20) is admitted


@pytest.mark.parametrize(
    "text",
    [
        "country in AT",
        "region us",
        "tier >= dc",
        'operator in "operator-2"',
        'operator not in "operator-1"',
    ],
)
def test_each_fact_of_a_policy_filters(text: str) -> None:
    policy = Policy(2, text, parse(text))
    assert not policy.admits(node(1))
    fits = node(2, country="AT", region="us", tier="dc")
    assert policy.admits(fits)
    assert rules.pool_of([node(1), fits], policy, 1).nodes == (fits,)


def test_one_autonomous_system_gets_its_share_and_more_only_where_nothing_else_is_left() -> None:
    crowd = [node(i, asn=64496) for i in range(1, 9)]
    others = [node(i, asn=64496 + i) for i in range(9, 15)]
    chosen = rules.choose(pool([*crowd, *others]), 8, SeededRng(1))
    assert sum(one.asn == 64496 for one in chosen) == 2
    assert len(rules.choose(pool(crowd), 8, SeededRng(1))) == 8


def test_a_policy_nobody_meets_says_which_part_keeps_how_many_out() -> None:
    nodes = [node(i, country="US" if i > 2 else "DE", tier="home") for i in range(1, 13)]
    text = "country in DE and tier >= pro"
    policy = Policy(2, text, parse(text))
    admitted = rules.pool_of(nodes, policy, 1)
    error = rules.too_few_under(policy, scheme_for(1 << 20, 0), admitted, nodes)
    assert "`tier >= pro` keeps out 12, `country in DE` keeps out 10" in error.message
    assert error.kind is Kind.TOO_FEW_NODES
    assert error.about == text


def test_weight_grows_with_room_success_and_nearness() -> None:
    base = rules.weight(node(1))
    assert rules.weight(node(1, free_bytes=400 * GIB)) == pytest.approx(2 * base)
    assert rules.weight(node(1, success=0.5)) == pytest.approx(base / 2)
    assert rules.weight(node(1, latency_ms=100.0)) == pytest.approx(base / 2)
    assert rules.weight(node(1, free_bytes=0, success=0.0, latency_ms=1e9)) > 0


def test_an_operator_with_many_nodes_does_not_own_the_draw() -> None:
    nodes = [node(i, operator="giant", free_bytes=10_000 * GIB) for i in range(1, 51)]
    nodes += [node(i) for i in range(51, 101)]
    weighed = rules.weights(nodes)
    assert sum(weighed[:50]) <= 0.101 * (50 * rules.weight(nodes[0]) + 50 * rules.weight(nodes[-1]))


@st.composite
def crowds(draw: st.DrawFn) -> list[Candidate]:
    count = draw(st.integers(0, 60))
    spread = draw(st.integers(1, 60))
    pick = st.integers(1, spread)
    return [
        node(
            alias,
            operator=f"o{draw(pick)}",
            site=f"s{draw(pick)}",
            network=f"n{draw(pick)}",
            region=draw(st.sampled_from(["eu", "us", "ap"])),
            free_bytes=draw(st.integers(1, 1000)) * GIB,
        )
        for alias in range(1, count + 1)
    ]


@given(crowds(), st.integers(0, 46), st.integers(0, 2**32), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_a_choice_never_breaks_a_cap(
    crowd: list[Candidate], count: int, seed: int, held: int
) -> None:
    holders = crowd[:held]
    refused = [n.alias for n in crowd[held : held + 2]]
    chosen = rules.choose(pool(crowd), count, SeededRng(seed), holders=holders, refused=refused)
    assert len(chosen) <= count
    assert not {n.alias for n in chosen} & ({n.alias for n in holders} | set(refused))
    for fact in ("operator", "site", "network", "alias"):
        mine = [getattr(n, fact) for n in chosen]
        assert len(set(mine)) == len(mine)
        assert not set(mine) & {getattr(n, fact) for n in holders}


@given(crowds(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_independent_is_never_more_than_there_is(crowd: list[Candidate], seed: int) -> None:
    prepared = pool(crowd)
    assert prepared.independent <= min(
        len({n.operator for n in crowd}),
        len({n.site for n in crowd}),
        len({n.network for n in crowd}),
    )
    if crowd:
        assert prepared.independent >= 1
        assert len(rules.choose(prepared, 1, SeededRng(seed))) == 1


def test_with_distinct_operators_every_node_counts_and_is_given() -> None:
    prepared = pool([node(i) for i in range(1, 13)])
    assert prepared.independent == 12
    assert len(rules.choose(prepared, 12, SeededRng(1))) == 12
    assert len(rules.choose(prepared, 20, SeededRng(1))) == 12


@pytest.mark.parametrize("count", [40, 3000])
def test_draws_follow_the_weights_in_small_and_large_pools(count: int) -> None:
    nodes = [
        node(i, free_bytes=(400 if i % 2 else 100) * GIB, region="eu") for i in range(1, count + 1)
    ]
    prepared = pool(nodes)
    rng = SeededRng(7)
    seen: Counter[bool] = Counter()
    for _ in range(1500):
        seen.update(n.free_bytes > 200 * GIB for n in rules.choose(prepared, 1, rng))
    assert 1.7 < seen[True] / seen[False] < 2.35


def test_regions_share_a_segment_while_they_can() -> None:
    nodes = [node(i, region="eu") for i in range(1, 91)]
    nodes += [node(i, region="us") for i in range(91, 96)]
    nodes += [node(i, region="ap") for i in range(96, 101)]
    for seed in range(20):
        chosen = rules.choose(pool(nodes), 10, SeededRng(seed))
        regions = Counter(n.region for n in chosen)
        assert len(chosen) == 10
        assert regions["eu"] == 4, "40 % in one region while others have room"
    lone = rules.choose(pool(nodes[:90] + nodes[91:92]), 10, SeededRng(1))
    assert len(lone) == 10, "soft: gives way when nothing else is left"


def test_too_few_nodes_says_what_is_missing() -> None:
    with pytest.raises(AtollError) as caught:
        rules.scheme_in(pool([node(1), node(2)]), 1 << 20)
    assert caught.value.kind is Kind.TOO_FEW_NODES
    assert "needs 3 independent operators with free space for a 2/4 segment" in str(caught.value)
    assert "2 are alive" in str(caught.value)
    with pytest.raises(AtollError, match=r"needs 2 independent .*1/4 segment; 1 is alive"):
        rules.scheme_in(pool([node(1)]), 100)
    crowd = [node(i, operator="one") for i in range(1, 6)]
    with pytest.raises(AtollError, match="5 nodes are alive, but they make only 1"):
        rules.scheme_in(pool(crowd), 1 << 20)
    full = [node(i, full=True) for i in range(1, 6)]
    with pytest.raises(AtollError, match="5 nodes are alive, 0 of them independent with room"):
        rules.scheme_in(pool(full), 1 << 20)


def test_fewer_than_full_strength_but_durable_is_enough() -> None:
    assert rules.scheme_in(pool([node(i) for i in range(1, 4)]), 1 << 20).name == "2/4"
    assert rules.scheme_in(pool([node(i) for i in range(1, 13)]), 1 << 20).name == "4/8"
    assert rules.scheme_in(pool([node(i) for i in range(1, 61)]), 1 << 20).name == "20/40"
    assert rules.scheme_in(pool([node(i) for i in range(1, 3)]), 8192).name == "1/4"


def test_a_large_pool_with_few_independent_nodes_still_answers() -> None:
    nodes = [node(i, operator=f"o{i % 5}") for i in range(1, 2001)]
    chosen = rules.choose(pool(nodes), 8, SeededRng(3))
    assert len(chosen) == 5
