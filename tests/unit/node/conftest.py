from collections.abc import Iterator

import pytest
from tests.unit.node.machine import Machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    machine.boot()
    yield machine
    machine.end()
