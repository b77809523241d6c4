"""Prices: nobody swings them, nobody is paid beyond them, a preview is what placement does."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.epochs import tariff

from atoll.core.errors import AtollError
from atoll.core.money import GB_BYTES, PICO_PER_EUR
from atoll.economy.tariff import rules
from atoll.economy.tariff.model import DAY_MS, ClassTariff, HoldBack, Offer, Posted, Rival, Tariff

TB = 10**12
PRICE = 1_300 * 10**6
HOME = tariff().of("home")
PRICES = st.integers(1, 10**12)


@dataclass(frozen=True)
class Case:
    used_bps: int
    multiplier_bps: int


def test_the_reference_is_the_median_by_proven_free_bytes() -> None:
    posted = [Posted(100, TB), Posted(200, 3 * TB), Posted(900, TB)]
    assert rules.weighted_median(posted) == 200
    assert rules.weighted_median([Posted(100, 0), Posted(900, 1)]) == 900
    assert rules.weighted_median([Posted(1, 5), Posted(2, 5)]) == 1
    assert rules.weighted_median([]) is None


@settings(deadline=None)
@given(st.lists(st.builds(Posted, PRICES, st.integers(0, 10**15)), max_size=30))
def test_half_of_the_weight_is_at_most_and_at_least_the_median(posted: list[Posted]) -> None:
    median = rules.weighted_median(posted)
    weight = sum(one.proven_free_bytes for one in posted)
    if median is None:
        assert weight == 0
        return
    assert 2 * sum(p.proven_free_bytes for p in posted if p.price_pico <= median) >= weight
    assert 2 * sum(p.proven_free_bytes for p in posted if p.price_pico < median) < weight


@settings(deadline=None)
@given(PRICES, PRICES, st.integers(-10, 30 * DAY_MS))
def test_the_reference_moves_by_two_percent_a_day_at_most(
    before: int, median: int, elapsed_ms: int
) -> None:
    after = rules.reference_price(before, [Posted(median, 1)], elapsed_ms)
    assert abs(after - before) * 50 <= before
    assert min(before, median) <= after <= max(before, median)
    if elapsed_ms < DAY_MS // 2:
        assert abs(after - before) * 100 <= before


def test_in_the_end_the_reference_is_the_median() -> None:
    price = 1_000_000
    for _ in range(40):
        price = rules.reference_price(price, [Posted(2_000_000, 1)], DAY_MS)
    assert price == 2_000_000
    assert rules.reference_price(price, [], DAY_MS) == price


@pytest.mark.parametrize(
    "case",
    [
        Case(0, 8_000), Case(6_000, 8_000), Case(6_700, 9_000), Case(7_000, 10_000),
        Case(8_500, 14_999), Case(10_000, 19_999),
    ],
    ids=str,
)  # fmt: skip
def test_the_multiplier_follows_the_use_of_the_class(case: Case) -> None:
    assert rules.multiplier_bps(case.used_bps, 10_000) == case.multiplier_bps


def test_the_multiplier_stays_in_its_bounds() -> None:
    assert rules.multiplier_bps(5, 0) == 10_000
    assert rules.multiplier_bps(500, 100) <= 20_000
    assert rules.multiplier_bps(100, 100, slope_bps=10**6) == 20_000


@settings(deadline=None)
@given(PRICES, st.integers(500, 2_000), st.integers(0, 10**16))
def test_what_is_left_of_a_fee_after_the_take_is_the_price_asked(
    price: int, take_bps: int, byte_count: int
) -> None:
    fee = rules.fee_price(price, take_bps)
    assert fee * (10_000 - take_bps) >= price * 10_000
    assert (fee - 1) * (10_000 - take_bps) < price * 10_000


@settings(deadline=None)
@given(PRICES)
def test_a_posted_price_stays_in_its_class_and_pay_under_its_ceiling(price: int) -> None:
    posted = rules.posted_price(price, HOME)
    assert HOME.price_min_pico <= posted <= HOME.price_max_pico
    assert rules.payout_price(price, HOME) <= 2 * HOME.reference_pico
    assert rules.fee_price(rules.payout_price(price, HOME), 1_200) <= rules.class_price_max(
        HOME, 1_200
    )


def test_no_price_posts_the_reference() -> None:
    assert rules.posted_price(0, HOME) == HOME.reference_pico
    assert rules.class_price(HOME, 1_200) == rules.fee_price(HOME.reference_pico, 1_200)
    assert rules.customer_price(rules.class_price(HOME, 1_200), 20, 40) == 2 * rules.class_price(
        HOME, 1_200
    )


def test_the_example_of_the_design() -> None:
    """1.30 EUR a TB-month asked, 20/40: 2.95 EUR to the customer."""
    price = rules.customer_price(rules.class_price(HOME, 1_200), 20, 40)
    assert price * 1_000 // (PICO_PER_EUR // 100) == 295


@settings(deadline=None)
@given(st.integers(0, 10_000), PRICES, PRICES)
def test_weight_falls_with_the_price_and_rises_with_the_square_of_the_score(
    score: int, price: int, reference: int
) -> None:
    weight = rules.placement_weight(score, price, reference)
    assert 0 <= weight <= 2 * 10_000**2 + 10_000**2 // max(1, reference // 2)
    assert weight >= rules.placement_weight(score, price + 1, reference)
    assert rules.placement_weight(score // 2, price, reference) <= weight // 4 + score
    low, high = (
        rules.placement_weight(10_000, 1, 10**6),
        rules.placement_weight(10_000, 10**9, 10**6),
    )
    assert low == 4 * high, "a price counts as half to twice the reference"


def test_a_preview_says_share_and_income() -> None:
    rivals = [Rival(PRICE, 10_000)] * 3
    same = rules.preview(Offer(PRICE, 10_000, 4 * TB, TB), HOME, rivals, 8 * TB, 1_200)
    assert same.share_bps == 2_500
    assert same.expected_bytes == 2 * TB
    assert same.income_now_pico == 1_300 * 10**9
    assert same.income_expected_pico == 2 * same.income_now_pico
    assert same.income_full_pico == 4 * same.income_now_pico
    assert same.customer_pico == rules.class_price(HOME, 1_200)
    half = rules.preview(Offer(PRICE // 2, 10_000, 4 * TB, TB), HOME, rivals, 8 * TB, 1_200)
    assert half.share_bps == 4_000
    assert half.income_expected_pico == 16 * TB // 5 * (PRICE // 2) // GB_BYTES
    assert not half.ceiling
    dear = rules.preview(Offer(9 * PRICE, 10_000, 4 * TB, TB), HOME, rivals, 8 * TB, 1_200)
    assert dear.ceiling
    assert dear.payout_pico == 2 * PRICE
    alone = rules.preview(Offer(PRICE, 0, TB, 0), HOME, [], 0, 1_200)
    assert (alone.share_bps, alone.income_expected_pico) == (0, 0)


def test_a_bond_covers_two_months_of_pay_or_the_repair() -> None:
    assert rules.required_bond(PICO_PER_EUR, TB) == 2 * PICO_PER_EUR
    assert rules.required_bond(PICO_PER_EUR, 3 * TB) == 8 * PICO_PER_EUR
    assert rules.capacity_ceiling(0, 0) == TB
    assert rules.capacity_ceiling(4 * PICO_PER_EUR, 4 * PICO_PER_EUR) == 3 * TB


def test_pay_is_held_by_quarters_or_down_the_ladder_and_not_at_all_with_a_bond() -> None:
    month = 30 * DAY_MS
    assert rules.hold_back(age_ms=0, bond_pico=0, required_pico=8) == HoldBack(2_500, 8)
    assert rules.hold_back(age_ms=0, bond_pico=8, required_pico=8) == HoldBack(0, 0)
    assert rules.hold_back(age_ms=0, bond_pico=3, required_pico=8).ceiling_pico == 5
    ladder = [
        rules.hold_back(age_ms=age * month, bond_pico=0, required_pico=8, ladder=True).bps
        for age in range(11)
    ]
    assert ladder == [7_500] * 3 + [5_000] * 3 + [2_500] * 3 + [0] * 2
    assert sum(ladder) * 10 == 45 * 10_000, "four and a half months of pay"
    assert rules.hold_back(age_ms=0, bond_pico=0, required_pico=8, exiting=True) == HoldBack(0, 0)


def test_earn_in_lets_capacity_grow_with_what_is_held() -> None:
    """A node that starts with nothing holds four terabytes within two years."""
    held, months = 0, 0
    while rules.capacity_ceiling(0, held) < 4 * TB:
        pay = rules.month_pay(rules.capacity_ceiling(0, held), PRICE)
        terms = rules.hold_back(
            age_ms=0, bond_pico=0, required_pico=rules.required_bond(pay, 4 * TB)
        )
        held += min(pay * terms.bps // 10_000, terms.ceiling_pico - held)
        months += 1
        assert months < 24
    assert months > 6


@pytest.mark.parametrize(
    "wrong",
    [
        Tariff([], 0),
        Tariff([HOME, HOME], 0),
        Tariff([HOME], -1),
        Tariff([ClassTariff("home", 0, 2, 1, 10_000, 0)], 0),
        Tariff([ClassTariff("home", 2, 3, 1, 10_000, 0)], 0),
        Tariff([ClassTariff("home", 1, 3, 1, 20_001, 0)], 0),
        Tariff([ClassTariff("home", 1, 3, 1, 10_000, -1)], 0),
    ],
    ids=range(7),
)
def test_tariffs_that_cannot_be_are_refused(wrong: Tariff) -> None:
    with pytest.raises(AtollError):
        wrong.check()
    with pytest.raises(AtollError):
        tariff().of("moon")
