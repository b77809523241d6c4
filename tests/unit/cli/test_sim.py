"""Claims about ``atoll sim``: figures, a picture, and clear words where something is missing."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from atoll.cli.main import root
from atoll.core.errors import AtollError, Kind

SMALL = ("--nodes", "400", "--segments", "200", "--days", "5", "--scheme", "10/20")


def test_a_small_year_in_figures_and_a_picture(tmp_path: Path) -> None:
    plot = tmp_path / "year.svg"
    arguments = ["sim", "scale", *SMALL, "--outage", "2:20:12", "--plot", str(plot), "--json"]
    answer = CliRunner().invoke(root, arguments)
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert len(found["days"]) == 5
    assert found["scheme"] == "10/20"
    assert sum(day["frozen_hours"] for day in found["days"]) > 0
    assert found["model"]["nines"] > 10
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


@pytest.mark.parametrize("text", ["2:20", "x:1:2", "2:0:3", "1:101:3", "-1:5:3"])
def test_an_outage_that_cannot_be_is_refused(text: str) -> None:
    answer = CliRunner().invoke(root, ["sim", "scale", *SMALL, f"--outage={text}"])
    assert isinstance(answer.exception, AtollError)
    assert answer.exception.kind is Kind.BAD_REQUEST


def test_without_numpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "atoll.sim.scale", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    answer = CliRunner().invoke(root, ["sim", "scale", *SMALL])
    assert isinstance(answer.exception, AtollError)
    assert "numpy" in answer.exception.message
    assert "pip install" in answer.exception.hint
