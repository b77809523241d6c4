"""A gateway for each test."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.gateway.world import ACCESS, SECRET, STRANGER, Customer, World

from atoll.runtime.database import SqlDatabase, migrate
from atoll.runtime.server import HttpServer, open_socket


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "metadata.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
async def world(tmp_path: Path, empty_database: Path) -> AsyncIterator[World]:
    path = shutil.copy(empty_database, tmp_path / "metadata.db")
    database = SqlDatabase(f"sqlite:///{path}")
    made = World(database)
    await made.metadata.create_credential(b"c" * 16, "customer", ACCESS, SECRET)
    await made.metadata.create_credential(b"s" * 16, "stranger", *STRANGER)
    answer = await made.customer("PUT", "/store")
    assert answer.status == 200, answer.body
    yield made
    await database.close()
    made.compute.close()


@pytest.fixture
async def customer(world: World) -> Customer:
    return world.customer


@pytest.fixture
async def endpoint(world: World) -> AsyncIterator[str]:
    """The gateway over real HTTP."""
    server = HttpServer(world.gateway.app, open_socket("127.0.0.1", 0))
    await server.start()
    yield f"http://127.0.0.1:{server.address[1]}"
    await server.stop()
