"""A node's tunnels to relays: built outward, kept up, and told to the coordinators.

Behind a NAT nobody can call a node; but it can call two relays of different operators and have
itself called through them. What comes through a tunnel is joined to the node's own port, where its
own TLS ends: the relay reads nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from atoll.client.tunnel import Tunnel, TunnelStream, join_streams
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import node_id_of
from atoll.core.messages.nodes import RelayPlace
from atoll.core.piece_http import check_plain_allowed
from atoll.core.ports import Address, ByteStream, Clock, Rng, Sockets
from atoll.core.relay import (
    CHALLENGE_BYTES,
    NONCE_BYTES,
    WELCOME_BYTES,
    encode_hello,
    parse_challenge,
    parse_welcome,
)

_LOG = logging.getLogger(__name__)
RELAYS_MAX = 2
RETRY_S_MIN = 1.0
RETRY_S_MAX = 120.0
GREETING_S_MAX = 10.0
CONNECT_S_MAX = 10.0
IDLE_S = 5.0
"""Between looks whether a further relay is wanted."""


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """A relay as the node's operator names it."""

    address: Address
    """Of its tunnel port."""


class NodeTunnels:
    """Keeps up to two tunnels, to relays of different operators."""

    def __init__(
        self,
        clock: Clock,
        rng: Rng,
        sockets: Sockets,
        identity: Identity,
        relays: tuple[Address, ...],
        own: Address,
        changed: Callable[[], None],
    ) -> None:
        """``own`` is where this node listens itself; ``changed`` hears of every change."""
        self._clock = clock
        self._rng = rng
        self._sockets = sockets
        self._identity = identity
        self._relays = relays
        self._own = own
        self._changed = changed
        self._places: dict[Address, RelayPlace] = {}
        self._last: list[RelayPlace] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.carried_bytes = 0

    @property
    def places(self) -> list[RelayPlace]:
        """Where this node is reached, in the order in which the relays are named.

        While no tunnel stands it is where it was last: a node without a way is still no node that
        others can call, and must not be taken for one.
        """
        found = [self._places[relay] for relay in self._relays if relay in self._places]
        self._last = found or self._last
        return self._last

    def start(self) -> None:
        """Begin to build tunnels."""
        self._tasks = [asyncio.create_task(self._keep(relay)) for relay in self._relays]

    async def stop(self) -> None:
        """Let them go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._last = []

    async def _keep(self, relay: Address) -> None:
        """Build one tunnel again and again, while it is wanted."""
        failures = 0
        while True:
            if len(self._places) >= RELAYS_MAX:
                await self._clock.sleep(IDLE_S)
                continue
            try:
                await self._once(relay)
            except AtollError as cause:
                level = logging.WARNING if failures in (0, 9) else logging.DEBUG
                _LOG.log(level, "relay %s: %s", relay, cause)
            finally:
                was_up = self._places.pop(relay, None) is not None
                if was_up:
                    self._changed()
            failures = 0 if was_up else failures + 1
            await self._clock.sleep(self._pause_s(failures))

    def _pause_s(self, failures: int) -> float:
        pause_s: float = min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(failures, 16))
        # Nodes that lost the same relay must not all return at the same moment.
        return pause_s * (0.5 + 0.5 * self._rng.uniform())

    async def _once(self, relay: Address) -> None:
        check_plain_allowed(relay)
        link = await self._sockets.connect(relay, CONNECT_S_MAX)
        try:
            async with asyncio.timeout(GREETING_S_MAX):
                place, rest = await self._greet(relay, link)
        except TimeoutError:
            link.close()
            raise AtollError(Kind.TIMEOUT, "build tunnel", "the relay does not greet") from None
        except BaseException:
            link.close()
            raise
        operators = {other.operator for other in self._places.values()}
        if place.operator in operators:
            link.close()
            raise AtollError(
                Kind.CONFLICT, "build tunnel", "another relay of this operator serves already"
            )
        self._places[relay] = place
        self._changed()
        _LOG.info("reached through %s at %s:%d", place.operator, place.host, place.port)
        await Tunnel(_Resumed(link, rest), self._clock, self._serve).run()

    async def _greet(self, relay: Address, link: ByteStream) -> tuple[RelayPlace, bytes]:
        data = await _read(link, b"", CHALLENGE_BYTES)
        challenge = parse_challenge(data[:CHALLENGE_BYTES])
        nonce = self._rng.bytes(NONCE_BYTES)
        await link.write(encode_hello(self._identity, challenge, nonce))
        data = await _read(link, data[CHALLENGE_BYTES:], WELCOME_BYTES)
        welcome = parse_welcome(
            data[:WELCOME_BYTES], challenge.relay_key, self._identity.public_key, nonce
        )
        place = RelayPlace(
            relay_id=node_id_of(challenge.relay_key),
            operator=welcome.operator,
            host=relay.host,
            port=welcome.port,
        )
        return place, data[WELCOME_BYTES:]

    async def _serve(self, stream: TunnelStream) -> None:
        """Join a caller's stream to this node's own port."""
        plain = Address(self._own.host, self._own.port)
        own = await self._sockets.connect(plain, CONNECT_S_MAX)

        async def passed(inward: int, outward: int) -> None:
            self.carried_bytes += inward + outward

        await join_streams(stream, own, passed)


class _Resumed:
    """A connection of which some bytes were read already."""

    def __init__(self, link: ByteStream, rest: bytes) -> None:
        self._link = link
        self._rest = rest

    async def read(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest or await self._link.read()

    async def write(self, data: bytes) -> None:
        await self._link.write(data)

    async def end(self) -> None:
        await self._link.end()

    def close(self) -> None:
        self._link.close()


async def _read(link: ByteStream, have: bytes, length: int) -> bytes:
    while len(have) < length:
        part = await link.read()
        if not part:
            raise AtollError(Kind.UNREACHABLE, "build tunnel", "the relay closed the connection")
        have += part
    return have
