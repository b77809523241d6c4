"""``make soak``: every kind of process SIGKILLed at random under load; then everything is verified.

A ledger outside the product keeps what was acknowledged. At the end each acknowledged object must
read back byte for byte, each acknowledged deletion must hold, and nothing else may be visible.
"""

import argparse
import contextlib
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from atoll.cli.local_cloud import LocalCloud

BUCKET = "soak"
VERIFY_TRIES_MAX = 30
VERIFY_PAUSE_S = 2.0
LARGE_BYTES = 5 << 30
BLOCK = hashlib.shake_256(b"soak").digest(1 << 20)
TWICE = BLOCK * 2
FAILURES = (ClientError, BotoCoreError, OSError)


@dataclass
class Ledger:
    """What was acknowledged: key to the digests that may be read (None: may be absent)."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    allowed: dict[str, set[str | None]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def begin(self, key: str, digest: str | None) -> None:
        """An operation is on its way: both its outcomes are possible until it is answered."""
        with self.lock:
            self.allowed.setdefault(key, {None}).add(digest)

    def settle(self, key: str, digest: str | None, what: str) -> None:
        """It was acknowledged: only its own outcome is allowed from now on."""
        with self.lock:
            self.allowed[key] = {digest}
            self.counts[what] += 1

    def fail(self, what: str) -> None:
        """It was answered with an error or not at all."""
        with self.lock:
            self.counts[what] += 1


class Body:
    """A large file-like body that costs no memory; its digest is known when it was read."""

    def __init__(self, size: int) -> None:
        self.size, self.position = size, 0

    def read(self, count: int = -1) -> bytes:
        count = self.size - self.position if count < 0 else min(count, self.size - self.position)
        start, count = self.position % len(BLOCK), min(count, len(BLOCK))
        piece = TWICE[start : start + count]
        self.position += count
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = {0: 0, 1: self.position, 2: self.size}[whence] + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def __len__(self) -> int:
        return self.size


def digest_of(body: Any) -> str:
    total = hashlib.sha256()
    while block := body.read(1 << 20):
        total.update(block)
    return total.hexdigest()


class Holder:
    """The running cloud; starts it again when its supervisor was killed."""

    def __init__(self, flags: list[str]) -> None:
        self.flags, self.lock = flags, threading.Lock()
        self.cloud = LocalCloud(*flags)
        self.flags = [*flags, "--port", self.cloud.endpoint.rsplit(":", 1)[1]]

    def client(self) -> Any:
        return self.cloud.boto3_client(
            config=Config(
                retries={"max_attempts": 3, "mode": "standard"},
                connect_timeout=5,
                read_timeout=60,
            )
        )

    def restart(self) -> None:
        with self.lock:
            self.cloud.stop()
            self.cloud = LocalCloud(*self.flags)


def worker(
    number: int, holder: Holder, ledger: Ledger, until: float, chance: random.Random
) -> None:
    client, mine = holder.client(), []
    while time.monotonic() < until:
        roll = chance.random()
        if roll < 0.65 or not mine:
            size = chance.choice([0, 1, 4096, 8192, 8193, 65_536, 1 << 20, 3 << 20, 9 << 20])
            again = bool(mine) and chance.random() < 0.15
            key = chance.choice(mine) if again else f"w{number}/{len(mine):06d}-{size}"
            content = chance.randbytes(min(size, 4096)) * (size // 4096 + 1)
            content = content[:size]
            digest = hashlib.sha256(content).hexdigest()
            ledger.begin(key, digest)
            mine += [] if again else [key]
            try:
                client.put_object(Bucket=BUCKET, Key=key, Body=content)
                ledger.settle(key, digest, "put")
            except FAILURES:
                ledger.fail("put refused")
        elif roll < 0.75:
            key = mine[chance.randrange(len(mine))]
            ledger.begin(key, None)
            try:
                client.delete_object(Bucket=BUCKET, Key=key)
                ledger.settle(key, None, "delete")
            except FAILURES:
                ledger.fail("delete refused")
        else:
            key = chance.choice(mine)
            check(client, ledger, key, ledger.allowed[key], "read during faults")


def check(client: Any, ledger: Ledger, key: str, allowed: set[str | None], what: str) -> str:
    """Read a key and compare; return '' when it is as acknowledged, else what is wrong."""
    try:
        got: str | None = digest_of(client.get_object(Bucket=BUCKET, Key=key)["Body"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            ledger.fail(f"{what}: refused")
            return f"{key}: {error}"
        got = None
    except FAILURES as error:
        ledger.fail(f"{what}: refused")
        return f"{key}: {error!r}"
    if got in allowed:
        ledger.fail(f"{what}: right")
        return ""
    ledger.fail(f"{what}: WRONG")
    return f"{key}: read {got}, acknowledged {allowed}"


def killer(holder: Holder, kills: Counter[str], until: float, chance: random.Random) -> None:
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.3, 2.5))
        kind = chance.choice(["node"] * 6 + ["gateway"] * 3 + ["coordinator"] * 2 + ["all"])
        if kind == "all":
            if chance.random() < 0.3:
                holder.cloud.supervisor.send_signal(signal.SIGKILL)
                kills["supervisor"] += 1
                holder.restart()
            continue
        victims = holder.cloud.processes(kind)
        if victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                chance.choice(victims).send_signal(signal.SIGKILL)
                kills[kind] += 1


def verify(holder: Holder, ledger: Ledger) -> list[str]:
    """Return what is wrong after the faults have ended; retries what is only refused."""
    client, wrong = holder.client(), []
    for key, allowed in sorted(ledger.allowed.items()):
        problem = ""
        for _ in range(VERIFY_TRIES_MAX):
            problem = check(client, ledger, key, allowed, "verify")
            if not problem or "acknowledged" in problem:
                break
            time.sleep(VERIFY_PAUSE_S)
        wrong += [problem] if problem else []
    listed = set()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        listed |= {row["Key"] for row in page.get("Contents", [])}
    for key, allowed in ledger.allowed.items():
        if key in listed and allowed == {None}:
            wrong.append(f"{key}: deleted, but listed")
        if key not in listed and None not in allowed:
            wrong.append(f"{key}: stored, but not listed")
    return wrong + [f"{key}: never written, but listed" for key in listed - set(ledger.allowed)]


def large_object(holder: Holder, ledger: Ledger, size: int) -> list[str]:
    """Write and read one object of the largest size a single PUT may have."""
    client = holder.cloud.boto3_client(config=Config(read_timeout=900, retries={"max_attempts": 1}))
    began = time.monotonic()
    client.put_object(Bucket=BUCKET, Key="large", Body=Body(size), ContentLength=size)
    put_s, expected = time.monotonic() - began, digest_of(Body(size))
    began = time.monotonic()
    got = digest_of(client.get_object(Bucket=BUCKET, Key="large")["Body"])
    print(
        f"  {size / (1 << 30):.1f} GiB object: PUT {size / put_s / 1e6:.0f} MB/s, "
        f"GET {size / (time.monotonic() - began) / 1e6:.0f} MB/s, equal: {got == expected}"
    )
    client.delete_object(Bucket=BUCKET, Key="large")
    ledger.counts["large object"] += 1
    return [] if got == expected else ["the large object differs"]


@contextlib.contextmanager
def database_flags(database: str) -> Iterator[list[str]]:
    if database == "sqlite":
        yield []
        return
    from tests.fixtures.postgres import running_postgres

    with running_postgres() as url:
        yield ["--database", url]


def soak(database: str, seconds: float, seed: int, threads: int, large_bytes: int) -> bool:
    """Run one soak; print its figures; return whether nothing was lost."""
    chance, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="atoll-soak-"))
    print(f"soak on {database}: {seconds:.0f} s, seed {seed}, {threads} clients", flush=True)
    ledger, kills = Ledger(), Counter[str]()
    try:
        with database_flags(database) as flags:
            holder = Holder(["--data", str(folder), "--nodes", "12", *flags])
            holder.client().create_bucket(Bucket=BUCKET)
            until = time.monotonic() + seconds
            crew = [
                threading.Thread(
                    target=worker, args=(n, holder, ledger, until, random.Random(seed + n))
                )
                for n in range(threads)
            ]
            for member in crew:
                member.start()
            killer(holder, kills, until, chance)
            for member in crew:
                member.join()
            wrong = verify(holder, ledger)
            print(f"  {len(ledger.allowed)} objects verified, {len(wrong)} wrong", flush=True)
            if large_bytes:
                wrong += large_object(holder, ledger, large_bytes)
            holder.cloud.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "database": database,
        "kills": dict(kills),
        "objects": len(ledger.allowed),
        "operations": dict(sorted(ledger.counts.items())),
        "lost_or_wrong": len(wrong),
    }
    print(f"  {json.dumps(figures)}", flush=True)
    for problem in wrong[:20]:
        print(f"  WRONG {problem}")
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--large-bytes", type=int, default=LARGE_BYTES)
    parser.add_argument("--databases", default="sqlite,postgresql")
    options = parser.parse_args()
    results = [
        soak(name, options.seconds, options.seed, options.threads, options.large_bytes)
        for name in options.databases.split(",")
    ]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
