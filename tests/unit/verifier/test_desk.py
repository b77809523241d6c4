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


def state(*, slot: int = SLOT, reveal: int = 0, chains: list[bytes] | None = None) -> VerifierState:
    known = [encode_statement(chain_of(one)) for one in VERIFIERS] if chains is None else chains
    return VerifierState(
        time_ms=slot * SLOT_MS,
        coordinator_key=COORDINATOR.public_key,
        slot=slot,
        slot_ms=SLOT_MS,
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
    made = Desk(Address("127.0.0.1", 1), ME)
    made.key = COORDINATOR.public_key
    made.adopt(state())
    return made


def test_a_new_verifier_draws_a_chain_and_reveals_its_values() -> None:
    desk = Desk(Address("127.0.0.1", 1), ME)
    desk.key = COORDINATOR.public_key
    desk.adopt(state(chains=[]))
    chain = desk.ready_chain(SLOT)
    first = read_chain(chain).first_slot
    assert first > SLOT
    desk.adopt(state(slot=first, reveal=first, chains=[encode_statement(chain)]))
    assert desk.ready_chain(first).body == chain.body
    assert desk.reveal_due(first * SLOT_MS) is not None


def test_nobody_gets_a_value_before_its_slot(desk: Desk) -> None:
    chain = encode_statement(desk.ready_chain(SLOT - 5))
    first = read_chain(desk.ready_chain(SLOT - 5)).first_slot
    desk.adopt(state(reveal=first + 50, chains=[chain]))
    assert desk.reveal_due((first + 50) * SLOT_MS - 60_000) is None


def test_the_same_key_makes_the_same_chain_again() -> None:
    made = []
    for _ in range(2):
        desk = Desk(Address("127.0.0.1", 1), ME)
        desk.key = COORDINATOR.public_key
        made.append(desk.ready_chain(SLOT).body)
    assert made[0] == made[1]


def test_a_beacon_with_a_value_of_no_chain_is_refused() -> None:
    desk = Desk(Address("127.0.0.1", 1), ME)
    desk.key = COORDINATOR.public_key
    desk.adopt(state(chains=[encode_statement(chain_of(ME))]))
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
