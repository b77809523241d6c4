"""A whole cloud is watched: its honest epochs stand, and a stranger needs the chain alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.chain import require_anvil

from atoll.cli.local_cloud import LocalCloud

pytestmark = [pytest.mark.xdist_group("heavy"), pytest.mark.slow]
PATIENCE_S = 150.0
BUCKET = "atoll-epochs"
MIB = 1 << 20


def atoll(*words: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "atoll", *words, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else None


def wait_for(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.5)  # other processes have no event to wait for


def judged(folder: Path) -> list[dict[str, Any]]:
    """What the watcher found, oldest first."""
    status, found = atoll("watcher", "show", "--data", str(folder / "watchers" / "1"))
    assert status == 0
    return list(reversed(found["proposals"]))


def final_epoch(folder: Path) -> int:
    """The newest epoch that is final on the chain; 0 for none."""
    status, listed = atoll("epoch", "list", "--data", str(folder))
    final = [
        one["epoch"]
        for one in (listed if status == 0 else [])
        if one.get("settlement", {}).get("state") in ("final", "claimed")
    ]
    return max(final, default=0)


@pytest.mark.long
def test_honest_epochs_stand_and_anybody_can_check_them(tmp_path: Path) -> None:
    require_anvil()
    environment = {
        **os.environ,
        "ATOLL_CLOUD_PROFILE": "demo",
        "ATOLL_COORDINATOR_MIRROR": str(tmp_path / "mirror"),
    }
    flags = ("--ephemeral", "--nodes", "4", "--port", "0")
    with LocalCloud(*flags, environment=environment) as cloud:
        folder = Path(str(cloud.facts["data"]))
        s3 = cloud.boto3_client()
        s3.create_bucket(Bucket=BUCKET)
        s3.create_bucket(Bucket="attic")
        s3.put_object(Bucket="attic", Key="a", Body=os.urandom(12 * MIB))
        wait_for(lambda: judged(folder))
        (watcher,) = cloud.processes("watcher")
        watcher.kill()
        epoch = wait_for(lambda: final_epoch(folder))
        for source in ([], ["--from", str(tmp_path / "mirror")], ["--from", f"s3://{BUCKET}"]):
            chain_only = ("--from-chain-only", "--data", str(folder), *source)
            wait_for(
                lambda chain_only=chain_only: (
                    atoll("epoch", "recompute", str(epoch), *chain_only)[1] or {}
                ).get("agrees")
            )
        listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        assert any(one["Key"] == f"{epoch}/index" for one in listed)
        found = wait_for(lambda: judged(folder) if len(judged(folder)) >= 2 else None)
        assert {one["verdict"] for one in found[:2]} == {"honest"}
        assert not any(one["struck"] or one["problem"] for one in found[:2])
