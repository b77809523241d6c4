"""The parts one by one, as on several machines: a coordinator, joined nodes, an own gateway."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from atoll.client import Client, Options
from atoll.core.errors import AtollError, Kind

WAIT_S = 30.0
ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Parts:
    """Starts parts and stops those that still run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "atoll", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )

    def ok(self, *words: object) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def start(self, *words: object) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"log-{len(self.running)}").open("wb")
        child = subprocess.Popen(
            [sys.executable, "-m", "atoll", *map(str, words)], stdout=log, stderr=log
        )
        log.close()
        self.running.append(child)
        return child

    def stop(self, child: "subprocess.Popen[bytes]") -> int:
        child.send_signal(signal.SIGTERM)
        return child.wait(timeout=WAIT_S)

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("log-*")))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    yield parts
    for child in parts.running:
        if child.poll() is None:
            parts.stop(child)


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.05)  # another process has no event to wait for


def test_a_customers_own_gateway_over_tls(parts: Parts, tmp_path: Path) -> None:
    home, own = tmp_path / "coordinator", tmp_path / "gateway"
    port, s3_port = free_port(), free_port()
    place = ("--data", home, "--host", "0.0.0.0", "--port", port, "--page-port", 0)
    settings = ("--profile", "local")
    first = parts.start("coordinator", "run", *place, *settings)
    wait_for_port(port)
    url = parts.ok("coordinator", "show", "--data", home, "--json")["url"]
    assert url.startswith(f"https://0.0.0.0:{port}#")
    url = url.replace("0.0.0.0", "127.0.0.1")

    for number in (1, 2, 3, 4):
        offer = parts.ok(
            "join", url, "--data", tmp_path / f"node{number}", "--host", f"127.0.{number}.1",
            "--port", port + 1, "--capacity", "1GB", "--operator", f"provider-{number}",
            "--site", f"attic-{number}", "--region", "eu-central", "--country", "de", "--json",
        )  # fmt: skip
        assert offer["reached"] is True
        assert offer["capacity"] == 10**9
        parts.start("node", "run", "--data", tmp_path / f"node{number}")

    key = parts.ok("gateway", "show", "--data", own, "--json")["key"]
    asked = ("gateway", "run", "--data", own, "--coordinator", url, "--port", s3_port)
    parts.ok("coordinator", "trust-gateway", key, "--data", home)
    access = parts.ok("coordinator", "create-key", "customer", "--data", home, "--json")
    assert parts.stop(first) == 0
    parts.start("coordinator", "run", *place, *settings)
    wait_for_port(port)
    parts.start(*asked, "--workers", 1)
    wait_for_port(s3_port)

    options = Options(attempts=20, backoff_s=0.2, backoff_s_max=1.0)
    endpoint = f"http://127.0.0.1:{s3_port}"
    with Client(endpoint, access["access_key"], access["secret_key"], options=options) as client:
        client.make_bucket("attic")
        body = os.urandom(2 << 20)
        client.put_bytes("attic", "photo", body)
        assert client.get_bytes("attic", "photo") == body
    phrase = parts.ok("gateway", "phrase", "--data", own)
    assert len(phrase.split()) == 12
    assert parts.run("gateway", "phrase", "--data", own).returncode == 66
    assert phrase.strip() not in parts.logs()
    assert access["secret_key"] not in parts.logs()


def test_a_gateway_beside_its_coordinator_runs_several_workers(
    parts: Parts, tmp_path: Path
) -> None:
    home, port, s3_port = tmp_path / "coordinator", free_port(), free_port()
    parts.start("coordinator", "run", "--data", home, "--port", port, "--page-port", 0)
    wait_for_port(port)
    gateway = parts.start("gateway", "run", "--data", home, "--port", s3_port, "--workers", 2)
    wait_for_port(s3_port)
    workers = psutil.Process(gateway.pid).children()
    assert len(workers) == 2
    taken = parts.run("gateway", "run", "--data", home, "--port", s3_port)
    assert (taken.returncode, str(s3_port) in taken.stderr) == (69, True)
    access = json.loads((home / "secrets" / "access.json").read_text())
    endpoint, patient = f"http://127.0.0.1:{s3_port}", Options(attempts=10)
    with Client(endpoint, **access, options=patient) as client:
        client.make_bucket("attic")
        workers[0].kill()
        assert [bucket.name for bucket in client.list_buckets()] == ["attic"]
    with Client(endpoint, **access, options=Options(attempts=1)) as client:
        with pytest.raises(AtollError) as refused:
            client.put_bytes("attic", "key", b"no node has joined")
        assert refused.value.kind in (Kind.UNREACHABLE, Kind.OVERLOADED)
    assert parts.stop(gateway) == 0
    _, left = psutil.wait_procs(workers, timeout=WAIT_S)
    assert not left


def test_an_untrusted_gateway_is_refused(parts: Parts, tmp_path: Path) -> None:
    port, s3_port = free_port(), free_port()
    home = tmp_path / "coordinator"
    parts.start("coordinator", "run", "--data", home, "--port", port, "--page-port", 0)
    wait_for_port(port)
    parts.start(
        "gateway", "run", "--data", tmp_path / "gateway", "--workers", 1, "--port", s3_port,
        "--coordinator", f"http://127.0.0.1:{port}",
    )  # fmt: skip
    wait_for_port(s3_port)
    with (
        Client(
            f"http://127.0.0.1:{s3_port}", "KEY", "SECRET", options=Options(attempts=1)
        ) as client,
        pytest.raises(AtollError),
    ):
        client.list_buckets()


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("join", "http://203.0.113.7:9001"), 78, "fingerprint"),
        (("join", "nonsense"), 78, "no address"),
        (
            ("join", "http://127.0.0.1:1", "--operator", "o", "--site", "s", "--region", "r"),
            64,
            "country",
        ),
        (("node", "run"), 78, "node.operator is not set"),
        (("gateway", "run"), 78, "no coordinator"),
        (("coordinator", "trust-gateway", "xyz"), 78, "no coordinator"),
        (("coordinator", "show"), 78, "no coordinator"),
    ],
)
def test_what_is_missing_is_said(
    parts: Parts, tmp_path: Path, words: tuple[str, ...], status: int, text: str
) -> None:
    done = parts.run(*words, "--data", tmp_path / "data")
    assert done.returncode == status, done.stderr
    assert text in done.stderr
    assert "hint:" in done.stderr


def test_a_node_that_cannot_be_reached_is_told_so(parts: Parts, tmp_path: Path) -> None:
    port = free_port()
    parts.start("coordinator", "run", "--data", tmp_path / "c", "--port", port, "--page-port", 0)
    wait_for_port(port)
    done = parts.run(
        "join", f"http://127.0.0.1:{port}", "--data", tmp_path / "n", "--port", free_port(),
        "--advertise", "127.0.9.9", "--operator", "o", "--site", "s", "--region", "r",
        "--country", "DE",
    )  # fmt: skip
    assert done.returncode == 69
    assert "cannot be reached at http://127.0.9.9" in done.stderr
    assert not (tmp_path / "n" / "atoll.toml").exists()


@pytest.mark.parametrize("unit", sorted(p.name for p in (ROOT / "deploy").glob("*.service")))
def test_units_are_valid(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    # The service's program need not be installed where it is checked: any program does.
    text = (ROOT / "deploy" / unit).read_text().replace("/usr/bin/env atoll", "/usr/bin/env true")
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""
