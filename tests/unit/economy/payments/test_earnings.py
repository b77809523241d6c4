"""A provider's statement: costs in and out make the same sum, numbers are exact."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.earnings import EURC, MOVEMENTS

from atoll.core.errors import AtollError
from atoll.core.money import PICO_PER_EUR, parse_euro
from atoll.economy.payments import earnings
from atoll.economy.payments.earnings import Asset, EarningsMovement


def moved(units: int, value_pico: int, time_ms: int = 0) -> EarningsMovement:
    return EarningsMovement(time_ms, "epoch", EURC, units, value_pico, "e")


def test_the_oldest_leave_first_at_their_own_cost() -> None:
    rows = earnings.rows_of([moved(10, 100), moved(10, 300), moved(-15, 600), moved(-5, 1)])
    assert [one.cost_pico for one in rows] == [100, 300, 250, 150]
    assert [one.gain_pico for one in rows] == [0, 0, 350, -149]
    assert (rows[-1].units_after, rows[-1].cost_after_pico) == (0, 0)


def brute(movements: list[EarningsMovement]) -> list[int]:
    """Costs of what leaves, by lots of (units, cost) without any shortcut."""
    lots: list[list[int]] = []
    costs = []
    for one in movements:
        if one.units > 0:
            lots.append([one.units, one.value_pico])
            continue
        left, cost = -one.units, 0
        for lot in lots:
            part = min(left, lot[0])
            share = lot[1] if part == lot[0] else lot[1] * part // lot[0]
            lot[0], lot[1], left, cost = lot[0] - part, lot[1] - share, left - part, cost + share
        lots = [lot for lot in lots if lot[0]]
        costs.append(cost)
    return costs


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 10**14)), max_size=40))
def test_nothing_of_a_cost_is_lost(drawn: list[tuple[int, int]]) -> None:
    movements, there = [], 0
    for units, value_pico in drawn:
        if units and there + units >= 0:
            movements.append(moved(units, value_pico))
            there += units
    if there:
        movements.append(moved(-there, 7))
    rows = earnings.rows_of(movements)
    cost_in = sum(one.cost_pico for one in rows if one.movement.units > 0)
    cost_out = sum(one.cost_pico for one in rows if one.movement.units < 0)
    assert cost_in == cost_out == sum(one.value_pico for one in movements if one.units > 0)
    assert [one.cost_pico for one in rows if one.movement.units < 0] == brute(movements)


def test_the_file_reads_back_exactly() -> None:
    text = earnings.csv_of(MOVEMENTS)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == earnings.COLUMNS
    assert text.count("\r\n") == len(MOVEMENTS) + 1
    found = [parse_euro(one["value_eur"]) for one in rows]
    assert found == [one.value_pico if one.units > 0 else -one.value_pico for one in MOVEMENTS]
    gains = sum(parse_euro(one["gain_eur"]) for one in rows if one["gain_eur"])
    assert gains == sum(one.gain_pico for one in earnings.rows_of(MOVEMENTS))


def test_no_cell_is_a_formula() -> None:
    hostile = EarningsMovement(0, "=1+1", EURC, 1, 1, "@SUM(A1)\n")
    row = next(csv.DictReader(io.StringIO(earnings.csv_of([hostile]))))
    assert (row["kind"], row["evidence"]) == ("'=1+1", "'@SUM(A1) ")


@given(st.integers(-(10**30), 10**30), st.integers(0, 18))
def test_units_are_written_exactly(units: int, decimals: int) -> None:
    shown = earnings.units_text(units, Asset("A", decimals))
    whole, _, fraction = shown.lstrip("-").partition(".")
    assert int(whole + fraction.ljust(decimals, "0")) == abs(units)
    assert shown.startswith("-") == (units < 0)


def test_what_cannot_be_is_refused() -> None:
    for wrong in (
        [moved(-1, 1)],
        [moved(0, 1)],
        [moved(1, -1)],
        [moved(1, 1, 5), moved(1, 1, 4)],
        [moved(10**37, 1)],
    ):
        with pytest.raises(AtollError):
            earnings.rows_of(wrong)


def test_a_rate_gives_a_value() -> None:
    assert earnings.value_of(1_500_000, EURC, PICO_PER_EUR) == 3 * PICO_PER_EUR // 2
    assert earnings.value_of(1, Asset("ATOLL", 18), 37 * PICO_PER_EUR) == 0
