import asyncio

import pytest

from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.database import DatabaseServer, SimDatabase
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Fenced
from atoll.sim.rng import SimRng
from atoll.sim.transport import SimPieceTransport


def test_the_dead_never_run_again(lab):
    life = lab.incarnation()
    said = []

    async def inner():
        try:
            while True:
                await asyncio.sleep(1)
                said.append("alive")
        finally:
            said.append("finally")

    async def main():
        life.start(inner())
        await asyncio.sleep(2.5)
        life.crash()
        await asyncio.sleep(10)
        assert said == ["alive", "alive"]
        assert life.ended.is_set()

    lab.run(main())


def test_children_and_callbacks_die_with_it(lab):
    life = lab.incarnation()
    said = []

    async def main():
        async def child():
            await asyncio.sleep(5)
            said.append("child")

        async def parent():
            asyncio.create_task(child())  # noqa: RUF006
            asyncio.get_running_loop().call_later(5, said.append, "timer")
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: said.append("callback"))
            shared.append(future)

        shared = []
        life.start(parent())
        await asyncio.sleep(1)
        life.crash()
        shared[0].set_result(None)
        await asyncio.sleep(10)
        assert said == []

    lab.run(main())


def test_it_dies_at_the_callback_that_was_drawn(lab):
    life = lab.incarnation()
    said = []

    async def count():
        for i in range(100):
            said.append(i)
            await asyncio.sleep(0)

    async def main():
        life.crash_in = 4
        life.start(count())
        await asyncio.sleep(1)
        assert said == [0, 1, 2]

    lab.run(main())


def test_every_port_of_the_dead_raises_and_no_handler_of_failures_sees_it(lab):
    life = lab.incarnation()
    platter = Platter("p", 1 << 20)

    async def main():
        disk = SimDisk(life, platter, "d")
        file = disk.open("f", create=True)
        clock, rng = SimClock(life), SimRng(life, "r")
        compute = SimCompute(life, "c")
        database = SimDatabase(life, DatabaseServer(), "b")
        transport = SimPieceTransport(life, lab.network)
        life.crash()
        for act in (
            clock.now_ms,
            clock.monotonic,
            lambda: rng.bytes(1),
            rng.uniform,
            lambda: disk.names(""),
            disk.free_bytes,
            file.sync,
            file.size,
            lambda: file.write_at(0, [b"x"]),
            lambda: file.read_at(0, 1),
        ):
            with pytest.raises(Fenced):
                act()
        for call in (
            clock.sleep(1),
            compute.run(print),
            database.read(lambda c: None),
            database.write(lambda c: None),
            transport.call(None, "GET", "/", {}, b"", 1),
        ):
            with pytest.raises(Fenced):
                await call
        assert not issubclass(Fenced, Exception)

    lab.run(main())
