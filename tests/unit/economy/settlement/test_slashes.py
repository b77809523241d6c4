"""What lost data costs: recomputed by anybody, conserved to the pico, in its order."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.epochs import PARAMETERS, Life

from atoll.core.money import MONTH_MS
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import content_of, with_pseudonyms
from atoll.economy.settlement.model import FIRST
from atoll.economy.settlement.slashes import (
    BOND_CUSTOMER_BPS,
    BOND_REPAIR_BPS,
    DAMAGE_MONTHS,
    LossStated,
    check_slashes,
    lost_data_slash,
    parts_of,
)

REPORTER = b"reporter".ljust(20, b".")
EVIDENCE = b"e" * 32


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), reporter=st.sampled_from([b"", REPORTER]))
def test_any_epoch_in_which_nodes_lost_data_balances(seed: int, reporter: bytes) -> None:
    life = Life(seed, nodes=6, payers=4)
    totals = FIRST
    for _ in range(2):
        inputs, _ = with_pseudonyms(msgspec.structs.replace(life.next(), slashes=[]), b"s" * 32)
        totals = compute(totals, inputs, life.tariff, PARAMETERS).totals
    inputs, _ = with_pseudonyms(msgspec.structs.replace(life.next(), slashes=[]), b"s" * 32)
    held = {one.node: one.held_pico for one in totals.nodes}
    losers = [one.node for one in inputs.nodes][:2]
    slashes = [
        lost_data_slash(node, EVIDENCE, reporter, totals, inputs, life.tariff, PARAMETERS)
        for node in losers
    ]
    inputs = msgspec.structs.replace(inputs, slashes=slashes)
    # ``compute`` raises where a pico came from nowhere.
    result = compute(totals, inputs, life.tariff, PARAMETERS)
    content = content_of(totals, inputs, life.tariff, PARAMETERS, result)
    assert check_slashes(content) == []
    for node, slash in zip(losers, slashes, strict=True):
        assert slash.amount_pico == held.get(node, 0)
        after = next(one for one in result.nodes if one.node == node)
        assert after.slashed_pico == held.get(node, 0), "all that was held, repair included"
    taken = [parts_of(content, slash) for slash in slashes]
    assert all(one[0] == sum(one[1:]) for one in taken)
    assert sum(one[1] for one in taken) <= result.slash_repair_pico
    assert sum(one[4] for one in taken) == result.slash_insurance_pico
    assert sum(one[3] for one in taken) == sum(one.amount_pico for one in result.rewards)
    rewards = {one.account: one.amount_pico for one in result.rewards}
    assert rewards.get(REPORTER, 0) <= sum(held.get(node, 0) for node in losers) // 10


def test_damages_are_five_months_of_what_customers_had_there() -> None:
    life = Life(4, nodes=6, payers=4)
    inputs, _ = with_pseudonyms(msgspec.structs.replace(life.next(), slashes=[]), b"s" * 32)
    node = max(inputs.storage, key=lambda line: line.byte_ms).node
    faster = msgspec.structs.replace(inputs, time_factor=1_000, customers=[])
    quick = lost_data_slash(node, EVIDENCE, b"", FIRST, faster, life.tariff, PARAMETERS)
    plain = lost_data_slash(
        node,
        EVIDENCE,
        b"",
        FIRST,
        msgspec.structs.replace(inputs, customers=[]),
        life.tariff,
        PARAMETERS,
    )
    assert plain.customers
    for one, other in zip(quick.customers, plain.customers, strict=True):
        # A fee is rounded down once, so a shorter time is a little less exact.
        months = DAMAGE_MONTHS * MONTH_MS // (inputs.until_ms - inputs.from_ms)
        assert 0 <= one.amount_pico - other.amount_pico <= months * len(inputs.storage)


def test_the_shares_of_a_bond_leave_room_for_the_reporter() -> None:
    assert BOND_REPAIR_BPS + BOND_CUSTOMER_BPS + 1_000 <= 10_000
    values = LossStated(b"n" * 32, b"o" * 20, EVIDENCE, 1, b"", b"").values()
    assert values[6] == values[7] == bytes(20), "nobody is the address of zeros"
