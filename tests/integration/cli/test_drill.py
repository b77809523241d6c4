"""A drill as anybody runs it: real processes, real deaths, a report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def drill(*words: str) -> tuple[int, list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-m", "atoll", "drill", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.long
def test_a_fifth_of_the_nodes_dies_and_everything_is_whole_again(tmp_path: Path) -> None:
    page = tmp_path / "report.md"
    status, events = drill(
        "churn", "--nodes", "10", "--share", "0.2", "--within", "1", "--seconds", "3",
        "--objects", "30", "--clients", "2", "--seed", "3", "--report", str(page),
    )  # fmt: skip
    report = events[-1]
    assert status == 0, report
    assert report["passed"] is True
    assert report["figures"]["nodes killed"] == 2  # type: ignore[index]
    assert report["figures"]["operations"]["put"] >= 30  # type: ignore[index]
    assert report["figures"]["repair bytes written"] > 0  # type: ignore[index]
    assert page.read_text().startswith("# Drill `churn`: passed")


def test_an_unknown_region_is_said_before_anything_breaks() -> None:
    status, events = drill("outage", "--region", "atlantis", "--nodes", "6", "--objects", "1")
    assert status != 0
    assert not any(event["event"] == "check" for event in events)


def test_a_thief_of_all_keys_destroys_nothing_that_is_locked() -> None:
    status, events = drill(
        "ransomware", "--nodes", "6", "--objects", "8", "--seconds", "1", "--clients", "1",
    )  # fmt: skip
    report = events[-1]
    assert status == 0, report
    assert report["figures"]["pieces locked"] > 0  # type: ignore[index]
    assert len(report["checks"]) == 15  # type: ignore[arg-type]
