"""Pieces leave: because the provider does, because he offers less, or because the disk dies.

One loop for all three. It asks the coordinator where pieces may go, pushes them, has the moves
recorded and only then lets the old copies go; whatever breaks, the next round begins again from
what is still here, so nothing needs to be remembered but that there is something to do.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import signature_holds
from atoll.core.messages import decode, encode
from atoll.core.messages.terms import (
    DEPARTURE_PURPOSE,
    MOVES_MAX,
    Departure,
    DepartureStatement,
    EndDeparture,
    MovePiece,
    MovePlan,
    MoveProgress,
    MovesRecorded,
    PlanMoves,
    PlannedMove,
    ReportMoves,
)
from atoll.core.ports import Clock
from atoll.node.link import Link
from atoll.node.move import Moved, Mover, RottenError
from atoll.node.orders import issuer_of_key
from atoll.node.part import NodePart, Step
from atoll.node.settings import Settings
from atoll.node.store.model import HeldPiece, Purged, State
from atoll.node.store.store import PieceStore

_LOG = logging.getLogger(__name__)
POLL_S = 0.5
WAIT_S = 5.0
"""Rest after a round in which nothing could be moved."""
PAGE_PIECES = 256
SHRINK_PERCENT = 90
"""Share of the capacity that live pieces may take after a shrink: logs have some dead space."""
GRACE_S = 30.0
"""A moved piece can still be read here for so long: readers may hold an order for it."""
REFUSED_S = 60.0
"""A node that did not take a piece is not asked for again within this."""
RATE_WINDOW_S = 10.0
REASONS = ("evacuate", "exit", "shrink")
Ask = Callable[[Link, Any, type[Any]], Awaitable[Any]]


@dataclass(slots=True)
class _Released:
    piece: bytes
    marked_ms: int
    byte_count: int
    due_s: float


@dataclass(slots=True)
class _Pass:
    """One walk over the pieces of one coordinator."""

    after_serial: int = -1
    moved: int = 0
    unrecorded: int = 0
    """Pieces that the coordinator does not count: nothing to move."""
    stuck: int = 0
    """Pieces that found no home."""


@dataclass(slots=True)
class _Rate:
    """Bytes per second over the last seconds."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now_s: float, count: int) -> None:
        self.marks.append((now_s, count))
        self.trim(now_s)

    def trim(self, now_s: float) -> int:
        while self.marks and self.marks[0][0] < now_s - RATE_WINDOW_S:
            self.marks.popleft()
        return round(sum(count for _, count in self.marks) / RATE_WINDOW_S)


class Departures(NodePart):
    """Moves pieces away while there is a reason to."""

    def __init__(
        self,
        store: PieceStore,
        clock: Clock,
        settings: Settings,
        mover: Mover,
        links: Sequence[Link],
        ask: Ask,
        *,
        at_once: int,
        capacity: Callable[[], int],
        pace: Callable[[], float],
    ) -> None:
        """``capacity`` is what the node offers now; ``pace`` the share (0..1] of full speed."""
        self._store = store
        self._clock = clock
        self._settings = settings
        self._mover = mover
        self._links = links
        self._ask = ask
        self._at_once = at_once
        self._capacity = capacity
        self._pace = pace
        self._passes: dict[bytes, _Pass] = {}
        self._unrecorded: dict[bytes, int] = {}
        """By coordinator, pieces that it does not count, as the last whole walk found."""
        self._released: deque[_Released] = deque()
        self._refused: dict[int, float] = {}
        self._rate = _Rate()
        self._rest_until_s = float("-inf")
        self._detail = ""
        self.moved_pieces = 0
        self.moved_bytes = 0
        self._wake = asyncio.Event()
        settings.listeners.append(self._wake.set)
        self.steps = (Step("move pieces", self.step, POLL_S),)

    # --- what there is to do ----------------------------------------------------------------

    @property
    def reason(self) -> str:
        """Why pieces must go; empty where they need not."""
        kept = self._settings.kept
        if kept.evacuating:
            return "evacuate"
        if kept.exiting:
            return "exit"
        return "shrink" if self._over_bytes() > 0 else ""

    @property
    def released_bytes(self) -> int:
        """Bytes of old copies that wait out their grace."""
        return sum(one.byte_count for one in self._released)

    def _over_bytes(self) -> int:
        """Return the bytes of live pieces above what the capacity leaves room for."""
        totals = self._store.volume.index.totals
        begun = self._settings.kept.began_ms > 0
        # Only a shrink that was begun goes on to leave some room.
        if totals.used_bytes <= self._capacity() and not begun:
            return 0
        return max(0, totals.used_bytes - self._capacity() * SHRINK_PERCENT // 100)

    def _left(self) -> tuple[int, int]:
        totals = self._store.volume.index.totals
        if self.reason == "shrink":
            over = self._over_bytes()
            mean = max(1, totals.used_bytes // max(1, totals.pieces))
            return -(-over // mean), over
        unrecorded = sum(self._unrecorded.values())
        return max(0, totals.pieces - unrecorded), totals.used_bytes

    def progress(self) -> MoveProgress:
        """Return how far it is."""
        kept, reason = self._settings.kept, self.reason
        if not reason:
            return MoveProgress()
        pieces, left_bytes = self._left()
        state = "waiting" if self._detail else "moving"
        if self._done():
            state, pieces, left_bytes = "done", 0, 0
        return MoveProgress(
            reason=reason,
            state=state,
            began_ms=kept.began_ms,
            total_pieces=max(kept.total_pieces, pieces),
            total_bytes=max(kept.total_bytes, left_bytes),
            left_pieces=pieces,
            left_bytes=left_bytes,
            moved_pieces=self.moved_pieces,
            moved_bytes=self.moved_bytes,
            bytes_per_s=self._rate.trim(self._clock.monotonic()),
            detail=self._detail,
        )

    def _done(self) -> bool:
        """Whether every coordinator has confirmed that this node left."""
        if self.reason not in ("exit", "evacuate"):
            return False
        said = self._left_coordinators()
        return bool(self._links) and all(link.key in said for link in self._links)

    def _left_coordinators(self) -> set[bytes]:
        """Return the keys of coordinators that confirmed this very departure."""
        found = set()
        for statement in self._settings.kept.statements:
            signed: DepartureStatement = decode(statement, DepartureStatement)
            departure: Departure = decode(signed.departure, Departure)
            found.add(departure.coordinator_key)
        return found

    # --- the loop ---------------------------------------------------------------------------

    async def step(self) -> None:
        """Do one round; where there is nothing to do, wait until something changes."""
        await self._purge()
        reason = self.reason
        if not reason:
            await self._settle()
            if not self._released and not self.reason:
                self._wake.clear()
                await self._wake.wait()
            return
        if self._clock.monotonic() < self._rest_until_s or self._done():
            return
        await self._begin()
        moved = False
        for link in self._links:
            if link.registered and link.key:
                moved = await self._round(link, reason) or moved
        if not moved:
            self._rest_until_s = self._clock.monotonic() + WAIT_S

    async def _begin(self) -> None:
        kept = self._settings.kept
        if kept.began_ms:
            return
        self.moved_pieces = self.moved_bytes = 0
        self._passes.clear()
        pieces, left = self._left()
        await self._keep(began_ms=self._clock.now_ms(), total_pieces=pieces, total_bytes=left)

    async def _settle(self) -> None:
        """Forget a move that is over or was called off."""
        if self._settings.kept.began_ms:
            self._detail = ""
            self._passes.clear()
            await self._keep(began_ms=0, total_pieces=0, total_bytes=0)

    async def _keep(self, **changes: int) -> None:
        kept = msgspec.structs.replace(self._settings.kept, **changes)
        try:
            await self._settings.keep(kept)
        except AtollError as cause:
            _LOG.warning("cannot write settings: %s", cause)
            self._settings.take(kept)

    async def _round(self, link: Link, reason: str) -> bool:
        """Move one batch of one coordinator's pieces; say whether any moved."""
        walk = self._passes.setdefault(link.key, _Pass())
        batch = self._batch(link, walk)
        if not batch:
            return await self._end_of_pass(link, reason, walk)
        now_s = self._clock.monotonic()
        self._refused = {alias: until for alias, until in self._refused.items() if until > now_s}
        request = PlanMoves(
            reason=reason,
            pieces=[MovePiece(segment=one.segment, index=one.index) for one in batch],
            refused=sorted(self._refused),
        )
        plan: MovePlan = await self._ask(link, request, MovePlan)
        held = {(one.segment, one.index): one for one in batch}
        go: list[tuple[HeldPiece, PlannedMove]] = []
        for move in plan.moves:
            piece = held.pop((move.segment, move.index), None)
            if piece is None:
                continue
            if move.outcome == "go" and move.grants:
                go.append((piece, move))
            elif move.outcome == "not_recorded":
                walk.unrecorded += 1
            else:
                walk.stuck += 1
        arrived = await self._push_all(go, reason, walk)
        recorded = await self._report(link, reason, arrived)
        walk.moved += recorded
        return recorded > 0 or not walk.stuck

    def _batch(self, link: Link, walk: _Pass) -> list[HeldPiece]:
        """Return the next live pieces of a coordinator: oldest first, within what must go."""
        issuer = issuer_of_key(link.key)
        found: list[HeldPiece] = []
        over = self._over_bytes() if self.reason == "shrink" else None
        while len(found) < MOVES_MAX:
            page = self._store.held(issuer, walk.after_serial, PAGE_PIECES)
            for one in page:
                if len(found) == MOVES_MAX or (over is not None and over <= 0):
                    return found
                walk.after_serial = one.segment_serial
                if one.state != State.LIVE:
                    continue
                found.append(one)
                if over is not None:
                    over -= one.body_bytes
            if len(page) < PAGE_PIECES:
                break
        return found

    async def _end_of_pass(self, link: Link, reason: str, walk: _Pass) -> bool:
        """Begin again from the first piece; where nothing is left, have that confirmed."""
        del self._passes[link.key]
        self._unrecorded[link.key] = walk.unrecorded
        self._detail = ""
        if walk.stuck:
            self._detail = f"no node can take {walk.stuck} pieces now; asked again"
            return False
        if reason == "shrink" or walk.moved:
            return walk.moved > 0
        if link.key in self._left_coordinators():
            return False
        try:
            statement: DepartureStatement = await self._ask(
                link, EndDeparture(), DepartureStatement
            )
        except AtollError as cause:
            if cause.kind is not Kind.CONFLICT:
                raise
            self._detail = cause.message
            return False
        if not signature_holds(
            link.key, DEPARTURE_PURPOSE, statement.departure, statement.signature
        ):
            raise AtollError(Kind.UNAUTHENTICATED, "leave", "the statement's signature is wrong")
        await self._settings.add_statement(encode(statement))
        _LOG.info("left coordinator %s: it records nothing here any more", link.address)
        return True

    # --- pieces -----------------------------------------------------------------------------

    async def _push_all(
        self, go: Sequence[tuple[HeldPiece, PlannedMove]], reason: str, walk: _Pass
    ) -> list[Moved]:
        pace = self._pace()
        gate = asyncio.Semaphore(max(1, int(self._at_once * pace)))
        arrived: list[Moved] = []

        async def one(held: HeldPiece, move: PlannedMove) -> None:
            async with gate:
                if self.reason != reason:
                    return
                began_s = self._clock.monotonic()
                moved = await self._push(held, move, walk)
                if moved is not None:
                    arrived.append(moved)
                if pace < 1:
                    took_s = self._clock.monotonic() - began_s
                    await self._clock.sleep(min(WAIT_S, took_s * (1 / pace - 1)))

        await asyncio.gather(*(one(held, move) for held, move in go))
        return arrived

    async def _push(self, held: HeldPiece, move: PlannedMove, walk: _Pass) -> Moved | None:
        grant = move.grants[0]
        try:
            return await self._mover.push(held, grant, self._sent)
        except RottenError:
            _LOG.warning("piece %s is rotten: told as lost", held.piece.hex()[:10])
        except AtollError as cause:
            walk.stuck += 1
            self._refused[grant.alias] = self._clock.monotonic() + REFUSED_S
            name = held.piece.hex()[:10]
            _LOG.info("node %d did not take piece %s: %s", grant.alias, name, cause)
        return None

    def _sent(self, count: int) -> None:
        self._rate.add(self._clock.monotonic(), count)

    async def _report(self, link: Link, reason: str, arrived: Sequence[Moved]) -> int:
        """Have moves recorded, then let the old copies go; return how many were."""
        if not arrived:
            return 0
        request = ReportMoves(reason=reason, moved=[moved.report for moved in arrived])
        answer: MovesRecorded = await self._ask(link, request, MovesRecorded)
        count = 0
        for moved, outcome in zip(arrived, answer.outcomes, strict=False):
            if outcome != "recorded":
                _LOG.info("the move of piece %s: %s", moved.held.piece.hex()[:10], outcome)
                continue
            count += 1
            self.moved_pieces += 1
            self.moved_bytes += moved.piece_bytes
            try:
                await self._release(moved.held)
            except AtollError as cause:
                # Locked anew meanwhile: it stays here too, and goes when sets are compared.
                if cause.kind is not Kind.RETAINED:
                    raise
                _LOG.info("piece %s stays, locked: %s", moved.held.piece.hex()[:10], cause)
        return count

    async def _release(self, held: HeldPiece) -> None:
        """Put the old copy of a moved piece into the trash; it is gone after a short grace."""
        if self._store.failed:
            return
        if await self._store.discard(held):
            row = self._store.volume.index.get(held.piece)
            if row is not None:
                due_s = self._clock.monotonic() + GRACE_S
                self._released.append(_Released(held.piece, row.marked_ms, held.body_bytes, due_s))

    async def _purge(self) -> None:
        """Give up moved pieces after their grace: their new holders have them, by receipt."""
        now_s, due = self._clock.monotonic(), []
        while self._released and self._released[0].due_s <= now_s:
            one = self._released.popleft()
            due.append(Purged(one.piece, one.marked_ms))
        if due and not self._store.failed:
            commit = self._store.volume.commit
            await asyncio.gather(*[commit.add(change) for change in due])
