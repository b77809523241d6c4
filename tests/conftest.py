"""What many tests share: a PostgreSQL server of their own, and databases on both engines."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from atoll.runtime.database import SqlDatabase, migrate
from tests.fixtures.postgres import TEMPLATE, PostgresServer, binaries_folder, own, start, stop

# A submission is judged by the same examples each time; everybody else draws new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Start the run's PostgreSQL server, or join the one another worker started."""
    binaries = binaries_folder()
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; CI needs it: apt install postgresql")
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    lock, users = shared / "postgres-lock", shared / "postgres-users"
    with _locked(lock):
        lines = users.read_text().split() if users.exists() else []
        if lines:
            folder = Path(lines[0])
        else:
            folder = Path(tempfile.mkdtemp(prefix="atoll-postgres-"))
            own(folder)
            start(binaries, folder)
            server = PostgresServer(folder)
            migrate(server.make_database(TEMPLATE, "template0"))
            lines = [str(folder), "0"]
        users.write_text(f"{lines[0]} {int(lines[1]) + 1}")
    yield PostgresServer(folder)
    with _locked(lock):
        count = int(users.read_text().split()[1]) - 1
        if count:
            users.write_text(f"{folder} {count}")
        else:
            users.unlink()
            stop(binaries, folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new, migrated database, on each engine in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/atoll.db"
        migrate(url)
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = "t_" + os.urandom(8).hex()
    yield server.make_database(name)
    server.drop_database(name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[SqlDatabase]:
    """A new, migrated database, on each engine in turn."""
    opened = SqlDatabase(database_url)
    yield opened
    await opened.close()
