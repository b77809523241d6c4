"""Loss files for tests: verdicts as verifiers sign them, on nodes that lost something."""

from collections.abc import Iterable

from tests.unit.core.proofs.world import COORDINATOR, VERIFIERS, beacon_of

from atoll.core.identity import Identity
from atoll.core.proofs.beacon import check_beacon
from atoll.core.proofs.loss import LossEvidence, LossSlot, write_loss
from atoll.core.proofs.samples import Fault
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
