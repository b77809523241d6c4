"""A real process with a real store on a real disk: stores pieces and says so on standard output.

Lines: ``stored NAME BYTES`` and ``deleted NAME`` after each acknowledgement, then it goes on for
ever. It is meant to be killed.
"""

import asyncio
import random
import sys
from pathlib import Path

from tests.unit.node.machine import KIB, admission_of, make_piece, put

from atoll.core.errors import AtollError, Kind
from atoll.node.config import StoreConfig
from atoll.node.store.store import PieceStore
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

CONFIG = StoreConfig(
    capacity_bytes=256 << 20,
    log_bytes=4 << 20,
    log_step_bytes=1 << 20,
    reserve_bytes=0,
    trash_ms=0,
    maintenance_interval_s=0.05,
    compaction_bytes_per_s=1 << 30,
)
SIZES = (100, 4096, 30 * KIB, 100 * KIB, 400 * KIB)
WORKERS = 8


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def work(store: PieceStore, chance: random.Random, name: str) -> None:
    clock = SystemClock()
    number = 0
    while True:
        number += 1
        size = chance.choice(SIZES)
        piece_name = f"{name}-{number}"
        piece = make_piece(piece_name, size)
        await put(store, piece, admission_of(piece, piece_name, clock.now_ms()))
        tell("stored", piece_name, size)
        if chance.random() < 0.6:
            order = admission_of(piece, f"delete-{piece_name}", clock.now_ms())
            tell("deleting", piece_name)
            await store.delete(order)
            tell("deleted", piece_name)


async def main(folder: str, run: str) -> None:
    store = PieceStore(
        FolderDisk(Path(folder)), ThreadCompute(), SystemClock(), SystemRng(), CONFIG
    )
    recovered = await store.open()
    tell("open", recovered.rebuilt, recovered.scanned_bytes)
    chance = random.Random(run)
    tasks = [work(store, chance, f"{run}-{i}") for i in range(WORKERS)]
    await asyncio.gather(store.run(), *tasks)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    except AtollError as cause:
        raise SystemExit(f"{cause.kind is Kind.INTERNAL}: {cause}") from cause
