"""Pieces and messages over HTTP/1.1 with aiohttp."""

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import MESSAGE_BYTES_MAX, Failure, decode
from atoll.core.ports import Address, PiecePart, Reply

CONNECTIONS_PER_NODE_MAX = 32
IDLE_S = 60.0
CONNECT_S_MAX = 5.0
ORDER_HEADER = "x-atoll-order"


def check_plain_allowed(address: Address) -> None:
    """Raise ``FORBIDDEN`` where plain HTTP would leave this machine."""
    if address.fingerprint or address.host == "localhost":
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address.host).is_loopback:
            return
    raise AtollError(
        Kind.FORBIDDEN,
        "connect",
        "plain HTTP is allowed on loopback only",
        hint="give the fingerprint of its certificate",
        about=str(address),
    )


class HttpPieceTransport:
    """``core.ports.PieceTransport`` for a process: kept connections, pinned certificates."""

    def __init__(self) -> None:
        """Open nothing yet; connections belong to the loop of the first call."""
        self._session: aiohttp.ClientSession | None = None

    async def put_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> bytes:
        """Send one piece and return the node's receipt."""

        async def send() -> AsyncIterator[bytes]:
            async for part in body:
                yield part  # type: ignore[misc]

        headers = _order_header(order) | {"content-length": str(body_bytes)}
        path = f"/v1/pieces/{piece_id.hex()}"
        with _network_faults(address):
            async with (
                asyncio.timeout(timeout_s),
                self._request(address, "PUT", path, headers, send()) as reply,
            ):
                answer = await _whole(reply)
        _raise_failure(reply.status, answer, address)
        return answer

    async def get_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        part: PiecePart,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> bytes:
        """Return a part of a piece record, whole in memory."""
        path = _read_path(piece_id, part, offset, length)
        with _network_faults(address):
            async with (
                asyncio.timeout(timeout_s),
                self._request(address, "GET", path, _order_header(order)) as reply,
            ):
                answer = await _whole(reply)
        _raise_failure(reply.status, answer, address)
        return answer

    async def open_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> "HttpPieceStream":
        """Start reading a piece's data area."""
        path = _read_path(piece_id, PiecePart.DATA, offset, length)
        with _network_faults(address):
            async with asyncio.timeout(timeout_s):
                reply = await self._request(address, "GET", path, _order_header(order))
            if reply.status >= 300:
                async with asyncio.timeout(timeout_s), reply:
                    _raise_failure(reply.status, await _whole(reply), address)
        return HttpPieceStream(reply, address, timeout_s)

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        """Send a small message; return the answer, whatever its status."""
        with _network_faults(address):
            async with (
                asyncio.timeout(timeout_s),
                self._request(address, method, path, headers, body) as reply,
            ):
                answer = await _whole(reply)
        return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, answer)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _request(
        self, address: Address, method: str, path: str, headers: Mapping[str, str], body: Any = None
    ) -> Any:
        check_plain_allowed(address)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=CONNECTIONS_PER_NODE_MAX, keepalive_timeout=IDLE_S
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        pinned: Any = aiohttp.Fingerprint(address.fingerprint) if address.fingerprint else True
        return self._session.request(
            method, str(address) + path, headers=headers, data=body, ssl=pinned,
            allow_redirects=False,
        )  # fmt: skip


class HttpPieceStream:
    """``core.ports.PieceStream`` over one answer."""

    def __init__(self, reply: aiohttp.ClientResponse, address: Address, timeout_s: float) -> None:
        """Read the body of ``reply``."""
        self._reply = reply
        self._address = address
        self._timeout_s = timeout_s
        self._rest: memoryview = memoryview(b"")

    async def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the next bytes."""
        have = 0
        with _network_faults(self._address):
            while have < len(buffer):
                if not self._rest:
                    async with asyncio.timeout(self._timeout_s):
                        self._rest = memoryview(await self._reply.content.readany())
                    if not self._rest:
                        raise AtollError(
                            Kind.UNREACHABLE, "read piece", "the stream ended early",
                            about=str(self._address),
                        )  # fmt: skip
                part = self._rest[: len(buffer) - have]
                buffer[have : have + len(part)] = part
                have += len(part)
                self._rest = self._rest[len(part) :]

    async def close(self) -> None:
        """Stop; the connection is kept only if the answer was read to its end."""
        if self._reply.content.at_eof():
            self._reply.release()
        else:
            self._reply.close()


def _order_header(order: bytes) -> dict[str, str]:
    return {ORDER_HEADER: base64.b64encode(order).decode()}


def _read_path(piece_id: bytes, part: PiecePart, offset: int, length: int) -> str:
    return f"/v1/pieces/{piece_id.hex()}?part={part.value}&offset={offset}&length={length}"


async def _whole(reply: aiohttp.ClientResponse) -> bytes:
    if (reply.content_length or 0) > MESSAGE_BYTES_MAX:
        raise AtollError(Kind.TOO_LARGE, "read answer", "the answer is longer than allowed")
    return await reply.read()


def _raise_failure(status: int, body: bytes, address: Address) -> None:
    if status < 300:
        return
    try:
        failure: Failure = decode(body, Failure)
    except AtollError:
        raise AtollError(
            Kind.INTERNAL, "call node", f"answered {status} without a reason", about=str(address)
        ) from None
    raise failure.to_error()


@contextlib.contextmanager
def _network_faults(address: Address) -> Any:
    try:
        yield
    except TimeoutError as cause:
        raise AtollError(Kind.TIMEOUT, "call", "no answer in time", about=str(address)) from cause
    except (aiohttp.ClientError, ConnectionError, ssl.SSLError, OSError) as cause:
        raise AtollError(
            Kind.UNREACHABLE, "call", str(cause) or type(cause).__name__, about=str(address)
        ) from cause
