"""A whole cloud settles epochs: its coordinator is killed, a stranger checks them."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from atoll.cli.local_cloud import LocalCloud
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import LedgerService
from atoll.economy.settlement.document import content_hash, read_index
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase

pytestmark = pytest.mark.xdist_group("heavy")
PATIENCE_S = 90.0
PREPAID_PICO = 10**12
EPOCH_S = 8
"""Two slots of the profile for demonstrations."""
CORRUPT = 65


def atoll(*words: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "atoll", "epoch", *words, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else None


def wait_published(folder: Path, epoch: int) -> None:
    """Wait for the last file of an epoch's document."""
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "epochs" / str(epoch) / "index").exists():
        assert time.monotonic() < deadline, f"epoch {epoch} not after {PATIENCE_S} s"
        time.sleep(0.2)  # other processes have no event to wait for


def wait_shown(folder: Path, epoch: int) -> None:
    """Wait until the coordinator says that a document is complete: its files come first."""
    deadline = time.monotonic() + PATIENCE_S
    while atoll("show", str(epoch), "--data", str(folder))[0]:
        assert time.monotonic() < deadline, f"epoch {epoch} is not shown"


async def prepay(folder: Path) -> None:
    """Enter what a customer paid in, as his coordinator does."""
    database = SqlDatabase(f"sqlite:///{folder}/metadata.db")
    try:
        rows = await database.read(
            lambda c: c.exec_driver_sql("SELECT DISTINCT account FROM bucket").fetchall()
        )
        (customer,) = (bytes(row[0]) for row in rows)
        operator = Posting(Account.of(AccountKind.OPERATOR), PREPAID_PICO)
        prepaid = Posting(Account.of(AccountKind.CUSTOMER, customer), -PREPAID_PICO)
        entry = Entry(b"deposit", "deposit", b"by hand", (operator, prepaid))
        await LedgerService(SystemClock(), database).post(entry)
    finally:
        await database.close()


async def ledger_of(folder: Path) -> dict[str, int]:
    """What all accounts have, by kind; the ledger is checked in whole."""
    database = SqlDatabase(f"sqlite:///{folder}/metadata.db")
    try:
        ledger = LedgerService(SystemClock(), database)
        await ledger.check()
        return await ledger.sums()
    finally:
        await database.close()


@pytest.mark.slow
def test_epochs_of_a_coordinator_that_is_killed(tmp_path: Path) -> None:
    environment = {
        "ATOLL_COORDINATOR_EPOCH_S": str(EPOCH_S),
        "ATOLL_CLOUD_PROFILE": "demo",
        "ATOLL_CLOUD_ALLOWANCE_EURO": "0",
    }
    flags = ("--ephemeral", "--nodes", "5", "--port", "0")
    with LocalCloud(*flags, environment={**os.environ, **environment}) as cloud:
        folder = Path(str(cloud.facts["data"]))
        s3 = cloud.boto3_client()
        s3.create_bucket(Bucket="attic")
        s3.put_object(Bucket="attic", Key="a", Body=os.urandom(12 << 20))
        asyncio.run(prepay(folder))
        wait_published(folder, 1)
        for process in cloud.processes("coordinator"):
            process.kill()
        wait_published(folder, 2)
        sums = asyncio.run(ledger_of(folder))
        owed = ("customer", "provider", "held", "bucket", "remainder")
        assert sum(sums.get(kind, 0) for kind in owed) == PREPAID_PICO
        wait_shown(folder, 2)
        status, found = atoll("recompute", "2", "--data", str(folder))
        assert (status, found["agrees"], found["previous_read"]) == (0, True, True)
        mirror = tmp_path / "mirror"
        shutil.copytree(folder / "epochs", mirror)
    status, shown = atoll("show", "2", "--from", str(mirror))
    assert shown["paid_pico"] + shown["refund_pico"] > 0, "what was stored was metered"
    index = read_index((mirror / "2" / "index").read_bytes())
    assert index.previous == content_hash((mirror / "1" / "index").read_bytes())
    frame = next(entry for entry in index.chunks if entry.section == "frame")
    path = mirror / "chunks" / frame.sha256.hex()
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    status, found = atoll("recompute", "2", "--from", str(mirror))
    assert (status, found["agrees"]) == (CORRUPT, False)
    assert "(frame, " in found["differences"][0]
