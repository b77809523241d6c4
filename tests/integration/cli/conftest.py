"""One small cloud for the command-line tests."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll.cli.local_cloud import LocalCloud

COMMAND_TIMEOUT_S = 120


@dataclass(frozen=True)
class Shell:
    """Runs ``atoll`` as a person would, with nothing of this machine's settings."""

    cloud: LocalCloud
    home: Path

    def run(
        self, *words: str, stdin: bytes | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[bytes]":
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ATOLL_", "XDG_"))
        }
        return subprocess.run(
            [sys.executable, "-m", "atoll", *words],
            input=stdin,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            env={
                **clean,
                "HOME": str(self.home),
                "ATOLL_DATA": str(self.cloud.facts["data"]),
                **environment,
            },
        )

    def ok(self, *words: str, stdin: bytes | None = None, **environment: str) -> bytes:
        done = self.run(*words, stdin=stdin, **environment)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", "5", "--port", "0") as running:
        yield running


@pytest.fixture
def shell(cloud: LocalCloud, tmp_path: Path) -> Shell:
    home = tmp_path / "home"
    home.mkdir()
    return Shell(cloud, home)


@pytest.fixture
def bucket(shell: Shell, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.nodeid)) % 10**10}"
    shell.ok("mb", f"s3://{name}")
    return name
