"""Claims about the year of many nodes: it agrees with the model, and obeys the product's rules."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from atoll.core.durability import durability_of
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40, Scheme
from atoll.sim.plot import picture
from atoll.sim.scale import HOURS_PER_DAY, Outage, ScaleConfig, ScaleResult, ScaleSimulation

HARSH = ScaleConfig(
    nodes=1000,
    segments=4000,
    days=120,
    profile="local",
    pauses_month=0.0,
    repair_hours=240.0,
    repair_hours_min=0.0,
)


@pytest.mark.parametrize(
    ("scheme", "churn"), [(RS_4_8, 0.35), (RS_2_4, 0.25), (RS_10_20, 0.5)], ids=str
)
def test_the_model_is_within_a_fifth_of_the_simulation(scheme: Scheme, churn: float) -> None:
    config = replace(HARSH, scheme=scheme, churn_month=churn, fill_at=scheme.repair)
    result = ScaleSimulation(config).run()
    model = durability_of(config.scheme, config.assumptions)
    rate = -math.log1p(-model.loss_per_year) / 365
    # The first weeks start at full strength; the model speaks of a cloud long since settled.
    settled = result.days[30:]
    lost = sum(day.lost for day in settled)
    assert lost > 200, "enough to compare"
    assert lost == pytest.approx(rate * len(settled) * config.segments, rel=0.2)
    traffic = sum(day.traffic for day in settled) * 30 / len(settled)
    assert traffic == pytest.approx(model.traffic_month, rel=0.2)


QUIET = ScaleConfig(nodes=2000, segments=2000, days=30, scheme=RS_20_40, churn_month=0.02)


def outage(share: float, hours: int) -> ScaleResult:
    struck = Outage(hour=10 * HOURS_PER_DAY, share=share, hours=hours)
    return ScaleSimulation(replace(QUIET, outages=(struck,))).run()


def test_a_mass_vanishing_freezes_repair_until_the_nodes_are_back() -> None:
    result = outage(0.10, 20)
    frozen = [number for number, day in enumerate(result.days) if day.frozen_hours]
    assert frozen
    assert min(frozen) == 10
    assert max(frozen) <= 11
    assert result.days[10].rebuilt < 50, "next to nothing was rebuilt while frozen"
    assert sum(day.returned for day in result.days[10:12]) > 4000, "it all came back by itself"
    assert result.lost == 0


def test_a_freeze_ends_by_itself_when_the_nodes_stay_away() -> None:
    result = outage(0.10, 24 * 10)
    hours = sum(day.frozen_hours for day in result.days)
    assert 20 <= hours <= 30, "the profile's day at most"
    assert result.days[12].rebuilt > 1000, "then it is repaired"
    assert result.days[14].due + result.days[14].critical < 10


def test_a_small_outage_freezes_nothing() -> None:
    assert sum(day.frozen_hours for day in outage(0.03, 20).days) == 0


def test_a_seed_decides_everything() -> None:
    first, again = (ScaleSimulation(QUIET).run() for _ in range(2))
    other = ScaleSimulation(replace(QUIET, seed=2)).run()
    assert first.days == again.days
    assert first.days != other.days


def test_no_operator_holds_two_pieces_and_all_counts_agree() -> None:
    config = replace(QUIET, days=20, nodes_per_operator=5, churn_month=0.2)
    simulation = ScaleSimulation(config)
    simulation.run()
    holders = simulation._holders
    for row in holders[:500]:
        operators = (row[row >= 0] // config.nodes_per_operator).tolist()
        assert len(operators) == len(set(operators))
    there = (holders >= 0) & ~simulation._gone[np.maximum(holders, 0)]
    assert (there.sum(axis=1) == simulation._healthy).all()


def test_filling_every_gap_at_once_costs_many_times_the_rule() -> None:
    """The measurement behind docs/decisions/0110-filling.md."""
    config = replace(QUIET, days=60)
    rule = ScaleSimulation(config).run()
    every = ScaleSimulation(replace(config, fill_at=RS_20_40.n - 1)).run()
    assert every.traffic_month > 10 * rule.traffic_month
    assert min(day.healthy_min for day in rule.days) > RS_20_40.repair


def test_the_picture_is_an_svg_with_three_panels() -> None:
    result = outage(0.10, 20)
    tree = ElementTree.fromstring(picture(result))
    groups = [node for node in tree if node.tag.endswith("}g")]
    assert len(groups) == 3
    text = "".join(tree.itertext())
    assert "20/40" in text
    assert "full strength" in text


@pytest.mark.parametrize(
    "wrong", [{"nodes": 50}, {"segments": 0}, {"days": 0}, {"nodes": 10**8}], ids=str
)
def test_what_cannot_be_simulated_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message will do
        replace(QUIET, **wrong)
