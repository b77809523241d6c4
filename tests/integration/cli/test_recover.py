"""Everything but the nodes is gone, or refuses: phrase and node list bring every object back.

Real processes. ``ATOLL_RECOVER_OBJECTS`` says how many objects (200; ``make recover``: 2,000).
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from atoll.cli.local_cloud import LocalCloud

OBJECTS = int(os.environ.get("ATOLL_RECOVER_OBJECTS", "200"))
NODES = 12
LAG_S = 1.5
"""Manifests follow within a second."""
WAIT_S_MAX = 240
PART = 5 << 20
STRANGE = ["a/../b", "dot/./x", "double//slash", "trailing/", "ünï/cødé ✓", "per%cent", "x" * 700]


@dataclass
class Stored:
    """What the customer was told is safe."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)


def size_of(number: int, chance: random.Random) -> int:
    """All sizes: most are tiny, some striped, a few of several mebibytes."""
    if number % 20 == 0:
        return chance.randrange(1 << 20, 3 << 20)
    if number % 5 == 0:
        return chance.randrange(8_193, 400_000)
    return chance.choice([0, 1, 100, 4096, 8192, chance.randrange(8192)])


def fill(cloud: LocalCloud, bucket: str, count: int) -> Stored:
    s3 = cloud.boto3_client(config=Config(max_pool_connections=16, retries={"max_attempts": 8}))
    s3.create_bucket(Bucket=bucket)
    stored, numbers, lock = Stored(), list(range(count)), threading.Lock()

    def customer(seed: int) -> None:
        while True:
            with lock:
                if not numbers:
                    return
                number = numbers.pop()
            chance = random.Random(f"{bucket}/{number}")
            key = STRANGE[number] if number < len(STRANGE) else f"dir{number % 7}/k{number:05}"
            body = chance.randbytes(size_of(number, chance))
            facts = {"number": str(number)} if number % 3 == 0 else {}
            kind = "text/plain" if number % 4 == 0 else "binary/octet-stream"
            told = s3.put_object(
                Bucket=bucket, Key=key, Body=body, Metadata=facts, ContentType=kind
            )
            with lock:
                stored.bodies[key], stored.metadata[key] = body, facts
                stored.types[key], stored.etags[key] = kind, told["ETag"].strip('"')

    customers = [threading.Thread(target=customer, args=(n,)) for n in range(8)]
    for one in customers:
        one.start()
    for one in customers:
        one.join()
    _in_parts(s3, bucket, stored)
    for number in range(len(STRANGE), count, 10):
        key = f"dir{number % 7}/k{number:05}"
        s3.delete_object(Bucket=bucket, Key=key)
        del stored.bodies[key]
    again = f"dir{11 % 7}/k{11:05}"
    stored.bodies[again] = b"overwritten"
    told = s3.put_object(Bucket=bucket, Key=again, Body=b"overwritten", ContentType="text/x")
    stored.metadata[again], stored.types[again] = {}, "text/x"
    stored.etags[again] = told["ETag"].strip('"')
    return stored


def _in_parts(s3: Any, bucket: str, stored: Stored) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="in/parts", ContentType="video/x")
    named = {"Bucket": bucket, "Key": "in/parts", "UploadId": upload["UploadId"]}
    bodies = [os.urandom(PART), os.urandom(PART), os.urandom(123_456)]
    parts = []
    for number, body in enumerate(bodies, 1):
        told = s3.upload_part(**named, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": told["ETag"]})
    done = s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
    stored.bodies["in/parts"], stored.metadata["in/parts"] = b"".join(bodies), {}
    stored.types["in/parts"], stored.etags["in/parts"] = "video/x", done["ETag"].strip('"')
    left = s3.create_multipart_upload(Bucket=bucket, Key="never/completed")
    s3.upload_part(
        Bucket=bucket,
        Key="never/completed",
        UploadId=left["UploadId"],
        PartNumber=2,
        Body=b"x" * 100_000,
    )


def recover(*words: str, phrase: Path) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "atoll", "recover", "--phrase-file", str(phrase), "--json", *words],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "ATOLL_TRACE": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    report = next((line["report"] for line in reversed(lines) if "report" in line), {})
    return done.returncode, report, done.stderr[-3000:]


def check(folder: Path, bucket: str, stored: Stored) -> None:
    """100 %: nothing missing, nothing too many, nothing different."""
    listed = {}
    for line in (folder / bucket / "%objects.jsonl").read_text().splitlines():
        one = json.loads(line)
        listed[one["key"]] = one
    assert listed.keys() == stored.bodies.keys(), sorted(listed.keys() ^ stored.bodies.keys())[:10]
    for key, body in stored.bodies.items():
        one = listed[key]
        found = (folder / bucket / one["path"]).read_bytes()
        assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest(), key
        assert one["facts"]["etag"] == stored.etags[key], key
        assert one["facts"]["user_metadata"] == stored.metadata[key], key
        assert one["facts"]["content_type"] == stored.types[key], key


class LoneNodes:
    """The nodes of a former cloud, by themselves."""

    def __init__(self, folder: Path, numbers: list[int], environment: dict[str, str]) -> None:
        self.children = [
            subprocess.Popen(
                [sys.executable, "-m", "atoll", "node", "run", "--data", str(folder / str(number))],
                env={**os.environ, **environment, "ATOLL_NODE_HOST": f"127.0.{number}.1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in numbers
        ]
        self.numbers = numbers
        self.port = int(environment["ATOLL_NODE_PORT"])

    def wait(self) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        for number in self.numbers:
            while True:
                with contextlib.suppress(OSError):
                    url = f"http://127.0.{number}.1:{self.port}/v1/health"
                    with urllib.request.urlopen(url, timeout=2) as answer:
                        if answer.status == 200:
                            break
                assert time.monotonic() < deadline, f"node {number} does not answer"
                time.sleep(0.2)

    def stop(self) -> None:
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait(timeout=30)


@pytest.fixture
def former(tmp_path: Path) -> Iterator[tuple[LocalCloud, Path, Path]]:
    """A cloud in a folder; its phrase, kept elsewhere."""
    with LocalCloud(
        "--data", str(tmp_path / "cloud"), "--nodes", str(NODES), "--port", "0"
    ) as made:
        phrase = tmp_path / "phrase"
        phrase.write_text(made.facts["recovery_phrase"])
        yield made, tmp_path, phrase


def wait_for_nodes(folder: Path) -> Path:
    nodes = folder / "nodes.json"
    deadline = time.monotonic() + WAIT_S_MAX
    while not nodes.exists() or len(json.loads(nodes.read_text())["nodes"]) < NODES:
        assert time.monotonic() < deadline, "no node list"
        time.sleep(0.2)
    return nodes


@pytest.mark.xdist_group("heavy")
def test_all_comes_back_when_only_nodes_are_left(former: tuple[LocalCloud, Path, Path]) -> None:
    cloud, place, phrase = former
    stored = fill(cloud, "photos", OBJECTS)
    nodes = place / "nodes.json"
    shutil.copy(wait_for_nodes(place / "cloud"), nodes)
    time.sleep(LAG_S)
    for process in [cloud.supervisor, *cloud.processes()]:
        process.kill()
    folder = place / "left"
    (place / "cloud" / "nodes").rename(folder)
    shutil.rmtree(place / "cloud")
    port = str(json.loads(nodes.read_text())["nodes"][0]["port"])
    environment = {
        "ATOLL_NODE_PORT": port,
        "ATOLL_NODE_ADVERTISE": "",
        "ATOLL_NODE_COORDINATOR": "http://127.0.0.1:9",
        "ATOLL_NODE_FINGERPRINT": "",
    }
    # Two nodes went with the rest.
    lone = LoneNodes(folder, list(range(1, NODES - 1)), environment)
    try:
        lone.wait()
        words = ("--nodes", str(nodes), "--to", str(place / "back"))
        code, report, talk = recover(*words, phrase=phrase)
        assert code == 0, (report, talk)
        assert report["figures"]["restored"] == len(stored.bodies)
        assert report["figures"]["objects_from_capsules"] == 0
        assert [one["what"] for one in report["notes"]] == ["photos/never/completed"]
        check(place / "back", "photos", stored)
        code, again, talk = recover(*words, phrase=phrase)
        assert (code, again["figures"]["skipped"]) == (0, len(stored.bodies)), talk
    finally:
        lone.stop()


@pytest.mark.xdist_group("heavy")
def test_a_live_coordinator_that_refuses_changes_nothing(
    former: tuple[LocalCloud, Path, Path],
) -> None:
    cloud, place, phrase = former
    stored = fill(cloud, "photos", OBJECTS)
    nodes = wait_for_nodes(place / "cloud")
    time.sleep(LAG_S)
    frozen = [*cloud.processes("coordinator"), *cloud.processes("gateway")]
    for process in frozen:
        process.suspend()
    try:
        code, report, talk = recover(
            "--nodes", str(nodes), "--to", str(place / "back"), phrase=phrase
        )
        assert code == 0, (report, talk)
        check(place / "back", "photos", stored)
    finally:
        for process in frozen:
            process.resume()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def start(log: Path, *words: object) -> "subprocess.Popen[bytes]":
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "atoll", *map(str, words)], stdout=out, stderr=out
        )


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert time.monotonic() < deadline, "it does not listen"
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.xdist_group("heavy")
def test_a_new_coordinator_is_rebuilt_from_nodes(former: tuple[LocalCloud, Path, Path]) -> None:
    cloud, place, phrase = former
    stored = fill(cloud, "photos", OBJECTS // 2)
    nodes = place / "nodes.json"
    shutil.copy(wait_for_nodes(place / "cloud"), nodes)
    time.sleep(LAG_S)
    for process in [cloud.supervisor, *cloud.processes()]:
        process.kill()
    (place / "cloud" / "nodes").rename(place / "left")
    shutil.rmtree(place / "cloud")
    port, s3_port, home, log = free_port(), free_port(), place / "new", place / "log"
    environment = {
        "ATOLL_NODE_PORT": str(json.loads(nodes.read_text())["nodes"][0]["port"]),
        "ATOLL_NODE_ADVERTISE": "",
        "ATOLL_NODE_COORDINATOR": f"http://127.0.0.1:9 http://127.0.0.1:{port}",
        "ATOLL_NODE_FINGERPRINT": "",
    }
    lone = LoneNodes(place / "left", list(range(1, NODES + 1)), environment)
    running: list[subprocess.Popen[bytes]] = []
    words = ("--nodes", str(nodes), "--into-coordinator", str(home))
    try:
        lone.wait()
        code, _, talk = recover(*words, phrase=phrase)
        assert code != 0
        assert "coordinator run" in talk
        flags = ("--data", home, "--port", port, "--page-port", 0, "--profile", "local")
        running.append(start(log, "coordinator", "run", *flags))
        wait_for_port(port)
        wait_for_nodes(home)
        code, report, talk = recover(*words, phrase=phrase)
        assert code == 0, (report, talk, log.read_text()[-2000:])
        assert report["figures"]["restored"] == len(stored.bodies)
        move = ("bucket", "move", "s3://photos", "--to", str(home), "--data", str(home))
        again = subprocess.run(
            [sys.executable, "-m", "atoll", *move, "--json"],
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert again.returncode == 0, again.stderr[-2000:]
        told = json.loads(again.stdout.splitlines()[-1])["report"]
        assert told["figures"]["skipped"] == len(stored.bodies)
        running.append(start(log, "gateway", "run", "--data", home, "--port", s3_port))
        wait_for_port(s3_port)
        access = json.loads((home / "secrets" / "access.json").read_text())
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{s3_port}",
            aws_access_key_id=access["access_key"],
            aws_secret_access_key=access["secret_key"],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 8}, s3={"addressing_style": "path"}),
        )
        for key, body in stored.bodies.items():
            told = s3.get_object(Bucket="photos", Key=key)
            assert told["Body"].read() == body, key
            assert told["ETag"].strip('"') == stored.etags[key]
            assert told["Metadata"] == stored.metadata[key]
        # It is a bucket like any other: written, deleted, and recoverable again.
        s3.put_object(Bucket="photos", Key="new", Body=b"written after the move")
        gone = next(iter(stored.bodies))
        s3.delete_object(Bucket="photos", Key=gone)
        time.sleep(LAG_S)
        del stored.bodies[gone]
        stored.bodies["new"], stored.metadata["new"] = b"written after the move", {}
        stored.types["new"] = "binary/octet-stream"
        stored.etags["new"] = hashlib.md5(stored.bodies["new"]).hexdigest()
        code, report, talk = recover(
            "--nodes", str(nodes), "--to", str(place / "back"), phrase=phrase
        )
        assert code == 0, (report, talk)
        check(place / "back", "photos", stored)
    finally:
        for child in running:
            child.send_signal(signal.SIGTERM)
        for child in running:
            child.wait(timeout=30)
        lone.stop()
