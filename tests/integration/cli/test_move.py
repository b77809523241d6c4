"""A bucket moves between two live coordinators: nothing of it is other than before.

Real processes. The former coordinator stands still while its bucket leaves (it is asked nothing,
and agrees to nothing), then goes on living: the two must agree with the nodes about every byte.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from atoll.cli.recover.takeover import prepare_folder
from atoll.cli.rooms import root_key
from atoll.client import AsyncClient

NODES = 6
WAIT_S_MAX = 240
PART = 5 << 20
POLICY = "data: country in DE"
HEADERS_OF_THE_MOMENT = {"date", "server", "x-amz-request-id", "x-amz-id-2", "connection"}
pytestmark = pytest.mark.xdist_group("heavy")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S_MAX
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {WAIT_S_MAX} s"
        time.sleep(0.3)  # other processes have no event to wait for
    return found


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def run(*words: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atoll", *map(str, words)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


def atoll(*words: object, **environment: str) -> list[dict[str, Any]]:
    """Run a command; return the lines of its JSON."""
    done = run(*words, "--json", **environment)
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


class Place:
    """A coordinator with its gateway, as two processes."""

    def __init__(self, folder: Path, run_in: "Two") -> None:
        self.folder, self.port, self.s3_port = folder, free_port(), free_port()
        flags = ("--port", self.port, "--page-port", 0, "--profile", "demo")
        self.processes = [run_in.start("coordinator", "run", "--data", folder, *flags)]
        wait_for(lambda: listens(self.port))
        gateway = ("gateway", "run", "--data", folder, "--port", self.s3_port, "--workers", 1)
        self.processes.append(run_in.start(*gateway))
        wait_for(lambda: listens(self.s3_port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def keys(self) -> tuple[str, str]:
        access = json.loads((self.folder / "secrets" / "access.json").read_text())
        return access["access_key"], access["secret_key"]

    def ask(self, operation: str, **body: object) -> dict[str, Any]:
        """Ask the gateway as its customer, for something beyond S3 about the bucket."""

        async def asked() -> Any:
            async with AsyncClient(self.endpoint, *self.keys, region="us-east-1") as client:
                return await client.ask(operation, {"bucket": "vault", **body})

        found: dict[str, Any] = asyncio.run(asked())
        return found

    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.keys[0],
            aws_secret_access_key=self.keys[1],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 8}, s3={"addressing_style": "path"}),
        )

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in self.processes:
                process.send_signal(signal.SIGCONT)

    def sets(self) -> list[dict[str, Any]]:
        return atoll("node", "pieces", "--data", self.folder)

    def agreed(self) -> bool:
        """Whether each node holds to the byte what it is held to, and nothing beside it."""
        return all(
            one["agreed"]
            and one.get("report")
            and one["report"]["held"] == one["counted"]
            and not one["deleting"]
            for one in self.sets()
        )

    def counted(self) -> tuple[int, int]:
        sets = self.sets()
        return (
            sum(one["counted"]["pieces"] for one in sets),
            sum(one["counted"]["piece_bytes"] for one in sets),
        )


class Two:
    """Two coordinators of one owner, a verifier for the second, and nodes that serve both."""

    def __init__(self, folder: Path) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.folder, self.log = folder, folder / "log"

    def begin(self) -> None:
        """Start everything, one after the other."""
        folder = self.folder
        self.old = Place(folder / "old", self)
        prepare_folder(folder / "new", root_key(folder / "old"))
        verifier = folder / "verifier"
        words = ("verifier", "run", "--data", verifier, "--port", free_port())
        judge = self.start(*words, "--operator", "judge", "--coordinator", "http://127.0.0.1:9")
        key = wait_for(lambda: run("verifier", "show", "--data", verifier, "--json").stdout)
        judge.send_signal(signal.SIGTERM)
        judge.wait(timeout=30)
        trusted = run(
            "coordinator", "trust-verifier", json.loads(key)["key"], "--data", folder / "new"
        )
        assert trusted.returncode == 0, trusted.stderr
        self.new = Place(folder / "new", self)
        self.start(*words, "--operator", "judge", "--coordinator", self.new.url)
        for number in range(1, NODES + 1):
            self.start_node(folder, number)
        for place in (self.old, self.new):
            wait_for(lambda place=place: self.nodes_of(place) == NODES)

    def start(self, *words: object, **environment: str) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "atoll", *map(str, words)],
                stdout=out,
                stderr=out,
                env={**os.environ, **environment},
            )
        self.children.append(child)
        return child

    def start_node(self, folder: Path, number: int) -> None:
        self.start(
            "node",
            "run",
            "--data",
            folder / "nodes" / str(number),
            ATOLL_NODE_HOST=f"127.0.{number}.1",
            ATOLL_NODE_PORT=str(9300 + number),
            ATOLL_NODE_COORDINATOR=f"{self.old.url} {self.new.url}",
            ATOLL_NODE_OPERATOR=f"operator-{number}",
            ATOLL_NODE_SITE=f"site-{number}",
            ATOLL_NODE_COUNTRY="DE",
            ATOLL_NODE_REGION="eu-central",
            ATOLL_NODE_CAPACITY_BYTES="2GB",
        )

    @staticmethod
    def nodes_of(place: Place) -> int:
        listed = place.folder / "nodes.json"
        return len(json.loads(listed.read_text())["nodes"]) if listed.exists() else 0

    def stop(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = Two(tmp_path)
    try:
        made.begin()
        yield made
    finally:
        made.stop()


def fill(s3: Any) -> None:
    """Objects of all sizes with everything that S3 keeps beside the bytes."""
    s3.create_bucket(Bucket="vault")
    described = {
        "ContentType": "text/html; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b.html"',
        "ContentEncoding": "identity",
        "ContentLanguage": "de, en",
        "Expires": "Thu, 01 Jan 2032 00:00:00 GMT",
        "Metadata": {"colour": "red", "empty": ""},
    }
    for number, size in enumerate((0, 1, 900, 8192, 60_000, 1_500_000)):
        s3.put_object(Bucket="vault", Key=f"plain/{number}", Body=os.urandom(size))
        named = {"Bucket": "vault", "Key": f"described/{number}", "Body": os.urandom(size)}
        algorithm = ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME", "CRC32")[number]
        s3.put_object(**named, **described, ChecksumAlgorithm=algorithm)
    named = {"Bucket": "vault", "Key": "in/parts"}
    more = {name: described[name] for name in ("ContentType", "CacheControl", "Metadata")}
    upload = s3.create_multipart_upload(**named, **more, ChecksumAlgorithm="SHA256")
    parts = []
    for number, size in ((1, PART), (2, PART + 7), (3, 4711)):
        told = s3.upload_part(
            **named,
            UploadId=upload["UploadId"],
            PartNumber=number,
            Body=os.urandom(size),
            ChecksumAlgorithm="SHA256",
        )
        parts.append(
            {"PartNumber": number, "ETag": told["ETag"], "ChecksumSHA256": told["ChecksumSHA256"]}
        )
    s3.complete_multipart_upload(
        **named, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
    )


def shown_by(place: Place) -> dict[str, Any]:
    """All that a place serves of the bucket: listing, HEAD of every object and part, bytes, locks,
    policy, mode, default lock."""
    s3 = place.s3()
    listed = s3.list_objects_v2(Bucket="vault")["Contents"]
    found: dict[str, Any] = {"listing": listed}
    for one in listed:
        named = {"Bucket": "vault", "Key": one["Key"]}
        told = s3.head_object(**named, ChecksumMode="ENABLED")
        heads = told["ResponseMetadata"]["HTTPHeaders"]
        found[one["Key"]] = {
            "head": {k: v for k, v in heads.items() if k not in HEADERS_OF_THE_MOMENT},
            "body": s3.get_object(**named)["Body"].read(),
            "lock": lock_of(place, one["Key"]),
        }
    attributes = s3.get_object_attributes(
        Bucket="vault", Key="in/parts", ObjectAttributes=["ObjectParts", "Checksum", "ETag"]
    )
    del attributes["ResponseMetadata"]
    found["parts"] = attributes
    found["part 2"] = s3.head_object(Bucket="vault", Key="in/parts", PartNumber=2)["ContentLength"]
    found["policy"] = place.ask("policy-show")["versions"][0]["text"]
    found["mode"] = place.ask("bucket-mode")["mode"]
    default = place.ask("lock")
    found["default"] = (default["mode"], default["days"])
    return found


def lock_of(place: Place, key: str) -> tuple[Any, ...]:
    shown = place.ask("lock", key=key)
    return tuple(shown[name] for name in ("locked", "mode", "until_ms", "legal_hold"))


def refused(attempt: Callable[[], Any]) -> None:
    with pytest.raises(ClientError) as answer:
        attempt()
    assert answer.value.response["Error"]["Code"] == "AccessDenied"


STORED_HEADERS = ("content-type", "cache-control", "content-disposition", "content-encoding",
                  "content-language", "expires", "x-amz-meta-colour", "content-length")  # fmt: skip


def headers_come_back_through_s3(two: Two, nodes: Path) -> None:
    """What nodes alone tell of an object reaches an S3 endpoint with all its headers."""
    phrase = two.folder / "phrase"
    phrase.write_text(run("coordinator", "phrase", "--data", two.old.folder).stdout)
    access, secret = two.new.keys
    flags = ("--phrase-file", phrase, "--nodes", nodes, "--bucket", "vault", "--to", "s3://back")
    done = run(
        "recover",
        *flags,
        "--endpoint",
        two.new.endpoint,
        AWS_ACCESS_KEY_ID=access,
        AWS_SECRET_ACCESS_KEY=secret,
    )
    assert done.returncode == 0, (done.stdout[-1000:], done.stderr[-2000:])
    s3 = two.new.s3()
    for key in ("described/5", "described/0", "in/parts"):
        heads = [
            s3.head_object(Bucket=bucket, Key=name)["ResponseMetadata"]["HTTPHeaders"]
            for bucket, name in (("vault", key), ("back", f"vault/{key}"))
        ]
        told, back = [{n: h.get(n) for n in STORED_HEADERS} for h in heads]
        assert told == back, key


@pytest.mark.long
@pytest.mark.slow
def test_a_bucket_that_moves_is_the_same_at_its_new_place(two: Two, tmp_path: Path) -> None:
    old, new = two.old, two.new
    s3 = old.s3()
    fill(s3)
    old.ask("policy-set", text=POLICY)
    old.ask("bucket-mode", mode="sync")
    old.ask("lock", key="plain/4", days=30)
    old.ask("lock", key="in/parts", days=9, mode="governance")
    old.ask("lock", key="plain/0", days=3)  # an empty one: no node keeps that
    old.ask("lock", key="plain/5", legal_hold=True)
    old.ask("lock", days=7)
    s3.put_object(Bucket="vault", Key="by/default", Body=os.urandom(9000))
    wait_for(lambda: old.ask("lock", key="by/default")["confirmed"])
    s3.create_bucket(Bucket="stays")
    s3.put_object(Bucket="stays", Key="here", Body=b"not ours to move")
    before = shown_by(old)
    wait_for(lambda: not old.ask("bucket-mode")["waiting"])
    time.sleep(1.5)  # manifests of locks and of the catalogue follow within a second

    nodes = tmp_path / "nodes.json"
    nodes.write_bytes((old.folder / "nodes.json").read_bytes())
    with old.standing_still():
        move = (
            "bucket",
            "move",
            "s3://vault",
            "--to",
            new.folder,
            "--nodes",
            nodes,
            "--data",
            old.folder,
        )
        report = atoll(*move)[-1]["report"]
        assert report["figures"]["restored"] == len(before["listing"]), report
        assert not report["problems_total"], report
        after = shown_by(new)
        again = atoll(*move)[-1]["report"]
        assert again["figures"]["skipped"] == len(before["listing"])
    for key in before:
        assert after[key] == before[key], key
    assert after.keys() == before.keys()

    headers_come_back_through_s3(two, nodes)

    # Both live. Nobody deletes what is locked, and the former one nothing at all.
    former, s3 = old.s3(), new.s3()
    for key in ("plain/4", "plain/5", "plain/0", "in/parts", "by/default"):
        for door in (former, s3):
            refused(lambda door=door, key=key: door.delete_object(Bucket="vault", Key=key))
    former.delete_object(Bucket="vault", Key="plain/3")
    s3.delete_object(Bucket="vault", Key="plain/2")
    s3.put_object(Bucket="vault", Key="written/after", Body=os.urandom(50_000))
    assert lock_of(new, "written/after")[:2] == (True, "compliance")

    # To the byte, at both: what moved is held for the new one alone.
    wait_for(lambda: old.agreed() and new.agreed())
    counted = new.counted()
    assert counted[0] > len(before["listing"])
    assert old.counted()[0] < counted[0]
    for key, kept in after.items():
        if isinstance(kept, dict) and "body" in kept and key != "plain/2":
            assert s3.get_object(Bucket="vault", Key=key)["Body"].read() == kept["body"], key
    assert former.get_object(Bucket="stays", Key="here")["Body"].read() == b"not ours to move"
    listed = {one["Key"] for one in former.list_objects_v2(Bucket="vault")["Contents"]}
    assert "written/after" not in listed
    shown = new.ask("lock", key="plain/4")
    assert shown["confirmed"] == shown["holders"] > 0

    # And the nodes prove to the new one what they hold for it.
    def results() -> list[dict[str, Any]]:
        access, secret = new.keys
        keys = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
        return atoll("proof", "show", "--limit", 60, "--endpoint", new.endpoint, **keys)[0][
            "results"
        ]

    def proven() -> bool:
        nodes = {one["node"] for one in results() if one["outcome"] == "passed" and one["samples"]}
        return len(nodes) == NODES

    wait_for(proven)
    assert not [one for one in results() if one["outcome"] == "failed"]
    assert new.counted() >= counted
