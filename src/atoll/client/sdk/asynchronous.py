"""The asynchronous S3 client."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from atoll.client.sdk import transfer
from atoll.client.sdk.answers import (
    delete_body,
    head_of,
    read_buckets,
    read_deleted,
    read_listing,
)
from atoll.client.sdk.checksum import crc64nvme, crc_text
from atoll.client.sdk.model import (
    DELETE_KEYS_MAX,
    WHOLE_BYTES_MAX,
    Access,
    BucketEntry,
    Entry,
    ObjectEntry,
    ObjectHead,
    Options,
    Refused,
    Tell,
)
from atoll.client.sdk.requests import Requests, Time, bytes_body
from atoll.core.errors import AtollError, Kind

LIST_PAGES_MAX = 1_000_000


class AsyncClient:
    """An S3 client for one endpoint. Use as an async context manager, or ``close`` it.

    What is not given comes from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``). Every method raises ``AtollError``; what a second
    try can cure has then been tried again already. ``clock`` and ``chance`` are for tests.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str | None = None,
        *,
        options: Options | None = None,
        clock: Time | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        access = Access.found(endpoint, access_key, secret_key, region)
        self.options = options or Options()
        self.requests = Requests(access, self.options, clock, chance)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.requests.close()

    async def list_buckets(self) -> list[BucketEntry]:
        """Return all buckets of the account in name order."""
        found: list[BucketEntry] = []
        token = ""
        while True:
            query = [("continuation-token", token)] if token else []
            answer = await self.requests.ask("list buckets", "GET", "/", query)
            page, token = read_buckets(answer.body)
            found += page
            if not token:
                return found

    async def make_bucket(self, bucket: str) -> None:
        """Make a bucket. Errors: ``BUCKET_EXISTS``, ``BUCKET_OWNED``."""
        await self.requests.ask("make bucket", "PUT", f"/{_named(bucket)}")

    async def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket. Errors: ``BUCKET_NOT_FOUND``, ``BUCKET_NOT_EMPTY``."""
        await self.requests.ask("remove bucket", "DELETE", f"/{_named(bucket)}")

    async def head(self, bucket: str, key: str) -> ObjectHead:
        """Return an object's facts. Error: ``OBJECT_NOT_FOUND``."""
        answer = await self.requests.ask(
            "head object", "HEAD", _path(bucket, key), (), {"x-amz-checksum-mode": "ENABLED"}
        )
        return head_of(bucket, key, answer.headers)

    async def put_bytes(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Store an object that is whole in memory; return its ETag."""
        headers = {
            "content-type": content_type,
            "x-amz-checksum-crc64nvme": crc_text(crc64nvme(data)),
            **transfer.metadata_headers(metadata),
        }
        answer = await self.requests.ask(
            "put object", "PUT", _path(bucket, key), (), headers, bytes_body(data)
        )
        return answer.headers.get("etag", "").strip('"')

    async def get_bytes(
        self, bucket: str, key: str, *, start: int = 0, end: int | None = None
    ) -> bytes:
        """Return an object's bytes ``start`` to ``end`` - 1, whole in memory (at most 1 GiB)."""

        async def once() -> bytes:
            body = bytearray()
            async with self.stream(bucket, key, start=start, end=end) as (head, blocks):
                async for block in blocks:
                    body += block
                    if len(body) > WHOLE_BYTES_MAX:
                        raise AtollError(
                            Kind.TOO_LARGE, "get object", "too long for memory", hint="use get_file"
                        )
            if start == 0 and end is None:
                transfer.check_whole(head, len(body), crc64nvme(bytes(body)))
            return bytes(body)

        return await self.requests.retrying(once)

    @asynccontextmanager
    async def stream(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
    ) -> AsyncGenerator[tuple[ObjectHead, AsyncIterator[bytes]], None]:
        """Open an object and yield its facts and its blocks as they come.

        ``if_match`` (an ETag) refuses an object that changed: ``PRECONDITION_FAILED``.
        """
        headers = {"x-amz-checksum-mode": "ENABLED"}
        if start or end is not None:
            headers["range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if if_match:
            headers["if-match"] = f'"{if_match}"'
        async with self.requests.stream("get object", _path(bucket, key), headers) as (
            facts,
            blocks,
        ):
            yield head_of(bucket, key, facts), blocks

    async def list(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", after: str = ""
    ) -> AsyncGenerator[Entry, None]:
        """Yield objects (and, with a delimiter, rolled-up prefixes) in the order of their bytes."""
        token = ""
        for _ in range(LIST_PAGES_MAX):
            query = [("encoding-type", "url"), ("list-type", "2"), ("prefix", prefix)]
            query += [("delimiter", delimiter)] if delimiter else []
            query += [("continuation-token", token)] if token else []
            query += [("start-after", after)] if after and not token else []
            answer = await self.requests.ask("list objects", "GET", f"/{_named(bucket)}", query)
            entries, token = read_listing(answer.body)
            for entry in entries:
                yield entry
            if not token:
                return

    async def delete(self, bucket: str, key: str) -> None:
        """Remove an object; an absent one is no error."""
        await self.requests.ask("remove object", "DELETE", _path(bucket, key))

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Refused:
        """Remove up to 1,000 objects; return those that stayed, each with the reason."""
        if not 1 <= len(keys) <= DELETE_KEYS_MAX:
            raise AtollError(Kind.BAD_REQUEST, "remove objects", "name 1 to 1,000 keys")
        data = delete_body(list(keys))
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        answer = await self.requests.ask(
            "remove objects",
            "POST",
            f"/{_named(bucket)}",
            [("delete", "")],
            {"content-type": "application/xml", "content-md5": transfer.base64_text(digest)},
            bytes_body(data),
        )
        return read_deleted(answer.body)

    async def put_file(
        self,
        path: Path | str,
        bucket: str,
        key: str,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        progress: Tell | None = None,
        resume: bool = True,
    ) -> ObjectHead:
        """Upload a file, large ones in parallel parts.

        An upload that broke off goes on with the parts that the endpoint has, if the file is the
        same (size and modification time) and each part's MD5 agrees.
        """
        upload = transfer.FileUpload(
            self.requests, Path(path), _named(bucket), key, content_type, metadata, progress
        )
        etag = await upload.run(resume=resume)
        return ObjectHead(bucket, key, upload.size, etag, 0, upload.content_type, metadata or {})

    async def get_file(
        self,
        bucket: str,
        key: str,
        path: Path | str,
        *,
        progress: Tell | None = None,
        resume: bool = True,
    ) -> ObjectHead:
        """Download an object into a file, large ones in parallel ranges.

        The file appears under its name only when it is whole and its checksum agrees. A download
        that broke off goes on where it stopped, if the object is still the same.
        """
        head = await self.head(bucket, key)
        await transfer.FileDownload(self.requests, Path(path), head, progress).run(resume=resume)
        return head

    async def put_stream(
        self,
        bucket: str,
        key: str,
        source: AsyncIterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        progress: Tell | None = None,
    ) -> str:
        """Store what a stream yields, of unknown length; return the ETag.

        ``headers`` are kept with it: cache-control, content-disposition, content-encoding,
        content-language, expires.
        """
        return await transfer.put_stream(
            self.requests, _named(bucket), key, source, content_type, metadata, progress, headers
        )

    async def copy(
        self,
        source: ObjectEntry | ObjectHead,
        from_bucket: str,
        bucket: str,
        key: str,
        *,
        progress: Tell | None = None,
    ) -> str:
        """Copy an object by streaming it through this machine; return the new ETag."""
        async with self.stream(from_bucket, source.key, if_match=source.etag) as (head, blocks):
            return await self.put_stream(
                bucket,
                key,
                blocks,
                content_type=head.content_type,
                metadata=head.metadata,
                progress=progress,
            )

    async def ask(self, operation: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the gateway for something beyond S3: ``POST /.atoll/v1/{operation}``, JSON both ways.

        Raises ``AtollError`` as the gateway or its coordinator said it.
        """
        answer = await self.requests.ask(
            operation,
            "POST",
            f"/.atoll/v1/{operation}",
            headers={"content-type": "application/json"},
            body=bytes_body(msgspec.json.encode(body or {})),
        )
        return msgspec.json.decode(answer.body)

    def presign(self, method: str, bucket: str, key: str, *, expires_s: int = 3600) -> str:
        """Return a URL that anybody may use for this one request until it expires (1..7 days)."""
        return self.requests.presigned(method, _path(bucket, key), expires_s)


def _named(bucket: str) -> str:
    if not bucket or "/" in bucket:
        raise AtollError(Kind.BAD_REQUEST, "name bucket", f"{bucket!r} is no name of a bucket")
    return bucket


def _path(bucket: str, key: str) -> str:
    if not key:
        raise AtollError(Kind.BAD_REQUEST, "name object", "a key has at least one character")
    return f"/{_named(bucket)}/{key}"
