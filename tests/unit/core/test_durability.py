"""Claims about the durability model: it reproduces the design's tables, digit by digit."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.durability import (
    HOURS_PER_YEAR,
    Assumptions,
    binomial,
    compare,
    durability_of,
    nines_of,
    repair_hours_at,
    stationary,
    unavailable,
)
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40, TINY, Scheme


def scheme(k: int, n: int, repair: int) -> Scheme:
    return Scheme(k, k, k, repair, n, n)


PLAIN = [
    # k, n, r; nines at 1, 2, 5, 10 % a month, T = 1 day; at 2, 10 %, T = 7 days; 2 % + shock 0.1
    ((29, 80, 52), (45.7, 38.2, 28.5, 21.4), (19.5, 6.9), 8.7),
    ((29, 80, 35), (14.7, 12.3, 9.1, 6.8), (6.7, 2.3), 2.8),
    ((16, 24, 20), (11.3, 9.5, 7.1, 5.3), (5.4, 1.8), 2.3),
    ((10, 20, 15), (14.7, 12.6, 9.8, 7.6), (7.6, 3.2), 3.8),
    ((20, 40, 30), (23.3, 19.7, 15.0, 11.4), (10.9, 4.0), 5.1),
    ((20, 30, 25), (12.9, 10.8, 8.1, 6.0), (6.0, 1.9), 2.4),
    ((10, 30, 22), (30.1, 25.9, 20.3, 16.1), (15.3, 6.7), 8.1),
    ((3, 10, 7), (14.4, 12.6, 10.2, 8.3), (8.4, 4.3), 4.9),
    ((8, 12, 11), (9.8, 8.3, 6.3, 4.8), (5.0, 1.8), 2.3),
    ((1, 3, 2), (7.1, 6.2, 5.0, 4.0), (4.5, 2.4), 3.0),
]
URGENT = [
    # k, n, r; nines at .163, .5, 1, 3 % a month; 3 % with domain losses of 1, 2, 4 pieces a year;
    # repair traffic a month at .163, .5, 3 % in per cent of user bytes
    ((20, 40, 30), (39.3, 33.4, 29.8, 24.1), (23.5, 16.0, 7.1), (0.9, 2.7, 16)),
    ((20, 36, 28), (32.9, 28.0, 25.0, 20.2), (19.8, 13.2, 6.5), (0.9, 2.8, 17)),
    ((20, 32, 27), (29.5, 25.2, 22.4, 18.1), (17.7, 11.6, 5.3), (1.2, 3.7, 23)),
    ((20, 30, 26), (26.3, 22.4, 20.0, 16.1), (15.8, 10.1, 3.8), (1.4, 4.3, 26)),
    ((16, 24, 20), (20.4, 17.5, 15.7, 12.8), (12.5, 7.3, 3.3), (1.1, 3.5, 21)),
    ((10, 20, 15), (24.9, 21.5, 19.4, 16.0), (15.5, 9.1, 3.7), (0.9, 2.7, 16)),
    ((4, 12, 8), (23.2, 20.3, 18.5, 15.6), (14.6, 7.3, 3.4), (0.8, 2.6, 16)),
    ((4, 8, 6), (16.0, 14.0, 12.8, 10.9), (10.2, 4.3, None), (0.9, 2.8, 17)),
    ((2, 4, 3), (11.6, 10.1, 9.2, 7.8), (6.9, 3.4, None), (1.0, 3.0, 18)),
    ((29, 80, 52), (76.6, 64.5, 56.9, 45.1), (44.4, 33.6, 17.2), (0.8, 2.3, 14)),
    ((29, 80, 35), (26.0, 22.1, 19.7, 15.9), (15.6, 10.9, 4.6), (0.5, 1.6, 9.5)),
]
TENTH = pytest.approx


@pytest.mark.parametrize(("shape", "day", "week", "shock"), PLAIN, ids=lambda v: str(v)[:12])
def test_plain_repair_gives_the_nines_of_the_design(
    shape: tuple[int, int, int],
    day: tuple[float, ...],
    week: tuple[float, ...],
    shock: float,
) -> None:
    one = scheme(*shape)
    for churn, nines in zip((0.01, 0.02, 0.05, 0.10), day, strict=True):
        assert durability_of(one, Assumptions(churn, 24)).nines == TENTH(nines, abs=0.06)
    for churn, nines in zip((0.02, 0.10), week, strict=True):
        assert durability_of(one, Assumptions(churn, 7 * 24)).nines == TENTH(nines, abs=0.06)
    shaken = Assumptions(0.02, 24, shock_share=0.1)
    assert durability_of(one, shaken).nines == TENTH(shock, abs=0.06)


@pytest.mark.parametrize(("shape", "nines", "domains", "traffic"), URGENT, ids=lambda v: str(v))
def test_priority_repair_gives_the_nines_and_the_traffic_of_the_design(
    shape: tuple[int, int, int],
    nines: tuple[float, ...],
    domains: tuple[float | None, ...],
    traffic: tuple[float, ...],
) -> None:
    one = scheme(*shape)
    base = Assumptions(0.03, 24, repair_hours_min=1)
    for churn, expected in zip((0.00163, 0.005, 0.01, 0.03), nines, strict=True):
        found = durability_of(one, replace(base, churn_month=churn))
        assert found.nines == TENTH(expected, abs=0.06)
    for pieces, wanted in zip((1, 2, 4), domains, strict=True):
        found = durability_of(one, replace(base, domain_pieces=pieces))
        assert wanted is None or found.nines == TENTH(wanted, abs=0.06)
    for churn, percent in zip((0.00163, 0.005, 0.03), traffic, strict=True):
        found = durability_of(one, replace(base, churn_month=churn))
        assert 100 * found.traffic_month == TENTH(percent, rel=0.04, abs=0.055)


def test_unavailability_is_that_of_the_design() -> None:
    """2 % churn, a day's repair: 20/40 with nodes up 97 % and 90 % of the time."""
    found = durability_of(scheme(20, 40, 30), Assumptions(0.02, 24))
    assert found.unavailable(0.97) == TENTH(7e-12, rel=0.1)
    assert found.unavailable(0.90) == TENTH(4e-6, rel=0.2)


def test_one_copy_is_lost_with_its_node() -> None:
    """By hand: without redundancy a year's loss is that of one node: 1 - 0.97^(365/30)."""
    lonely = durability_of(scheme(1, 1, 1), Assumptions(0.03, 24))
    assert lonely.loss_per_year == pytest.approx(1 - 0.97 ** (365 / 30))


def test_two_copies_by_hand() -> None:
    """n = 2, k = 1, r = 1: stationary share of the weak state, times its rate, by algebra."""
    assumptions = Assumptions(0.05, 48)
    rate, heal = assumptions.loss_per_hour, 1 / 48
    weak = 2 * rate / (2 * rate + rate + heal)
    expected = -math.expm1(-weak * rate * HOURS_PER_YEAR)
    assert durability_of(scheme(1, 2, 1), assumptions).loss_per_year == pytest.approx(expected)


def test_a_year_played_out_a_thousand_times_loses_what_the_model_says() -> None:
    """Monte Carlo of the same process: 4/8 at hellish churn."""
    one, assumptions = scheme(4, 8, 6), Assumptions(0.5, 24 * 10)
    chance = random.Random(7)
    years = 1500
    lost = sum(_losses(one, assumptions, chance) for _ in range(years))
    flow = -math.log1p(-durability_of(one, assumptions).loss_per_year)
    assert lost / years == pytest.approx(flow, rel=0.15)


def _losses(one: Scheme, assumptions: Assumptions, chance: random.Random) -> int:
    hours, healthy, lost = 0.0, one.n, 0
    while True:
        fall = healthy * assumptions.loss_per_hour
        heal = 1 / assumptions.repair_hours if healthy <= one.repair else 0.0
        hours += chance.expovariate(fall + heal)
        if hours > HOURS_PER_YEAR:
            return lost
        if chance.random() < heal / (fall + heal):
            healthy = one.n
        else:
            healthy -= 1
            if healthy < one.k:
                lost, healthy = lost + 1, one.n


@given(
    st.sampled_from([TINY, RS_2_4, RS_4_8, RS_10_20, RS_20_40]),
    st.floats(0.0005, 0.4),
    st.floats(1, 500),
    st.floats(1.05, 5),
)
def test_more_churn_or_slower_repair_never_helps(
    one: Scheme, churn: float, hours: float, factor: float
) -> None:
    base = durability_of(one, Assumptions(churn, hours, repair_hours_min=min(1.0, hours)))
    slower = durability_of(one, Assumptions(churn, hours * factor, repair_hours_min=min(1, hours)))
    wilder = durability_of(
        one, Assumptions(min(0.9, churn * factor), hours, repair_hours_min=min(1.0, hours))
    )
    assert slower.loss_per_year >= base.loss_per_year * (1 - 1e-9)
    assert wilder.loss_per_year >= base.loss_per_year * (1 - 1e-9)
    assert sum(base.shares) == pytest.approx(1)


def test_a_wider_scheme_of_the_same_expansion_is_more_durable() -> None:
    ranked = compare([RS_2_4, RS_10_20, RS_4_8, RS_20_40], Assumptions(0.01, 24))
    assert [one.scheme.name for one in ranked] == ["20/40", "10/20", "4/8", "2/4"]
    assert {one.expansion for one in ranked} == {2.0}


def test_priority_is_linear_between_threshold_and_two_above_k() -> None:
    assumptions = Assumptions(0.03, 24, repair_hours_min=1)
    hours = [repair_hours_at(RS_20_40, healthy, assumptions) for healthy in (30, 26, 22, 20)]
    assert hours == [24, pytest.approx(12.5), 1, 1]


def test_nothing_is_lost_without_churn() -> None:
    still = durability_of(RS_4_8, Assumptions(0.0, 24))
    assert still.loss_per_year == 0
    assert still.nines == 300
    assert still.shares[0] == 1


def test_a_chain_solved_by_hand() -> None:
    """Two states, there at 1, back at 3; and a third that is left faster than it is met."""
    assert stationary([[0, 1], [3, 0]]) == pytest.approx([0.75, 0.25])
    assert stationary([[0, 2, 0], [0, 0, 2], [2, 0, 0]]) == pytest.approx([1 / 3] * 3)


def test_tails_of_the_binomial() -> None:
    assert sum(binomial(10, hits, 0.3) for hits in range(11)) == pytest.approx(1)
    assert unavailable(1, 3, 0.9) == pytest.approx(1e-3)
    assert nines_of(1e-11) == pytest.approx(11)
    assert nines_of(0.0) == 300


@pytest.mark.parametrize(
    "wrong",
    [
        {"churn_month": 1.0},
        {"churn_month": -0.1},
        {"repair_hours": 0.0},
        {"repair_hours": math.inf},
        {"shock_share": 1.0},
        {"domain_pieces": -1},
    ],
)
def test_assumptions_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message will do
        Assumptions(**{"churn_month": 0.01, "repair_hours": 24.0, **wrong})  # type: ignore[arg-type]
