"""Sets of pieces: digests, changes of windows, what a stranger may send."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from atoll.core import sets
from atoll.core.errors import AtollError
from atoll.core.sets import EMPTY, RangeSet, WindowChange

PIECES = st.dictionaries(st.integers(0, 65_535), st.integers(0, 254), max_size=40)
WINDOWS = st.dictionaries(st.integers(7, 12), PIECES, max_size=5)
END = 13


def of_window(window: dict[int, dict[int, int]]) -> dict[int, RangeSet]:
    return {number: RangeSet.of(pieces) for number, pieces in window.items() if pieces}


def digest_of(held: dict[int, RangeSet]) -> bytes:
    return sets.window_digest((number, held[number].digest(number)) for number in sorted(held))


@given(WINDOWS, WINDOWS, st.sets(st.integers(7, 12)))
def test_a_change_carries_any_window_into_any_other(
    old: dict[int, dict[int, int]], new: dict[int, dict[int, int]], forgotten: set[int]
) -> None:
    before, after = of_window(old), of_window(new)
    change = WindowChange.empty(7)
    for number in range(7, END):
        known = None if number in forgotten else before.get(number, EMPTY)
        change.note(number, known, after.get(number, EMPTY))
    told = WindowChange.decode(7, END, change.encode())
    held = dict(before)
    for number, removed, added in told.touched():
        made = told.apply(number, held.get(number, EMPTY), removed, added)
        held.pop(number, None)
        if len(made):
            held[number] = made
    assert held == after
    assert digest_of(held) == digest_of(after)


@given(PIECES, PIECES)
def test_a_digest_names_one_set(one: dict[int, int], other: dict[int, int]) -> None:
    first, second = RangeSet.of(one), RangeSet.of(other)
    assert (first.digest(3) == second.digest(3)) == (one == other)
    assert first.digest(3) != first.digest(4)
    assert RangeSet.decode(*first.encode()) == first
    assert first.pieces() == dict(sorted(one.items()))


def test_an_index_alone_makes_a_difference() -> None:
    change = WindowChange.empty(0)
    change.note(0, RangeSet.of({5: 1}), RangeSet.of({5: 2}))
    assert list(change.removed) == [5]
    assert change.added == {5: 2}
    assert RangeSet.of({5: 1}).digest(0) != RangeSet.of({5: 2}).digest(0)


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.binary())
def test_nonsense_is_refused_or_stays_within_its_window(
    whole: bytes, removed: bytes, added: bytes, indexes: bytes
) -> None:
    with suppress(AtollError):
        change = WindowChange.decode(2, 4, (whole, removed, added, indexes))
        assert all(2 <= number < 4 for number, _, _ in change.touched())


@given(st.binary(min_size=1, max_size=40), st.integers(0, 60))
def test_bent_bitmaps_are_refused_or_bounded(noise: bytes, at: int) -> None:
    packed = bytearray(sets.encode_bits(BitMap(range(0, 4000, 7))))
    packed[at : at + len(noise)] = noise
    with suppress(AtollError):
        assert sets.decode_bits(bytes(packed), 4096).max() < 4096


def test_lengths_that_do_not_fit_are_refused() -> None:
    good = WindowChange.empty(0)
    good.note(0, EMPTY, RangeSet.of({1: 1, 2: 2}))
    whole, removed, added, indexes = good.encode()
    for bad in (
        (b"abc", removed, added, indexes),
        (whole, removed, added, indexes[:1]),
        ((9).to_bytes(4, "big"), removed, added, indexes),
        (whole, sets.encode_bits(BitMap([1 << 16])), added, indexes),
    ):
        with pytest.raises(AtollError):
            WindowChange.decode(0, 1, bad)
    for packed in (b"x" * 19, sets.pack_digests(0, [(1, b"d" * 16)] * 2)):
        with pytest.raises(AtollError):
            sets.unpack_digests(0, packed)
    with pytest.raises(AtollError):
        sets.unpack_missing(b"x" * 10)
    assert sets.unpack_missing(sets.pack_missing([(7, 3), (1 << 40, 0)])) == [(7, 3), (1 << 40, 0)]
    assert sets.unpack_digests(5, sets.pack_digests(5, [(6, b"d" * 16)])) == {6: b"d" * 16}
