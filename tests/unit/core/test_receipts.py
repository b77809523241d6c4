"""Receipts of reads: cumulative, signed by both sides, and nothing in them can be changed."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.receipts import (
    ENTRIES_MAX,
    ENTRY_BYTES,
    FIGURE_MAX,
    HEAD_BYTES,
    SIGNED_HEAD_BYTES,
    ReadReceipt,
    Tab,
    gateway_signed,
    node_signed,
    parse_head,
    parse_read_receipt,
    sign_claim,
    sign_read_receipt,
)

GATEWAY = Identity(b"gateway".ljust(32, b"."))
NODE = Identity(b"node".ljust(32, b"."))
STRANGER = Identity(b"stranger".ljust(32, b"."))
TAB = Tab(GATEWAY.public_key, NODE.node_id, b"c" * 32, b"t" * 16)
RECEIPT = ReadReceipt(TAB, 3, 1_700_000_000_000, 9_000, 2, {b"1" * 16: 4_000, b"2" * 16: 5_000})

figures = st.integers(0, FIGURE_MAX)


@given(
    sequence=st.integers(1, FIGURE_MAX),
    times=st.tuples(figures, figures, figures),
    entries=st.dictionaries(st.binary(min_size=16, max_size=16), figures, min_size=1, max_size=20),
)
def test_what_is_signed_is_what_is_read(
    sequence: int, times: tuple[int, int, int], entries: dict[bytes, int]
) -> None:
    receipt = ReadReceipt(TAB, sequence, *times, entries)
    signed = sign_read_receipt(GATEWAY, receipt)
    assert len(signed) == SIGNED_HEAD_BYTES + ENTRY_BYTES * len(entries)
    assert parse_read_receipt(signed) == receipt
    assert parse_head(signed[:SIGNED_HEAD_BYTES]) == replace(receipt, entries={})
    assert gateway_signed(signed)


def test_no_byte_of_it_can_be_changed() -> None:
    signed = sign_read_receipt(GATEWAY, RECEIPT)
    for place in range(len(signed)):
        changed = bytearray(signed)
        changed[place] ^= 1
        try:
            parse_read_receipt(bytes(changed))
        except AtollError:
            continue
        assert not gateway_signed(bytes(changed)), place


@pytest.mark.parametrize("length", [0, HEAD_BYTES, SIGNED_HEAD_BYTES, SIGNED_HEAD_BYTES + 1])
def test_a_cut_one_is_refused(length: int) -> None:
    signed = sign_read_receipt(GATEWAY, RECEIPT)
    with pytest.raises(AtollError) as refused:
        parse_read_receipt(signed[:length])
    assert refused.value.kind is Kind.BAD_REQUEST


def test_an_order_named_twice_is_refused() -> None:
    """Whoever adds entries up must not be told the same order twice."""
    twice = sign_read_receipt(GATEWAY, RECEIPT)
    entries = twice[SIGNED_HEAD_BYTES:]
    body = entries[:ENTRY_BYTES] * 2
    head = twice[: HEAD_BYTES - 32] + hashlib.sha256(body).digest()
    with pytest.raises(AtollError, match="twice"):
        parse_read_receipt(head + GATEWAY.sign(b"read-receipt/1", head) + body)


def test_only_its_gateway_signs_it_and_not_for_too_much() -> None:
    with pytest.raises(AtollError):
        sign_read_receipt(STRANGER, RECEIPT)
    with pytest.raises(AtollError):
        sign_read_receipt(GATEWAY, replace(RECEIPT, entries={}))
    many = {number.to_bytes(16, "big"): 1 for number in range(ENTRIES_MAX + 1)}
    with pytest.raises(AtollError):
        sign_read_receipt(GATEWAY, replace(RECEIPT, entries=many))
    with pytest.raises(AtollError):
        sign_read_receipt(GATEWAY, replace(RECEIPT, byte_count=-1))


def test_only_the_node_it_names_signs_it_too() -> None:
    signed = sign_read_receipt(GATEWAY, RECEIPT)
    assert node_signed(signed, NODE.public_key, sign_claim(NODE, signed))
    assert not node_signed(signed, STRANGER.public_key, sign_claim(STRANGER, signed))
    assert not node_signed(signed, NODE.public_key, sign_claim(STRANGER, signed))
    later = sign_read_receipt(GATEWAY, replace(RECEIPT, sequence=4))
    assert not node_signed(later, NODE.public_key, sign_claim(NODE, signed))
