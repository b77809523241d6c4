"""``atoll up``: real processes, a real folder, a real S3 client."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.conftest import PostgresServer

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.status import fetch_status
from atoll.core.errors import AtollError, Kind
from atoll.runtime.control import send_order

NODES = 5
WAIT_S = 30.0


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)  # other processes have no event to wait for


def atoll(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atoll", *words],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, **environment},
    )


def alive(folder: Path) -> int:
    return sum(node.state == "alive" for node in fetch_status(folder).nodes)


def pid_of(folder: Path, name: str) -> int:
    return next(child.pid for child in send_order(folder, "facts") if child.name == name)


def test_a_cloud_lives_through_crashes_and_a_second_start(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    flags = ("--data", str(folder), "--nodes", str(NODES), "--port", "0")
    body = os.urandom(3 << 20)
    with LocalCloud(*flags) as cloud:
        assert len(str(cloud.facts["recovery_phrase"]).split()) == 12
        s3 = cloud.boto3_client()
        s3.create_bucket(Bucket="attic")
        s3.put_object(Bucket="attic", Key="large", Body=body)
        s3.put_object(Bucket="attic", Key="small", Body=b"x")
        assert s3.get_object(Bucket="attic", Key="large")["Body"].read() == body

        first = pid_of(folder, "node-2")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: pid_of(folder, "node-2") not in (0, first))
        assert "node-2 ended (SIGKILL); starting it again" in cloud.talk()

        second = atoll("up", "--data", str(folder))
        assert second.returncode == 75
        assert str(cloud.facts["pid"]) in second.stderr

        private = [p for p in (folder / "secrets").iterdir() if p.stat().st_mode & 0o077]
        assert not private
        secret = cloud.secret
        words = [" ".join(p.cmdline()) for p in cloud.processes()]
        logs = "".join(p.read_text(errors="replace") for p in (folder / "logs").iterdir())
        assert secret not in " ".join(words)
        assert secret not in logs
        assert str(cloud.facts["recovery_phrase"]) not in logs
        assert cloud.stop() == 0
    assert not (folder / "secrets" / "recovery-phrase.unseen").exists()
    with pytest.raises(AtollError) as gone:
        fetch_status(folder)
    assert gone.value.kind is Kind.UNREACHABLE

    with LocalCloud(*flags) as cloud:
        assert "recovery_phrase" not in cloud.facts
        assert cloud.secret == secret
        s3 = cloud.boto3_client()
        assert s3.get_object(Bucket="attic", Key="large")["Body"].read() == body
        assert s3.get_object(Bucket="attic", Key="small")["Body"].read() == b"x"
        assert alive(folder) == NODES


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    cloud = LocalCloud("--data", str(folder), "--nodes", "3", "--port", "0")
    children = cloud.processes()
    assert len(children) == 10, "coordinator, two gateways, three nodes and verifiers, a watcher"
    port = cloud.endpoint.rpartition(":")[2]
    cloud.supervisor.kill()
    # At once: the orphans may still be on their way out.
    with LocalCloud("--data", str(folder), "--nodes", "3", "--port", port) as again:
        assert again.endpoint == cloud.endpoint
        _, left = psutil.wait_procs(children, timeout=WAIT_S)
        assert not left
    cloud.stop()


def test_a_taken_port_is_said_by_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = atoll("up", "--data", str(tmp_path / "cloud"), "--port", str(port))
    assert done.returncode == 69
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "hint:" in done.stderr
    assert done.stdout == ""


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_bytes(b"years of work")
    done = atoll("up", "--data", str(tmp_path))
    assert done.returncode == 78
    assert "thesis.doc" in done.stderr
    assert os.listdir(tmp_path) == ["thesis.doc"]


def test_a_newer_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "atoll.json").write_text('{"kind":"cloud","format":2,"created_ms":0}')
    done = atoll("up", "--json", "--data", str(tmp_path))
    assert done.returncode == 78
    assert json.loads(done.stderr)["error"]["kind"] == "newer_format"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        done = atoll("up", "--data", str(disk / "cloud"), "--port", "0")
        assert done.returncode == 74
        assert "MiB left" in done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_ephemeral_cloud_leaves_nothing(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "xdg")}
    with LocalCloud("--ephemeral", "--nodes", "3", "--port", "0", environment=environment) as cloud:
        assert Path(str(cloud.facts["data"])).parent == tmp_path
        assert cloud.facts["ephemeral"] is True
    assert os.listdir(tmp_path) == []


def test_ephemeral_and_data_exclude_each_other(tmp_path: Path) -> None:
    assert atoll("up", "--ephemeral", "--data", str(tmp_path)).returncode == 64


def test_a_node_that_cannot_start_does_not_stop_the_cloud(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    flags = ("--data", str(folder), "--nodes", "4", "--port", "0")
    LocalCloud(*flags).stop()
    (folder / "nodes" / "2" / "atoll.json").write_text('{"kind":"node","format":9,"created_ms":0}')
    with LocalCloud(*flags) as cloud:
        wait_until(lambda: alive(folder) == 3)
        assert "node-2 ended" in cloud.talk()
        assert "has format 9" in cloud.talk()
        assert "3 of 4 nodes are up" in cloud.talk()


@pytest.mark.postgres
def test_a_cloud_on_postgres_remembers_its_database(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    folder, name = tmp_path / "cloud", "up_remembers"
    flags = ("--data", str(folder), "--nodes", "4", "--port", "0")
    url = postgres_server.make_database(name, template="template1")
    try:
        with LocalCloud(*flags, environment={"ATOLL_COORDINATOR_DATABASE": url}) as cloud:
            cloud.boto3_client().create_bucket(Bucket="attic")
            cloud.boto3_client().put_object(Bucket="attic", Key="k", Body=b"kept")
        assert not (folder / "metadata.db").exists()
        with LocalCloud(*flags) as cloud:
            found = cloud.boto3_client().get_object(Bucket="attic", Key="k")["Body"].read()
            assert found == b"kept"
        other = atoll("up", *flags, ATOLL_COORDINATOR_DATABASE=postgres_server.url("other"))
        assert other.returncode == 78
        assert "another database" in other.stderr
    finally:
        postgres_server.drop_database(name)
