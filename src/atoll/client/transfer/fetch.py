"""Some rows of enough pieces: which nodes to ask, which to ask beside them, which to give up."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from atoll.client.segment.decode import ChunkSpan, Rows
from atoll.client.transfer.stats import NodeStats
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import PieceGrant, SegmentRecord
from atoll.core.ports import Address, Clock, PiecePart, PieceStream, PieceTransport
from atoll.core.scheme import Layout

LANE_IDLE_S_MAX = 3.0
"""Streams that nobody reads for so long are closed, and opened anew for one row group at a time:
nodes cut streams that stand still, and a slow reader should hold no connections."""
TURN_S_MAX = 60.0
"""A long read that does not get its turn for so long is refused with ``OVERLOADED``."""
GRANTS_S_MAX = 600.0
"""Read limits older than this are asked for again; coordinators give them 15 minutes."""
LOSSES = frozenset({Kind.NOT_FOUND, Kind.CORRUPT, Kind.DATA_LOST})
"""Answers after which a piece does not come back by waiting."""


@dataclass(slots=True)
class _Pending:
    """One request under way."""

    index: int
    first: int
    end: int
    started_s: float
    late_s: float
    late: bool = False


@dataclass(slots=True)
class _Lane:
    """An open stream of one piece; the next bytes are those of ``row``, up to ``end_row``."""

    stream: PieceStream
    row: int
    end_row: int


class PieceFetcher:
    """Fetches rows of one segment's pieces for one read; spans must come in order."""

    def __init__(
        self,
        segment: SegmentRecord,
        layout: Layout,
        grant: Callable[[], Awaitable[list[PieceGrant]]],
        transport: PieceTransport,
        clock: Clock,
        stats: NodeStats,
        stream_end_row: int | None,
        timeout_s: float,
        turns: asyncio.Semaphore,
    ) -> None:
        """``grant`` asks for read limits.

        With ``stream_end_row``, pieces are streamed up to that row, by as many reads at a time as
        there are ``turns``; else each span is asked.
        """
        self._segment = segment
        self._layout = layout
        self._grant = grant
        self._grants: dict[int, PieceGrant] = {}
        self._granted_s = float("-inf")
        self._turns = turns
        self._has_turn = False
        self._idle: asyncio.TimerHandle | None = None
        self._parking: asyncio.Task[None] | None = None
        self._unhurried = False
        self._transport = transport
        self._clock = clock
        self._stats = stats
        self._stream_end_row = stream_end_row
        self._timeout_s = timeout_s
        self._excluded: set[int] = set()
        self._lost: set[int] = set()
        self._slow: set[int] = set()
        self._lanes: dict[int, _Lane] = {}
        self._active: list[int] = []

    def available(self) -> int:
        """Return how many pieces may still be asked for."""
        return len(self._grants.keys() - self._excluded)

    def prompt(self) -> int:
        """Return how many of these have not been late."""
        return len(self._grants.keys() - self._excluded - self._slow)

    async def exclude(self, indexes: Iterable[int]) -> None:
        """Ask these pieces no more."""
        for index in indexes:
            self._excluded.add(index)
            await self._drop_lane(index)

    def take_back(self, indexes: Iterable[int]) -> None:
        """Admit pieces again that were excluded."""
        self._excluded -= set(indexes)

    def unreadable(self) -> AtollError:
        """Return the error for a segment of which too few pieces can be read."""
        k = self._layout.k
        left = len({piece.index for piece in self._segment.pieces} - self._lost)
        if left < k:
            return AtollError(
                Kind.DATA_LOST,
                "read segment",
                f"only {left} of the {k} pieces needed exist any more",
            )
        return AtollError(
            Kind.TOO_FEW_NODES,
            "read segment",
            f"only {self.available()} of the {k} pieces needed can be read now",
            hint="the data is not lost: it comes back with its nodes",
        )

    async def close(self) -> None:
        """Close all streams."""
        await self._wake()
        await self._rest()

    # --- pauses ----------------------------------------------------------------------------------

    async def _take_turn(self) -> None:
        """Go on after a pause, or wait for the first turn. Raises ``OVERLOADED``."""
        await self._wake()
        if self._has_turn or self._stream_end_row is None:
            return
        try:
            async with asyncio.timeout(TURN_S_MAX):
                await self._turns.acquire()
        except TimeoutError:
            raise AtollError(
                Kind.OVERLOADED,
                "read segment",
                "this worker reads as many segments as it can",
                hint="try again shortly",
            ) from None
        self._has_turn = True

    async def _wake(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._unhurried = self._parking is not None
        if self._parking is not None:
            await self._parking
            self._parking = None

    def _pause(self) -> None:
        """Leave streams and turn to others if the reader stays away."""
        if self._stream_end_row is not None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(LANE_IDLE_S_MAX, self._park)

    def _park(self) -> None:
        self._idle = None
        self._parking = asyncio.create_task(self._rest())

    async def _rest(self) -> None:
        try:
            for index in list(self._lanes):
                await self._drop_lane(index)
        finally:
            if self._has_turn:
                self._has_turn = False
                self._turns.release()

    # --- one span --------------------------------------------------------------------------------

    async def fetch(
        self,
        span: ChunkSpan,
        buffer: memoryview | None,
        have: dict[int, Rows],
        *,
        impatient: bool = False,
    ) -> dict[int, Rows]:
        """Return the span's rows of all columns it touches, or of any k pieces.

        ``buffer`` has room for k pieces' rows; without it they come in memory of their own.
        ``have`` are rows of this span that came before and are still trusted. ``impatient`` gives
        up when only late pieces are left to wait for.
        Raises ``TOO_FEW_NODES`` or ``DATA_LOST``.
        """
        now = self._clock.monotonic()
        if now - self._granted_s > GRANTS_S_MAX:
            self._grants = {grant.index: grant for grant in await self._grant()}
            self._granted_s = now
        await self._take_turn()
        got = dict(have)
        pending: dict[asyncio.Task[Rows | None], _Pending] = {}
        rooms = [] if have else self._rooms(span, buffer)
        try:
            if not have:
                for index, (first, end) in self._first_choice(span).items():
                    self._ask(index, first, end, rooms, pending)
            while not self._enough(span, got):
                self._ask_more(span, got, pending, rooms)
                if all(impatient and one.late for one in pending.values()):
                    raise self.unreadable()
                await self._wait(got, pending)
        finally:
            await self._give_up(pending)
        if self._stream_end_row is not None:
            self._active = list(got)
        self._pause()
        return got

    def _first_choice(self, span: ChunkSpan) -> dict[int, tuple[int, int]]:
        """Return which pieces to ask first, for which rows."""
        rows = (span.first_row, span.end_row)
        if self._layout.k == 1:
            best = self._candidates(())
            return {best[0]: rows} if best else {}
        if self._stream_end_row is None:
            return {
                column: of
                for column, of in span.columns().items()
                if column in self._grants and column not in self._excluded
            }
        chosen = [index for index in self._active if index not in self._excluded]
        if not self._active:
            chosen = [
                index
                for index in range(self._layout.k)
                if index in self._grants and index not in self._excluded
            ]
        return dict.fromkeys(chosen[: self._layout.k], rows)

    def _enough(self, span: ChunkSpan, got: dict[int, Rows]) -> bool:
        if self._layout.k == 1:
            return bool(got)
        full = sum(rows.covers(span.first_row, span.end_row) for rows in got.values())
        if full >= self._layout.k:
            return True
        return all(
            column in got and got[column].covers(*of) for column, of in span.columns().items()
        )

    def _ask_more(
        self,
        span: ChunkSpan,
        got: dict[int, Rows],
        pending: dict[asyncio.Task[Rows | None], _Pending],
        rooms: list[memoryview],
    ) -> None:
        """Ask further pieces where those under way cannot suffice in time."""
        first, end = span.first_row, span.end_row
        coming = {one.index: one for one in pending.values() if not one.late}
        if self._layout.k == 1:
            short_by = 0 if coming else 1
        else:
            wanted = span.columns()
            if all(column in got or column in coming for column in wanted):
                return
            full = sum(rows.covers(first, end) for rows in got.values())
            full += sum(one.first <= first and end <= one.end for one in coming.values())
            short_by = self._layout.k - full
        asked = {one.index for one in pending.values()}
        # A piece that gave only some of the rows may be asked again for all of them.
        asked |= {index for index, rows in got.items() if rows.covers(first, end)}
        for index in self._candidates(asked)[: max(short_by, 0)]:
            self._ask(index, first, end, rooms, pending)

    def _candidates(self, asked: Iterable[int]) -> list[int]:
        """Return the pieces that may be asked, best first."""
        k, stats, grants = self._layout.k, self._stats, self._grants
        usable = [i for i in grants if i not in self._excluded and i not in asked]
        usable.sort(
            key=lambda i: (
                i in self._slow,
                stats.expected_s(grants[i].alias) * (1.0 if i < k else 1.25),
            )
        )
        return usable

    async def _wait(
        self, got: dict[int, Rows], pending: dict[asyncio.Task[Rows | None], _Pending]
    ) -> None:
        """Wait for an answer or for the moment when one is late."""
        now = self._clock.monotonic()
        moments = [one.late_s for one in pending.values() if not one.late]
        timeout_s = max(min(moments) - now, 0.0) if moments else None
        await asyncio.wait(pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        # In the order of asking, so that a replayed simulation sees the same.
        done = [task for task in pending if task.done()]
        for task in done:
            one = pending.pop(task)
            rows = task.result()
            if rows is not None:
                got[one.index] = rows
        if done:
            return
        now = self._clock.monotonic()
        for one in pending.values():
            if one.late or one.late_s > now:
                continue
            if self._stats.hedges.take():
                one.late = True
                self._slow.add(one.index)
                self._stats.answered(self._grants[one.index].alias, now - one.started_s)
            else:
                one.late_s = now + (one.late_s - one.started_s)

    # --- one piece -------------------------------------------------------------------------------

    def _rooms(self, span: ChunkSpan, buffer: memoryview | None) -> list[memoryview]:
        if buffer is None:
            return []
        size = (span.end_row - span.first_row) * self._layout.unit_bytes
        return [buffer[place * size : (place + 1) * size] for place in range(self._layout.k)]

    def _ask(
        self,
        index: int,
        first: int,
        end: int,
        rooms: list[memoryview],
        pending: dict[asyncio.Task[Rows | None], _Pending],
    ) -> None:
        now = self._clock.monotonic()
        room = None
        if self._stream_end_row is not None:
            # A rival of a late piece needs room of its own: the late one may still be writing.
            size = (end - first) * self._layout.unit_bytes
            room = rooms.pop() if rooms else memoryview(bytearray(size))
        task = asyncio.create_task(self._get(index, first, end, room))
        late_s = now + self._stats.hedge_after_s(self._grants[index].alias)
        pending[task] = _Pending(index, first, end, now, late_s)
        self._stats.hedges.asked()

    async def _get(self, index: int, first: int, end: int, room: memoryview | None) -> Rows | None:
        """Return rows of one piece; ``None`` if its node fails, and then it is asked no more."""
        grant = self._grants[index]
        started_s = self._clock.monotonic()
        try:
            if room is None:
                data = await self._get_whole(grant, first, end)
            else:
                data = await self._read_stream(grant, first, room)
        except AtollError as fault:
            self._excluded.add(index)
            if fault.kind in LOSSES:
                self._lost.add(index)
            self._stats.failed(grant.alias)
            if self._stats.report is not None:
                self._stats.report.failed(grant.alias, (self._segment.segment, index), fault.kind)
            await self._drop_lane(index)
            return None
        spent_s = self._clock.monotonic() - started_s
        self._stats.answered(grant.alias, spent_s)
        if self._stats.report is not None:
            length = 0 if room is None else len(room)
            self._stats.report.read(grant.alias, (self._segment.segment, index), spent_s, length)
        return Rows(first, end, data)

    async def _get_whole(self, grant: PieceGrant, first: int, end: int) -> memoryview:
        unit = self._layout.unit_bytes
        length = (end - first) * unit
        data = await self._transport.get_piece(
            Address(grant.host, grant.port, grant.fingerprint),
            piece_id_of(SegmentId(self._segment.segment), grant.index),
            grant.order,
            PiecePart.DATA,
            first * unit,
            length,
            self._timeout_s,
        )
        if len(data) != length:
            raise AtollError(Kind.CORRUPT, "read piece", "the answer has another length")
        return memoryview(data)

    async def _read_stream(self, grant: PieceGrant, first: int, room: memoryview) -> memoryview:
        lane = self._lanes.get(grant.index)
        if lane is not None and lane.row == first:
            try:
                await lane.stream.read_into(room)
            except AtollError:
                # The node may have closed what stood still: it is asked once more.
                lane = None
        else:
            lane = None
        rows = len(room) // self._layout.unit_bytes
        if lane is None:
            await self._drop_lane(grant.index)
            lane = await self._open_lane(grant, first, first + rows)
            await lane.stream.read_into(room)
        lane.row += rows
        if lane.row == lane.end_row:
            await self._drop_lane(grant.index)
        return room

    async def _open_lane(self, grant: PieceGrant, first: int, group_end: int) -> _Lane:
        """Open a piece's stream, to the end of the read; of this group for a slow reader."""
        assert self._stream_end_row is not None
        unit = self._layout.unit_bytes
        end_row = group_end if self._unhurried else self._stream_end_row
        stream = await self._transport.open_piece(
            Address(grant.host, grant.port, grant.fingerprint),
            piece_id_of(SegmentId(self._segment.segment), grant.index),
            grant.order,
            first * unit,
            (end_row - first) * unit,
            self._timeout_s,
        )
        lane = self._lanes[grant.index] = _Lane(stream, first, end_row)
        return lane

    async def _give_up(self, pending: dict[asyncio.Task[Rows | None], _Pending]) -> None:
        """Cancel what is not needed any more; its streams are behind now and of no use."""
        if not pending:
            return
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for one in pending.values():
            await self._drop_lane(one.index)

    async def _drop_lane(self, index: int) -> None:
        lane = self._lanes.pop(index, None)
        if lane is not None:
            await lane.stream.close()
