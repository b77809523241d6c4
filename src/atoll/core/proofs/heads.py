"""Tree heads: what a node and a coordinator agree that the node holds in one epoch."""

from dataclasses import dataclass

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import PUBLIC_KEY_BYTES, NodeId, node_id_of
from atoll.core.merkle import HASH_BYTES
from atoll.core.proofs.signed import decode_statement, digest_of, encode_statement
from atoll.core.proofs.sums import LEAVES_MAX, TopTree

NODE_PURPOSE = b"proof-head-node/1"
COORDINATOR_PURPOSE = b"proof-head-coordinator/1"


class TreeHead(msgspec.Struct, frozen=True, array_like=True):
    """The sum tree of one node at one coordinator in one epoch, in a few words."""

    node_key: bytes
    coordinator_key: bytes
    epoch: int
    root: bytes
    ranges: int
    pieces: int
    leaves: int
    """Leaves of 4 KiB of all pieces: what samples are drawn from."""
    piece_bytes: int
    """Sum of the data areas: what the node is paid for."""
    frozen_ms: int
    """When the set was taken, by the coordinator's clock."""

    @property
    def node_id(self) -> NodeId:
        """The node's id."""
        return node_id_of(self.node_key)


class SignedHead(msgspec.Struct, frozen=True, array_like=True):
    """A head with both signatures; either may still be missing (empty)."""

    body: bytes
    coordinator_signature: bytes
    node_signature: bytes


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that was checked, with the bytes it came in."""

    head: TreeHead
    signed: SignedHead


def head_of(
    tree: TopTree, node_key: bytes, coordinator_key: bytes, epoch: int, frozen_ms: int
) -> TreeHead:
    """Return the head of a tree."""
    return TreeHead(
        node_key=node_key,
        coordinator_key=coordinator_key,
        epoch=epoch,
        root=tree.root,
        ranges=len(tree.tops),
        pieces=tree.pieces,
        leaves=tree.leaves,
        piece_bytes=tree.piece_bytes,
        frozen_ms=frozen_ms,
    )


def sign_head(identity: Identity, head: TreeHead) -> SignedHead:
    """Sign as the coordinator; the node's signature is still missing."""
    body = encode_statement(head)
    return SignedHead(body, identity.sign(COORDINATOR_PURPOSE, digest_of(body)), b"")


def countersign_head(identity: Identity, signed: SignedHead) -> SignedHead:
    """Add the node's signature."""
    signature = identity.sign(NODE_PURPOSE, digest_of(signed.body))
    return SignedHead(signed.body, signed.coordinator_signature, signature)


def read_head(signed: SignedHead) -> TreeHead:
    """Read a head **without** its signatures. Raises ``CORRUPT``."""
    head = decode_statement(signed.body, TreeHead)
    if (
        len(head.node_key) != PUBLIC_KEY_BYTES
        or len(head.coordinator_key) != PUBLIC_KEY_BYTES
        or len(head.root) != HASH_BYTES
        or not 0 <= head.epoch < 1 << 63
        or not 0 <= head.ranges <= head.pieces <= head.leaves <= LEAVES_MAX
        or not 0 <= head.piece_bytes < 1 << 63
    ):
        raise AtollError(Kind.CORRUPT, "read tree head", "its fields contradict each other")
    return head


def check_head(signed: SignedHead, *, node: bool = True) -> KnownHead:
    """Return a head that its coordinator signed and (``node``) its node as well.

    Which coordinator may sign is for the caller to ask. Raises ``UNAUTHENTICATED``, ``CORRUPT``.
    """
    head = read_head(signed)
    digest = digest_of(signed.body)
    good = len(signed.coordinator_signature) == SIGNATURE_BYTES and signature_holds(
        head.coordinator_key, COORDINATOR_PURPOSE, digest, signed.coordinator_signature
    )
    if good and node:
        good = signature_holds(head.node_key, NODE_PURPOSE, digest, signed.node_signature)
    if not good:
        raise AtollError(
            Kind.UNAUTHENTICATED, "check tree head", "a signature of the tree head does not hold"
        )
    return KnownHead(head, signed)
