from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from atoll.client.recovery.rules import one_piece_each


def test_a_holder_of_two_pieces_is_asked_for_the_one_that_nobody_else_has():
    assert one_piece_each({0: [1, 2], 7: [1]}) == [(0, 2), (7, 1)]
    assert one_piece_each({0: [1], 7: [1, 2]}) == [(0, 1), (7, 2)]


def test_the_preferred_holder_is_taken_where_there_is_a_choice():
    assert one_piece_each({0: [3, 1], 1: [2, 3], 2: []}) == [(0, 3), (1, 2)]


claims = st.dictionaries(
    st.integers(0, 5), st.lists(st.integers(1, 6), unique=True, max_size=3), max_size=5
)


@given(claims)
def test_as_many_pieces_are_placed_as_can_be(holders):
    found = one_piece_each(holders)
    assert all(alias in holders[index] for index, alias in found)
    assert len({alias for _, alias in found}) == len({index for index, _ in found}) == len(found)
    best = 0
    for choice in product(*([None, *aliases] for aliases in holders.values())):
        chosen = [alias for alias in choice if alias is not None]
        if len(set(chosen)) == len(chosen):
            best = max(best, len(chosen))
    assert len(found) == best
