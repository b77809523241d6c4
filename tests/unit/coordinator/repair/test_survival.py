"""Claims about how many more nodes may die."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.coordinator.repair.test_rules import node

from atoll.coordinator.placement.model import NodeState
from atoll.coordinator.repair import survival
from atoll.coordinator.repair.survival import Group, survival_of


def group(k: int, n: int, holders: tuple[int, ...], *objects: int) -> Group:
    return Group(k, n, holders, len(objects), {bytes([o]) for o in objects})


def lost_objects(groups: list[Group], alive: set[int]) -> int:
    lost: set[bytes] = set()
    for one in groups:
        if len(alive.intersection(one.holders)) < one.k:
            lost |= one.streams
    return len(lost)


def test_the_demo_line_any_four_of_twelve_may_die() -> None:
    groups = [
        group(4, 8, (1, 2, 3, 4, 5, 6, 7, 8), 1, 2, 3),
        group(4, 8, (5, 6, 7, 8, 9, 10, 11, 12), 4),
    ]
    answer = survival_of(groups, frozenset(range(1, 13)))
    assert (answer.any_nodes, answer.nodes_alive, answer.next_loss_objects) == (4, 12, 3)


def test_an_empty_cloud_survives_everything() -> None:
    answer = survival_of([], frozenset({1, 2}))
    assert (answer.any_nodes, answer.next_loss_objects) == (2, 0)


def test_what_is_unreadable_now_is_in_the_figure() -> None:
    groups = [group(2, 4, (1, 2, 3, 4), 1), group(2, 4, (3, 4, 5, 6), 2)]
    answer = survival_of(groups, frozenset({1, 5, 6}))
    assert answer.any_nodes == 0
    assert answer.next_loss_objects == 2


def test_an_object_of_many_segments_is_lost_once() -> None:
    holders = [tuple(h) for h in combinations(range(1, 6), 4)]
    groups = [group(2, 4, h, 7) for h in holders]
    assert survival_of(groups, frozenset(range(1, 6))).next_loss_objects == 1


@given(
    st.integers(4, 7).flatmap(
        lambda nodes: st.tuples(
            st.just(nodes),
            st.sets(st.integers(1, nodes)),
            st.lists(
                st.tuples(
                    st.integers(1, 3),
                    st.sets(st.integers(1, nodes), min_size=1, max_size=nodes),
                    st.sets(st.integers(0, 5), min_size=1, max_size=3),
                ),
                min_size=1,
                max_size=6,
            ),
        )
    )
)
@settings(max_examples=300, deadline=None)
def test_figures_equal_trying_every_death(
    world: tuple[int, set[int], list[tuple[int, set[int], set[int]]]],
) -> None:
    _, dead, described = world
    groups = [
        group(k, 8, tuple(sorted(holders)), *objects)
        for k, holders, objects in described
        if len(holders) >= k
    ]
    alive = set(range(1, world[0] + 1)) - dead
    answer = survival_of(groups, frozenset(alive))
    now_lost = lost_objects(groups, alive)
    any_nodes = 0
    while any_nodes < len(alive) and all(
        lost_objects(groups, alive - set(gone)) == 0
        for gone in combinations(sorted(alive), any_nodes + 1)
    ):
        any_nodes += 1
    if now_lost:
        any_nodes = 0
    assert answer.any_nodes == any_nodes
    worst = max(
        (
            lost_objects(groups, alive - set(gone))
            for gone in combinations(sorted(alive), any_nodes + 1)
        ),
        default=now_lost,
    )
    assert answer.next_loss_objects == worst


def test_beyond_the_limit_a_lower_bound_is_found() -> None:
    wide = [group(20, 40, tuple(range(start, start + 40)), start) for start in range(1, 20)]
    wide[3].streams |= {b"more", b"and more"}
    wide[3].segments += 2
    answer = survival_of(wide, frozenset(range(1, 60)))
    assert answer.any_nodes == 20
    assert answer.next_loss_objects >= 3


def test_groups_judged_by_states() -> None:
    groups = [group(4, 8, tuple(range(1, 9)), 1, 2), group(4, 8, tuple(range(5, 12)), 3)]
    states = dict.fromkeys(range(1, 13), NodeState.ALIVE)
    states |= {1: NodeState.DEAD, 2: NodeState.LOST, 3: NodeState.SUSPECT}
    found = survival.judge_groups(groups, {a: node(a, s) for a, s in states.items()})
    assert (found.segments, found.pieces) == (3, 23)
    assert found.segments_degraded == 3
    assert found.pieces_missing == 2 * 2 + 1
    assert found.segments_urgent == 3
    assert found.segments_unreadable == 0
    assert found.survival.any_nodes == 1
    assert found.survival.nodes_alive == 9
