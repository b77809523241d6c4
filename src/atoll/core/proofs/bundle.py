"""Proof files: everything that shows what nodes proved, to be checked with nothing else in hand.

``ATOLPRF1 | body length u64 | body | SHA-256 of all before``; the body is a MessagePack array. The
digest tells a garbled file from a false one; truth rests on the signatures inside alone.
"""

import hashlib
import struct
from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.proofs.beacon import ChainCheck, quorum, read_chain
from atoll.core.proofs.samples import SlotProof
from atoll.core.proofs.signed import Signed, decode_statement, encode_statement
from atoll.core.proofs.verdicts import FailedSample, SignedVerdict, judge_proof, signers_of

MAGIC = b"ATOLPRF1"
FILE_BYTES_MAX = 1 << 30
BUNDLES_MAX = 10_000
_LENGTH = struct.Struct(">Q")
_DIGEST_BYTES = 32


class Bundle(msgspec.Struct, frozen=True, array_like=True):
    """One node in one slot: its proof, the verdict on it, the chains behind the beacon."""

    proof: bytes
    """Encoded ``SlotProof``."""
    verdict: SignedVerdict
    chains: list[Signed]
    """Of the verifiers whose values made the beacon."""


class ObjectPiece(msgspec.Struct, frozen=True, array_like=True):
    """One piece of the object that a file speaks of."""

    segment: bytes
    index: int
    node_id: bytes


class ProofFile(msgspec.Struct, frozen=True, array_like=True):
    """The body of a proof file."""

    about: str
    """What was asked for, in words: a node, an object. Proves nothing."""
    bundles: list[Bundle]
    pieces: list[ObjectPiece] = []
    """Of an object: where its coordinator says its pieces lie."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One bundle, checked: every signature holds and every leaf was looked at again."""

    coordinator_key: bytes
    node_key: bytes
    node_id: bytes
    epoch: int
    slot: int
    opened_ms: int
    pieces: int
    piece_bytes: int
    samples: int
    failed: tuple[FailedSample, ...]
    committee: tuple[bytes, ...]
    signers: tuple[bytes, ...]
    needed: int
    """Signatures that make a verdict."""
    reveals: int
    """Values in the beacon, each of the chain that its verifier had signed before."""

    @property
    def passed(self) -> bool:
        """Whether every sample passed."""
        return not self.failed


def write_proof_file(content: ProofFile) -> bytes:
    """Return the bytes of a proof file."""
    body = encode_statement(content)
    head = MAGIC + _LENGTH.pack(len(body))
    return head + body + hashlib.sha256(head + body).digest()


def read_proof_file(data: bytes) -> ProofFile:
    """Read a proof file, unchecked but for its digest.

    Raises ``CORRUPT`` (none at all, cut short, garbled), ``NEWER_FORMAT``, ``TOO_LARGE``.
    """
    start = len(MAGIC) + _LENGTH.size
    if len(data) > FILE_BYTES_MAX:
        raise AtollError(Kind.TOO_LARGE, "read proof file", "no proof file is as long as this")
    if not data.startswith(MAGIC[:-1]):
        raise _bad("this is no proof file: its first bytes are others")
    if not data.startswith(MAGIC):
        raise AtollError(
            Kind.NEWER_FORMAT, "read proof file", "this version of proof files is not known here"
        )
    if len(data) < start:
        raise _bad("the file is cut short")
    (length,) = _LENGTH.unpack_from(data, len(MAGIC))
    end = start + length
    if len(data) < end + _DIGEST_BYTES:
        raise _bad(f"the file is cut short: {len(data)} of {end + _DIGEST_BYTES} bytes are here")
    if len(data) > end + _DIGEST_BYTES:
        raise _bad("bytes follow the end of the proof")
    if hashlib.sha256(data[:end]).digest() != data[end:]:
        raise _bad("the file is garbled: its digest does not hold")
    content = decode_statement(data[start:end], ProofFile)
    if not content.bundles or len(content.bundles) > BUNDLES_MAX:
        raise _bad("there is no proof in it")
    return content


def _bad(message: str) -> AtollError:
    return AtollError(
        Kind.CORRUPT, "read proof file", message, hint="export it again: `atoll proof export`"
    )


def check_bundle(bundle: Bundle, coordinator_key: bytes | None = None) -> Checked:
    """Check everything in a bundle; with ``coordinator_key`` only that coordinator's count.

    Raises ``CORRUPT`` and ``UNAUTHENTICATED`` where anything does not hold.
    """
    judged = judge_proof(decode_statement(bundle.proof, SlotProof), coordinator_key)
    verdict, beacon = judged.verdict, judged.beacon
    if encode_statement(verdict) != bundle.verdict.body:
        raise AtollError(
            Kind.CORRUPT, "check proof", "the verdict says something else than the proof"
        )
    committee = judged.committee
    signers = signers_of(bundle.verdict, committee)
    needed = quorum(len(committee))
    if len(signers) < needed:
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check proof",
            f"{len(signers)} of {len(committee)} verifiers signed, {needed} are needed",
        )
    _check_chains(
        bundle,
        beacon.slot,
        beacon.coordinator_key,
        {reveal.verifier_key: reveal.value for reveal in beacon.reveals},
    )
    head = judged.head.head
    return Checked(
        coordinator_key=verdict.coordinator_key,
        node_key=verdict.node_key,
        node_id=verdict.node_id,
        epoch=verdict.epoch,
        slot=verdict.slot,
        opened_ms=beacon.opened_ms,
        pieces=head.pieces,
        piece_bytes=head.piece_bytes,
        samples=verdict.samples,
        failed=tuple(verdict.failed),
        committee=tuple(committee),
        signers=tuple(signers),
        needed=needed,
        reveals=len(beacon.reveals),
    )


def _check_chains(
    bundle: Bundle, slot: int, coordinator_key: bytes, values: dict[bytes, bytes]
) -> None:
    """Raise unless every value of the beacon is of a chain that its verifier had signed."""
    left = dict(values)
    for signed in bundle.chains:
        commit = read_chain(signed)
        value = left.get(commit.verifier_key)
        if value is None or commit.coordinator_key != coordinator_key:
            continue
        if ChainCheck(commit).accepts(slot, value):
            del left[commit.verifier_key]
    if left:
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check proof",
            f"{len(left)} values of the beacon are of no chain in the file",
        )
