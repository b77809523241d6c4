"""Retention over HTTP: records in, the records kept out, and leave for what is handed over.

No order and no coordinator is needed: a record carries the signature it is obeyed for. Specified in
``docs/spec/retention.md``.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SHORT_ID_BYTES, PieceId, SegmentId, piece_id_of
from atoll.core.messages.retention import (
    RETENTION_ITEMS_MAX,
    RETENTION_PATH,
    RETENTION_SHOW_PATH,
    RetentionItem,
    RetentionOutcome,
)
from atoll.core.orders import check_receipt
from atoll.core.ports import Clock
from atoll.core.retention import (
    Order,
    RetentionReceipt,
    check_record,
    check_retention_receipt,
    compare,
    parse_record,
    record_digest,
    sign_retention_receipt,
)
from atoll.node import http
from atoll.node.http import Receive, Scope, Send
from atoll.node.part import NodePart, Route
from atoll.node.store.store import PieceStore

BODY_BYTES_MAX = RETENTION_ITEMS_MAX * 320 + 16
REQUESTS_MAX = 4
"""Requests worked on at the same time; more are refused as ``OVERLOADED``."""
ITEMS_AT_ONCE = 32
"""They share a sync of the log; more would hold up everybody else with their signatures."""
_ITEMS = msgspec.msgpack.Decoder(list[RetentionItem])
_PIECES = msgspec.msgpack.Decoder(list[bytes])


class NodeRetention(NodePart):
    """Takes and shows retention records; says which pieces may leave with this node."""

    def __init__(self, store: PieceStore, identity: Identity, clock: Clock, stall_s: float) -> None:
        """Serve ``store`` under this identity; a body that takes longer than ``stall_s`` ends."""
        self._stall_s = stall_s
        self._store = store
        self._identity = identity
        self._clock = clock
        self._requests = 0
        self.routes: Mapping[tuple[str, str], Route] = {
            ("POST", RETENTION_PATH): self._take,
            ("POST", RETENTION_SHOW_PATH): self._show,
        }

    # --- records in ---

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        items = await self._read(receive, _ITEMS)
        self._requests += 1
        try:
            outcomes: list[RetentionOutcome] = []
            for start in range(0, len(items), ITEMS_AT_ONCE):
                some = items[start : start + ITEMS_AT_ONCE]
                outcomes += await asyncio.gather(*(self._take_one(item) for item in some))
        finally:
            self._requests -= 1
        await http.send_whole(send, 200, http.MSGPACK, msgspec.msgpack.encode(outcomes))

    async def _take_one(self, item: RetentionItem) -> RetentionOutcome:
        piece: bytes | None = None
        try:
            record = parse_record(item.record)
            piece = piece_id_of(record.segment_id, item.index)
            kept = await self._store.extend_retention(piece, item.record, item.grant)
        except (AtollError, ValueError) as error:
            kind = error.kind if isinstance(error, AtollError) else Kind.BAD_REQUEST
            return RetentionOutcome(kind.value, b"", self._newest(piece))
        if kept.signed != item.record:
            return RetentionOutcome(Kind.CONFLICT.value, b"", kept.signed)
        receipt = RetentionReceipt(
            self._identity.node_id,
            record.segment_id,
            item.index,
            record_digest(item.record),
            self._clock.now_ms(),
        )
        signed = sign_retention_receipt(self._identity, receipt)
        return RetentionOutcome("", signed, kept.signed)

    def _newest(self, piece: bytes | None) -> bytes:
        kept = None if piece is None else self._store.kept_retention(piece)
        return b"" if kept is None else kept.signed

    # --- records out ---

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = await self._read(receive, _PIECES)
        if any(len(piece) != SHORT_ID_BYTES for piece in pieces):
            raise AtollError(Kind.BAD_REQUEST, "show retention", "a piece id has 16 bytes")
        kept = [self._store.kept_retention(piece) for piece in pieces]
        records = [b"" if one is None else one.body for one in kept]
        await http.send_whole(send, 200, http.MSGPACK, msgspec.msgpack.encode(records))

    async def _read(
        self, receive: Receive, decoder: "msgspec.msgpack.Decoder[list[Any]]"
    ) -> list[Any]:
        if self._requests >= REQUESTS_MAX:
            raise AtollError(Kind.OVERLOADED, "take retention records", "too many at a time")
        body = await http.read_body(receive, BODY_BYTES_MAX, self._stall_s)
        try:
            items = decoder.decode(body)
        except msgspec.MsgspecError as cause:
            raise AtollError(Kind.BAD_REQUEST, "read request", str(cause)) from cause
        if len(items) > RETENTION_ITEMS_MAX:
            raise AtollError(
                Kind.TOO_LARGE, "read request", f"at most {RETENTION_ITEMS_MAX} items at once"
            )
        return items

    # --- leaving ---

    async def let_go(
        self, piece: bytes, piece_receipt: bytes, retention_receipt: bytes, record: bytes
    ) -> None:
        """Note that a retained piece lies at another node now, under a record not older than ours.

        For exit, evacuation and drain, which are this node's own wish: nobody else can ask for it.
        Until then ``PieceStore.retained`` holds the piece. Raises ``RETAINED`` where the receipts
        do not show all of that, and what checking them raises.
        """
        kept = self._store.kept_retention(piece)
        if kept is None:
            return
        holder = check_receipt(piece_receipt)
        obeys = check_retention_receipt(retention_receipt, holder.node_id)
        place = (holder.segment_id, holder.index)
        theirs = check_record(record, kept.record.segment_id)
        same = (
            holder.node_id != self._identity.node_id
            and place == (obeys.segment_id, obeys.index)
            and piece_id_of(SegmentId(holder.segment_id), holder.index) == PieceId(piece)
            and obeys.record_digest == record_digest(record)
            and compare(kept.record, theirs) is not Order.OLDER
        )
        if not same:
            raise AtollError(
                Kind.RETAINED,
                "let a piece go",
                "the receipts do not show another holder under the record kept here",
                about=piece.hex()[:10],
            )
        await self._store.hand_over(piece, retention_receipt, theirs)
