"""Locks with real processes: a thief of the coordinator's keys and database, and what is left."""

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.status import fetch_status
from atoll.cli.wire import COORDINATOR_SEED, identity_of
from atoll.coordinator.metadata.model import unpack_pieces
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId
from atoll.core.orders import Action, OrderLimit, sign_orders

WAIT_S_MAX = 60
DAY_MS = 24 * 3600 * 1000
pytestmark = pytest.mark.xdist_group("heavy")


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", "6", "--port", "0") as running:
        yield running


def folder(cloud: LocalCloud) -> Path:
    return Path(str(cloud.facts["data"]))


def atoll(cloud: LocalCloud, *words: str, status: int = 0) -> Any:
    """Run a command against the cloud; return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "atoll", *words, "--data", str(folder(cloud)), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout if status == 0 else done.stderr)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not so after {WAIT_S_MAX} s"
        time.sleep(0.1)


def all_confirmed(cloud: LocalCloud, place: str) -> bool:
    shown = atoll(cloud, "lock", place, "--show")
    return bool(shown["holders"]) and shown["confirmed"] == shown["holders"]


def stolen_pieces(cloud: LocalCloud) -> list[tuple[bytes, int, int, int]]:
    """Every piece the database knows, as (segment, serial, index, alias)."""
    (path,) = (path for path in folder(cloud).rglob("*.db") if "watcher" not in str(path))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT segment, serial, pieces FROM segment").fetchall()
    return [
        (segment, serial, piece.index, piece.alias)
        for segment, serial, packed in rows
        for piece in unpack_pieces(packed)
    ]


def order_everything_deleted(cloud: LocalCloud) -> dict[str, int]:
    """What a thief with the coordinator's key does: delete all pieces, at all nodes, directly."""
    (seed,) = folder(cloud).rglob(COORDINATOR_SEED)
    identity = identity_of(seed.parents[1], COORDINATOR_SEED)
    nodes = {node.alias: node for node in fetch_status(folder(cloud)).nodes}
    now_ms = int(time.time() * 1000)
    answers: dict[str, int] = {}
    for alias, node in nodes.items():
        limits = [
            OrderLimit(
                action=Action.DELETE,
                node_id=NodeId(node.node_id),
                segment_id=SegmentId(segment),
                segment_serial=serial,
                index=index,
                byte_cap=0,
                issued_ms=now_ms,
                expires_ms=now_ms + 60_000,
                serial=OrderSerial(os.urandom(16)),
                payer_tag=PayerTag(bytes(16)),
                gateway_key=identity.public_key,
            )
            for segment, serial, index, holder in stolen_pieces(cloud)
            if holder == alias
        ]
        if not limits:
            continue
        body = msgspec.msgpack.encode(sign_orders(identity, limits))
        asked = urllib.request.Request(f"{node.address}/v1/delete", body, method="POST")
        with urllib.request.urlopen(asked) as reply:
            for answer in msgspec.msgpack.decode(reply.read()):
                answers[answer] = answers.get(answer, 0) + 1
    return answers


def trash_pieces(cloud: LocalCloud) -> int:
    total = 0
    for node in fetch_status(folder(cloud)).nodes:
        with urllib.request.urlopen(f"{node.address}/v1/health") as answer:
            total += json.load(answer)["trash_bytes"]
    return total


def test_an_object_under_a_lock_stays_whatever_the_customer_asks(cloud: LocalCloud) -> None:
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="vault")
    body = os.urandom(300_000)
    s3.put_object(Bucket="vault", Key="deed", Body=body)
    s3.put_object(Bucket="vault", Key="draft", Body=b"draft")
    locked = atoll(cloud, "lock", "s3://vault/deed", "--days", "30")
    assert locked["locked"]
    assert locked["mode"] == "compliance"
    assert locked["confirmed"] == locked["holders"] > 0
    for attempt in (
        lambda: s3.delete_object(Bucket="vault", Key="deed"),
        lambda: s3.put_object(Bucket="vault", Key="deed", Body=b"other"),
        lambda: s3.copy_object(
            Bucket="vault", Key="deed", CopySource={"Bucket": "vault", "Key": "draft"}
        ),
    ):
        with pytest.raises(ClientError) as refused:
            attempt()
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    answer = s3.delete_objects(
        Bucket="vault", Delete={"Objects": [{"Key": "deed"}, {"Key": "draft"}]}
    )
    assert [one["Key"] for one in answer["Deleted"]] == ["draft"]
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [("deed", "AccessDenied")]
    assert s3.get_object(Bucket="vault", Key="deed")["Body"].read() == body


def test_locks_are_only_extended(cloud: LocalCloud) -> None:
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="ledger")
    for key in ("hard", "soft"):
        s3.put_object(Bucket="ledger", Key=key, Body=os.urandom(20_000))
    atoll(cloud, "lock", "s3://ledger/hard", "--days", "30")
    refused = atoll(cloud, "lock", "s3://ledger/hard", "--days", "1", status=77)
    assert refused["error"]["kind"] == "retained"
    assert atoll(cloud, "lock", "s3://ledger/hard", "--clear", status=77)
    longer = atoll(cloud, "lock", "s3://ledger/hard", "--until", "2090-01-31")
    assert longer["until_ms"] == 3_789_504_000_000
    atoll(cloud, "lock", "s3://ledger/soft", "--days", "30", "--mode", "governance")
    held = atoll(cloud, "lock", "s3://ledger/soft", "--clear", "--legal-hold", "on")
    assert held["legal_hold"]
    assert held["locked"]
    with pytest.raises(ClientError):
        s3.delete_object(Bucket="ledger", Key="soft")
    assert not atoll(cloud, "lock", "s3://ledger/soft", "--legal-hold", "off")["locked"]
    s3.delete_object(Bucket="ledger", Key="soft")


def test_a_buckets_default_locks_what_comes_and_its_holders_confirm(cloud: LocalCloud) -> None:
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="archive")
    shown = atoll(cloud, "lock", "s3://archive", "--default", "7d")
    assert (shown["days"], shown["mode"]) == (7, "compliance")
    s3.put_object(Bucket="archive", Key="small", Body=b"x" * 1000)
    upload = s3.create_multipart_upload(Bucket="archive", Key="parts")["UploadId"]
    parts = []
    for number, size in ((1, 5 << 20), (2, 1000)):
        part = s3.upload_part(
            Bucket="archive", Key="parts", UploadId=upload, PartNumber=number, Body=bytes(size)
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(
        Bucket="archive", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    for key in ("small", "parts"):
        with pytest.raises(ClientError):
            s3.delete_object(Bucket="archive", Key=key)
        wait_for(lambda key=key: all_confirmed(cloud, f"s3://archive/{key}"))
    atoll(cloud, "lock", "s3://archive", "--clear")
    s3.put_object(Bucket="archive", Key="free", Body=b"x")
    s3.delete_object(Bucket="archive", Key="free")


def test_a_thief_of_keys_and_database_deletes_nothing_that_is_locked(
    cloud: LocalCloud, tmp_path: Path
) -> None:
    s3 = cloud.boto3_client()
    s3.create_bucket(Bucket="crown")
    bodies = {f"jewel{number}": os.urandom(40_000 * number + 700) for number in range(1, 6)}
    glass = os.urandom(2_000_000)
    s3.put_object(Bucket="crown", Key="glass", Body=glass)
    for key, body in bodies.items():
        s3.put_object(Bucket="crown", Key=key, Body=body)
        locked = atoll(cloud, "lock", f"s3://crown/{key}", "--days", "3650")
        assert locked["confirmed"] == locked["holders"]
    before = trash_pieces(cloud)
    answers = order_everything_deleted(cloud)
    assert answers.get("retained", 0) >= len(bodies) * 3, answers
    assert answers.get("", 0) >= 3, answers
    assert trash_pieces(cloud) > before
    for key, body in bodies.items():
        assert s3.get_object(Bucket="crown", Key=key)["Body"].read() == body
    # What was not locked lies in the trash for seven days: it is still served.
    assert s3.get_object(Bucket="crown", Key="glass")["Body"].read() == glass
    # And without any coordinator: the owner's phrase and the nodes are enough.
    phrase, target = tmp_path / "phrase", tmp_path / "back"
    phrase.write_text(str(cloud.facts["recovery_phrase"]))
    command = [sys.executable, "-m", "atoll", "recover", "--phrase-file", str(phrase)]
    command += ["--nodes", str(folder(cloud) / "nodes.json"), "--bucket", "crown"]
    done = subprocess.run([*command, "--to", str(target), "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for key, body in (*bodies.items(), ("glass", glass)):
        assert (target / "crown" / key).read_bytes() == body
