"""What a node asks of an order before it obeys, and how much of a read order is used up."""

import base64
import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PUBLIC_KEY_BYTES, NodeId, PieceId, piece_id_of
from atoll.core.orders import (
    ANY_INDEX,
    LIMIT_BYTES,
    SIGNED_ORDER_BYTES_MAX,
    Action,
    OrderLimit,
    check_order,
)
from atoll.core.ports import Clock
from atoll.node.store.volume import Admission

ORDER_TEXT_BYTES_MAX = -(-SIGNED_ORDER_BYTES_MAX // 3) * 4
READS = frozenset({Action.GET, Action.REPAIR_GET, Action.AUDIT})
WRITES = frozenset({Action.PUT, Action.REPAIR_PUT})
DELETES = frozenset({Action.DELETE})
READ_ORDERS_MAX = 65_536
"""Read orders whose use is counted at a time; the one used longest ago is forgotten first."""


def order_of_header(value: bytes) -> bytes:
    """Return the signed order in a header's value. Raises ``UNAUTHENTICATED``, ``BAD_REQUEST``."""
    if not value:
        raise AtollError(Kind.UNAUTHENTICATED, "check order", "the request carries no order")
    if len(value) > ORDER_TEXT_BYTES_MAX:
        raise AtollError(Kind.BAD_REQUEST, "check order", "the order is longer than any order")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise AtollError(Kind.BAD_REQUEST, "check order", "the order is not base64") from None


def issuer_of(signed: bytes) -> int:
    """Return the short name of the coordinator that signed a (checked) order: see ``Envelope``."""
    return issuer_of_key(signed[LIMIT_BYTES : LIMIT_BYTES + PUBLIC_KEY_BYTES])


def issuer_of_key(key: bytes) -> int:
    """Return the short name of the coordinator with this public key."""
    # SQLite's whole numbers have 63 bits and a sign.
    return int.from_bytes(hashlib.sha256(key).digest()[:7], "little")


class OrderDesk:
    """Checks orders addressed to this node, and counts what read orders have served."""

    def __init__(
        self, node_id: NodeId, coordinators: Mapping[bytes, bytes], clock: Clock, skew_ms: int
    ) -> None:
        """``coordinators`` (key to link key, or to nothing) may change; every order asks it."""
        self._node_id = node_id
        self._coordinators = coordinators
        self._clock = clock
        self._skew_ms = skew_ms
        self._served: OrderedDict[bytes, int] = OrderedDict()

    def check(self, signed: bytes, actions: Collection[Action]) -> OrderLimit:
        """Return the limit of an order that this node may obey now.

        Raises what ``check_order`` raises, and ``FORBIDDEN`` for another node or action.
        """
        now_ms = self._clock.now_ms()
        limit = check_order(
            signed, self._coordinators, now_ms, self._skew_ms, link_keys=self._coordinators
        )
        if limit.node_id != self._node_id:
            raise AtollError(Kind.FORBIDDEN, "check order", "the order is for another node")
        if limit.action not in actions:
            raise AtollError(
                Kind.FORBIDDEN, "check order", f"the order is for {limit.action.name}, not this"
            )
        return limit

    def check_piece(self, limit: OrderLimit, piece: bytes) -> None:
        """Raise ``FORBIDDEN`` for a piece that the order does not name.

        An order for any one piece of a segment says only the segment: the caller compares that.
        """
        if limit.index != ANY_INDEX and piece_id_of(limit.segment_id, limit.index) != piece:
            raise AtollError(Kind.FORBIDDEN, "check order", "the order is for another piece")

    def charge(self, limit: OrderLimit, length: int) -> None:
        """Count bytes to be served by a read order. Raises ``FORBIDDEN`` over its cap."""
        served = self._served.get(limit.serial, 0)
        if served + length > limit.byte_cap:
            raise AtollError(
                Kind.FORBIDDEN,
                "read piece",
                f"the order allows {limit.byte_cap} bytes, {served} are served already",
            )
        self._served[limit.serial] = served + length
        self._served.move_to_end(limit.serial)
        if len(self._served) > READ_ORDERS_MAX:
            self._served.popitem(last=False)

    def refund(self, limit: OrderLimit, length: int) -> None:
        """Take back what was charged and not served."""
        if limit.serial in self._served:
            self._served[limit.serial] -= length


def admission_of(limit: OrderLimit, signed: bytes, piece: bytes) -> Admission:
    """Return what the store needs to know of an order."""
    return Admission(
        piece=PieceId(piece),
        segment=limit.segment_id,
        serial=limit.serial,
        issued_ms=limit.issued_ms,
        expires_ms=limit.expires_ms,
        retention_until_ms=limit.retention_until_ms,
        issuer=issuer_of(signed),
        segment_serial=limit.segment_serial,
        segment_root=limit.segment_root,
    )


def piece_of_delete(limit: OrderLimit) -> PieceId:
    """Return the piece that a DELETE order names. Raises ``BAD_REQUEST`` if it names none."""
    if limit.index == ANY_INDEX:
        raise AtollError(Kind.BAD_REQUEST, "delete piece", "a deletion names one piece")
    return piece_id_of(limit.segment_id, limit.index)
