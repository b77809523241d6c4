"""Serves the live page on loopback: one page, one stream of fragments, two orders.

Who may reach the page may use it, so nobody else may: the Host header must name loopback (a
rebound DNS name does not), orders carry a token that only the page knows and come from the page's
own origin, and the content policy lets nothing in from outside.
"""

import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, cast

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.response import ServerSentEvent, ServerSentEventMessage

from atoll.console.feed import StatusFeed
from atoll.console.model import CloudView
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import failure_of

TOKEN_HEADER = "x-atoll-token"  # noqa: S105 — the name of a header
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ASSETS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Drill(Protocol):
    """Kills and restarts nodes of an ephemeral cloud, on purpose."""

    async def kill(self, address: str) -> None:
        """SIGKILL the node at this address and hold it down. Raises ``NOT_FOUND``."""

    async def start(self, address: str) -> None:
        """Start it again. Raises ``NOT_FOUND``."""


@dataclass(frozen=True, slots=True)
class About:
    """What the page says besides the status."""

    version: str
    endpoint: str
    door: str = ""
    """URL of the coordinator's door, where every provider has a page; empty for no links."""


class Order(msgspec.Struct, frozen=True):
    """The body of an order to the drill."""

    address: str


class Console:
    """The live page as an ASGI app. ``drill`` is None where nodes must not be killed."""

    def __init__(self, feed: StatusFeed, about: About, token: str, drill: Drill | None) -> None:
        self._feed = feed
        self._about = about
        self._token = token
        self._drill = drill
        self._templates = Environment(
            loader=PackageLoader("atoll.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.app: App = guarded(cast(App, self._litestar()))

    def _litestar(self) -> Litestar:
        @get("/", media_type=MediaType.HTML)
        async def page() -> str:
            view = await self._feed.view()
            return self._templates.get_template("page.html").render(
                view=view,
                about=self._about,
                token=self._token if self._drill else "",
                drill=self._drill is not None,
            )

        @get("/live")
        async def live() -> ServerSentEvent:
            return ServerSentEvent(self._events())

        @get("/status.json")
        async def status() -> Response[bytes]:
            facts = msgspec.json.encode(await self._feed.status())
            return Response(facts, media_type=MediaType.JSON)

        @get("/earnings.json")
        async def earnings(days: int = 0) -> Response[bytes]:
            found = await self._feed.earnings(days)
            if found is None:
                raise AtollError(
                    Kind.NOT_IMPLEMENTED,
                    "show earnings",
                    "this coordinator settles nothing",
                    hint="set coordinator.epoch_s",
                )
            return Response(msgspec.json.encode(found), media_type=MediaType.JSON)

        @get("/static/{name:str}", sync_to_thread=False)
        def static(request: Request[Any, Any, Any]) -> Response[bytes]:
            name = request.path_params["name"]
            if name not in _ASSETS:
                raise AtollError(Kind.NOT_FOUND, "show page", "there is no such file")
            return Response(_asset(name), media_type=_ASSETS[name])

        @post("/nodes/{order:str}", status_code=200)
        async def drill(request: Request[Any, Any, Any]) -> dict[str, bool]:
            await self._order(request, request.path_params["order"])
            return {"done": True}

        return Litestar(
            [page, live, status, earnings, static, drill],
            openapi_config=None,
            exception_handlers={AtollError: _failed},
            request_max_body_size=4096,
            logging_config=None,
        )

    async def _events(self) -> AsyncGenerator[ServerSentEventMessage, None]:
        template = self._templates.get_template("live.html")
        async for view in self._feed.watch():
            yield ServerSentEventMessage(
                event="view", data=self._fragment(template, view), retry=2000
            )

    def _fragment(self, template: Any, view: CloudView) -> str:
        words = template.render(view=view, about=self._about, drill=self._drill is not None)
        return " ".join(words.split())

    async def _order(self, request: Request[Any, Any, Any], order: str) -> None:
        given = request.headers.get(TOKEN_HEADER, "")
        if self._drill is None:
            raise AtollError(
                Kind.FORBIDDEN, "kill node", "nodes are killed on an ephemeral cloud only"
            )
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise AtollError(Kind.FORBIDDEN, "kill node", "the page is old", hint="load it again")
        try:
            address = msgspec.json.decode(await request.body(), type=Order).address
        except msgspec.MsgspecError as cause:
            raise AtollError(Kind.BAD_REQUEST, "kill node", str(cause)) from cause
        if order == "kill":
            await self._drill.kill(address)
        elif order == "start":
            await self._drill.start(address)
        else:
            raise AtollError(Kind.NOT_FOUND, "kill node", f"there is no order {order!r}")


@cache
def _asset(name: str) -> bytes:
    return files("atoll.console").joinpath("static", name).read_bytes()


def _failed(_: Request[Any, Any, Any], error: AtollError) -> Response[dict[str, str]]:
    facts: dict[str, str] = msgspec.to_builtins(failure_of(error))
    return Response(facts, status_code=error.meaning.http_status, media_type=MediaType.JSON)


def guarded(app: App) -> App:
    """Let only requests to loopback names through, and orders only from the page's own origin."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        own_origin = headers.get(b"origin", f"http://{host}") == f"http://{host}"
        if _without_port(host) not in _LOOPBACK_NAMES or not own_origin:
            await _refuse(send)
            return

        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                have = {name.lower() for name, _ in event["headers"]}
                more = [(n.encode(), v.encode()) for n, v in _HEADERS.items()]
                event["headers"] = [*event["headers"], *(h for h in more if h[0] not in have)]
            await send(event)

        await app(scope, receive, send_with_headers)

    return guard


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdigit() else host.lower()


async def _refuse(send: Send) -> None:
    body = b"This page answers to loopback names only.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body})
