"""Signs requests, sends them, and tries again what a second try can cure."""

import contextlib
import hashlib
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Protocol, TypeVar

import aiohttp
import yarl

from atoll.client.sdk.answers import error_of
from atoll.client.sdk.model import Access, Options
from atoll.client.sdk.world import RealTime, real_chance
from atoll.core.errors import AtollError, Kind
from atoll.core.sigv4 import (
    EMPTY_SHA256,
    Credentials,
    canonical_query,
    encode_path,
    presign,
    sign_headers,
)

ANSWER_BYTES_MAX = 64 << 20
"""A listing or error longer than this is refused."""
CONNECT_S_MAX = 10.0
Query = Sequence[tuple[str, str]]
Result = TypeVar("Result")


class Time(Protocol):
    """The part of ``core.ports.Clock`` that requests need."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body that can be sent again: ``open`` starts it from its beginning."""

    size: int
    sha256: str
    """Hex, or ``UNSIGNED-PAYLOAD`` where TLS protects it."""
    open: Callable[[], AsyncIterator[bytes] | bytes]


EMPTY = Body(0, EMPTY_SHA256, lambda: b"")


def bytes_body(data: bytes) -> Body:
    """Return a body that is whole in memory."""
    return Body(len(data), hashlib.sha256(data).hexdigest(), lambda: data)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer in memory; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Requests:
    """A signed connection pool to one endpoint. Belongs to the loop of its first request."""

    def __init__(
        self,
        access: Access,
        options: Options,
        time: Time | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self.access = access
        self.options = options
        self._time: Time = time or RealTime()
        self._chance = chance or real_chance
        self._credentials = Credentials(access.access_key, access.secret_key, access.region)
        url = yarl.URL(access.endpoint)
        self._base = url.raw_path.rstrip("/")
        self._origin = str(url.origin())
        default_port = {"http": 80, "https": 443}[url.scheme]
        host = url.raw_host or ""
        host = f"[{host}]" if ":" in host else host
        self._host = host if url.port == default_port else f"{host}:{url.port}"
        self._session: aiohttp.ClientSession | None = None

    @property
    def encrypted(self) -> bool:
        """True where TLS protects bodies."""
        return self._origin.startswith("https")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: Body = EMPTY,
    ) -> Answer:
        """Send a request and return its whole answer; try again on 5xx and broken connections.

        ``path`` is ``/bucket/key``, not encoded. Raises ``AtollError``.
        """

        async def once() -> Answer:
            async with self._send(operation, method, path, query, headers, body) as reply:
                return Answer(reply.status, _lower(reply), await _whole(reply))

        return await self.retrying(once)

    @contextlib.asynccontextmanager
    async def stream(
        self, operation: str, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[tuple[Mapping[str, str], AsyncIterator[bytes]], None]:
        """Open a GET and yield its headers and blocks as they come. Not tried again by itself."""
        async with self._send(operation, "GET", path, (), headers, EMPTY) as reply:
            with _network_faults(operation, self.access.endpoint):
                yield _lower(reply), _blocks(reply, operation, self.access.endpoint)

    async def retrying(self, once: Callable[[], Awaitable[Result]]) -> Result:
        """Call ``once`` until it succeeds, fails for good, or the attempts are used up."""
        attempt = 1
        while True:
            try:
                return await once()
            except AtollError as error:
                if attempt >= self.options.attempts or not error.meaning.transient:
                    raise
            await self.pause(attempt)
            attempt += 1

    async def pause(self, attempt: int) -> None:
        """Wait before the next try."""
        longest = min(self.options.backoff_s * 2**attempt, self.options.backoff_s_max)
        await self._time.sleep(longest * (0.5 + 0.5 * self._chance()))

    def presigned(self, method: str, path: str, expires_s: int) -> str:
        """Return a URL that anybody may use for this one request until it expires."""
        raw = self._base + encode_path(path)
        query = presign(
            self._credentials,
            method,
            raw.encode(),
            (),
            {"host": self._host},
            expires_s,
            self._time.now_ms(),
        )
        return f"{self._origin}{raw}?{query}"

    @contextlib.asynccontextmanager
    async def _send(
        self,
        operation: str,
        method: str,
        path: str,
        query: Query,
        headers: Mapping[str, str] | None,
        body: Body,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        raw = self._base + encode_path(path)
        pairs = [(name.encode(), value.encode()) for name, value in query]
        signed = sign_headers(
            self._credentials,
            method,
            raw.encode(),
            pairs,
            {**(headers or {}), "host": self._host},
            body.sha256,
            self._time.now_ms(),
        )
        signed["content-length"] = str(body.size)
        if method in ("GET", "HEAD", "DELETE") and not body.size:
            del signed["content-length"]
        url = yarl.URL(f"{self._origin}{raw}?{canonical_query(pairs)}".rstrip("?"), encoded=True)
        with _network_faults(operation, self.access.endpoint):
            async with self._opened().request(
                method,
                url,
                headers=signed,
                data=body.open() if body.size else None,
                allow_redirects=False,
                skip_auto_headers=("content-type", "accept-encoding"),
            ) as reply:
                if reply.status >= 300:
                    said = await _whole(reply)
                    raise error_of(operation, reply.status, said, path.lstrip("/"))
                yield reply

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=2 * self.options.parallel + 4),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_S_MAX, sock_read=self.options.stall_s
                ),
                auto_decompress=False,
                read_bufsize=1 << 20,
            )
        return self._session


def _lower(reply: aiohttp.ClientResponse) -> Mapping[str, str]:
    return {name.lower(): value for name, value in reply.headers.items()}


async def _whole(reply: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in reply.content.iter_any():
        body += block
        if len(body) > ANSWER_BYTES_MAX:
            raise AtollError(Kind.TOO_LARGE, "read answer", "the endpoint's answer is too long")
    return bytes(body)


async def _blocks(
    reply: aiohttp.ClientResponse, operation: str, endpoint: str
) -> AsyncIterator[bytes]:
    with _network_faults(operation, endpoint):
        async for block in reply.content.iter_any():
            yield block


def _reason(cause: Exception) -> str:
    if isinstance(cause, aiohttp.ClientConnectorError) and (cause.os_error.errno or 0) > 0:
        return os.strerror(cause.os_error.errno or 0).lower()
    return str(cause) or type(cause).__name__


@contextlib.contextmanager
def _network_faults(operation: str, endpoint: str) -> Generator[None, None, None]:
    try:
        yield
    except TimeoutError as cause:
        raise AtollError(
            Kind.TIMEOUT, operation, "the endpoint does not answer in time", about=endpoint
        ) from cause
    except (aiohttp.ClientError, ConnectionError) as cause:
        raise AtollError(
            Kind.UNREACHABLE,
            operation,
            f"the endpoint cannot be reached: {_reason(cause)}",
            hint="check that the cloud runs (`atoll status`) and the endpoint's URL",
            about=endpoint,
        ) from cause
