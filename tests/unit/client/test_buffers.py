"""The buffer pool: bounded, fair, recycled by itself."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.client.segment.buffers import (
    BLOCK_BYTES_MIN,
    POOL_BYTES_MIN,
    BufferPool,
    block_bytes_for,
)
from atoll.core.errors import AtollError, Kind


class Souvenir:
    def __init__(self, view: memoryview) -> None:
        self.view: memoryview | None = view

    def shed(self) -> None:
        self.view = None


@given(st.integers(1, 8 << 20))
def test_a_block_holds_what_was_asked_and_little_more(length: int) -> None:
    block = block_bytes_for(length)
    assert length <= block
    assert block <= max(BLOCK_BYTES_MIN, length * 1.25 + 4096)


async def test_a_buffer_comes_back_when_its_last_slice_is_gone() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    (view,) = await pool.acquire(1000)
    assert len(view) == 1000
    part = view[10:20]
    del view
    assert pool.bytes_in_use == BLOCK_BYTES_MIN
    del part
    assert pool.bytes_in_use == 0


async def test_what_comes_back_is_lent_again_without_new_memory() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    for _ in range(50):
        views = await pool.acquire(300_000, 200_000)
        del views
    assert pool.bytes_mapped == block_bytes_for(300_000) + block_bytes_for(200_000)


async def test_who_finds_no_room_waits_and_gets_it_in_turn() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    held = await pool.acquire(POOL_BYTES_MIN)
    order: list[int] = []

    async def borrow(number: int) -> None:
        views = await pool.acquire(3 << 20)
        order.append(number)
        del views

    tasks = [asyncio.create_task(borrow(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert not order
    del held
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert pool.bytes_high_water <= POOL_BYTES_MIN
    assert pool.bytes_mapped <= POOL_BYTES_MIN


async def test_a_waiter_that_gives_up_does_not_hold_up_the_next() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    held = await pool.acquire(3 << 20)
    first = asyncio.create_task(pool.acquire(POOL_BYTES_MIN))
    second = asyncio.create_task(pool.acquire(1 << 20))
    await asyncio.sleep(0)
    assert not second.done()
    first.cancel()
    assert len((await second)[0]) == 1 << 20
    del held


async def test_a_buffer_returned_on_another_thread_wakes_the_waiter() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    held = await pool.acquire(POOL_BYTES_MIN)
    waiter = asyncio.create_task(pool.acquire(POOL_BYTES_MIN))
    await asyncio.sleep(0)
    await asyncio.to_thread(held.clear)
    assert len((await waiter)[0]) == POOL_BYTES_MIN


async def test_keepsakes_are_shed_oldest_first_and_only_as_needed() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    souvenirs = [Souvenir((await pool.acquire(1 << 20))[0]) for _ in range(4)]
    for souvenir in souvenirs:
        pool.keep(pool.new_number(), souvenir, 1 << 20)
    views = await pool.acquire(2 << 20)
    assert [souvenir.view is None for souvenir in souvenirs] == [True, True, False, False]
    del views


async def test_a_waiter_is_served_when_something_becomes_a_keepsake() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    souvenir = Souvenir((await pool.acquire(POOL_BYTES_MIN))[0])
    waiter = asyncio.create_task(pool.acquire(1 << 20))
    await asyncio.sleep(0)
    pool.keep(pool.new_number(), souvenir, 1 << 20)
    assert len((await waiter)[0]) == 1 << 20
    assert souvenir.view is None


async def test_more_than_the_pool_is_refused() -> None:
    pool = BufferPool(POOL_BYTES_MIN)
    with pytest.raises(AtollError) as caught:
        await pool.acquire(POOL_BYTES_MIN + 1)
    assert caught.value.kind is Kind.TOO_LARGE
    with pytest.raises(ValueError, match="at least"):
        BufferPool(1000)


async def test_waiting_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.client.segment.buffers.WAIT_S_MAX", 0.01)
    pool = BufferPool(POOL_BYTES_MIN)
    held = await pool.acquire(POOL_BYTES_MIN)
    with pytest.raises(AtollError) as caught:
        await pool.acquire(1)
    assert caught.value.kind is Kind.OVERLOADED
    del held
    assert await pool.acquire(1)
