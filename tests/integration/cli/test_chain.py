"""A whole cloud with its chain: contracts stand, the chain dies, service goes on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fixtures.chain import require_anvil

from atoll.cli.local_cloud import LocalCloud
from atoll.economy.chain.book import read_book
from atoll.economy.chain.signer import checksum_address

pytestmark = pytest.mark.xdist_group("heavy")
PATIENCE_S = 60.0
CONTRACTS = {"TestStable", "Token", "Parameters", "Treasury", "NodeRegistry", "Escrow", "Bond"}


def status_of(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "atoll", "chain", "status", "--json", "--data", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(ended.stdout))


def wait_for(folder: Path, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = status_of(folder)
        if good(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def is_settled(found: dict[str, Any]) -> bool:
    return (
        found["reachable"]
        and found["contracts"].keys() >= CONTRACTS
        and found["outbox"]["pending"] == 0
        and found["lag_blocks"] == 0
        and all(contract["code"] == "as deployed" for contract in found["contracts"].values())
    )


def chain_process(cloud: LocalCloud) -> psutil.Process:
    """The process that is the chain: the wrapper has become anvil."""
    port = str(cloud.facts["chain"]).rsplit(":", 1)[1]
    for process in cloud.supervisor.children():
        words = process.cmdline()
        if words and words[0].endswith("anvil") and port in words:
            return process
    raise AssertionError("no chain runs")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    require_anvil()
    with LocalCloud("--data", str(tmp_path / "cloud"), "--nodes", "4", "--port", "0") as running:
        yield running


def test_a_cloud_settles_and_stands_the_loss_of_its_chain(cloud: LocalCloud) -> None:
    folder = Path(cloud.facts["data"])
    before = wait_for(folder, is_settled)
    assert before["embedded"]
    assert before["chain_id"] == 31337
    chain = chain_process(cloud)
    book = read_book((folder / "contracts-31337.json").read_bytes(), 31337)
    assert {n: checksum_address(c.address) for n, c in book.items()} == {
        n: c["address"] for n, c in before["contracts"].items()
    }
    words = " ".join(chain.cmdline())
    assert "--host 127.2.1.1" in words
    assert "--accounts 0" in words
    state = folder / "chain" / "state.json"
    state.unlink(missing_ok=True)
    chain.suspend()  # it hangs rather than dies: the coordinator must not hang with it
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="meanwhile")
    s3.put_object(Bucket="meanwhile", Key="k", Body=b"service goes on" * 1000)
    assert s3.get_object(Bucket="meanwhile", Key="k")["Body"].read(15) == b"service goes on"
    chain.kill()
    after = wait_for(folder, lambda found: is_settled(found) and found != before)
    assert after["contracts"] == before["contracts"]
    assert after["accounts"].keys() == before["accounts"].keys()
    # All is there again; what customers prepaid goes onto the chain meanwhile.
    assert after["outbox"]["final"] >= before["outbox"]["final"]
    talk = subprocess.run(
        [sys.executable, "-m", "atoll", "chain", "deploy", "--data", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    deployed = json.loads(talk.stdout)["contracts"]
    assert deployed == {n: c["address"] for n, c in before["contracts"].items()}
    shown = subprocess.run(
        [sys.executable, "-m", "atoll", "chain", "status", "--data", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "as deployed" in shown
    assert "no witness" in shown


def test_a_cloud_without_a_chain_says_so_and_serves(tmp_path: Path) -> None:
    # As if the chain in Python were not installed.
    (tmp_path / "path").mkdir()
    hook = tmp_path / "path" / "sitecustomize.py"
    hook.write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('eth_tester', 'eth') else find(n, *a)\n"
    )
    environment = {
        "ATOLL_ANVIL": str(tmp_path / "nowhere"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")]),
    }
    with LocalCloud(
        *("--data", str(tmp_path / "cloud"), "--nodes", "4", "--port", "0"),
        environment=environment,
    ) as cloud:
        assert cloud.facts["chain"] == ""
        talk = cloud.talk()
        assert "no settlement" in talk
        assert "atoll chain install" in talk
        cloud.boto3_client().create_bucket(Bucket="works")
        ended = subprocess.run(
            [sys.executable, "-m", "atoll", "chain", "status", "--data", cloud.facts["data"]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 78
        assert "chain.url" in ended.stderr
