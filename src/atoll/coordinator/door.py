"""The coordinator's HTTP door: messages in MessagePack, failures typed, public pages.

Plain ASGI: docs/decisions/0020-coordinator-door.md has the measurement.
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

import msgspec

from atoll.coordinator.part import Page, PageHandler
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import RequestProof
from atoll.core.messages import (
    MESSAGE_BYTES_MAX,
    Answer,
    CloudStatus,
    GetStatus,
    Message,
    encode,
    failure_of,
)

log = logging.getLogger("atoll.coordinator")

NODE_MESSAGE_BYTES_MAX = 64 << 10
NODE_ASK_BYTES_MAX = 1 << 20
"""Any other request of a node: sets of pieces and proofs are longer than heartbeats."""
CONTROL_SKEW_MS_MAX = 60_000
"""A gateway's signed request older or newer than this is refused, so that replays are few to
remember."""
PROOFS_KEPT_MAX = 1_000_000
"""Signed requests remembered; beyond them new ones are refused with ``OVERLOADED``."""
PROOF_BYTES_KEPT = 16
"""Of a signature: enough that no two meet by chance."""


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Route = tuple[Callable[[str, bytes, str], Awaitable[Message]], int]


class Answers(Protocol):
    """Who answers behind the door: the coordinator."""

    @property
    def pages(self) -> Mapping[str, PageHandler]:
        """Public pages by the beginning of their path."""

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Answer a control request. Raises ``AtollError``."""

    async def ask_signed(self, path: str, body: bytes, proof: str) -> Message:
        """Answer a gateway's signed question. Raises ``AtollError``."""

    async def hear(self, path: str, body: bytes, proof: str) -> Message:
        """Answer a node's signed message. Raises ``AtollError``."""


class Door:
    """The coordinator's ASGI app: messages in MessagePack, failures typed, two pages in JSON."""

    def __init__(self, coordinator: Answers) -> None:
        self._coordinator = coordinator
        self._routes: dict[str, Route] = {
            "/v1/node/register": (coordinator.hear, NODE_MESSAGE_BYTES_MAX),
            "/v1/node/heartbeat": (coordinator.hear, NODE_MESSAGE_BYTES_MAX),
            "/v1/node/ask": (coordinator.hear, NODE_ASK_BYTES_MAX),
            "/v1/control": (coordinator.ask_signed, MESSAGE_BYTES_MAX),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            if scope["method"] == "GET" and (page := await self._page(scope)) is not None:
                await _send_page(send, page)
                return
            status, kind, body = 200, b"application/msgpack", await self._answer(scope, receive)
            if scope["method"] == "GET":
                kind = b"application/json"
        except _GoneError:
            return
        except AtollError as error:
            status, kind = error.meaning.http_status, b"application/msgpack"
            body = encode(failure_of(error))
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            status, kind = 500, b"application/msgpack"
            body = encode(
                failure_of(AtollError(Kind.INTERNAL, "answer request", "the coordinator met a bug"))
            )
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _page(self, scope: Scope) -> Page | None:
        """Return the public page of a path; None where there is none of its kind."""
        path: str = scope["path"]
        for begin, handle in self._coordinator.pages.items():
            if path == begin or path.startswith(f"{begin}/"):
                return await handle(path, scope.get("query_string", b"").decode("latin-1"))
        return None

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        path, method = scope["path"], scope["method"]
        if method == "GET" and path == "/v1/health":
            return b'{"status":"ok"}'
        if method == "GET" and path == "/v1/status":
            if not _from_this_machine(scope):
                raise AtollError(
                    Kind.FORBIDDEN, "read status", "the status is for this machine itself"
                )
            return msgspec.json.encode(await self._coordinator.ask(GetStatus(), CloudStatus))
        route = self._routes.get(path)
        if route is None or method != "POST":
            raise AtollError(Kind.NOT_FOUND, "answer request", "nothing is here")
        handle, bytes_max = route
        headers = dict(scope["headers"])
        proof = headers.get(RequestProof.HEADER.encode(), b"").decode("latin-1")
        if not proof:
            raise AtollError(Kind.UNAUTHENTICATED, "answer request", "the request is not signed")
        body = await _body(headers, receive, bytes_max)
        return encode(await handle(path, body, proof))


_PAGE_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"max-age=1"),
)


async def _send_page(send: Send, page: Page) -> None:
    headers = [
        (b"content-type", page.kind.encode()),
        (b"content-length", str(len(page.body)).encode()),
        *_PAGE_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": page.body})


class _GoneError(Exception):
    """The caller hung up before it had said all."""


async def _body(headers: dict[bytes, bytes], receive: Receive, bytes_max: int) -> bytes:
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or len(announced) > 12 or int(announced) > bytes_max:
        raise _too_long(bytes_max)
    chunks, length = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _GoneError
        chunk = event.get("body", b"")
        length += len(chunk)
        if length > bytes_max:
            raise _too_long(bytes_max)
        chunks.append(chunk)
        if not event.get("more_body", False):
            return b"".join(chunks)


def _too_long(bytes_max: int) -> AtollError:
    return AtollError(
        Kind.TOO_LARGE, "read request", f"a message here has at most {bytes_max} bytes"
    )


def _from_this_machine(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:
        return True  # a Unix socket
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


class SpentProofs:
    """Signed requests seen lately, each good for once: two generations of signatures."""

    def __init__(self) -> None:
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()
        self._since_ms = 0

    def spend(self, proof: str, now_ms: int) -> None:
        """Raise ``CLOCK_SKEW``, ``REPLAYED`` or ``OVERLOADED``; else remember the proof."""
        time_ms = int(proof.split(":")[1])
        if abs(now_ms - time_ms) > CONTROL_SKEW_MS_MAX:
            raise AtollError(
                Kind.CLOCK_SKEW,
                "ask coordinator",
                f"the request's time is {abs(now_ms - time_ms) // 1000} s away from ours",
                hint="set the clock of this machine (NTP)",
            )
        # A proof may come as early and as late as the limit: it is remembered twice as long.
        if not 0 <= now_ms - self._since_ms < 2 * CONTROL_SKEW_MS_MAX:
            self._before, self._now, self._since_ms = self._now, set(), now_ms
        # The bytes, not the text: upper case would make the same signature look new.
        signature = bytes.fromhex(proof.split(":")[2])[:PROOF_BYTES_KEPT]
        if signature in self._now or signature in self._before:
            raise AtollError(Kind.REPLAYED, "ask coordinator", "this request was answered before")
        if len(self._now) >= PROOFS_KEPT_MAX:
            raise AtollError(Kind.OVERLOADED, "ask coordinator", "too many signed requests")
        self._now.add(signature)
