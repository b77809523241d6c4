"""An owner's word to a node: a short signed proof that stands in for a coordinator's order.

The owner of a piece is whoever signs under the key whose hash stands in its record (TLV 4). His
proof names one node and one moment; with it he may list and read his own pieces there, whatever
any coordinator says. Normative text: ``docs/spec/owner-access.md``.
"""

import struct
from dataclasses import dataclass

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import NODE_ID_BYTES, PUBLIC_KEY_BYTES

MAGIC = b"ATOW"
VERSION = 1
PROOF_PURPOSE = b"owner-access/1"
PROOF_MS_MAX = 900_000
"""A proof is obeyed so long before and after its time: clocks differ, and a replay only reads."""

ADOPT_PURPOSE = b"adopt/1"
ADOPT_PIECES_MAX = 1000
"""Pieces of one adoption."""

_PROOF = struct.Struct(f">4sB3x{NODE_ID_BYTES}s{PUBLIC_KEY_BYTES}sQ")
OWNER_PROOF_BYTES = _PROOF.size + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class OwnerProof:
    """What a proof says."""

    node_id: bytes
    owner_key: bytes
    time_ms: int


def sign_owner_proof(owner: Identity, node_id: bytes, now_ms: int) -> bytes:
    """Return a proof (``OWNER_PROOF_BYTES`` long) for one node, good for ``PROOF_MS_MAX``."""
    if len(node_id) != NODE_ID_BYTES:
        raise ValueError(f"a node id has {NODE_ID_BYTES} bytes")
    body = _PROOF.pack(MAGIC, VERSION, node_id, owner.public_key, now_ms)
    return body + owner.sign(PROOF_PURPOSE, body)


def is_owner_proof(signed: bytes) -> bool:
    """Say whether these bytes are meant as a proof rather than as an order."""
    return signed.startswith(MAGIC)


def parse_owner_proof(signed: bytes) -> OwnerProof:
    """Read a proof **without** checking its signature. Raises ``BAD_REQUEST``, ``NEWER_FORMAT``."""
    if len(signed) != OWNER_PROOF_BYTES or not is_owner_proof(signed):
        raise AtollError(
            Kind.BAD_REQUEST, "check owner", f"an owner's proof has {OWNER_PROOF_BYTES} bytes"
        )
    _, version, node_id, owner_key, time_ms = _PROOF.unpack_from(signed)
    if version != VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT, "check owner", f"version {version} of proofs is not known here"
        )
    if any(signed[5:8]):
        raise AtollError(Kind.BAD_REQUEST, "check owner", "a reserved byte is set")
    return OwnerProof(node_id, owner_key, time_ms)


def check_owner_proof(signed: bytes, node_id: bytes, now_ms: int) -> OwnerProof:
    """Return a proof that holds for this node now.

    Raises ``BAD_REQUEST``, ``NEWER_FORMAT``, ``FORBIDDEN`` (another node), ``EXPIRED``,
    ``CLOCK_SKEW``, ``UNAUTHENTICATED``.
    """
    proof = check_owner_time(signed, node_id, now_ms)
    body, signature = signed[: _PROOF.size], signed[_PROOF.size :]
    if not signature_holds(proof.owner_key, PROOF_PURPOSE, body, signature):
        raise AtollError(Kind.UNAUTHENTICATED, "check owner", "the owner's signature does not hold")
    return proof


def sign_adoption(owner: Identity, proof: bytes, body: bytes) -> bytes:
    """Return the owner's signature over an adoption's body, bound to a proof for its node.

    The proof says node and time; so nobody, the node included, shows it elsewhere or later.
    """
    return owner.sign(ADOPT_PURPOSE, proof + body)


def check_adoption(proof: bytes, body: bytes, signature: bytes) -> None:
    """Raise ``UNAUTHENTICATED`` unless the proof's owner (checked before) signed this body."""
    key = parse_owner_proof(proof).owner_key
    if not signature_holds(key, ADOPT_PURPOSE, proof + body, signature):
        raise AtollError(
            Kind.UNAUTHENTICATED, "adopt pieces", "the owner's signature does not hold"
        )


def check_owner_time(signed: bytes, node_id: bytes, now_ms: int) -> OwnerProof:
    """Check all of a proof but its signature; raises as ``check_owner_proof`` does."""
    proof = parse_owner_proof(signed)
    if proof.node_id != node_id:
        raise AtollError(Kind.FORBIDDEN, "check owner", "the proof is for another node")
    if now_ms > proof.time_ms + PROOF_MS_MAX:
        raise AtollError(Kind.EXPIRED, "check owner", "the proof is no longer fresh")
    if now_ms < proof.time_ms - PROOF_MS_MAX:
        raise AtollError(
            Kind.CLOCK_SKEW,
            "check owner",
            f"the proof is from {(proof.time_ms - now_ms) // 1000} s in the future",
            hint="set the clock of this machine (NTP)",
        )
    return proof
