"""The node's HTTP interface: pieces in and out, deletions, health, metrics. A plain ASGI app.

Specified in ``docs/spec/node-api.md``. Nobody is trusted here: whatever is wrong with a request is
answered by a typed failure, and nothing is stored or served without an order that holds.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from atoll import __version__
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages.terms import TermsShown
from atoll.core.orders import (
    ANY_INDEX,
    SIGNED_ORDER_BYTES_MAX,
    Action,
    OrderLimit,
    PieceReceipt,
    sign_receipt,
)
from atoll.core.owner import is_owner_proof
from atoll.core.pieces import parse_header
from atoll.core.ports import Clock, PiecePart
from atoll.node import http
from atoll.node.config import NodeConfig
from atoll.node.gate import Gate
from atoll.node.http import Receive, Scope, Send
from atoll.node.metrics import metrics_text
from atoll.node.orders import (
    DELETES,
    READS,
    WRITES,
    OrderDesk,
    admission_of,
    issuer_of,
    order_of_header,
    piece_of_delete,
)
from atoll.node.owner_access import OwnerAccess
from atoll.node.part import Route
from atoll.node.receipts.model import OpenOrder
from atoll.node.receipts.service import ReceiptKeeper
from atoll.node.store.model import Row
from atoll.node.store.store import PieceReader, PieceStore
from atoll.node.traffic import TrafficMeter

_LOG = logging.getLogger(__name__)
PIECES_PREFIX = "/v1/pieces/"
DELETE_ORDERS_MAX = 1000
DELETE_BODY_BYTES_MAX = DELETE_ORDERS_MAX * (SIGNED_ORDER_BYTES_MAX + 5) + 5
READ_CHUNK_BYTES = 256 << 10
"""Longer reads are sent in chunks of this length: what one download holds in memory."""
UPLOAD_HOLD_BYTES = 640 << 10
"""What one upload holds in memory: a block being gathered or written, and one arriving."""
_ORDERS = msgspec.msgpack.Decoder(list[bytes])


class Health(msgspec.Struct, frozen=True):
    """The answer of ``/v1/health``."""

    node_id: str
    version: str
    state: str
    """``ok``, ``full`` (takes no new pieces) or ``failed`` (the disk failed: serves reads only)."""
    capacity_bytes: int
    used_bytes: int
    trash_bytes: int
    free_bytes: int
    pieces: int
    lost_pieces: int
    coordinators: int
    refuses: str = ""
    """Why new pieces are refused now; empty where they are not."""
    moving: str = ""
    """Why pieces move elsewhere: ``evacuate``, ``exit``, ``shrink``, or empty."""
    pressure_level: int = 0
    """How far the node gives way to other work on its machine, 0..3."""


@dataclass(slots=True)
class _Progress:
    """How much of a download went out."""

    sent: int = 0
    order: OpenOrder | None = None
    """The order that it is settled under, if it is."""
    counted: int = 0
    """Bytes counted under the order."""


class NodeApp:
    """The ASGI app over one store."""

    def __init__(
        self,
        store: PieceStore,
        identity: Identity,
        config: NodeConfig,
        clock: Clock,
        desk: OrderDesk,
        meter: TrafficMeter | None = None,
        receipts: ReceiptKeeper | None = None,
    ) -> None:
        """Serve ``store``, which is open, under this identity.

        With ``receipts``, customers' reads go on as long as receipts come for them.
        """
        self._receipts = receipts
        self._store = store
        self._identity = identity
        self._node_id = identity.node_id
        self._config = config
        self._clock = clock
        self._desk = desk
        self._meter = meter or TrafficMeter(clock)
        self._gate = Gate(
            config.transfer_memory_bytes, config.transfers_waiting_max, config.transfer_wait_s
        )
        self._deletes = 0
        self.owners = OwnerAccess(store, identity.node_id, clock)
        """Owners who come without an order."""
        self.coordinators = 0
        self.terms: Callable[[], TermsShown] | None = None
        """Tells how the node stands by its provider's terms."""
        self.routes: dict[tuple[str, str], Route] = {}
        """Paths that other parts of the node answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = False

        async def watched(event: object) -> None:
            nonlocal began
            began = True
            await send(event)  # type: ignore[arg-type]

        try:
            await self._route(scope, receive, watched)
        except AtollError as error:
            if error.kind is Kind.INTERNAL:
                self._store.counts.errors += 1
                _LOG.error("%s %s: %s", scope["method"], scope["path"], error)
            if began:
                # The answer's length was announced: only a cut connection says that it failed.
                raise
            await http.send_failure(send, error)
        except Exception as cause:
            self._store.counts.errors += 1
            _LOG.exception("%s %s", scope["method"], scope["path"])
            if began:
                raise
            failure = AtollError(Kind.INTERNAL, "answer request", type(cause).__name__)
            await http.send_failure(send, failure)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path.startswith(PIECES_PREFIX):
            piece = _piece_id(path[len(PIECES_PREFIX) :])
            if method == "PUT":
                await self._put(scope, receive, send, piece)
                return
            if method == "GET":
                await self._get(scope, receive, send, piece)
                return
        elif path == "/v1/delete" and method == "POST":
            await self._delete(scope, receive, send)
            return
        elif path == "/v1/health" and method == "GET":
            await http.send_whole(send, 200, http.JSON, msgspec.json.encode(self.health()))
            return
        elif path == "/v1/metrics" and method == "GET":
            await http.send_whole(send, 200, http.TEXT, metrics_text(self._store))
            return
        elif (method, path) in self.routes:
            await self.routes[method, path](scope, receive, send)
            return
        elif path not in ("/v1/delete", "/v1/health", "/v1/metrics"):
            raise AtollError(Kind.NOT_FOUND, "answer request", "no such path")
        raise AtollError(Kind.BAD_REQUEST, "answer request", f"{method} is not for this path")

    # --- in ---

    async def _put(self, scope: Scope, receive: Receive, send: Send, piece: bytes) -> None:
        signed = order_of_header(http.header_of(scope, b"x-atoll-order"))
        limit = self._desk.check(signed, WRITES)
        self._desk.check_piece(limit, piece)
        length = http.body_length_of(scope)
        if length > limit.byte_cap:
            raise AtollError(
                Kind.TOO_LARGE, "store piece", f"the order allows {limit.byte_cap} bytes"
            )
        self._meter.check_write()
        async with self._gate.hold(min(length, UPLOAD_HOLD_BYTES)):
            upload = self._store.begin(admission_of(limit, signed, piece), length)
            try:
                async with http.in_time(length, self._config.body_stall_s):
                    more = True
                    while more:
                        part, more = await http.read_part(receive)
                        if part:
                            await self._meter.came_in(len(part))
                            await upload.write(part)
                accepted = await upload.finish()
            finally:
                await upload.close()
        receipt = PieceReceipt(
            node_id=self._node_id,
            segment_id=accepted.header.segment_id,
            index=accepted.header.index,
            piece_root=accepted.piece_root,
            serial=accepted.serial,  # type: ignore[arg-type]
            time_ms=accepted.time_ms,
        )
        await http.send_whole(send, 201, http.BYTES, sign_receipt(self._identity, receipt))

    # --- out ---

    async def _get(self, scope: Scope, receive: Receive, send: Send, piece: bytes) -> None:
        signed = order_of_header(http.header_of(scope, b"x-atoll-order"))
        if is_owner_proof(signed):
            await self._get_owned(scope, receive, send, (piece, signed))
            return
        limit = self._desk.check(signed, READS)
        self._desk.check_piece(limit, piece)
        self._meter.check_read(limit.action)
        row = await self._store.locate(piece, limit.issued_ms)
        if limit.action is Action.REPAIR_GET and row.issuer != issuer_of(signed):
            raise AtollError(
                Kind.FORBIDDEN,
                "read piece",
                "its owner gave the piece to another coordinator: that one repairs it",
            )
        part, start, length = _range_of(scope, row)
        charged = length if part is PiecePart.DATA else 0
        self._desk.charge(limit, charged)
        progress = _Progress()
        try:
            if self._receipts is not None and charged and limit.action is Action.GET:
                progress.order = await self._receipts.open(limit, signed)
            async with self._gate.hold(min(length, READ_CHUNK_BYTES)):
                with self._store.reading(row) as reader:
                    if limit.index == ANY_INDEX:
                        await _check_segment(reader, limit)
                    await self._send_range(receive, send, reader, (start, length), progress)
        except AtollError as error:
            if error.kind is Kind.DATA_LOST:
                await self._store.damaged(piece, row)
            raise
        finally:
            self._desk.refund(limit, max(0, charged - progress.sent))
            if self._receipts is not None and progress.order is not None:
                self._receipts.ended(progress.order, progress.counted, progress.sent)

    async def _get_owned(
        self, scope: Scope, receive: Receive, send: Send, asked: tuple[bytes, bytes]
    ) -> None:
        """Serve a piece to its owner, who shows a proof instead of an order."""
        piece, proof = asked
        row = self.owners.locate(proof, piece)
        _, start, length = _range_of(scope, row)
        self.owners.charge(length)
        try:
            async with self._gate.hold(min(length, READ_CHUNK_BYTES)):
                with self._store.reading(row) as reader:
                    await self._send_range(receive, send, reader, (start, length), _Progress())
        except AtollError as error:
            if error.kind is Kind.DATA_LOST:
                await self._store.damaged(piece, row)
            raise

    async def _send_range(
        self,
        receive: Receive,
        send: Send,
        reader: PieceReader,
        span: tuple[int, int],
        progress: "_Progress",
    ) -> None:
        start, length = span
        data = await reader.read(start, min(length, READ_CHUNK_BYTES))
        await self._count(progress, len(data))
        await http.send_head(send, 200, http.BYTES, length)
        await self._send_part(send, data, more=len(data) < length)
        progress.sent = len(data)
        if len(data) == length:
            return
        gone = asyncio.create_task(_gone(receive))
        try:
            while progress.sent < length and not gone.done():
                left = length - progress.sent
                data = await reader.read(start + progress.sent, min(left, READ_CHUNK_BYTES))
                await self._count(progress, len(data))
                await self._send_part(send, data, more=len(data) < left)
                progress.sent += len(data)
        finally:
            gone.cancel()

    async def _count(self, progress: "_Progress", count: int) -> None:
        """Count bytes under the order they are settled under. Raises ``UNPAID``."""
        if self._receipts is not None and progress.order is not None:
            await self._receipts.send_on(progress.order, count)
            progress.counted += count

    async def _send_part(self, send: Send, data: bytes, *, more: bool) -> None:
        await self._meter.goes_out(len(data))
        try:
            async with asyncio.timeout(self._config.body_stall_s):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError:
            raise AtollError(Kind.TIMEOUT, "read piece", "the caller does not read on") from None

    # --- away ---

    async def _delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await http.read_body(receive, DELETE_BODY_BYTES_MAX, self._config.body_stall_s)
        try:
            orders = _ORDERS.decode(body)
        except msgspec.MsgspecError as cause:
            raise AtollError(Kind.BAD_REQUEST, "delete pieces", str(cause)) from cause
        if len(orders) > DELETE_ORDERS_MAX:
            raise AtollError(
                Kind.TOO_LARGE, "delete pieces", f"at most {DELETE_ORDERS_MAX} orders at a time"
            )
        if self._deletes >= self._config.deletes_max:
            raise AtollError(Kind.OVERLOADED, "delete pieces", "too many deletions at a time")
        self._deletes += 1
        try:
            outcomes = await asyncio.gather(*(self._delete_one(signed) for signed in orders))
        finally:
            self._deletes -= 1
        await http.send_whole(send, 200, http.MSGPACK, msgspec.msgpack.encode(outcomes))

    async def _delete_one(self, signed: bytes) -> str:
        try:
            limit = self._desk.check(signed, DELETES)
            await self._store.delete(admission_of(limit, signed, piece_of_delete(limit)))
        except AtollError as error:
            return error.kind.value
        return ""

    # --- figures ---

    def health(self) -> Health:
        """Return what ``/v1/health`` says."""
        counters = self._store.counters()
        state = "failed" if self._store.failed else "full" if self._store.full else "ok"
        terms = self.terms() if self.terms is not None else None
        return Health(
            node_id=self._node_id.hex(),
            version=__version__,
            state=state,
            capacity_bytes=self._store.config.capacity_bytes,
            used_bytes=counters.used_bytes,
            trash_bytes=counters.trash_bytes,
            free_bytes=counters.free_bytes,
            pieces=counters.pieces,
            lost_pieces=len(self._store.lost(1000)),
            coordinators=self.coordinators,
            refuses=terms.refuses if terms is not None else "",
            moving=terms.progress.reason if terms is not None else "",
            pressure_level=terms.pressure.level if terms is not None else 0,
        )


def _piece_id(text: str) -> bytes:
    if len(text) != 2 * SHORT_ID_BYTES:
        raise AtollError(Kind.BAD_REQUEST, "read request", "a piece id has 32 hex digits")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise AtollError(Kind.BAD_REQUEST, "read request", "a piece id is hexadecimal") from None


def _range_of(scope: Scope, row: Row) -> tuple[PiecePart, int, int]:
    """Return the part asked for, where it begins in the record, and its length."""
    fields = http.query_of(scope)
    try:
        part = PiecePart(fields.get("part", PiecePart.DATA.value))
    except ValueError:
        raise AtollError(Kind.BAD_REQUEST, "read piece", "no such part") from None
    if part is PiecePart.HEAD:
        return part, 0, row.head_bytes
    data_end = row.head_bytes + row.data_bytes
    if part is PiecePart.TRAILER:
        return part, data_end, row.body_bytes - data_end
    offset = http.number_of(fields, "offset", 0)
    length = http.number_of(fields, "length", max(0, row.data_bytes - offset))
    if offset + length > row.data_bytes:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read piece",
            f"{offset}+{length} is outside the piece's {row.data_bytes} bytes of data",
        )
    return part, row.head_bytes + offset, length


async def _check_segment(reader: PieceReader, limit: OrderLimit) -> None:
    header = parse_header(await reader.read(0, reader.row.head_bytes))
    if header.segment_id != limit.segment_id:
        raise AtollError(Kind.FORBIDDEN, "check order", "the order is for another segment")


async def _gone(receive: Receive) -> None:
    """Return when the caller has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
