"""The nouns of receipts at a node: orders under which was read, what a gateway owes, claims."""

from dataclasses import dataclass, field

import msgspec

ORDERS_MAX = 8192
"""Read orders kept until their receipt comes; the one used longest ago is forgotten first, and then
no receipt can be claimed for it any more."""
GATEWAYS_MAX = 4096
ORDER_UNPAID_BYTES_MAX = 48 << 20
"""Served under one order beyond what is receipted: then its stream waits, and is cut."""
GATEWAY_UNPAID_BYTES_MAX = 512 << 20
"""What a gateway may owe for reads that have ended: the allowance. Then it is served no more."""
UNDER_WAY_BYTES_MAX = 2 << 30
"""What it may owe together with reads that have not ended."""
FORGIVEN_BYTES_PER_S = 64 << 10
"""What was sent and never read (a customer went away, another node was quicker) is forgotten so
quickly; so are disguised reads, for which nobody signs."""
FORGIVEN_PARTS = 8
"""One part in so many of what a gateway signs is forgotten on top."""
WAIT_S_MAX = 5.0
"""A read of a gateway at its limit waits so long for a receipt before it is refused."""
CLAIMS_MAX = 16_384
"""Receipts that wait for their coordinator; the oldest is dropped first."""
SAVE_S = 0.5
"""Receipts are made durable together, so often; then the gateway is told that they are kept."""
CLAIM_S = 4.0
"""Pause between two claims."""


class KeptClaim(msgspec.Struct, frozen=True, array_like=True):
    """A receipt to be claimed for, as it lies on the disk."""

    coordinator_key: bytes
    tab: bytes
    sequence: int
    receipt: bytes
    signature: bytes
    """The node's own."""
    orders: list[bytes]
    """For each entry the signed order, or nothing where it is not known any more. The signature of
    the coordinator stays here, in case it says one day that it issued no such order."""


@dataclass(slots=True)
class Debtor:
    """What a gateway owes this node."""

    unpaid_bytes: int = 0
    """For reads that have ended, less receipts; below nothing where a receipt came first."""
    under_way_bytes: int = 0
    """Served in reads that have not ended."""
    forgiven_s: float = 0.0
    """Until when time was taken into account."""
    paid_bytes: int = 0


@dataclass(slots=True)
class OpenOrder:
    """A read order in use."""

    signed: bytes
    gateway_key: bytes
    debtor: Debtor
    byte_cap: int
    served_bytes: int = 0
    paid_bytes: int = 0


@dataclass(slots=True)
class Tally:
    """Figures for metrics and tests; bytes unless said."""

    served_bytes: int = 0
    receipted_bytes: int = 0
    claimed_bytes: int = 0
    receipts: int = 0
    refused_reads: int = 0
    refused_claims: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
