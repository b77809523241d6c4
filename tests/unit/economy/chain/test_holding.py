"""What holders are told that they can lose is never less than what a verdict takes."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.economy.chain.holding import risk_of

AMOUNTS = st.integers(0, 10**27)
UNBONDING_S = 14 * 86_400


@given(own=AMOUNTS, delegated=AMOUNTS, part=st.integers(0, 10_000))
def test_the_figures_are_those_of_the_bond(own: int, delegated: int, part: int) -> None:
    taken = (own + delegated) // 2
    from_own = min(taken, own)
    mine = own * part // 10_000
    risk = risk_of(own, delegated, mine, is_own=True, unbonding_s=UNBONDING_S)
    assert risk.at_once_wei == (from_own * mine // own if own else 0)
    assert risk.at_once_wei <= risk.most_wei == mine
    mine = delegated * part // 10_000
    risk = risk_of(own, delegated, mine, is_own=False, unbonding_s=UNBONDING_S)
    lost = taken - from_own
    assert risk.at_once_wei * delegated >= lost * mine, "rounded against whoever is told"
    assert risk.at_once_wei <= risk.most_wei == mine
    assert (risk.liable_s_min, risk.liable_s_max) == (UNBONDING_S, UNBONDING_S * 3 // 2)


def test_delegations_up_to_the_own_tranche_are_not_touched_by_one_verdict() -> None:
    assert risk_of(100, 100, 100, is_own=False, unbonding_s=2).at_once_wei == 0
    assert risk_of(100, 102, 102, is_own=False, unbonding_s=2).at_once_wei == 1
    assert risk_of(0, 100, 10, is_own=False, unbonding_s=2).at_once_wei == 5
    assert risk_of(100, 0, 100, is_own=True, unbonding_s=2).at_once_wei == 50
