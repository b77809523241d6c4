"""A verifier's books: it reveals in time only, believes chains only, and finds liars out."""

import msgspec
import pytest
from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    SLOT_MS,
    VERIFIERS,
    beacon_of,
    chain_of,
    small_holder,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.proofs import VerifierState
from atoll.core.ports import Address
from atoll.core.proofs.beacon import read_chain
from atoll.core.proofs.evidence import Lie, check_evidence
from atoll.core.proofs.signed import encode_statement
from atoll.core.proofs.verdicts import (
    SignedVerdict,
    VerdictSignature,
    judge_proof,
    sign_verdict,
)
from atoll.verifier.desk import Desk

SLOT = 9
ME, FELLOW, LIAR = VERIFIERS


def state(
    *,
    slot: int = SLOT,
    reveal: int = 0,
    chains: list[bytes] | None = None,
    slot_ms: int = SLOT_MS,
) -> VerifierState:
    known = [encode_statement(chain_of(one)) for one in VERIFIERS] if chains is None else chains
    return VerifierState(
        time_ms=slot * SLOT_MS,
        coordinator_key=COORDINATOR.public_key,
        slot=slot,
        slot_ms=slot_ms,
        reveal_slot=reveal,
        beacon=b"",
        verifiers=[],
        chains=known,
        excluded=[],
        pause_ms=100,
        chain_known=True,
    )


@pytest.fixture
def desk() -> Desk:
    made = new_desk()
    made.adopt(state(), SLOT * SLOT_MS)
    return made


def new_desk() -> Desk:
    made = Desk(Address("127.0.0.1", 1), ME)
    made.pin(COORDINATOR.public_key, SLOT_MS)
    return made


def test_a_new_verifier_draws_a_chain_and_reveals_its_values() -> None:
    desk = new_desk()
    desk.adopt(state(chains=[]), SLOT * SLOT_MS)
    chain = desk.ready_chain(SLOT)
    first = read_chain(chain).first_slot
    assert first > SLOT
    now_ms = first * SLOT_MS
    desk.adopt(state(slot=first, reveal=first, chains=[encode_statement(chain)]), now_ms)
    assert desk.ready_chain(first).body == chain.body
    assert desk.reveal_due(now_ms) is not None
    assert desk.pause_ms(now_ms) == 0


def asked_for(slot: int, now_ms: int) -> Desk:
    """A desk with a chain from slot 11 on, of which the coordinator wants a value."""
    desk = new_desk()
    chain = encode_statement(desk.ready_chain(SLOT))
    desk.adopt(state(slot=now_ms // SLOT_MS, reveal=slot, chains=[chain]), now_ms)
    return desk


@pytest.mark.parametrize("early_ms", [1, 1_999, 60_000])
def test_nobody_gets_a_value_before_its_slot(early_ms: int) -> None:
    now_ms = 30 * SLOT_MS - early_ms
    desk = asked_for(30, now_ms)
    assert desk.reveal_due(now_ms) is None
    assert desk.pause_ms(now_ms) == min(100, early_ms)
    assert desk.reveal_due(30 * SLOT_MS) is not None


def test_nobody_gets_values_of_slots_long_over() -> None:
    desk = asked_for(30, 31 * SLOT_MS)
    assert desk.reveal_due(31 * SLOT_MS) is not None
    assert desk.reveal_due(32 * SLOT_MS) is None


def test_a_coordinator_cannot_make_slots_shorter(desk: Desk) -> None:
    with pytest.raises(AtollError, match="not of 10000 ms as at first") as refused:
        desk.adopt(state(slot=SLOT * 10, slot_ms=1_000), SLOT * SLOT_MS)
    assert refused.value.kind is Kind.FORBIDDEN
    assert desk.slot_ms == SLOT_MS


@pytest.mark.parametrize("slot_ms", [0, 1, 999, -1, 1 << 62])
def test_slots_of_no_sane_length_are_refused(slot_ms: int) -> None:
    desk = Desk(Address("127.0.0.1", 1), ME)
    with pytest.raises(AtollError) as refused:
        desk.pin(COORDINATOR.public_key, slot_ms)
    assert refused.value.kind is Kind.BAD_REQUEST
    assert (desk.key, desk.slot_ms) == (b"", 0)


def test_slots_are_numbered_by_our_own_clock(desk: Desk) -> None:
    with pytest.raises(AtollError) as refused:
        desk.adopt(state(slot=SLOT + 7), SLOT * SLOT_MS)
    assert refused.value.kind is Kind.CLOCK_SKEW
    desk.adopt(state(slot=SLOT + 6), SLOT * SLOT_MS)


def test_the_same_key_makes_the_same_chain_again() -> None:
    made = []
    for _ in range(2):
        desk = new_desk()
        made.append(desk.ready_chain(SLOT).body)
    assert made[0] == made[1]


def test_a_beacon_with_a_value_of_no_chain_is_refused() -> None:
    desk = new_desk()
    desk.adopt(state(chains=[encode_statement(chain_of(ME))]), SLOT * SLOT_MS)
    with pytest.raises(AtollError, match="of no known chain"):
        desk.take_beacon(beacon_of(SLOT))


def test_two_beacons_for_a_slot_are_evidence_against_the_coordinator(desk: Desk) -> None:
    desk.take_beacon(beacon_of(SLOT))
    with pytest.raises(AtollError, match="two for this slot"):
        desk.take_beacon(beacon_of(SLOT, VERIFIERS[:2]))
    (evidence,) = desk.untold
    assert check_evidence(evidence).key == COORDINATOR.public_key


def test_a_slanderer_is_found_out_by_the_proof(desk: Desk) -> None:
    beacon = beacon_of(SLOT)
    desk.take_beacon(beacon)
    judged = judge_proof(small_holder().proof(beacon, SLOT))
    lie = sign_verdict(LIAR, msgspec.structs.replace(judged.verdict, samples=7))
    desk.hear(SignedVerdict(lie.body, [VerdictSignature(lie.key, lie.signature)]))
    desk.own(judged, sign_verdict(ME, judged.verdict))
    desk.compare(judged)
    (evidence,) = desk.untold
    assert evidence.lie == Lie.FALSE_VERDICT.value
    assert check_evidence(evidence).key == LIAR.public_key
    assert desk.liars == {LIAR.public_key}


def test_who_tells_each_something_else_is_found_out(desk: Desk) -> None:
    beacon = beacon_of(SLOT)
    desk.take_beacon(beacon)
    verdict = judge_proof(small_holder().proof(beacon, SLOT)).verdict
    for said in (verdict, msgspec.structs.replace(verdict, proof=b"x" * 32)):
        signed = sign_verdict(LIAR, said)
        desk.hear(SignedVerdict(signed.body, [VerdictSignature(signed.key, signed.signature)]))
    (evidence,) = desk.untold
    assert (evidence.lie, check_evidence(evidence).key) == (Lie.VERDICT.value, LIAR.public_key)


def test_only_open_slots_are_judged(desk: Desk) -> None:
    beacon = desk.take_beacon(beacon_of(SLOT))
    desk.may_judge(PROVIDER.node_id, beacon, SLOT * SLOT_MS + 1)
    desk.may_judge(PROVIDER.node_id, beacon, (SLOT + 1) * SLOT_MS + 1)
    with pytest.raises(AtollError) as refused:
        desk.may_judge(PROVIDER.node_id, beacon, (SLOT + 2) * SLOT_MS + 1)
    assert refused.value.kind is Kind.EXPIRED
