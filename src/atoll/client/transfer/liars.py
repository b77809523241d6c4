"""Who served wrong bytes: the whole piece is read again and held against the segment's root."""

import asyncio
from dataclasses import dataclass

from atoll.client.transfer.stats import NodeStats
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.merkle import PieceHasher
from atoll.core.messages import (
    ControlPlane,
    Done,
    GrantList,
    GrantReads,
    PieceGrant,
    ReportLiar,
    SegmentRecord,
)
from atoll.core.pieces import Header, check_trailer, parse_trailer, trailer_bytes
from atoll.core.ports import Address, PiecePart, PieceTransport
from atoll.core.scheme import Layout

READ_BYTES = 256 << 10
TIMEOUT_S = 10.0
TRAILER_TIMEOUT_S = 2.0
EXAMINATIONS_MAX = 16
"""Examinations under way per worker; further suspicions are left to audit and repair."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a suspect served: units of its piece from row ``first_row`` on."""

    index: int
    first_row: int
    data: bytes


def layout_of(segment: SegmentRecord) -> Layout:
    """Return the layout of a stored segment. Raises ``CORRUPT`` for an impossible record."""
    try:
        return Layout(segment.plain_bytes, segment.k, segment.n, segment.unit_bytes)
    except ValueError as cause:
        raise AtollError(Kind.CORRUPT, "read segment", str(cause)) from cause


class Examiner:
    """Examines suspects and reports the guilty to the coordinator."""

    def __init__(
        self,
        control: ControlPlane,
        transport: PieceTransport,
        gateway_key: bytes,
        stats: NodeStats,
    ) -> None:
        """``gateway_key`` may use the orders asked for here."""
        self._control = control
        self._transport = transport
        self._gateway_key = gateway_key
        self._stats = stats
        self._tasks: list[asyncio.Task[frozenset[int]]] = []

    def examine_later(self, segment: SegmentRecord, evidence: list[Evidence]) -> None:
        """Examine beside the read that raised the suspicion, which need not wait."""
        if not evidence or len(self._tasks) >= EXAMINATIONS_MAX:
            return
        task = asyncio.create_task(self.examine(segment, evidence))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def settle(self) -> None:
        """Wait for all examinations under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give up all examinations under way."""
        for task in self._tasks:
            task.cancel()
        await self.settle()

    async def examine(self, segment: SegmentRecord, evidence: list[Evidence]) -> frozenset[int]:
        """Return which of the suspects are cleared; report those that are guilty.

        A suspect that cannot be read now is neither.
        """
        try:
            grants = await self._grants(segment)
            roots = await self._roots(segment, evidence, grants)
        except AtollError:
            return frozenset()
        cleared = set()
        for one in evidence:
            grant = grants.get(one.index)
            if grant is None:
                continue
            try:
                fault = await self._fault_of(segment, one, grant, roots[one.index])
            except AtollError:
                continue
            if fault is None:
                cleared.add(one.index)
            else:
                self._stats.failed(grant.alias)
                await self._report(segment, grant, fault)
        return frozenset(cleared)

    async def _grants(self, segment: SegmentRecord) -> dict[int, PieceGrant]:
        question = GrantReads(
            segment=segment.segment,
            pieces=segment.pieces,
            byte_cap=2 * layout_of(segment).piece_bytes,
            gateway_key=self._gateway_key,
            serial=segment.serial,
        )
        answer = await self._control.ask(question, GrantList)
        return {grant.index: grant for grant in answer.grants}

    async def _roots(
        self, segment: SegmentRecord, evidence: list[Evidence], grants: dict[int, PieceGrant]
    ) -> tuple[bytes, ...]:
        """Return the piece roots that make the segment's root; ask the unsuspected first."""
        layout = layout_of(segment)
        header = Header(
            segment_id=SegmentId(segment.segment),
            index=0,
            k=segment.k,
            n=segment.n,
            unit_bytes=segment.unit_bytes,
            plain_bytes=segment.plain_bytes,
            data_bytes=layout.piece_bytes,
            payer_tag=bytes(16),
        )
        suspects = {one.index for one in evidence}
        order = sorted(
            grants.values(),
            key=lambda grant: (grant.index in suspects, self._stats.expected_s(grant.alias)),
        )
        for grant in order:
            try:
                raw = await self._transport.get_piece(
                    Address(grant.host, grant.port, grant.fingerprint),
                    piece_id_of(SegmentId(segment.segment), grant.index),
                    grant.order,
                    PiecePart.TRAILER,
                    0,
                    trailer_bytes(segment.n),
                    TRAILER_TIMEOUT_S,
                )
                trailer, _ = parse_trailer(header, raw)
                check_trailer(header, trailer, signature=False)
            except AtollError:
                continue
            if trailer.segment_root == segment.root:
                return trailer.piece_roots
        raise AtollError(Kind.DATA_LOST, "examine pieces", "no node has the segment's trailer")

    async def _fault_of(
        self, segment: SegmentRecord, evidence: Evidence, grant: PieceGrant, root: bytes
    ) -> str | None:
        """Read the whole piece; return what is wrong with it, or ``None``."""
        layout = layout_of(segment)
        stream = await self._transport.open_piece(
            Address(grant.host, grant.port, grant.fingerprint),
            piece_id_of(SegmentId(segment.segment), evidence.index),
            grant.order,
            0,
            layout.piece_bytes,
            TIMEOUT_S,
        )
        hasher = PieceHasher()
        buffer = memoryview(bytearray(min(READ_BYTES, layout.piece_bytes)))
        first = evidence.first_row * layout.unit_bytes
        same = True
        try:
            while hasher.length < layout.piece_bytes:
                part = buffer[: layout.piece_bytes - hasher.length]
                await stream.read_into(part)
                same = same and _agrees(part, hasher.length, evidence.data, first)
                hasher.update(part)
        finally:
            await stream.close()
        if hasher.root() != root:
            return "the piece does not have its root"
        return None if same else "served other bytes than the piece it holds"

    async def _report(self, segment: SegmentRecord, grant: PieceGrant, reason: str) -> None:
        report = ReportLiar(
            segment=segment.segment, index=grant.index, alias=grant.alias, reason=reason
        )
        try:
            await self._control.ask(report, Done)
        except AtollError:
            # The read went on without the liar; audit or the next reader will name it.
            return


def _agrees(part: memoryview, offset: int, served: bytes, served_offset: int) -> bool:
    """Say whether two stretches of one piece agree where they overlap."""
    first = max(offset, served_offset)
    end = min(offset + len(part), served_offset + len(served))
    if first >= end:
        return True
    return (
        part[first - offset : end - offset]
        == memoryview(served)[first - served_offset : end - served_offset]
    )
