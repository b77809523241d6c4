"""Euros on the page: exact, growing by the pace that is told, readable."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.console.test_app import Page
from tests.unit.console.test_rules import a_status

from atoll.cli.earnings import Found, euros, facts_of, lines_of
from atoll.console.earnings import earnings_view, euros_by_node, money
from atoll.console.rules import view_of
from atoll.core.messages.payouts import AllEarnings, EarningsDay, NodeEarnings
from atoll.core.money import MONTH_MS, PICO_PER_EUR

NODE = NodeEarnings(
    node_id=b"n" * 32,
    alias=1,
    told_ms=5_000,
    time_ms=4_000,
    since_ms=1_000,
    now_pico=2_000_000,
    month_pico=MONTH_MS * 3_000,
    time_factor=2,
    settled_pico=7 * PICO_PER_EUR,
    held_pico=PICO_PER_EUR,
    credited_pico=PICO_PER_EUR,
    released_pico=5 * PICO_PER_EUR,
    sent_pico=2 * PICO_PER_EUR,
    paid_pico=PICO_PER_EUR,
    due_pico=2 * PICO_PER_EUR,
    proven_bps=9_950,
    days=[EarningsDay(day="2026-11-20", earned_pico=7, held_pico=3, released_pico=4)],
)
OTHER = msgspec.structs.replace(NODE, node_id=b"m" * 32, alias=2, problem="no bank account")
BOTH = AllEarnings(time_ms=5_000, nodes=[NODE, OTHER])


def test_a_figure_grows_by_the_pace_that_is_told() -> None:
    assert NODE.pico_per_s == 6_000_000
    assert NODE.earned_by(4_000) == 7 * PICO_PER_EUR + 2_000_000
    assert NODE.earned_by(5_000) == NODE.earned_by(4_000) + 6_000_000
    assert NODE.earned_by(0) == NODE.earned_by(4_000)


def test_the_page_shows_each_node_and_the_sum() -> None:
    euros = euros_by_node(BOTH, 5_000)
    assert {one.pico for one in euros.values()} == {NODE.earned_by(5_000)}
    assert len({one.decimals for one in euros.values()}) == 1, "figures stand below each other"
    view = earnings_view(BOTH, 5_000)
    assert view.total.pico == 2 * NODE.earned_by(5_000)
    assert view.total.pico_per_s == 12_000_000
    assert [one.value for one in view.facts] == [
        money(2 * NODE.month_pico), "2.0000", "4.0000", "2.0000", "2.0000",
    ]  # fmt: skip
    assert view.remark == "time counts 2 times"


@given(st.integers(0, 10**16), st.integers(1, 12))
def test_no_fraction_is_rounded_up(pico: int, decimals: int) -> None:
    shown = money(pico, decimals)
    whole, _, rest = shown.replace(",", "").partition(".")
    assert len(rest) == decimals
    assert int(whole) * 10**12 + int(rest.ljust(12, "0")) <= pico
    assert int(whole) * 10**12 + int(rest.ljust(12, "0")) + 10 ** (12 - decimals) > pico


@pytest.mark.parametrize("pace", [0, 1, 5, 10**3, 10**6, 10**9, 10**15])
def test_there_are_as_many_decimals_as_move(pace: int) -> None:
    month = pace * MONTH_MS // 1000
    node = msgspec.structs.replace(NODE, month_pico=month, time_factor=1)
    (one,) = euros_by_node(AllEarnings(time_ms=1, nodes=[node]), 5_000).values()
    assert 4 <= one.decimals <= 12
    if 1_000 <= pace <= 10**7:
        steps = pace // 10 ** (12 - one.decimals)
        assert 10 <= steps < 100, "it moves ten times a second"


def test_a_view_without_earnings_shows_none() -> None:
    view = view_of(a_status())
    assert view.earnings is None
    assert all(one.earned is None for one in view.nodes)


async def test_the_page_has_what_its_script_needs() -> None:
    page = Page(None)
    nodes = [
        msgspec.structs.replace(NODE, node_id=one.node_id, alias=one.alias)
        for one in page.coordinator.status.nodes
    ]
    page.coordinator.earnings = AllEarnings(time_ms=5_000, nodes=nodes)
    body = (await page.ask("GET", "/")).body.decode()
    found = re.findall(r'data-pico="(\d+)" data-rate="(\d+)" data-decimals="(\d+)"', body)
    assert len(found) == len(nodes) + 1
    assert sum(int(pico) for pico, _, _ in found[1:]) == int(found[0][0])
    assert "Earned by providers" in body
    answer = await page.ask("GET", "/earnings.json")
    assert msgspec.json.decode(answer.body, type=AllEarnings).nodes == nodes


async def test_where_nothing_is_settled_the_page_says_nothing_of_euros() -> None:
    page = Page(None)
    assert b"data-pico" not in (await page.ask("GET", "/")).body
    assert (await page.ask("GET", "/earnings.json")).status == 501


# --- in a terminal -------------------------------------------------------------------------------


def test_a_terminal_shows_the_same_figures() -> None:
    lines = lines_of(Found(5_000, (NODE, OTHER)), 5_000)
    assert euros(NODE.earned_by(5_000)) == "7.0000080"
    assert sum("7.0000080" in line for line in lines) == 2
    assert any(line.startswith("together") and "14.0000160" in line for line in lines)
    assert any("99.5 %" in line for line in lines)
    assert "not paid out: no bank account" in lines
    assert any(line.startswith("2026-11-20") for line in lines)
    facts = facts_of(Found(5_000, (NODE, OTHER)))
    assert facts["total"]["earned_pico"] == 2 * NODE.earned_by(5_000)
    assert facts["nodes"][0]["node_id"] == "6e" * 32
    assert lines_of(Found(0, ()), 0) == ["no node is registered yet"]
