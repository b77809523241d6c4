"""A watcher finds what is wrong with a root, and nothing where nothing is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.economy.settlement.fraud import (
    Disorder,
    Falling,
    Fault,
    Missing,
    Unshown,
    calls_of,
    find_fault,
)
from atoll.economy.settlement.sumtree import Leaf, SumTree, build, check_leaf


def leaf(number: int, released: int = 10, held: int = 1) -> Leaf:
    return Leaf((10 * number).to_bytes(20, "big"), released, held)


LAST = [leaf(1), leaf(2, 0), leaf(3), leaf(5), leaf(8)]
GROWN = [leaf(1, 11), leaf(2, 0), leaf(3), leaf(4, 7), leaf(5, 10, 0), leaf(8, 99)]


def judge(leaves: list[Leaf], last: list[Leaf] | None = LAST) -> Fault | None:
    tree = build(leaves, ordered=False)
    before = build(last) if last else None
    fault = find_fault(before, leaves, len(leaves), tree.root)
    check(fault, before, tree)
    return fault


def check(fault: Fault | None, before: SumTree | None, tree: SumTree) -> None:
    """Every proof in a fault holds, and says what it should."""
    new = tree.released_micro, tree.held_micro
    match fault:
        case Disorder(left, right):
            assert check_leaf(tree.root, left) == check_leaf(tree.root, right) == new
            assert left.index < right.index
            assert left.leaf.account >= right.leaf.account
        case Falling(old, now):
            assert before is not None
            check_leaf(before.root, old)
            assert check_leaf(tree.root, now) == new
            assert old.leaf.account == now.leaf.account
            assert now.leaf.released_micro < old.leaf.released_micro
        case Missing(old, beside):
            assert before is not None
            check_leaf(before.root, old)
            assert old.leaf.released_micro
            for one in beside:
                assert check_leaf(tree.root, one) == new
            sides = [one.leaf.account < old.leaf.account for one in beside]
            if len(beside) == 2:
                assert beside[1].index == beside[0].index + 1
                assert sides == [True, False]
            else:
                assert beside[0].index == (tree.count - 1 if sides[0] else 0)


def test_a_right_root_has_no_fault() -> None:
    assert judge(GROWN) is None
    assert judge(LAST) is None
    assert judge(GROWN, None) is None


@pytest.mark.parametrize("index", [0, 2, 3, 4])
def test_a_missing_account_is_found(index: int) -> None:
    leaves = [one for one in GROWN if one.account != LAST[index].account]
    fault = judge(leaves)
    assert isinstance(fault, Missing)
    assert fault.old.index == index
    ((name, arguments),) = calls_of(fault)
    assert (name, arguments[0], len(arguments[2])) == ("prove_missing", 5, len(fault.beside))


def test_who_had_nothing_released_may_go() -> None:
    assert judge([one for one in GROWN if one.account != LAST[1].account]) is None


def test_a_falling_figure_is_found() -> None:
    fault = judge([*GROWN[:4], leaf(5, 9), GROWN[5]])
    assert isinstance(fault, Falling)
    assert (fault.old.index, fault.new.index) == (3, 4)
    assert [name for name, _ in calls_of(fault)] == ["prove_falling"]


def test_disorder_is_found_before_anything_else() -> None:
    for leaves in ([*GROWN[:3], GROWN[2], *GROWN[3:]], [GROWN[1], GROWN[0], *GROWN[2:]]):
        fault = judge(leaves)
        assert isinstance(fault, Disorder)
        assert [name for name, _ in calls_of(fault)] == ["prove_disorder"]


def test_leaves_of_another_root_are_asked_for_chunk_by_chunk() -> None:
    root = build(GROWN).root
    assert find_fault(None, GROWN[:-1], 6, root) == Unshown(1)
    assert find_fault(None, [*GROWN[:-1], leaf(8, 98)], 6, root) == Unshown(1)
    many = [leaf(number) for number in range(1, 131)]
    fault = find_fault(None, many, 130, root)
    assert fault == Unshown(3)
    assert list(calls_of(Unshown(3))) == [("demand", (0,)), ("demand", (1,)), ("demand", (2,))]


amounts = st.dictionaries(st.integers(1, 40), st.integers(0, 5), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(amounts, amounts)
def test_a_fault_is_found_exactly_where_somebody_loses(
    old: dict[int, int], new: dict[int, int]
) -> None:
    loses = any(new.get(number, 0) < released for number, released in old.items())
    before = [leaf(number, old[number]) for number in sorted(old)]
    fault = judge([leaf(number, new[number]) for number in sorted(new)], before)
    assert (fault is not None) == loses
