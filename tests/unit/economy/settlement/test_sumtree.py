"""The sum tree of an epoch: proofs hold, nothing else does, and sums cannot be made up."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.sumtree import (
    AMOUNT_MAX,
    NODE_BYTES,
    Leaf,
    LeafProof,
    Opening,
    SumTree,
    add_words,
    build,
    check_leaf,
    check_opening,
    depth_of,
    empty_node,
    leaf_hash,
    node_hash,
    root_of,
    sums_word,
)


def account(number: int) -> bytes:
    return number.to_bytes(20, "big")


def leaves(count: int) -> list[Leaf]:
    return [Leaf(account(7 * at + 3), 1_000_003 * at, 11 * at + 1) for at in range(count)]


def reference_root(items: list[Leaf]) -> bytes:
    """The specification, word by word, by recursion."""
    depth = depth_of(len(items))

    def node(level: int, position: int) -> tuple[bytes, int]:
        if position << level >= len(items):
            return empty_node(level)[:32], 0
        if level == 0:
            leaf = items[position]
            word = (leaf.released_micro << 128) + leaf.held_micro
            inner = keccak_256(b"\x20" + leaf.account + word.to_bytes(32, "big"))
            return keccak_256(b"\x21" + inner), word
        left, left_word = node(level - 1, 2 * position)
        right, right_word = node(level - 1, 2 * position + 1)
        data = left + left_word.to_bytes(32, "big") + right + right_word.to_bytes(32, "big")
        return keccak_256(b"\x22" + data), left_word + right_word

    top, word = node(depth, 0)
    return keccak_256(b"\x23" + len(items).to_bytes(8, "big") + word.to_bytes(32, "big") + top)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 63, 64, 65, 257])
def test_every_leaf_and_every_subtree_is_proven(count: int) -> None:
    items = leaves(count)
    tree = build(iter(items))
    totals = (sum(leaf.released_micro for leaf in items), sum(leaf.held_micro for leaf in items))
    assert (tree.released_micro, tree.held_micro) == totals
    assert tree.root == reference_root(items)
    for index in range(count):
        assert tree.leaf(index) == items[index]
        assert check_leaf(tree.root, tree.prove(index)) == totals
    for level in range(min(tree.depth, 8) + 1):
        shown: list[Leaf] = []
        for position in range(((count - 1) >> level) + 1):
            opening = tree.open(level, position)
            assert check_opening(tree.root, opening) == totals
            shown += opening.leaves
        assert shown == items


def changes(tree: SumTree, index: int) -> Iterator[LeafProof]:
    """Everything that differs from a right proof in one thing."""
    right = tree.prove(index)
    leaf = right.leaf
    replace = msgspec.structs.replace
    yield replace(right, leaf=replace(leaf, released_micro=leaf.released_micro + 1))
    yield replace(right, leaf=replace(leaf, held_micro=leaf.held_micro + 1))
    yield replace(right, leaf=replace(leaf, account=account(1)))
    yield replace(right, index=index ^ 1)
    yield replace(right, index=index + (1 << tree.depth))
    yield replace(right, index=-1)
    yield replace(right, count=right.count + 1)
    yield replace(right, count=right.count - 1)
    yield replace(right, count=0)
    yield replace(right, path=right.path[1:])
    yield replace(right, path=(*right.path, empty_node(0)))
    for level, node in enumerate(right.path):
        for at in (0, 31, 47, 63):
            wrong = bytearray(node)
            wrong[at] ^= 1
            path = (*right.path[:level], bytes(wrong), *right.path[level + 1 :])
            yield replace(right, path=path)
        path = (*right.path[:level], node[:-1], *right.path[level + 1 :])
        yield replace(right, path=path)


def test_nothing_else_is_proven() -> None:
    tree = build(leaves(11))
    tried = 0
    for index in (0, 5, 10):
        for proof in changes(tree, index):
            with pytest.raises(AtollError) as caught:
                check_leaf(tree.root, proof)
            assert caught.value.kind in (Kind.CORRUPT, Kind.BAD_REQUEST)
            tried += 1
    assert tried > 60


def test_an_inner_node_is_no_leaf() -> None:
    tree = build(leaves(4))
    assert leaf_hash(Leaf(account(5), 1, 2)) != node_hash(tree.node(0, 0), tree.node(0, 1))[:32]
    short = tree.path(1, 0)
    with pytest.raises(AtollError):
        check_leaf(tree.root, LeafProof(tree.leaf(0), 0, 4, short))
    # The tree of two that has the same top is another root: the count is bound.
    with pytest.raises(AtollError):
        check_leaf(tree.root, LeafProof(tree.leaf(0), 0, 2, short))


@pytest.mark.parametrize(
    "items",
    [
        [Leaf(account(2), 1, 0), Leaf(account(1), 1, 0)],
        [Leaf(account(2), 1, 0), Leaf(account(2), 1, 0)],
        [Leaf(bytes(20), 1, 0)],
        [Leaf(b"\x01" * 19, 1, 0)],
        [Leaf(b"\x01" * 21, 1, 0)],
        [Leaf(account(1), -1, 0)],
        [Leaf(account(1), 0, AMOUNT_MAX + 1)],
        [Leaf(account(at + 1), 0, AMOUNT_MAX) for at in range(256)],
        [Leaf(account(at + 1), AMOUNT_MAX, 0) for at in range(2)],
        [],
    ],
)
def test_a_tree_is_not_built_of(items: list[Leaf]) -> None:
    with pytest.raises(AtollError):
        build(items)


def test_the_largest_amounts_fit() -> None:
    tree = build([Leaf(account(1), AMOUNT_MAX - 1, 0), Leaf(account(2), 1, AMOUNT_MAX)])
    assert check_leaf(tree.root, tree.prove(1)) == (AMOUNT_MAX, AMOUNT_MAX)


def test_sums_that_wrap_round_are_refused() -> None:
    # A recorded sum of 2**128 − 1 held would carry into what is released.
    item = Leaf(account(1), 5, 1)
    here = leaf_hash(item) + sums_word(5, 1).to_bytes(32, "big")
    beside = bytes(32) + ((1 << 128) - 1).to_bytes(32, "big")
    word = sums_word(5, 1) + (1 << 128) - 1
    root = root_of(2, word, node_hash(here, beside))
    with pytest.raises(AtollError, match="too large"):
        check_leaf(root, LeafProof(item, 0, 2, (beside,)))
    with pytest.raises(AtollError):
        add_words(1 << 120, 0)


def hand_made(items: list[Leaf], beyond: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """A tree of three with something at the fourth place; returns root and the path of leaf 2."""
    nodes = [
        leaf_hash(leaf) + sums_word(leaf.released_micro, leaf.held_micro).to_bytes(32, "big")
        for leaf in items
    ] + [beyond]
    words = [int.from_bytes(node[32:], "big") for node in nodes]
    left = node_hash(nodes[0], nodes[1]) + (words[0] + words[1]).to_bytes(32, "big")
    right = node_hash(nodes[2], nodes[3]) + (words[2] + words[3]).to_bytes(32, "big")
    return root_of(3, sum(words), node_hash(left, right)), (beyond, left)


def test_an_opening_shows_that_nothing_lies_beyond_and_order() -> None:
    items = leaves(3)
    hidden = leaf_hash(Leaf(account(99), 9, 0)) + sums_word(9, 0).to_bytes(32, "big")
    root, path = hand_made(items, hidden)
    check_leaf(root, LeafProof(items[2], 2, 3, path))
    with pytest.raises(AtollError, match="beyond"):
        check_opening(root, Opening(0, 2, 3, (items[2],), path))
    with pytest.raises(AtollError):
        check_opening(root, Opening(2, 0, 3, tuple(items), ()))
    turned = [items[1], items[0], items[2]]
    root, _ = hand_made(turned, empty_node(0))
    check_opening(root, Opening(2, 0, 3, tuple(turned), ()), strict=False)
    with pytest.raises(AtollError, match="order"):
        check_opening(root, Opening(2, 0, 3, tuple(turned), ()))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.integers(1, (1 << 160) - 1),
        st.tuples(st.integers(0, 1 << 100), st.integers(0, 1 << 100)),
        min_size=1,
        max_size=40,
    ),
    st.data(),
)
def test_any_tree_is_as_specified(amounts: dict[int, tuple[int, int]], data: st.DataObject) -> None:
    items = [Leaf(account(number), *amounts[number]) for number in sorted(amounts)]
    tree = build(items)
    assert tree.root == reference_root(items)
    index = data.draw(st.integers(0, len(items) - 1))
    assert check_leaf(tree.root, tree.prove(index)) == (tree.released_micro, tree.held_micro)
    assert tree.place_of(items[index].account) == (index, True)
    absent = data.draw(st.integers(1, (1 << 160) - 1).filter(lambda number: number not in amounts))
    place, found = tree.place_of(account(absent))
    assert not found
    assert place == sum(number < absent for number in amounts)


def test_a_node_has_64_bytes_and_levels_are_bounded() -> None:
    tree = build(leaves(3))
    assert len(tree.node(0, 0)) == len(empty_node(3)) == NODE_BYTES
    for call in (
        lambda: tree.leaf(3),
        lambda: tree.path(0, 3),
        lambda: tree.path(3, 0),
        lambda: tree.open(9, 0),
        lambda: depth_of(0),
        lambda: depth_of((1 << 32) + 1),
    ):
        with pytest.raises(AtollError):
            call()
