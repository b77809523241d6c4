"""Verdicts: what verifiers say of one proof; two thirds of a committee make it stand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.ids import NodeId, node_id_of
from atoll.core.proofs.beacon import BeaconValue, check_beacon, draw_committee, quorum
from atoll.core.proofs.heads import KnownHead, check_head
from atoll.core.proofs.samples import (
    SAMPLES_MAX,
    Fault,
    SlotProof,
    check_proof_signature,
    judge_samples,
)
from atoll.core.proofs.signed import (
    Signed,
    decode_statement,
    digest_of,
    encode_statement,
    sign_statement,
)

VERDICT_PURPOSE = b"proof-verdict/1"


class FailedSample(msgspec.Struct, frozen=True, array_like=True):
    """One sample that did not pass."""

    number: int
    """Which sample of the proof, from 0."""
    position: int
    """The drawn leaf among all leaves of the head."""
    fault: str
    """A ``samples.Fault``."""
    segment: bytes
    """Empty where the proof does not name the piece; the position always does."""
    index: int


class Verdict(msgspec.Struct, frozen=True, array_like=True):
    """The outcome of one proof. Every honest verifier writes the same bytes."""

    coordinator_key: bytes
    node_key: bytes
    epoch: int
    slot: int
    root: bytes
    beacon: bytes
    """The slot's value."""
    proof: bytes
    """Digest of the proof."""
    samples: int
    failed: list[FailedSample]

    @property
    def node_id(self) -> NodeId:
        """The judged node."""
        return node_id_of(self.node_key)

    @property
    def passed(self) -> int:
        """Samples that passed."""
        return self.samples - len(self.failed)


class VerdictSignature(msgspec.Struct, frozen=True, array_like=True):
    """One verifier's signature under a verdict."""

    key: bytes
    signature: bytes


class SignedVerdict(msgspec.Struct, frozen=True, array_like=True):
    """A verdict with the signatures gathered so far."""

    body: bytes
    signatures: list[VerdictSignature]


@dataclass(frozen=True, slots=True)
class Judged:
    """A proof and what was found in it."""

    proof: SlotProof
    head: KnownHead
    beacon: BeaconValue
    verdict: Verdict

    @property
    def committee(self) -> list[bytes]:
        """Who may sign the verdict."""
        return draw_committee(self.verdict.beacon, self.verdict.node_id, self.beacon.verifiers)


def judge_proof(proof: SlotProof, coordinator_key: bytes | None = None) -> Judged:
    """Check all signatures of a proof and judge its samples.

    With ``coordinator_key`` only that coordinator's head and beacon count. Raises ``CORRUPT`` and
    ``UNAUTHENTICATED`` for what is no proof at all; a proof that does not pass is a verdict.
    """
    known = check_head(proof.head)
    head = known.head
    if coordinator_key is not None and head.coordinator_key != coordinator_key:
        raise AtollError(Kind.UNAUTHENTICATED, "check proof", "the head is of another coordinator")
    beacon = check_beacon(proof.beacon, head.coordinator_key)
    if beacon.slot != proof.slot:
        raise AtollError(Kind.CORRUPT, "check proof", "the beacon is of another slot")
    if head.frozen_ms >= beacon.opened_ms:
        # Who knew the beacon before the set was frozen could choose what is drawn.
        raise AtollError(Kind.CORRUPT, "check proof", "the head was frozen after the slot opened")
    if len(proof.samples) > SAMPLES_MAX or not proof.samples:
        raise AtollError(Kind.CORRUPT, "check proof", f"a proof has 1..{SAMPLES_MAX} samples")
    digest = check_proof_signature(proof, head)
    value = beacon.value
    findings = judge_samples(proof.samples, head, value, proof.slot)
    failed = [
        FailedSample(number, found.position, found.fault.value, found.segment, found.piece_index)
        for number, found in enumerate(findings)
        if found.fault is not None
    ]
    verdict = Verdict(
        coordinator_key=head.coordinator_key,
        node_key=head.node_key,
        epoch=head.epoch,
        slot=proof.slot,
        root=head.root,
        beacon=value,
        proof=digest,
        samples=len(findings),
        failed=failed,
    )
    return Judged(proof, known, beacon, verdict)


def sign_verdict(identity: Identity, verdict: Verdict) -> Signed:
    """Sign a verdict as one verifier."""
    return sign_statement(identity, VERDICT_PURPOSE, encode_statement(verdict))


def read_verdict(body: bytes) -> Verdict:
    """Read a verdict without signatures. Raises ``CORRUPT``."""
    verdict = decode_statement(body, Verdict)
    faults = {fault.value for fault in Fault}
    if (
        len(verdict.node_key) != 32
        or len(verdict.coordinator_key) != 32
        or not 0 < verdict.samples <= SAMPLES_MAX
        or len(verdict.failed) > verdict.samples
        or not 0 <= verdict.slot < 1 << 62
        or any(failed.fault not in faults for failed in verdict.failed)
    ):
        raise AtollError(Kind.CORRUPT, "read verdict", "its fields contradict each other")
    return verdict


def signature_under(body: bytes, signature: VerdictSignature) -> bool:
    """Say whether this signature is that verifier's under this verdict."""
    return signature_holds(signature.key, VERDICT_PURPOSE, digest_of(body), signature.signature)


def signers_of(signed: SignedVerdict, committee: Collection[bytes]) -> list[bytes]:
    """Return the members of the committee whose signature under the verdict holds, each once."""
    members = set(committee)
    return sorted(
        {
            one.key
            for one in signed.signatures
            if one.key in members and signature_under(signed.body, one)
        }
    )


def stands(signed: SignedVerdict, committee: Sequence[bytes]) -> bool:
    """Say whether at least two thirds of a committee signed."""
    return len(signers_of(signed, committee)) >= quorum(len(committee))
