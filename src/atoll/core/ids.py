"""Identifiers: one type per noun, all fixed-size bytes, all printed with a readable prefix."""

import hashlib
from typing import NewType

NodeId = NewType("NodeId", bytes)
"""32 bytes: SHA-256 of the node's Ed25519 public key under a domain prefix."""
NodeAlias = NewType("NodeAlias", int)
"""Small positive number a coordinator gives to a node; never used twice."""
SegmentId = NewType("SegmentId", bytes)
"""16 random bytes, drawn by the coordinator when it orders a segment."""
SegmentSerial = NewType("SegmentSerial", int)
"""Dense 63-bit number of a committed segment within one coordinator."""
PieceId = NewType("PieceId", bytes)
"""16 bytes derived from the segment id and the piece index."""
OrderSerial = NewType("OrderSerial", bytes)
"""16 random bytes naming one order limit; spent once."""
AccountId = NewType("AccountId", bytes)
"""16 bytes naming a customer account."""
BucketId = NewType("BucketId", bytes)
"""16 random bytes naming a bucket; survives a rename of the bucket's account."""
UploadId = NewType("UploadId", bytes)
"""16 random bytes naming a multipart upload."""
PayerTag = NewType("PayerTag", bytes)
"""16 bytes that say who pays for a piece without saying who that is to the node."""

NODE_ID_BYTES = 32
SHORT_ID_BYTES = 16
PUBLIC_KEY_BYTES = 32


def node_id_of(public_key: bytes) -> NodeId:
    """Return the node id of an Ed25519 public key (32 bytes)."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(public_key)}")
    return NodeId(hashlib.sha256(b"atoll/node-id/1" + public_key).digest())


def piece_id_of(segment_id: SegmentId, index: int) -> PieceId:
    """Return the id of piece ``index`` (0..255) of a segment."""
    return PieceId(
        hashlib.sha256(b"atoll/piece-id/1" + segment_id + bytes((index,))).digest()[:SHORT_ID_BYTES]
    )


def show_node(node_id: bytes) -> str:
    """Return the printed form of a node id: ``n-`` and its first 10 hex digits."""
    return f"n-{node_id.hex()[:10]}"
