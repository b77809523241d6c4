"""Real processes: a node shrinks and another leaves under load; nothing is lost, all is told."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.status import fetch_status

NODES = 11
WAIT_S_MAX = 120
SHRUNK_BYTES = 2 << 20


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", str(NODES), "--port", "0") as running:
        yield running


def atoll(cloud: LocalCloud, *words: str) -> list[dict[str, Any]]:
    """Run a command about a node of the cloud; return its JSON lines."""
    done = subprocess.run(
        [
            sys.executable, "-m", "atoll", "node", *words,
            "--data", str(cloud.facts["data"]), "--json",
        ],
        capture_output=True, text=True, timeout=WAIT_S_MAX, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Load:
    """A customer who writes and reads all the time, and forgets nothing."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._s3 = cloud.boto3_client()
        self._s3.create_bucket(Bucket="load")
        self._stop = threading.Event()
        self.digests: dict[str, str] = {}
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        sizes = (3_000, 90_000, 1_500_000)
        while not self._stop.is_set():
            number = len(self.digests)
            body = os.urandom(sizes[number % len(sizes)])
            key = f"k{number}"
            try:
                self._s3.put_object(Bucket="load", Key=key, Body=body)
                self.digests[key] = hashlib.sha256(body).hexdigest()
                old = f"k{number // 2}"
                if self.read(old) != self.digests[old]:
                    self.failures.append(f"{old} reads otherwise")
            except Exception as failure:  # noqa: BLE001 - whatever a customer sees is a failure
                self.failures.append(f"{key}: {failure}")
            time.sleep(0.05)

    def read(self, key: str) -> str:
        body = self._s3.get_object(Bucket="load", Key=key)["Body"].read()
        return hashlib.sha256(body).hexdigest()


def pieces_of(cloud: LocalCloud, number: int) -> int:
    nodes = fetch_status(Path(str(cloud.facts["data"]))).nodes
    return next(node.pieces for node in nodes if f"127.0.{number}.1" in node.address)


@pytest.mark.slow
def test_a_node_shrinks_and_another_leaves_under_load(cloud: LocalCloud) -> None:
    with Load(cloud) as load:
        deadline = time.monotonic() + WAIT_S_MAX
        while len(load.digests) < 30 and time.monotonic() < deadline:
            time.sleep(0.2)
        (before,) = atoll(cloud, "show", "--node", "3")
        assert before["used_bytes"] > SHRUNK_BYTES, "there is something to move"

        shrinking = atoll(cloud, "set", "--capacity", "2MiB", "--watch", "--node", "3")
        (small,) = atoll(cloud, "show", "--node", "3")
        assert small["used_bytes"] <= SHRUNK_BYTES
        assert small["changed"] == ["capacity_bytes"]
        assert small["refuses"], "nothing new comes"
        reasons = {line["reason"] for line in shrinking}
        assert reasons <= {"shrink", ""}
        assert all(0 <= line["percent"] <= 100 for line in shrinking)

        leaving = atoll(cloud, "exit", "--watch", "--node", "4")
        final = leaving[-1]
        assert final["exiting"]
        assert final["progress"]["state"] == "done"
        assert len(final["statements"]) == 1
        assert final["used_bytes"] == 0

        (grown,) = atoll(cloud, "set", "--reset", "capacity", "--node", "3")
        assert grown["changed"] == []
        (priced,) = atoll(cloud, "set", "--price", "1500000", "--tier", "pro", "--node", "5")
        assert priced["terms"]["price_micro"] == 1_500_000

    assert load.failures == []
    for key, digest in load.digests.items():
        assert load.read(key) == digest
    assert pieces_of(cloud, 4) == 0
    nodes = fetch_status(Path(str(cloud.facts["data"]))).nodes
    tiers = {node.address.split(".")[2]: node.tier for node in nodes}
    assert tiers["5"] == "pro", "coordinators hear of it at once"


@pytest.mark.slow
def test_an_exit_called_off_keeps_what_is_left_and_a_calendar_is_told(cloud: LocalCloud) -> None:
    (begun,) = atoll(cloud, "exit", "--node", "6")
    assert begun["exiting"]
    (stays,) = atoll(cloud, "exit", "--cancel", "--node", "6")
    assert not stays["exiting"]
    assert stays["progress"]["reason"] == ""
    (told,) = atoll(cloud, "calendar", "mon-fri 18:00-23:00 Europe/Berlin", "--node", "6")
    assert told["calendar"] == "mon-fri 18:00-23:00; zone Europe/Berlin"
    assert told["online_share"] == pytest.approx(25 / 168)
    (absent,) = atoll(cloud, "calendar", "--absent", "2026-12-24..2027-01-02", "--node", "6")
    assert absent["calendar"].endswith("absent 2026-12-24..2027-01-02")
    (always,) = atoll(cloud, "calendar", "--always", "--node", "6")
    assert always["calendar"] == ""
