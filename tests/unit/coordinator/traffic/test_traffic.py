"""Claims for reads: each order counts once, as far as it was issued, signed for and not too old."""

import os
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection
from tests.unit.coordinator.market.providers import Providers, provider
from tests.unit.coordinator.metadata.world import ACCOUNT, Metadata, StillClock, tiny

from atoll.cli.receipt import lines_of
from atoll.coordinator.market.rules import price_of
from atoll.coordinator.metering.model import MeteringConfig
from atoll.coordinator.metering.service import MeteringService
from atoll.coordinator.traffic import rules, store
from atoll.coordinator.traffic.model import REMEMBERED_MS, SETTLE_MS_MAX, OrderRead
from atoll.coordinator.traffic.service import TrafficService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId
from atoll.core.messages import Answer, SegmentRecord
from atoll.core.messages.metering import ExplainReceipt, Receipt
from atoll.core.messages.traffic import CLAIMS_MAX, ClaimedReads, ClaimReads, ReadClaim
from atoll.core.orders import (
    LIMIT_BYTES,
    Action,
    OrderLimit,
    PieceReceipt,
    serial_of,
    sign_orders,
    sign_receipt,
)
from atoll.core.receipts import (
    ReadReceipt,
    Tab,
    gateway_signed,
    node_signed,
    sign_claim,
    sign_read_receipt,
)
from atoll.gateway.customer import receipt
from atoll.gateway.customer.call import CustomerCall
from atoll.runtime.database import SqlDatabase

COORDINATOR = Identity(b"coordinator".ljust(32, b"."))
GATEWAY = Identity(b"gateway".ljust(32, b"."))
STRANGER = Identity(b"stranger".ljust(32, b"."))
KEY = b"settlement".ljust(32, b".")
CAP = 10_000
TAB = b"t" * 16
NODE = provider(1)


@dataclass
class World:
    """A customer's bucket on three nodes, and who settles what is read of it."""

    database: SqlDatabase

    def __post_init__(self) -> None:
        self.clock = StillClock()
        self.metadata = Metadata(self.database, self.clock)
        self.providers = Providers(self.database, self.clock)
        self.traffic = TrafficService(
            self.clock,
            self.database,
            self.providers.registry,
            public_key=COORDINATOR.public_key,
            settlement_key=KEY,
        )
        self.meters = MeteringService(
            self.clock,
            self.database,
            self.providers.registry,
            MeteringConfig(1.0),
            price_of=price_of,
            slot_ms=10_000,
            traffic=self.traffic,
        )

    async def begin(self) -> SegmentRecord:
        for number in (1, 2, 3):
            await self.providers.post(number)
        self.bucket = await self.metadata.make_bucket()
        segment = tiny(5_000)
        await self.metadata.put(self.bucket, "a", [segment])
        return segment

    def limit(self, segment: SegmentRecord, **changes: Any) -> bytes:
        """An encoded limit as the placement signs it."""
        limit = OrderLimit(
            action=Action.GET,
            node_id=NodeId(NODE.node_id),
            segment_id=SegmentId(segment.segment),
            segment_serial=segment.serial,
            index=0,
            byte_cap=CAP,
            issued_ms=self.clock.time_ms,
            expires_ms=self.clock.time_ms + 900_000,
            serial=OrderSerial(os.urandom(16)),
            payer_tag=PayerTag(bytes(16)),
            gateway_key=GATEWAY.public_key,
        )
        (signed,) = sign_orders(COORDINATOR, [replace(limit, **changes)], settlement_key=KEY)
        return signed[:LIMIT_BYTES]

    async def claim(self, *claims: ReadClaim, node: Identity = NODE) -> ClaimedReads:
        return await self.traffic.claim(ClaimReads(claims=list(claims)), node.public_key)

    async def lines(self) -> list[tuple[int, bytes, int]]:
        found = await self.database.read(lambda c: store.lines_of(c, 0))
        return [(line.alias, line.account, line.byte_count) for line in found]


def claim_of(
    limits: dict[bytes, int],
    *,
    sequence: int = 1,
    node: Identity = NODE,
    gateway: Identity = GATEWAY,
    tab: bytes = TAB,
    **changes: Any,
) -> ReadClaim:
    """What a node shows for reads under these limits."""
    of = Tab(gateway.public_key, node.node_id, COORDINATOR.public_key, tab)
    entries = {serial_of(limit): count for limit, count in limits.items()}
    total = sum(entries.values())
    read = replace(ReadReceipt(of, sequence, 5, total, len(entries), entries), **changes)
    signed = sign_read_receipt(gateway, read)
    return ReadClaim(receipt=signed, signature=sign_claim(node, signed), limits=list(limits))


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database)


async def test_what_was_read_counts_for_whose_segment_it_is(world: World) -> None:
    segment = await world.begin()
    limits = {world.limit(segment): 700, world.limit(segment): 41}
    answer = await world.claim(claim_of(limits))
    assert answer == ClaimedReads(refused=[""], byte_counts=[741])
    assert await world.lines() == [(1, ACCOUNT, 741)]


async def test_the_same_again_counts_nothing(world: World) -> None:
    segment = await world.begin()
    limit = world.limit(segment)
    first = claim_of({limit: 700})
    await world.claim(first)
    assert (await world.claim(first, first)).byte_counts == [0, 0]
    # Under another sequence, in another tab, in one message with itself: it is the same order.
    again = claim_of({limit: 700}, sequence=2, tab=b"u" * 16)
    assert (await world.claim(again, claim_of({limit: 650}, sequence=3))).byte_counts == [0, 0]
    assert await world.lines() == [(1, ACCOUNT, 700)]
    # It is cumulative: only what is more counts, in whatever order receipts come.
    assert (await world.claim(claim_of({limit: 900}, sequence=5))).byte_counts == [200]
    assert (await world.claim(claim_of({limit: 800}, sequence=4))).byte_counts == [0]
    assert await world.lines() == [(1, ACCOUNT, 900)]


async def test_a_lying_node_gets_nothing(world: World) -> None:
    """Inflated, forged, borrowed: whatever a node makes up itself counts nothing."""
    segment = await world.begin()
    limit = world.limit(segment)
    honest = claim_of({limit: 700})

    inflated = bytearray(honest.receipt)
    inflated[-1] ^= 0xFF
    signed_itself = claim_of({limit: 9_000}, gateway=STRANGER)
    false_signature = sign_read_receipt(
        STRANGER,
        ReadReceipt(
            Tab(STRANGER.public_key, NODE.node_id, COORDINATOR.public_key, TAB),
            1, 5, 9_000, 1, {serial_of(limit): 9_000},
        ),
    )  # fmt: skip
    as_gateway = (
        false_signature[:8] + GATEWAY.public_key + false_signature[40:]  # its name, not its hand
    )
    wider = bytearray(limit)
    wider[4:12] = (1 << 40).to_bytes(8, "big")
    own = bytearray(world.limit(segment))
    own[92:108] = os.urandom(16)
    claims = [
        replace_receipt(honest, bytes(inflated)),
        replace_receipt(honest, as_gateway),
        signed_itself,
        claim_of({bytes(wider): 1 << 30}),
        claim_of({bytes(own): 5}),
        claim_of({limit: CAP + 1}),
        claim_of({world.limit(segment, action=Action.REPAIR_GET): 5}),
        claim_of({world.limit(segment, node_id=NodeId(provider(2).node_id)): 5}),
        claim_of({world.limit(segment, gateway_key=STRANGER.public_key): 5}),
    ]
    # An order for what another order was read under.
    swapped = claim_of({world.limit(segment): 5}, sequence=9)
    claims.append(ReadClaim(receipt=swapped.receipt, signature=swapped.signature, limits=[limit]))
    answer = await world.claim(*claims)
    assert answer.byte_counts == [0] * len(claims)
    assert answer.refused[:2] == [Kind.BAD_REQUEST.value, Kind.UNAUTHENTICATED.value]
    assert await world.lines() == []
    # The honest one still counts.
    assert (await world.claim(honest)).byte_counts == [700]


def replace_receipt(claim: ReadClaim, body: bytes) -> ReadClaim:
    return ReadClaim(receipt=body, signature=sign_claim(NODE, body), limits=claim.limits)


async def test_a_receipt_of_another_node_or_without_its_own_signature_is_refused(
    world: World,
) -> None:
    segment = await world.begin()
    claim = claim_of({world.limit(segment): 700})
    answer = await world.claim(claim, node=provider(2))
    assert answer.refused == [Kind.FORBIDDEN.value]
    unsigned = ReadClaim(receipt=claim.receipt, signature=bytes(64), limits=claim.limits)
    assert (await world.claim(unsigned)).refused == [Kind.UNAUTHENTICATED.value]
    with pytest.raises(AtollError) as unknown:
        await world.claim(claim, node=STRANGER)
    assert unknown.value.kind is Kind.FORBIDDEN
    with pytest.raises(AtollError) as many:
        await world.claim(*[claim] * (CLAIMS_MAX + 1))
    assert many.value.kind is Kind.TOO_LARGE
    assert await world.lines() == []


async def test_one_bad_order_spoils_only_itself(world: World) -> None:
    segment = await world.begin()
    good, bad = world.limit(segment), world.limit(segment)
    answer = await world.claim(claim_of({good: 10, bad: CAP + 1}))
    assert answer == ClaimedReads(refused=[""], byte_counts=[10], orders_refused=1)
    # An order that the node has forgotten counts nothing, the others do.
    other, gone = world.limit(segment), world.limit(segment)
    claim = claim_of({other: 20, gone: 30}, sequence=2)
    claim = ReadClaim(receipt=claim.receipt, signature=claim.signature, limits=[other, b""])
    assert (await world.claim(claim)).byte_counts == [20]


async def test_a_segment_removed_since_is_charged_to_whose_it_was(world: World) -> None:
    segment = await world.begin()
    limit = world.limit(segment)
    await world.metadata.delete(world.bucket, "a")
    assert (await world.claim(claim_of({limit: 700}))).byte_counts == [700]
    assert await world.lines() == [(1, ACCOUNT, 700)]


async def test_a_segment_that_never_was_is_charged_to_nobody(world: World) -> None:
    segment = await world.begin()
    other = tiny(9)
    assert (await world.claim(claim_of({world.limit(other): 7}))).byte_counts == [0]
    # Nor is another's serial with one's own segment id: both are compared.
    mixed = world.limit(segment, segment_id=SegmentId(other.segment))
    assert (await world.claim(claim_of({mixed: 7}))).byte_counts == [0]
    assert await world.lines() == []


async def test_clocks_do_nothing(world: World) -> None:
    """Too late is too late; what is remembered is remembered longer than it can be claimed."""
    segment = await world.begin()
    early, late = world.limit(segment), world.limit(segment)
    assert (await world.claim(claim_of({early: 5}))).byte_counts == [5]
    world.clock.time_ms += SETTLE_MS_MAX
    assert (await world.claim(claim_of({late: 5}, sequence=2))).byte_counts == [5]
    world.clock.time_ms += 1
    assert (await world.claim(claim_of({world.limit(segment): 5}, sequence=3))).byte_counts == [5]
    world.clock.time_ms += REMEMBERED_MS - SETTLE_MS_MAX - 2
    await world.traffic.forget()
    # A clock set back by nearly an hour: the order may be shown again, and is remembered.
    world.clock.time_ms -= REMEMBERED_MS - SETTLE_MS_MAX - 1
    assert (await world.claim(claim_of({early: 5, late: 5}, sequence=4))).byte_counts == [0]
    world.clock.time_ms += REMEMBERED_MS
    assert await world.traffic.forget() == 2
    assert (await world.claim(claim_of({early: 9, late: 9}, sequence=5))).byte_counts == [0]
    # An order of a time that is not yet.
    ahead = world.limit(segment, issued_ms=world.clock.time_ms + 3_600_000)
    assert (await world.claim(claim_of({ahead: 5}, sequence=6))).byte_counts == [0]
    # Nothing depends on the gateway's own clock.
    skewed = claim_of({world.limit(segment): 5}, sequence=7, time_ms=1 << 60)
    assert (await world.claim(skewed)).byte_counts == [5]


async def test_an_epoch_takes_each_byte_once_and_its_line_is_explained(world: World) -> None:
    segment = await world.begin()
    limit = world.limit(segment)
    await world.meters.read()
    await world.claim(claim_of({limit: 700}))
    assert sum(line.byte_count for line in (await world.meters.so_far()).metered.egress) == 700
    world.clock.time_ms += 10_000
    await world.meters.close(1)
    await world.claim(claim_of({limit: 1_000, world.limit(segment): 4}, sequence=2, tab=TAB))
    world.clock.time_ms += 10_000
    await world.meters.close(2)
    counts = []
    for epoch in (1, 2):
        (line,) = (await world.meters.metered(epoch)).egress
        assert (line.node, line.payer) == (NODE.node_id, ACCOUNT)
        counts.append(line.byte_count)
        found = await world.meters.handlers[ExplainReceipt](ExplainReceipt(evidence=line.evidence))
        assert isinstance(found, Receipt)
        assert (found.kind, found.epoch, found.piece_bytes) == ("egress", epoch, line.byte_count)
        (read,) = found.reads
        assert read.byte_count == line.byte_count
        assert gateway_signed(read.receipt)
        assert node_signed(read.receipt, read.node_key, read.signature)
    assert counts == [700, 304]
    assert (await world.meters.so_far()).metered.egress == ()
    # Closing again gives the same; what comes late belongs to the next epoch.
    assert await world.meters.close(2) == (await world.meters.metered(2)).epoch
    assert await world.lines() == []


async def test_another_gateway_cannot_put_its_receipt_in_place_of_ones_own(world: World) -> None:
    segment = await world.begin()
    await world.claim(claim_of({world.limit(segment): 700}))
    theirs = world.limit(segment, gateway_key=STRANGER.public_key)
    await world.claim(claim_of({theirs: 1}, gateway=STRANGER, sequence=99))
    found = await world.database.read(lambda c: store.receipts_at(c, 0, 1))
    assert sorted(one.byte_count for one in found) == [1, 700]


reads = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.dictionaries(st.integers(0, 9), st.integers(0, 2 * CAP), min_size=1, max_size=4),
    ),
    max_size=30,
)


@settings(max_examples=200)
@given(history=reads)
def test_any_history_comes_to_the_most_that_was_signed_for_each_order(
    history: list[tuple[int, dict[int, int]]],
) -> None:
    """Against a model that keeps each order's greatest figure: replays do nothing."""
    settled: dict[tuple[int, bytes], int] = {}
    total, model = 0, dict[int, int]()
    for replayed, entries in history:
        for _ in range(replayed + 1):
            orders = [
                OrderRead(bytes([number]), number // 2, b"s", 1, count)
                for number, count in entries.items()
            ]
            fresh, accounts = rules.counted(orders, settled, {(1, b"s"): ACCOUNT})
            for order in fresh:
                settled[order.issued_ms, order.serial] = order.byte_count
            total += accounts.get(ACCOUNT, 0)
        for number, count in entries.items():
            model[number] = max(model.get(number, 0), count)
    assert total == sum(model.values())


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=50))
def test_every_order_is_looked_up(issued: list[int]) -> None:
    orders = [OrderRead(b"", issued_ms, b"", 1, 1) for issued_ms in issued]
    spans = rules.windows_of(orders)
    assert all(any(first <= one <= last for first, last in spans) for one in issued)
    assert all(last - first < 2_000 for first, last in spans)


async def test_what_is_explained_can_be_read_and_only_by_whose_it_is(world: World) -> None:
    segment = await world.begin()
    await world.meters.read()
    await world.claim(claim_of({world.limit(segment): 700}))
    world.clock.time_ms += 10_000
    await world.meters.close(1)
    (line,) = (await world.meters.metered(1)).egress

    class Control:
        async def ask(self, request: ExplainReceipt, answer: type[Answer]) -> Any:
            return await world.meters.handlers[ExplainReceipt](request)

    async def ask(account: bytes) -> receipt.ReceiptShown:
        call = SimpleNamespace(
            read=lambda kind: kind(evidence=line.evidence.hex()),
            services=SimpleNamespace(control=Control()),
            caller=SimpleNamespace(account=account),
        )
        return await receipt.explain(cast(CustomerCall, call))

    shown = lines_of(await ask(ACCOUNT))
    assert any("700 B" in row and "both signatures hold" in row for row in shown)
    with pytest.raises(AtollError) as refused:
        await ask(b"o" * 16)
    assert refused.value.kind is Kind.NOT_FOUND


async def test_repair_is_explained_by_who_signed_for_the_pieces(world: World) -> None:
    await world.begin()
    await world.meters.read()
    piece = PieceReceipt(
        NodeId(provider(3).node_id), SegmentId(b"s" * 16), 1, b"r" * 32, OrderSerial(b"o" * 16), 5
    )
    good = sign_receipt(provider(3), piece)
    forged = good[:-1] + bytes([good[-1] ^ 1])

    def note(connection: Connection) -> None:
        world.meters.note_repair(connection, b"t" * 16, 1, [1], {1: 2}, 4_096, [good, forged])

    await world.database.write(note)
    world.clock.time_ms += 10_000
    await world.meters.close(1)
    (line,) = (await world.meters.metered(1)).repairs
    found = await world.meters.handlers[ExplainReceipt](ExplainReceipt(evidence=line.evidence))
    assert isinstance(found, Receipt)
    assert (found.kind, found.piece_bytes, found.account) == ("repair", 4_096, b"")
    assert (found.node_id, found.failed) == (provider(1).node_id, provider(2).node_id)

    class Control:
        async def ask(self, request: ExplainReceipt, answer: type[Answer]) -> Any:
            return found

    call = SimpleNamespace(
        read=lambda kind: kind(evidence=line.evidence.hex()),
        services=SimpleNamespace(control=Control()),
        caller=SimpleNamespace(account=b"anybody"),
    )
    shown = await receipt.explain(cast(CustomerCall, call))
    assert shown.new_holders == [provider(3).node_id.hex()], "forged ones are left out"
    assert any("signed for by" in row for row in lines_of(shown))
