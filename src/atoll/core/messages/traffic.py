"""What nodes claim for reads they served, by receipts of gateways (``core.receipts``)."""

from atoll.core.messages.base import Message

CLAIMS_MAX = 64
"""Receipts in one ``ClaimReads``."""
CLAIM_ORDERS_MAX = 5000
"""Orders in one ``ClaimReads``: some 180 bytes each."""


class ReadClaim(Message, frozen=True):
    """One receipt, with the orders that its entries are read under."""

    receipt: bytes
    """Head, the gateway's signature, entries."""
    signature: bytes
    """The node's, over head and signature of the gateway."""
    limits: list[bytes]
    """For each entry, in order, the limit of its order (156 bytes); empty where the node has it no
    more, and then the entry counts nothing."""


class ClaimReads(Message, frozen=True):
    """A node claims what it has receipts for. Shown again, a receipt counts nothing more."""

    claims: list[ReadClaim]


class ClaimedReads(Message, frozen=True):
    """The answer: for each claim, in order, what came of it."""

    refused: list[str]
    """Empty where it was taken, else the kind of the failure."""
    byte_counts: list[int]
    """Bytes that count now and did not before."""
    orders_refused: int = 0
    """Orders in claims that were taken which do not hold, or are settled up to their cap."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {ClaimReads: ClaimedReads}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of gateways of this family and their answers."""
