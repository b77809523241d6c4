"""Fees and order, as pure decisions."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.core.ports import ChainFees
from atoll.economy.chain.model import EMBEDDED, GAS_MAX, PUBLIC
from atoll.economy.chain.rules import (
    BUMPS_MAX,
    first_fees,
    gas_limit,
    missing_nonces,
    raised_fees,
    sending_order,
)

GWEI = 10**9
fees_drawn = st.builds(
    ChainFees, base_wei=st.integers(0, 500 * GWEI), tip_wei=st.integers(0, 100 * GWEI)
)


@given(fees_drawn)
def test_fees_stay_below_the_ceiling_and_pay_for_the_block(fees: ChainFees) -> None:
    found = first_fees(fees, PUBLIC)
    if fees.base_wei + fees.tip_wei > PUBLIC.fee_wei_max:
        assert found is None
        return
    assert found is not None
    limit, tip = found
    assert fees.base_wei + fees.tip_wei <= limit <= PUBLIC.fee_wei_max
    assert tip <= limit


@given(fees_drawn)
def test_a_raised_fee_is_one_that_nodes_accept(fees: ChainFees) -> None:
    first = first_fees(fees, PUBLIC)
    if first is None:
        return
    raised = raised_fees(*first, fees, PUBLIC)
    if raised is None:
        assert first[0] * 5 > PUBLIC.fee_wei_max * 2, "only near the ceiling"
        return
    assert raised[0] * 10 >= first[0] * 11
    assert raised[1] * 10 >= first[1] * 11
    assert raised[1] <= raised[0] <= PUBLIC.fee_wei_max


def test_an_embedded_chain_that_begins_anew_takes_what_was_signed() -> None:
    """Its base fee has fallen to nothing when a transaction is signed, and is 1 gwei at first."""
    found = first_fees(ChainFees(7, 0), EMBEDDED)
    assert found is not None
    assert found[0] >= GWEI


def test_so_many_raises_multiply_the_fee() -> None:
    assert 1.25**BUMPS_MAX > 14


@given(st.integers(0, 2 * GAS_MAX))
def test_gas_has_a_margin_and_a_limit(estimate: int) -> None:
    found = gas_limit(estimate)
    assert (found is None) == (estimate > GAS_MAX)
    if found is not None:
        assert estimate <= found <= GAS_MAX


@given(st.integers(0, 50), st.frozensets(st.integers(0, 60), max_size=20))
def test_missing_nonces_are_exactly_the_holes(first: int, ours: frozenset[int]) -> None:
    found = missing_nonces(first, ours)
    if ours and max(ours) >= first:
        assert set(found) | {n for n in ours if n >= first} == set(range(first, max(ours) + 1))
    else:
        assert found == []
    assert not set(found) & ours


@given(st.data())
def test_sending_keeps_nonces_and_then_serials(data: st.DataObject) -> None:
    senders = data.draw(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=20))
    nonces = dict.fromkeys([b"a", b"b", b"c"], 0)
    waiting = []
    for serial, sender in enumerate(senders):
        waiting.append((sender, nonces[sender], serial))
        nonces[sender] += 1
    shuffled = data.draw(st.permutations(waiting))
    ordered = [shuffled[place] for place in sending_order(shuffled)]
    assert ordered == waiting, "as they were wanted"


def test_a_filler_goes_before_what_waits_for_it() -> None:
    waiting = [(b"a", 3, 10), (b"b", 0, 11), (b"a", 2, 99)]
    assert sending_order(waiting) == [2, 0, 1]
