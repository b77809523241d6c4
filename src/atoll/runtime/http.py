"""A small HTTP/1.1 client for pieces: kept connections, no copies where it matters.

What it can: one request at a time per connection, bodies of known length out, bodies of known
length or chunked in. What it leaves out on purpose: redirects, cookies, compression, proxies,
pipelining. Why not a general client: docs/decisions/0002-piece-transport.md.

The way of the bytes: outgoing buffers are handed to the socket as they are and are free again when
``send_part`` returns; incoming bytes are received straight into the buffer a reader lends, and
into a small buffer of the connection's own only while nobody reads (then reading pauses).
"""

import asyncio
import collections
import hashlib
import ssl
from dataclasses import dataclass
from typing import Any, cast

from typing_extensions import Buffer, override

from atoll.core.errors import AtollError, Kind
from atoll.core.piece_http import check_plain_allowed
from atoll.core.ports import Address

CONNECTIONS_PER_NODE_MAX = 64
"""Connections to one address; a further request waits for one."""
IDLE_S_MAX = 60.0
"""A kept connection unused for so long is closed; servers keep theirs longer (75 s)."""
CONNECT_S_MAX = 5.0
AHEAD_BYTES = 32 << 10
"""Room for what arrives while nobody reads; also the longest answer head."""
CHUNK_LINE_BYTES_MAX = 1024
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The start of an answer. ``body_bytes`` is -1 for a chunked body."""

    status: int
    body_bytes: int
    keep: bool
    raw: bytes

    def headers(self) -> dict[str, str]:
        """Return the headers by lower-case name."""
        lines = self.raw.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _value_of(lower_head: bytes, name: bytes) -> bytes:
    at = lower_head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    end = lower_head.find(b"\r\n", at)
    return lower_head[at : end if end >= 0 else None].strip()


def parse_head(raw: bytes, *, bodyless: bool) -> AnswerHead:
    """Read a head (without its blank line). Raises ``ValueError`` for one that is not HTTP/1."""
    lower = raw.lower()
    if not lower.startswith(b"http/1.") or len(lower) < 12:
        raise ValueError("not an HTTP/1.1 answer")
    status = int(lower[9:12])
    keep = _value_of(lower, b"connection") != b"close" and lower[7:8] == b"1"
    if bodyless or status in (204, 304) or status < 200:
        return AnswerHead(status, 0, keep, raw)
    if b"chunked" in _value_of(lower, b"transfer-encoding"):
        return AnswerHead(status, -1, keep, raw)
    length = _value_of(lower, b"content-length")
    if not length.isdigit():
        raise ValueError("an answer of unknown length")
    return AnswerHead(status, int(length), keep, raw)


class Connection(asyncio.BufferedProtocol):
    """One connection, used by one task at a time.

    All that can happen (bytes arrived, room to write, lost, too late) wakes that task, which looks
    again at what it waits for.
    """

    def __init__(self, pool: "Pool", address: Address) -> None:
        self._pool = pool
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ahead = memoryview(bytearray(AHEAD_BYTES))
        self._begin = 0
        self._end = 0
        self._sink: memoryview | None = None
        self._filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._write_full = False
        self._reading_paused = False
        self._late = False
        self._timer: asyncio.TimerHandle | None = None
        self.lost: str = ""
        self.idle_since = 0.0
        self.used = False

    # What the loop tells.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # A part counts as sent only when the socket has all of it, so that the caller may reuse
        # its buffer. Not zero under TLS, where uvloop would pause writing with nothing to write.
        tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=1 if tls else 0, low=0)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.lost or (str(exc) if exc else "") or "the other side closed"
        self._wake()
        self._pool.forget(self)

    @override
    def eof_received(self) -> bool:
        return False

    @override
    def pause_writing(self) -> None:
        self._write_full = True

    @override
    def resume_writing(self) -> None:
        self._write_full = False
        self._wake()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        if self._sink is not None:
            return self._sink[self._filled :]
        return self._ahead[self._end :]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        if self._sink is not None:
            self._filled += nbytes
            if self._filled == len(self._sink):
                self._sink = None
                self._wake()
            return
        self._end += nbytes
        if self._end == AHEAD_BYTES:
            self._pause()
        self._wake()

    # What the task asks for.

    def send_head(self, head: bytes, body: bytes = b"") -> None:
        """Begin a request; a small body goes in the same packet."""
        self.used = True
        self._check()
        self._open().write(head + body)

    async def send_part(self, part: Buffer, timeout_s: float) -> bool:
        """Send a part of the body; False when the answer came first and the rest is unwanted."""
        self._check()
        self._open().write(cast("bytes", part))
        while self._write_full:
            if self._end > self._begin:
                return False
            await self._wait(timeout_s)
        return True

    async def head(self, timeout_s: float, *, bodyless: bool = False) -> AnswerHead:
        """Return the answer's head; interim answers (1xx) are passed over."""
        while True:
            raw = await self._until(_HEAD_END, AHEAD_BYTES, timeout_s)
            try:
                answer = parse_head(raw, bodyless=bodyless)
            except ValueError as cause:
                raise self._broken(str(cause)) from cause
            if answer.status >= 200:
                return answer

    async def read_into(self, buffer: memoryview, timeout_s: float) -> None:
        """Fill ``buffer``; ``timeout_s`` bounds each wait without a byte."""
        have = self._take(buffer)
        if have == len(buffer):
            return
        if self.lost:
            raise self._broken(self.lost)
        self._sink, self._filled = buffer, have
        self._resume()
        try:
            while self._sink is not None:
                await self._wait(timeout_s, progress=True)
        finally:
            self._sink = None

    async def body(self, answer: AnswerHead, limit: int, timeout_s: float) -> bytes:
        """Return the whole body. Raises ``TOO_LARGE`` beyond ``limit`` bytes."""
        if answer.body_bytes < 0:
            return await self._chunked(limit, timeout_s)
        if answer.body_bytes > limit:
            raise self._too_large(answer.body_bytes, limit)
        if self._end - self._begin >= answer.body_bytes:
            at = self._begin
            self._begin += answer.body_bytes
            return bytes(self._ahead[at : self._begin])
        whole = bytearray(answer.body_bytes)
        await self.read_into(memoryview(whole), timeout_s)
        return bytes(whole)

    def done(self, *, keep: bool) -> None:
        """Give the connection back: kept if the answer was read to its end and allows it."""
        whole = self._begin == self._end and self._sink is None and not self._write_full
        if not (keep and whole) or self.lost:
            self.abort()
            return
        self._begin = self._end = 0
        self._resume()
        self._pool.keep(self)

    def abort(self) -> None:
        """Close at once; safe at any time."""
        self.lost = self.lost or "closed"
        self._pool.forget(self)
        if self._transport is not None:
            self._transport.abort()

    @property
    def fresh(self) -> bool:
        """Whether the next request may use it: open, and nothing came that nobody asked for."""
        return not self.lost and self._end == 0

    # Inner parts.

    def _open(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def _check(self) -> None:
        if self.lost:
            raise self._broken(self.lost)

    def _broken(self, why: str) -> AtollError:
        return AtollError(Kind.UNREACHABLE, "call", why, about=str(self.address))

    def _too_large(self, length: int, limit: int) -> AtollError:
        return AtollError(
            Kind.TOO_LARGE,
            "read answer",
            f"an answer of {length} bytes; at most {limit} are accepted",
            about=str(self.address),
        )

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _pause(self) -> None:
        if not self._reading_paused and not self.lost:
            self._reading_paused = True
            self._open().pause_reading()

    def _resume(self) -> None:
        if self._reading_paused and not self.lost:
            self._reading_paused = False
            self._open().resume_reading()

    def _expire(self, filled: int, timeout_s: float) -> None:
        if filled >= 0 and self._sink is not None and self._filled > filled:
            # Bytes came meanwhile: that is no stall.
            self._timer = self._loop.call_later(timeout_s, self._expire, self._filled, timeout_s)
            return
        self._late = True
        self._wake()

    async def _wait(self, timeout_s: float, *, progress: bool = False) -> None:
        """Sleep until something happens. Raises ``UNREACHABLE`` or ``TIMEOUT``."""
        self._check()
        self._late = False
        self._waiter = self._loop.create_future()
        mark = self._filled if progress else -1
        self._timer = self._loop.call_later(timeout_s, self._expire, mark, timeout_s)
        try:
            await self._waiter
        finally:
            # Not the timer made above: progress may have renewed it.
            self._timer.cancel()
            self._waiter = None
        if self._late:
            raise AtollError(
                Kind.TIMEOUT, "call", f"nothing came for {timeout_s:g} s", about=str(self.address)
            )
        # What arrived before the loss may still complete the answer.
        if self.lost and self._sink is not None:
            raise self._broken(self.lost)

    async def _until(self, mark: bytes, limit: int, timeout_s: float) -> bytes:
        """Take the bytes up to ``mark``, which is dropped."""
        while True:
            text = self._ahead[self._begin : self._end].tobytes()
            at = text.find(mark)
            if at >= 0:
                self._begin += at + len(mark)
                return text[:at]
            if len(text) >= limit:
                raise self._broken("the head of the answer is too long")
            self._compact()
            await self._wait(timeout_s)

    def _compact(self) -> None:
        """Move what is unread to the front, so that there is room behind it."""
        if self._begin:
            left = self._end - self._begin
            self._ahead[:left] = self._ahead[self._begin : self._end].tobytes()
            self._begin, self._end = 0, left
        self._resume()

    def _take(self, buffer: memoryview) -> int:
        """Copy what arrived ahead; return how much."""
        count = min(len(buffer), self._end - self._begin)
        buffer[:count] = self._ahead[self._begin : self._begin + count]
        self._begin += count
        if self._begin == self._end:
            self._begin = self._end = 0
        return count

    async def _chunked(self, limit: int, timeout_s: float) -> bytes:
        whole = bytearray()
        while True:
            line = await self._until(b"\r\n", CHUNK_LINE_BYTES_MAX, timeout_s)
            try:
                length = int(line.partition(b";")[0], 16)
            except ValueError as cause:
                raise self._broken("a broken chunk in the answer") from cause
            if length == 0:
                break
            if len(whole) + length > limit:
                raise self._too_large(len(whole) + length, limit)
            chunk = bytearray(length + 2)
            await self.read_into(memoryview(chunk), timeout_s)
            whole += chunk[:length]
        while await self._until(b"\r\n", CHUNK_LINE_BYTES_MAX, timeout_s):
            pass  # trailers say nothing to us
        return bytes(whole)


class Pool:
    """Connections by address, bounded, kept while fresh."""

    def __init__(self, connections_per_node_max: int = CONNECTIONS_PER_NODE_MAX) -> None:
        self._limit = connections_per_node_max
        self._idle: dict[Address, list[Connection]] = {}
        self._open: dict[Address, set[Connection]] = {}
        self._waiting: dict[Address, collections.deque[asyncio.Future[None]]] = {}
        self._opening: collections.Counter[Address] = collections.Counter()
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self.closed = False

    async def acquire(self, address: Address, timeout_s: float) -> Connection:
        """Return a connection for one request; give it back with ``done`` or ``abort``."""
        check_plain_allowed(address)
        while True:
            idle = self._idle.get(address)
            while idle:
                connection = idle.pop()
                if connection.fresh:
                    return connection
                connection.abort()
            if len(self._open.get(address, ())) + self._opening[address] < self._limit:
                return await self._connect(address, min(timeout_s, CONNECT_S_MAX))
            await self._turn(address, timeout_s)

    def keep(self, connection: Connection) -> None:
        """Take back a connection that may serve again."""
        if self.closed:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(connection.address, []).append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE_S_MAX, self._sweep)
        self._next(connection.address)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        mine = self._open.get(connection.address)
        if mine is None or connection not in mine:
            return
        mine.discard(connection)
        if not mine:
            del self._open[connection.address]
        self._next(connection.address)

    async def close(self) -> None:
        """Close all connections."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connections in list(self._open.values()):
            for connection in list(connections):
                connection.abort()

    async def _connect(self, address: Address, timeout_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        self._opening[address] += 1
        opened = False
        try:
            async with asyncio.timeout(timeout_s):
                transport, connection = await loop.create_connection(
                    lambda: Connection(self, address),
                    address.host,
                    address.port,
                    ssl=self._context() if address.fingerprint else None,
                    server_hostname=address.host if address.fingerprint else None,
                )
            opened = True
        except TimeoutError as cause:
            raise AtollError(
                Kind.TIMEOUT, "connect", "no connection in time", about=str(address)
            ) from cause
        except OSError as cause:
            raise AtollError(
                Kind.UNREACHABLE, "connect", str(cause) or "failed", about=str(address)
            ) from cause
        finally:
            self._opening[address] -= 1
            if not self._opening[address]:
                del self._opening[address]
            if not opened:
                self._next(address)
        self._open.setdefault(address, set()).add(connection)
        if address.fingerprint:
            _check_pinned(transport, connection, address)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            # The fingerprint is the whole trust: no authority could add to it.
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        return self._tls

    async def _turn(self, address: Address, timeout_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(address, collections.deque())
        waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except TimeoutError as cause:
            raise AtollError(
                Kind.TIMEOUT, "connect", "all connections are busy", about=str(address)
            ) from cause
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next(address)  # our turn came; pass it on
            raise
        finally:
            if turn in waiting:
                waiting.remove(turn)
            if not waiting:
                self._waiting.pop(address, None)

    def _next(self, address: Address) -> None:
        waiting = self._waiting.get(address)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = None
        for address, idle in list(self._idle.items()):
            for connection in [c for c in idle if loop.time() - c.idle_since >= IDLE_S_MAX]:
                idle.remove(connection)
                connection.abort()
            if not idle:
                del self._idle[address]
        if self._idle and not self.closed:
            self._sweeper = loop.call_later(IDLE_S_MAX / 4, self._sweep)


def _check_pinned(
    transport: asyncio.BaseTransport, connection: Connection, address: Address
) -> None:
    ssl_object: Any = transport.get_extra_info("ssl_object")
    found = hashlib.sha256(ssl_object.getpeercert(binary_form=True) or b"").digest()
    if found != address.fingerprint:
        connection.abort()
        raise AtollError(
            Kind.UNREACHABLE,
            "connect",
            f"another certificate than the pinned one ({found.hex()[:16]}…)",
            hint="if the server was set up anew, learn its new fingerprint from a trusted source",
            about=str(address),
        )
