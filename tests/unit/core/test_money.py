"""Money is whole: what is divided makes the whole again, what is written can be read back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core import money
from atoll.core.errors import AtollError, Kind

AMOUNTS = st.integers(0, 10**24)


@pytest.mark.parametrize(
    ("text", "pico"),
    [
        ("12", 12 * 10**12),
        ("12.34", 12_340_000_000_000),
        ("0,000001 EUR", 10**6),
        ("0.000000000001", 1),
        (" 3.5 € ", 3_500_000_000_000),
        ("-2.5", -2_500_000_000_000),
    ],
)
def test_euros_are_read(text: str, pico: int) -> None:
    assert money.parse_euro(text) == pico


@pytest.mark.parametrize("text", ["", "1,234.50", "1.0000000000001", "1e3", "EUR 3", "٣", "1 2"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AtollError) as caught:
        money.parse_euro(text)
    assert caught.value.kind is Kind.CONFIG


@settings(deadline=None)
@given(st.integers(-(10**29), 10**29))
def test_what_is_shown_is_read_back(pico: int) -> None:
    assert money.parse_euro(money.show_euro(pico)) == pico


def test_amounts_are_shown_with_as_few_decimals_as_they_take() -> None:
    assert money.show_euro(10**12) == "1.00 EUR"
    assert money.show_euro(1_500) == "0.0000000015 EUR"
    assert money.show_euro(-5, 0) == "-0.000000000005 EUR"
    assert money.show_euro(7 * 10**12, 0) == "7 EUR"


@settings(deadline=None)
@given(st.lists(AMOUNTS, max_size=30))
def test_floors_of_a_cumulative_figure_lose_nothing(additions: list[int]) -> None:
    total = paid = 0
    for addition in additions:
        before, total = money.micro_of(total), total + addition
        paid += money.micro_of(total) - before
    assert paid == total // money.PICO_PER_MICRO


@settings(deadline=None)
@given(AMOUNTS, st.lists(st.integers(0, 10**12), min_size=1, max_size=20).filter(any))
def test_parts_make_the_whole_and_none_is_off_by_more_than_one(
    amount: int, weights: list[int]
) -> None:
    parts = money.split(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        exact, rest = divmod(amount * weight, sum(weights))
        assert part - exact in ((0, 1) if rest else (0,))


def test_left_over_picos_go_to_those_who_lost_most() -> None:
    assert money.split(5, [1, 1, 1]) == [2, 2, 1]
    assert money.split(10, [6, 3, 1]) == [6, 3, 1]
    assert money.split(1, [1, 5]) == [0, 1]
    assert money.split(0, [0, 0]) == [0, 0]


def test_nothing_is_divided_among_nobody() -> None:
    with pytest.raises(ValueError, match="nobody"):
        money.split(1, [0])
    with pytest.raises(ValueError, match="negative"):
        money.split(-1, [1])


SHARES = (2_500, 1_500, 2_000, 1_500, 2_000, 500)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), max_size=40))
def test_shares_over_time_are_those_of_the_sum(amounts: list[int]) -> None:
    shares = money.Shares(SHARES, (0,) * 6)
    got = [0] * 6
    for amount in amounts:
        parts, shares = shares.take(amount)
        got = [had + part for had, part in zip(got, parts, strict=True)]
    assert got == [sum(amounts) * share // money.BPS for share in SHARES]
    assert sum(got) + shares.remainder_pico == sum(amounts)
    assert shares.remainder_pico < 6


def test_shares_that_are_no_whole_are_refused() -> None:
    for wrong, carried in (((1, 2), (0, 0)), ((5_000, 5_000), (1, 0)), ((10_000,), (0, 0))):
        with pytest.raises(ValueError, match=r"share|carried"):
            money.Shares(wrong, carried)
