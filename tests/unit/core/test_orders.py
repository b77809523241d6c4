"""Orders and receipts: what was signed passes; forged, altered, expired or foreign ones do not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import orders
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import OrderSerial, PayerTag, SegmentId
from atoll.core.orders import Action, OrderLimit, PieceReceipt, check_order, sign_orders

COORDINATOR = Identity(b"c" * 32)
ATTACKER = Identity(b"a" * 32)
PROVIDER = Identity(b"p" * 32)
GATEWAY = Identity(b"g" * 32)
KEYS = {COORDINATOR.public_key}
NOW_MS = 1_800_000_000_000
SKEW_MS = 60_000


def limit_of(serial: int = 0) -> OrderLimit:
    return OrderLimit(
        action=Action.PUT,
        node_id=PROVIDER.node_id,
        segment_id=SegmentId(b"s" * 16),
        segment_serial=serial + 1,
        index=serial % 8,
        byte_cap=1 << 20,
        issued_ms=NOW_MS,
        expires_ms=NOW_MS + 600_000,
        serial=OrderSerial(serial.to_bytes(16, "big")),
        payer_tag=PayerTag(b"y" * 16),
        gateway_key=GATEWAY.public_key,
        retention_until_ms=0,
    )


@given(st.integers(1, 40))
def test_every_order_of_a_batch_stands_alone(count: int) -> None:
    limits = [limit_of(serial) for serial in range(count)]
    signed = sign_orders(COORDINATOR, limits)
    assert [check_order(order, KEYS, NOW_MS, SKEW_MS) for order in signed] == limits
    assert max(map(len, signed)) <= orders.SIGNED_ORDER_BYTES_MAX


def test_no_limits_no_orders() -> None:
    assert sign_orders(COORDINATOR, []) == []


def test_a_batch_is_bounded() -> None:
    with pytest.raises(AtollError, match="at most"):
        sign_orders(COORDINATOR, [limit_of()] * (orders.BATCH_LIMITS_MAX + 1))


def test_a_batch_costs_one_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = orders.signature_holds
    monkeypatch.setattr(
        orders, "signature_holds", lambda *given: calls.append(given) or real(*given)
    )
    for order in sign_orders(COORDINATOR, [limit_of(serial) for serial in range(1000, 1046)]):
        check_order(order, KEYS, NOW_MS, SKEW_MS)
    assert len(calls) == 1


@pytest.mark.parametrize("count", [1, 5])
def test_an_order_altered_at_any_byte_is_refused(count: int) -> None:
    signed = sign_orders(COORDINATOR, [limit_of(serial) for serial in range(count)])[-1]
    check_order(signed, KEYS, NOW_MS, SKEW_MS)
    for place in range(len(signed)):
        for flip in (0x01, 0x80):
            altered = bytearray(signed)
            altered[place] ^= flip
            with pytest.raises(AtollError) as refusal:
                check_order(bytes(altered), KEYS, NOW_MS, SKEW_MS)
            assert refusal.value.kind in {
                Kind.UNAUTHENTICATED,
                Kind.BAD_REQUEST,
                Kind.NEWER_FORMAT,
            }


def test_an_order_of_any_other_length_is_malformed() -> None:
    signed = sign_orders(COORDINATOR, [limit_of(serial) for serial in range(3)])[0]
    for wrong in [signed[:length] for length in range(len(signed))] + [signed + b"\0"]:
        with pytest.raises(AtollError) as refusal:
            check_order(wrong, KEYS, NOW_MS, SKEW_MS)
        assert refusal.value.kind is Kind.BAD_REQUEST


def test_reserved_bytes_must_be_zero() -> None:
    signed = bytearray(sign_orders(COORDINATOR, [limit_of()])[0])
    signed[3] = 1
    with pytest.raises(AtollError, match="reserved"):
        orders.parse_order(bytes(signed))
    receipt = bytearray(orders.sign_receipt(PROVIDER, RECEIPT))
    receipt[2] = 1
    with pytest.raises(AtollError, match="reserved"):
        orders.parse_receipt(bytes(receipt))


def test_a_foreign_coordinator_is_refused() -> None:
    (signed,) = sign_orders(ATTACKER, [limit_of()])
    with pytest.raises(AtollError) as refusal:
        check_order(signed, KEYS, NOW_MS, SKEW_MS)
    assert refusal.value.kind is Kind.UNAUTHENTICATED


def test_an_attacker_cannot_claim_the_coordinators_key() -> None:
    (signed,) = sign_orders(ATTACKER, [limit_of()])
    forged = signed.replace(ATTACKER.public_key, COORDINATOR.public_key)
    assert forged != signed
    with pytest.raises(AtollError, match="signature"):
        check_order(forged, KEYS, NOW_MS, SKEW_MS)


def test_a_batch_signature_does_not_serve_another_count() -> None:
    """A leaf at the lifted end of a tree has a path that other counts would take as well."""
    limits = [limit_of(serial) for serial in range(3)]
    signed = bytearray(sign_orders(COORDINATOR, limits)[2])
    count_at = orders.LIMIT_BYTES + 32
    signed[count_at : count_at + 4] = b"\0\2\0\1"  # the second of two has one hash beside it too
    with pytest.raises(AtollError, match="signature"):
        check_order(bytes(signed), KEYS, NOW_MS, SKEW_MS)


LINK_KEY = orders.link_key(b"x" * 32, PROVIDER.node_id)
LINKS = {COORDINATOR.public_key: LINK_KEY}


def test_a_right_mac_stands_for_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    (signed,) = sign_orders(COORDINATOR, [limit_of()], {PROVIDER.node_id: LINK_KEY})
    assert check_order(signed, KEYS, NOW_MS, SKEW_MS) == limit_of()
    monkeypatch.setattr(orders, "_batch_holds", lambda *given: pytest.fail("verified"))
    assert check_order(signed, KEYS, NOW_MS, SKEW_MS, LINKS) == limit_of()
    with pytest.raises(AtollError) as refusal:
        check_order(signed, KEYS, NOW_MS + 10**9, SKEW_MS, LINKS)
    assert refusal.value.kind is Kind.EXPIRED


def test_an_order_with_a_mac_altered_anywhere_but_there_is_refused() -> None:
    (signed,) = sign_orders(COORDINATOR, [limit_of()], {PROVIDER.node_id: LINK_KEY})
    for place in range(len(signed)):
        altered = bytearray(signed)
        altered[place] ^= 0x20
        if place >= len(signed) - orders.LINK_MAC_BYTES:  # then the signature decides
            assert check_order(bytes(altered), KEYS, NOW_MS, SKEW_MS, LINKS) == limit_of()
            continue
        with pytest.raises(AtollError):
            check_order(bytes(altered), KEYS, NOW_MS, SKEW_MS, LINKS)


def test_an_attacker_without_the_link_key_has_no_mac() -> None:
    (signed,) = sign_orders(ATTACKER, [limit_of()], {PROVIDER.node_id: b"guess" + bytes(27)})
    forged = signed.replace(ATTACKER.public_key, COORDINATOR.public_key)
    with pytest.raises(AtollError, match="signature"):
        check_order(forged, KEYS, NOW_MS, SKEW_MS, LINKS)


def test_link_keys_differ_by_node() -> None:
    assert orders.link_key(b"x" * 32, ATTACKER.node_id) != LINK_KEY
    assert orders.link_key(b"y" * 32, PROVIDER.node_id) != LINK_KEY


@pytest.mark.parametrize(
    ("now_ms", "kind"),
    [
        (NOW_MS - SKEW_MS - 1, Kind.CLOCK_SKEW),
        (NOW_MS - SKEW_MS, None),
        (NOW_MS + 600_000 + SKEW_MS, None),
        (NOW_MS + 600_000 + SKEW_MS + 1, Kind.EXPIRED),
    ],
)
def test_an_order_serves_only_in_its_time(now_ms: int, kind: Kind | None) -> None:
    (signed,) = sign_orders(COORDINATOR, [limit_of()])
    if kind is None:
        assert check_order(signed, KEYS, now_ms, SKEW_MS) == limit_of()
        return
    with pytest.raises(AtollError) as refusal:
        check_order(signed, KEYS, now_ms, SKEW_MS)
    assert refusal.value.kind is kind


def test_a_coordinator_cannot_sign_fields_out_of_range() -> None:
    for bad in (
        replace(limit_of(), index=256),
        replace(limit_of(), byte_cap=-1),
        replace(limit_of(), expires_ms=1 << 64),
        replace(limit_of(), gateway_key=b"short"),
        replace(limit_of(), serial=OrderSerial(b"")),
        replace(limit_of(), segment_root=b"r" * 32),
        replace(limit_of(), action=Action.REPAIR_PUT),
        replace(limit_of(), action=Action.REPAIR_PUT, segment_root=b"short"),
    ):
        with pytest.raises(AtollError) as refusal:
            sign_orders(COORDINATOR, [bad])
        assert refusal.value.kind is Kind.BAD_REQUEST


def test_verified_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "VERIFIED_BATCHES_MAX", 3)
    monkeypatch.setattr(orders, "_verified", type(orders._verified)())
    for serial in range(6):
        (signed,) = sign_orders(COORDINATOR, [limit_of(serial)])
        check_order(signed, KEYS, NOW_MS, SKEW_MS)
    assert len(orders._verified) == 3


RECEIPT = PieceReceipt(
    PROVIDER.node_id, SegmentId(b"s" * 16), 7, b"r" * 32, OrderSerial(b"o" * 16), NOW_MS
)


def test_a_receipt_reads_as_it_was_signed() -> None:
    signed = orders.sign_receipt(PROVIDER, RECEIPT)
    assert orders.check_receipt(signed) == RECEIPT
    assert orders.check_receipt(signed, PROVIDER.node_id) == RECEIPT
    assert orders.parse_receipt(signed) == RECEIPT


def test_a_receipt_of_another_node_is_refused() -> None:
    signed = orders.sign_receipt(PROVIDER, RECEIPT)
    with pytest.raises(AtollError) as refusal:
        orders.check_receipt(signed, ATTACKER.node_id)
    assert refusal.value.kind is Kind.UNAUTHENTICATED


def test_a_receipt_altered_at_any_byte_or_length_is_refused() -> None:
    signed = orders.sign_receipt(PROVIDER, RECEIPT)
    for place in range(len(signed)):
        altered = bytearray(signed)
        altered[place] ^= 0x10
        with pytest.raises(AtollError):
            orders.check_receipt(bytes(altered))
    for wrong in (b"", signed[:-1], signed + b"\0"):
        with pytest.raises(AtollError) as refusal:
            orders.check_receipt(wrong)
        assert refusal.value.kind is Kind.BAD_REQUEST


@given(st.binary(max_size=500))
def test_made_up_orders_and_receipts_are_refused(body: bytes) -> None:
    version = bytes((orders.ORDER_VERSION, 1, 0, 0))
    for made_up in (body, version + body, (version + body)[:172].ljust(172, b"\0")):
        with pytest.raises(AtollError):
            check_order(made_up, KEYS, NOW_MS, SKEW_MS)
        with pytest.raises(AtollError):
            orders.check_receipt(made_up)


def test_a_repair_is_bound_to_the_root_of_what_may_be_stored() -> None:
    repair = replace(limit_of(), action=Action.REPAIR_PUT, gateway_key=b"", segment_root=b"r" * 32)
    (signed,) = sign_orders(COORDINATOR, [repair])
    assert check_order(signed, KEYS, NOW_MS, SKEW_MS) == repair
    assert len(signed) == len(sign_orders(COORDINATOR, [limit_of()])[0])


def test_an_order_alone_holds_a_piece_for_some_years_only() -> None:
    longest = NOW_MS + orders.ORDER_RETENTION_MS_MAX
    for until_ms, good in ((longest, True), (longest + 1, False), ((1 << 64) - 1, False)):
        (signed,) = sign_orders(COORDINATOR, [replace(limit_of(), retention_until_ms=until_ms)])
        if good:
            assert check_order(signed, KEYS, NOW_MS, SKEW_MS).retention_until_ms == until_ms
            continue
        with pytest.raises(AtollError) as refused:
            check_order(signed, KEYS, NOW_MS, SKEW_MS)
        assert refused.value.kind is Kind.BAD_REQUEST
