"""``atoll cp``: files and objects, either way, one or many, resumed where they broke off."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.output import emit, say
from atoll.cli.s3 import Door, Meter, Place, door_options, is_remote, meter, parse_place
from atoll.core.errors import AtollError, Kind
from atoll.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from atoll.client import AsyncClient

FILES_AT_ONCE = 4
READ_BYTES = 1 << 20
RATE_BYTES_MIN = 1 << 20
"""Below, a rate would say more about the round trip."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One thing to copy. ``None`` stands for standard input or output."""

    source: Place | Path | None
    target: Place | Path | None
    size: int
    refused: AtollError | None = None
    """Why it cannot be copied at all."""

    @property
    def name(self) -> str:
        return str(self.source if self.source is not None else "(standard input)")


@dataclass(slots=True)
class _Sum:
    files: int = 0
    bytes: int = 0
    failures: int = 0


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("-r", "--recursive", is_flag=True, help="A whole folder or prefix.")
@click.option("--no-resume", is_flag=True, help="Begin anew where an earlier copy broke off.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied; copy nothing.")
@door_options
def cp(
    source: str,
    target: str,
    recursive: bool,
    no_resume: bool,
    dry_run: bool,
    as_json: bool,
    **door: object,
) -> None:
    """Copy SOURCE to TARGET: files and s3://BUCKET/KEY, either way; - is standard input or output.

    Large files go in parallel parts. A copy that broke off goes on where it stopped when the same
    command is given again.
    """
    if not (is_remote(source) or is_remote(target)):
        raise AtollError(
            Kind.BAD_REQUEST,
            "copy",
            "neither SOURCE nor TARGET is an s3:// name",
            hint="write s3://BUCKET/KEY for one of them",
        )
    where = Door(**door)  # type: ignore[arg-type]
    copier = _Copier(as_json, dry_run, resume=not no_resume)
    where.run(lambda client: copier.run(client, source, target, recursive))
    if copier.sum.failures:
        sys.exit(1)


class _Copier:
    def __init__(self, as_json: bool, dry_run: bool, *, resume: bool) -> None:
        self._as_json, self._dry_run, self._resume = as_json, dry_run, resume
        self.sum = _Sum()

    async def run(self, client: "AsyncClient", source: str, target: str, recursive: bool) -> None:
        begun = time.monotonic()
        jobs = _many(client, source, target) if recursive else _one(client, source, target)
        with meter(quiet=self._as_json or target == "-") as bars:
            await self._copy_all(client, jobs, bars, alone=not recursive)
        seconds = max(time.monotonic() - begun, 1e-6)
        if self._as_json:
            done = {"files": self.sum.files, "bytes": self.sum.bytes, "failures": self.sum.failures}
            emit({"event": "done", **done, "seconds": round(seconds, 3)})
        elif recursive and not self._dry_run:
            failed = f", {self.sum.failures} failed" if self.sum.failures else ""
            say(
                f"{self.sum.files:,} files, {show_bytes(self.sum.bytes)} in "
                f"{show_seconds(seconds)} ({show_bytes(self.sum.bytes / seconds)}/s){failed}"
            )

    async def _copy_all(
        self, client: "AsyncClient", jobs: AsyncIterator[_Job], bars: Meter, *, alone: bool
    ) -> None:
        waiting: set[asyncio.Task[None]] = set()
        try:
            async for job in jobs:
                waiting.add(asyncio.create_task(self._copy(client, job, bars, alone=alone)))
                if len(waiting) >= FILES_AT_ONCE:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _copy(self, client: "AsyncClient", job: _Job, bars: Meter, *, alone: bool) -> None:
        begun = time.monotonic()
        try:
            size = (
                job.size
                if self._dry_run and not job.refused
                else await self._move(client, job, bars)
            )
        except AtollError as error:
            if alone:
                raise
            self.sum.failures += 1
            if self._as_json:
                facts = {"event": "failed", "source": job.name, "kind": error.kind.value}
                emit({**facts, "message": error.message})
            else:
                bars.say(f"failed: {job.name}: {error.message}")
            return
        self.sum.files += 1
        self.sum.bytes += size
        self._tell(job, size, max(time.monotonic() - begun, 1e-6), bars)

    def _tell(self, job: _Job, size: int, seconds: float, bars: Meter) -> None:
        if self._as_json:
            event = "would_copy" if self._dry_run else "copied"
            facts = {"event": event, "source": job.name, "target": str(job.target), "bytes": size}
            if job.target is not None:
                emit({**facts, "seconds": round(seconds, 3)})
        elif self._dry_run:
            bars.say(f"would copy {job.name} → {job.target}")
        elif job.target is not None:
            rate = f", {show_bytes(size / seconds)}/s" if size >= RATE_BYTES_MIN else ""
            bars.say(f"{job.name} → {job.target}  {show_bytes(size)}{rate}")

    async def _move(self, client: "AsyncClient", job: _Job, bars: Meter) -> int:
        if job.refused is not None:
            raise job.refused
        tell = bars.begin(job.name, job.size)
        match job.source, job.target:
            case Path() as source, Place() as target:
                head = await client.put_file(
                    source, target.bucket, target.key, progress=tell, resume=self._resume
                )
                return head.size
            case Place() as source, Path() as target:
                head = await client.get_file(
                    source.bucket, source.key, target, progress=tell, resume=self._resume
                )
                return head.size
            case Place() as source, Place() as target:
                head = await client.head(source.bucket, source.key)
                await client.copy(head, source.bucket, target.bucket, target.key, progress=tell)
                return head.size
            case None, Place() as target:
                piped = _CountedInput()
                await client.put_stream(target.bucket, target.key, piped.blocks())
                return piped.bytes
            case Place() as source, None:
                async with client.stream(source.bucket, source.key) as (head, blocks):
                    async for block in blocks:
                        sys.stdout.buffer.write(block)
                    sys.stdout.buffer.flush()
                    return head.size
            case _:
                raise AssertionError("one side is an object")


class _CountedInput:
    """Standard input, and how much of it there was."""

    def __init__(self) -> None:
        self.bytes = 0

    async def blocks(self) -> AsyncIterator[bytes]:
        while block := sys.stdin.buffer.read(READ_BYTES):
            self.bytes += len(block)
            yield block


async def _one(client: "AsyncClient", source: str, target: str) -> AsyncIterator[_Job]:
    """Yield the one job; a target that is a folder or prefix takes the source's name."""
    if is_remote(source):
        place = parse_place(source, key=True)
        name = place.key.rstrip("/").rpartition("/")[2]
        if is_remote(target):
            yield _Job(place, _under(parse_place(target), name), 0)
        elif target == "-":
            yield _Job(place, None, 0)
        else:
            yield _Job(place, _local_target(target, name), 0)
        return
    goal = parse_place(target)
    if source == "-":
        yield _Job(None, parse_place(target, key=True), 0)
        return
    path, size = _local_source(source)
    yield _Job(path, _under(goal, path.name), size)


def _local_source(source: str) -> tuple[Path, int]:
    path = Path(source)
    if path.is_dir():
        raise AtollError(Kind.BAD_REQUEST, "copy", f"{source} is a folder", hint="add --recursive")
    return path, path.stat().st_size if path.exists() else 0


def _local_target(target: str, name: str) -> Path:
    path = Path(target)
    folder = target.endswith(("/", os.sep)) or path.is_dir()
    return path / _safe(name) if folder else path


def _under(place: Place, name: str) -> Place:
    whole = place.key and not place.key.endswith("/")
    return place if whole else Place(place.bucket, place.key + name)


async def _many(client: "AsyncClient", source: str, target: str) -> AsyncIterator[_Job]:
    """Yield a job for each file under a folder, or each object under a prefix."""
    if not is_remote(source):
        goal = _folder_of(parse_place(target))
        for path, name, size in _files_below(Path(source)):
            yield _Job(path, Place(goal.bucket, goal.key + name), size)
        return
    prefix = _folder_of(parse_place(source))
    async for entry in client.list(prefix.bucket, prefix.key):
        key, size = getattr(entry, "key", ""), getattr(entry, "size", 0)
        rest = key[len(prefix.key) :]
        if is_remote(target):
            goal = _folder_of(parse_place(target))
            yield _Job(Place(prefix.bucket, key), Place(goal.bucket, goal.key + rest), size)
        elif not rest.endswith("/"):  # a folder's own marker object has no file
            try:
                yield _Job(Place(prefix.bucket, key), Path(target) / _safe(rest), size)
            except AtollError as error:
                yield _Job(Place(prefix.bucket, key), Path(target), size, error)


def _files_below(root: Path) -> Iterator[tuple[Path, str, int]]:
    if not root.is_dir():
        raise AtollError(Kind.NOT_FOUND, "copy", f"{root} is not a folder")
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file():
                yield path, path.relative_to(root).as_posix(), path.stat().st_size


def _folder_of(place: Place) -> Place:
    closed = not place.key or place.key.endswith("/")
    return place if closed else Place(place.bucket, place.key + "/")


def _safe(name: str) -> Path:
    """Return a key as a path below the target. A key that would lead out of it is refused."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise AtollError(
            Kind.BAD_REQUEST,
            "copy",
            f"the key {name!r} is no path below the target",
            hint="copy it by itself, to a file name of your choice",
        )
    return Path(*parts)
