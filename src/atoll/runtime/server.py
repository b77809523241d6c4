"""Serves an ASGI app over HTTP/1.1 with uvicorn, on a socket made or handed in."""

import asyncio
import contextlib
import errno
import itertools
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
HEAD_BYTES_MAX = 64 << 10
"""Request line and headers of one request; a longer head is answered 431."""
HEAD_FIELDS_MAX = 1200
"""Headers of one request: the usual ones, and user metadata of 2 KiB in the shortest pairs."""
HEAD_S_MAX = 30.0
"""From a connection's opening, or a later request's first byte, to the end of the head."""
SEND_STALL_S_MAX = 60.0
"""A client that takes nothing of its answer for so long loses its connection."""


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


class _HeadTooLargeError(Exception):
    """A request's head is beyond its limits."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with limits, which hands a body's bytes on as they were parsed.

    Its own waits for the end of a head, and for a client to read, without limit of bytes or time.
    Bodies it gathers in a ``bytearray`` and copies that: two copies of every body.
    """

    head_s_max = HEAD_S_MAX
    send_stall_s_max = SEND_STALL_S_MAX
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _head_open = False
    """A request has begun, its head has not ended."""
    _head_fresh = False
    """It began in the bytes at hand, maybe behind a body's end."""
    _head_bytes = 0
    _refusal = b"400 Bad Request"

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_open:
            # The parser hands headers over whole: one that does not end is counted here.
            self._head_bytes += 0 if self._head_fresh else len(data)
            self._head_fresh = False
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(b"431 Request Header Fields Too Large")
        if self._head_timer is None and (self._head_open or self._idle):
            # Part of a head, empty lines before one, or a body nobody reads any more.
            self._await_head()

    @override
    def on_message_begin(self) -> None:
        self._head_open = self._head_fresh = True
        self._head_bytes = 0
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._head_open = False
        self._stop_head_timer()
        size = len(self.url) + sum(map(len, itertools.chain.from_iterable(self.headers)))
        if size > HEAD_BYTES_MAX or len(self.headers) > HEAD_FIELDS_MAX:
            self._refusal = b"431 Request Header Fields Too Large"
            raise _HeadTooLargeError  # the parser stops; uvicorn calls ``send_400_response``
        super().on_headers_complete()

    @property
    def _idle(self) -> bool:
        return not self.cycle or self.cycle.response_complete

    def _await_head(self) -> None:
        if not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.head_s_max, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self._idle:
            self._await_head()  # a request that follows has time until the answer is out
        elif self._head_open:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: bytes) -> None:
        self._refusal = status
        self.send_400_response("")

    @override
    def send_400_response(self, msg: str) -> None:
        # Into an answer on its way no other is written: it breaks off, which its reader can see.
        if self._idle:
            head = (b"HTTP/1.1 " + self._refusal, b"content-length: 0", b"connection: close")
            self.transport.write(b"\r\n".join((*head, b"", b"")))
        self.transport.close()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(self.send_stall_s_max, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

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
