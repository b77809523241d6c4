"""A seed of every scenario, and the deliberate faults that the simulator must find.

Each run is a process of its own with a fixed hash seed, so that the command which a failure prints
replays it. Many more seeds: ``make sim-soak``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
SCENARIOS = sorted(path.stem for path in FOLDER.glob("*.toml"))
FIRST_SEED = 1001
FAULTS = [
    ("ack-before-sync", "crash", "acknowledged piece"),
    ("skip-merkle-check", "disks", "piece"),
    ("trusting-repair", "partition", "not at full strength"),
    ("careless-keeper", "sets", "nobody counts"),
    ("lawless-placement", "sovereignty", "and the policy is"),
    ("clumping", "mergers", "pieces lie with one"),
    ("believed-workers", "crooks", "which never had it"),
    ("hasty-trash", "misleading", "it is TRASH there"),
    ("silent-upgrade", "growth", "not recovered"),
    ("crowded-relays", "relays", "pieces lie behind relays"),
]
SEEDS_TO_FIND_MAX = 8


def vopr(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "atoll.sim.vopr", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        timeout=500,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def outcomes(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_the_scenarios_that_the_design_asks_for_are_there() -> None:
    assert {"churn", "crash", "partition", "disks"} <= set(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_invariant_holds(scenario: str) -> None:
    status, text = vopr("--scenario", scenario, "--seeds", "1", "--first", str(FIRST_SEED))
    assert status == 0, text


def test_two_processes_agree_on_a_seed() -> None:
    runs = [vopr("--scenario", "crash", "--seed", "7", "--json") for _ in range(2)]
    first, second = (outcomes(text)[0] for _, text in runs)
    assert first["digest"] == second["digest"]
    assert first["counts"]["crash"] > 5
    assert first["acknowledged"] > 20


@pytest.mark.long
@pytest.mark.parametrize(("fault", "scenario", "words"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_deliberate_fault_is_found_within_few_seeds(
    fault: str, scenario: str, words: str
) -> None:
    status, text = vopr(
        "--scenario", scenario, "--seeds", str(SEEDS_TO_FIND_MAX), "--fault", fault, "--stop"
    )
    assert status == 1, text
    assert words in text
    assert f"python -m atoll.sim.vopr --scenario {scenario} --seed " in text
    commands = [line for line in text.splitlines() if "python -m atoll.sim.vopr" in line]
    assert all(f"--fault {fault}" in line for line in commands)
