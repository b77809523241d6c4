"""A whole cloud in child processes, held by a handle: for the demo, benchmarks and tests.

It starts ``atoll up --json`` as anybody would, and knows the processes below it.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil

from atoll.core.errors import AtollError, Kind

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_KIND = re.compile(r"(coordinator|gateway|node|verifier|watcher) run")


@dataclass(frozen=True, slots=True)
class ChildUse:
    """What one process has used: CPU seconds so far, resident bytes now."""

    kind: str
    pid: int
    cpu_s: float
    rss_bytes: int


class LocalCloud:
    """A running ``atoll up``. Use as a context manager; leaving it stops every process."""

    def __init__(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        """Start it with these flags and wait until it serves. Raises ``AtollError``."""
        command = [sys.executable, "-m", "atoll", "up", "--json", *flags]
        # A file, not a pipe: nobody reads along, and a full pipe would stop the supervisor.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — lives as long as the handle
        self._child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            self.facts: dict[str, Any] = self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        deadline, line = time.monotonic() + READY_TIMEOUT_S, b""
        while b"\n" not in line:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AtollError(
                    Kind.TIMEOUT, "start cloud", f"not ready after {READY_TIMEOUT_S:.0f} s"
                )
            ready, _, _ = select.select([self._child.stdout], [], [], min(left, 1.0))
            if not ready:
                continue
            more = os.read(self._child.stdout.fileno(), 1 << 16)
            if not more:
                raise AtollError(Kind.INTERNAL, "start cloud", self._complaint())
            line += more
        facts = json.loads(line.split(b"\n", 1)[0])
        if "error" in facts:
            raise AtollError(Kind.INTERNAL, "start cloud", str(facts["error"]))
        return dict(facts)

    def _complaint(self) -> str:
        self._child.kill()
        self._child.wait(timeout=STOP_TIMEOUT_S)
        return self.talk().strip()[-2000:] or "ended without a word"

    def talk(self) -> str:
        """Return what the supervisor has said on standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    @property
    def endpoint(self) -> str:
        """The S3 endpoint's URL."""
        return str(self.facts["endpoint"])

    @property
    def access_key(self) -> str:
        """The access key id."""
        return str(self.facts["access_key"])

    @property
    def secret(self) -> str:
        """The secret access key."""
        return str(self.facts["secret_key"])

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return str(self.facts.get("region", "us-east-1"))

    @property
    def supervisor(self) -> psutil.Process:
        """The supervising process."""
        return psutil.Process(self._child.pid)

    def processes(self, kind: str = "") -> list[psutil.Process]:
        """Return the child processes of one kind (coordinator, gateway, node), or all."""
        found = []
        for process in self.supervisor.children(recursive=True):
            named = kind_of(process)
            if named and (not kind or named == kind):
                found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def uses(self) -> list[ChildUse]:
        """Return what every process of the cloud has used so far."""
        uses = []
        for process in [self.supervisor, *self.processes()]:
            try:
                times, kind = process.cpu_times(), kind_of(process) or "supervisor"
                cpu_s = times.user + times.system
                uses.append(ChildUse(kind, process.pid, cpu_s, process.memory_info().rss))
            except psutil.NoSuchProcess:
                continue
        return uses

    def boto3_client(self, **options: Any) -> Any:
        """Return a boto3 S3 client for this cloud."""
        import boto3
        from botocore.config import Config

        settings = Config(
            retries={"max_attempts": 8, "mode": "standard"},
            max_pool_connections=32,
            s3={"addressing_style": "path"},
        ).merge(options.pop("config", Config()))
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            region_name=self.region,
            config=settings,
            **options,
        )

    def stop(self) -> int:
        """Stop as Ctrl-C does; by force if that takes too long. Return the exit status."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, signal.SIGKILL)
        if self._child.stdout is not None:
            self._child.stdout.close()
        return self._child.wait(timeout=STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def kind_of(process: psutil.Process) -> str:
    """Return which part of a cloud a process is, or an empty text."""
    try:
        match = _KIND.search(" ".join(process.cmdline()))
    except psutil.Error:
        return ""
    return match.group(1) if match else ""
