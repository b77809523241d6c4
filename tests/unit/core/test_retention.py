"""Retention records: signed, bound to their segment, and only ever growing."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.retention import (
    DAY_MS,
    RECORD_BYTES,
    RETENTION_MS_MAX,
    Mode,
    Order,
    RetentionReceipt,
    RetentionRecord,
    check_reach,
    check_record,
    check_retention_receipt,
    compare,
    grant_lock_key,
    next_sequence,
    owner_of_grant,
    record_digest,
    retained,
    sign_record,
    sign_retention_receipt,
)

LOCK = Identity(b"l" * 32)
THIEF = Identity(b"t" * 32)
OWNER = Identity(b"o" * 32)
PROVIDER = Identity(b"p" * 32)
SEGMENT = SegmentId(bytes(range(16)))
NOW_MS = 1_800_000_000_000


def record(
    mode: Mode = Mode.COMPLIANCE,
    until_ms: int = NOW_MS,
    *,
    hold: bool = False,
    sequence: int = 1,
    lock: Identity = LOCK,
) -> RetentionRecord:
    until_ms = 0 if mode is Mode.NONE else until_ms
    return RetentionRecord(SEGMENT, lock.public_key, mode, until_ms, hold, sequence)


records = st.builds(
    record,
    st.sampled_from(Mode),
    st.integers(1, 8),
    hold=st.booleans(),
    sequence=st.integers(1, 6),
)


def kind_of(call: object, *arguments: object) -> Kind:
    with pytest.raises(AtollError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.kind


@given(records)
def test_a_record_comes_back_as_it_was_signed(one: RetentionRecord) -> None:
    signed = sign_record(LOCK, one)
    assert len(signed) == RECORD_BYTES
    assert check_record(signed, SEGMENT) == one


@given(records, st.integers(0, RECORD_BYTES * 8 - 1))
def test_no_bit_of_a_record_can_be_changed(one: RetentionRecord, bit: int) -> None:
    forged = bytearray(sign_record(LOCK, one))
    forged[bit // 8] ^= 1 << bit % 8
    assert kind_of(check_record, bytes(forged)) in (
        Kind.BAD_REQUEST,
        Kind.NEWER_FORMAT,
        Kind.UNAUTHENTICATED,
    )


def test_a_record_serves_one_segment() -> None:
    signed = sign_record(LOCK, record())
    assert kind_of(check_record, signed, b"x" * 16) is Kind.FORBIDDEN


def test_impossible_fields_are_not_signed() -> None:
    assert kind_of(sign_record, THIEF, record()) is Kind.BAD_REQUEST
    assert kind_of(sign_record, LOCK, replace(record(), until_ms=0)) is Kind.BAD_REQUEST
    assert kind_of(sign_record, LOCK, replace(record(), sequence=0)) is Kind.BAD_REQUEST
    assert kind_of(sign_record, LOCK, replace(record(Mode.NONE), until_ms=5)) is Kind.BAD_REQUEST


def test_what_a_record_holds() -> None:
    assert not retained(None, NOW_MS)
    assert retained(record(until_ms=NOW_MS + 1), NOW_MS)
    assert not retained(record(until_ms=NOW_MS), NOW_MS)
    assert retained(record(Mode.NONE, hold=True), NOW_MS)
    assert retained(record(until_ms=1, hold=True), NOW_MS)


def test_compliance_is_never_shortened_by_anybody() -> None:
    kept = record(Mode.COMPLIANCE, NOW_MS)
    for mode, until_ms in (
        (Mode.COMPLIANCE, NOW_MS - 1),
        (Mode.GOVERNANCE, NOW_MS + DAY_MS),
        (Mode.NONE, 0),
    ):
        assert kind_of(compare, kept, record(mode, until_ms, sequence=2)) is Kind.RETAINED
    assert compare(kept, record(Mode.COMPLIANCE, NOW_MS, sequence=2)) is Order.NEWER


def test_governance_and_holds_end_by_the_lock_key_only() -> None:
    kept = record(Mode.GOVERNANCE, NOW_MS, hold=True)
    assert compare(kept, record(Mode.NONE, sequence=2)) is Order.NEWER
    other = record(Mode.NONE, sequence=2, lock=THIEF)
    assert kind_of(compare, kept, other) is Kind.FORBIDDEN


def test_older_and_equal_records_change_nothing() -> None:
    kept = record(sequence=2)
    assert compare(kept, record(Mode.NONE, sequence=1)) is Order.OLDER
    assert compare(kept, kept) is Order.SAME
    assert kind_of(compare, kept, record(hold=True, sequence=2)) is Kind.CONFLICT


@given(st.lists(records, max_size=20))
def test_in_any_sequence_promises_are_only_extended(offered: list[RetentionRecord]) -> None:
    kept: RetentionRecord | None = None
    history: list[RetentionRecord] = []
    for one in offered:
        with suppress(AtollError):
            if compare(kept, one) is Order.NEWER:
                kept = one
                history.append(one)
    for before, after in pairwise(history):
        assert after.sequence > before.sequence
        if before.mode is Mode.COMPLIANCE:
            assert after.mode is Mode.COMPLIANCE
            assert after.until_ms >= before.until_ms


def test_reach_is_bounded() -> None:
    check_reach(record(until_ms=NOW_MS + RETENTION_MS_MAX), NOW_MS)
    far = record(until_ms=NOW_MS + RETENTION_MS_MAX + 1)
    assert kind_of(check_reach, far, NOW_MS) is Kind.BAD_REQUEST
    ahead = record(until_ms=NOW_MS + 1, sequence=NOW_MS + 2 * DAY_MS)
    assert kind_of(check_reach, ahead, NOW_MS) is Kind.BAD_REQUEST


@given(st.integers(0, 2 * NOW_MS))
def test_sequence_numbers_grow(kept: int) -> None:
    assert next_sequence(kept, NOW_MS) > kept
    assert next_sequence(kept, NOW_MS) >= NOW_MS


def test_only_the_owner_names_a_lock_key() -> None:
    grant = grant_lock_key(OWNER, LOCK.public_key)
    assert owner_of_grant(grant, LOCK.public_key) == OWNER.public_key
    assert kind_of(owner_of_grant, grant, THIEF.public_key) is Kind.UNAUTHENTICATED
    assert kind_of(owner_of_grant, grant[1:], LOCK.public_key) is Kind.BAD_REQUEST


def test_a_holders_receipt_names_record_and_node() -> None:
    signed = sign_record(LOCK, record())
    receipt = RetentionReceipt(PROVIDER.node_id, SEGMENT, 3, record_digest(signed), NOW_MS)
    word = sign_retention_receipt(PROVIDER, receipt)
    assert check_retention_receipt(word, PROVIDER.node_id) == receipt
    assert kind_of(check_retention_receipt, word, THIEF.node_id) is Kind.UNAUTHENTICATED
    forged = bytearray(word)
    forged[40] ^= 1
    assert kind_of(check_retention_receipt, bytes(forged)) is Kind.UNAUTHENTICATED
