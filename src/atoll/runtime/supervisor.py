"""Keeps child processes running: starts them, starts them again with back-off, stops them in order.

A child that ends unasked is started again, later each time it ends early. A child that is *held*
stays down until it is asked for again: that is how a drill keeps a node dead. Orders to a running
supervisor arrive over a Unix socket of its data folder (``runtime.control``).
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock
from atoll.runtime.process import ChildProcess

PARENT_VARIABLE = "ATOLL_SUPERVISOR_PID"
"""Environment variable that tells a child whose end is its own."""
RESTART_DELAY_S_MIN = 0.5
RESTART_DELAY_S_MAX = 30.0
STEADY_S = 20.0
"""A child that ran this long starts again without waiting for its past failures."""
STOP_GRACE_S = 10.0
"""Time to stop cleanly before SIGKILL."""
LOG_TAIL_LINES = 4
_UNFIT_STATUSES = frozenset({69, 78})
"""Exit codes after which starting again cannot help: a taken port, a wrong configuration."""


class ChildState(Enum):
    """Where a child is in its life."""

    WAITING = "waiting"
    """To be started (again) soon."""
    RUNNING = "running"
    HELD = "held"
    """Killed on purpose; stays down until started."""
    STOPPED = "stopped"
    UNFIT = "unfit"
    """Ended before it ever served, in a way that a new start does not cure."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. ``stage`` orders the stop: lower stages are stopped first."""

    name: str
    arguments: Sequence[str]
    log: Path
    stage: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChildFacts:
    """How a child stands now."""

    name: str
    state: str
    pid: int
    """0 where it does not run."""
    restarts: int


@dataclass(frozen=True, slots=True)
class ChildEvent:
    """Something to tell a person: a child ended, or was started again."""

    name: str
    what: str
    """``ended``, ``restarted``, ``held`` or ``unfit``."""
    text: str


class _Child:
    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state = ChildState.WAITING
        self.process: ChildProcess | None = None
        self.restarts = 0
        self.failures = 0
        """Early ends in a row."""
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        # A property, since other tasks change the state at every await.
        return self.state is ChildState.HELD


class Supervisor:
    """Runs a fixed set of children. All methods are for the loop that made it."""

    def __init__(self, clock: Clock, say: Callable[[ChildEvent], None], parent_pid: int) -> None:
        self._clock = clock
        self._say = say
        self._parent_pid = parent_pid
        self._children: dict[str, _Child] = {}
        self._stopping = asyncio.Event()

    def start(self, specs: Sequence[ChildSpec]) -> None:
        """Start children; returns at once."""
        for spec in specs:
            child = self._children[spec.name] = _Child(spec)
            child.task = asyncio.create_task(self._keep(child), name=f"keep {spec.name}")

    def facts(self) -> list[ChildFacts]:
        """Return how every child stands, in the order they were started."""
        return [
            ChildFacts(
                name=child.spec.name,
                state=child.state.value,
                pid=child.process.pid if child.process and child.state is ChildState.RUNNING else 0,
                restarts=child.restarts,
            )
            for child in self._children.values()
        ]

    def kill(self, name: str, *, hold: bool) -> None:
        """SIGKILL a child; with ``hold`` it stays down. Raises ``NOT_FOUND``."""
        child = self._child(name)
        if hold and child.state in (ChildState.RUNNING, ChildState.WAITING):
            child.state = ChildState.HELD
            self._say(ChildEvent(name, "held", f"{name} is killed and held down"))
        if child.process is not None:
            child.process.kill()

    def freeze(self, name: str, *, thaw: bool) -> None:
        """Stop a child where it is (SIGSTOP), or let it go on (SIGCONT). Raises ``NOT_FOUND``."""
        child = self._child(name)
        if child.process is not None:
            child.process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    def release(self, name: str) -> None:
        """Start a child that is held or waits. Raises ``NOT_FOUND``."""
        child = self._child(name)
        if child.state in (ChildState.HELD, ChildState.UNFIT):
            child.state = ChildState.WAITING
        child.failures = 0
        child.wake.set()

    async def stop(self, grace_s: float = STOP_GRACE_S) -> list[str]:
        """Stop all, stage by stage. Return the names of those that had to be killed."""
        self._stopping.set()
        forced: list[str] = []
        for stage in sorted({child.spec.stage for child in self._children.values()}):
            forced += await self._stop_stage(stage, grace_s)
        return forced

    async def _stop_stage(self, stage: int, grace_s: float) -> list[str]:
        children = [c for c in self._children.values() if c.spec.stage == stage]
        for child in children:
            child.wake.set()
            if child.process is not None:
                child.process.terminate()
        tasks = {child.task: child for child in children if child.task is not None}
        if not tasks:
            return []
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            process = tasks[task].process
            if process is not None:
                process.kill()
        if late:
            await asyncio.wait(late)
        return [tasks[task].spec.name for task in late]

    def _child(self, name: str) -> _Child:
        child = self._children.get(name)
        if child is None:
            raise AtollError(
                Kind.NOT_FOUND,
                "control process",
                f"there is no process {name!r}",
                hint=f"known: {', '.join(self._children)}",
            )
        return child

    async def _keep(self, child: _Child) -> None:
        """One child's life: run, judge its end, wait, run again."""
        while not self._stopping.is_set():
            if child.state in (ChildState.HELD, ChildState.UNFIT):
                await child.wake.wait()
            child.wake.clear()
            if self._stopping.is_set():
                break
            if child.state is ChildState.WAITING:
                status, ran_s = await self._run_once(child)
                if not self._stopping.is_set() and not child.held:
                    await self._judge_end(child, status, ran_s)
        child.state = ChildState.STOPPED

    async def _run_once(self, child: _Child) -> tuple[int, float]:
        begun = self._clock.monotonic()
        spec = child.spec
        try:
            child.process = await ChildProcess.start(
                spec.arguments,
                environment={**spec.environment, PARENT_VARIABLE: str(self._parent_pid)},
                log=spec.log,
            )
        except (AtollError, OSError) as cause:
            self._say(ChildEvent(spec.name, "ended", f"{spec.name} cannot start: {cause}"))
            return 1, 0.0
        # Orders may have arrived while the process was being made.
        if self._stopping.is_set():
            child.process.terminate()
        elif child.held:
            child.process.kill()
        else:
            child.state = ChildState.RUNNING
        status = await child.process.wait()
        child.process = None
        return status, self._clock.monotonic() - begun

    async def _judge_end(self, child: _Child, status: int, ran_s: float) -> None:
        name = child.spec.name
        child.failures = 0 if ran_s >= STEADY_S else child.failures + 1
        words = f"{name} ended ({end_in_words(status)})"
        if status in _UNFIT_STATUSES and child.failures > 1:
            child.state = ChildState.UNFIT
            said = last_words(child.spec.log)
            self._say(ChildEvent(name, "unfit", f"{words}, not started again: {said}"))
            return
        child.state = ChildState.WAITING
        delay_s = min(RESTART_DELAY_S_MIN * 2 ** max(0, child.failures - 1), RESTART_DELAY_S_MAX)
        self._say(ChildEvent(name, "ended", f"{words}; starting it again in {delay_s:g} s"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wake.wait(), delay_s)
        child.restarts += 1


def end_in_words(status: int) -> str:
    """Say how a process ended: ``exit status 1``, ``SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def last_words(path: Path) -> str:
    """Return what a child said last in its log: its error in one line, else the last line."""
    lines = _last_lines(path, LOG_TAIL_LINES)
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _last_lines(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.strip().splitlines()[-lines:]
