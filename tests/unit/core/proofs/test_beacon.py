"""The beacon: its values follow their chains, and one honest verifier makes it unforeseeable."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.proofs.world import (
    COORDINATOR,
    VERIFIERS,
    beacon_of,
    chain_of,
    reveal_of,
    secret_of,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.proofs.beacon import (
    BEACON_PURPOSE,
    CHAIN_SLOTS,
    BeaconValue,
    ChainCheck,
    chain_value,
    check_beacon,
    draw_committee,
    make_reveal,
    quorum,
    read_chain,
    reveal_signed,
)
from atoll.core.proofs.signed import Signed, decode_statement, encode_statement, sign_statement


def test_every_value_of_a_chain_is_accepted_in_any_order() -> None:
    commit = read_chain(chain_of(VERIFIERS[0]))
    check = ChainCheck(commit)
    slots = [8, 20, 0, CHAIN_SLOTS - 1, 30, 30]
    for slot in slots:
        assert check.accepts(slot, chain_value(secret_of(VERIFIERS[0]), slot))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2 * CHAIN_SLOTS), st.binary(min_size=32, max_size=32))
def test_nothing_else_is_accepted(slot: int, value: bytes) -> None:
    commit = read_chain(chain_of(VERIFIERS[0]))
    assert not ChainCheck(commit).accepts(slot, value)


def test_a_value_is_good_for_its_slot_only() -> None:
    commit = read_chain(chain_of(VERIFIERS[0]))
    value = chain_value(secret_of(VERIFIERS[0]), 12)
    assert ChainCheck(commit).accepts(12, value)
    assert not ChainCheck(commit).accepts(12 + CHAIN_SLOTS, value)
    assert not ChainCheck(commit).accepts(13, value)
    assert not ChainCheck(commit).accepts(11, value)


def test_each_verifier_changes_the_value() -> None:
    all_three = check_beacon(beacon_of(9)).value
    assert len({all_three, check_beacon(beacon_of(9, VERIFIERS[:2])).value}) == 2
    assert all_three != check_beacon(beacon_of(10)).value


def test_too_few_values_are_no_beacon() -> None:
    with pytest.raises(AtollError) as refused:
        check_beacon(beacon_of(9, VERIFIERS[:1]))
    assert refused.value.kind is Kind.CORRUPT


def test_a_beacon_of_another_coordinator_or_altered_is_refused() -> None:
    signed = beacon_of(9)
    with pytest.raises(AtollError) as refused:
        check_beacon(signed, b"x" * 32)
    assert refused.value.kind is Kind.UNAUTHENTICATED
    with pytest.raises(AtollError) as refused:
        check_beacon(Signed(signed.body[:-1] + b"\0", signed.key, signed.signature))
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_a_value_whose_verifier_did_not_sign_is_refused() -> None:
    value = decode_statement(beacon_of(9).body, BeaconValue)
    last = value.reveals[-1]
    other = msgspec.structs.replace(last, value=b"z" * 32)
    forged = [*value.reveals[:-1], other]
    body = encode_statement(
        BeaconValue(COORDINATOR.public_key, 9, value.opened_ms, value.verifiers, forged)
    )
    with pytest.raises(AtollError) as refused:
        check_beacon(sign_statement(COORDINATOR, BEACON_PURPOSE, body))
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_committees_are_drawn_evenly_and_by_the_beacon_alone() -> None:
    keys = [bytes([n]) * 32 for n in range(60)]
    counts = dict.fromkeys(keys, 0)
    for number in range(400):
        committee = draw_committee(number.to_bytes(32, "big"), b"n" * 32, keys)
        assert committee == sorted(set(committee))
        assert len(committee) == 15
        for key in committee:
            counts[key] += 1
    assert min(counts.values()) > 60
    assert max(counts.values()) < 140
    assert draw_committee(b"1" * 32, b"n" * 32, keys) == draw_committee(
        b"1" * 32, b"n" * 32, keys[::-1]
    )


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (6, 4), (15, 10)])
def test_two_thirds_decide(members: int, needed: int) -> None:
    assert quorum(members) == needed


def test_a_reveal_is_not_another_verifiers() -> None:
    assert reveal_of(VERIFIERS[0], 9).value != reveal_of(VERIFIERS[1], 9).value


def test_a_reveal_for_another_coordinator_makes_no_beacon() -> None:
    value = decode_statement(beacon_of(9).body, BeaconValue)
    last = value.reveals[-1]
    verifier = next(one for one in VERIFIERS if one.public_key == last.verifier_key)
    foreign = make_reveal(verifier, b"o" * 32, 9, last.value)
    assert reveal_signed(foreign)
    body = encode_statement(
        BeaconValue(
            COORDINATOR.public_key,
            9,
            value.opened_ms,
            value.verifiers,
            [*value.reveals[:-1], foreign],
        )
    )
    with pytest.raises(AtollError) as refused:
        check_beacon(sign_statement(COORDINATOR, BEACON_PURPOSE, body))
    assert refused.value.kind is Kind.CORRUPT
