"""The simulated network: it delays, loses, cuts, corrupts, and drives true ASGI apps.

An exchange is one request and its answer over one connection. The server's app runs in a task of
its own incarnation, the caller in his; they touch only through the exchange. Loss is the loss of a
connection, since TCP repairs the loss of packets: at a moment that the seed chooses (before the
request arrives, within a body, after the server did its work but before the caller hears of it).
"""

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import encode, failure_of
from atoll.core.ports import Address
from atoll.sim.incarnation import Fenced, Incarnation
from atoll.sim.loop import LIFE, SimLoop
from atoll.sim.trace import Trace

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

WINDOW_BYTES = 256 << 10
"""Bytes under way in one direction before the sender waits."""
BYTES_PER_S = 100e6
HANG_S = 120.0
"""So long a server waits for a caller that the network hides from it."""


@dataclass(slots=True)
class NetworkFaults:
    """What the network does wrong. Probabilities per exchange, times in seconds."""

    delay_s_mean: float = 0.002
    loss: float = 0.0
    stall: float = 0.0
    """Probability that an exchange is held up for ``stall_s``."""
    stall_s: float = 5.0
    corrupt: float = 0.0
    """Probability that an answer's body has a flipped bit (a liar, or a bad path without TLS)."""


@dataclass(slots=True)
class _Endpoint:
    incarnation: Incarnation
    app: AsgiApp


class _Flow:
    """Bytes of one direction, in order, within a window."""

    __slots__ = ("_changed", "_parts", "_waiting_bytes", "broken", "ended")

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self.ended = False
        self.broken = ""

    def change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Append; wait while the window is full. Silent once broken."""
        if data:
            self._parts.append(memoryview(data))
            self._waiting_bytes += len(data)
            self.change()
        while self._waiting_bytes > WINDOW_BYTES and not self.broken:
            await self._changed.wait()

    async def change_to_come(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def end(self) -> None:
        self.ended = True
        self.change()

    def break_off(self, why: str) -> None:
        if not self.broken:
            self.broken = why
            self.change()

    async def take(self, limit: int) -> memoryview:
        """Return up to ``limit`` next bytes; nothing at the end or once broken and empty."""
        while not self._parts and not self.ended and not self.broken:
            await self._changed.wait()
        if not self._parts:
            return memoryview(b"")
        part = self._parts.popleft()
        if len(part) > limit:
            self._parts.appendleft(part[limit:])
            part = part[:limit]
        self._waiting_bytes -= len(part)
        self.change()
        return part


class Exchange:
    """One request and its answer, between two incarnations."""

    def __init__(
        self,
        network: "Network",
        caller: Incarnation,
        server: Incarnation,
        method: str,
        path: str,
        host: str,
    ) -> None:
        self.host = host
        self.caller = caller
        self.server = server
        self.method = method
        self.path = path
        self.request = _Flow()
        self.answer = _Flow()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.started = asyncio.Event()
        self.hidden = False
        """The network shows neither side the other any more: only timeouts help."""
        self._network = network
        self._end_told = False

    def break_off(self, why: str) -> None:
        """Reset the connection: both sides learn of it, unless the network hides them."""
        if self.hidden:
            return
        self._end(why)
        self.started.set()

    def hide(self) -> None:
        """Let every further byte vanish; both sides give up in the end."""
        if not self.hidden:
            self.hidden = True
            self._network.after(HANG_S, self._end, "nothing was heard for long")

    def _end(self, why: str) -> None:
        self.request.break_off(why)
        self.answer.break_off(why)
        self._network.ended(self)

    def caller_gone(self) -> None:
        """The caller closed or died: the server sees a disconnect, in time."""
        self._end("the caller is gone")

    async def receive(self) -> MutableMapping[str, Any]:
        """Give the app the next part of the request, as ASGI says."""
        self.server.check()
        part = await self.request.take(64 << 10)
        if part:
            return {"type": "http.request", "body": bytes(part), "more_body": True}
        if not self.request.broken and not self._end_told:
            self._end_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # A further look waits for the end of the exchange.
        while not self.answer.ended and not self.request.broken:
            await self.request.change_to_come()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a part of the answer from the app, as ASGI says; silent once nobody listens."""
        self.server.check()
        if self.answer.broken or self.answer.ended:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.status == 201:
                self._network.on_stored(self.server.name, self.path)
            self.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message.get("headers", ())
            }
            return
        await self._network.on_answer(self)
        if self.hidden or self.answer.broken:
            return
        self.started.set()
        await self.answer.put(self._network.maybe_corrupt(self, bytes(message.get("body", b""))))
        if not message.get("more_body"):
            self.answer.end()
            self.request.change()
            self._network.ended(self)


class Network:
    """Everything between the machines."""

    def __init__(self, loop: SimLoop, seed: str, trace: Trace) -> None:
        """Make a network without faults."""
        self.loop = loop
        self.faults = NetworkFaults()
        self.trace = trace
        self._random = random.Random(seed)
        self._endpoints: dict[tuple[str, int], _Endpoint] = {}
        self._cut: set[frozenset[str]] = set()
        self._liars: set[str] = set()
        self._refusers: set[str] = set()
        self._garblers: set[str] = set()
        self.on_stored: Callable[[str, str], None] = lambda _name, _path: None
        """Told of every acknowledged PUT: the server's name, the path."""
        self._open: dict[Exchange, None] = {}
        self._plans: dict[Exchange, str] = {}
        self._serving: set[asyncio.Task[None]] = set()

    # What the world does to it.

    def listen(self, host: str, port: int, incarnation: Incarnation, app: AsgiApp) -> None:
        """Let an incarnation serve ``app`` at an address until it dies."""
        endpoint = _Endpoint(incarnation, app)
        self._endpoints[host, port] = endpoint

        def gone() -> None:
            if self._endpoints.get((host, port)) is endpoint:
                del self._endpoints[host, port]

        incarnation.at_crash(gone)

    def silence(self, host: str) -> None:
        """Let nobody listen at a host any more, and break off what goes through it."""
        for place in [place for place in self._endpoints if place[0] == host]:
            del self._endpoints[place]
        for exchange in list(self._open):
            if exchange.host == host:
                exchange.break_off("the relay is gone")

    def join(self, incarnation: Incarnation) -> None:
        """Let the network learn of an incarnation's death."""
        incarnation.at_crash(lambda: self._dead(incarnation))

    def cut(self, one: str, other: str) -> None:
        """Part two machines (by the names of their incarnations) from each other."""
        self._cut.add(frozenset((one, other)))
        self.trace.note("cut", f"{one} {other}")

    def join_again(self, one: str, other: str) -> None:
        """End the parting of two machines."""
        self._cut.discard(frozenset((one, other)))
        self.trace.note("join", f"{one} {other}")

    def garble(self, name: str, *, on: bool) -> None:
        """Flip a bit in much of what this machine is sent (or end that)."""
        (self._garblers.add if on else self._garblers.discard)(name)
        self.trace.note("garbled", f"{name} {on}")

    def let_be_honest(self, name: str) -> None:
        """End a machine's lies."""
        self._liars.discard(name)
        self.trace.note("honest", name)

    def heal(self) -> None:
        """Join what was parted and end every fault."""
        self._cut.clear()
        self._liars.clear()
        self._refusers.clear()
        self._garblers.clear()
        self.faults = NetworkFaults(delay_s_mean=self.faults.delay_s_mean)
        self.trace.note("heal", "network")

    def let_refuse(self, name: str) -> None:
        """Let a machine refuse every read of a piece."""
        self._refusers.add(name)
        self.trace.note("refuses", name)

    def let_lie(self, name: str) -> None:
        """Flip a bit in most of what this machine answers."""
        self._liars.add(name)
        self.trace.note("liar", name)

    # What transports ask.

    async def open(
        self, caller: Incarnation, address: Address, scope: dict[str, Any], timeout_s: float
    ) -> Exchange:
        """Carry a request's head to its server. Raises ``UNREACHABLE`` or ``TIMEOUT``."""
        about = f"{scope['method']} {caller.name}>{address.host}:{address.port}{scope['path']}"
        self.trace.note("ask", about)
        plan = self._plan()
        await self._delay(0)
        endpoint = self._endpoints.get((address.host, address.port))
        if plan == "stalled":
            await asyncio.sleep(min(self.faults.stall_s, timeout_s))
            endpoint = self._endpoints.get((address.host, address.port))
        if endpoint is not None and self.parted(caller.name, endpoint.incarnation.name):
            await asyncio.sleep(timeout_s)
            raise AtollError(Kind.TIMEOUT, "connect", "no connection in time", about=str(address))
        if endpoint is None or plan == "lost early":
            raise AtollError(Kind.UNREACHABLE, "connect", "refused", about=str(address))
        exchange = Exchange(
            self, caller, endpoint.incarnation, scope["method"], scope["path"], address.host
        )
        self._open[exchange] = None
        if plan:
            self._plans[exchange] = plan
        scope["server"] = [address.host, address.port]
        self.loop.call_in(endpoint.incarnation, self._serve, endpoint, exchange, scope)
        return exchange

    async def carry(self, exchange: Exchange, data: bytes) -> None:
        """Bring a part of the request's body to the server."""
        await self._delay(len(data))
        if self.parted(exchange.caller.name, exchange.server.name):
            exchange.hide()
        if exchange.hidden:
            return
        if self._plans.get(exchange) == "lost in request" and self._random.random() < 0.5:
            exchange.break_off("reset within the request")
            return
        if exchange.method == "PUT" and exchange.server.name in self._garblers:
            data = self._flip(data) if self._random.random() < 0.5 else data
        await exchange.request.put(data)

    async def on_answer(self, exchange: Exchange) -> None:
        """Delay a part of an answer; lose it if that is planned."""
        await self._delay(0)
        if self.parted(exchange.caller.name, exchange.server.name):
            exchange.hide()
        elif self._plans.get(exchange) == "lost in answer":
            exchange.break_off("reset within the answer")

    def maybe_corrupt(self, exchange: Exchange, body: bytes) -> bytes:
        """Flip a bit of an answer's body where a fault says so."""
        rate = 0.8 if exchange.server.name in self._liars else self.faults.corrupt
        # Control answers are left alone: their integrity is TLS's business, not the pieces'.
        if not body or not rate or not exchange.server.name.startswith("node"):
            return body
        if exchange.status != 200 or self._random.random() >= rate:
            return body
        self.trace.note("corrupt", exchange.server.name)
        return self._flip(body)

    def _flip(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data))
        return data[:at] + bytes((data[at] ^ 1 << self._random.randrange(8),)) + data[at + 1 :]

    def parted(self, one: str, other: str) -> bool:
        """Say whether nothing passes between two machines."""
        return bool(self._cut) and frozenset((one, other)) in self._cut

    def after(self, seconds: float, function: Callable[..., object], *arguments: Any) -> None:
        """Do something later, whoever has died by then."""
        context = contextvars.copy_context()
        context.run(LIFE.set, None)
        self.loop.call_later(seconds, function, *arguments, context=context)

    def ended(self, exchange: Exchange) -> None:
        """Forget an exchange that is over."""
        self._open.pop(exchange, None)
        self._plans.pop(exchange, None)

    # Inner parts.

    def _plan(self) -> str:
        draw = self._random.random()
        if draw < self.faults.loss:
            return self._random.choice(("lost early", "lost in request", "lost in answer"))
        if draw < self.faults.loss + self.faults.stall:
            return "stalled"
        return ""

    async def _delay(self, length: int) -> None:
        seconds = self._random.expovariate(1 / self.faults.delay_s_mean)
        await asyncio.sleep(seconds + length / BYTES_PER_S)

    def _serve(self, endpoint: _Endpoint, exchange: Exchange, scope: dict[str, Any]) -> None:
        task = self.loop.create_task(self._run_app(endpoint, exchange, scope))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _run_app(
        self, endpoint: _Endpoint, exchange: Exchange, scope: dict[str, Any]
    ) -> None:
        try:
            if exchange.method == "GET" and exchange.server.name in self._refusers:
                await _refuse(exchange)
            else:
                await endpoint.app(scope, exchange.receive, exchange.send)
        except Fenced:
            raise
        except AtollError as cause:
            # An app that cannot go on within an answer cuts the connection this way.
            self.trace.note("cut off", f"{endpoint.incarnation.name} {cause.kind.value}")
            exchange.break_off("the server failed")
            return
        except Exception as cause:  # noqa: BLE001 - what a server does with an app's error
            self.trace.note("error", f"{endpoint.incarnation.name} {type(cause).__name__} {cause}")
            self.loop.unhandled.append(f"{endpoint.incarnation.name} {scope['path']}: {cause!r}")
            exchange.break_off("the server failed")
            return
        if not exchange.answer.ended:
            exchange.break_off("the server ended without an answer")

    def _dead(self, incarnation: Incarnation) -> None:
        for exchange in list(self._open):
            if exchange.caller is incarnation:
                exchange.caller_gone()
            elif exchange.server is incarnation:
                # A killed process resets its connections; a machine without power says nothing.
                if self._random.random() < 0.3:
                    exchange.hide()
                exchange.break_off("the other side closed")


async def _refuse(exchange: Exchange) -> None:
    """Answer as a node that is busy; it always is."""
    refusal = AtollError(Kind.OVERLOADED, "read piece", "not now")
    body = encode(failure_of(refusal))
    headers = [(b"content-length", str(len(body)).encode())]
    status = refusal.meaning.http_status
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": body})
