"""One piece on its way in: checked while it is written, committed when whole, gone otherwise."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.pieces import (
    HEADER_FIXED_BYTES,
    LOCK_TLVS,
    Header,
    RecordChecker,
    TlvType,
    Trailer,
    check_trailer,
    parse_header,
    parse_trailer,
    trailer_bytes,
)
from atoll.node.store.log import Envelope, RecordKind, encode_foot
from atoll.node.store.logs import Extent
from atoll.node.store.model import Rotten, Row, State, Stored
from atoll.node.store.retention import carried, locked, write_down
from atoll.node.store.volume import Admission, Volume, replayed

SMALL_BODY_BYTES = 64 << 10
"""Records up to this length are gathered and checked at once on the loop."""
BLOCK_BYTES = 256 << 10
"""Longer ones are hashed and written in blocks of at least this length.

On the loop: a block takes about 0.3 ms, while hashing on a thread beside the loop costs half as
much again, since every 4 KiB leaf lets go of the interpreter lock and waits for it."""
SLOW_WRITE_S = 0.005
"""A write that took longer met a disk that is behind: for a while others wait on a thread."""
SLOW_WRITE_PAUSE_S = 1.0
LAST_BLOCK_BYTES_MIN = 64 << 10
"""Less than this at the end of a body is not worth a block of its own."""
BUCKET_TAG_BYTES = 16
OWNER_HASH_BYTES = 32
BODY_BYTES_MIN = HEADER_FIXED_BYTES + trailer_bytes(1)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A piece that the store holds durably."""

    header: Header
    piece_root: bytes
    serial: bytes
    """Of the order that stored it: an earlier one for a repeated upload."""
    time_ms: int
    repeated: bool


class PieceUpload:
    """Receives one record. Call ``write`` until the end, then ``finish``; ``close`` always."""

    def __init__(
        self,
        volume: Volume,
        admission: Admission,
        body_bytes: int,
        *,
        fresh: bool,
        repeat: bool,
    ) -> None:
        """Built by ``PieceStore.begin``.

        ``fresh``: neither piece nor serial is known yet. ``repeat``: the piece is stored already;
        a long upload of it is only checked, which needs no room.
        """
        self._volume = volume
        self._admission = admission
        self._body_bytes = body_bytes
        self._checker = RecordChecker()
        self._parts: list[Buffer] = []
        self._parts_bytes = 0
        self._received = 0
        self._written = 0
        self._extent: Extent | None = None
        self._closed = False
        self._small = body_bytes <= SMALL_BODY_BYTES
        self._repeat = repeat
        self._watch = volume.watch(admission.piece) if fresh else None
        volume.begin_serial(admission.serial, admission.piece)

    async def write(self, data: Buffer) -> None:
        """Take the next bytes. Raises ``CORRUPT``, ``TOO_LARGE``, ``DISK_FULL``."""
        length = len(memoryview(data).cast("B"))
        self._received += length
        if self._received > self._body_bytes:
            raise AtollError(Kind.TOO_LARGE, "store piece", "the body is longer than announced")
        self._parts.append(data)
        self._parts_bytes += length
        # What little is left at the end goes with the last block.
        left = self._body_bytes - self._received
        if not self._small and self._parts_bytes >= BLOCK_BYTES and left >= LAST_BLOCK_BYTES_MIN:
            await self._take_block()

    async def finish(self) -> Accepted:
        """Return when the piece is durable.

        Raises ``CORRUPT`` (the record is not whole or not right), ``CONFLICT`` (another record is
        stored under this id), ``REPLAYED``, ``DISK_FULL``, ``INTERNAL`` (the volume failed).
        """
        if self._received != self._body_bytes:
            raise AtollError(
                Kind.CORRUPT,
                "store piece",
                f"the body ended after {self._received} of {self._body_bytes} bytes",
            )
        body = b""
        if self._small:
            body = b"".join(self._parts)
            self._checker.feed(body)
            trailer = self._checker.finish()
        else:
            await self._take_block()
            trailer = self._checker.finish()
        header = self._checker.header
        assert header is not None
        admission = self._admission
        if (header.piece_id, header.segment_id) != (admission.piece, admission.segment):
            raise AtollError(Kind.CORRUPT, "store piece", "this is the record of another piece")
        if admission.segment_root and trailer.segment_root != admission.segment_root:
            raise AtollError(
                Kind.CORRUPT,
                "store piece",
                "the order is for a piece that another segment root commits to",
            )
        async with self._volume.alone(admission.piece):
            repeated = await self._stored_before(header, trailer)
            if repeated is not None:
                return repeated
            return await self._commit(header, trailer, body)

    async def close(self) -> None:
        """End the upload; what was not committed leaves no trace."""
        if self._closed:
            return
        self._closed = True
        self._volume.end_serial(self._admission.serial)
        if self._watch is not None:
            self._volume.unwatch(self._watch)
        if self._extent is not None:
            self._volume.logs.give_back(self._extent)
            self._extent = None

    # --- blocks ---

    async def _reserve(self) -> None:
        if self._extent is None and not self._repeat:
            self._volume.check_room(self._body_bytes)
            self._extent = await self._volume.logs.reserve(self._envelope())

    async def _take_block(self) -> None:
        """Check and write what was gathered."""
        await self._reserve()
        parts, self._parts, self._parts_bytes = self._parts, [], 0
        for part in parts:
            self._checker.feed(part)
        extent = self._extent
        if extent is None:
            return
        volume = self._volume
        write, offset = extent.log.file.write_at, extent.body_offset + self._written
        before_s = volume.clock.monotonic()
        if before_s < volume.disk_slow_until_s:
            self._written += await volume.compute.run(write, offset, parts)
        else:
            self._written += write(offset, parts)
        after_s = volume.clock.monotonic()
        if after_s - before_s > SLOW_WRITE_S:
            volume.disk_slow_until_s = after_s + SLOW_WRITE_PAUSE_S

    # --- the decision ---

    async def _stored_before(self, header: Header, trailer: Trailer) -> Accepted | None:
        """Return what is stored already under this id, if it is the same."""
        volume, admission = self._volume, self._admission
        if self._watch is not None and not self._watch.stale:
            # Nobody decided about this piece since ``begin`` looked it up.
            volume.check_flying(admission.serial, admission.piece)
            return None
        row = volume.index.get(admission.piece)
        spent = volume.check_serial(admission.serial, admission.piece)
        if row is None or row.state == State.DEAD or (spent and row.state == State.TRASH):
            if spent:
                raise replayed(admission.piece)
            return None
        # In the trash, too: else who may delete a piece could at once write other bytes over it.
        log = volume.logs.files.get(row.log)
        with nullcontext() if log is None else volume.logs.reading(log):
            agreement = await volume.compute.run(compare_stored, volume, row, header, trailer)
        if agreement is Agreement.OTHER:
            raise AtollError(
                Kind.CONFLICT,
                "store piece",
                "another record is stored under this piece id",
                about=admission.piece.hex()[:10],
            )
        if row.state != State.LIVE:
            return None
        if row.issuer != admission.issuer:
            raise AtollError(
                Kind.FORBIDDEN,
                "store piece",
                "its owner gave the piece that lies here to another coordinator",
                about=admission.piece.hex()[:10],
            )
        if agreement is Agreement.DAMAGED:
            volume.counts.rotten += 1
            await volume.commit.add(Rotten(admission.piece, row.log, row.offset))
            return None
        envelope = volume.envelope_of(row)
        volume.counts.repeats += 1
        root = trailer.piece_roots[header.index]
        return Accepted(header, root, envelope.serial, envelope.time_ms, repeated=True)

    async def _commit(self, header: Header, trailer: Trailer, body: bytes) -> Accepted:
        volume, admission = self._volume, self._admission
        owner = tlv_of(header, TlvType.OWNER_KEY_HASH, OWNER_HASH_BYTES)
        record = carried(volume, admission.piece, header, owner)
        body_kept = b"" if record else volume.index.retention(admission.piece)
        if body_kept:
            # So far perhaps only in the record that this one takes the place of.
            await write_down(volume, admission.piece, admission.issuer, body_kept)
        if self._extent is None:
            if not self._small:
                raise AtollError(
                    Kind.CONFLICT, "store piece", "the piece went away meanwhile: send it again"
                )
            volume.check_room(self._body_bytes)
            extent = self._extent = await volume.logs.append(self._envelope(), body)
        else:
            extent = self._extent
            foot = encode_foot(extent.head, self._checker.record_crc, volume.logs.key)
            extent.log.file.write_at(extent.foot_offset, [foot])
        envelope = extent.envelope
        stored = Stored(
            piece=admission.piece,
            log=extent.log.number,
            offset=extent.offset,
            body_bytes=self._body_bytes,
            head_bytes=header.head_bytes,
            data_bytes=header.data_bytes,
            sequence=envelope.sequence,
            retention_ms=admission.retention_until_ms,
            issuer=admission.issuer,
            serial=admission.serial,
            expires_ms=admission.expires_ms,
            segment_serial=admission.segment_serial,
            issued_ms=admission.issued_ms,
            segment=admission.segment,
            piece_index=header.index,
            segment_root=trailer.segment_root,
            bucket_tag=tlv_of(header, TlvType.BUCKET_TAG, BUCKET_TAG_BYTES),
            owner_hash=owner,
        )
        durable: asyncio.Future[Any] = volume.commit.add(stored, extent.log)
        if record:
            # Added at the same moment, so in the same batch: both are durable, or neither.
            change = locked(admission.piece, record, envelope.sequence)
            durable = asyncio.gather(durable, volume.commit.add(change))
        extent.log.land(extent.offset)
        self._extent = None
        await asyncio.shield(durable)
        volume.warm(extent.log.number, extent.body_offset)
        volume.counts.puts += 1
        volume.counts.put_bytes += self._body_bytes
        root = trailer.piece_roots[header.index]
        return Accepted(header, root, admission.serial, envelope.time_ms, repeated=False)

    def _envelope(self) -> Envelope:
        admission = self._admission
        return Envelope(
            kind=RecordKind.PIECE,
            body_bytes=self._body_bytes,
            sequence=self._volume.logs.sequence(),
            time_ms=self._volume.clock.now_ms(),
            piece=admission.piece,
            serial=admission.serial,
            expires_ms=admission.expires_ms,
            retention_until_ms=admission.retention_until_ms,
            issuer=admission.issuer,
            segment_serial=admission.segment_serial,
            issued_ms=admission.issued_ms,
        )


def tlv_of(header: Header, kind: TlvType, length: int) -> bytes | None:
    """Return the value of a record's TLV of a type and length; None where there is none such."""
    for tlv in header.tlvs:
        if tlv.type == kind and len(tlv.value) == length:
            return tlv.value
    return None


class Agreement(Enum):
    """What a record offered is to the one stored under its piece id."""

    SAME = "same"
    DAMAGED = "damaged"
    """The stored one is unreadable, and all that the index knows of it agrees."""
    OTHER = "other"


def compare_stored(volume: Volume, row: Row, header: Header, trailer: Trailer) -> Agreement:
    """Compare a checked record with the one stored, in whichever state it is. Blocks.

    The segment root binds data and geometry, the trailer's signature the TLVs but types 1 and 5;
    so only payer tag and retention record, which a repair or a renewal changes, may differ.
    """
    known = None
    try:
        known, stored = stored_record(volume, row)
        if (_lasting(known), stored) == (_lasting(header), trailer):
            if row.state == State.LIVE:
                # A repeat is answered out of the head.
                volume.envelope_of(row)
            return Agreement.SAME
        # Rot in the stored trailer must not pass for another record.
        check_trailer(known, stored)
    except AtollError as cause:
        if cause.kind not in _UNREADABLE:
            raise
    else:
        return Agreement.OTHER
    if known is not None and _lasting(known) != _lasting(header):
        return Agreement.OTHER
    offered = (
        header.segment_id,
        header.index,
        trailer.segment_root,
        tlv_of(header, TlvType.BUCKET_TAG, BUCKET_TAG_BYTES),
        tlv_of(header, TlvType.OWNER_KEY_HASH, OWNER_HASH_BYTES),
    )
    indexed = (row.segment, row.piece_index, row.segment_root, row.bucket_tag, row.owner_hash)
    return Agreement.DAMAGED if offered == indexed else Agreement.OTHER


_UNREADABLE = (Kind.CORRUPT, Kind.DATA_LOST, Kind.NEWER_FORMAT, Kind.TOO_LARGE)
"""What reading a stored record back raises where its bytes are damaged or gone."""


def _lasting(header: Header) -> Header:
    """Return a header without what may differ between two records of the same piece."""
    kept = tuple(tlv for tlv in header.tlvs if tlv.type not in LOCK_TLVS)
    return replace(header, payer_tag=b"", tlvs=kept)


def stored_record(volume: Volume, row: Row) -> tuple[Header, Trailer]:
    """Read header and trailer of a stored piece. Blocks. Raises ``CORRUPT``, ``DATA_LOST``."""
    header = parse_header(volume.body_part(row, 0, row.head_bytes))
    trailer_start = row.head_bytes + row.data_bytes
    trailer, _ = parse_trailer(
        header, volume.body_part(row, trailer_start, row.body_bytes - trailer_start)
    )
    return header, trailer
