"""Where recovered objects go: a folder with a list of S3 facts beside it, or any S3 endpoint."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from atoll.client.recovery.restore import Restored
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ObjectFacts
from atoll.core.messages.retention import LockState

if TYPE_CHECKING:
    from atoll.client import AsyncClient

LISTING = "objects.jsonl"
"""In a bucket's folder: one line of S3 facts per restored object; the last line of a key counts."""
PARTIAL = ".atoll-recover"
"""Folder of bodies under way, beside the scratch database."""
NAME_BYTES_MAX = 200
"""Longer components of a key, as file names, are replaced by a hash."""
_WRITE_BYTES = 1 << 20


class ListedObject(msgspec.Struct, frozen=True):
    """One line of the listing."""

    key: str
    path: str
    """Relative to the bucket's folder."""
    modified_ms: int
    source: str
    """``manifest``, or ``capsules`` for one that was perhaps never acknowledged."""
    facts: ObjectFacts
    lock: LockState | None = None
    """How it was locked, by its manifest."""


def path_of(key: str) -> str:
    """Return the relative path of a key: itself wherever that is a plain file name.

    Empty and dotted components and control characters are percent-encoded; a component that is too
    long for a file name becomes a hash. Different keys get different paths.
    """
    return "/".join(_component(part) for part in key.split("/"))


def _component(part: str) -> str:
    raw = part.encode("utf-8", "surrogateescape")
    if part in ("", ".", ".."):
        return "%" + raw.hex()
    safe = "".join(
        char if char.isprintable() and char != "%" and ord(char) < 0x10000 else _percent(char)
        for char in part
    )
    if len(safe.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        return "%long-" + hashlib.sha256(raw).hexdigest()
    return safe


def _percent(char: str) -> str:
    return quote(char.encode("utf-8", "surrogateescape"), safe="")


class FolderTarget:
    """Writes each object to a file of its own; a file is there only when it is whole and right."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / PARTIAL
        self._number = 0
        self._listings: dict[str, int] = {}

    async def begin_bucket(self, bucket: str) -> None:
        """Make the bucket's folder."""
        with _told("make folder"):
            self._partial.mkdir(parents=True, exist_ok=True)
            place = self._folder / _component(bucket)
            place.mkdir(parents=True, exist_ok=True)
            if bucket not in self._listings:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._listings[bucket] = os.open(place / f"%{LISTING}", flags, 0o600)

    async def put(self, restored: Restored, body: AsyncIterator[memoryview]) -> None:
        """Write the body aside, then put it in its place; the listing tells where that is."""
        self._number += 1
        partial = self._partial / f"{os.getpid()}-{self._number}"
        try:
            with _told("write file"):
                file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                async for view in body:
                    with _told("write file"):
                        await _write(file, view)
                with _told("write file"):
                    os.fsync(file)
            finally:
                os.close(file)
            with _told("write file"):
                path = self._settle(partial, restored)
                self._note(restored, path)
        finally:
            partial.unlink(missing_ok=True)

    def _settle(self, partial: Path, restored: Restored) -> str:
        """Move a whole file to its place; a key that is also a prefix of others goes aside."""
        place = self._folder / _component(restored.bucket)
        path = path_of(restored.key)
        stamp = restored.modified_ms / 1000
        os.utime(partial, (stamp, stamp))
        try:
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                raise IsADirectoryError(path)
            os.replace(partial, target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError, OSError) as cause:
            if (
                not isinstance(cause, FileExistsError | NotADirectoryError | IsADirectoryError)
                and cause.errno not in _NAMES_AT_FAULT
            ):
                raise
            raw = restored.key.encode("utf-8", "surrogateescape")
            path = f"%aside/{hashlib.sha256(raw).hexdigest()}"
            (place / "%aside").mkdir(exist_ok=True)
            os.replace(partial, place / path)
        return path

    def _note(self, restored: Restored, path: str) -> None:
        facts = msgspec.structs.replace(restored.facts, etag=restored.check.etag)
        line = ListedObject(
            key=restored.key,
            path=path,
            modified_ms=restored.modified_ms,
            source=restored.source,
            facts=facts,
            lock=restored.lock,
        )
        os.write(self._listings[restored.bucket], msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Make the listings durable and close them."""
        for descriptor in self._listings.values():
            os.fsync(descriptor)
            os.close(descriptor)
        self._listings.clear()


_NAMES_AT_FAULT = frozenset({36, 84})
"""ENAMETOOLONG, EILSEQ."""


async def _write(file: int, view: memoryview) -> None:
    while len(view):
        written = os.write(file, view[:_WRITE_BYTES])
        view = view[written:]
        await asyncio.sleep(0)


class _told:  # noqa: N801 - reads as a word
    """Says what the system refused, as an ``AtollError``."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, cause: BaseException | None, __: object) -> None:
        if isinstance(cause, OSError):
            kind = Kind.DISK_FULL if cause.errno in (28, 122) else Kind.FORBIDDEN
            raise AtollError(
                kind,
                self._operation,
                cause.strerror or str(cause),
                hint="make room or choose another --to; run the same command again to go on",
                about=str(cause.filename or ""),
            ) from cause


class BucketTarget:
    """Writes to an S3 endpoint, under each bucket's own name or into one bucket."""

    def __init__(self, client: "AsyncClient", into: str) -> None:
        """``into``: a bucket for all (keys get the bucket's name before them), or empty."""
        self._client = client
        self._into = into

    async def begin_bucket(self, bucket: str) -> None:
        """Make the bucket, unless it is there."""
        try:
            await self._client.make_bucket(self._into or bucket)
        except AtollError as fault:
            if fault.kind is not Kind.BUCKET_OWNED:
                raise

    async def put(self, restored: Restored, body: AsyncIterator[memoryview]) -> None:
        """Store the object with its headers and metadata; the endpoint checks it again."""
        key = f"{restored.bucket}/{restored.key}" if self._into else restored.key
        await self._client.put_stream(
            self._into or restored.bucket,
            key,
            _bytes(body),
            content_type=restored.facts.content_type or "binary/octet-stream",
            metadata=restored.facts.user_metadata,
            headers=restored.facts.headers,
        )


async def _bytes(body: AsyncIterator[memoryview]) -> AsyncIterator[bytes]:
    async for view in body:
        yield bytes(view)
