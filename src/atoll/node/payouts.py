"""Lets go what is paid out: signs a permit over exactly that, where the provider asked for it.

The node has no connection to the chain and pays nothing there. It signs only what its own
coordinator has signed a promise for, to the provider's own bank account, and keeps the promise: it
is the evidence that so much was let go for that.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.messages import decode
from atoll.core.messages.payouts import (
    ORDER_PURPOSE,
    PayoutOrder,
    PayoutOrders,
    PayoutTaken,
    SignedPayout,
    SignPayout,
    bank_digest,
)
from atoll.core.ports import Clock, Compute, Disk
from atoll.economy.chain.permit import permit_of
from atoll.node.config import PayoutAccess
from atoll.node.link import Link
from atoll.node.part import NodePart, Step

_LOG = logging.getLogger(__name__)

MICRO_PER_CENT = 10_000
LOOK_S = 1.0
ASK_S_MIN = 5.0
ASK_HEARTBEATS = 20
"""A coordinator is asked once in so many heartbeats."""
IDLE_S = 600.0
"""Before one is asked again that pays nobody."""
PROMISES = "payouts"
"""Folder of promises that were signed for."""


class PayoutSigner(NodePart):
    """Asks coordinators what is to be let go, and signs what is right."""

    def __init__(
        self,
        clock: Clock,
        compute: Compute,
        disk: Disk,
        identity: Identity,
        links: Sequence[Link],
        access: PayoutAccess,
        ask_orders: Callable[[Link], Awaitable[PayoutOrders]],
        send_permit: Callable[[Link, SignPayout], Awaitable[PayoutTaken]],
    ) -> None:
        """Keep promises on ``disk``."""
        self._clock = clock
        self._compute = compute
        self._disk = disk
        self._node_id = identity.node_id
        self._links = links
        self._access = access
        self._ask_orders = ask_orders
        self._send_permit = send_permit
        self._due: dict[int, float] = {}
        self.steps = [Step("sign payouts", self.look, LOOK_S)]

    async def look(self) -> int:
        """Ask every coordinator whose time has come; return how many payouts were signed."""
        signed = 0
        for number, link in enumerate(self._links):
            now = self._clock.monotonic()
            if not link.registered or now < self._due.get(number, 0.0):
                continue
            pause_s = max(ASK_S_MIN, ASK_HEARTBEATS * link.heartbeat_interval_ms / 1000)
            try:
                signed += await self._serve(link)
            except AtollError as error:
                if error.kind is not Kind.NOT_IMPLEMENTED:
                    self._due[number] = now + pause_s
                    raise
                pause_s = IDLE_S
            self._due[number] = now + pause_s
        return signed

    async def _serve(self, link: Link) -> int:
        asked = await self._ask_orders(link)
        if not asked.orders:
            return 0
        iban = await self._compute.run(self._access.iban)
        signed = 0
        for promise in asked.orders:
            try:
                order = checked(promise, link.key, self._node_id, self._access.account, iban)
            except AtollError as error:
                # Nothing of it is signed; the others may be right.
                _LOG.warning("a payout is not signed: %s", error.message)
                continue
            permit = self._access.sign(permit_of(order).digest())
            name = f"{PROMISES}/{order.payout.hex()}"
            # The promise is durable before the permit is anybody's.
            await self._compute.run(self._disk.replace, name, msgspec.msgpack.encode(promise))
            await self._send_permit(link, SignPayout(payout=order.payout, permit=permit))
            signed += 1
        return signed


def checked(
    promise: SignedPayout, coordinator_key: bytes, node_id: bytes, account: bytes, iban: str
) -> PayoutOrder:
    """Return a promise that may be signed for. Raises ``FORBIDDEN`` with why it may not.

    It must be the coordinator's, about this node and its account, to the bank account that the
    provider named here, and let go exactly what is paid.
    """
    if not coordinator_key or not signature_holds(
        coordinator_key, ORDER_PURPOSE, promise.order, promise.signature
    ):
        raise _refused("it is not signed by the coordinator")
    order: PayoutOrder = decode(promise.order, PayoutOrder)
    if order.node_id != node_id or order.account != account:
        raise _refused("it is about another node")
    if not iban:
        raise _refused("no bank account is named here: `atoll payout set euro --iban …`")
    if order.bank_sha256 != bank_digest(order.payout, iban):
        raise _refused("it goes to another bank account than is named here")
    if order.amount_cents <= 0 or order.amount_micro != order.amount_cents * MICRO_PER_CENT:
        raise _refused("it would let go another amount than is paid")
    return order


def _refused(message: str) -> AtollError:
    return AtollError(Kind.FORBIDDEN, "sign payout", message)
