"""What was metered, and how a figure of an epoch comes about."""

from atoll.core.messages.base import Message


class ExplainReceipt(Message, frozen=True):
    """What stands behind a line of an epoch? Errors: ``NOT_FOUND``."""

    evidence: bytes
    """The line's, 32 bytes."""


class Receipt(Message, frozen=True):
    """One metered line: so many bytes of a bucket, at one node, for so long."""

    evidence: bytes
    epoch: int
    node_id: bytes
    bucket: bytes
    account: bytes
    piece_bytes: int
    from_ms: int
    until_ms: int
    price_pico: int
    """As the node had posted it, per GB-month; 0: the reference."""
    head: bytes
    """SHA-256 of the head of the node's sum tree that both sides had signed last; empty: none."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {ExplainReceipt: Receipt}
"""Requests of gateways of this family and their answers."""
