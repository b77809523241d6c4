"""Connections as such: the real answer to the ``Sockets`` port."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address, ByteStream, Listening
from atoll.runtime.certificate import TlsFiles

READ_BYTES_MAX = 256 << 10
WRITE_BUFFER_BYTES = 512 << 10
"""Bytes that wait to be sent before ``write`` waits too."""
CONNECTIONS_MAX = 4096
"""Connections of one listening port at a time; more are closed at once."""

Serve = Callable[[ByteStream, str], Awaitable[None]]


def _gone(cause: Exception) -> AtollError:
    return AtollError(Kind.UNREACHABLE, "use connection", str(cause) or type(cause).__name__)


class SocketStream:
    """``core.ports.ByteStream`` over asyncio's streams."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a connection."""
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end."""
        try:
            return await self._reader.read(READ_BYTES_MAX)
        except (OSError, ssl.SSLError) as cause:
            raise _gone(cause) from cause

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._writer.is_closing():
            raise AtollError(Kind.UNREACHABLE, "use connection", "the connection is closed")
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, ssl.SSLError, RuntimeError) as cause:
            raise _gone(cause) from cause

    async def end(self) -> None:
        """Half close, where there is no TLS in between."""
        try:
            if self._writer.can_write_eof():
                self._writer.write_eof()
            else:
                await self._writer.drain()
                self._writer.close()
        except (OSError, RuntimeError) as cause:
            raise _gone(cause) from cause

    def close(self) -> None:
        """Cut."""
        with contextlib.suppress(RuntimeError):
            self._writer.close()


class _Listening:
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @property
    def port(self) -> int:
        """Its number."""
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Take no more."""
        self._server.close()


class RealSockets:
    """``core.ports.Sockets`` for a process."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        """``tls`` is what ``listen`` shows where TLS is asked for."""
        self._tls = tls

    async def connect(self, address: Address, timeout_s: float) -> ByteStream:
        """Connect; over TLS where the address has a fingerprint, else plainly to anywhere."""
        context = _client_context() if address.fingerprint else None
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=context, limit=READ_BYTES_MAX
                )
        except TimeoutError:
            raise AtollError(
                Kind.TIMEOUT, "connect", "no connection in time", about=str(address)
            ) from None
        except (OSError, ssl.SSLError) as cause:
            raise AtollError(Kind.UNREACHABLE, "connect", str(cause), about=str(address)) from cause
        if address.fingerprint:
            shown: Any = writer.get_extra_info("ssl_object")
            found = hashlib.sha256(shown.getpeercert(binary_form=True) or b"").digest()
            if found != address.fingerprint:
                writer.close()
                raise AtollError(
                    Kind.UNAUTHENTICATED,
                    "connect",
                    "the server shows another certificate than the one pinned",
                    about=str(address),
                )
        return SocketStream(reader, writer)

    async def listen(self, host: str, port: int, serve: Serve, *, tls: bool) -> Listening:
        """Take connections. Raises ``PORT_TAKEN``, ``CONFIG`` where there is no certificate."""
        context = None
        if tls:
            if self._tls is None:
                raise AtollError(Kind.CONFIG, "listen", "there is no certificate to show")
            context = _server_context(self._tls)
        open_now = 0

        async def took(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now
            if open_now >= CONNECTIONS_MAX:
                writer.close()
                return
            open_now += 1
            peer = writer.get_extra_info("peername")
            stream = SocketStream(reader, writer)
            try:
                await serve(stream, str(peer[0]) if peer else "")
            except AtollError:
                pass
            finally:
                open_now -= 1
                stream.close()

        try:
            server = await asyncio.start_server(took, host, port, ssl=context, limit=READ_BYTES_MAX)
        except OSError as cause:
            raise AtollError(
                Kind.PORT_TAKEN, "listen", f"cannot listen on {host}:{port}: {cause}"
            ) from cause
        return _Listening(server)


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint is the whole trust
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    return context
