"""The S3 client for code without an event loop: it keeps its own, for one thread at a time."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from atoll.client.sdk.asynchronous import AsyncClient
from atoll.client.sdk.model import BucketEntry, Entry, ObjectHead, Options, Refused, Tell

Result = TypeVar("Result")


class Client:
    """``AsyncClient`` with plain calls. Use as a context manager, or ``close`` it."""

    def __init__(
        self,
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str | None = None,
        *,
        options: Options | None = None,
    ) -> None:
        self._client = AsyncClient(endpoint, access_key, secret_key, region, options=options)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and the loop."""
        self._run(self._client.close())
        self._runner.close()

    def list_buckets(self) -> list[BucketEntry]:
        """Return all buckets of the account in name order."""
        return self._run(self._client.list_buckets())

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket. Errors: ``BUCKET_EXISTS``, ``BUCKET_OWNED``."""
        self._run(self._client.make_bucket(bucket))

    def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket. Errors: ``BUCKET_NOT_FOUND``, ``BUCKET_NOT_EMPTY``."""
        self._run(self._client.delete_bucket(bucket))

    def head(self, bucket: str, key: str) -> ObjectHead:
        """Return an object's facts. Error: ``OBJECT_NOT_FOUND``."""
        return self._run(self._client.head(bucket, key))

    def put_bytes(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Store an object that is whole in memory; return its ETag."""
        return self._run(
            self._client.put_bytes(bucket, key, data, content_type=content_type, metadata=metadata)
        )

    def get_bytes(self, bucket: str, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """Return an object's bytes ``start`` to ``end`` - 1, whole in memory (at most 1 GiB)."""
        return self._run(self._client.get_bytes(bucket, key, start=start, end=end))

    def list(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", after: str = ""
    ) -> Iterator[Entry]:
        """Yield objects (and, with a delimiter, rolled-up prefixes) in the order of their bytes."""
        entries = self._client.list(bucket, prefix, delimiter=delimiter, after=after)
        try:
            while (entry := self._run(_next(entries))) is not None:
                yield entry
        finally:
            self._run(entries.aclose())

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object; an absent one is no error."""
        self._run(self._client.delete(bucket, key))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> Refused:
        """Remove up to 1,000 objects; return those that stayed, each with the reason."""
        return self._run(self._client.delete_many(bucket, keys))

    def put_file(
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
        """Upload a file, large ones in parallel parts; see ``AsyncClient.put_file``."""
        return self._run(
            self._client.put_file(
                path,
                bucket,
                key,
                content_type=content_type,
                metadata=metadata,
                progress=progress,
                resume=resume,
            )
        )

    def get_file(
        self,
        bucket: str,
        key: str,
        path: Path | str,
        *,
        progress: Tell | None = None,
        resume: bool = True,
    ) -> ObjectHead:
        """Download an object into a file; see ``AsyncClient.get_file``."""
        return self._run(self._client.get_file(bucket, key, path, progress=progress, resume=resume))

    def presign(self, method: str, bucket: str, key: str, *, expires_s: int = 3600) -> str:
        """Return a URL that anybody may use for this one request until it expires (1..7 days)."""
        return self._client.presign(method, bucket, key, expires_s=expires_s)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)


async def _next(entries: AsyncGenerator[Entry, None]) -> Entry | None:
    return await anext(entries, None)
