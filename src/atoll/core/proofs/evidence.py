"""Evidence: two statements that no honest party signs both. Anyone can check it, for ever."""

from dataclasses import dataclass
from enum import Enum

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import signature_holds
from atoll.core.proofs.beacon import (
    BEACON_PURPOSE,
    BeaconValue,
    Reveal,
    read_chain,
    reveal_signed,
)
from atoll.core.proofs.heads import COORDINATOR_PURPOSE, NODE_PURPOSE, SignedHead, read_head
from atoll.core.proofs.samples import SlotProof, check_proof_signature
from atoll.core.proofs.signed import (
    Signed,
    check_signed,
    decode_statement,
    digest_of,
    encode_statement,
)
from atoll.core.proofs.verdicts import VERDICT_PURPOSE, Verdict, judge_proof, read_verdict


class Lie(Enum):
    """What was contradicted. The names are part of the format."""

    VERDICT = "two verdicts"
    """A verifier signed two verdicts for one node and slot."""
    FALSE_VERDICT = "false verdict"
    """A verifier signed a verdict that its own proof contradicts."""
    REVEAL = "two reveals"
    """A verifier revealed two values for one slot of one coordinator."""
    CHAIN = "two chains"
    """A verifier signed two chains for one period of one coordinator."""
    NODE_HEAD = "two heads by node"
    """A node signed two heads for one epoch of one coordinator."""
    COORDINATOR_HEAD = "two heads by coordinator"
    """A coordinator signed two heads for one node and epoch."""
    BEACON = "two beacons"
    """A coordinator signed two values for one slot."""
    PROOF = "two proofs"
    """A node signed two proofs for one slot and head."""


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """Two encoded statements and what they contradict each other in."""

    lie: str
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class Accused:
    """Whom evidence speaks of."""

    key: bytes
    lie: Lie
    slot: int
    """Slot or epoch concerned."""


def make_evidence(lie: Lie, first: msgspec.Struct, second: msgspec.Struct) -> Evidence:
    """Put two statements together."""
    return Evidence(lie.value, encode_statement(first), encode_statement(second))


def check_evidence(evidence: Evidence) -> Accused:
    """Return who lied. Raises ``CORRUPT`` or ``UNAUTHENTICATED`` where nothing is proven."""
    try:
        lie = Lie(evidence.lie)
    except ValueError:
        raise _nothing(f"{evidence.lie!r} is no lie known here") from None
    if evidence.first == evidence.second:
        raise _nothing("it says the same twice")
    return _CHECKS[lie](lie, evidence)


def _nothing(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "check evidence", f"nothing is proven: {message}")


def _need(good: bool, message: str) -> None:
    if not good:
        raise _nothing(message)


def _verdict_of(body: bytes) -> tuple[Signed, Verdict]:
    signed = decode_statement(body, Signed)
    return signed, check_signed(signed, VERDICT_PURPOSE, Verdict)


def _two_verdicts(lie: Lie, evidence: Evidence) -> Accused:
    one, first = _verdict_of(evidence.first)
    two, second = _verdict_of(evidence.second)
    same = (first.coordinator_key, first.node_key, first.slot) == (
        second.coordinator_key,
        second.node_key,
        second.slot,
    )
    _need(one.key == two.key and same and one.body != two.body, "the verdicts agree")
    return Accused(one.key, lie, first.slot)


def _false_verdict(lie: Lie, evidence: Evidence) -> Accused:
    signed, _ = _verdict_of(evidence.first)
    said = read_verdict(signed.body)
    judged = judge_proof(decode_statement(evidence.second, SlotProof))
    _need(said.proof == judged.verdict.proof, "the verdict is of another proof")
    _need(said != judged.verdict, "the verdict is right")
    return Accused(signed.key, lie, said.slot)


def _two_reveals(lie: Lie, evidence: Evidence) -> Accused:
    one = decode_statement(evidence.first, Reveal)
    two = decode_statement(evidence.second, Reveal)
    _need(reveal_signed(one) and reveal_signed(two), "a signature does not hold")
    same = (one.verifier_key, one.coordinator_key, one.slot) == (
        two.verifier_key,
        two.coordinator_key,
        two.slot,
    )
    _need(same and one.value != two.value, "the reveals agree")
    return Accused(one.verifier_key, lie, one.slot)


def _two_chains(lie: Lie, evidence: Evidence) -> Accused:
    one = read_chain(decode_statement(evidence.first, Signed))
    two = read_chain(decode_statement(evidence.second, Signed))
    same = (one.verifier_key, one.coordinator_key, one.period) == (
        two.verifier_key,
        two.coordinator_key,
        two.period,
    )
    _need(same and one != two, "the chains are of two periods or coordinators")
    return Accused(one.verifier_key, lie, one.first_slot)


def _two_heads(lie: Lie, evidence: Evidence) -> Accused:
    one = decode_statement(evidence.first, SignedHead)
    two = decode_statement(evidence.second, SignedHead)
    first, second = read_head(one), read_head(two)
    same = (first.node_key, first.coordinator_key, first.epoch) == (
        second.node_key,
        second.coordinator_key,
        second.epoch,
    )
    _need(same and one.body != two.body, "the heads agree")
    by_node = lie is Lie.NODE_HEAD
    key = first.node_key if by_node else first.coordinator_key
    purpose = NODE_PURPOSE if by_node else COORDINATOR_PURPOSE
    for signed in (one, two):
        signature = signed.node_signature if by_node else signed.coordinator_signature
        _need(
            signature_holds(key, purpose, digest_of(signed.body), signature),
            "a signature does not hold",
        )
    return Accused(key, lie, first.epoch)


def _two_beacons(lie: Lie, evidence: Evidence) -> Accused:
    signed = [decode_statement(body, Signed) for body in (evidence.first, evidence.second)]
    one, two = (check_signed(each, BEACON_PURPOSE, BeaconValue) for each in signed)
    same = one.slot == two.slot and signed[0].key == signed[1].key
    _need(same and signed[0].body != signed[1].body, "the beacons agree")
    return Accused(signed[0].key, lie, one.slot)


def _two_proofs(lie: Lie, evidence: Evidence) -> Accused:
    one = decode_statement(evidence.first, SlotProof)
    two = decode_statement(evidence.second, SlotProof)
    _need(one.slot == two.slot and one.head.body == two.head.body, "they are of two slots or heads")
    head = read_head(one.head)
    digests = [check_proof_signature(proof, head) for proof in (one, two)]
    _need(digests[0] != digests[1], "the proofs agree")
    return Accused(head.node_key, lie, one.slot)


_CHECKS = {
    Lie.VERDICT: _two_verdicts,
    Lie.FALSE_VERDICT: _false_verdict,
    Lie.REVEAL: _two_reveals,
    Lie.CHAIN: _two_chains,
    Lie.NODE_HEAD: _two_heads,
    Lie.COORDINATOR_HEAD: _two_heads,
    Lie.BEACON: _two_beacons,
    Lie.PROOF: _two_proofs,
}
