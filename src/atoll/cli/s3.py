"""What the object commands share: options, the client, ``s3://`` names, progress on a terminal."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import say
from atoll.cli.places import find_running, keys_in_environment
from atoll.core.errors import AtollError, Kind
from atoll.core.units import show_bytes
from atoll.runtime.config import load_here

if TYPE_CHECKING:
    from atoll.client import AsyncClient, Progress

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")
SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class Place:
    """``s3://bucket/key``; the key is empty for the bucket itself."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Door:
    """Where the object commands go: the options as given."""

    data: Path | None
    config_file: Path | None
    endpoint: str | None
    region: str | None

    def client(self) -> "AsyncClient":
        """Return a client for the endpoint named, else for the cloud on this machine."""
        from atoll.client import AsyncClient, Options

        flags = {"client.endpoint": self.endpoint, "client.region": self.region}
        settings = load_here(self.data, self.config_file, flags).config.client
        options = Options(
            part_bytes=settings.part_bytes,
            parallel=settings.parallel,
            attempts=settings.attempts,
        )
        endpoint = settings.endpoint or _environment_endpoint()
        if endpoint and keys_in_environment():
            return AsyncClient(endpoint, region=self.region, options=options)
        found = find_running(self.data)
        if endpoint and endpoint.rstrip("/") != found.running.endpoint:
            raise AtollError(
                Kind.CONFIG,
                "open client",
                f"no key is known for {endpoint}",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        return AsyncClient(
            found.running.endpoint,
            found.access.access_key,
            found.access.secret_key,
            found.running.region,
            options=options,
        )

    def run(self, work: "Callable[[AsyncClient], Coroutine[Any, Any, Result]]") -> Result:
        """Run ``work`` with a client, which is closed after it."""

        async def whole() -> Result:
            async with self.client() as client:
                return await work(client)

        return asyncio.run(whole())


def _environment_endpoint() -> str:
    import os

    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def door_options(function: Function) -> Function:
    """Add the options that say where the cloud is, and ``--json``."""
    for option in (
        json_option,
        config_option,
        click.option("--region", help="Region name to sign for."),
        click.option(
            "--endpoint",
            metavar="URL",
            help="S3 endpoint; keys then come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.",
        ),
        data_option("Folder of a cloud that runs on this machine. Default: that of `atoll up`."),
    ):
        function = option(function)
    return function


def is_remote(text: str) -> bool:
    """Say whether a name is an ``s3://`` one."""
    return text.startswith(SCHEME)


def parse_place(text: str, *, key: bool = False) -> Place:
    """Read ``s3://bucket/key``. Raises ``BAD_REQUEST``; also where a key is wanted and absent."""
    if not is_remote(text):
        raise AtollError(
            Kind.BAD_REQUEST,
            "read name",
            f"{text!r} is not an s3:// name",
            hint="write s3://BUCKET/KEY",
        )
    bucket, _, rest = text[len(SCHEME) :].partition("/")
    if not bucket or (key and not rest):
        raise AtollError(
            Kind.BAD_REQUEST,
            "read name",
            f"{text!r} names no {'object' if bucket else 'bucket'}",
            hint="write s3://BUCKET/KEY",
        )
    return Place(bucket, rest)


class Meter(Protocol):
    """Shows how far a transfer is."""

    def begin(self, name: str, total_bytes: int) -> "Callable[[Progress], None]":
        """Start to show one file; return what to tell its progress."""

    def say(self, text: str) -> None:
        """Write a line of talk, above the bars if there are any."""


class _NoMeter(AbstractContextManager["_NoMeter"]):
    def say(self, text: str) -> None:
        say(text)

    def begin(self, name: str, total_bytes: int) -> "Callable[[Progress], None]":
        return lambda progress: None

    def __exit__(self, *_: object) -> None:
        return None


class _RichMeter:
    """Bars with rate and time left, drawn by rich on a terminal's standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            """Bytes per second, in the units of all other sizes."""

            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{show_bytes(speed)}/s" if speed else "", style="progress.data.speed")

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(binary_units=True),
            Rate(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str, total_bytes: int) -> "Callable[[Progress], None]":
        shown = name if len(name) <= 40 else f"…{name[-39:]}"
        task = self._bars.add_task(shown, total=total_bytes or None)

        def tell(progress: "Progress") -> None:
            self._bars.update(task, completed=progress.done_bytes, total=progress.total_bytes)
            if progress.done_bytes >= progress.total_bytes and total_bytes:
                self._bars.remove_task(task)

        return tell

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


def meter(*, quiet: bool) -> AbstractContextManager[Meter]:
    """Return bars on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(_NoMeter())
    return _RichMeter()
