"""The loop stands on private parts of asyncio: these tests say when one of them has changed."""

import asyncio
import random

import pytest

from atoll.sim.loop import Deadlock, SimLoop


def run(seed, main):
    loop = SimLoop(seed)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


def test_time_jumps_and_costs_nothing():
    async def main():
        await asyncio.sleep(86_400 * 365)
        return asyncio.get_running_loop().time()

    assert run("s", main) == pytest.approx(86_400 * 365)


def test_timeouts_follow_virtual_time():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 1000)
        return asyncio.get_running_loop().time()

    assert run("s", main) == pytest.approx(2000)


def interleaving(seed):
    async def main():
        order = []

        async def worker(name):
            for _ in range(5):
                order.append(name)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(worker(n)) for n in "abcdef"]
        done, _ = await asyncio.wait(tasks)
        # A set of tasks: its order must not depend on where they lie in memory.
        return "".join(order), [tasks.index(t) for t in done]

    return run(seed, main)


def test_a_seed_decides_the_order_and_seeds_differ():
    first = interleaving("one")
    litter = [bytearray(random.randrange(5000)) for _ in range(500)]
    assert interleaving("one") == first
    assert len({interleaving(str(i))[0] for i in range(5)}) > 1
    del litter


def test_cancelled_timers_never_run():
    async def main():
        loop = asyncio.get_running_loop()
        fired = []
        for i in range(300):
            handle = loop.call_later(i, fired.append, i)
            if i % 3:
                handle.cancel()
        await asyncio.sleep(1000)
        return fired

    assert run("s", main) == list(range(0, 300, 3))


def test_threads_are_refused():
    async def main():
        with pytest.raises(RuntimeError, match="threads"):
            await asyncio.to_thread(print)

    run("s", main)


def test_nothing_left_to_do_is_named():
    async def main():
        await asyncio.Event().wait()

    loop = SimLoop("s")
    task = loop.create_task(main())
    with pytest.raises(Deadlock):
        loop.run_until_complete(task)
    task._log_destroy_pending = False
    task.get_coro().close()
    loop.close()
