"""What many tests share: a PostgreSQL server of their own, and databases on both engines."""

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from atoll.runtime.database import SqlDatabase, migrate

POSTGRES_BINARIES = Path("/usr/lib/postgresql")
TEMPLATE = "atoll_template"
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class PostgresServer:
    """A server on a Unix socket in a temporary folder, shared by the workers of one run."""

    folder: Path

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def make_database(self, name: str, template: str = TEMPLATE) -> str:
        """Make a database (a copy of the migrated one) and return its URL."""
        engine = create_engine(
            make_url(self.url("postgres")).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        engine.dispose()
        return self.url(name)

    def drop_database(self, name: str) -> None:
        engine = create_engine(
            make_url(self.url("postgres")).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        engine.dispose()


def _binaries() -> Path | None:
    found = sorted(POSTGRES_BINARIES.glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else None


def _as_postgres(*command: str) -> None:
    # The server refuses to run as root: then Debian's own user runs it.
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, *command], capture_output=True, text=True, timeout=START_TIMEOUT_S, cwd="/"
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout}{done.stderr}"


def _start(binaries: Path, folder: Path) -> None:
    data = folder / "data"
    _as_postgres(
        str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
        "--locale=C.UTF-8", "--no-sync",
    )  # fmt: skip
    # Not a test of PostgreSQL's own durability: its syncs would only slow the tests down.
    options = (
        f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off "
        "-c full_page_writes=off -c max_connections=200 -c shared_buffers=64MB "
        "-c autovacuum=off -c deadlock_timeout=100ms"
    )
    _as_postgres(
        str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", str(START_TIMEOUT_S),
        "-l", str(folder / "log"), "-o", options, "start",
    )  # fmt: skip


def _stop(binaries: Path, folder: Path) -> None:
    _as_postgres(str(binaries / "pg_ctl"), "-D", str(folder / "data"), "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Start the run's PostgreSQL server, or join the one another worker started."""
    binaries = _binaries()
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
            _own(folder)
            _start(binaries, folder)
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
            _stop(binaries, folder)


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
