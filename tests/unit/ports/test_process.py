import asyncio


def test_terminate_ends_one_that_obeys(world):
    async def check(w):
        process = await w.process(obeys=True)
        assert process.pid > 0
        process.terminate()
        assert await process.wait() == 0
        process.terminate()
        process.kill()

    world.run(check)


def test_kill_ends_one_that_does_not(world):
    async def check(w):
        process = await w.process(obeys=False)
        process.terminate()
        waiting = asyncio.create_task(process.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        process.kill()
        assert await waiting == -9

    world.run(check)
