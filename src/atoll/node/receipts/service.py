"""Lets gateways read as far as they sign for it, keeps their receipts and claims pay by them.

Off the way of the bytes: a read costs two dictionary look-ups here, signatures are one in four
seconds and gateway's worker. A gateway that signs nothing is served up to the allowance and no
further; a receipt is kept durably before the gateway is told so, and until a coordinator has
settled it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Message
from atoll.core.messages.traffic import ClaimedReads, ClaimReads, ReadClaim
from atoll.core.orders import LIMIT_BYTES, OrderLimit
from atoll.core.ports import Clock, Compute, Disk
from atoll.core.receipts import (
    RECEIPT_BYTES_MAX,
    RECEIPTS_PATH,
    ReadReceipt,
    gateway_signed,
    parse_read_receipt,
    sign_claim,
)
from atoll.node import http
from atoll.node.http import Receive, Scope, Send
from atoll.node.link import Link
from atoll.node.part import NodePart, Step
from atoll.node.receipts import rules, store
from atoll.node.receipts.model import (
    CLAIM_S,
    CLAIMS_MAX,
    GATEWAYS_MAX,
    ORDERS_MAX,
    SAVE_S,
    WAIT_S_MAX,
    Debtor,
    KeptClaim,
    OpenOrder,
    Tally,
)

_LOG = logging.getLogger(__name__)
Ask = Callable[[Link, Message, type[Any]], Awaitable[Any]]


class ReceiptKeeper(NodePart):
    """What gateways owe and have signed for."""

    def __init__(
        self,
        *,
        identity: Identity,
        clock: Clock,
        disk: Disk,
        compute: Compute,
        coordinators: Mapping[bytes, bytes],
        links: Sequence[Link],
        ask: Ask,
        stall_s: float,
    ) -> None:
        """``coordinators``: by key, those whose orders are obeyed. ``stall_s``: for bodies."""
        self._identity = identity
        self._node_id = identity.node_id
        self._clock = clock
        self._disk = disk
        self._compute = compute
        self._coordinators = coordinators
        self._links = links
        self._ask = ask
        self._stall_s = stall_s
        self._orders: OrderedDict[bytes, OpenOrder] = OrderedDict()
        self._debtors: OrderedDict[bytes, Debtor] = OrderedDict()
        self._files: OrderedDict[int, list[KeptClaim]] = OrderedDict()
        self._keys: set[tuple[bytes, int]] = set()
        """Tab and sequence of what is kept or about to be."""
        self._unsaved: list[KeptClaim] = []
        self._saved: asyncio.Future[None] | None = None
        self._paid: asyncio.Event = asyncio.Event()
        self._number = 0
        self.tally = Tally()
        self.routes = {("POST", RECEIPTS_PATH): self._take}
        self.steps = [
            Step("keep receipts", self.save, SAVE_S),
            Step("claim for receipts", self.claim, CLAIM_S),
        ]

    async def start(self) -> None:
        """Find what was kept before."""
        self._files = OrderedDict(sorted((await self._compute.run(store.load, self._disk)).items()))
        self._number = max(self._files, default=0)
        self._keys = {_key(claim) for claims in self._files.values() for claim in claims}

    async def stop(self) -> None:
        """Keep what has come in."""
        await self.save()

    # --- reads ---

    async def open(self, limit: OrderLimit, signed: bytes) -> OpenOrder:
        """Return a read order in use. Raises ``UNPAID`` where its gateway owes too much."""
        order = self._orders.get(limit.serial)
        if order is None:
            debtor = self._debtor(limit.gateway_key)
            order = OpenOrder(signed, limit.gateway_key, debtor, limit.byte_cap)
            self._orders[limit.serial] = order
            if len(self._orders) > ORDERS_MAX:
                self._orders.popitem(last=False)
        else:
            self._orders.move_to_end(limit.serial)
        if not rules.may_read(order.debtor):
            await self._wait_for(lambda: self._may_read(order.debtor))
        return order

    def _debtor(self, gateway_key: bytes) -> Debtor:
        debtor = self._debtors.get(gateway_key)
        if debtor is None:
            debtor = self._debtors[gateway_key] = Debtor(forgiven_s=self._clock.monotonic())
            if len(self._debtors) > GATEWAYS_MAX:
                self._debtors.popitem(last=False)
        return debtor

    def _may_read(self, debtor: Debtor) -> bool:
        rules.forgive(debtor, self._clock.monotonic())
        return rules.may_read(debtor)

    async def send_on(self, order: OpenOrder, count: int) -> None:
        """Count bytes about to go out under an order. Raises ``UNPAID`` at the order's limit."""
        if not rules.may_go_on(order, count):
            await self._wait_for(lambda: rules.may_go_on(order, count))
        order.served_bytes += count
        order.debtor.under_way_bytes += count

    def ended(self, order: OpenOrder, counted: int, sent: int) -> None:
        """Say that a read has ended in which so many bytes were to go out, and so many did."""
        order.served_bytes -= counted - sent
        order.debtor.under_way_bytes -= counted
        order.debtor.unpaid_bytes += sent
        self.tally.served_bytes += sent

    async def _wait_for(self, holds: Callable[[], bool]) -> None:
        """Wait for receipts. Raises ``UNPAID``."""
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                while not holds():
                    await self._paid.wait()
        except TimeoutError:
            self.tally.refused_reads += 1
            raise AtollError(
                Kind.UNPAID,
                "read piece",
                "the gateway has not signed for what it read here before",
                hint="its receipts do not reach this node, or it sends none",
            ) from None

    # --- receipts ---

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await http.read_body(receive, RECEIPT_BYTES_MAX, self._stall_s)
        await self.take(body)
        await http.send_whole(send, 200, http.BYTES, b"")

    async def take(self, signed: bytes) -> int:
        """Take a gateway's receipt; return, when it is kept durably, the bytes newly paid.

        Raises ``BAD_REQUEST``, ``FORBIDDEN`` (another's, or of nobody who read here),
        ``UNAUTHENTICATED``.
        """
        receipt = parse_read_receipt(signed)
        of = receipt.of
        if of.node_id != self._node_id or of.coordinator_key not in self._coordinators:
            raise _refused("the receipt is for another node, or under another's orders")
        # Before the signature is looked at: strangers cost nothing.
        if of.gateway_key not in self._debtors:
            raise _refused("nothing was read here with this key")
        if (of.tab, receipt.sequence) in self._keys:
            return 0
        if not await self._compute.run(gateway_signed, signed):
            raise AtollError(
                Kind.UNAUTHENTICATED, "take receipt", "the receipt's signature does not hold"
            )
        more, orders = self._pay(receipt)
        if any(orders) and (of.tab, receipt.sequence) not in self._keys:
            await self._keep(receipt, signed, orders)
        return more

    def _pay(self, receipt: ReadReceipt) -> tuple[int, list[bytes]]:
        """Take into account what a receipt says; return what is newly paid, and its orders."""
        more, orders = 0, []
        for serial, byte_count in receipt.entries.items():
            order = self._orders.get(serial)
            if order is None or order.gateway_key != receipt.of.gateway_key:
                orders.append(b"")
                continue
            more += rules.pay(order, byte_count)
            orders.append(order.signed)
        self.tally.receipts += 1
        self.tally.receipted_bytes += more
        paid, self._paid = self._paid, asyncio.Event()
        paid.set()
        return more, orders

    async def _keep(self, receipt: ReadReceipt, signed: bytes, orders: list[bytes]) -> None:
        """Return when the claim is durable."""
        claim = KeptClaim(
            receipt.of.coordinator_key,
            receipt.of.tab,
            receipt.sequence,
            signed,
            sign_claim(self._identity, signed),
            orders,
        )
        self._keys.add(_key(claim))
        self._unsaved.append(claim)
        if self._saved is None:
            self._saved = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._saved)

    async def save(self) -> None:
        """Make durable what has come in. Raises what the disk raises; then nobody was told."""
        claims, saved = self._unsaved, self._saved
        if not claims:
            return
        self._unsaved, self._saved = [], None
        self._number += 1
        number = self._number
        try:
            await self._compute.run(store.save, self._disk, number, claims)
        except AtollError as error:
            self._keys -= {_key(claim) for claim in claims}
            _tell(saved, error)
            raise
        except asyncio.CancelledError:
            self._save_later(claims, saved)
            raise
        self._files[number] = claims
        while sum(len(kept) for kept in self._files.values()) > CLAIMS_MAX:
            oldest, dropped = self._files.popitem(last=False)
            _LOG.warning("%d receipts wait too long for their coordinator", len(dropped))
            self._keys -= {_key(claim) for claim in dropped}
            await self._compute.run(store.remove, self._disk, [oldest])
        _tell(saved, None)

    def _save_later(self, claims: list[KeptClaim], saved: "asyncio.Future[None] | None") -> None:
        """Let whoever saves next save these: the node stops."""
        self._unsaved[:0] = claims
        if self._saved is None:
            self._saved = saved
        else:
            _tell_with(self._saved, saved)

    # --- claims ---

    async def claim(self) -> int:
        """Claim what is kept, from every coordinator that is there; return the bytes that count."""
        counted = 0
        for link in self._links:
            while link.registered:
                waiting = (claim for claims in self._files.values() for claim in claims)
                page = rules.page_of(waiting, link.key)
                if not page:
                    break
                counted += await self._claim_page(link, page)
        return counted

    async def _claim_page(self, link: Link, page: list[KeptClaim]) -> int:
        request = ClaimReads(
            claims=[
                ReadClaim(
                    receipt=claim.receipt,
                    signature=claim.signature,
                    limits=[order[:LIMIT_BYTES] for order in claim.orders],
                )
                for claim in page
            ]
        )
        answer: ClaimedReads = await self._ask(link, request, ClaimedReads)
        if len(answer.refused) != len(page):
            raise AtollError(Kind.BAD_REQUEST, "claim reads", "the answer does not fit the claims")
        for reason in answer.refused:
            if reason:
                self.tally.refused_claims += 1
                self.tally.reasons[reason] = self.tally.reasons.get(reason, 0) + 1
                _LOG.warning("coordinator %s refuses a receipt: %s", link.address, reason)
        counted = sum(answer.byte_counts)
        self.tally.claimed_bytes += counted
        await self._forget({_key(claim) for claim in page})
        return counted

    async def _forget(self, settled: set[tuple[bytes, int]]) -> None:
        """Let claims go; a file goes when all of it is settled."""
        gone = []
        for number, claims in list(self._files.items()):
            left = [claim for claim in claims if _key(claim) not in settled]
            if left:
                self._files[number] = left
            else:
                del self._files[number]
                gone.append(number)
        self._keys -= settled
        await self._compute.run(store.remove, self._disk, gone)

    @property
    def waiting(self) -> int:
        """Receipts that are kept and not settled."""
        return len(self._unsaved) + sum(len(claims) for claims in self._files.values())


def _key(claim: KeptClaim) -> tuple[bytes, int]:
    return claim.tab, claim.sequence


def _tell(saved: "asyncio.Future[None] | None", error: AtollError | None) -> None:
    if saved is None or saved.done():
        return
    if error is None:
        saved.set_result(None)
    else:
        saved.set_exception(error)


def _tell_with(first: "asyncio.Future[None] | None", other: "asyncio.Future[None] | None") -> None:
    """Let those who wait for the second be told with the first."""
    if first is not None:
        first.add_done_callback(lambda done: _tell(other, None if done.cancelled() else _of(done)))


def _of(done: "asyncio.Future[None]") -> AtollError | None:
    error = done.exception()
    return error if isinstance(error, AtollError) else None


def _refused(message: str) -> AtollError:
    return AtollError(Kind.FORBIDDEN, "take receipt", message)
