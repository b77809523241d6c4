"""What all tests of payouts stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.coordinator.payouts.world import World

from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase


@pytest.fixture
def compute() -> Iterator[ThreadCompute]:
    made = ThreadCompute()
    yield made
    made.close()


@pytest.fixture
def world(database: SqlDatabase, tmp_path: Path, compute: ThreadCompute) -> World:
    return World(database, tmp_path / "epochs", compute)
