"""Evidence: whoever says two things is known by it, and nobody else can be made to look so."""

import msgspec
import pytest
from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    VERIFIERS,
    Holder,
    beacon_of,
    chain_of,
    make_piece,
    reveal_of,
    small_holder,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.proofs.beacon import BEACON_PURPOSE, CHAIN_SLOTS, commit_chain, make_reveal
from atoll.core.proofs.evidence import Evidence, Lie, check_evidence, make_evidence
from atoll.core.proofs.samples import sign_proof
from atoll.core.proofs.signed import Signed, sign_statement
from atoll.core.proofs.verdicts import judge_proof, sign_verdict

SLOT = 9
LIAR = VERIFIERS[0]


def two_verdicts() -> Evidence:
    verdict = judge_proof(small_holder().proof(beacon_of(SLOT), SLOT)).verdict
    other = msgspec.structs.replace(verdict, proof=b"x" * 32)
    return make_evidence(Lie.VERDICT, sign_verdict(LIAR, verdict), sign_verdict(LIAR, other))


def false_verdict() -> Evidence:
    holder = small_holder()
    holder.pieces[2].data = None
    proof = holder.proof(beacon_of(SLOT), SLOT, 32)
    verdict = judge_proof(proof).verdict
    assert verdict.failed
    praise = msgspec.structs.replace(verdict, failed=[])
    return make_evidence(Lie.FALSE_VERDICT, sign_verdict(LIAR, praise), proof)


def two_reveals() -> Evidence:
    other = make_reveal(LIAR, COORDINATOR.public_key, SLOT, b"z" * 32)
    return make_evidence(Lie.REVEAL, reveal_of(LIAR, SLOT), other)


def two_chains() -> Evidence:
    other = commit_chain(LIAR, COORDINATOR.public_key, b"z" * 32, 2)
    return make_evidence(Lie.CHAIN, chain_of(LIAR, 2), other)


def two_heads(lie: Lie) -> Evidence:
    one, two = small_holder(), Holder([make_piece(1, 100)])
    return make_evidence(lie, one.signed, two.signed)


def two_beacons() -> Evidence:
    return make_evidence(Lie.BEACON, beacon_of(SLOT), beacon_of(SLOT, VERIFIERS[:2]))


def two_proofs() -> Evidence:
    holder = small_holder()
    beacon = beacon_of(SLOT)
    first = holder.proof(beacon, SLOT)
    second = sign_proof(PROVIDER, holder.signed, beacon, SLOT, first.samples[::-1])
    return make_evidence(Lie.PROOF, first, second)


def flipped(body: bytes) -> bytes:
    """Change one bit of what was signed."""
    return body[:60] + bytes((body[60] ^ 1,)) + body[61:]


CASES = [
    (two_verdicts, LIAR.public_key, SLOT),
    (false_verdict, LIAR.public_key, SLOT),
    (two_reveals, LIAR.public_key, SLOT),
    (two_chains, LIAR.public_key, 2 * CHAIN_SLOTS),
    (lambda: two_heads(Lie.NODE_HEAD), PROVIDER.public_key, 7),
    (lambda: two_heads(Lie.COORDINATOR_HEAD), COORDINATOR.public_key, 7),
    (two_beacons, COORDINATOR.public_key, SLOT),
    (two_proofs, PROVIDER.public_key, SLOT),
]


@pytest.mark.parametrize(("make", "key", "slot"), CASES)
def test_a_contradiction_names_who_signed_it(make: object, key: bytes, slot: int) -> None:
    accused = check_evidence(make())  # type: ignore[operator]
    assert (accused.key, accused.slot) == (key, slot)


@pytest.mark.parametrize(("make", "key", "slot"), CASES)
def test_the_same_twice_or_a_broken_word_proves_nothing(
    make: object, key: bytes, slot: int
) -> None:
    evidence = make()  # type: ignore[operator]
    for broken in (
        Evidence(evidence.lie, evidence.first, evidence.first),
        Evidence(evidence.lie, evidence.first, evidence.second[:-1]),
        Evidence(evidence.lie, evidence.first, flipped(evidence.second)),
        Evidence("no such lie", evidence.first, evidence.second),
    ):
        with pytest.raises(AtollError) as refused:
            check_evidence(broken)
        assert refused.value.kind in (Kind.CORRUPT, Kind.UNAUTHENTICATED)


def test_who_serves_two_coordinators_or_periods_does_not_contradict_himself() -> None:
    foreign = make_reveal(LIAR, b"o" * 32, SLOT, b"z" * 32)
    with pytest.raises(AtollError, match="agree"):
        check_evidence(make_evidence(Lie.REVEAL, reveal_of(LIAR, SLOT), foreign))
    chains = [commit_chain(LIAR, b"o" * 32, b"z" * 32, 2), chain_of(LIAR, 3)]
    for chain in chains:
        with pytest.raises(AtollError, match="two periods or"):
            check_evidence(make_evidence(Lie.CHAIN, chain_of(LIAR, 2), chain))


def test_a_right_verdict_is_no_lie() -> None:
    proof = small_holder().proof(beacon_of(SLOT), SLOT)
    verdict = sign_verdict(LIAR, judge_proof(proof).verdict)
    with pytest.raises(AtollError, match="the verdict is right"):
        check_evidence(make_evidence(Lie.FALSE_VERDICT, verdict, proof))


def test_verdicts_of_two_slots_do_not_contradict_each_other() -> None:
    holder = small_holder()
    signed = [
        sign_verdict(LIAR, judge_proof(holder.proof(beacon_of(slot), slot)).verdict)
        for slot in (9, 10)
    ]
    with pytest.raises(AtollError, match="agree"):
        check_evidence(make_evidence(Lie.VERDICT, *signed))


def test_nobody_else_can_put_words_into_a_mouth() -> None:
    evidence = two_verdicts()
    verdict = judge_proof(small_holder().proof(beacon_of(SLOT), SLOT)).verdict
    forged = sign_verdict(VERIFIERS[1], verdict)
    other = Signed(forged.body, LIAR.public_key, forged.signature)
    altered = msgspec.structs.replace(evidence, first=msgspec.msgpack.encode(other))
    with pytest.raises(AtollError) as refused:
        check_evidence(altered)
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_a_beacon_signed_by_a_stranger_is_no_evidence_against_the_coordinator() -> None:
    body = beacon_of(SLOT, VERIFIERS[:2]).body
    stranger = sign_statement(VERIFIERS[0], BEACON_PURPOSE, body)
    with pytest.raises(AtollError):
        check_evidence(make_evidence(Lie.BEACON, beacon_of(SLOT), stranger))
