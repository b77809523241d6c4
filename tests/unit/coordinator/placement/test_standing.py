"""Standings in placement: who gets nothing, who gets little, and what fresh keys cannot do."""

from collections import Counter
from dataclasses import replace

import pytest

from atoll.coordinator.placement.model import POLICY_EVERYWHERE, Candidate, NodeState, Standing
from atoll.coordinator.placement.rules import choose, pool_of, weight
from atoll.core.ports import Address
from atoll.runtime.rng import SystemRng

ROOM = 100 << 30


def node(number: int, standing: Standing = Standing.VETTED, *, vetted: bool = True) -> Candidate:
    return Candidate(
        alias=number,
        node_id=number.to_bytes(32, "big"),
        address=Address(f"10.{number // 250}.{number % 250}.1", 7000),
        operator=f"o{number}",
        site=f"s{number}",
        region="eu",
        country="PT",
        tier="home",
        state=NodeState.ALIVE,
        full=False,
        free_bytes=ROOM,
        standing=standing,
        vetted=vetted,
    )


@pytest.mark.parametrize("standing", [Standing.SUSPENDED, Standing.EXITING, Standing.DISQUALIFIED])
def test_some_standings_get_nothing_new(standing: Standing) -> None:
    pool = pool_of([node(1, standing), node(2)], POLICY_EVERYWHERE, 1000)
    assert [one.alias for one in pool.nodes] == [2]


def test_weights_follow_the_standing() -> None:
    vetted = weight(node(1))
    assert weight(node(1, Standing.SUSPECT)) == pytest.approx(vetted / 2)
    assert weight(node(1, Standing.TRUSTED)) == pytest.approx(vetted * 1.25)
    assert weight(replace(node(1), success=0.5)) == pytest.approx(vetted / 2)


def fresh_share(old: int, new: int, count: int) -> tuple[float, int]:
    """Share of pieces on nodes not vetted, and the most of one segment."""
    nodes = [node(n) for n in range(1, old + 1)]
    nodes += [node(1000 + n, Standing.UNVETTED, vetted=False) for n in range(new)]
    pool = pool_of(nodes, POLICY_EVERYWHERE, 1000)
    rng, given, most = SystemRng(), 0, 0
    for _ in range(300):
        chosen = choose(pool, count, rng)
        assert len(chosen) == count
        mine = sum(not one.vetted for one in chosen)
        given, most = given + mine, max(most, mine)
    return given / (300 * count), most


def test_nodes_not_vetted_get_one_piece_in_twenty_at_most() -> None:
    share, most = fresh_share(old=60, new=60, count=20)
    assert 0 < share < 0.06
    assert most == 1


def test_a_swarm_of_fresh_keys_gets_no_more() -> None:
    share, most = fresh_share(old=60, new=200, count=46)
    assert share < 0.06
    assert most <= 2


def test_fresh_keys_do_not_widen_the_scheme_but_found_a_cloud() -> None:
    fresh = [node(1000 + n, Standing.UNVETTED, vetted=False) for n in range(100)]
    vetted = [node(n) for n in range(1, 13)]
    assert pool_of([*vetted, *fresh], POLICY_EVERYWHERE, 1000).independent == 12
    assert pool_of([*vetted[:3], *fresh], POLICY_EVERYWHERE, 1000).independent == 8
    assert pool_of(fresh, POLICY_EVERYWHERE, 1000).independent == 100


def test_fresh_nodes_step_in_where_vetted_ones_run_out() -> None:
    nodes = [node(1), node(2)] + [node(1000 + n, Standing.UNVETTED, vetted=False) for n in range(8)]
    pool = pool_of(nodes, POLICY_EVERYWHERE, 1000)
    chosen = Counter(one.vetted for one in choose(pool, 8, SystemRng()))
    assert chosen == {True: 2, False: 6}
