"""A relay: takes tunnels of nodes, listens for each at a port, joins what comes there to a stream.

It trusts nobody and is trusted with nothing: nodes prove their keys, callers bring their own TLS.
All it has is metered and bounded per node: streams, buffers, bytes a second.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from atoll.client.tunnel import Tunnel, join_streams
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import node_id_of, show_node
from atoll.core.ports import ByteStream, Clock, Listening, Rng, Sockets
from atoll.core.relay import (
    HELLO_BYTES,
    NONCE_BYTES,
    Challenge,
    Welcome,
    encode_challenge,
    encode_welcome,
    parse_hello,
)
from atoll.relay.config import RelayConfig

_LOG = logging.getLogger(__name__)
GREETINGS_MAX = 64
"""Callers that have not proved a key yet; more are turned away."""
BURST_S = 1.0


@dataclass(slots=True)
class Meter:
    """What was carried for one node since the relay's start, and its pace."""

    node_id: bytes
    to_node_bytes: int = 0
    from_node_bytes: int = 0
    connections: int = 0
    refused: int = 0
    ready_s: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """When each direction may go on, by the monotonic clock."""


@dataclass(slots=True)
class _Guest:
    meter: Meter
    listening: Listening
    tunnel: Tunnel | None = None
    links: int = 0
    """Links of this node, from greeting to end: while there are any, its port stays."""


class RelayService:
    """Runs a relay between ``start`` and ``stop``."""

    def __init__(
        self, clock: Clock, rng: Rng, sockets: Sockets, identity: Identity, config: RelayConfig
    ) -> None:
        """Listen to nobody yet."""
        self._clock = clock
        self._rng = rng
        self._sockets = sockets
        self._identity = identity
        self.config = config
        self._guests: dict[bytes, _Guest] = {}
        self._listening: Listening | None = None
        self._greetings = 0
        self._opening = asyncio.Lock()
        """Held while a port is opened: a node that greets twice meanwhile gets one."""

    @property
    def port(self) -> int:
        """Where nodes build their tunnels."""
        assert self._listening is not None
        return self._listening.port

    @property
    def meters(self) -> list[Meter]:
        """Figures of every node seen since the start."""
        return [guest.meter for guest in self._guests.values()]

    @property
    def tunnels(self) -> int:
        """Nodes connected now."""
        return sum(guest.tunnel is not None for guest in self._guests.values())

    async def start(self) -> None:
        """Begin to take tunnels. Raises ``PORT_TAKEN``."""
        config = self.config
        self._listening = await self._sockets.listen(
            config.host, config.port, self._greet, tls=config.tls
        )
        _LOG.info("relay of %s listens on %s:%d", config.operator, config.host, self.port)

    async def stop(self) -> None:
        """Take nothing more."""
        if self._listening is not None:
            await self._listening.close()
        for guest in self._guests.values():
            await guest.listening.close()

    # --- nodes ---

    async def _greet(self, link: ByteStream, caller: str) -> None:
        if self._greetings >= GREETINGS_MAX:
            return
        self._greetings += 1
        try:
            async with asyncio.timeout(self.config.greeting_s_max):
                node_key, nonce = await self._prove(link)
            guest = await self._guest(node_id_of(node_key))
        except (AtollError, TimeoutError) as cause:
            _LOG.info("%s was turned away: %s", caller, cause)
            return
        finally:
            self._greetings -= 1
        guest.links += 1
        try:
            welcome = Welcome(guest.listening.port, self.config.operator)
            await link.write(encode_welcome(self._identity, node_key, nonce, welcome))
            await self._serve(guest, link)
        finally:
            guest.links -= 1

    async def _serve(self, guest: _Guest, link: ByteStream) -> None:
        node = show_node(guest.meter.node_id)
        tunnel = Tunnel(link, self._clock)
        # A node that comes again has lost its first tunnel: the newest counts.
        guest.tunnel = tunnel
        _LOG.info("%s is served at port %d", node, guest.listening.port)
        try:
            await tunnel.run()
        except AtollError as cause:
            _LOG.info("the tunnel of %s ended: %s", node, cause)
        finally:
            if guest.tunnel is tunnel:
                guest.tunnel = None

    async def _prove(self, link: ByteStream) -> tuple[bytes, bytes]:
        challenge = Challenge(self._rng.bytes(NONCE_BYTES), self._identity.public_key)
        await link.write(encode_challenge(challenge))
        hello = b""
        while len(hello) < HELLO_BYTES:
            part = await link.read()
            if not part:
                raise AtollError(Kind.UNREACHABLE, "greet node", "it left")
            hello += part
        return parse_hello(hello, challenge)

    async def _guest(self, node_id: bytes) -> _Guest:
        """Return what is kept of a node, with a port open. Raises ``OVERLOADED``, ``PORT_TAKEN``.

        Nothing is kept of a node for which no port could be opened.
        """
        async with self._opening:
            guest = self._guests.get(node_id)
            if guest is not None:
                return guest
            if len(self._guests) >= self.config.nodes_max:
                await self._forget_one()

            async def called(caller: ByteStream, _: str) -> None:
                at = self._guests.get(node_id)
                if at is not None:
                    await self._carry(at, caller)

            guest = _Guest(Meter(node_id), await self._listen(called))
            self._guests[node_id] = guest
            return guest

    async def _forget_one(self) -> None:
        """Give up the port of a node that is not connected. Raises ``OVERLOADED``."""
        for node_id, guest in self._guests.items():
            if not guest.links:
                del self._guests[node_id]
                # Before another port is looked for: it may be the only one.
                await guest.listening.close()
                return
        raise AtollError(Kind.OVERLOADED, "greet node", "the relay serves as many nodes as it can")

    async def _listen(self, called: "object") -> Listening:
        config = self.config
        if not config.port_first:
            return await self._sockets.listen(config.host, 0, called, tls=False)  # type: ignore[arg-type]
        for port in range(config.port_first, config.port_first + config.nodes_max):
            with contextlib.suppress(AtollError):
                return await self._sockets.listen(config.host, port, called, tls=False)  # type: ignore[arg-type]
        raise AtollError(Kind.PORT_TAKEN, "greet node", "no port is left for it")

    # --- callers ---

    async def _carry(self, guest: _Guest, caller: ByteStream) -> None:
        tunnel, meter = guest.tunnel, guest.meter
        if tunnel is None:
            meter.refused += 1
            return
        try:
            stream = await tunnel.open()
        except AtollError:
            meter.refused += 1
            return
        meter.connections += 1

        async def passed(to_node: int, from_node: int) -> None:
            meter.to_node_bytes += to_node
            meter.from_node_bytes += from_node
            if self.config.bytes_per_s:
                await self._pace(meter, 0 if to_node else 1, to_node + from_node)

        await join_streams(caller, stream, passed)

    async def _pace(self, meter: Meter, direction: int, count: int) -> None:
        now = self._clock.monotonic()
        ready = max(meter.ready_s[direction], now - BURST_S) + count / self.config.bytes_per_s
        meter.ready_s[direction] = ready
        if ready > now:
            await self._clock.sleep(ready - now)
