"""A whole cloud is paid for what is read of it, to the byte, whoever lies and whoever is killed."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.egress import Reader, read_bytes_of
from tests.integration.test_epochs import atoll, wait_published, wait_shown

from atoll.cli.local_cloud import LocalCloud
from atoll.core.errors import AtollError, Kind
from atoll.core.receipts import parse_head
from atoll.economy.settlement.document import read, read_index
from atoll.node.receipts.model import GATEWAY_UNPAID_BYTES_MAX

pytestmark = [pytest.mark.xdist_group("heavy"), pytest.mark.slow]
PATIENCE_S = 60.0
EPOCH_S = 8
SIZES = {"large": 12 << 20, "middle": 300_000, "tiny": 5_000}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    environment = {
        "ATOLL_COORDINATOR_EPOCH_S": str(EPOCH_S),
        "ATOLL_CLOUD_PROFILE": "demo",
        "ATOLL_CLOUD_WATCHERS": "0",
    }
    flags = ("--ephemeral", "--nodes", "5", "--port", "0")
    with LocalCloud(*flags, environment={**os.environ, **environment}) as made:
        s3 = made.boto3_client()
        s3.create_bucket(Bucket="attic")
        for key, size in SIZES.items():
            s3.put_object(Bucket="attic", Key=key, Body=os.urandom(size))
        yield made


def query(cloud: LocalCloud, sql: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(f"file:{cloud.facts['data']}/metadata.db?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def counted(cloud: LocalCloud) -> int:
    """What all lines come to, settled and open."""
    ((total,),) = query(cloud, "SELECT coalesce(sum(byte_count), 0) FROM read_line")
    return int(total)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)  # other processes have no event to wait for


def read_all(cloud: LocalCloud, times: int = 1) -> int:
    """Read every object; return the bytes of pieces that this takes where no read is doubled."""
    s3 = cloud.boto3_client()
    for _ in range(times):
        for key, size in SIZES.items():
            assert len(s3.get_object(Bucket="attic", Key=key)["Body"].read()) == size
    return times * sum(read_bytes_of(size) for size in SIZES.values())


def signed(cloud: LocalCloud) -> int:
    """What gateways have signed for, tab by tab, by the newest receipt of each."""
    newest: dict[tuple[int, bytes], int] = {}
    rows = query(cloud, "SELECT alias, tab, receipt FROM read_receipt ORDER BY sequence")
    for alias, tab, receipt in rows:
        newest[alias, tab] = parse_head(receipt).byte_count
    return sum(newest.values())


def test_bytes_read_are_bytes_in_the_epochs_to_the_byte(cloud: LocalCloud, tmp_path: Path) -> None:
    folder = Path(str(cloud.facts["data"]))
    before = counted(cloud)
    expected = read_all(cloud, 3)
    # One range of a hundred bytes takes one unit of one node.
    s3 = cloud.boto3_client()
    part = s3.get_object(Bucket="attic", Key="large", Range="bytes=5000000-5000099")["Body"].read()
    assert len(part) == 100
    expected += read_bytes_of(SIZES["large"], 5_000_000, 5_000_100)
    wait_for(lambda: counted(cloud) - before >= expected, "what was read is not settled")
    wait_for(lambda: counted(cloud) == signed(cloud), "what is settled is not what was signed")
    # A node that was late may have had a rival: then more was read, and that is paid as well.
    assert counted(cloud) - before in range(expected, expected + expected // 5)

    wait_for(
        lambda: not query(cloud, "SELECT 1 FROM read_line WHERE epoch = 0"), "no epoch takes it"
    )
    (last,), *_ = query(cloud, "SELECT max(epoch) FROM read_line")
    wait_published(folder, last)
    wait_shown(folder, last)
    shutil.copytree(folder / "epochs", tmp_path / "mirror")
    published = 0
    for epoch in range(1, last + 1):
        status, found = atoll("recompute", str(epoch), "--from", str(tmp_path / "mirror"))
        assert (status, found["agrees"]) == (0, True)
        published += egress_of(tmp_path / "mirror", epoch)
    assert published == counted(cloud)

    epoch, evidence, count = query(
        cloud, "SELECT epoch, evidence, byte_count FROM read_line WHERE epoch > 0"
    )[0]
    explained = explain(folder, evidence.hex())
    assert (explained["epoch"], explained["piece_bytes"]) == (epoch, count)
    assert explained["kind"] == "egress"
    assert all(one["gateway_signed"] and one["node_signed"] for one in explained["reads"])
    assert sum(one["byte_count"] for one in explained["reads"]) == count, "the only customer here"


def egress_of(mirror: Path, epoch: int) -> int:
    """What the lines of a published document come to, read by its own words."""
    body = (mirror / str(epoch) / "index").read_bytes()
    index = read_index(body)
    chunks = [(mirror / "chunks" / one.sha256.hex()).read_bytes() for one in index.chunks]
    return sum(line.byte_count for line in read(body, chunks).content.inputs.egress)


def explain(folder: Path, evidence: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "atoll", "receipt", "explain", evidence]
    ended = subprocess.run(
        [*command, "--data", str(folder), "--json"], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_a_lying_node_gets_nothing(cloud: LocalCloud) -> None:
    """It has a true order and its own key, and no word of a gateway for more than it served."""
    wait_for(lambda: counted(cloud) == signed(cloud), "something is under way")
    before = counted(cloud)

    async def lie() -> None:
        async with Reader(cloud) as reader:
            grant = (await reader.grants("attic", "large"))[0]
            for claim in reader.lies(grant):
                answer = await reader.claim(grant, claim)
                assert answer.byte_counts == [0], answer

    asyncio.run(lie())
    assert counted(cloud) == before


def test_a_gateway_that_signs_nothing_is_cut_off(cloud: LocalCloud) -> None:
    """By a true node, at the allowance; as soon as it signs it may go on, and all of it is paid."""
    before = counted(cloud)

    async def read_on() -> int:
        async with Reader(cloud) as reader:
            refused = await reader.read_until_refused("attic", "large")
            assert refused.kind is Kind.UNPAID
            served = reader.read_bytes
            assert GATEWAY_UNPAID_BYTES_MAX < served <= GATEWAY_UNPAID_BYTES_MAX * 9 // 8
            assert counted(cloud) == before, "nobody signed"
            await reader.sign()
            await reader.read_once("attic", "large")
            await reader.sign()
            return reader.read_bytes

    total = asyncio.run(read_on())
    wait_for(lambda: counted(cloud) - before == total, "what was signed at last is not settled")


def test_what_a_kill_loses_is_within_the_allowance(cloud: LocalCloud) -> None:
    """A node's receipts survive it; a gateway leaves unsigned what it read in its last second."""
    wait_for(lambda: counted(cloud) == signed(cloud), "something is under way")
    before = counted(cloud)
    expected = read_all(cloud)
    for process in cloud.processes("node")[:2]:
        process.kill()
    wait_for(lambda: is_served(cloud), "nodes do not come back")
    expected += read_all(cloud)
    for process in cloud.processes("gateway"):
        process.kill()
    wait_for(lambda: is_served(cloud), "gateways do not come back")
    expected += read_all(cloud)
    lost_max = 2 * sum(read_bytes_of(size) for size in SIZES.values())
    wait_for(
        lambda: counted(cloud) - before >= expected - lost_max,
        "more is lost than was read in the last second",
    )
    wait_for(lambda: waiting(cloud) == 0, "receipts stay at nodes")


def waiting(cloud: LocalCloud) -> int:
    folder = Path(str(cloud.facts["data"])) / "nodes"
    return sum(1 for _ in folder.glob("*/**/receipts/*"))


def is_served(cloud: LocalCloud) -> bool:
    s3 = cloud.boto3_client()
    try:
        return len(s3.get_object(Bucket="attic", Key="tiny")["Body"].read()) == SIZES["tiny"]
    except Exception:  # noqa: BLE001 - whatever boto3 makes of a door that is shut
        return False


def test_reads_of_customers_name_no_reader(cloud: LocalCloud) -> None:
    """What stands in read orders instead of a payer is different in each."""

    async def tags() -> set[bytes]:
        async with Reader(cloud) as reader:
            return {
                grant.order[108:124]
                for _ in range(3)
                for grant in await reader.grants("attic", "middle")
            }

    assert len(asyncio.run(tags())) == 12
    with pytest.raises(AtollError):
        asyncio.run(absent(cloud))


async def absent(cloud: LocalCloud) -> None:
    async with Reader(cloud) as reader:
        await reader.grants("attic", "nothing")
