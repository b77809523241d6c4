"""A node serves as far as gateways sign for it, and loses no receipt that it said it keeps."""

import asyncio
import base64
import random
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.node.machine import COORDINATOR, KIB, Machine, Piece, limit_of, make_piece
from tests.unit.node.test_app import CONFIG, NODE, Door

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.traffic import ClaimedReads, ClaimReads
from atoll.core.orders import Action, OrderLimit, issued_with, serial_of, sign_orders
from atoll.core.ports import Address
from atoll.core.receipts import ReadReceipt, Tab, node_signed, sign_read_receipt
from atoll.node.app import NodeApp
from atoll.node.link import Link
from atoll.node.orders import OrderDesk
from atoll.node.receipts import service
from atoll.node.receipts.model import (
    FORGIVEN_BYTES_PER_S,
    FORGIVEN_PARTS,
    GATEWAY_UNPAID_BYTES_MAX,
    ORDER_UNPAID_BYTES_MAX,
    UNDER_WAY_BYTES_MAX,
    Debtor,
    KeptClaim,
    OpenOrder,
)
from atoll.node.receipts.rules import forgive, may_go_on, may_read, page_of, pay
from atoll.node.receipts.service import ReceiptKeeper

GATEWAY = Identity(b"gateway".ljust(32, b"."))
STRANGER = Identity(b"stranger".ljust(32, b"."))
SETTLEMENT_KEY = b"s" * 32
LINK = Link(Address("127.0.0.1", 1), key=COORDINATOR.public_key, registered=True)
TAB = Tab(GATEWAY.public_key, NODE.node_id, COORDINATOR.public_key, b"t" * 16)


class Coordinator:
    """Takes claims, or is away."""

    def __init__(self) -> None:
        self.claims: list[ClaimReads] = []
        self.away = False
        self.refuses = ""

    async def ask(self, link: Link, message: Any, answer: Any) -> ClaimedReads:
        if self.away:
            raise AtollError(Kind.UNREACHABLE, "ask coordinator", "it is away")
        self.claims.append(message)
        count = len(message.claims)
        return ClaimedReads(refused=[self.refuses] * count, byte_counts=[1] * count)


class Seller(Door):
    """A node's app with its keeper of receipts."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.coordinator = Coordinator()
        self.keeper = self.another()
        desk = OrderDesk(NODE.node_id, {COORDINATOR.public_key: b""}, machine.clock, 60_000)
        self.app = NodeApp(machine.store, NODE, CONFIG, machine.clock, desk, receipts=self.keeper)
        self.app.routes.update(self.keeper.routes)

    def another(self) -> ReceiptKeeper:
        return ReceiptKeeper(
            identity=NODE,
            clock=self.machine.clock,
            disk=self.machine.disk,
            compute=self.machine.compute,
            coordinators={COORDINATOR.public_key: b""},
            links=[LINK],
            ask=self.coordinator.ask,
            stall_s=1.0,
        )

    def read_order(self, piece: Piece, gateway: Identity = GATEWAY, cap: int = 1 << 30) -> bytes:
        limit: OrderLimit = limit_of(
            NODE.node_id, piece, Action.GET, str(random.random()), self.machine.now_ms
        )
        limit = replace(limit, gateway_key=gateway.public_key, byte_cap=cap)
        return sign_orders(COORDINATOR, [limit], settlement_key=SETTLEMENT_KEY)[0]

    def take(self, receipt: bytes) -> int:
        """Hand in a receipt while the saver runs, as it does in a node."""

        async def both() -> int:
            taking = asyncio.ensure_future(self.keeper.take(receipt))
            while not taking.done():
                await self.keeper.save()
                await asyncio.sleep(0.1)
            return await taking

        return self.run(both())


def receipt_of(
    orders: dict[bytes, int], sequence: int = 1, gateway: Identity = GATEWAY, **changes: Any
) -> bytes:
    entries = {serial_of(order): count for order, count in orders.items()}
    of = replace(TAB, gateway_key=gateway.public_key, **changes)
    receipt = ReadReceipt(of, sequence, 0, sum(entries.values()), len(entries), entries)
    return sign_read_receipt(gateway, receipt)


@pytest.fixture
def seller(machine: Machine) -> Seller:
    return Seller(machine)


def stored(seller: Seller, size: int = 20 * KIB) -> Piece:
    piece = make_piece("piece", size)
    assert seller.put(piece, seller.order(piece, Action.PUT)).status == 201
    return piece


def read(seller: Seller, piece: Piece, order: bytes) -> int:
    answer = seller.get(piece, order)
    assert answer.status == 200, answer.kind
    return len(answer.body)


def test_a_read_is_owed_until_its_receipt_comes(seller: Seller) -> None:
    piece = stored(seller)
    order = seller.read_order(piece)
    count = read(seller, piece, order)
    debtor = seller.keeper._debtors[GATEWAY.public_key]
    assert (debtor.unpaid_bytes, debtor.under_way_bytes) == (count, 0)
    assert seller.take(receipt_of({order: count})) == count
    assert debtor.unpaid_bytes == 0
    # The same again pays nothing more; a later one pays the difference, up to the order's cap.
    assert seller.take(receipt_of({order: count})) == 0
    assert seller.take(receipt_of({order: count}, sequence=2)) == 0
    read(seller, piece, order)
    assert seller.take(receipt_of({order: 2 * count}, sequence=3)) == count


def test_heads_and_repairs_are_not_settled_by_receipts(seller: Seller) -> None:
    piece = stored(seller)
    head = seller.get(piece, seller.read_order(piece), "part=head")
    assert head.status == 200
    assert seller.get(piece, seller.order(piece, Action.REPAIR_GET)).status == 200
    assert not seller.keeper._debtors


def test_a_gateway_that_signs_nothing_is_cut_off(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the allowance, and not before; a receipt opens the door again; others are served on."""
    piece = stored(seller)
    monkeypatch.setattr("atoll.node.receipts.rules.GATEWAY_UNPAID_BYTES_MAX", 50 * KIB)
    monkeypatch.setattr("atoll.node.receipts.rules.FORGIVEN_BYTES_PER_S", 0)
    orders = [seller.read_order(piece) for _ in range(4)]
    for order in orders[:3]:
        assert read(seller, piece, order) == 20 * KIB
    refused = seller.get(piece, orders[3])
    assert refused.kind is Kind.UNPAID
    assert seller.keeper.tally.refused_reads == 1
    assert read(seller, piece, seller.read_order(piece, STRANGER)) == 20 * KIB
    assert seller.take(receipt_of({orders[0]: 20 * KIB})) == 20 * KIB
    assert read(seller, piece, orders[3]) == 20 * KIB


def test_a_read_at_the_limit_waits_for_a_receipt_under_way(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = stored(seller)
    monkeypatch.setattr("atoll.node.receipts.rules.GATEWAY_UNPAID_BYTES_MAX", 10 * KIB)
    first, second = seller.read_order(piece), seller.read_order(piece)
    read(seller, piece, first)

    async def both() -> tuple[Any, int]:
        asking = asyncio.ensure_future(
            seller.ask("GET", f"/v1/pieces/{piece.id.hex()}?part=data", second)
        )
        await asyncio.sleep(0.5)
        assert not asking.done()
        taking = asyncio.ensure_future(seller.keeper.take(receipt_of({first: 20 * KIB})))
        answer = await asking
        await seller.keeper.save()
        return answer, await taking

    answer, paid = seller.run(both())
    assert (answer.status, paid) == (200, 20 * KIB)


def test_a_stream_is_cut_where_its_order_is_not_paid(
    seller: Seller, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = stored(seller, 200 * KIB)
    monkeypatch.setattr("atoll.node.app.READ_CHUNK_BYTES", 40 * KIB)
    monkeypatch.setattr("atoll.node.receipts.rules.ORDER_UNPAID_BYTES_MAX", 100 * KIB)
    order = seller.read_order(piece)
    sent = 0

    async def send(event: Any) -> None:
        nonlocal sent
        sent += len(event.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/v1/pieces/{piece.id.hex()}",
        "query_string": b"part=data",
        "headers": [(b"x-atoll-order", base64.b64encode(order))],
    }
    with pytest.raises(AtollError) as cut:
        seller.run(seller.app(scope, receive, send))
    assert cut.value.kind is Kind.UNPAID
    assert sent == 80 * KIB
    debtor = seller.keeper._debtors[GATEWAY.public_key]
    assert (debtor.unpaid_bytes, debtor.under_way_bytes) == (sent, 0)


def test_receipts_of_strangers_and_forged_ones_are_refused(seller: Seller) -> None:
    piece = stored(seller)
    order = seller.read_order(piece)
    count = read(seller, piece, order)
    good = receipt_of({order: count})
    named = good[:8] + GATEWAY.public_key + receipt_of({order: count}, gateway=STRANGER)[40:]
    for receipt, kind in (
        (receipt_of({order: count}, gateway=STRANGER), Kind.FORBIDDEN),
        (receipt_of({order: count}, node_id=b"n" * 32), Kind.FORBIDDEN),
        (receipt_of({order: count}, coordinator_key=b"k" * 32), Kind.FORBIDDEN),
        (named, Kind.UNAUTHENTICATED),
        (good[:-1], Kind.BAD_REQUEST),
    ):
        with pytest.raises(AtollError) as refused:
            seller.take(receipt)
        assert refused.value.kind is kind
    assert seller.keeper._debtors[GATEWAY.public_key].unpaid_bytes == count
    assert seller.keeper.waiting == 0


def test_a_gateway_pays_only_for_its_own_orders(seller: Seller) -> None:
    piece = stored(seller)
    theirs = seller.read_order(piece, STRANGER)
    count = read(seller, piece, theirs)
    read(seller, piece, seller.read_order(piece))
    assert seller.take(receipt_of({theirs: count})) == 0
    assert seller.keeper.waiting == 0


def test_what_was_acknowledged_survives_a_kill_and_is_claimed(seller: Seller) -> None:
    piece = stored(seller)
    seller.coordinator.away = True
    order, late = seller.read_order(piece), seller.read_order(piece)
    count = read(seller, piece, order)
    read(seller, piece, late)
    seller.take(receipt_of({order: count}))
    with pytest.raises(AtollError):
        seller.run(seller.keeper.claim())
    # One that came in and is not durable yet: nobody was told that it is kept.
    taking = seller.machine.start(seller.keeper.take(receipt_of({late: count}, 2)))
    seller.machine.pass_time(1.0)
    assert not taking.done()
    seller.machine.crash()
    seller.machine.boot()

    keeper = seller.keeper = seller.another()
    seller.coordinator.away = False
    seller.run(keeper.start())
    assert keeper.waiting == 1
    assert seller.run(keeper.claim()) == 1
    assert keeper.waiting == 0
    (request,) = seller.coordinator.claims
    (claim,) = request.claims
    assert claim.receipt == receipt_of({order: count})
    assert node_signed(claim.receipt, NODE.public_key, claim.signature)
    assert issued_with(SETTLEMENT_KEY, claim.limits[0])
    # Nothing is left on the disk either.
    last = seller.another()
    seller.run(last.start())
    assert last.waiting == 0


def test_a_refused_claim_is_not_made_again(seller: Seller) -> None:
    piece = stored(seller)
    order = seller.read_order(piece)
    count = read(seller, piece, order)
    seller.take(receipt_of({order: count}))
    seller.coordinator.refuses = Kind.FORBIDDEN.value
    seller.run(seller.keeper.claim())
    assert seller.keeper.tally.reasons == {Kind.FORBIDDEN.value: 1}
    seller.run(seller.keeper.claim())
    assert len(seller.coordinator.claims) == 1


def test_what_is_kept_is_bounded(seller: Seller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CLAIMS_MAX", 3)
    piece = stored(seller)
    order = seller.read_order(piece)
    for number in range(1, 6):
        read(seller, piece, order)
        seller.take(receipt_of({order: number * 20 * KIB}, number))
    assert seller.keeper.waiting == 3
    seller.run(seller.keeper.claim())
    claimed = [claim.receipt for request in seller.coordinator.claims for claim in request.claims]
    # Cumulative: the newest says it all.
    assert claimed[-1] == receipt_of({order: 100 * KIB}, 5)


# --- rules ----------------------------------------------------------------------------------------


def open_order(cap: int = 1 << 40) -> OpenOrder:
    return OpenOrder(b"", GATEWAY.public_key, Debtor(), cap)


def test_the_allowances() -> None:
    assert may_read(Debtor(unpaid_bytes=GATEWAY_UNPAID_BYTES_MAX))
    assert not may_read(Debtor(unpaid_bytes=GATEWAY_UNPAID_BYTES_MAX + 1))
    assert may_read(Debtor(under_way_bytes=UNDER_WAY_BYTES_MAX))
    assert not may_read(Debtor(unpaid_bytes=1, under_way_bytes=UNDER_WAY_BYTES_MAX))
    order = open_order()
    assert may_go_on(order, ORDER_UNPAID_BYTES_MAX)
    assert not may_go_on(order, ORDER_UNPAID_BYTES_MAX + 1)


def test_what_was_lost_on_the_way_is_forgiven_slowly_and_never_more_than_owed() -> None:
    debtor = Debtor(unpaid_bytes=3 * FORGIVEN_BYTES_PER_S + 5)
    forgive(debtor, 2.0)
    assert debtor.unpaid_bytes == FORGIVEN_BYTES_PER_S + 5
    forgive(debtor, 1.0)
    assert debtor.unpaid_bytes == FORGIVEN_BYTES_PER_S + 5, (
        "a clock that goes back forgives nothing"
    )
    forgive(debtor, 100.0)
    assert debtor.unpaid_bytes == 0
    order = open_order()
    order.debtor.unpaid_bytes = 1_000
    assert pay(order, 800) == 800
    assert order.debtor.unpaid_bytes == 200 - 800 // FORGIVEN_PARTS


def test_nothing_is_paid_beyond_an_order() -> None:
    order = open_order(cap=100)
    assert pay(order, 1 << 50) == 100
    assert pay(order, 50) == 0
    assert order.paid_bytes == 100


def test_pages_keep_to_the_limits() -> None:
    def claim(number: int, orders: int, key: bytes = b"k") -> KeptClaim:
        return KeptClaim(key, b"t", number, b"", b"", [b""] * orders)

    some = [claim(number, 2_000) for number in range(5)]
    assert [one.sequence for one in page_of([claim(9, 1, b"other"), *some], b"k")] == [0, 1]
    assert len(page_of([claim(number, 1) for number in range(100)], b"k")) == 64
    assert len(page_of([claim(0, 4_096)], b"k")) == 1
    assert page_of(some, b"other") == []
