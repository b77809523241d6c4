"""Loss files for tests: verdicts as verifiers sign them, on nodes that lost something."""

from collections.abc import Iterable, Sequence

from tests.unit.core.proofs.world import COORDINATOR, VERIFIERS, beacon_of

from atoll.core.identity import Identity
from atoll.core.proofs.beacon import BEACON_PURPOSE, BeaconValue, check_beacon, make_reveal
from atoll.core.proofs.loss import LossEvidence, LossSlot, write_loss
from atoll.core.proofs.samples import Fault
from atoll.core.proofs.signed import encode_statement, sign_statement
from atoll.core.proofs.verdicts import (
    FailedSample,
    SignedVerdict,
    Verdict,
    VerdictSignature,
    sign_verdict,
)


def verdict_on(
    node: Identity,
    slot: int,
    failed: int,
    samples: int = 32,
    signers: tuple[Identity, ...] = VERIFIERS,
) -> SignedVerdict:
    """A verdict on a proof of which so many samples failed."""
    verdict = Verdict(
        coordinator_key=COORDINATOR.public_key,
        node_key=node.public_key,
        epoch=slot,
        slot=slot,
        root=b"r" * 32,
        beacon=check_beacon(beacon_of(slot)).value,
        proof=b"p" * 32,
        samples=samples,
        failed=[
            FailedSample(number, number, Fault.LEAF.value, b"s" * 16, 0) for number in range(failed)
        ],
    )
    signed = [sign_verdict(one, verdict) for one in signers]
    return SignedVerdict(signed[0].body, [VerdictSignature(s.key, s.signature) for s in signed])


def loss_file_of(node: Identity, slots: Iterable[tuple[int, int]], samples: int = 32) -> bytes:
    """A file of (slot, failed samples)."""
    found = [
        LossSlot(beacon_of(slot), verdict_on(node, slot, failed, samples)) for slot, failed in slots
    ]
    return write_loss(LossEvidence(node.public_key, COORDINATOR.public_key, found))


def loss_by(
    coordinator: Identity, verifiers: Sequence[Identity], node: Identity, slot: int
) -> bytes:
    """A file of one slot in which all samples failed, by any coordinator and verifiers."""
    ordered = sorted(verifiers, key=lambda one: one.public_key)
    value = BeaconValue(
        coordinator.public_key,
        slot,
        slot * 1_000,
        [one.public_key for one in ordered],
        [make_reveal(one, coordinator.public_key, slot, bytes(32)) for one in ordered],
    )
    beacon = sign_statement(coordinator, BEACON_PURPOSE, encode_statement(value))
    failed = [FailedSample(n, n, Fault.LEAF.value, b"s" * 16, 0) for n in range(32)]
    verdict = Verdict(
        coordinator.public_key, node.public_key, slot, slot, b"r" * 32, value.value, b"p" * 32, 32,
        failed,
    )  # fmt: skip
    signed = [sign_verdict(one, verdict) for one in ordered]
    by = SignedVerdict(signed[0].body, [VerdictSignature(s.key, s.signature) for s in signed])
    found = LossEvidence(node.public_key, coordinator.public_key, [LossSlot(beacon, by)])
    return write_loss(found)
