"""Customers of a drill: real S3 requests, and a ledger of what each object must hold."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from atoll.client import AsyncClient
from atoll.core.errors import AtollError, Kind

SIZES = (100, 4_096, 8_192, 8_193, 40_000, 300_000, 1 << 20, 3 << 20)
"""Replicated and coded, one chunk and many."""
PAUSE_S = 0.05
KEYS_MAX = 4_000
"""Objects kept at once: a longer drill overwrites and deletes more."""
FAILURES_KEPT_MAX = 20
VERIFY_PARALLEL = 8
LATENCIES_MAX = 100_000


@dataclass
class Ledger:
    """What was acknowledged: key to the SHA-256 digests that a read may return (None: absent)."""

    allowed: dict[str, set[str | None]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of what was acknowledged last under each key."""
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    latencies_ms: dict[str, list[float]] = field(
        default_factory=lambda: {"put": [], "get": [], "delete": []}
    )
    failed: int = 0
    """Operations that failed after all retries of the client."""
    wrong: int = 0
    """Reads that returned bytes nobody wrote."""

    def fail(self, text: str) -> None:
        """Note an operation that failed for good."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT_MAX:
            self.failures.append(text)

    def done(self, what: str, began: float) -> None:
        """Note an operation that succeeded."""
        self.counts[what] += 1
        if len(self.latencies_ms[what]) < LATENCIES_MAX:
            self.latencies_ms[what].append((time.monotonic() - began) * 1000)

    def quantiles_ms(self) -> dict[str, dict[str, float]]:
        """Return the median and the 99th percentile by operation."""
        shown = {}
        for what, values in self.latencies_ms.items():
            ordered = sorted(values)
            if ordered:
                shown[what] = {
                    "p50": round(ordered[len(ordered) // 2], 1),
                    "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 1),
                }
        return shown


class Workload:
    """Some customers that write, read and delete objects of their own until told to stop."""

    def __init__(self, client: AsyncClient, bucket: str, clients: int, seed: int) -> None:
        self._client = client
        self.bucket = bucket
        self._clients = clients
        self._seed = seed
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.ledger = Ledger()

    async def fill(self, objects: int) -> None:
        """Store so many objects before the drill begins."""
        chance = random.Random(self._seed)  # noqa: S311 - repeatable data, no secret
        gate = asyncio.Semaphore(VERIFY_PARALLEL)

        async def one(number: int) -> None:
            async with gate:
                await self._put(f"before/{number:05d}", chance.choice(SIZES), chance)

        await asyncio.gather(*(one(number) for number in range(objects)))

    def start(self) -> None:
        """Let the customers begin."""
        self._tasks = [asyncio.create_task(self._customer(n)) for n in range(self._clients)]

    async def stop(self) -> None:
        """Let every customer finish what it does."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _customer(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")  # noqa: S311 - see above
        mine: list[str] = []
        while not self._stop.is_set():
            roll = chance.random()
            if not mine or (roll < 0.4 and len(mine) < KEYS_MAX // self._clients):
                key = f"during/{number}/{len(mine):05d}"
                mine.append(key)
                await self._put(key, chance.choice(SIZES), chance)
            elif roll < 0.5:
                await self._put(chance.choice(mine), chance.choice(SIZES), chance)
            elif roll < 0.57:
                await self._delete(chance.choice(mine))
            elif roll < 0.8:
                await self.check(chance.choice(mine))
            else:
                await self.check(chance.choice(list(self.ledger.allowed)[:KEYS_MAX]))
            await asyncio.sleep(PAUSE_S)

    async def _put(self, key: str, size: int, chance: random.Random) -> None:
        body = (chance.randbytes(min(size, 1024)) * (size // 1024 + 1))[:size]
        digest = hashlib.sha256(body).hexdigest()
        allowed = self.ledger.allowed.setdefault(key, {None})
        allowed.add(digest)
        began = time.monotonic()
        try:
            await self._client.put_bytes(self.bucket, key, body)
        except AtollError as error:
            self.ledger.fail(f"PUT {key} ({size} B): {error}")
            return
        self.ledger.allowed[key] = {digest}
        self.ledger.sizes[key] = size
        self.ledger.done("put", began)

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file, in parts if it is large."""
        digest = await asyncio.to_thread(digest_of, path)
        self.ledger.allowed[key] = {None, digest}
        try:
            await self._client.put_file(path, self.bucket, key)
        except AtollError as error:
            self.ledger.fail(f"PUT {key}: {error}")
            return
        self.ledger.allowed[key] = {digest}
        self.ledger.sizes[key] = (await asyncio.to_thread(path.stat)).st_size

    async def _delete(self, key: str) -> None:
        self.ledger.allowed[key].add(None)
        began = time.monotonic()
        try:
            await self._client.delete(self.bucket, key)
        except AtollError as error:
            self.ledger.fail(f"DELETE {key}: {error}")
            return
        self.ledger.allowed[key] = {None}
        self.ledger.done("delete", began)

    async def check(self, key: str) -> str:
        """Read an object and compare; return what is wrong, or an empty text.

        What another customer changes during the read may be either.
        """
        before = set(self.ledger.allowed[key])
        began = time.monotonic()
        try:
            body: bytes | None = await self._client.get_bytes(self.bucket, key)
        except AtollError as error:
            if error.kind is not Kind.OBJECT_NOT_FOUND:
                self.ledger.fail(f"GET {key}: {error}")
                return f"{key}: {error}"
            body = None
        found = None if body is None else hashlib.sha256(body).hexdigest()
        if found not in before | self.ledger.allowed[key]:
            self.ledger.wrong += 1
            words = f"{key}: read other bytes" if body is not None else f"{key}: not found"
            self.ledger.failures.append(words)
            return words
        self.ledger.done("get", began)
        return ""

    async def verify(self) -> list[str]:
        """Read every object once more; return what is wrong."""
        gate = asyncio.Semaphore(VERIFY_PARALLEL)

        async def one(key: str) -> str:
            async with gate:
                return await self.check(key)

        found = await asyncio.gather(*(one(key) for key in sorted(self.ledger.allowed)))
        return [words for words in found if words]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
