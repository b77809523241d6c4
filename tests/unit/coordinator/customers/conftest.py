"""A cloud that bills, for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.unit.coordinator.customers.world import World

from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase


@pytest.fixture
def compute() -> Iterator[ThreadCompute]:
    made = ThreadCompute(2)
    yield made
    made.close()


@pytest.fixture
async def world(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> AsyncIterator[World]:
    made = World(database, tmp_path / "epochs", compute)
    await made.begin()
    yield made
    await made.close()
