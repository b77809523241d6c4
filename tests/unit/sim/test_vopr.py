import random
from dataclasses import replace

from atoll.sim.rng import SimRng
from atoll.sim.scenario import FaultPlan, Scenario, WorkloadPlan
from atoll.sim.vopr import check_seed, command_of, main, run_seed

SMALL = Scenario(
    name="small",
    invariant="all is well",
    nodes=6,
    heal_s=60.0,
    workload=WorkloadPlan(clients=2, seconds=6.0, pause_s=0.5, big_bytes_max=20_000),
)


def test_a_seed_is_run_twice_alike_and_seeds_differ():
    first = check_seed(SMALL, 1, replay=True)
    assert first.passed, first.violations
    assert first.acknowledged > 3
    assert run_seed(SMALL, 2).digest != first.digest


def test_an_unseeded_choice_is_found(monkeypatch):
    """The replay check can fail: this is what it is for."""
    monkeypatch.setattr(
        SimRng, "sample", lambda _, population, count: random.sample(population, count)
    )
    monkeypatch.setattr(SimRng, "bytes", lambda _, count: random.randbytes(count))
    outcome = check_seed(SMALL, 1, replay=True)
    assert any("took two ways" in what for what in outcome.violations)


def test_a_lost_network_keeps_nobody_waiting_for_ever():
    lossy = replace(
        SMALL, name="lossy", faults=(FaultPlan("bad-network", every_s=1.0, down_s=3.0, rate=0.3),)
    )
    outcome = run_seed(lossy, 3)
    assert outcome.passed, outcome.violations


def test_a_violation_names_the_command_that_replays_it():
    outcome = run_seed(SMALL, 5)
    assert command_of(outcome) == "python -m atoll.sim.vopr --scenario small --seed 5"
    assert command_of(outcome, "trusting-repair").endswith("--fault trusting-repair")


def test_unknown_scenarios_are_refused(capsys, tmp_path):
    assert main(["--scenarios", str(tmp_path)]) == 78
    assert "no scenarios here" in capsys.readouterr().err
