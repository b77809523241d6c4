"""Child processes of a supervisor."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from atoll.core.errors import AtollError, Kind

_PR_SET_PDEATHSIG = 1


def allow_open_files() -> int:
    """Raise this process's limit of open files to the most it may have; return that.

    A gateway with a hundred clients holds a thousand connections: more than many systems give at
    first.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class ChildProcess:
    """``core.ports.Process`` over a real child in a session of its own.

    Of its own, so that Ctrl-C at a terminal reaches the supervisor only, which then stops its
    children in order.
    """

    __slots__ = ("_process",)

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take over a started process; use ``start``."""
        self._process = process

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        pass_descriptors: Sequence[int] = (),
    ) -> Self:
        """Start ``arguments[0]``; output is appended to ``log`` or inherited.

        ``environment`` is added to this process's. Raises ``INTERNAL`` where it cannot start.
        """
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("ab")) if log is not None else None
            try:
                process = await asyncio.create_subprocess_exec(
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                    pass_fds=tuple(pass_descriptors),
                )
            except OSError as cause:
                raise AtollError(
                    Kind.INTERNAL, "start process", str(cause), about=arguments[0]
                ) from cause
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or None while it runs."""
        return self._process.returncode

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); one that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Stop it at once (SIGKILL); one that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Return its exit status when it has ended (negative: the signal that ended it)."""
        return await self._process.wait()


def end_with_parent(parent: int) -> None:
    """Let the kernel send this process SIGTERM when its parent dies, however it dies.

    ``parent`` is the process id of the supervisor as the child was told; a child whose parent is
    already gone ends at once. Without this a killed supervisor leaves its children behind.
    """
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
