import asyncio
import threading

import pytest

from atoll.runtime.compute import ThreadCompute


async def test_a_cancelled_call_waits_for_its_function_to_let_go():
    compute = ThreadCompute(1)
    begun, release = threading.Event(), threading.Event()
    buffer = bytearray(1)

    def work():
        begun.set()
        release.wait(10)
        buffer[0] = 1

    task = asyncio.create_task(compute.run(work))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert buffer[0] == 1
    compute.close()


async def test_a_call_cancelled_before_its_turn_never_runs():
    compute = ThreadCompute(1)
    release = threading.Event()
    ran = []
    first = asyncio.create_task(compute.run(release.wait, 10))
    await asyncio.sleep(0)
    second = asyncio.create_task(compute.run(ran.append, 1))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    compute.close()
    assert ran == []


async def test_what_has_not_begun_at_the_close_is_dropped_and_what_runs_ends():
    compute = ThreadCompute(1)
    begun, release = threading.Event(), threading.Event()
    ran = []

    def work():
        begun.set()
        release.wait(10)
        ran.append("first")

    first = asyncio.create_task(compute.run(work))
    second = asyncio.create_task(compute.run(ran.append, "second"))
    await asyncio.to_thread(begun.wait)
    closing = asyncio.create_task(asyncio.to_thread(compute.close))
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    await closing
    assert ran == ["first"]
    with pytest.raises(RuntimeError):
        await compute.run(abs, 1)


async def test_a_call_that_raises_stop_iteration_fails():
    compute = ThreadCompute(1)
    with pytest.raises(RuntimeError):
        await compute.run(next, iter(()))
    compute.close()
