import asyncio

import pytest


def test_a_call_returns_its_result(world):
    async def check(w):
        assert await w.compute.run(pow, 2, 10) == 1024

    world.run(check)


def test_a_calls_failure_is_the_callers(world):
    async def check(w):
        with pytest.raises(ZeroDivisionError):
            await w.compute.run(divmod, 1, 0)

    world.run(check)


def test_others_run_meanwhile(world):
    async def check(w):
        order = []

        async def work():
            await w.compute.run(order.append, "computed")
            order.append("returned")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        order.append("meanwhile")
        await task
        assert order.index("meanwhile") < order.index("returned")

    world.run(check)


def test_many_calls_at_once_all_return(world):
    async def check(w):
        results = await asyncio.gather(*(w.compute.run(abs, -i) for i in range(600)))
        assert results == list(range(600))

    world.run(check)
