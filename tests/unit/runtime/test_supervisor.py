"""The supervisor over real, tiny processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.control import ControlServer, send_order, socket_path
from atoll.runtime.supervisor import ChildEvent, ChildSpec, Supervisor, end_in_words

WAIT_S = 10.0
STAY = "import signal,sys; signal.signal(15, lambda *a: sys.exit(0)); signal.pause()"
DEAF = (
    "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True)\n"
    "while 1: signal.pause()"
)


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: asyncio.Queue[ChildEvent] = asyncio.Queue()
        self.supervisor = Supervisor(SystemClock(), self.events.put_nowait, os.getpid())

    def spec(self, name: str, code: str, stage: int = 0) -> ChildSpec:
        return ChildSpec(name, (sys.executable, "-c", code), self.folder / f"{name}.log", stage)

    async def event(self) -> ChildEvent:
        return await asyncio.wait_for(self.events.get(), WAIT_S)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():  # noqa: ASYNC110 — another process's state has no event
                await asyncio.sleep(0.01)

    def pid(self, name: str) -> int:
        return next(f.pid for f in self.supervisor.facts() if f.name == name)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    await stage.supervisor.stop(grace_s=1)


async def test_a_killed_child_is_started_again_and_said_so(stage: Stage) -> None:
    stage.supervisor.start([stage.spec("node-1", STAY)])
    await stage.until(lambda: stage.pid("node-1") > 0)
    first = stage.pid("node-1")
    os.kill(first, signal.SIGKILL)
    event = await stage.event()
    assert event.what == "ended"
    assert "SIGKILL" in event.text
    await stage.until(lambda: stage.pid("node-1") not in (0, first))


async def test_a_held_child_stays_down_until_started(stage: Stage) -> None:
    stage.supervisor.start([stage.spec("node-1", STAY), stage.spec("node-2", STAY)])
    await stage.until(lambda: stage.pid("node-1") > 0 and stage.pid("node-2") > 0)
    stage.supervisor.kill("node-1", hold=True)
    assert (await stage.event()).what == "held"
    await stage.until(lambda: stage.supervisor._children["node-1"].process is None)
    assert [f.state for f in stage.supervisor.facts()] == ["held", "running"]
    stage.supervisor.release("node-1")
    await stage.until(lambda: stage.pid("node-1") > 0)


async def test_stop_asks_first_and_kills_the_deaf(stage: Stage) -> None:
    deaf = stage.spec("deaf", DEAF)
    stage.supervisor.start([stage.spec("polite", STAY), deaf])
    await stage.until(
        lambda: stage.pid("polite") > 0 and deaf.log.exists() and bool(deaf.log.read_text())
    )
    assert await stage.supervisor.stop(grace_s=0.5) == ["deaf"]
    assert {f.state for f in stage.supervisor.facts()} == {"stopped"}


async def test_a_child_that_a_new_start_cannot_cure_is_given_up(stage: Stage) -> None:
    stage.supervisor.start([stage.spec("node-1", "print('bad port'); raise SystemExit(78)")])
    assert (await stage.event()).what == "ended"
    event = await stage.event()
    assert event.what == "unfit"
    assert "bad port" in event.text


async def test_orders_arrive_over_the_socket(stage: Stage) -> None:
    stage.supervisor.start([stage.spec("node-1", STAY)])
    server = ControlServer(stage.supervisor, socket_path(stage.folder))
    await server.start()
    compute = ThreadCompute(1)
    await stage.until(lambda: stage.pid("node-1") > 0)
    facts = await compute.run(send_order, stage.folder, "kill", "node-1")
    assert [(f.name, f.state) for f in facts] == [("node-1", "held")]
    with pytest.raises(AtollError) as refused:
        await compute.run(send_order, stage.folder, "kill", "node-9")
    assert refused.value.kind is Kind.NOT_FOUND
    with pytest.raises(AtollError) as unknown:
        await compute.run(send_order, stage.folder, "dance", "node-1")
    assert unknown.value.kind is Kind.BAD_REQUEST
    await server.stop()
    with pytest.raises(AtollError) as silent:
        await compute.run(send_order, stage.folder, "facts", "")
    assert silent.value.kind is Kind.UNREACHABLE


def test_a_long_folder_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/" + "y" * 100)
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "z" * 100)
    assert len(os.fsencode(socket_path(tmp_path / ("x" * 200)))) < 108


async def test_a_socket_folder_of_somebody_else_is_refused(stage: Stage) -> None:
    path = stage.folder / "shared" / "control.sock"
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(AtollError) as refused:
        await ControlServer(stage.supervisor, path).start()
    assert refused.value.kind is Kind.WRONG_FOLDER


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit status 0"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_an_end_in_words(status: int, words: str) -> None:
    assert end_in_words(status) == words
