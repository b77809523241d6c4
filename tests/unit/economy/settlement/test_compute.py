"""One epoch: who pays, who is paid, and that both are the same to the pico."""

from math import ceil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.epochs import (
    EUR,
    HOUR_MS,
    PARAMETERS,
    Life,
    Naive,
    account_of,
    agree,
    node_id,
    payer_id,
    tariff,
)

from atoll.core.errors import AtollError, Kind
from atoll.economy.settlement.compute import balance, compute, leaves
from atoll.economy.settlement.lines import line_amounts
from atoll.economy.settlement.model import (
    FIRST,
    Credit,
    CustomerTerms,
    Damage,
    EgressLine,
    EpochInputs,
    EpochResult,
    EpochTotals,
    NodeTerms,
    NodeTotal,
    ProofLine,
    RepairLine,
    Slash,
    StorageLine,
    TakeParameters,
)
from atoll.economy.settlement.sumtree import build
from atoll.economy.tariff.rules import fee_price

PROVIDER, WORKER = node_id(0), node_id(2)
ACCOUNT, WORKER_ACCOUNT = account_of(0), account_of(2)
CUSTOMER, OTHER = payer_id(0), payer_id(1)
MONTH_MS = 30 * 24 * HOUR_MS
PRICE = 1_300 * 10**6
GOOD = ProofLine(PROVIDER, 24, 0, 768, 0, b"p")


def inputs(**given: object) -> EpochInputs:
    """A terabyte for a month, all proven."""
    base = EpochInputs(
        epoch=1,
        from_ms=0,
        until_ms=MONTH_MS,
        nodes=[NodeTerms(PROVIDER, ACCOUNT, "home")],
        customers=[],
        storage=[StorageLine(PROVIDER, CUSTOMER, 10**12 * MONTH_MS, PRICE, 0, b"s")],
        egress=[],
        repairs=[],
        proofs=[GOOD],
        slashes=[],
        credits=[],
    )
    return msgspec.structs.replace(base, **given)


def run(
    one: EpochInputs, previous: EpochTotals = FIRST, parameters: TakeParameters = PARAMETERS
) -> EpochResult:
    return compute(previous, one, tariff(), parameters)


def holding(amount: int, insurance: int = 0) -> EpochTotals:
    """Where an epoch begins with something held of the provider."""
    nodes = [NodeTotal(PROVIDER, ACCOUNT, amount)] if amount else []
    return EpochTotals(epoch=0, accounts=[], nodes=nodes, insurance_pico=insurance)


def test_a_provider_gets_what_it_asked_and_the_customer_pays_the_take_on_top() -> None:
    result = run(inputs())
    node, customer = result.nodes[0], result.customers[0]
    assert node.released_pico == 1_300_000_000_640
    assert customer.charge_pico == ceil(1_300 * 10**6 / 0.88) * 1_000
    assert customer.refund_pico == 0
    assert customer.charge_pico == node.earned_pico + result.take_pico
    assert result.take_pico * 10_000 // customer.charge_pico == 1_200
    assert sum(result.buckets_pico) + sum(result.totals.carried) // 10_000 == result.take_pico
    assert leaves(result.totals)[0].released_micro == 1_300_000


def test_the_unproven_share_returns_to_the_customer_in_the_same_epoch() -> None:
    whole = run(inputs())
    half = run(inputs(proofs=[ProofLine(PROVIDER, 24, 12, 384, 0, b"p")]))
    third = run(inputs(proofs=[ProofLine(PROVIDER, 24, 0, 768, 256, b"p")]))
    assert half.customers[0].refund_pico == whole.customers[0].charge_pico // 2
    assert abs(2 * half.nodes[0].earned_pico - whole.nodes[0].earned_pico) <= 2
    assert abs(3 * third.nodes[0].earned_pico - 2 * whole.nodes[0].earned_pico) <= 3
    for nothing in ([], [ProofLine(PROVIDER, 24, 24, 0, 0, b"")]):
        none = run(inputs(proofs=nothing))
        assert none.customers[0].refund_pico == none.customers[0].charge_pico > 0
        assert none.nodes[0].released_pico == none.take_pico == 0


def test_a_demonstration_counts_a_second_as_a_month_and_nothing_else_as_more() -> None:
    """The fee is that of bytes that were really there so much longer, to the pico."""
    month_s = MONTH_MS // 1_000
    second = StorageLine(PROVIDER, CUSTOMER, 10**12 * 1_000, PRICE, 0, b"s")
    read = EgressLine(PROVIDER, CUSTOMER, 10**9, b"r")
    fast = run(inputs(storage=[second], egress=[read], until_ms=1_000, time_factor=month_s))
    slow = run(inputs(egress=[read]))
    assert (fast.nodes, fast.customers, fast.totals) == (slow.nodes, slow.customers, slow.totals)
    odd = StorageLine(PROVIDER, CUSTOMER, 70_001, PRICE, 0, b"s")
    assert run(inputs(storage=[odd])).nodes[0].fee_pico == 0
    price = fee_price(PRICE, PARAMETERS.take_bps)
    exact = 70_001 * 2_592_001 * price // (10**9 * MONTH_MS)
    assert run(inputs(storage=[odd], time_factor=2_592_001)).nodes[0].fee_pico == exact > 0


@pytest.mark.parametrize("factor", [0, -1, 10**9 + 1])
def test_time_cannot_stand_still_or_run_away(factor: int) -> None:
    with pytest.raises(AtollError, match="time factor"):
        run(inputs(time_factor=factor))


def test_where_no_proof_was_due_nothing_is_cut() -> None:
    assert run(inputs(proofs=[ProofLine(PROVIDER, 0, 0, 0, 0, b"")])).customers[0].refund_pico == 0


def test_a_maximum_of_the_customer_binds_the_provider() -> None:
    dear = StorageLine(PROVIDER, CUSTOMER, 10**12 * MONTH_MS, 2 * PRICE, PRICE, b"s")
    result = run(inputs(storage=[dear]))
    assert result.customers[0].charge_pico == PRICE * 1_000
    assert result.nodes[0].earned_pico == PRICE * 1_000 * 88 // 100


def test_nobody_is_paid_more_than_twice_the_reference() -> None:
    greedy = StorageLine(PROVIDER, CUSTOMER, 10**12 * MONTH_MS, 9 * PRICE, 0, b"s")
    result = run(inputs(storage=[greedy]))
    assert result.customers[0].charge_pico == fee_price(2 * PRICE, 1_200) * 1_000


def test_a_discount_comes_out_of_the_take_and_not_out_of_pay() -> None:
    plain = run(inputs())
    cheap = run(inputs(customers=[CustomerTerms(CUSTOMER, 500)]))
    assert cheap.nodes[0].earned_pico == plain.nodes[0].earned_pico
    off = cheap.customers[0].discount_pico
    assert off == ceil(plain.customers[0].charge_pico * 5 / 100)
    assert cheap.take_pico == plain.take_pico - off


@settings(deadline=None)
@given(st.integers(0, 2 * 10**12), st.sampled_from((0, 1, 250, 500)), st.integers(1, 40))
def test_a_limit_is_never_exceeded_and_hardly_missed(limit: int, discount: int, cuts: int) -> None:
    lines = [
        StorageLine(PROVIDER, CUSTOMER, 10**12 * MONTH_MS // cuts, PRICE, 0, b"s")
        for _ in range(cuts)
    ]
    result = run(inputs(storage=lines, customers=[CustomerTerms(CUSTOMER, discount, limit)]))
    customer = result.customers[0]
    assert customer.charge_pico <= limit
    if customer.unfunded_pico:
        assert customer.charge_pico >= limit - 2 * cuts


def test_pay_is_held_back_up_to_the_ceiling_and_what_is_beyond_returns() -> None:
    terms = NodeTerms(PROVIDER, ACCOUNT, "home", 7_500, EUR)
    first = run(inputs(nodes=[terms]))
    assert first.nodes[0].withheld_pico == first.nodes[0].earned_pico * 75 // 100
    assert leaves(first.totals)[0].held_micro == first.nodes[0].held_pico // 10**6
    second = run(inputs(epoch=2, nodes=[terms]), first.totals)
    assert second.nodes[0].held_pico == EUR
    lower = NodeTerms(PROVIDER, ACCOUNT, "home", 7_500, EUR // 4)
    third = run(inputs(epoch=3, nodes=[lower]), second.totals)
    assert third.nodes[0].returned_pico == EUR * 3 // 4
    assert third.nodes[0].held_pico == EUR // 4
    leaving = NodeTerms(PROVIDER, ACCOUNT, "home", 0, 0)
    last = run(inputs(epoch=4, nodes=[leaving], storage=[]), third.totals)
    assert last.nodes[0].released_pico == EUR // 4
    assert last.totals.nodes == []


def test_earnings_are_spent_on_own_storage_at_par() -> None:
    plain = run(inputs()).nodes[0]
    barter = run(inputs(nodes=[NodeTerms(PROVIDER, ACCOUNT, "home", credit_bps=4_000)])).nodes[0]
    assert barter.credited_pico == plain.released_pico * 4_000 // 10_000
    assert barter.credited_pico + barter.released_pico == plain.released_pico


def test_repair_is_paid_by_the_failed_node_then_by_the_insurance_and_else_owed() -> None:
    work = [RepairLine(WORKER, PROVIDER, 10**12, b"r")]
    both = [
        NodeTerms(PROVIDER, ACCOUNT, "home", ceiling_pico=10 * EUR),
        NodeTerms(WORKER, WORKER_ACCOUNT, "home"),
    ]
    quiet = inputs(nodes=both, storage=[], repairs=work)
    by_node = run(quiet, holding(5 * EUR))
    assert by_node.nodes[1].released_pico == by_node.nodes[0].slashed_pico == 4 * EUR
    assert by_node.insurance_out_pico == 0
    shared = run(quiet, holding(EUR, 10 * EUR))
    assert shared.nodes[0].slashed_pico == EUR
    assert shared.insurance_out_pico == 3 * EUR
    short = run(quiet, holding(EUR, EUR))
    assert short.nodes[1].released_pico == 2 * EUR
    assert short.totals.owed[0].amount_pico == 2 * EUR
    paying = inputs(epoch=2, nodes=both, proofs=[GOOD])
    later = run(paying, short.totals)
    assert later.nodes[1].repair_pico == later.buckets_pico[0] > 0
    assert later.totals.owed[0].amount_pico == 2 * EUR - later.buckets_pico[0]


@pytest.mark.parametrize(
    ("held", "repair", "customers", "reporter", "insurance"),
    [
        (10 * EUR, 2 * EUR, (2 * EUR, EUR), EUR, 4 * EUR),
        (4 * EUR, 2 * EUR, (EUR * 4 // 3, EUR * 2 // 3), 0, 0),
        (EUR, EUR, (0, 0), 0, 0),
        (0, 0, (0, 0), 0, 0),
    ],
)
def test_a_slash_serves_repair_customers_reporter_insurance_in_this_order(
    held: int, repair: int, customers: tuple[int, int], reporter: int, insurance: int
) -> None:
    slash = Slash(
        PROVIDER,
        10 * EUR,
        2 * EUR,
        [Damage(CUSTOMER, 2 * EUR), Damage(OTHER, EUR)],
        WORKER_ACCOUNT,
        1_000,
        b"x",
    )
    terms = [NodeTerms(PROVIDER, ACCOUNT, "home", ceiling_pico=100 * EUR)]
    result = run(inputs(nodes=terms, storage=[], slashes=[slash]), holding(held))
    assert result.slash_repair_pico == repair
    got = {one.payer: one.credit_pico for one in result.customers}
    assert abs(got[CUSTOMER] - customers[0]) <= 1
    assert abs(got[OTHER] - customers[1]) <= 1
    assert sum(one.amount_pico for one in result.rewards) == reporter
    assert result.slash_insurance_pico == insurance
    assert result.nodes[0].held_pico == 0


def test_a_reporter_never_gets_more_than_a_tenth() -> None:
    slash = Slash(PROVIDER, EUR, 0, [], WORKER_ACCOUNT, 1_001, b"x")
    with pytest.raises(AtollError, match="reporter"):
        run(inputs(slashes=[slash]), holding(EUR))


def test_insurance_pays_what_it_has() -> None:
    wanted = [Credit(CUSTOMER, EUR, b"c"), Credit(OTHER, EUR, b"c")]
    result = run(inputs(storage=[], credits=wanted), holding(0, EUR * 3 // 2))
    assert [one.credit_pico for one in result.customers] == [EUR, EUR // 2]
    assert result.totals.insurance_pico == 0


def test_a_top_up_is_bound_by_the_take_of_the_same_epoch_and_by_the_reserve() -> None:
    free = run(inputs(reserve_pico=10**15))
    assert free.top_up_pico == free.take_pico // 10
    assert free.nodes[0].released_pico == free.nodes[0].earned_pico + free.top_up_pico
    assert run(inputs(reserve_pico=5)).top_up_pico == 5
    assert run(inputs(reserve_pico=10**15, storage=[])).top_up_pico == 0


def test_tiny_amounts_come_out_non_zero_and_exact() -> None:
    """A megabyte for a minute."""
    line = StorageLine(PROVIDER, CUSTOMER, 10**6 * 60_000, PRICE, 0, b"s")
    result = run(inputs(storage=[line]))
    assert result.customers[0].charge_pico == 34
    assert (result.nodes[0].earned_pico, result.take_pico) == (29, 5)


BAD: dict[str, dict[str, object]] = {
    "epoch twice": {"epoch": 2},
    "no length": {"until_ms": 0},
    "node twice": {"nodes": [NodeTerms(PROVIDER, ACCOUNT, "home")] * 2},
    "unknown node": {"storage": [StorageLine(WORKER, CUSTOMER, 1, 1, 0, b"")]},
    "negative bytes": {"storage": [StorageLine(PROVIDER, CUSTOMER, -1, 1, 0, b"")]},
    "negative traffic": {"egress": [EgressLine(PROVIDER, CUSTOMER, -1, b"")]},
    "a payer's long name": {"egress": [EgressLine(PROVIDER, b"x" * 17, 1, b"")]},
    "proof twice": {"proofs": [GOOD, GOOD]},
    "more failed than samples": {"proofs": [ProofLine(PROVIDER, 1, 0, 1, 2, b"")]},
    "more missed than due": {"proofs": [ProofLine(PROVIDER, 1, 2, 1, 0, b"")]},
    "discount too large": {"customers": [CustomerTerms(CUSTOMER, 501)]},
    "account of zeros": {"nodes": [NodeTerms(PROVIDER, bytes(20), "home")]},
    "class not sold": {"nodes": [NodeTerms(PROVIDER, ACCOUNT, "moon")]},
    "all the money there is": {"storage": [StorageLine(PROVIDER, CUSTOMER, 10**50, PRICE, 0, b"")]},
}


@pytest.mark.parametrize("name", BAD)
def test_inputs_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(AtollError) as caught:
        run(inputs(**BAD[name]))
    assert caught.value.kind is Kind.BAD_REQUEST


def test_a_result_that_does_not_balance_is_not_published() -> None:
    result = run(inputs())
    for wrong in (
        {"take_pico": result.take_pico + 1},
        {"top_up_pico": 1},
        {"nodes": [msgspec.structs.replace(result.nodes[0], released_pico=0)]},
        {"nodes": [msgspec.structs.replace(result.nodes[0], held_pico=-1)]},
    ):
        with pytest.raises(AtollError) as caught:
            balance(FIRST, msgspec.structs.replace(result, **wrong))
        assert caught.value.kind is Kind.INTERNAL


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_random_life_is_what_a_naive_computation_says(seed: int) -> None:
    life = Life(seed, nodes=12, payers=7)
    totals, naive = FIRST, Naive()
    for _ in range(6):
        one = life.next()
        before = totals
        result = compute(before, one, life.tariff, PARAMETERS)
        naive.epoch(one, life.tariff, PARAMETERS)
        totals = result.totals
        agree(naive, totals)
        assert {
            c.payer: (c.charge_pico, c.refund_pico, c.credit_pico) for c in result.customers
        } == {
            payer: (
                naive.charge.get(payer, 0),
                naive.refund.get(payer, 0),
                naive.credit.get(payer, 0),
            )
            for payer in naive.charge.keys() | naive.credit.keys()
        }
        old = {one.account: one.released_pico for one in before.accounts}
        assert all(one.released_pico >= old.get(one.account, 0) for one in totals.accounts)


def test_fifty_epochs_of_a_hundred_nodes_are_conserved_and_paid_to_the_unit() -> None:
    """What all accounts were paid on chain is what came in, but for floors of one unit each."""
    life = Life(4, nodes=100, payers=30)
    totals = FIRST
    flows = 0
    for _ in range(50):
        result = compute(totals, life.next(), life.tariff, PARAMETERS)
        flows += sum(c.charge_pico - c.refund_pico - c.credit_pico for c in result.customers)
        flows += result.top_up_pico - sum(node.credited_pico for node in result.nodes)
        totals = result.totals
    released = sum(one.released_pico for one in totals.accounts)
    held = sum(one.held_pico for one in totals.nodes)
    kept = sum(totals.buckets_pico[1:]) + totals.insurance_pico + sum(totals.carried) // 10_000
    assert released + held + kept == flows
    assert released > 10**12
    assert held > 10**10
    tree = build(leaves(totals))
    assert 0 <= released // 10**6 - tree.released_micro < len(totals.accounts)
    assert 0 <= held // 10**6 - tree.held_micro < len(totals.accounts)


def test_lines_add_up_to_the_epoch() -> None:
    life = Life(9, nodes=20, payers=5)
    one = life.next()
    result = compute(FIRST, one, life.tariff, PARAMETERS)
    lines = list(line_amounts(one, life.tariff, PARAMETERS))
    assert len(lines) == len(one.storage) + len(one.egress)
    for line in lines:
        assert line.charge_pico == line.refund_pico + line.earned_pico + line.take_pico
        assert min(line.charge_pico, line.refund_pico, line.earned_pico, line.take_pico) >= 0
    assert sum(line.take_pico for line in lines) == result.take_pico
    assert sum(line.charge_pico for line in lines) == sum(c.charge_pico for c in result.customers)
