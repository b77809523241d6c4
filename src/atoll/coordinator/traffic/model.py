"""The nouns of traffic: what was read under an order, by whom, and the receipts that show it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from atoll.core.receipts import SIGNED_HEAD_BYTES

LINE_LABEL = b"atoll/read-line/1\0"
SETTLE_MS_MAX = 6 * 3600 * 1000
"""A read order can be claimed for until so long after its issue."""
REMEMBERED_MS = SETTLE_MS_MAX + 3600 * 1000
"""It is remembered longer, so that a clock that is set back by an hour opens no second chance."""
SKEW_MS_MAX = 5 * 60 * 1000
"""An order issued later than this from now is nobody's: processes of a coordinator have clocks of
their own."""
WINDOW_MS = 2_000
"""Orders issued within so much time are looked up together."""
FORGET_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class OrderRead:
    """What a receipt says of one order that holds."""

    serial: bytes
    issued_ms: int
    segment: bytes
    segment_serial: int
    byte_count: int
    """Read under the order so far."""


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt's head under both signatures, without entries."""

    tab: bytes
    sequence: int
    byte_count: int
    """What counted of its tab in one epoch (the head says what it came to since the tab began)."""
    receipt: bytes
    """Head and the gateway's signature."""
    node_key: bytes
    signature: bytes
    """The node's."""

    def digest(self) -> bytes:
        """Return the hash that stands for this receipt."""
        whole = self.receipt[:SIGNED_HEAD_BYTES] + self.node_key + self.signature
        return hashlib.sha256(whole).digest()


@dataclass(frozen=True, slots=True)
class ReadLine:
    """What one account read at one node in an epoch."""

    alias: int
    account: bytes
    byte_count: int
    evidence: bytes = b""


def evidence_of(
    epoch: int, node_id: bytes, line: ReadLine, receipts: Iterable[SignedReceipt]
) -> bytes:
    """Return the hash that stands for a line, with all receipts of its node in that epoch."""
    digests = sorted(receipt.digest() for receipt in receipts)
    body = msgspec.msgpack.encode((epoch, node_id, line.account, line.byte_count, digests))
    return hashlib.sha256(LINE_LABEL + body).digest()
