"""Declared scenarios: one invariant under several faults, each a TOML file.

A file names the cloud (how many nodes), the workload (how long, what sizes), and the faults with
their rates. The seed decides everything that the file leaves open: which of the faults are on in
this run (``swarm``: leaving some out finds more than having all of them always), when and where.
"""

import random
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from atoll.core.errors import AtollError, Kind

NODES_MAX = 60
SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class WorkloadPlan:
    """What the customers do. Sizes in bytes, times in virtual seconds."""

    clients: int = 3
    seconds: float = 30.0
    """Length of the safety phase."""
    pause_s: float = 1.0
    """Mean pause of a client between two operations."""
    big_bytes_max: int = 300_000
    """The usual bound of an object; most are far smaller."""
    huge_bytes_max: int = 3_000_000
    huge: float = 0.02
    """Share of objects between the two bounds."""
    parts: float = 0.1
    """Share of writes that are multipart uploads."""
    races: float = 0.1
    """Share of operations that create a key which another client creates too."""
    overwrites: float = 0.2
    """Share of writes that go to a key already written."""
    deletes: float = 0.08
    """Share of operations that delete."""
    reads: float = 0.4
    """Share of operations that read."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One kind of fault: how often, how long, how strong. Unused fields mean nothing to a kind."""

    kind: str
    every_s: float = 10.0
    """Mean time between two of them."""
    down_s: float = 5.0
    """Mean duration."""
    rate: float = 0.0
    """Strength, for faults that have one (a probability)."""
    most: int = 1_000_000
    """At most so many in one run."""
    chance: float = 1.0
    """Probability that a run has this fault at all."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One declared scenario."""

    name: str
    invariant: str
    """What must hold, in words: the checkers hold it."""
    nodes: int = 10
    nodes_max: int = 0
    """Where it is larger, a run has ``nodes`` to ``nodes_max`` nodes."""
    capacity_bytes: int = 64 << 20
    shared_chance: float = 0.5
    """Probability that the gateway shares the database instead of asking over the network."""
    s3_chance: float = 0.5
    """Probability that customers speak S3 instead of using the client's parts in process."""
    short_trash_chance: float = 0.5
    """Probability that trash is emptied and logs compacted within the run."""
    packing_chance: float = 0.0
    """Probability that small objects are packed, within seconds."""
    short_pages_chance: float = 0.4
    """Probability that everything is read in pages of a few rows: ``sim.pages``."""
    skew_ms_max: int = 0
    """Clocks of nodes are wrong by up to so much."""
    heal_s: float = 300.0
    """In the liveness phase everything must be well within so many virtual seconds."""
    standings: bool = False
    """Standings are judged within seconds, and checked: ``sim.offenders``."""
    equal_sets: bool = False
    """In the end every node must hold exactly what the coordinator counts: ``sim.agreement``."""
    recoverable: bool = False
    """Manifests are written, and in the end all comes back from nodes alone: ``sim.recovering``."""
    upgrades: bool = False
    """Segments are copied into wider schemes within seconds, and checked: ``sim.growth``."""
    node_repairs: bool = False
    """Nodes do most of the repairs: ``sim.crooks``."""
    quick_sets: bool = False
    """Nodes compare their sets with the coordinator's every few seconds: ``sim.misleading``."""
    relayed: int = 0
    """So many nodes can only be reached through relays: ``sim.relays``."""
    verifiers: int = 0
    """Verifiers of what nodes prove; without any nothing is proven."""
    lying_verifiers: int = 0
    """So many of them slander: checked by ``sim.verifying``."""
    policy: str = ""
    """Policy of the bucket from its first moment on; what lies outside is a weakness."""
    workload: WorkloadPlan = field(default_factory=WorkloadPlan)
    faults: tuple[FaultPlan, ...] = ()

    def draw(self, seed: str) -> "Scenario":
        """Return this scenario with the faults that this seed's run has."""
        chance = random.Random(f"{seed}/swarm")
        drawn = tuple(fault for fault in self.faults if chance.random() < fault.chance)
        return replace(
            self,
            faults=drawn,
            nodes=chance.randint(self.nodes, max(self.nodes, self.nodes_max)),
            shared_chance=float(chance.random() < self.shared_chance),
            s3_chance=float(chance.random() < self.s3_chance),
            short_trash_chance=float(chance.random() < self.short_trash_chance),
            packing_chance=float(chance.random() < self.packing_chance),
            short_pages_chance=float(chance.random() < self.short_pages_chance),
        )


def parse_scenario(text: str, about: str) -> Scenario:
    """Read a scenario. Raises ``CONFIG`` for one that says what nobody knows."""
    try:
        table = tomllib.loads(text)
        workload = WorkloadPlan(**table.pop("workload", {}))
        faults = tuple(FaultPlan(**fault) for fault in table.pop("faults", []))
        scenario = Scenario(workload=workload, faults=faults, **table)
    except (tomllib.TOMLDecodeError, TypeError) as cause:
        raise _bad(str(cause), about) from cause
    if not 5 <= scenario.nodes <= max(scenario.nodes, scenario.nodes_max) <= NODES_MAX:
        raise _bad(f"nodes is 5..{NODES_MAX}", about)
    if not 0 < scenario.workload.seconds <= SECONDS_MAX:
        raise _bad(f"seconds is 0..{SECONDS_MAX:g}", about)
    return scenario


def _bad(message: str, about: str) -> AtollError:
    return AtollError(Kind.CONFIG, "read scenario", message, about=about)


def load_scenarios(folder: Path) -> dict[str, Scenario]:
    """Return the scenarios of a folder by the names of their files.

    Raises ``CONFIG``, also where there are none.
    """
    found = {
        path.stem: parse_scenario(path.read_text(), str(path))
        for path in sorted(folder.glob("*.toml"))
    }
    if not found:
        raise _bad("no scenarios here", str(folder))
    return found
