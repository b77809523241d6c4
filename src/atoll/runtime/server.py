"""Serves an ASGI app over HTTP/1.1 with uvicorn, on a socket made or handed in."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atoll.core.errors import AtollError, Kind
from atoll.runtime.certificate import TlsFiles

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

BACKLOG_CONNECTIONS = 2048
KEEP_ALIVE_S = 75
"""An idle connection is kept so long; longer than clients keep theirs, so that they close first."""
STOP_S_DEFAULT = 5.0
"""Requests still running so long after ``stop`` are cancelled."""


def open_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound, not yet listening TCP socket; port 0 lets the system choose.

    ``shared`` (``SO_REUSEPORT``) lets several workers bind the same port; the caller asks
    ``check_port_free`` first, since strangers of the same user could share it too. Raises
    ``PORT_TAKEN`` and, for an address that is not ours, ``CONFIG``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio too sets TCP_NODELAY on what it accepts.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError as cause:
        sock.close()
        raise _bind_failure(cause, host, port) from cause
    return sock


def check_port_free(host: str, port: int) -> None:
    """Raise ``PORT_TAKEN`` where somebody listens on the port, even one who would share it."""
    sock = open_socket(host, port)
    try:
        sock.listen(1)
    except OSError as cause:
        raise _bind_failure(cause, host, port) from cause
    finally:
        sock.close()


def _bind_failure(cause: OSError, host: str, port: int) -> AtollError:
    where = f"{host}:{port}"
    if cause.errno == errno.EADDRINUSE:
        return AtollError(
            Kind.PORT_TAKEN,
            "listen",
            f"port {port} is taken by another process",
            hint=f"choose another port, or see who has it: ss -ltnp 'sport = :{port}'",
            about=where,
        )
    if cause.errno in (errno.EACCES, errno.EPERM):
        hint = "ports below 1024 need privileges; choose a higher one"
    else:
        hint = "give an address of this machine"
    return AtollError(Kind.CONFIG, "listen", cause.strerror or str(cause), hint=hint, about=where)


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which hands a body's bytes on as they were parsed.

    Its own gathers them in a ``bytearray`` and copies that: two copies of every body.
    """

    @override
    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.body or cycle.response_complete or self.parser.should_upgrade():
            super().on_body(body)
            return
        cycle.body = body  # type: ignore[assignment]  # bytes() of it is itself
        if len(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to the process it runs in and says when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()
        self.stopping = asyncio.Event()

    @override
    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether to stop: with twenty idle processes that shows.
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 10  # what its own loop counts in a second; it renews the date header then
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.stopping.wait()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """One ASGI app on one socket.

    The app's lifespan events are not used: rooms start and stop their services themselves.
    """

    def __init__(
        self,
        app: AsgiApp,
        sock: socket.socket,
        *,
        tls: TlsFiles | None = None,
        stop_s: float = STOP_S_DEFAULT,
        date_header: bool = True,
    ) -> None:
        """Serve ``app`` on ``sock``, which this server closes in the end."""
        self._socket = sock
        self._stop_s = stop_s
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=date_header,
                backlog=BACKLOG_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, round(stop_s)),
                ssl_context_factory=None if tls is None else lambda *_: _tls_context(tls),
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port as bound."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        """Begin to accept. Raises ``PORT_TAKEN`` where another listener came first."""
        try:
            self._socket.listen(BACKLOG_CONNECTIONS)
        except OSError as cause:
            raise _bind_failure(cause, *self.address) from cause
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait({accepting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Accept no more, let running requests end (at most ``stop_s``), close."""
        if self._task is None:
            self._socket.close()
            return
        self._server.should_exit = True
        self._server.stopping.set()
        await self._task
        self._task = None

    async def wait(self) -> None:
        """Return when the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    return context
