"""Self-dealing loses, whoever takes part: the inequality, and the epochs that must obey it.

A coalition stores its own data on its own nodes and sits on every seat that is paid from the take.
Its books: what it pays in, what comes back as pay, refund, discount, top-up, shares of the take.
"""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.epochs import HOUR_MS, account_of, node_id, payer_id, tariff

from atoll.core.errors import AtollError
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.model import (
    BUCKETS,
    FIRST,
    SHARES_BPS,
    TREASURY,
    CustomerTerms,
    EgressLine,
    EpochInputs,
    NodeTerms,
    ProofLine,
    StorageLine,
    TakeParameters,
)

ATTACKER, ATTACKERS_NODE = payer_id(66), node_id(66)
HONEST, HONEST_NODE = payer_id(1), node_id(1)
MONTH_MS = 30 * 24 * HOUR_MS


@st.composite
def parameters(draw: st.DrawFn) -> TakeParameters:
    """Any numbers that the setter lets pass."""
    take = draw(st.integers(500, 2_000))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=5, max_size=5)))
    shares = [high - low for low, high in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    treasury = shares[TREASURY]
    top_up = draw(st.integers(0, max(0, treasury - 1)))
    found = TakeParameters(take, tuple(shares), top_up, draw(st.integers(0, min(500, take // 2))))
    if not treasury:
        found = TakeParameters(take, SHARES_BPS, draw(st.integers(0, 1_499)), 0)
    found.check()
    return found


def books(
    numbers: TakeParameters,
    *,
    fake_bytes: int,
    fake_read: int,
    honest_bytes: int,
    price: int,
    reference: int,
    multiplier: int,
    discounts: tuple[int, int],
    proof: ProofLine,
    seats_bps: list[int],
    reserve: int,
    hold_back: int,
) -> tuple[int, int]:
    """Return what the coalition paid in and what it got out of one epoch."""
    inputs = EpochInputs(
        epoch=1,
        from_ms=0,
        until_ms=MONTH_MS,
        nodes=[
            NodeTerms(HONEST_NODE, account_of(1), "home"),
            NodeTerms(ATTACKERS_NODE, account_of(66), "home", hold_back, hold_back * 10**9),
        ],
        customers=[CustomerTerms(ATTACKER, discounts[0]), CustomerTerms(HONEST, discounts[1])],
        storage=[
            StorageLine(HONEST_NODE, HONEST, honest_bytes * MONTH_MS, reference, 0, b""),
            StorageLine(ATTACKERS_NODE, ATTACKER, fake_bytes * MONTH_MS, price, 0, b""),
        ],
        egress=[EgressLine(ATTACKERS_NODE, ATTACKER, fake_read, b"")],
        repairs=[],
        proofs=[ProofLine(HONEST_NODE, 1, 0, 1, 0, b""), proof],
        slashes=[],
        credits=[],
        reserve_pico=reserve,
    )
    result = compute(FIRST, inputs, tariff(reference, multiplier), numbers)
    without = compute(
        FIRST,
        msgspec.structs.replace(
            inputs,
            storage=inputs.storage[:1],
            egress=[],
            nodes=inputs.nodes[:1],
            proofs=inputs.proofs[:1],
        ),
        tariff(reference, multiplier),
        numbers,
    )
    customer = next(one for one in result.customers if one.payer == ATTACKER)
    node = next(one for one in result.nodes if one.node == ATTACKERS_NODE)
    got = node.released_pico + node.credited_pico + node.held_pico
    for place, _ in enumerate(BUCKETS):
        more = result.buckets_pico[place] - without.buckets_pico[place]
        if place != TREASURY:
            got += more * seats_bps[place] // 10_000
    return customer.charge_pico - customer.refund_pico, got


@settings(max_examples=300, deadline=None)
@given(
    numbers=parameters(),
    fake_bytes=st.integers(0, 10**15),
    fake_read=st.integers(0, 10**14),
    honest_bytes=st.integers(0, 10**15),
    price=st.integers(0, 10**11),
    reference=st.integers(10, 10**10),
    multiplier=st.integers(8_000, 20_000),
    data=st.data(),
    reserve=st.sampled_from((0, 10**6, 10**12, 10**18)),
    hold_back=st.sampled_from((0, 2_500, 10_000)),
)
def test_self_dealing_always_loses(
    numbers: TakeParameters,
    fake_bytes: int,
    fake_read: int,
    honest_bytes: int,
    price: int,
    reference: int,
    multiplier: int,
    data: st.DataObject,
    reserve: int,
    hold_back: int,
) -> None:
    """Also with every seat taken, with discounts, and with prices pumped as far as they go."""
    most = st.integers(0, numbers.discount_bps_max)
    everything = data.draw(st.booleans())
    seats = (
        [10_000] * 6
        if everything
        else data.draw(st.lists(st.integers(0, 10_000), min_size=6, max_size=6))
    )
    due = data.draw(st.integers(0, 24))
    samples = data.draw(st.integers(0, 768))
    proof = ProofLine(
        ATTACKERS_NODE,
        due,
        data.draw(st.integers(0, due)),
        samples,
        data.draw(st.integers(0, samples)),
        b"",
    )
    paid, got = books(
        numbers,
        fake_bytes=fake_bytes,
        fake_read=fake_read,
        honest_bytes=honest_bytes,
        price=price,
        reference=reference,
        multiplier=multiplier,
        discounts=(data.draw(most), data.draw(most)),
        proof=proof,
        seats_bps=seats,
        reserve=reserve,
        hold_back=hold_back,
    )
    # Whole picos of the take's shares may fall due in an epoch that were earned before.
    assert got <= paid + 6
    net_take = paid * (numbers.take_bps - numbers.discount_bps_max) // 10_000
    kept_bps = 10_000 - numbers.self_payable_bps - numbers.top_up_bps
    certain = net_take * kept_bps // 10_000
    if certain > 20:
        assert paid - got >= certain - 20, "at least what nobody can pay to himself is lost"


def test_the_most_that_a_full_coalition_keeps() -> None:
    """Every seat, the largest discount, all top-ups: it still loses 5 % of the net take."""
    paid, got = books(
        TakeParameters(1_200, SHARES_BPS, 1_000, 500),
        fake_bytes=10**15,
        fake_read=0,
        honest_bytes=10**18,
        price=10**12,
        reference=10**9,
        multiplier=20_000,
        discounts=(500, 0),
        proof=ProofLine(ATTACKERS_NODE, 1, 0, 1, 0, b""),
        seats_bps=[10_000] * 6,
        reserve=10**30,
        hold_back=0,
    )
    lost_bps = (paid - got) * 1_000_000 // paid
    assert lost_bps == 3_684, "0.05 x (0.12 - 0.05) / 0.95"


@pytest.mark.parametrize(
    "numbers",
    [
        TakeParameters(top_up_bps=1_500),
        TakeParameters(top_up_bps=3_500),
        TakeParameters(take_bps=499),
        TakeParameters(take_bps=2_001),
        TakeParameters(shares_bps=(2_500, 1_500, 2_000, 1_500, 2_000, 501)),
        TakeParameters(shares_bps=(3_500, 500, 2_000, 1_500, 2_000, 500)),
        TakeParameters(take_bps=900, discount_bps_max=500),
        TakeParameters(discount_bps_max=501),
        TakeParameters(reporter_bps_max=1_001),
        TakeParameters(top_up_bps=-1),
    ],
    ids=str,
)
def test_numbers_with_which_self_dealing_could_pay_are_refused(numbers: TakeParameters) -> None:
    with pytest.raises(AtollError):
        numbers.check()
