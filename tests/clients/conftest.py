"""One real cloud for all client tests, and a folder of real files."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll.cli.local_cloud import LocalCloud

CLIENT_TIMEOUT_S = 180


@dataclass(frozen=True)
class Client:
    """Runs client programs with this cloud's keys in their environment."""

    cloud: LocalCloud
    home: Path

    def run(self, *command: str, stdin: bytes | None = None, ok: bool = True) -> str:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RCLONE_"))},
            "HOME": str(self.home),
            "AWS_ACCESS_KEY_ID": self.cloud.access_key,
            "AWS_SECRET_ACCESS_KEY": self.cloud.secret,
            "AWS_DEFAULT_REGION": self.cloud.region,
            "AWS_ENDPOINT_URL": self.cloud.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "RCLONE_CONFIG_ATOLL_TYPE": "s3",
            "RCLONE_CONFIG_ATOLL_PROVIDER": "Other",
            "RCLONE_CONFIG_ATOLL_ENDPOINT": self.cloud.endpoint,
            "RCLONE_CONFIG_ATOLL_ACCESS_KEY_ID": self.cloud.access_key,
            "RCLONE_CONFIG_ATOLL_SECRET_ACCESS_KEY": self.cloud.secret,
            "RCLONE_CONFIG_ATOLL_REGION": self.cloud.region,
            "RESTIC_PASSWORD": "a password for this test only",
        }
        done = subprocess.run(
            command, input=stdin, capture_output=True, env=environment, timeout=CLIENT_TIMEOUT_S
        )
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        if ok:
            assert done.returncode == 0, f"{' '.join(command)} ended {done.returncode}:\n{said}"
        else:
            assert done.returncode != 0, f"{' '.join(command)} should have failed:\n{said}"
        return said


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", "12", "--port", "0") as running:
        yield running


@pytest.fixture
def client(cloud: LocalCloud, tmp_path: Path) -> Client:
    home = tmp_path / "home"
    home.mkdir()
    return Client(cloud, home)


@pytest.fixture
def bucket(cloud: LocalCloud, request: pytest.FixtureRequest) -> str:
    plain = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    name = f"b-{plain[:45]}-{os.urandom(4).hex()}"
    cloud.boto3_client().create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of many sizes and odd names, 20 MiB in all."""
    folder = tmp_path_factory.mktemp("tree")
    sizes = {
        "empty": 0,
        "one byte": 1,
        "deep/er/still/small.txt": 4096,
        "ünïcödé/ñame 文件.bin": 70_000,
        "percent%2Fname": 1000,
        "plus+and&and=.txt": 1234,
        "multi.bin": 12 << 20,
        "large.bin": 8 << 20,
    }
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return folder


@pytest.fixture(scope="session")
def same_trees() -> Callable[[Path, Path], None]:
    def compare(one: Path, other: Path) -> None:
        def content(root: Path) -> dict[str, bytes]:
            return {
                str(path.relative_to(root)): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file()
            }

        left, right = content(one), content(other)
        assert sorted(left) == sorted(right)
        assert all(left[name] == right[name] for name in left), "a file differs"
        assert left, "nothing was compared"

    return compare
