"""The court: two thirds decide, fewer change nothing, and who says two things is told."""

import msgspec
import pytest
from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    VERIFIERS,
    beacon_of,
    small_holder,
    verdict_of,
)

from atoll.coordinator.audit.court import Court
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.proofs.beacon import check_beacon
from atoll.core.proofs.evidence import check_evidence
from atoll.core.proofs.signed import Signed
from atoll.core.proofs.verdicts import (
    SignedVerdict,
    VerdictSignature,
    judge_proof,
    sign_verdict,
)

SLOT = 9
SIGNED_BEACON = beacon_of(SLOT)
BEACON = check_beacon(SIGNED_BEACON)
HOLDER = small_holder()
PROOF = HOLDER.proof(SIGNED_BEACON, SLOT)
TRUTH = judge_proof(PROOF).verdict
LIE = msgspec.structs.replace(TRUTH, proof=b"l" * 32)
HONEST, LIAR = VERIFIERS[1:], VERIFIERS[0]


def said(identity: Identity, verdict: object) -> SignedVerdict:
    signed: Signed = sign_verdict(identity, verdict)  # type: ignore[arg-type]
    return SignedVerdict(signed.body, [VerdictSignature(signed.key, signed.signature)])


@pytest.fixture
def court() -> Court:
    return Court(COORDINATOR.public_key)


def test_two_of_three_make_a_verdict_and_one_does_not(court: Court) -> None:
    assert court.hear(said(HONEST[0], TRUTH), BEACON) == (None, [])
    ruling, lies = court.hear(said(HONEST[1], TRUTH), BEACON)
    assert ruling is not None
    assert ruling.verdict == TRUTH
    assert len(ruling.signed.signatures) == 2
    assert not lies


def test_fewer_liars_than_a_third_change_nothing(court: Court) -> None:
    assert court.hear(said(LIAR, LIE), BEACON)[0] is None
    assert court.hear(said(HONEST[0], TRUTH), BEACON)[0] is None
    ruling, _ = court.hear(said(HONEST[1], TRUTH), BEACON)
    assert ruling is not None
    assert ruling.verdict == TRUTH


def test_who_signs_two_verdicts_is_exposed_and_counts_for_neither(court: Court) -> None:
    court.hear(said(LIAR, LIE), BEACON)
    ruling, lies = court.hear(said(LIAR, TRUTH), BEACON)
    assert ruling is None
    assert [check_evidence(lie).key for lie in lies] == [LIAR.public_key]
    assert court.hear(said(HONEST[0], TRUTH), BEACON)[0] is None
    assert court.hear(said(HONEST[1], TRUTH), BEACON)[0] is not None


def test_strangers_and_forged_signatures_do_not_count(court: Court) -> None:
    stranger = said(Identity(b"x" * 32), TRUTH)
    assert court.hear(stranger, BEACON)[0] is None
    real = said(HONEST[0], TRUTH)
    forged = [VerdictSignature(one.public_key, real.signatures[0].signature) for one in VERIFIERS]
    assert court.hear(SignedVerdict(real.body, forged), BEACON)[0] is None
    assert list(court.signers(SLOT, PROVIDER.node_id)) == [HONEST[0].public_key]


def test_the_same_signature_twice_is_one(court: Court) -> None:
    one = said(HONEST[0], TRUTH)
    twice = SignedVerdict(one.body, one.signatures * 3)
    assert court.hear(twice, BEACON)[0] is None


def test_a_verdict_of_another_slot_or_coordinator_is_refused(court: Court) -> None:
    with pytest.raises(AtollError):
        court.hear(verdict_of(PROOF), check_beacon(beacon_of(SLOT + 1)))
    with pytest.raises(AtollError):
        Court(b"o" * 32).hear(verdict_of(PROOF), BEACON)


def test_old_cases_are_forgotten(court: Court) -> None:
    court.hear(said(HONEST[0], TRUTH), BEACON)
    court.forget(SLOT + 1)
    assert not court.signers(SLOT, PROVIDER.node_id)
