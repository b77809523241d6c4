"""Serials: never the same twice, whoever asks, and a write only once a block."""

import asyncio

from atoll.coordinator.metadata.serials import SerialAllocator
from atoll.runtime.database import SqlDatabase


async def test_processes_share_a_database_and_no_serial(database: SqlDatabase) -> None:
    processes = [SerialAllocator(database, block_serials=10) for _ in range(3)]
    taken = await asyncio.gather(*(processes[i % 3].take() for i in range(200)))
    assert len(set(taken)) == 200
    assert min(taken) == 1
    assert max(taken) <= 230


async def test_a_restart_wastes_a_block_and_repeats_nothing(database: SqlDatabase) -> None:
    before = SerialAllocator(database, block_serials=10)
    assert [await before.take() for _ in range(3)] == [1, 2, 3]
    after = SerialAllocator(database, block_serials=10)
    assert await after.take() == 11
    assert await before.take() == 4
