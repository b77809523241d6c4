"""One piece on its way to another node: read here, checked here, sent as it is.

Only the head may differ from what is stored: the newest retention record goes with the piece
(docs/spec/retention.md). What is sent has been read from the disk and held against its root, so a
disk that rots does not pass its rot on; the new holder checks it all again.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import msgspec
from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.merkle import PieceHasher
from atoll.core.messages import Failure, PieceGrant, decode
from atoll.core.messages.retention import RETENTION_PATH, RetentionItem, RetentionOutcome
from atoll.core.messages.terms import MovedPiece
from atoll.core.orders import check_receipt
from atoll.core.pieces import (
    LOCK_TLVS,
    Header,
    Tlv,
    TlvType,
    Trailer,
    crc32c,
    encode_header,
    encode_trailer,
    parse_header,
    parse_trailer,
    record_bytes,
    trailer_bytes,
)
from atoll.core.ports import Address, PieceTransport
from atoll.node.retention import NodeRetention
from atoll.node.store.model import HeldPiece, Row, State
from atoll.node.store.store import PieceReader, PieceStore
from atoll.node.traffic import TrafficMeter

BLOCK_BYTES = 256 << 10
_OUTCOMES = msgspec.msgpack.Decoder(list[RetentionOutcome])


class RottenError(Exception):
    """The piece is not what was stored."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A piece that its new holder acknowledged."""

    held: HeldPiece
    alias: int
    report: MovedPiece
    piece_bytes: int


class Mover:
    """Pushes pieces, any number at a time."""

    def __init__(
        self,
        store: PieceStore,
        transport: PieceTransport,
        meter: TrafficMeter,
        retention: NodeRetention,
        stall_s: float,
    ) -> None:
        """Read from ``store``, send through ``transport``; ``meter`` bounds the pace."""
        self._store = store
        self._transport = transport
        self._meter = meter
        self._retention = retention
        self._stall_s = stall_s

    async def push(
        self, held: HeldPiece, grant: PieceGrant, sent: Callable[[int], None]
    ) -> Moved | None:
        """Send a piece to where a coordinator granted it; None where it is no longer here.

        ``sent`` hears of every block. A piece found rotten is noted as lost and raises
        ``RottenError``. Raises ``AtollError`` for what the way or the new holder refuses.
        """
        row = self._store.volume.index.get(held.piece)
        if row is None or row.state != State.LIVE:
            return None
        address = Address(grant.host, grant.port, grant.fingerprint)
        with self._store.reading(row) as reader:
            try:
                sending = await self._sending(held, row, reader)
                signed = await self._transport.put_piece(
                    address,
                    held.piece,
                    grant.order,
                    sending.body(self._meter, sent),
                    record_bytes(sending.header),
                    self._stall_s,
                )
            except RottenError:
                await self._store.damaged(held.piece, row)
                raise
            except AtollError as cause:
                if cause.kind is Kind.DATA_LOST:
                    await self._store.damaged(held.piece, row)
                    raise RottenError from cause
                raise
        receipt = check_receipt(signed, grant.node_id)
        roots = sending.trailer.piece_roots
        if (receipt.segment_id, receipt.index, receipt.piece_root) != (
            held.segment,
            held.index,
            roots[held.index],
        ):
            raise AtollError(Kind.CORRUPT, "move piece", "the receipt is for another piece")
        report = MovedPiece(
            segment=held.segment,
            index=held.index,
            alias=grant.alias,
            receipt=signed,
            piece_roots=list(roots),
        )
        await self._hand_over(held, address, signed)
        return Moved(held, grant.alias, report, held.body_bytes)

    async def _sending(self, held: HeldPiece, row: Row, reader: PieceReader) -> "_Sending":
        try:
            header = parse_header(await reader.read(0, row.head_bytes))
            start = row.head_bytes + row.data_bytes
            tail = await reader.read(start, trailer_bytes(header.n))
            trailer, _ = parse_trailer(header, tail)
        except AtollError as cause:
            raise RottenError from cause
        kept = self._store.kept_retention(held.piece)
        if kept is not None:
            rest = tuple(tlv for tlv in header.tlvs if tlv.type not in LOCK_TLVS)
            lock = (Tlv(TlvType.RETENTION, kept.signed), Tlv(TlvType.LOCK_GRANT, kept.grant))
            header = replace(header, tlvs=(*lock, *rest))
        return _Sending(header, trailer, row, reader)

    async def _hand_over(self, held: HeldPiece, address: Address, receipt: bytes) -> None:
        """Have the new holder confirm the retention record, so that this node may let go."""
        kept = self._store.kept_retention(held.piece)
        if kept is None:
            return
        item = RetentionItem(held.index, kept.signed, kept.grant)
        reply = await self._transport.call(
            address,
            "POST",
            RETENTION_PATH,
            {"content-type": "application/msgpack"},
            msgspec.msgpack.encode([item]),
            self._stall_s,
        )
        if reply.status != 200:
            failure: Failure = decode(reply.body, Failure)
            raise failure.to_error()
        try:
            (outcome,) = _OUTCOMES.decode(reply.body)
        except (msgspec.MsgspecError, ValueError) as cause:
            raise AtollError(Kind.BAD_REQUEST, "move piece", str(cause)) from cause
        if outcome.kind:
            raise AtollError(
                Kind.RETAINED, "move piece", f"its new holder did not take the lock: {outcome.kind}"
            )
        await self._retention.let_go(held.piece, receipt, outcome.receipt, outcome.record)


@dataclass(frozen=True, slots=True)
class _Sending:
    """A record as it is sent."""

    header: Header
    trailer: Trailer
    row: Row
    reader: PieceReader

    async def body(self, meter: TrafficMeter, sent: Callable[[int], None]) -> AsyncIterator[Buffer]:
        """Yield the record; the trailer, and with it the commit mark, only if the data are right.

        Raises ``RottenError``.
        """
        head = encode_header(self.header)
        crc, hasher = crc32c(head), PieceHasher()
        yield head
        done = 0
        while done < self.row.data_bytes:
            length = min(BLOCK_BYTES, self.row.data_bytes - done)
            data = await self.reader.read(self.row.head_bytes + done, length)
            hasher.update(data)
            crc = crc32c(data, crc)
            await meter.goes_out(length)
            yield data
            sent(length)
            done += length
        if hasher.root() != self.trailer.piece_roots[self.header.index]:
            raise RottenError
        yield encode_trailer(self.header, self.trailer, crc)
