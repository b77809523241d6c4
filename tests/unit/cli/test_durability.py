"""Claims about ``atoll durability``: what it refuses, what it calls assumed, what it computes."""

import json
import math

import pytest
from click.testing import CliRunner

from atoll.cli import durability as command
from atoll.cli.main import root
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.repairs import RepairFigures, SchemeHold
from atoll.core.messages.upgrades import UpgradeStatus

FIGURES = RepairFigures(
    days=30,
    node_days=3000.0,
    nodes_lost=2,
    healed=40,
    healed_hours_mean=2.0,
    healed_hours_max=9.0,
    noticed_hours=4.0,
    holds=[
        SchemeHold(
            k=4,
            n=8,
            segments=10,
            plain_bytes=10 << 20,
            piece_bytes=20 << 20,
            survives=[[3, 2], [4, 8]],
            shared_pieces_max=2,
        )
    ],
    workers=[],
    operators=12,
    nodes=12,
    one_machine=False,
    frozen=False,
)


def asked(*arguments: str) -> str:
    answer = CliRunner().invoke(root, ["durability", *arguments], prog_name="atoll")
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_given_assumptions_need_no_cloud_and_are_called_assumed() -> None:
    text = asked("--churn", "3", "--repair-hours", "24", "--domain-loss", "2")
    assert text.count("assumed") == 3
    (line,) = [line for line in text.splitlines() if line.startswith("20/40")]
    assert "16.0" in line, "the design's figure for 3 % and a domain loss of two pieces"
    assert "2.00x" in line


def test_json_tells_the_same_and_another_scheme_is_compared() -> None:
    text = asked("--churn", "0.163", "--repair-hours", "24", "--scheme", "29/80/52", "--json")
    found = json.loads(text)
    nines = {row["scheme"]: row["nines"] for row in found["schemes"]}
    assert nines["29/80"] == pytest.approx(76.6, abs=0.06)
    assert nines["20/40"] == pytest.approx(39.3, abs=0.06)
    assert found["assumptions"]["churn_from"] == "assumed"
    assert found["refused"] == ""


@pytest.mark.parametrize("text", ["20", "x/y", "20/40/10", "5/3", "0/4"])
def test_a_scheme_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(AtollError) as caught:
        command._scheme(text)
    assert caught.value.kind is Kind.BAD_REQUEST


def test_measured_churn_repair_and_domain_are_used_and_named() -> None:
    basis = command._basis(FIGURES, None, None, None, None)
    held = basis.assumptions
    assert held.churn_month == pytest.approx(1 - math.exp(-2 / 3000 * 30))
    assert held.repair_hours == 6.0, "noticed after four hours, healed in two"
    assert held.domain_pieces == 2
    assert "measured: 2 nodes lost" in basis.churn
    assert "measured" in basis.repair


def test_no_loss_seen_is_a_bound_and_no_promise() -> None:
    quiet = FIGURES.__class__(**{**_fields(FIGURES), "nodes_lost": 0})
    basis = command._basis(quiet, None, None, None, None)
    assert basis.assumptions.churn_month == pytest.approx(1 - math.exp(-3 / 3000 * 30))
    assert "bound" in basis.churn


def test_nothing_measured_is_said() -> None:
    young = FIGURES.__class__(**{**_fields(FIGURES), "node_days": 0.0})
    with pytest.raises(AtollError, match="nothing was measured"):
        command._basis(young, None, None, None, None)


def test_one_machine_gets_its_histogram_and_no_nines(capsys: pytest.CaptureFixture[str]) -> None:
    alone = FIGURES.__class__(**{**_fields(FIGURES), "one_machine": True})
    command._refuse(alone, as_json=False)
    text = capsys.readouterr().out
    assert "any 4 more losses" in text
    assert "no protection against its loss" in text
    assert "NINES" not in text
    command._refuse(alone, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["schemes"] == []
    assert found["refused"]


def _fields(figures: RepairFigures) -> dict[str, object]:
    return {name: getattr(figures, name) for name in figures.__struct_fields__}


def test_segments_below_what_the_network_allows_are_told_with_their_class() -> None:
    assert command._upgrade_lines(UpgradeStatus(offered=[10])) == []
    lines = command._upgrade_lines(
        UpgradeStatus(
            below_segments=1_200,
            below_bytes=3 << 30,
            locked_segments=5,
            upgraded_segments=80,
            upgraded_bytes=1 << 30,
            offered=[4, 10],
        )
    )
    assert lines[0].startswith("1,200 segments (3.00 GiB) are below 4/8 or 10/20")
    assert lines[1] == "5 more are locked and stay as they are"
    assert lines[2].startswith("80 segments (1.00 GiB) were copied")
