"""Two worlds that answer the same ports; every contract test runs in both."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from atoll.core.ports import Address
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk
from atoll.runtime.process import ChildProcess
from atoll.runtime.rng import SystemRng
from atoll.runtime.server import HttpServer, open_socket
from atoll.runtime.transport import HttpPieceTransport
from atoll.sim.clock import SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.database import DatabaseServer, SimDatabase
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Incarnation, SimProcess
from atoll.sim.loop import SimLoop
from atoll.sim.network import Network
from atoll.sim.rng import SimRng
from atoll.sim.trace import Trace
from atoll.sim.transport import SimPieceTransport

Test = Callable[["World"], Awaitable[None]]


class World:
    """The ports of one process, and a way to run a coroutine among them."""

    clock: Any
    rng: Any
    disk: Any
    compute: Any
    database: Any
    transport: Any

    def run(self, test: Test) -> None:
        raise NotImplementedError

    async def serve(self, app: Any) -> Address:
        raise NotImplementedError

    async def silence(self) -> Address:
        """An address where nobody listens."""
        raise NotImplementedError

    async def process(self, *, obeys: bool) -> Any:
        """A process that runs until it is stopped; one that ``obeys`` ends on SIGTERM."""
        raise NotImplementedError


class RealWorld(World):
    def __init__(self, folder: Path) -> None:
        self.clock = SystemClock()
        self.rng = SystemRng()
        self.disk = FolderDisk(folder / "disk")
        self._folder = folder

    def run(self, test: Test) -> None:
        asyncio.run(self._run(test))

    async def _run(self, test: Test) -> None:
        self.compute = ThreadCompute(2)
        self.database = SqlDatabase(f"sqlite:///{self._folder}/database.sqlite")
        self.transport = HttpPieceTransport()
        self._servers: list[HttpServer] = []
        self._processes: list[ChildProcess] = []
        try:
            await test(self)
        finally:
            await self.transport.close()
            for server in self._servers:
                await server.stop()
            for process in self._processes:
                process.kill()
                await process.wait()
            self.compute.close()
            await self.database.close()

    async def serve(self, app: Any) -> Address:
        server = HttpServer(app, open_socket("127.0.0.1", 0), stop_s=1)
        await server.start()
        self._servers.append(server)
        return Address(*server.address)

    async def silence(self) -> Address:
        sock = open_socket("127.0.0.1", 0)
        port = sock.getsockname()[1]
        sock.close()
        return Address("127.0.0.1", port)

    async def process(self, *, obeys: bool) -> ChildProcess:
        code = (
            "import signal, sys\n"
            f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(0) if {obeys} else None)\n"
            "open(sys.argv[1], 'w').write('ready')\n"
            "while True: signal.pause()\n"
        )
        # The child opens the pipe to say that its handler is in place.
        pipe = self._folder / f"ready{len(self._processes)}"
        os.mkfifo(pipe)
        process = await ChildProcess.start(
            [sys.executable, "-c", code, str(pipe)], log=self._folder / "child.log"
        )
        self._processes.append(process)
        assert await asyncio.to_thread(pipe.read_text) == "ready"
        return process


class SimulatedWorld(World):
    def __init__(self) -> None:
        self.loop = SimLoop("contract")
        self.trace = Trace(self.loop.time)
        self.network = Network(self.loop, "network", self.trace)
        self._ports = 7000
        self._incarnations: list[Incarnation] = []

    def incarnation(self, name: str) -> Incarnation:
        self._incarnations.append(Incarnation(name, 1, self.loop, self.trace))
        return self._incarnations[-1]

    def run(self, test: Test) -> None:
        asyncio.set_event_loop(None)
        try:
            self.loop.run_until_complete(self._run(test))
        finally:
            for incarnation in self._incarnations:
                incarnation.crash()
                incarnation.bury()
            self.loop.close()

    async def _run(self, test: Test) -> None:
        process = self.incarnation("node1")
        self.clock = SimClock(process)
        self.rng = SimRng(process, "rng")
        self.platter = Platter("platter", 1 << 30)
        self.disk = SimDisk(process, self.platter, "disk")
        self.compute = SimCompute(process, "compute")
        self.database = SimDatabase(process, DatabaseServer(), "database")
        self.transport = SimPieceTransport(process, self.network)
        await process.start(_as_coroutine(test(self)))

    async def serve(self, app: Any) -> Address:
        self._ports += 1
        server = self.incarnation(f"node{self._ports}")
        self.network.listen("127.0.0.1", self._ports, server, app)
        return Address("127.0.0.1", self._ports)

    async def silence(self) -> Address:
        return Address("127.0.0.1", 6999)

    async def process(self, *, obeys: bool) -> SimProcess:
        async def obey() -> None:
            return None

        async def ignore() -> None:
            await asyncio.Event().wait()

        return SimProcess(self.incarnation("child"), obey if obeys else ignore)


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


@pytest.fixture(params=["runtime", "sim"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return RealWorld(tmp_path) if request.param == "runtime" else SimulatedWorld()
