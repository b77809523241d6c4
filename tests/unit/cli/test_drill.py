"""Drills without a cloud: what a report says, what the traffic model counts."""

import json

from atoll.cli.drill.churn import expected_traffic
from atoll.cli.drill.report import Check, Moment, Report
from atoll.cli.drill.stage import Holders


def report(*checks: Check) -> Report:
    return Report(
        "churn",
        "nodes | die",
        1_800_000_000_000,
        seconds=12.3,
        cloud={"nodes": 12},
        figures={"latency": {"put": {"p50": 1.25}}},
        checks=list(checks),
        timeline=[Moment(0.5, "SIGKILL node-1")],
        limits=["one machine"],
    )


def test_a_report_passes_only_if_something_was_checked_and_all_of_it_held() -> None:
    assert not report().passed
    assert report(Check(True, "a")).passed
    assert not report(Check(True, "a"), Check(False, "b")).passed


def test_a_page_says_verdict_checks_figures_and_limits() -> None:
    page = report(Check(True, "all read"), Check(False, "3 failed")).markdown()
    assert page.startswith("# Drill `churn`: FAILED\n")
    for line in (
        "nodes | die",
        "| ✓ | all read |",
        "| **✗** | 3 failed |",
        "| latency | put: p50: 1.25 |",
        "| 0.5 s | SIGKILL node-1 |",
        "- one machine",
    ):
        assert line in page
    assert json.loads(json.dumps(report(Check(True, "a")).facts()))["passed"] is True


def test_a_segment_is_repaired_once_however_many_of_its_pieces_died() -> None:
    held = [
        Holders(4, 8, 100, frozenset(range(8))),
        Holders(4, 8, 100, frozenset(range(8, 16))),
        Holders(1, 4, 10, frozenset({0, 1, 2, 3})),
    ]
    assert expected_traffic(held, {0, 1, 20}) == (400 + 10, 200 + 20)
    assert expected_traffic(held, {0, 1, 2, 3, 4}) == (0, 0), "what is lost is not repaired"
