"""The little of HTTP that the node's app needs: a request read once, answers sent whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from atoll.core.errors import AtollError, Kind, meaning_of
from atoll.core.messages import encode, failure_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MSGPACK = b"application/msgpack"
JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"
BYTES = b"application/octet-stream"
QUERY_BYTES_MAX = 1024
BODY_BYTES_PER_S_MIN = 16 << 10
"""A body that comes more slowly than this, after the first patience, is given up."""


def header_of(scope: Scope, name: bytes) -> bytes:
    """Return a header's value; empty if it is absent."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


def body_length_of(scope: Scope) -> int:
    """Return the announced length of the body. Raises ``BAD_REQUEST`` if there is none."""
    value = header_of(scope, b"content-length")
    if not value.isdigit() or len(value) > 12:
        raise AtollError(Kind.BAD_REQUEST, "read request", "a content-length is required")
    return int(value)


def query_of(scope: Scope) -> dict[str, str]:
    """Return the query's fields; no escapes are needed in ours, so none are read."""
    query: bytes = scope.get("query_string", b"")
    if len(query) > QUERY_BYTES_MAX:
        raise AtollError(Kind.BAD_REQUEST, "read request", "the query is too long")
    fields = {}
    for pair in query.decode("latin-1").split("&"):
        name, equals, value = pair.partition("=")
        if equals:
            fields[name] = value
    return fields


def number_of(fields: dict[str, str], name: str, default: int) -> int:
    """Return a whole number (>= 0) of the query. Raises ``BAD_REQUEST``."""
    text = fields.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise AtollError(Kind.BAD_REQUEST, "read request", f"{name} is not a whole number")
    return int(text)


async def read_part(receive: Receive) -> tuple[bytes, bool]:
    """Return the next bytes of the body and whether more follow.

    Raises ``CANCELLED`` where the caller is gone.
    """
    event = await receive()
    if event["type"] != "http.request":
        raise AtollError(Kind.CANCELLED, "read request", "the caller went away")
    return event.get("body", b""), bool(event.get("more_body", False))


@asynccontextmanager
async def in_time(length: int, patience_s: float) -> AsyncIterator[None]:
    """Bound the time that a body of this length may take: a little, and a slow link's pace.

    Raises ``TIMEOUT``.
    """
    try:
        async with asyncio.timeout(patience_s + length / BODY_BYTES_PER_S_MIN):
            yield
    except TimeoutError:
        raise AtollError(Kind.TIMEOUT, "read request", "the body comes too slowly") from None


async def read_body(receive: Receive, bytes_max: int, patience_s: float) -> bytes:
    """Return a whole small body. Raises ``TOO_LARGE``, ``TIMEOUT``, ``CANCELLED``."""
    parts = []
    length = 0
    more = True
    async with in_time(bytes_max, patience_s):
        while more:
            part, more = await read_part(receive)
            length += len(part)
            if length > bytes_max:
                raise AtollError(
                    Kind.TOO_LARGE, "read request", f"the body has over {bytes_max} bytes"
                )
            parts.append(part)
    return b"".join(parts)


async def send_whole(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    """Send an answer in one go."""
    await send_head(send, status, content_type, len(body))
    await send({"type": "http.response.body", "body": body})


async def send_head(send: Send, status: int, content_type: bytes, length: int) -> None:
    """Begin an answer of a known length."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def send_failure(send: Send, error: AtollError) -> None:
    """Send a failure in its wire form."""
    status = meaning_of(error.kind).http_status
    await send_whole(send, status, MSGPACK, encode(failure_of(error)))
