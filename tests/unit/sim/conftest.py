import pytest

from atoll.sim.incarnation import Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.network import Network
from atoll.sim.trace import Trace


class Lab:
    """A loop, a network, and incarnations that are buried in the end."""

    def __init__(self):
        self.loop = SimLoop("lab")
        self.trace = Trace(self.loop.time)
        self.network = Network(self.loop, "network", self.trace)
        self.incarnations = []

    def incarnation(self, name="node1"):
        self.incarnations.append(Incarnation(name, len(self.incarnations), self.loop, self.trace))
        return self.incarnations[-1]

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)


@pytest.fixture
def lab():
    lab = Lab()
    yield lab
    for incarnation in lab.incarnations:
        incarnation.crash()
        incarnation.bury()
    lab.loop.close()
