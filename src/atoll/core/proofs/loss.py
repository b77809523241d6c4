"""Evidence that a node lost what it holds: verdicts of a run of slots, checked with nothing else.

A *loss file* holds, slot by slot, a verdict that two thirds of its committee signed and the beacon
that the committee was drawn by. It shows a loss where the sequential test of possession
(``docs/reputation.md``), begun at 0 with the first slot of the file, decides against the node.
Whoever makes the file gains nothing by leaving slots out: each that is absent counts as if all that
could have been drawn in it had passed.

    file = "atoll/loss-evidence/1" | 00 | MessagePack [node key, coordinator key, slots]

Its SHA-256 names it. Normative text: ``docs/spec/slashes.md``.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import NodeId, node_id_of
from atoll.core.proofs.beacon import check_beacon, draw_committee, quorum
from atoll.core.proofs.samples import SAMPLES_MORE, SAMPLES_PER_SLOT
from atoll.core.proofs.signed import Signed, decode_statement, encode_statement
from atoll.core.proofs.verdicts import SignedVerdict, Verdict, read_verdict, signers_of

LABEL = b"atoll/loss-evidence/1\0"
SLOTS_MAX = 64
"""Verdicts of one file."""
RUN_SLOTS_MAX = 1_000
"""Slots from the first to the last of a file."""
FILE_BYTES_MAX = 4 << 20
FAILED_SCORE = 230_259
"""ln 10 in 1e-5, rounded up: what a failed sample adds (1 % failing against 0.1 %)."""
PASSED_SCORE = 904
"""-ln(0.99 / 0.999) in 1e-5, rounded down: what a passed one takes."""
LOST_SCORE = 1_381_451
"""ln(0.999 / 1e-6) in 1e-5, rounded down: from here on the loss is shown."""
ABSENT_SCORE = (SAMPLES_PER_SLOT + SAMPLES_MORE) * PASSED_SCORE
"""What a slot of which the file has no verdict takes."""


class LossSlot(msgspec.Struct, frozen=True, array_like=True):
    """One slot: the beacon and the verdict on the node's proof."""

    beacon: Signed
    verdict: SignedVerdict


class LossEvidence(msgspec.Struct, frozen=True, array_like=True):
    """The body of a loss file."""

    node_key: bytes
    coordinator_key: bytes
    slots: list[LossSlot]
    """Ascending; the first and the last have failed samples."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a loss file shows."""

    node_key: bytes
    coordinator_key: bytes
    evidence: bytes
    """SHA-256 of the file."""
    first_slot: int
    last_slot: int
    verdicts: int
    samples: int
    failed: int
    score: int
    """In 1e-5, as it stands after the last slot; at least ``LOST_SCORE``."""
    signers: tuple[bytes, ...]
    """Verifiers that signed the first verdict with failed samples, ascending."""

    @property
    def node_id(self) -> NodeId:
        """The node that lost something."""
        return node_id_of(self.node_key)


def score_of(verdicts: Sequence[Verdict]) -> int:
    """Return the score of a run of verdicts, ascending by slot, in 1e-5."""
    score, before = 0, verdicts[0].slot - 1 if verdicts else 0
    for verdict in verdicts:
        score -= (verdict.slot - before - 1) * ABSENT_SCORE
        score += len(verdict.failed) * FAILED_SCORE - verdict.passed * PASSED_SCORE
        before = verdict.slot
    return score


def choose_run(verdicts: Sequence[Verdict]) -> tuple[int, int] | None:
    """Return the shortest run (first, end) of the latest verdicts that shows a loss, if any does.

    ``verdicts``: of one node, ascending by slot. The run ends with the newest failure.
    """
    end = max((i for i, one in enumerate(verdicts) if one.failed), default=-1) + 1
    for first in range(end - 1, max(-1, end - 1 - SLOTS_MAX), -1):
        run = verdicts[first:end]
        if run[-1].slot - run[0].slot >= RUN_SLOTS_MAX:
            return None
        if run[0].failed and score_of(run) >= LOST_SCORE:
            return first, end
    return None


def write_loss(content: LossEvidence) -> bytes:
    """Return the bytes of a loss file."""
    return LABEL + encode_statement(content)


def name_of(body: bytes) -> bytes:
    """Return the SHA-256 by which a loss file is named."""
    return hashlib.sha256(body).digest()


def check_loss(body: bytes, verifiers: Collection[bytes] | None = None) -> Loss:
    """Return what a loss file shows.

    With ``verifiers`` only these keys count as verifiers, whatever the coordinator's beacons say;
    without, the file shows what the verifiers that its coordinator names have signed. Raises
    ``CORRUPT`` (none at all, or nothing is shown), ``UNAUTHENTICATED``, ``TOO_LARGE``.
    """
    if len(body) > FILE_BYTES_MAX:
        raise AtollError(Kind.TOO_LARGE, "check loss", "no loss file is as long as this")
    if not body.startswith(LABEL):
        raise _nothing("this is no loss file: its first bytes are others")
    content = decode_statement(body[len(LABEL) :], LossEvidence)
    if write_loss(content) != body:
        raise _nothing("it is written in another way than such files are")
    if not 0 < len(content.slots) <= SLOTS_MAX:
        raise _nothing(f"a loss file has 1..{SLOTS_MAX} verdicts")
    verdicts: list[Verdict] = []
    signers: tuple[bytes, ...] = ()
    for one in content.slots:
        verdict, signed_by = _check_slot(content, one, verifiers)
        if verdicts and verdict.slot <= verdicts[-1].slot:
            raise _nothing("its slots do not ascend")
        verdicts.append(verdict)
        signers = signers or signed_by
    run = verdicts[-1].slot - verdicts[0].slot
    if run >= RUN_SLOTS_MAX or not verdicts[0].failed or not verdicts[-1].failed:
        raise _nothing(f"it begins and ends with a failure, {RUN_SLOTS_MAX} slots apart at most")
    score = score_of(verdicts)
    if score < LOST_SCORE:
        raise _nothing(f"its score is {score / 1e5:.2f}, {LOST_SCORE / 1e5:.2f} is needed")
    return Loss(
        node_key=content.node_key,
        coordinator_key=content.coordinator_key,
        evidence=name_of(body),
        first_slot=verdicts[0].slot,
        last_slot=verdicts[-1].slot,
        verdicts=len(verdicts),
        samples=sum(one.samples for one in verdicts),
        failed=sum(len(one.failed) for one in verdicts),
        score=score,
        signers=signers,
    )


def _check_slot(
    content: LossEvidence, one: LossSlot, verifiers: Collection[bytes] | None
) -> tuple[Verdict, tuple[bytes, ...]]:
    """Return a slot's verdict and who signed it, if it stands."""
    verdict = read_verdict(one.verdict.body)
    beacon = check_beacon(one.beacon, content.coordinator_key)
    if (verdict.node_key, verdict.coordinator_key, verdict.slot, verdict.beacon) != (
        content.node_key,
        content.coordinator_key,
        beacon.slot,
        beacon.value,
    ):
        raise _nothing("a verdict is of another node, coordinator, slot or beacon")
    if verifiers is not None and not set(beacon.verifiers) <= set(verifiers):
        raise AtollError(
            Kind.UNAUTHENTICATED, "check loss", "a beacon names verifiers that are not known here"
        )
    committee = draw_committee(beacon.value, verdict.node_id, beacon.verifiers)
    signers = signers_of(one.verdict, committee)
    if len(signers) < quorum(len(committee)):
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check loss",
            f"{len(signers)} of {len(committee)} verifiers signed, "
            f"{quorum(len(committee))} are needed",
        )
    return verdict, tuple(signers)


def _nothing(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "check loss", f"no loss is shown: {message}")
