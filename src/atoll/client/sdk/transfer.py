"""Moves files and streams: parallel parts and ranges, resumed where an earlier attempt stopped.

What an upload needs to go on lies under the XDG state folder; what a download needs lies beside
its target as ``NAME.atoll-part`` and ``NAME.atoll-part.json``.
"""

import asyncio
import base64
import contextlib
import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import platformdirs

from atoll.client.sdk.answers import (
    KnownPart,
    complete_body,
    read_complete,
    read_parts,
    read_upload_id,
)
from atoll.client.sdk.checksum import crc64nvme, crc_of_range, crc_text
from atoll.client.sdk.model import ObjectHead, Progress, Tell
from atoll.client.sdk.requests import EMPTY, Body, Requests, bytes_body
from atoll.client.sdk.world import offload
from atoll.core.errors import AtollError, Kind
from atoll.core.sigv4 import UNSIGNED_PAYLOAD

READ_BYTES = 1 << 20
STREAM_PART_BYTES_MIN = 8 << 20
STREAM_PART_GROWTH = 1000
"""Parts of a stream double every so many, so that 10,000 hold any object."""
PART_SUFFIX = ".atoll-part"


def base64_text(data: bytes) -> str:
    """Return base64 as headers carry it."""
    return base64.b64encode(data).decode()


def metadata_headers(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return user metadata as headers."""
    return {f"x-amz-meta-{name.lower()}": value for name, value in (metadata or {}).items()}


def check_whole(head: ObjectHead, size: int, crc: int) -> None:
    """Raise ``CORRUPT`` (or ``UNREACHABLE``, short) where bytes are not the object's."""
    if size != head.size:
        raise AtollError(
            Kind.UNREACHABLE,
            "get object",
            f"{size} of {head.size} bytes arrived",
            about=head.key,
        )
    if head.crc64nvme and head.crc64nvme != crc_text(crc):
        raise AtollError(
            Kind.CORRUPT,
            "get object",
            "the bytes do not have the object's checksum",
            hint="try again; if it stays so, the endpoint is faulty",
            about=head.key,
        )


class _Meter:
    """Adds up the bytes of parallel parts and tells the caller."""

    def __init__(self, total: int, tell: Tell | None) -> None:
        self._total, self._tell = total, tell
        self._done = self._resumed = 0

    def add(self, count: int, *, resumed: bool = False) -> None:
        self._done += count
        self._resumed += count if resumed else 0
        if self._tell is not None:
            self._tell(Progress(self._done, max(self._total, self._done), self._resumed))


class _UploadState(msgspec.Struct, frozen=True):
    """What a later attempt must know of an upload in parts."""

    size: int
    modified_ns: int
    part_bytes: int
    upload: str


@dataclass(frozen=True, slots=True)
class _Range:
    number: int
    start: int
    size: int


def _ranges(size: int, part_bytes: int) -> list[_Range]:
    return [
        _Range(number, start, min(part_bytes, size - start))
        for number, start in enumerate(range(0, size, part_bytes), start=1)
    ]


class FileUpload:
    """One file on its way up."""

    def __init__(
        self,
        requests: Requests,
        path: Path,
        bucket: str,
        key: str,
        content_type: str,
        metadata: Mapping[str, str] | None,
        tell: Tell | None,
    ) -> None:
        self._requests = requests
        self._path = path
        self._place = f"/{bucket}/{key}"
        guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self.content_type = content_type or guessed
        self._headers = {"content-type": self.content_type, **metadata_headers(metadata)}
        self._tell = tell
        self.size = 0
        identity = "\0".join((requests.access.endpoint, bucket, key, str(path.absolute())))
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        folder = Path(platformdirs.user_state_dir("atoll", appauthor=False)) / "uploads"
        self._state_path = folder / f"{name}.json"

    async def run(self, *, resume: bool) -> str:
        """Upload; return the ETag."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as cause:
            raise _file_error("read file", self._path, cause) from cause
        try:
            facts = os.fstat(handle)
            self.size = facts.st_size
            meter = _Meter(self.size, self._tell)
            if self.size <= self._requests.options.part_bytes:
                return await self._put_whole(handle, meter)
            etag = await self._put_parts(handle, facts.st_mtime_ns, meter, resume)
            if os.fstat(handle).st_mtime_ns != facts.st_mtime_ns:
                raise AtollError(
                    Kind.CONFLICT,
                    "put file",
                    "the file changed while it was uploaded",
                    hint="upload it again",
                    about=str(self._path),
                )
            return etag
        finally:
            os.close(handle)

    async def _put_whole(self, handle: int, meter: _Meter) -> str:
        whole = _Range(1, 0, self.size)
        body, headers = await self._file_body(handle, whole, meter)
        answer = await self._requests.ask(
            "put object", "PUT", self._place, (), {**self._headers, **headers}, body
        )
        if not self.size:
            meter.add(0)
        return answer.headers.get("etag", "").strip('"')

    async def _put_parts(self, handle: int, modified_ns: int, meter: _Meter, resume: bool) -> str:
        state = self._load_state(modified_ns) if resume else None
        known = await self._known_parts(state.upload) if state is not None else None
        if state is None or known is None:
            state, known = await self._begin(modified_ns), {}
        etags: dict[int, str] = {}
        gate = asyncio.Semaphore(self._requests.options.parallel)
        place = state.upload

        async def send(part: _Range) -> None:
            async with gate:
                there = known.get(part.number)
                if there is not None and await self._is_there(handle, part, there):
                    etags[part.number] = there.etag
                    meter.add(part.size, resumed=True)
                    return
                etags[part.number] = await self._put_part(handle, place, part, meter)

        await _all_of([send(part) for part in _ranges(self.size, state.part_bytes)])
        etag = await complete(self._requests, self._place, state.upload, etags)
        self._state_path.unlink(missing_ok=True)
        return etag

    async def _is_there(self, handle: int, part: _Range, there: KnownPart) -> bool:
        if there.size != part.size:
            return False
        return await offload(_md5_of_range, handle, part) == there.etag

    async def _put_part(self, handle: int, upload: str, part: _Range, meter: _Meter) -> str:
        body, headers = await self._file_body(handle, part, meter)
        answer = await self._requests.ask(
            "put part",
            "PUT",
            self._place,
            [("partNumber", str(part.number)), ("uploadId", upload)],
            headers,
            body,
        )
        return answer.headers.get("etag", "").strip('"')

    async def _file_body(
        self, handle: int, part: _Range, meter: _Meter
    ) -> tuple[Body, dict[str, str]]:
        """Hash a range and return it as a body that is read from the file as it is sent."""
        if self._requests.encrypted:
            crc = await offload(crc_of_range, handle, part.start, part.size)
            digest = UNSIGNED_PAYLOAD
        else:
            crc, digest = await offload(_crc_and_sha256, handle, part)

        sent = 0

        async def blocks() -> AsyncIterator[bytes]:
            nonlocal sent
            if sent:  # a second try begins anew
                meter.add(-sent)
                sent = 0
            for offset in range(part.start, part.start + part.size, READ_BYTES):
                length = min(READ_BYTES, part.start + part.size - offset)
                block = os.pread(handle, length, offset)
                if len(block) < length:
                    raise AtollError(
                        Kind.PRECONDITION_FAILED,
                        "read file",
                        "the file became shorter while it was uploaded",
                        about=str(self._path),
                    )
                yield block
                sent += length
                meter.add(length)

        return Body(part.size, digest, blocks), {"x-amz-checksum-crc64nvme": crc_text(crc)}

    async def _begin(self, modified_ns: int) -> _UploadState:
        upload = await create(self._requests, self._place, self._headers)
        part_bytes = self._requests.options.part_bytes_for(self.size)
        state = _UploadState(self.size, modified_ns, part_bytes, upload)
        with contextlib.suppress(OSError):  # without the note the upload is only not resumable
            self._state_path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._state_path, msgspec.json.encode(state))
        return state

    def _load_state(self, modified_ns: int) -> _UploadState | None:
        try:
            state = msgspec.json.decode(self._state_path.read_bytes(), type=_UploadState)
        except (OSError, msgspec.MsgspecError):
            return None
        same = state.size == self.size and state.modified_ns == modified_ns
        return state if same and state.part_bytes > 0 else None

    async def _known_parts(self, upload: str) -> dict[int, KnownPart] | None:
        """Return what the endpoint has of an upload; None where it knows none."""
        found: dict[int, KnownPart] = {}
        after = 0
        while True:
            query = [("part-number-marker", str(after)), ("uploadId", upload)]
            try:
                answer = await self._requests.ask("list parts", "GET", self._place, query)
            except AtollError as error:
                if error.kind is Kind.UPLOAD_NOT_FOUND:
                    return None
                raise
            parts, after = read_parts(answer.body)
            found |= {part.number: part for part in parts}
            if not after:
                return found


async def create(requests: Requests, place: str, headers: Mapping[str, str]) -> str:
    """Start a multipart upload; return its id."""
    answer = await requests.ask(
        "create upload",
        "POST",
        place,
        [("uploads", "")],
        {
            **headers,
            "x-amz-checksum-algorithm": "CRC64NVME",
            "x-amz-checksum-type": "FULL_OBJECT",
        },
    )
    return read_upload_id(answer.body)


async def complete(requests: Requests, place: str, upload: str, etags: Mapping[int, str]) -> str:
    """Make the object of its parts; return the ETag."""
    answer = await requests.ask(
        "complete upload",
        "POST",
        place,
        [("uploadId", upload)],
        {"content-type": "application/xml", "x-amz-checksum-type": "FULL_OBJECT"},
        bytes_body(complete_body(sorted(etags.items()))),
    )
    return read_complete(answer.body, place.lstrip("/"))


async def put_stream(
    requests: Requests,
    bucket: str,
    key: str,
    source: AsyncIterator[bytes],
    content_type: str,
    metadata: Mapping[str, str] | None,
    tell: Tell | None,
    more_headers: Mapping[str, str] | None = None,
) -> str:
    """Store a stream of unknown length, a part at a time; short ones in one request.

    ``more_headers`` are stored with it: cache-control and its like.
    """
    place, meter = f"/{bucket}/{key}", _Meter(0, tell)
    headers = {**(more_headers or {}), "content-type": content_type or "application/octet-stream"}
    headers |= metadata_headers(metadata)
    upload, etags, waiting = "", dict[int, str](), bytearray()

    def part_bytes() -> int:
        return STREAM_PART_BYTES_MIN << (len(etags) // STREAM_PART_GROWTH)

    async def put(number: int, data: bytes) -> None:
        crc = {"x-amz-checksum-crc64nvme": crc_text(crc64nvme(data))}
        query = [("partNumber", str(number)), ("uploadId", upload)]
        answer = await requests.ask("put part", "PUT", place, query, crc, bytes_body(data))
        etags[number] = answer.headers.get("etag", "").strip('"')
        meter.add(len(data))

    try:
        async for block in source:
            waiting += block
            while len(waiting) > (size := part_bytes()):
                upload = upload or await create(requests, place, headers)
                await put(len(etags) + 1, bytes(waiting[:size]))
                del waiting[:size]
        if not upload:
            crc = {"x-amz-checksum-crc64nvme": crc_text(crc64nvme(bytes(waiting)))}
            body = bytes_body(bytes(waiting))
            answer = await requests.ask("put object", "PUT", place, (), {**headers, **crc}, body)
            meter.add(len(waiting))
            return answer.headers.get("etag", "").strip('"')
        await put(len(etags) + 1, bytes(waiting))
        return await complete(requests, place, upload, etags)
    except BaseException:
        if upload:
            with contextlib.suppress(AtollError):
                query = [("uploadId", upload)]
                await requests.ask("abort upload", "DELETE", place, query, None, EMPTY)
        raise


class _DownloadState(msgspec.Struct):
    """What a later attempt must know of a download."""

    etag: str
    size: int
    part_bytes: int
    done: list[int]


class FileDownload:
    """One object on its way into a file."""

    def __init__(self, requests: Requests, path: Path, head: ObjectHead, tell: Tell | None) -> None:
        self._requests = requests
        self._path = path
        self._head = head
        self._meter = _Meter(head.size, tell)
        self._part_path = path.with_name(path.name + PART_SUFFIX)
        self._state_path = path.with_name(path.name + PART_SUFFIX + ".json")
        self._place = f"/{head.bucket}/{head.key}"

    async def run(self, *, resume: bool) -> None:
        """Download, check, and give the file its name."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            state = self._load_state() if resume else None
            if state is None:
                part_bytes = self._requests.options.part_bytes_for(self._head.size)
                state = _DownloadState(self._head.etag, self._head.size, part_bytes, [])
                self._part_path.unlink(missing_ok=True)
            handle = os.open(self._part_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                await self._fetch(handle, state)
                crc = await offload(crc_of_range, handle, 0, self._head.size)
                self._check(os.fstat(handle).st_size, crc)
                os.replace(self._part_path, self._path)
            finally:
                os.close(handle)
            self._state_path.unlink(missing_ok=True)
        except OSError as cause:
            raise _file_error("write file", self._path, cause) from cause

    def _check(self, size: int, crc: int) -> None:
        try:
            check_whole(self._head, size, crc)
        except AtollError:
            # What is there is wrong: going on from it would be wrong again.
            self._part_path.unlink(missing_ok=True)
            self._state_path.unlink(missing_ok=True)
            raise

    async def _fetch(self, handle: int, state: _DownloadState) -> None:
        gate = asyncio.Semaphore(self._requests.options.parallel)
        ranges = _ranges(self._head.size, state.part_bytes)
        have = set(state.done)
        missing = [part for part in ranges if part.number not in have]
        resumed = sum(part.size for part in ranges if part.number in have)
        if resumed or not ranges:
            self._meter.add(resumed, resumed=True)

        async def fetch(part: _Range) -> None:
            async with gate:
                await self._fetch_range(handle, part)
                state.done.append(part.number)
                if len(ranges) > 1:
                    _replace(self._state_path, msgspec.json.encode(state))

        await _all_of([fetch(part) for part in missing])

    async def _fetch_range(self, handle: int, part: _Range) -> None:
        """Read one range; after a break go on at the byte where it broke."""
        begin, end, attempt = part.start, part.start + part.size, 1
        while begin < end:
            before = begin
            headers = {"range": f"bytes={begin}-{end - 1}", "if-match": f'"{self._head.etag}"'}
            try:
                async with self._requests.stream("get object", self._place, headers) as (_, blocks):
                    async for block in blocks:
                        block = block[: end - begin]
                        os.pwrite(handle, block, begin)
                        begin += len(block)
                        self._meter.add(len(block))
                if begin < end:
                    raise AtollError(Kind.UNREACHABLE, "get object", "the answer ended early")
            except AtollError as error:
                attempt = 1 if begin > before else attempt + 1
                if attempt > self._requests.options.attempts or not error.meaning.transient:
                    raise
                await self._requests.pause(attempt)

    def _load_state(self) -> _DownloadState | None:
        try:
            state = msgspec.json.decode(self._state_path.read_bytes(), type=_DownloadState)
        except (OSError, msgspec.MsgspecError):
            return None
        same = state.etag == self._head.etag and state.size == self._head.size
        return state if same and state.part_bytes > 0 and self._part_path.exists() else None


async def _all_of(works: list[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first failure cancels the others and is raised by itself."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def _crc_and_sha256(handle: int, part: _Range) -> tuple[int, str]:
    crc, digest = 0, hashlib.sha256()
    for offset in range(part.start, part.start + part.size, READ_BYTES):
        block = os.pread(handle, min(READ_BYTES, part.start + part.size - offset), offset)
        digest.update(block)
        crc = crc64nvme(block, crc)
    return crc, digest.hexdigest()


def _md5_of_range(handle: int, part: _Range) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for offset in range(part.start, part.start + part.size, READ_BYTES):
        digest.update(os.pread(handle, min(READ_BYTES, part.start + part.size - offset), offset))
    return digest.hexdigest()


def _file_error(operation: str, path: Path, cause: OSError) -> AtollError:
    kinds = {"FileNotFoundError": Kind.NOT_FOUND, "PermissionError": Kind.FORBIDDEN}
    kind = kinds.get(type(cause).__name__, Kind.INTERNAL)
    if cause.errno is not None and os.strerror(cause.errno) == "No space left on device":
        kind = Kind.DISK_FULL
    return AtollError(
        kind, operation, (cause.strerror or str(cause)).lower(), about=quote(str(path), safe="/ ")
    )
