"""The whole product as one: what it says when nodes are too few, many clients at once, the demo."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.status import fetch_status

GATEWAY_RSS_BYTES_MAX = 300 << 20
NODE_RSS_BYTES_MAX = 100 << 20
CLIENTS = 100
WAIT_S_MAX = 30
MANIFESTS_S = 3
EARNERS = 8
"""Nodes of the demo's that nobody kills: they have earned something in the end."""
ONE_TRY = Config(retries={"max_attempts": 1}, max_pool_connections=CLIENTS)


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", "12", "--port", "0") as running:
        yield running


def pieces_on_nodes(cloud: LocalCloud) -> int:
    """What the nodes themselves count, by their own health pages."""
    total = 0
    for node in fetch_status(Path(str(cloud.facts["data"]))).nodes:
        with urllib.request.urlopen(f"{node.address}/v1/health") as answer:
            total += json.load(answer)["pieces"]
    return total


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not so after {WAIT_S_MAX} s"
        time.sleep(0.2)


def test_too_few_nodes_is_a_503_that_says_what_is_missing() -> None:
    with LocalCloud("--ephemeral", "--nodes", "1", "--port", "0") as running:
        s3 = running.boto3_client(config=ONE_TRY)
        s3.create_bucket(Bucket="lonely")
        for size in (1, 100_000):
            with pytest.raises(ClientError) as refused:
                s3.put_object(Bucket="lonely", Key="k", Body=b"x" * size)
            answer = refused.value.response
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
            assert "needs" in answer["Error"]["Message"]
            assert "1 is alive" in answer["Error"]["Message"]
        assert s3.list_objects_v2(Bucket="lonely")["KeyCount"] == 0


@pytest.mark.xdist_group("heavy")
def test_a_hundred_clients_at_once_in_bounded_memory(cloud: LocalCloud) -> None:
    s3 = cloud.boto3_client(config=ONE_TRY.merge(Config(retries={"max_attempts": 6})))
    s3.create_bucket(Bucket="crowd")
    body, problems = os.urandom(3 << 20), list[Any]()
    peak: dict[str, int] = {}

    def customer(number: int) -> None:
        try:
            s3.put_object(Bucket="crowd", Key=f"c{number}", Body=body)
            if s3.get_object(Bucket="crowd", Key=f"c{number}")["Body"].read() != body:
                problems.append(f"c{number} differs")
        except Exception as error:  # noqa: BLE001 — whatever went wrong is the finding
            problems.append(error)

    crowd = [threading.Thread(target=customer, args=(n,)) for n in range(CLIENTS)]
    for member in crowd:
        member.start()
    while any(member.is_alive() for member in crowd):
        for use in cloud.uses():
            peak[use.kind] = max(peak.get(use.kind, 0), use.rss_bytes)
        crowd[0].join(0.2)
        for member in crowd:
            member.join(0.02)
    assert not problems, problems[:3]
    assert peak["gateway"] <= GATEWAY_RSS_BYTES_MAX, f"{peak['gateway'] >> 20} MiB"
    assert peak["node"] <= NODE_RSS_BYTES_MAX, f"{peak['node'] >> 20} MiB"


@pytest.mark.xdist_group("heavy")
def test_what_a_broken_off_upload_left_on_nodes_is_deleted(cloud: LocalCloud) -> None:
    s3 = cloud.boto3_client(config=ONE_TRY)
    s3.create_bucket(Bucket="torn")

    # What came before must have reached its manifests, which are pieces too.
    time.sleep(MANIFESTS_S)
    before = pieces_on_nodes(cloud)
    link = urlsplit(s3.generate_presigned_url("put_object", Params={"Bucket": "torn", "Key": "k"}))
    line = http.client.HTTPConnection(link.netloc)
    line.putrequest("PUT", f"{link.path}?{link.query}")
    line.putheader("content-length", str(80 << 20))
    line.endheaders()
    for _ in range(70):
        line.send(bytes(1 << 20))
    # The first segment is whole and lies on nodes; then the customer's cable is cut.
    wait_for(lambda: pieces_on_nodes(cloud) > before)
    line.close()
    wait_for(lambda: pieces_on_nodes(cloud) <= before)
    assert s3.list_objects_v2(Bucket="torn")["KeyCount"] == 0


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
def test_the_demo_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "atoll", "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=400,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    result = lines[-1]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert result["held"]
    assert len(result["checks"]) >= 14
    assert result["repair"]["pieces"] > 0
    settled = result["settled"]
    assert len(settled["balances"]) >= EARNERS
    for one in settled["balances"]:
        assert one["chain_micro"] == one["published_micro"], one
    total = sum(one["chain_micro"] for one in settled["balances"])
    assert total == settled["released_micro"] > 0
    assert [one["agrees"] for one in result["recompute"]] == [True, True]
    assert {one["content"] for one in result["recompute"]} == {settled["content"]}
    assert all(one["chain_micro"] == one["books_micro"] for one in result["books"])
    slash = result["slash"]
    order = ("repair_pico", "customers_pico", "reporter_pico", "insurance_pico")
    assert sum(slash[name] for name in order) == slash["taken_pico"] > 0
    assert slash["customers_pico"] > 0
    fall = result["fall"]
    assert fall["failed"] > 0
    # Perhaps nothing was charged for the node any more; else the customer has a part back.
    assert fall["returned_pico"] <= fall["charged_pico"]
    assert (fall["returned_pico"] > 0) == (fall["charged_pico"] > 0)
    pays = [one["dropper_pico"] for one in result["epochs"]]
    assert 2 * pays[-1] < max(pays)
