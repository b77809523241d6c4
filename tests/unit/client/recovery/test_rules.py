from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from atoll.client.recovery.rules import lock_of, one_piece_each
from atoll.core.ids import SegmentId
from atoll.core.messages.retention import LockState
from atoll.core.retention import Mode, RetentionRecord


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


# --- locks ---------------------------------------------------------------------------------------

SEGMENT, LOCK_KEY = SegmentId(b"s" * 16), b"k" * 32


def says(mode=Mode.COMPLIANCE, until_ms=1000, hold=False, sequence=5):
    return RetentionRecord(SEGMENT, LOCK_KEY, mode, until_ms, hold, sequence)


def state(mode="compliance", until_ms=1000, hold=False, sequence=5):
    return LockState(mode=mode, until_ms=until_ms, legal_hold=hold, sequence=sequence)


def test_a_manifest_alone_says_how_an_object_is_locked_and_so_do_holders_alone():
    assert lock_of(state(), []) == state()
    assert lock_of(state(), [None, None]) == state()
    assert lock_of(None, [None]) is None
    assert lock_of(None, [says(), says()]) == state()


def test_what_holders_were_told_after_the_manifest_counts():
    later = says(until_ms=2000, hold=True, sequence=9)
    assert lock_of(state(), [later, later]) == state(until_ms=2000, hold=True, sequence=9)
    released = says(Mode.NONE, 0, sequence=9)
    assert lock_of(state("governance"), [released]) == state("", 0, sequence=9)


def test_a_change_that_reached_a_part_of_the_segments_keeps_all_and_is_signed_anew():
    found = lock_of(state(), [says(), says(until_ms=2000, sequence=9), None])
    assert found == state(until_ms=2000, sequence=0)


def test_an_older_record_changes_nothing():
    assert lock_of(state(sequence=9), [says(until_ms=5000, sequence=5)]) == state(sequence=9)


def test_a_default_that_nobody_signed_stays_as_the_manifest_says():
    told = state(until_ms=1010, sequence=0)
    assert lock_of(told, [says(sequence=990), says(until_ms=1003, sequence=993)]) == told


@given(
    st.one_of(st.none(), st.builds(state, until_ms=st.integers(1, 9), sequence=st.integers(0, 9))),
    st.lists(
        st.one_of(
            st.none(),
            st.builds(says, until_ms=st.integers(1, 9), sequence=st.integers(1, 9)),
        ),
        max_size=4,
    ),
)
def test_a_compliance_lock_is_never_shorter_than_what_the_newest_word_says(told, records):
    found = lock_of(told, records)
    known = [one for one in records if one is not None]
    if told is None and not known:
        assert found is None
        return
    assert found is not None
    newest = max((one.sequence for one in known), default=0)
    if told is not None and told.sequence >= newest:
        assert found == told
    else:
        ends = [one.until_ms for one in known]
        assert found.until_ms >= max(ends)
