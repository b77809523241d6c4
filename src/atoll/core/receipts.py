"""Receipts of reads: how many bytes a gateway had from a node, signed by both sides.

A signature for every small read would cost too much, so a gateway signs, for each node, what it
read since the last receipt, every four seconds or after some megabytes. A receipt has a fixed head
and one entry per order: the order's serial and the bytes read under it **so far**. So it is
cumulative twice: per order in its entries, per *tab* (one worker of a gateway and one node) in its
head. Shown again, out of order or twice, it counts nothing more.

The node countersigns the head when it claims pay for it. What each order allows and who pays is the
coordinator's to check. Normative text: ``docs/spec/receipts.md``. Vectors:
``tests/golden/vectors/receipts.json``.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import NODE_ID_BYTES, PUBLIC_KEY_BYTES, SHORT_ID_BYTES, node_id_of

RECEIPT_VERSION = 1
READ_PURPOSE = b"read-receipt/1"
"""What gateways sign: the head."""
CLAIM_PURPOSE = b"read-claim/1"
"""What nodes sign: the head with the gateway's signature."""
ENTRIES_MAX = 4096
"""Orders in one receipt."""
RECEIPTS_PATH = "/v1/receipts"
"""Where a node takes them, by POST."""

_HEAD = struct.Struct(">BxHI32s32s32s16sQQQQ32s")
_ENTRY = struct.Struct(">16sQ")
HEAD_BYTES = _HEAD.size
SIGNED_HEAD_BYTES = HEAD_BYTES + SIGNATURE_BYTES
ENTRY_BYTES = _ENTRY.size
RECEIPT_BYTES_MAX = SIGNED_HEAD_BYTES + ENTRIES_MAX * ENTRY_BYTES
FIGURE_MAX = (1 << 63) - 1
"""Largest number in a receipt: databases have 63 bits and a sign."""


@dataclass(frozen=True, slots=True)
class Tab:
    """Who reads where, by whose orders: what cumulates."""

    gateway_key: bytes
    node_id: bytes
    coordinator_key: bytes
    tab: bytes
    """16 random bytes: one worker's life."""


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """A gateway's word for what it has read from a node."""

    of: Tab
    sequence: int
    """1, 2, 3 … within the tab."""
    time_ms: int
    """By the gateway's clock; nothing depends on it."""
    byte_count: int
    """Read in this tab so far, under all orders."""
    order_count: int
    """Orders read under in this tab so far."""
    entries: Mapping[bytes, int]
    """Bytes so far by order serial, of the orders read under since the receipt before."""


def _entries_of(receipt: ReadReceipt) -> bytes:
    return b"".join(_ENTRY.pack(serial, count) for serial, count in receipt.entries.items())


def sign_read_receipt(gateway: Identity, receipt: ReadReceipt) -> bytes:
    """Return the signed form: head, the gateway's signature, entries.

    Raises ``BAD_REQUEST`` for fields out of range.
    """
    if not 1 <= len(receipt.entries) <= ENTRIES_MAX or receipt.of.gateway_key != gateway.public_key:
        raise _malformed("its entries are none or too many, or it is another's")
    try:
        entries = _entries_of(receipt)
        head = _HEAD.pack(
            RECEIPT_VERSION,
            0,
            len(receipt.entries),
            receipt.of.gateway_key,
            receipt.of.node_id,
            receipt.of.coordinator_key,
            receipt.of.tab,
            receipt.sequence,
            receipt.time_ms,
            receipt.byte_count,
            receipt.order_count,
            hashlib.sha256(entries).digest(),
        )
    except struct.error as cause:
        raise _malformed(f"out of range: {cause}") from cause
    return head + gateway.sign(READ_PURPOSE, head) + entries


def _malformed(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "check receipt", f"the receipt is malformed: {message}")


def parse_head(signed: bytes) -> ReadReceipt:
    """Read a head (with or without what follows) without checking anything that is signed.

    Its entries are left out. Raises ``BAD_REQUEST``, ``NEWER_FORMAT``.
    """
    if len(signed) < SIGNED_HEAD_BYTES:
        raise _malformed("it is cut short")
    version, reserved, _, gateway, node, coordinator, tab, *figures, _ = _HEAD.unpack_from(signed)
    if version != RECEIPT_VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT, "check receipt", f"version {version} of receipts is not known here"
        )
    if reserved or signed[1] or max(figures) > FIGURE_MAX or not figures[0]:
        raise _malformed("a reserved byte is set, or a number is out of range")
    sequence, time_ms, byte_count, order_count = figures
    return ReadReceipt(
        Tab(gateway, node, coordinator, tab), sequence, time_ms, byte_count, order_count, {}
    )


def parse_read_receipt(signed: bytes) -> ReadReceipt:
    """Read a receipt **without** checking its signature. Raises ``BAD_REQUEST``, ``NEWER_FORMAT``.

    What is checked: its form, and that the entries are those that the head names.
    """
    receipt = parse_head(signed)
    count = _HEAD.unpack_from(signed)[2]
    body = signed[SIGNED_HEAD_BYTES:]
    if not 1 <= count <= ENTRIES_MAX or len(body) != count * ENTRY_BYTES:
        raise _malformed("its length does not fit its entries")
    if hashlib.sha256(body).digest() != signed[HEAD_BYTES - 32 : HEAD_BYTES]:
        raise _malformed("its entries are not those that were signed")
    entries = dict(_ENTRY.iter_unpack(body))
    if len(entries) != count or max(entries.values()) > FIGURE_MAX:
        raise _malformed("an order is named twice, or a number is out of range")
    return ReadReceipt(
        receipt.of,
        receipt.sequence,
        receipt.time_ms,
        receipt.byte_count,
        receipt.order_count,
        entries,
    )


def gateway_signed(signed: bytes) -> bool:
    """Say whether the gateway that a receipt names signed its head (0.1 ms)."""
    head, signature = signed[:HEAD_BYTES], signed[HEAD_BYTES:SIGNED_HEAD_BYTES]
    return signature_holds(parse_head(signed).of.gateway_key, READ_PURPOSE, head, signature)


def sign_claim(node: Identity, signed: bytes) -> bytes:
    """Return the node's signature under a receipt's head and the gateway's signature."""
    return node.sign(CLAIM_PURPOSE, signed[:SIGNED_HEAD_BYTES])


def node_signed(signed: bytes, node_key: bytes, signature: bytes) -> bool:
    """Say whether the node that a receipt names, whose key this is, signed it too (0.1 ms)."""
    if len(node_key) != PUBLIC_KEY_BYTES or node_id_of(node_key) != parse_head(signed).of.node_id:
        return False
    return signature_holds(node_key, CLAIM_PURPOSE, signed[:SIGNED_HEAD_BYTES], signature)


assert _HEAD.size == 8 + 2 * PUBLIC_KEY_BYTES + NODE_ID_BYTES + SHORT_ID_BYTES + 4 * 8 + 32
