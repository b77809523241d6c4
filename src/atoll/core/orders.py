"""Order limits and receipts: what a node may do, who allows it, and that it was done.

A coordinator signs many order limits at once: one Ed25519 signature over the top of a Merkle tree
of all of them. Every signed order carries its way to that top, so it stands alone. A node answers a
stored piece with a signed receipt.

Verifying a signature costs 0.1 ms, which is most of what a small piece costs a node. So a
coordinator may add a MAC under a *link key* that it shares with one node: the node may then obey on
the MAC alone. The signature is always there, for settlement and for whoever else asks.

What is *not* decided here, and must be asked by the node: is it me (``node_id``), is it this piece
(``segment_id``, ``index``), is the serial unspent, is the body within ``byte_cap``.

Normative text: ``docs/spec/orders.md``. Vectors: ``tests/golden/vectors/orders.json``.
"""

import hashlib
import hmac
import struct
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import (
    NODE_ID_BYTES,
    PUBLIC_KEY_BYTES,
    SHORT_ID_BYTES,
    NodeId,
    OrderSerial,
    PayerTag,
    SegmentId,
    node_id_of,
)
from atoll.core.merkle import HASH_BYTES, ORDER_TAG, path_of, top_by_path, tree_levels

ANY_INDEX = 255
"""An order limit with this index admits any one piece of its segment."""
BATCH_LIMITS_MAX = 65_535
ORDER_VERSION = 1
ORDER_RETENTION_MS_MAX = 10 * 366 * 24 * 3_600_000
"""So long a coordinator's order may hold a piece by itself, from its issue on."""
ORDER_PURPOSE = b"order-batch/1"
RECEIPT_PURPOSE = b"piece-receipt/1"
VERIFIED_BATCHES_MAX = 1024
"""Batches whose signature was verified lately in this process; the oldest is forgotten first."""

_LIMIT = struct.Struct(">BBBxQQQQQ32s16s16s16s32s")
_NODE_START = 4 + 5 * 8
_SERIAL_START = _NODE_START + NODE_ID_BYTES + SHORT_ID_BYTES
_TAG_START = _SERIAL_START + SHORT_ID_BYTES
_TAG_END = _TAG_START + SHORT_ID_BYTES
_BATCH = struct.Struct(">32sHHB")
_SIGNED = struct.Struct(">H32s")
_RECEIPT = struct.Struct(">BBxxQ16s16s32s32s")
LIMIT_BYTES = _LIMIT.size
_BATCH_START = LIMIT_BYTES
LINK_KEY_BYTES = 32
LINK_MAC_BYTES = 16
SIGNED_ORDER_BYTES_MAX = (
    LIMIT_BYTES + _BATCH.size + 16 * HASH_BYTES + SIGNATURE_BYTES + LINK_MAC_BYTES
)
SIGNED_RECEIPT_BYTES = _RECEIPT.size + SIGNATURE_BYTES


class Action(IntEnum):
    """What an order limit admits."""

    PUT = 1
    GET = 2
    DELETE = 3
    REPAIR_PUT = 4
    REPAIR_GET = 5
    AUDIT = 6


@dataclass(frozen=True, slots=True)
class OrderLimit:
    """The most that one party may do with one piece at one node, once, until it expires."""

    action: Action
    node_id: NodeId
    segment_id: SegmentId
    segment_serial: int
    """The segment's number at this coordinator (1..2^63-1), given once; 0 where there is none."""
    index: int
    """0..254, or ``ANY_INDEX``: any one piece of the segment."""
    byte_cap: int
    """Bytes of a record that may be stored, or of data that may be served."""
    issued_ms: int
    expires_ms: int
    serial: OrderSerial
    payer_tag: PayerTag
    gateway_key: bytes
    """Ed25519 key of the party that may use it; empty in a ``REPAIR_PUT``."""
    retention_until_ms: int = 0
    """Not to be deleted before; 0 for none."""
    segment_root: bytes = b""
    """``REPAIR_PUT`` alone: whoever shows it may store only what this root commits to."""


def _bound_to(limit: OrderLimit) -> bytes:
    """Return what the limit is bound to: the root of what may be stored, else a party's key."""
    if limit.action is Action.REPAIR_PUT:
        return limit.segment_root
    if limit.segment_root:
        raise AtollError(Kind.BAD_REQUEST, "sign order", "only a repair is bound to a root")
    return limit.gateway_key


def _encode_limit(limit: OrderLimit) -> bytes:
    bound = _bound_to(limit)
    lengths = (
        (limit.node_id, NODE_ID_BYTES),
        (limit.segment_id, SHORT_ID_BYTES),
        (limit.serial, SHORT_ID_BYTES),
        (limit.payer_tag, SHORT_ID_BYTES),
        (bound, PUBLIC_KEY_BYTES),
    )
    if any(len(field) != length for field, length in lengths):
        raise AtollError(Kind.BAD_REQUEST, "sign order", "an id or key has a wrong length")
    try:
        return _LIMIT.pack(
            ORDER_VERSION,
            limit.action,
            limit.index,
            limit.byte_cap,
            limit.issued_ms,
            limit.expires_ms,
            limit.retention_until_ms,
            limit.segment_serial,
            limit.node_id,
            limit.segment_id,
            limit.serial,
            limit.payer_tag,
            bound,
        )
    except struct.error as cause:
        raise AtollError(Kind.BAD_REQUEST, "sign order", f"out of range: {cause}") from cause


def _leaf(limit: bytes) -> bytes:
    return hashlib.sha256(ORDER_TAG + limit).digest()


def link_key(secret: bytes, node_id: bytes) -> bytes:
    """Return the key shared with one node, from a secret of the coordinator (32 bytes)."""
    return hmac.digest(secret, b"atoll/link/1\0" + node_id, hashlib.sha256)


def _link_mac(key: bytes, order: bytes) -> bytes:
    return hmac.digest(key, order, hashlib.sha256)[:LINK_MAC_BYTES]


def _settlement_tag(key: bytes, limit: bytes) -> bytes:
    # Keyed BLAKE2b (RFC 7693) takes half the time of HMAC: every read limit has such a tag.
    tag = hashlib.blake2b(limit[:_TAG_START], digest_size=SHORT_ID_BYTES, key=key)
    tag.update(limit[_TAG_END:])
    return tag.digest()


def issued_with(settlement_key: bytes, limit: bytes) -> bool:
    """Say whether an encoded limit is of a batch that was signed with this settlement key.

    A coordinator recognises its own orders by it at a twentieth of a signature's price.
    """
    if len(limit) != LIMIT_BYTES:
        return False
    tag = limit[_TAG_START:_TAG_END]
    return hmac.compare_digest(_settlement_tag(settlement_key, limit), tag)


def sign_orders(
    identity: Identity,
    limits: Sequence[OrderLimit],
    link_keys: Mapping[bytes, bytes] | None = None,
    settlement_key: bytes = b"",
) -> list[bytes]:
    """Return one signed order per limit, at the cost of one signature.

    Orders for nodes whose id is in ``link_keys`` carry a MAC under that key as well. With
    ``settlement_key`` (32 bytes, the coordinator's own secret) payer tags are replaced by tags that
    only who has the key can make (``issued_with``). Raises ``BAD_REQUEST`` for fields out of range
    or more than ``BATCH_LIMITS_MAX`` limits.
    """
    count = len(limits)
    if not count:
        return []
    if count > BATCH_LIMITS_MAX:
        raise AtollError(
            Kind.BAD_REQUEST, "sign order", f"a batch has at most {BATCH_LIMITS_MAX} limits"
        )
    encoded = [_encode_limit(limit) for limit in limits]
    if settlement_key:
        encoded = [
            limit[:_TAG_START] + _settlement_tag(settlement_key, limit) + limit[_TAG_END:]
            for limit in encoded
        ]
    levels = tree_levels([_leaf(limit) for limit in encoded])
    signature = identity.sign(ORDER_PURPOSE, _SIGNED.pack(count, levels[-1][0]))
    signed = []
    for position, limit in enumerate(encoded):
        path = path_of(levels, position)
        batch = _BATCH.pack(identity.public_key, count, position, len(path))
        order = b"".join((limit, batch, *path, signature))
        key = link_keys.get(limits[position].node_id) if link_keys else None
        signed.append(order + _link_mac(key, order) if key else order)
    return signed


_verified: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()


def _batch_holds(coordinator_key: bytes, message: bytes, signature: bytes) -> bool:
    batch = (coordinator_key, message, signature)
    if batch in _verified:
        return True
    if not signature_holds(coordinator_key, ORDER_PURPOSE, message, signature):
        return False
    _verified[batch] = None
    if len(_verified) > VERIFIED_BATCHES_MAX:
        _verified.popitem(last=False)
    return True


def parse_order(signed: bytes) -> OrderLimit:
    """Read a signed order, or a limit, **without** checking who signed it.

    Raises ``BAD_REQUEST``, ``NEWER_FORMAT``.
    """
    if len(signed) < LIMIT_BYTES:
        raise _malformed("it is cut short")
    fields = _LIMIT.unpack_from(signed)
    version, action, index, byte_cap, issued, expires, retention, segment_serial = fields[:8]
    if version != ORDER_VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT, "check order", f"version {version} of orders is not known here"
        )
    if signed[3]:
        raise _malformed("a reserved byte is set")
    try:
        known_action = Action(action)
    except ValueError:
        raise _malformed(f"action {action} is not known") from None
    node_id, segment_id, serial, payer_tag, bound = fields[8:]
    repair = known_action is Action.REPAIR_PUT
    return OrderLimit(
        action=known_action,
        node_id=NodeId(node_id),
        segment_id=SegmentId(segment_id),
        segment_serial=segment_serial,
        index=index,
        byte_cap=byte_cap,
        issued_ms=issued,
        expires_ms=expires,
        serial=OrderSerial(serial),
        payer_tag=PayerTag(payer_tag),
        gateway_key=b"" if repair else bound,
        retention_until_ms=retention,
        segment_root=bound if repair else b"",
    )


def _malformed(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "check order", f"the order is malformed: {message}")


def is_customers_read(signed: bytes) -> bool:
    """Say whether these bytes are meant as an order that is settled by receipts: a ``GET``."""
    return len(signed) > _BATCH_START and signed[0] == ORDER_VERSION and signed[1] == Action.GET


class ReadLimit(NamedTuple):
    """What settling asks of a read limit; made by the thousand, so not an ``OrderLimit``."""

    byte_cap: int
    issued_ms: int
    segment_serial: int
    node_id: bytes
    segment_id: bytes
    gateway_key: bytes


def read_limit_of(limit: bytes) -> ReadLimit | None:
    """Return an encoded limit that was recognised (``issued_with``); None if it is no ``GET``."""
    version, action, _, cap, issued_ms, _, _, number, *names = _LIMIT.unpack(limit)
    if version != ORDER_VERSION or action != Action.GET:
        return None
    node_id, segment_id, _, _, gateway_key = names
    return ReadLimit(cap, issued_ms, number, node_id, segment_id, gateway_key)


def serial_of(signed: bytes) -> bytes:
    """Return the serial of an order or an encoded limit, unchecked."""
    return signed[_SERIAL_START:_TAG_START]


def parties_of(signed: bytes) -> tuple[bytes, bytes]:
    """Return node id and coordinator's key of a signed order, unchecked."""
    return (
        signed[_NODE_START : _NODE_START + NODE_ID_BYTES],
        signed[_BATCH_START : _BATCH_START + PUBLIC_KEY_BYTES],
    )


def check_order(
    signed: bytes,
    coordinator_keys: Collection[bytes],
    now_ms: int,
    skew_ms: int,
    link_keys: Mapping[bytes, bytes] | None = None,
) -> OrderLimit:
    """Return the limit of a signed order that one of these coordinators issued and that is in time.

    ``link_keys`` (coordinator key to link key) lets a right MAC stand for the signature; where it
    is absent or wrong the signature decides.

    Raises ``BAD_REQUEST`` (malformed), ``NEWER_FORMAT``, ``UNAUTHENTICATED`` (another coordinator,
    or the signature does not hold), ``EXPIRED`` (over by more than ``skew_ms``) and ``CLOCK_SKEW``
    (issued in the future by more than that). Several orders of one batch cost one verification.
    """
    limit = parse_order(signed)
    if len(signed) < LIMIT_BYTES + _BATCH.size:
        raise _malformed("it is cut short")
    coordinator_key, count, position, hashes = _BATCH.unpack_from(signed, LIMIT_BYTES)
    path_start = LIMIT_BYTES + _BATCH.size
    path_end = path_start + hashes * HASH_BYTES
    signature_end = path_end + SIGNATURE_BYTES
    if len(signed) not in (signature_end, signature_end + LINK_MAC_BYTES):
        raise _malformed("its length does not fit its path")
    if coordinator_key not in coordinator_keys:
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check order",
            "the order is of a coordinator that this node does not serve",
            about=coordinator_key.hex()[:10],
        )
    key = link_keys.get(coordinator_key) if link_keys else None
    order, mac = signed[:signature_end], signed[signature_end:]
    if not (key and mac and hmac.compare_digest(_link_mac(key, order), mac)):
        _check_signature(order, coordinator_key, count, position, path_start, path_end)
    _check_time(limit, now_ms, skew_ms)
    return limit


def _check_signature(
    signed: bytes, coordinator_key: bytes, count: int, position: int, path_start: int, path_end: int
) -> None:
    path = [signed[i : i + HASH_BYTES] for i in range(path_start, path_end, HASH_BYTES)]
    top = top_by_path(_leaf(signed[:LIMIT_BYTES]), position, count, path)
    if top is None:
        raise _malformed("its path does not fit its place in the batch")
    if not _batch_holds(coordinator_key, _SIGNED.pack(count, top), signed[path_end:]):
        raise AtollError(Kind.UNAUTHENTICATED, "check order", "the order's signature does not hold")


def _check_time(limit: OrderLimit, now_ms: int, skew_ms: int) -> None:
    if now_ms > limit.expires_ms + skew_ms:
        raise AtollError(
            Kind.EXPIRED,
            "check order",
            f"the order expired {(now_ms - limit.expires_ms) // 1000} s ago",
        )
    if now_ms < limit.issued_ms - skew_ms:
        raise AtollError(
            Kind.CLOCK_SKEW,
            "check order",
            f"the order is issued {(limit.issued_ms - now_ms) // 1000} s in the future",
            hint="set the clock of this machine (NTP)",
        )
    if limit.retention_until_ms > limit.issued_ms + ORDER_RETENTION_MS_MAX:
        raise AtollError(
            Kind.BAD_REQUEST,
            "check order",
            "an order holds a piece for ten years at most",
            hint="the owner's lock key reaches further",
        )


# --- receipts ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PieceReceipt:
    """A node's word that it holds a piece durably."""

    node_id: NodeId
    segment_id: SegmentId
    index: int
    piece_root: bytes
    serial: OrderSerial
    """Of the order limit that admitted it."""
    time_ms: int
    """By the node's clock."""


def sign_receipt(identity: Identity, receipt: PieceReceipt) -> bytes:
    """Return the signed form (``SIGNED_RECEIPT_BYTES`` long) of a node's own receipt."""
    assert receipt.node_id == identity.node_id
    assert len(receipt.piece_root) == HASH_BYTES
    body = _RECEIPT.pack(
        ORDER_VERSION,
        receipt.index,
        receipt.time_ms,
        receipt.segment_id,
        receipt.serial,
        receipt.piece_root,
        identity.public_key,
    )
    return body + identity.sign(RECEIPT_PURPOSE, body)


def parse_receipt(signed: bytes) -> PieceReceipt:
    """Read a signed receipt **without** checking its signature (0.1 ms). Raises ``BAD_REQUEST``."""
    if len(signed) != SIGNED_RECEIPT_BYTES:
        raise AtollError(
            Kind.BAD_REQUEST,
            "check receipt",
            f"a receipt has {SIGNED_RECEIPT_BYTES} bytes, not {len(signed)}",
        )
    version, index, time_ms, segment_id, serial, root, public_key = _RECEIPT.unpack_from(signed)
    if version != ORDER_VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT, "check receipt", f"version {version} of receipts is not known here"
        )
    if signed[2] or signed[3]:
        raise AtollError(Kind.BAD_REQUEST, "check receipt", "a reserved byte is set")
    return PieceReceipt(
        node_id=node_id_of(public_key),
        segment_id=SegmentId(segment_id),
        index=index,
        piece_root=root,
        serial=OrderSerial(serial),
        time_ms=time_ms,
    )


def check_receipt(signed: bytes, node_id: bytes | None = None) -> PieceReceipt:
    """Return a receipt that its node signed; with ``node_id``, that very node.

    Raises ``BAD_REQUEST`` (malformed), ``NEWER_FORMAT`` and ``UNAUTHENTICATED``.
    """
    receipt = parse_receipt(signed)
    body, signature = signed[: _RECEIPT.size], signed[_RECEIPT.size :]
    if node_id is not None and receipt.node_id != node_id:
        raise AtollError(Kind.UNAUTHENTICATED, "check receipt", "another node signed the receipt")
    if not signature_holds(body[-PUBLIC_KEY_BYTES:], RECEIPT_PURPOSE, body, signature):
        raise AtollError(
            Kind.UNAUTHENTICATED, "check receipt", "the receipt's signature does not hold"
        )
    return receipt
