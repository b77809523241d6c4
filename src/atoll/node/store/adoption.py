"""Pieces that their owner gave to another coordinator: whose orders they obey from then on.

An adoption is a record of the log and a row beside the piece's own (``store.adopted``).
"""

import asyncio
from dataclasses import replace

from atoll.core.errors import AtollError, Kind
from atoll.node.store.adopted import adopted_of_log
from atoll.node.store.log import Envelope, Found, RecordKind
from atoll.node.store.model import Adopted, State
from atoll.node.store.trash import NO_SERIAL, revive_piece
from atoll.node.store.volume import Volume


async def adopt_piece(
    volume: Volume, piece: bytes, owner: bytes, issuer: int, segment_serial: int
) -> None:
    """Let a piece obey another coordinator from now on, durably; out of the trash, if need be.

    Raises ``NOT_FOUND`` where there is no such piece of this owner, ``INTERNAL``.
    """
    async with volume.alone(piece):
        row = volume.index.get(piece)
        if row is None or row.owner_hash != owner or row.state not in (State.LIVE, State.TRASH):
            raise AtollError(Kind.NOT_FOUND, "adopt piece", "no such piece of yours is stored here")
        if (row.issuer, row.segment_serial) != (issuer, segment_serial):
            await _write_down(volume, piece, issuer, segment_serial)
    if row.state == State.TRASH:
        await revive_piece(volume, piece, "was adopted by another coordinator")


async def _write_down(volume: Volume, piece: bytes, issuer: int, segment_serial: int) -> None:
    volume.commit.check()
    envelope = Envelope(
        kind=RecordKind.ADOPTION,
        body_bytes=0,
        sequence=volume.logs.sequence(),
        time_ms=volume.clock.now_ms(),
        piece=piece,
        serial=NO_SERIAL,
        expires_ms=0,
        retention_until_ms=0,
        issuer=issuer,
        segment_serial=segment_serial,
    )
    await _append(volume, envelope)


async def copy_adoption(volume: Volume, found: Found) -> "asyncio.Future[None]":
    """Copy an adoption out of a log that goes; return what to wait for."""
    envelope = replace(found.envelope, body_bytes=0)
    extent = await volume.logs.append(envelope, b"")
    durable = volume.commit.add(adopted_of_log(found), extent.log)
    extent.log.land(extent.offset)
    return durable


async def _append(volume: Volume, envelope: Envelope) -> None:
    extent = await volume.logs.append(envelope, b"")
    change = Adopted(envelope.piece, envelope.issuer, envelope.segment_serial, envelope.sequence)
    durable = volume.commit.add(change, extent.log)
    extent.log.land(extent.offset)
    await asyncio.shield(durable)
