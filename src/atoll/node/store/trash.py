"""Deletion in two steps: a tombstone at once, the bytes only when the trash time has passed."""

import asyncio
import logging

from atoll.core.errors import AtollError, Kind
from atoll.node.store.log import Envelope, RecordKind
from atoll.node.store.model import HeldPiece, Mark, Marked, Purged, Row, State
from atoll.node.store.retention import check_may_go, is_retained, now_ms
from atoll.node.store.volume import Admission, Volume, replayed

_LOG = logging.getLogger(__name__)
NO_SERIAL = bytes(16)
PURGE_PIECES = 1000
"""Pieces whose trash time has passed, per transaction."""


async def delete_piece(volume: Volume, admission: Admission) -> None:
    """Move a piece to the trash; when this returns, that is durable. A repeat changes nothing.

    Raises ``NOT_FOUND``, ``FORBIDDEN`` (another coordinator stored it), ``RETAINED``, ``REPLAYED``.
    """
    async with volume.alone(admission.piece):
        row = volume.index.get(admission.piece)
        spent = volume.check_serial(admission.serial, admission.piece)
        if spent:
            if row is None or row.state != State.LIVE:
                return
            raise replayed(admission.piece)
        if row is None or row.state == State.DEAD:
            raise AtollError(Kind.NOT_FOUND, "delete piece", "no such piece is stored here")
        _check_may_delete(volume, row, admission)
        if row.state == State.TRASH:
            return
        await _mark(
            volume,
            Mark.DELETED,
            Envelope(
                kind=RecordKind.TOMBSTONE,
                body_bytes=0,
                sequence=volume.logs.sequence(),
                time_ms=volume.clock.now_ms(),
                piece=admission.piece,
                serial=admission.serial,
                expires_ms=admission.expires_ms,
                retention_until_ms=0,
                issuer=admission.issuer,
                segment_serial=admission.segment_serial,
                issued_ms=admission.issued_ms,
            ),
        )
        volume.counts.deletes += 1


def _check_may_delete(volume: Volume, row: Row, admission: Admission) -> None:
    if row.issuer != admission.issuer:
        raise AtollError(
            Kind.FORBIDDEN,
            "delete piece",
            "the piece was stored by the order of another coordinator",
        )
    check_may_go(volume, admission.piece, row)


def _must_stay(volume: Volume, piece: bytes, time_ms: int) -> bool:
    row = volume.index.get(piece)
    return row is not None and is_retained(volume, piece, row, time_ms)


async def discard_piece(volume: Volume, held: HeldPiece) -> bool:
    """Move a piece that its coordinator does not count to the trash; say whether it went.

    Nothing happens where it changed since ``held`` was read. Raises ``RETAINED``.
    """
    async with volume.alone(held.piece):
        row = volume.index.get(held.piece)
        known = (held.issuer, held.segment_serial, held.issued_ms)
        if row is None or row.state != State.LIVE:
            return False
        if (row.issuer, row.segment_serial, row.issued_ms) != known:
            return False
        check_may_go(volume, held.piece, row)
        await _mark(
            volume,
            Mark.DELETED,
            Envelope(
                kind=RecordKind.TOMBSTONE,
                body_bytes=0,
                sequence=volume.logs.sequence(),
                time_ms=volume.clock.now_ms(),
                piece=held.piece,
                serial=NO_SERIAL,
                expires_ms=0,
                retention_until_ms=0,
                issuer=held.issuer,
                segment_serial=held.segment_serial,
            ),
        )
        volume.counts.discarded += 1
        return True


async def revive_piece(
    volume: Volume, piece: bytes, why: str = "was read by a newer order"
) -> None:
    """Take a piece back out of the trash (if it is still there)."""
    async with volume.alone(piece):
        row = volume.index.get(piece)
        if row is None or row.state != State.TRASH:
            return
        _LOG.warning("piece %s in the trash %s: revived", piece.hex()[:10], why)
        volume.counts.revived += 1
        await _mark(
            volume,
            Mark.REVIVED,
            Envelope(
                kind=RecordKind.REVIVE,
                body_bytes=0,
                sequence=volume.logs.sequence(),
                time_ms=volume.clock.now_ms(),
                piece=piece,
                serial=NO_SERIAL,
                expires_ms=0,
                retention_until_ms=0,
                issuer=row.issuer,
                segment_serial=row.segment_serial,
            ),
        )


async def _mark(volume: Volume, mark: Mark, envelope: Envelope) -> None:
    volume.commit.check()
    extent = await volume.logs.append(envelope, b"")
    durable = volume.commit.add(
        Marked(
            piece=envelope.piece,
            mark=mark,
            sequence=envelope.sequence,
            time_ms=envelope.time_ms,
            serial=envelope.serial,
            expires_ms=envelope.expires_ms,
        ),
        extent.log,
    )
    extent.log.land(extent.offset)
    await asyncio.shield(durable)


async def purge_trash(volume: Volume) -> int:
    """Give up pieces whose trash time has passed; return how many. Their bytes go by compaction.

    One that is retained by now is taken out of the trash instead.
    """
    time_ms = now_ms(volume)
    due_ms = time_ms - volume.config.trash_ms
    purged = 0
    while True:
        due = await volume.compute.run(volume.index.trash_due, due_ms, PURGE_PIECES)
        kept = {piece for piece, _ in due if _must_stay(volume, piece, time_ms)}
        for piece in kept:
            await revive_piece(volume, piece, "is under retention")
        due = [(piece, marked_ms) for piece, marked_ms in due if piece not in kept]
        if not due and not kept:
            return purged
        changes = [Purged(piece, marked_ms) for piece, marked_ms in due]
        waiters = [volume.commit.add(change) for change in changes]
        await asyncio.gather(*waiters)
        purged += len(due)
