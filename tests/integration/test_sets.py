"""Real processes: what a killed gateway leaves on the nodes vanishes, and both sides agree."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.node.pieces import ask_as_owner
from atoll.cli.status import fetch_status
from atoll.core.messages.sets import NodeSet

NODES = 5
AGE_S = 4
WAIT_S_MAX = 60
MIB = 1 << 20
ANNOUNCED_BYTES = 200 * MIB
SENT_BYTES = 80 * MIB
"""More than one segment: its pieces are durable before the gateway dies."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not so after {WAIT_S_MAX} s"
        time.sleep(0.3)  # other processes have no event to wait for


def pieces_on_nodes(folder: Path) -> int:
    """What the nodes themselves count, by their own health pages."""
    total = 0
    for node in fetch_status(folder).nodes:
        with urllib.request.urlopen(f"{node.address}/v1/health") as answer:
            total += json.load(answer)["pieces"]
    return total


def sets_of(folder: Path) -> list[NodeSet]:
    return asyncio.run(ask_as_owner(folder))


def half_an_upload(cloud: LocalCloud) -> http.client.HTTPConnection:
    """Begin a PUT of which only a part is ever sent."""
    url = cloud.boto3_client().generate_presigned_url(
        "put_object", Params={"Bucket": "attic", "Key": "never"}
    )
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    connection.putrequest("PUT", f"{parts.path}?{parts.query}")
    connection.putheader("Content-Length", str(ANNOUNCED_BYTES))
    connection.endheaders()
    block = os.urandom(MIB)
    for _ in range(SENT_BYTES // MIB):
        connection.send(block)
    return connection


@pytest.mark.slow
def test_pieces_of_a_gateway_killed_in_mid_upload_vanish() -> None:
    environment = {"ATOLL_COORDINATOR_SURPLUS_AGE_S": str(AGE_S)}
    flags = ("--ephemeral", "--nodes", str(NODES), "--port", "0")
    with LocalCloud(*flags, environment={**os.environ, **environment}) as cloud:
        folder = Path(str(cloud.facts["data"]))
        s3 = cloud.boto3_client()
        s3.create_bucket(Bucket="attic")
        body = os.urandom(3 * MIB)
        for number in range(6):
            s3.put_object(Bucket="attic", Key=f"kept{number}", Body=body)
        s3.delete_object(Bucket="attic", Key="kept0")
        upload = half_an_upload(cloud)
        wait_for(lambda: pieces_on_nodes(folder) > fetch_status(folder).pieces + 3)
        for process in cloud.processes("gateway"):
            os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            upload.close()

        def agreed() -> bool:
            sets = sets_of(folder)
            return all(
                one.agreed and one.report is not None and one.report.held == one.counted
                for one in sets
            )

        wait_for(lambda: pieces_on_nodes(folder) == fetch_status(folder).pieces and agreed())
        sets = sets_of(folder)
        status = fetch_status(folder)
        assert len(sets) == NODES
        assert sum(one.counted.piece_bytes for one in sets) == status.stored_bytes
        assert sum(one.counted.pieces for one in sets) == status.pieces
        assert not any(one.deleting for one in sets)
        assert status.sets.nodes_agreed == NODES
        for number in range(1, 6):
            assert s3.get_object(Bucket="attic", Key=f"kept{number}")["Body"].read() == body

        shown = subprocess.run(
            [sys.executable, "-m", "atoll", "node", "pieces", "--data", str(folder), "--json"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        lines = [json.loads(line) for line in shown.stdout.splitlines()]
        assert [line["alias"] for line in lines] == list(range(1, NODES + 1))
        assert all(line["agreed"] for line in lines)
