"""A watcher finds what is wrong with a root, and nothing where nothing is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.cheat import CheatTree

from atoll.core.errors import AtollError, Kind
from atoll.economy.settlement.fraud import (
    BadLeaf,
    BadSum,
    Disorder,
    Falling,
    Fault,
    Missing,
    Unshown,
    all_shown,
    calls_of,
    chunk_level,
    find_fault,
    leaf_words,
    path_words,
    shown_chunk,
)
from atoll.economy.settlement.sumtree import (
    Leaf,
    SumTree,
    build,
    check_leaf,
    leaf_hash,
    node_hash,
    root_of,
    sums_word,
)


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


# --- wrong sums -----------------------------------------------------------------------------------


def judge_sums(leaves: list[Leaf], wrong: dict[tuple[int, int], int]) -> tuple[Fault | None, bytes]:
    """Judge a tree of right leaves with recorded sums replaced."""
    cheat = CheatTree(leaves, wrong)
    return find_fault(None, leaves, len(leaves), cheat.root, cheat.sums), cheat.root


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 70), st.data())
def test_a_wrong_sum_is_found_wherever_it_is(count: int, data: st.DataObject) -> None:
    leaves = [leaf(number, 10 + number, number) for number in range(1, count + 1)]
    honest = CheatTree(leaves)
    level = data.draw(st.integers(0, len(honest.levels) - 1))
    place = data.draw(st.integers(0, (count - 1) >> level))
    off = data.draw(st.sampled_from([1 << 128, 5, (3 << 128) + 7, -1, -(1 << 128)]))
    word = honest.word_of(level, place)
    if off < 0 and min(word >> 128, word & ((1 << 128) - 1)) == 0:
        return
    fault, root = judge_sums(leaves, {(level, place): word + off})
    match fault:
        case BadSum(position, recorded, left, right, path):
            assert level > 0
            sides = sum(int.from_bytes(side[32:], "big") for side in (left, right))
            assert recorded == sides + off
            node = node_hash(left, right)
        case BadLeaf(shown, position, recorded, path):
            node = leaf_hash(shown)
            assert recorded != sums_word(shown.released_micro, shown.held_micro)
        case _:
            raise AssertionError(fault)
    # As the contract checks it: the way up leads to the root that was proposed.
    for sibling in path:
        here = node + recorded.to_bytes(32, "big")
        recorded += int.from_bytes(sibling[32:], "big")
        node = node_hash(sibling, here) if position & 1 else node_hash(here, sibling)
        position >>= 1
    assert root_of(count, recorded, node) == root


def test_two_wrong_sums_have_to_be_shown() -> None:
    leaves = [leaf(number) for number in range(1, 10)]
    honest = CheatTree(leaves)
    wrong = {(1, 1): honest.word_of(1, 1) + (5 << 128), (2, 1): honest.word_of(2, 1) - (5 << 128)}
    fault, _ = judge_sums(leaves, wrong)
    assert fault == Unshown(1)
    assert judge_sums(leaves, {})[0] is None


def test_what_was_shown_makes_the_tree_that_was_proposed() -> None:
    leaves = [leaf(number) for number in range(1, 131)]
    tree = build(leaves)
    shown: dict[int, tuple[Leaf, ...]] = {}
    for chunk in (2, 0, 1):
        assert all_shown(130, shown) is None
        opening = tree.open(chunk_level(130), chunk)
        words = [leaf_words(one) for one in opening.leaves]
        shown[chunk] = shown_chunk(tree.root, 130, chunk, words, path_words(opening.path))
    assert all_shown(130, shown) == leaves
    with pytest.raises(AtollError) as error:
        shown_chunk(tree.root, 130, 0, words, path_words(opening.path))
    assert error.value.kind is Kind.CORRUPT
