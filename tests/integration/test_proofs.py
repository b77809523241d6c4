"""Real processes: nodes prove, verifiers judge, a disk spoilt behind its node's back is told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.cli.local_cloud import LocalCloud

NODES = 5
SLOT_S = 4
WAIT_S_MAX = 120
MIB = 1 << 20


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    environment = {**os.environ, "ATOLL_CLOUD_PROFILE": "demo"}
    flags = ("--ephemeral", "--nodes", str(NODES), "--port", "0")
    with LocalCloud(*flags, environment=environment) as running:
        s3 = running.boto3_client()
        s3.create_bucket(Bucket="reef")
        for number in range(8):
            s3.put_object(Bucket="reef", Key=f"coral{number}", Body=os.urandom(2 * MIB))
        yield running


def atoll(*words: str, data: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    flags = ("--data", str(data)) if data is not None else ()
    return subprocess.run(
        [sys.executable, "-m", "atoll", *words, *flags], capture_output=True, check=False
    )


def folder_of(cloud: LocalCloud) -> Path:
    return Path(str(cloud.facts["data"]))


def shown(cloud: LocalCloud, *words: str) -> dict[str, Any]:
    answer = atoll("proof", "show", "--json", *words, data=folder_of(cloud))
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {WAIT_S_MAX} s"
        time.sleep(1)  # other processes have no event to wait for
    return found


def told_of(cloud: LocalCloud, node: str) -> bool:
    """Whether a node failed samples or said itself that it lost pieces."""
    answer = atoll("node", "health", node, "--json", data=folder_of(cloud))
    assert answer.returncode == 0, answer.stderr
    health = json.loads(answer.stdout)
    return bool(health["samples_failed"]) or any(
        event["kind"] == "amnesty" for event in health["history"]
    )


def all_pass(cloud: LocalCloud) -> dict[str, Any] | None:
    """A slot in which every node passed, if there was one lately."""
    found = shown(cloud, "--limit", "40")
    slots: dict[int, set[str]] = {}
    for one in found["results"]:
        if one["outcome"] == "passed":
            slots.setdefault(one["slot"], set()).add(one["node"])
    return found if any(len(nodes) == NODES for nodes in slots.values()) else None


@pytest.mark.slow
def test_every_node_proves_and_the_proof_needs_no_server(cloud: LocalCloud, tmp_path: Path) -> None:
    found = wait_for(lambda: all_pass(cloud))
    node = next(one["node"] for one in found["results"] if one["outcome"] == "passed")
    file = tmp_path / "proof"
    answer = atoll("proof", "export", "--node", node[:12], "-o", str(file), data=folder_of(cloud))
    assert answer.returncode == 0, answer.stderr
    checked = atoll("proof", "verify", str(file), "--json")
    assert checked.returncode == 0, checked.stderr
    (proof,) = json.loads(checked.stdout)["proofs"]
    assert proof["node"] == node
    assert proof["samples"] == 32
    assert not proof["failed"]
    assert proof["coordinator_key"] == found["coordinator_key"]
    assert len(proof["signers"]) >= proof["needed"] == 2
    data = file.read_bytes()
    for spoilt in (data[:-100], data[:5000] + b"?" + data[5001:], b"not a proof"):
        file.write_bytes(spoilt)
        refused = atoll("proof", "verify", str(file), "--json")
        assert refused.returncode == 65
        assert json.loads(refused.stderr)["error"]["kind"] == "corrupt"
    whole = atoll(
        "proof", "export", "--object", "s3://reef/coral1", "-o", str(file), data=folder_of(cloud)
    )
    assert whole.returncode == 0, whole.stderr
    facts = json.loads(atoll("proof", "verify", str(file), "--json").stdout)
    assert facts["object_pieces_on_proven_nodes"] == facts["object_pieces"] > 0


@pytest.mark.long
@pytest.mark.slow
def test_proofs_go_on_without_one_of_three_verifiers(cloud: LocalCloud) -> None:
    wait_for(lambda: all_pass(cloud))
    victim = next(p for p in cloud.processes("verifier"))
    victim.send_signal(signal.SIGSTOP)
    try:
        slot = shown(cloud, "--limit", "1")["slot"]
        wait_for(
            lambda: any(
                one["slot"] > slot + 3 and one["outcome"] == "passed"
                for one in shown(cloud, "--limit", "40")["results"]
            )
        )
    finally:
        victim.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_bytes_spoilt_on_a_disk_are_told_and_named(cloud: LocalCloud) -> None:
    wait_for(lambda: all_pass(cloud))
    assert not told_of(cloud, "2"), "nothing is wrong yet"
    # Before the damage: read after it, a slot that turned over meanwhile would not be looked at.
    began = shown(cloud, "--limit", "1")["slot"]
    log = max((folder_of(cloud) / "nodes" / "2" / "store" / "logs").iterdir())
    with log.open("r+b") as file:
        file.seek(MIB)
        file.write(os.urandom(3 * MIB))

    def failed() -> list[dict[str, Any]]:
        found = shown(cloud, "--failed", "--limit", "20")["results"]
        return [one for one in found if one["slot"] >= began]

    # The node may notice its disk itself before a sample draws what was spoilt: then it says so.
    wait_for(lambda: told_of(cloud, "2"))
    results = failed()
    assert len({one["node"] for one in results}) <= 1
    assert all(one["slot"] - began < 40 for one in results)
    assert not results or any(one["pieces"] for one in results)
