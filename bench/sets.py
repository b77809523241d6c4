"""``python -m bench.sets``: what it costs that two sides agree on millions of pieces.

The true coordinator part over SQLite and the true node part over a store's index, in one process;
messages are encoded and counted. Compared in the same run with what the same deletions weigh as
signed orders. The pieces have no bytes: only their rows are looked at.
"""

import argparse
import asyncio
import json
import platform
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.coordinator.sets.rules import SetTimers
from atoll.coordinator.sets.service import SetsService
from atoll.core.identity import Identity
from atoll.core.ids import OrderSerial, PayerTag, SegmentId
from atoll.core.messages import (
    Message,
    NodeFacts,
    NodeRequest,
    Register,
    SignedFacts,
    decode,
    encode,
)
from atoll.core.messages.sets import ReportSet
from atoll.core.orders import Action, OrderLimit, sign_orders
from atoll.core.ports import Address
from atoll.node.config import small_store
from atoll.node.link import Link
from atoll.node.orders import issuer_of_key
from atoll.node.service import FACTS_PURPOSE
from atoll.node.sets.service import SetKeeper
from atoll.node.store.index import _INSERT
from atoll.node.store.model import Row, State
from atoll.node.store.store import PieceStore
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase, migrate
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

COORDINATOR = Identity(b"c" * 32)
PROVIDER = Identity(b"p" * 32)
ISSUER = issuer_of_key(COORDINATOR.public_key)
PIECE_BYTES = 3_407_872
DELETED_SHARE = 0.01
DELTA_BYTES_MAX = 100_000
OLD_MS = 1_700_000_000_000
BATCH = 50_000


@dataclass(slots=True)
class Cost:
    """One comparison."""

    name: str
    wire_bytes: int = 0
    messages: int = 0
    coordinator_cpu_s: float = 0.0
    node_cpu_s: float = 0.0
    wall_s: float = 0.0
    longest_step_ms: float = 0.0
    """Longest time that the coordinator's part held its loop."""


@dataclass(slots=True)
class Result:
    """One run."""

    machine: str
    pieces: int
    segments: int
    database_bytes: int = 0
    index_bytes: int = 0
    costs: list[Cost] = field(default_factory=list)
    orders_bytes: int = 0
    """The same deletions as signed orders."""
    orders_over_delta: float = 0.0
    bits_per_piece_full: float = 0.0
    rss_before_mib: float = 0.0
    rss_peak_mib: float = 0.0


class Watched(SqlDatabase):
    """Notes the longest read: it runs on the loop."""

    longest_s = 0.0

    async def read(self, function: Any) -> Any:
        """Answer, and note how long that took."""
        before = time.perf_counter()
        try:
            return await super().read(function)
        finally:
            self.longest_s = max(self.longest_s, time.perf_counter() - before)


class Pair:
    """A coordinator's part and a node's, with a wire between them that counts."""

    def __init__(self, folder: Path) -> None:
        """Make both in a folder; ``open`` before use."""
        self.folder = folder
        self.clock, self.compute = SystemClock(), ThreadCompute()
        url = f"sqlite:///{folder}/coordinator.db"
        migrate(url)
        self.database = Watched(url)
        self.registry = RegistryService(
            self.clock, self.database, COORDINATOR.public_key, RegistryConfig(), judges=False
        )
        timers = SetTimers(again_ms=1000, surplus_age_ms=0)
        self.service = SetsService(
            self.clock, self.database, self.registry, timers, lost=self._lost
        )
        disk = FolderDisk(folder / "node")
        config = small_store(1 << 40)
        self.store = PieceStore(disk, self.compute, self.clock, SystemRng(), config)
        self.link = Link(Address("127.0.0.1", 1), key=COORDINATOR.public_key, registered=True)
        self.keeper = SetKeeper(
            self.store,
            disk,
            self.compute,
            self.clock,
            SystemRng(),
            links=[self.link],
            ask=self.ask,
            skew_ms=60_000,
        )
        self.cost = Cost("")
        self.report: ReportSet | None = None
        self.alias = 0

    async def _lost(self, alias: int, pieces: Any) -> None:
        raise AssertionError(f"node {alias} does not have {len(pieces)} pieces")

    async def open(self) -> None:
        """Register the node and open its store."""
        facts = encode(
            NodeFacts(
                public_key=PROVIDER.public_key, operator="o", site="s", region="r", country="DE",
                tier="home", host="127.0.0.1", port=1, fingerprint=b"", capacity_bytes=1 << 40,
                price_micro=0, version="0",
            )
        )  # fmt: skip
        signed = SignedFacts(facts=facts, signature=PROVIDER.sign(FACTS_PURPOSE, facts))
        request, now_ms = Register(signed_facts=signed), self.clock.now_ms()
        self.alias = (await self.registry.register(request, PROVIDER.public_key, now_ms)).alias
        await self.store.open()
        await self.keeper.start()

    async def close(self) -> None:
        """Close both."""
        await self.keeper.stop()
        await self.store.close()
        await self.database.close()

    async def ask(self, link: Link, message: Message, answer: type[Any]) -> Any:
        """Carry a request over and an answer back, counting bytes and CPU."""
        if isinstance(message, ReportSet):
            self.report = message
        packed = encode(message)
        before = time.process_time()
        request = decode(packed, NodeRequest)
        handler = self.service.node_handlers[type(request)]
        reply = encode(await handler(request, PROVIDER.public_key, 0))
        self.cost.coordinator_cpu_s += time.process_time() - before
        self.cost.wire_bytes += len(packed) + len(reply)
        self.cost.messages += 2
        return decode(reply, answer)

    async def compare(self, name: str) -> Cost:
        """One comparison."""
        cost = self.cost = Cost(name)
        self.database.longest_s = 0.0
        began, before = time.perf_counter(), time.process_time()
        await self.keeper.compare(self.link)
        cost.wall_s = time.perf_counter() - began
        cost.node_cpu_s = time.process_time() - before - cost.coordinator_cpu_s
        cost.longest_step_ms = self.database.longest_s * 1000
        return cost


def batches(serials: list[int]) -> Iterator[list[int]]:
    """Cut a list."""
    for at in range(0, len(serials), BATCH):
        yield serials[at : at + BATCH]


def fill(pair: Pair, serials: list[int]) -> None:
    """Write the rows of both sides."""
    with sqlite3.connect(pair.folder / "coordinator.db") as raw:
        for some in batches(serials):
            raw.executemany(
                "INSERT INTO piece (alias, serial, piece_index, piece_bytes) VALUES (?, ?, ?, ?)",
                [(pair.alias, serial, serial % 40, PIECE_BYTES) for serial in some],
            )
    raw.close()
    index = pair.store.volume.index._db
    for some in batches(serials):
        index.execute("BEGIN")
        index.executemany(_INSERT, [row_of(serial) for serial in some])
        index.execute("COMMIT")


def row_of(serial: int) -> tuple[Any, ...]:
    """Return an index row of a piece that lies nowhere; ids ascend, to be written quickly."""
    piece = serial.to_bytes(16, "big")
    row = Row(
        log=1, offset=serial * 8, body_bytes=PIECE_BYTES + 3000, head_bytes=100,
        data_bytes=PIECE_BYTES, sequence=serial, state=State.LIVE, mark_sequence=0, mark=0,
        marked_ms=0, retention_ms=0, issuer=ISSUER, segment_serial=serial, issued_ms=OLD_MS,
        segment=piece, piece_index=serial % 40, segment_root=piece * 2, bucket_tag=piece,
        owner_hash=b"o" * 32,
    )  # fmt: skip
    return (piece, *row)


def orders_bytes(deleted: list[int]) -> int:
    """Return what signed deletions of these pieces weigh, in the batches that are sent."""
    total = 0
    for at in range(0, len(deleted), 500):
        limits = [
            OrderLimit(
                action=Action.DELETE, node_id=PROVIDER.node_id, segment_id=SegmentId(bytes(16)),
                segment_serial=serial, index=serial % 40, byte_cap=0, issued_ms=OLD_MS,
                expires_ms=OLD_MS, serial=OrderSerial(bytes(16)), payer_tag=PayerTag(bytes(16)),
                gateway_key=COORDINATOR.public_key,
            )
            for serial in deleted[at : at + 500]
        ]  # fmt: skip
        total += sum(map(len, sign_orders(COORDINATOR, limits)))
    return total


def rss_mib(peak: bool = False) -> float:
    """Return resident memory now, or at most since the start."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


async def measure(folder: Path, pieces: int, segments: int) -> Result:
    """Fill both sides and compare: all, nothing, one per cent deleted."""
    result = Result(platform.processor() or platform.machine(), pieces, segments)
    pair = Pair(folder)
    await pair.open()
    chance = random.Random(3)
    serials = sorted(chance.sample(range(1, segments), pieces))
    deleted = sorted(chance.sample(serials, round(pieces * DELETED_SHARE)))
    fill(pair, serials)
    del serials
    result.database_bytes = (folder / "coordinator.db").stat().st_size
    result.index_bytes = (folder / "node" / "index.sqlite").stat().st_size
    result.rss_before_mib = rss_mib()
    full = await pair.compare("full: the node was told nothing")
    result.costs += [full, await pair.compare("nothing changed")]
    with sqlite3.connect(folder / "coordinator.db") as raw:
        raw.executemany(
            "DELETE FROM piece WHERE alias = ? AND serial = ?",
            [(pair.alias, serial) for serial in deleted],
        )
    raw.close()
    delta = await pair.compare("1 % deleted, moved to the trash here")
    result.costs.append(delta)
    assert pair.report is not None
    assert pair.report.discarded.pieces == len(deleted)
    assert pair.report.counted.pieces == pieces - len(deleted)
    assert pair.report.held == pair.report.counted
    result.rss_peak_mib = rss_mib(peak=True)
    result.orders_bytes = orders_bytes(deleted)
    result.orders_over_delta = result.orders_bytes / delta.wire_bytes
    result.bits_per_piece_full = 8 * full.wire_bytes / pieces
    await pair.close()
    return result


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=2_500_000)
    parser.add_argument("--segments", type=int, default=100_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(Path(folder), arguments.pieces, arguments.segments))
    print(json.dumps(asdict(result), indent=2))
    delta = result.costs[-1].wire_bytes
    small = delta <= DELTA_BYTES_MAX
    print(f"delta {delta:,} bytes: {'within' if small else 'over'} {DELTA_BYTES_MAX:,}")
    return 0 if small else 1


if __name__ == "__main__":
    sys.exit(main())
