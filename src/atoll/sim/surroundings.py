"""What a world gives to its machines."""

from typing import Protocol

from atoll.coordinator.app import CoordinatorConfig
from atoll.core.identity import Identity
from atoll.sim.database import DatabaseServer
from atoll.sim.incarnation import Incarnation
from atoll.sim.network import Network
from atoll.sim.scenario import Scenario
from atoll.sim.trace import Trace


class HasIdentity(Protocol):
    """A machine with a key of its own."""

    identity: Identity


class Surroundings(Protocol):
    """The side of a world that machines see."""

    seed: str
    trace: Trace
    network: Network
    database: DatabaseServer
    scenario: Scenario

    @property
    def coordinator(self) -> "HasIdentity":
        """The coordinator's machine."""

    def reachable(self, node: object) -> bool:
        """Connect a node that has just started; say whether it can be called itself."""

    def incarnation(self, name: str) -> Incarnation:
        """Return a new incarnation of this name."""

    def seeded(self, what: str) -> bytes:
        """Return 32 bytes that follow from the world's seed."""

    def coordinator_config(self) -> CoordinatorConfig:
        """Return how a coordinator of this world is set up."""

    def started(self, machine: object) -> None:
        """Look at a machine whose process has just recovered."""

    def violated(self, what: str) -> None:
        """Note that an invariant does not hold."""
