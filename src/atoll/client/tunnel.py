"""A tunnel: many streams over one connection, each with its own credit.

The relay opens streams, the node accepts them. A stream whose reader is slow stops its own sender
and nobody else: no side ever holds more than ``WINDOW_BYTES`` of a stream. Specified in
``docs/spec/relay.md``.
"""

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ByteStream, Clock
from atoll.core.relay import (
    FRAME_HEAD_BYTES,
    KEEPALIVE_S,
    PAYLOAD_BYTES_MAX,
    SILENCE_S_MAX,
    STREAMS_MAX,
    WINDOW_BYTES,
    FrameType,
    frame_head,
    parse_head,
)

_LOG = logging.getLogger(__name__)
CREDIT_STEP_BYTES = WINDOW_BYTES // 2
"""Credit is given back in steps of this size: a frame for every few frames of data."""
TASKS_MAX = 8 * STREAMS_MAX
"""Streams served and small frames waiting to be sent; more is abuse."""
_CREDIT = struct.Struct(">I")


def _broken(message: str) -> AtollError:
    return AtollError(Kind.UNREACHABLE, "use tunnel", message)


class TunnelStream:
    """One stream of a tunnel; a ``ByteStream``."""

    def __init__(self, tunnel: "Tunnel", number: int) -> None:
        """Built by the tunnel."""
        self._tunnel = tunnel
        self.number = number
        self._arrived: deque[bytes] = deque()
        self._arrived_bytes = 0
        self._taken_bytes = 0
        self._credit = WINDOW_BYTES
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._ended_there = False
        self._ended_here = False
        self.broken = False

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end. Raises ``UNREACHABLE`` where it broke."""
        while not self._arrived:
            if self.broken:
                raise _broken("the stream was cut")
            if self._ended_there:
                return b""
            self._news.clear()
            await self._news.wait()
        data = self._arrived.popleft()
        self._arrived_bytes -= len(data)
        self._taken_bytes += len(data)
        if self._taken_bytes >= CREDIT_STEP_BYTES and not self._ended_there:
            taken, self._taken_bytes = self._taken_bytes, 0
            await self._tunnel.send(FrameType.CREDIT, self.number, _CREDIT.pack(taken))
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the other side has not taken enough. Raises ``UNREACHABLE``."""
        if len(data) <= PAYLOAD_BYTES_MAX and len(data) <= self._credit and data:
            self._credit -= len(data)
            await self._tunnel.send(FrameType.DATA, self.number, data)
            return
        view = memoryview(data)
        while len(view):
            while self._credit <= 0 and not self.broken:
                self._room.clear()
                await self._room.wait()
            if self.broken:
                raise _broken("the stream was cut")
            part = view[: min(self._credit, PAYLOAD_BYTES_MAX)]
            self._credit -= len(part)
            view = view[len(part) :]
            await self._tunnel.send(FrameType.DATA, self.number, bytes(part))

    async def end(self) -> None:
        """Say that nothing more comes from here."""
        if not self._ended_here and not self.broken:
            self._ended_here = True
            await self._tunnel.send(FrameType.END, self.number)
            self._tunnel.forget_if_over(self)

    def close(self) -> None:
        """End it both ways at once; safe to call more than once."""
        if not self.broken and not self.over:
            self._tunnel.post(FrameType.RESET, self.number)
        self.cut()

    @property
    def over(self) -> bool:
        """Whether both sides have ended."""
        return self._ended_here and self._ended_there

    # --- from the tunnel ---

    def take(self, data: bytes) -> None:
        """Take what arrived. Raises ``BAD_REQUEST`` where the sender had no credit for it."""
        self._arrived_bytes += len(data)
        if self._arrived_bytes + self._taken_bytes > WINDOW_BYTES or self._ended_there:
            raise AtollError(Kind.BAD_REQUEST, "use tunnel", "the other side sends without credit")
        self._arrived.append(data)
        self._news.set()

    def add_credit(self, count: int) -> None:
        """Take credit. Raises ``BAD_REQUEST`` for more than a window."""
        self._credit += count
        if self._credit > WINDOW_BYTES:
            raise AtollError(Kind.BAD_REQUEST, "use tunnel", "the other side gives too much credit")
        self._room.set()

    def ended(self) -> None:
        """Note that nothing more comes."""
        self._ended_there = True
        self._news.set()

    def cut(self) -> None:
        """Note that the stream is gone; readers and writers wake up."""
        self.broken = True
        self._news.set()
        self._room.set()
        self._tunnel.forget(self)


Opened = Callable[[TunnelStream], Awaitable[None]]
"""Serves one stream that the other side opened; run as a task of its own."""


class Tunnel:
    """One connection between a relay and a node after their greetings."""

    def __init__(self, link: ByteStream, clock: Clock, opened: Opened | None = None) -> None:
        """``opened`` serves streams of the other side; None where this side opens them."""
        self._link = link
        self._clock = clock
        self._opened = opened
        self._streams: dict[int, TunnelStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 1
        self._heard_s = clock.monotonic()
        self._closed = False

    @property
    def streams(self) -> int:
        """Streams open now."""
        return len(self._streams)

    async def open(self) -> TunnelStream:
        """Open a stream. Raises ``OVERLOADED`` for one too many, ``UNREACHABLE``."""
        if self._closed:
            raise _broken("the tunnel is gone")
        if len(self._streams) >= STREAMS_MAX:
            raise AtollError(Kind.OVERLOADED, "open stream", "the tunnel has no stream to spare")
        number, self._next = self._next, self._next + 1
        stream = self._streams[number] = TunnelStream(self, number)
        await self.send(FrameType.OPEN, number)
        return stream

    async def run(self) -> None:
        """Carry frames until the connection breaks, then raise ``UNREACHABLE``.

        Raises ``BAD_REQUEST`` where the other side breaks the rules.
        """
        watch = asyncio.create_task(self._keep_alive())
        try:
            await self._read_frames()
        finally:
            self._closed = True
            watch.cancel()
            for stream in list(self._streams.values()):
                stream.cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(watch, *self._tasks, return_exceptions=True)
            self._link.close()

    async def _read_frames(self) -> None:
        buffer = bytearray()
        while True:
            data = await self._link.read()
            if not data:
                raise _broken("the other side closed the tunnel")
            self._heard_s = self._clock.monotonic()
            buffer += data
            at = 0
            have = len(buffer)
            while have - at >= FRAME_HEAD_BYTES:
                kind, number, length = parse_head(buffer, at)
                end = at + FRAME_HEAD_BYTES + length
                if end > have:
                    break
                payload = bytes(memoryview(buffer)[at + FRAME_HEAD_BYTES : end]) if length else b""
                at = end
                self._frame(kind, number, payload)
            if at:
                del buffer[:at]

    def _frame(self, kind: FrameType, number: int, payload: bytes) -> None:
        if kind is FrameType.PING:
            # Not awaited here: a reader that waits to write may wait for ever.
            self.post(FrameType.PONG, 0)
            return
        if kind is FrameType.PONG:
            return
        if kind is FrameType.OPEN:
            self._accept(number)
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # It ended here while this was on its way.
        if kind is FrameType.DATA:
            stream.take(payload)
        elif kind is FrameType.CREDIT:
            stream.add_credit(_CREDIT.unpack(payload)[0])
        elif kind is FrameType.END:
            stream.ended()
            self.forget_if_over(stream)
        else:
            stream.cut()

    def _accept(self, number: int) -> None:
        if self._opened is None or number < self._next:
            raise AtollError(Kind.BAD_REQUEST, "use tunnel", "this stream cannot be opened")
        self._next = number + 1
        if len(self._streams) >= STREAMS_MAX:
            self.post(FrameType.RESET, number)
            return
        stream = self._streams[number] = TunnelStream(self, number)
        task = asyncio.create_task(self._serve(self._opened, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, opened: Opened, stream: TunnelStream) -> None:
        try:
            await opened(stream)
        except AtollError as cause:
            _LOG.debug("a stream ended: %s", cause)
        finally:
            stream.close()

    async def _keep_alive(self) -> None:
        while True:
            await self._clock.sleep(KEEPALIVE_S)
            if self._clock.monotonic() - self._heard_s > SILENCE_S_MAX:
                # The reader notices: a connection that says nothing is as good as cut.
                self._link.close()
                return
            await self.send(FrameType.PING, 0)

    # --- frames out ---

    async def send(self, kind: FrameType, number: int, payload: bytes = b"") -> None:
        """Send a frame. Raises ``UNREACHABLE``."""
        head = frame_head(kind, number, len(payload))
        await self._link.write(head + payload if payload else head)

    def post(self, kind: FrameType, number: int) -> None:
        """Send a frame when there is time; its loss does not matter to anybody."""
        if self._closed:
            return
        if len(self._tasks) > TASKS_MAX:
            raise AtollError(Kind.BAD_REQUEST, "use tunnel", "the other side asks too much")
        task = asyncio.create_task(self._posted(kind, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _posted(self, kind: FrameType, number: int) -> None:
        try:
            await self.send(kind, number)
        except AtollError:
            return

    def forget(self, stream: TunnelStream) -> None:
        """Let a stream's number go."""
        self._streams.pop(stream.number, None)

    def forget_if_over(self, stream: TunnelStream) -> None:
        """Let a stream's number go once both sides have ended."""
        if stream.over:
            self.forget(stream)


async def join_streams(
    one: ByteStream, other: ByteStream, passed: Callable[[int, int], Awaitable[None]]
) -> None:
    """Carry bytes both ways between two streams until both have ended; then both are closed.

    ``passed`` is told (and may hold up) bytes as they pass: from ``one``, from ``other``. Raises
    nothing: what breaks on one side is cut on the other.
    """

    async def carry(source: ByteStream, target: ByteStream, forth: bool) -> None:
        while data := await source.read():
            await passed(len(data) if forth else 0, 0 if forth else len(data))
            await target.write(data)
        await target.end()

    tasks = [
        asyncio.create_task(carry(one, other, True)),
        asyncio.create_task(carry(other, one, False)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        one.close()
        other.close()
        await asyncio.gather(*tasks, return_exceptions=True)
