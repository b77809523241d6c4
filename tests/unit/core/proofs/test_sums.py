"""The sum tree: every number below the sum of all is one leaf of one piece, and only one."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.proofs.sums import (
    RANGE_BITS,
    STEP_BYTES,
    Entry,
    RangeTree,
    TopTree,
    climb,
    depth_of,
    entry_hash,
    joined_place,
    ranges_of,
    root_hash,
)


def entry(serial: int, leaves: int, index: int = 0) -> Entry:
    segment = hashlib.sha256(serial.to_bytes(8, "big")).digest()[:16]
    return Entry(serial, segment, index, hashlib.sha256(segment).digest(), leaves, leaves * 4096)


sets = st.dictionaries(
    st.integers(1, (1 << RANGE_BITS) * 5), st.integers(1, 900), min_size=1, max_size=60
)


def tree_of(weights: dict[int, int]) -> tuple[list[RangeTree], TopTree, list[Entry]]:
    entries = [entry(serial, leaves) for serial, leaves in sorted(weights.items())]
    ranges = list(ranges_of(entries))
    return ranges, TopTree([one.top for one in ranges]), entries


@settings(max_examples=60, deadline=None)
@given(sets, st.data())
def test_every_leaf_has_one_owner_and_a_way_to_the_root(
    weights: dict[int, int], data: st.DataObject
) -> None:
    ranges, top, entries = tree_of(weights)
    assert top.leaves == sum(weights.values())
    assert top.pieces == len(weights)
    position = data.draw(st.integers(0, top.leaves - 1))
    place, before = top.find(position)
    tree = ranges[place]
    inner, inside = tree.find(position - before)
    # The plain way of counting finds the same piece.
    left, counted = position, 0
    while left >= entries[counted].leaves:
        left -= entries[counted].leaves
        counted += 1
    owner = entries[counted]
    assert tree.serials[inner] == owner.serial
    assert position - before - inside == left
    path = tree.path(inner) + top.path(place)
    assert len(path) == STEP_BYTES * (depth_of(tree.top.entries) + depth_of(len(ranges)))
    digest = entry_hash(owner.segment, owner.index, owner.segment_root, owner.leaves)
    joined = joined_place(inner, tree.top.entries, place)
    found = climb(digest, owner.leaves, joined, path)
    assert found is not None
    assert found.weight == top.leaves
    assert found.left == before + inside
    assert root_hash(len(ranges), top.leaves, found.top) == top.root


@pytest.mark.parametrize("count", [1, 2, 4, 5, 16, 17, 64, 65])
def test_a_tree_is_as_deep_as_its_entries_ask_for(count: int) -> None:
    (tree,) = ranges_of([entry(serial, serial) for serial in range(1, count + 1)])
    assert len(tree.path(count - 1)) == STEP_BYTES * depth_of(count)
    assert 4 ** depth_of(count) >= count > 4 ** depth_of(count) // 4
    for place in range(count):
        assert tree.find(place * (place + 1) // 2) == (place, place * (place + 1) // 2)


def test_sums_beyond_what_a_tree_may_have_lead_nowhere() -> None:
    beside = bytes(32) + b"\xff" * 8
    assert climb(bytes(32), 1, 0, beside * 3 * 2) is None


@settings(max_examples=40, deadline=None)
@given(sets, st.data())
def test_any_change_changes_the_root(weights: dict[int, int], data: st.DataObject) -> None:
    root = tree_of(weights)[1].root
    serial = data.draw(st.sampled_from(sorted(weights)))
    changed = dict(weights)
    if data.draw(st.booleans()) and len(weights) > 1:
        del changed[serial]
    else:
        changed[serial] += 1
    assert tree_of(changed)[1].root != root


def test_an_untouched_range_is_taken_over_as_it_is() -> None:
    weights = {1: 3, 2: 4, 1 << RANGE_BITS: 5}
    before, after = tree_of(weights)[0], tree_of(weights | {(1 << RANGE_BITS) + 1: 6})[0]
    assert before[0].top == after[0].top
    assert before[1].top != after[1].top


def test_an_empty_tree_has_a_root_and_no_leaf() -> None:
    top = TopTree([])
    assert (top.leaves, top.pieces) == (0, 0)
    with pytest.raises(ValueError, match="no leaf"):
        top.find(0)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(2, 1), entry(1, 1)],
        [entry(1, 1), entry(1, 1)],
        [entry(1, 0)],
        [entry(1, 1), entry(1 << RANGE_BITS, 1)],
    ],
)
def test_a_range_takes_only_what_belongs_into_it(entries: list[Entry]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        RangeTree(0, entries)
