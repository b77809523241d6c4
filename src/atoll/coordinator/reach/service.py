"""Calls nodes that ask whether they can be called.

Whoever asks chooses the address, so this must be no use to him but for that: one question at a time
and every few seconds per key, and the answer says yes only of the very node that asks.
"""

from collections import OrderedDict

import msgspec

from atoll.coordinator.part import Part
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.messages.relays import AskReachable, Reachable
from atoll.core.ports import Address, Clock, PieceTransport

PAUSE_S = 3.0
"""Between two questions of one key."""
ASKERS_KEPT_MAX = 10_000
CALLS_MAX = 16
CALL_S_MAX = 5.0


class _Health(msgspec.Struct, frozen=True):
    node_id: str


class ReachService(Part):
    """Answers ``AskReachable``."""

    def __init__(self, clock: Clock, transport: PieceTransport) -> None:
        """Call through ``transport``."""
        self._clock = clock
        self._transport = transport
        self._asked: OrderedDict[bytes, float] = OrderedDict()
        self._calls = 0
        self.node_handlers = {AskReachable: self.ask_reachable}

    async def ask_reachable(self, request: AskReachable, key: bytes, _: int) -> Reachable:
        """Call the node that asks. Raises ``OVERLOADED``."""
        now = self._clock.monotonic()
        if now - self._asked.get(key, -PAUSE_S) < PAUSE_S or self._calls >= CALLS_MAX:
            raise AtollError(Kind.OVERLOADED, "call node", "asked too often: ask again shortly")
        self._asked[key] = now
        self._asked.move_to_end(key)
        if len(self._asked) > ASKERS_KEPT_MAX:
            self._asked.popitem(last=False)
        self._calls += 1
        try:
            address = Address(request.host, request.port, request.fingerprint)
            return Reachable(reachable=await self._answers(address, node_id_of(key)))
        finally:
            self._calls -= 1

    async def _answers(self, address: Address, node_id: bytes) -> bool:
        try:
            reply = await self._transport.call(address, "GET", "/v1/health", {}, b"", CALL_S_MAX)
            health = msgspec.json.decode(reply.body, type=_Health)
        except (AtollError, msgspec.MsgspecError):
            return False
        return reply.status == 200 and health.node_id == node_id.hex()
