"""What was metered, and how a figure of an epoch comes about."""

from atoll.core.messages.base import Message


class ExplainReceipt(Message, frozen=True):
    """What stands behind a line of an epoch? Errors: ``NOT_FOUND``."""

    evidence: bytes
    """The line's, 32 bytes."""


class SignedRead(Message, frozen=True):
    """The newest receipt of one tab in an epoch (``docs/spec/receipts.md``), without entries."""

    receipt: bytes
    """Head and the gateway's signature."""
    node_key: bytes
    signature: bytes
    """The node's, over both."""
    byte_count: int
    """What of this tab counted in that epoch, of all its payers together."""


class Receipt(Message, frozen=True):
    """One metered line: what was stored, read or rebuilt, and what shows it.

    Storage: so many bytes of a bucket, at one node, for so long. Egress: bytes that an account read
    at a node. Repair: bytes of pieces that the node rebuilt; ``account`` is empty, nobody pays by
    himself.
    """

    evidence: bytes
    epoch: int
    node_id: bytes
    account: bytes
    piece_bytes: int
    """Stored, read or rebuilt."""
    kind: str = "storage"
    """``storage``, ``egress`` or ``repair``."""
    bucket: bytes = b""
    """Storage."""
    from_ms: int = 0
    until_ms: int = 0
    """Storage: until when; repair: when it was done."""
    price_pico: int = 0
    """Storage: as the node had posted it, per GB-month; 0: the reference."""
    head: bytes = b""
    """Storage: SHA-256 of the head of the node's sum tree that both sides had signed last; empty:
    none."""
    reads: list[SignedRead] = []
    """Egress: all receipts of the node's reads in that epoch. What counts of them together is what
    all lines of the node's egress come to, to the byte."""
    failed: bytes = b""
    """Repair: id of the node that had held the pieces; empty where it is not known."""
    task: bytes = b""
    pieces: bytes = b""
    """Repair: the signed receipts of the nodes that hold the new pieces, one after the other."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {ExplainReceipt: Receipt}
"""Requests of gateways of this family and their answers."""
