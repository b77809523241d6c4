import pytest

from atoll.core.errors import AtollError, Kind
from atoll.sim.faults import FAULTS
from atoll.sim.scenario import load_scenarios, parse_scenario
from atoll.sim.vopr import SCENARIOS

TEXT = """
name = "one"
invariant = "it holds"
nodes = 8
[workload]
seconds = 5.0
[[faults]]
kind = "crash-node"
chance = 0.5
[[faults]]
kind = "rot"
"""


def test_a_file_says_what_it_means():
    scenario = parse_scenario(TEXT, "one.toml")
    assert (scenario.name, scenario.nodes, scenario.workload.seconds) == ("one", 8, 5.0)
    assert [fault.kind for fault in scenario.faults] == ["crash-node", "rot"]


def test_a_seed_decides_which_faults_a_run_has():
    scenario = parse_scenario(TEXT, "one.toml")
    drawn = {tuple(f.kind for f in scenario.draw(str(seed)).faults) for seed in range(20)}
    assert drawn == {("crash-node", "rot"), ("rot",)}
    assert scenario.draw("7") == scenario.draw("7")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "name = 'x'",
        TEXT.replace("nodes = 8", "nodes = 3"),
        TEXT.replace("seconds = 5.0", "seconds = 0"),
        TEXT.replace("seconds", "second"),
    ],
)
def test_what_nobody_knows_is_refused(text):
    with pytest.raises(AtollError) as caught:
        parse_scenario(text, "one.toml")
    assert caught.value.kind is Kind.CONFIG


def test_every_declared_fault_exists():
    for scenario in load_scenarios(SCENARIOS).values():
        assert {fault.kind for fault in scenario.faults} <= set(FAULTS)
        assert scenario.invariant


def test_a_folder_without_scenarios_is_named(tmp_path):
    with pytest.raises(AtollError):
        load_scenarios(tmp_path)
