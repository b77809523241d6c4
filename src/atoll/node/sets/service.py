"""Compares the node's pieces with what each coordinator counts, and acts on the difference.

Not counted and old: to the trash. Counted and in the trash: taken out again. Counted and not here:
reported as lost. Never more than one range of 65,536 serials is in memory.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pyroaring import BitMap

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Done, Message
from atoll.core.messages.sets import MISSING_REPORTED_MAX, CompareSet, ReportSet, SetChange
from atoll.core.ports import Clock, Compute, Disk, Rng
from atoll.core.sets import (
    RANGE_BITS,
    RANGE_MAX,
    RANGE_SERIALS,
    WINDOW_RANGES_MAX,
    WindowChange,
    decode_bits,
    pack_digests,
    pack_missing,
    window_digest,
)
from atoll.node.link import Link
from atoll.node.orders import issuer_of_key
from atoll.node.part import NodePart, Step
from atoll.node.sets.rules import Figures, Judgement, Sum, Terms
from atoll.node.sets.store import DutyStore
from atoll.node.store.model import HeldPiece
from atoll.node.store.store import PieceStore

_LOG = logging.getLogger(__name__)
POLL_S = 1.0
FIRST_S_MAX = 3.0
"""After a start, the first comparison comes within so long of the registration."""
RETRY_S_MIN = 2.0
RETRY_S_MAX = 600.0
PAGE_PIECES = 500
"""Pieces looked at between two rests: about a millisecond of the loop."""
PAGE_PAUSE_S = 0.002
WRITES_AT_ONCE = 64
"""Pieces on their way to or from the trash: they share syncs."""
SWEEP_S = 24 * 3600.0
"""All ranges are looked at again so often, changed or not."""
AGAIN_S_MIN, AGAIN_S_MAX = 0.5, 7 * 24 * 3600.0
ANSWERS_MAX = 100_000
"""Answers of one comparison; a coordinator that gives more is not listened to."""

Ask = Callable[[Link, Message, type[Any]], Awaitable[Any]]


@dataclass(slots=True)
class _Account:
    """What is known of the set of one coordinator."""

    issuer: int
    due_s: float
    failures: int = 0
    sweep_s: float = 0.0
    """When all ranges are due, by the monotonic clock."""
    figures: dict[int, Figures] = field(default_factory=dict)
    """By range, since it was looked at last."""


@dataclass(slots=True)
class _Outcome:
    """What one comparison did."""

    as_of_ms: int = 0
    again_ms: int = 0
    discarded: Sum = field(default_factory=Sum)
    revived: Sum = field(default_factory=Sum)
    missing: int = 0
    missing_pieces: list[tuple[int, int]] = field(default_factory=list)
    """The first of them, as many as a report names."""


class SetKeeper(NodePart):
    """Keeps the node's set equal to each coordinator's."""

    def __init__(
        self,
        store: PieceStore,
        disk: Disk,
        compute: Compute,
        clock: Clock,
        rng: Rng,
        *,
        links: Sequence[Link],
        ask: Ask,
        skew_ms: int,
    ) -> None:
        """Ask with ``ask`` at each of ``links``; touch nothing before ``start``."""
        self._store = store
        self._disk = disk
        self._compute = compute
        self._clock = clock
        self._rng = rng
        self._links = links
        self._ask = ask
        self._skew_ms = skew_ms
        self._duty: DutyStore | None = None
        self._accounts: dict[bytes, _Account] = {}
        self.steps: Sequence[Step] = (Step("compare sets", self.step, POLL_S),)
        self.comparisons = 0
        """Ended well, since the start."""

    @property
    def duty(self) -> DutyStore:
        """The sets last told; open between ``start`` and ``stop``."""
        assert self._duty is not None, "not started"
        return self._duty

    async def start(self) -> None:
        """Open what coordinators said last."""
        self._duty = await self._compute.run(DutyStore, self._disk)

    async def stop(self) -> None:
        """Close it."""
        duty, self._duty = self._duty, None
        if duty is not None:
            await self._compute.run(duty.close)

    # --- when ---

    async def step(self) -> None:
        """Compare with every coordinator for which it is time."""
        for link in self._links:
            account = self._account(link)
            if account is None or account.due_s > self._clock.monotonic():
                continue
            try:
                again_s = await self.compare(link) / 1000
                account.failures = 0
                wait_s = min(max(again_s, AGAIN_S_MIN), AGAIN_S_MAX)
            except AtollError as cause:
                account.failures += 1
                level = logging.WARNING if account.failures in (3, 30) else logging.DEBUG
                _LOG.log(level, "comparing sets with %s: %s", link.address, cause)
                wait_s = min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(account.failures - 1, 16))
            # Nodes that started together must not all come back together.
            wait_s *= 0.75 + self._rng.uniform() / 2
            account.due_s = self._clock.monotonic() + wait_s

    def due_now(self) -> None:
        """Let the next step compare with every coordinator."""
        for account in self._accounts.values():
            account.due_s = 0.0

    def _account(self, link: Link) -> _Account | None:
        if not link.registered or not link.key:
            return None
        account = self._accounts.get(link.key)
        if account is None:
            first_s = self._clock.monotonic() + self._rng.uniform() * FIRST_S_MAX
            account = _Account(issuer_of_key(link.key), first_s)
            self._accounts[link.key] = account
        return account

    # --- one comparison ---

    async def compare(self, link: Link) -> int:
        """Learn a coordinator's set, act on the difference, report; return when to come again, ms.

        Raises what the network and the coordinator raise; what was done until then stays done.
        """
        account = self._account(link)
        if account is None:
            raise AtollError(Kind.UNREACHABLE, "compare sets", "the node is not registered there")
        now_s = self._clock.monotonic()
        if now_s >= account.sweep_s:
            account.figures.clear()
            account.sweep_s = now_s + SWEEP_S
        outcome = _Outcome()
        first: int | None = 0
        for _ in range(ANSWERS_MAX):
            assert first is not None
            answer = await self._learn(link, account, first)
            until = answer.until_range
            terms = Terms(answer.as_of_ms, answer.surplus_age_ms, self._skew_ms)
            kept = decode_bits(answer.kept, (until - first) << RANGE_BITS)
            outcome.as_of_ms, outcome.again_ms = answer.as_of_ms, answer.again_ms
            for number in await self._numbers(account, first, until):
                at = (number - first) << RANGE_BITS
                spared = _lows_in(kept, at) if kept else frozenset()
                await self._look_at(account, number, spared, terms, outcome)
            first = await self._beyond(account.issuer, until, answer.next_range)
            if first is None:
                await self._report(link, account, outcome)
                self.comparisons += 1
                return outcome.again_ms
        raise AtollError(Kind.BAD_REQUEST, "compare sets", "the coordinator never comes to an end")

    async def _learn(self, link: Link, account: _Account, first: int) -> SetChange:
        """Ask what a window of ranges holds, and keep it."""
        issuer, end = account.issuer, min(first + WINDOW_RANGES_MAX, RANGE_MAX)
        told = await self._compute.run(self.duty.digests, issuer, first, end)
        question = CompareSet(first_range=first, end_range=end, base=window_digest(told))
        answer: SetChange = await self._ask(link, question, SetChange)
        if not answer.known:
            question = msgspec.structs.replace(question, digests=pack_digests(first, told))
            answer = await self._ask(link, question, SetChange)
        until = answer.until_range
        if not answer.known or not first < until <= end:
            raise AtollError(Kind.BAD_REQUEST, "compare sets", "the answer does not fit the window")
        packed = (answer.whole, answer.removed, answer.added, answer.indexes)
        change = WindowChange.decode(first, until, packed)
        changed = await self._compute.run(self.duty.apply, issuer, change, until, answer.digest)
        for number in changed:
            account.figures.pop(number, None)
        return answer

    async def _numbers(self, account: _Account, first: int, until: int) -> list[int]:
        """Return the ranges of a window in which anything is counted or held, ascending."""
        told = await self._compute.run(self.duty.digests, account.issuer, first, until)
        numbers = {number for number, _ in told}
        at, end = (first << RANGE_BITS) - 1, until << RANGE_BITS
        while page := self._store.held(account.issuer, at, 1, end):
            number = page[0].segment_serial >> RANGE_BITS
            numbers.add(number)
            at = ((number + 1) << RANGE_BITS) - 1
            if len(numbers) % PAGE_PIECES == 0:
                await self._clock.sleep(PAGE_PAUSE_S)
        for number in [n for n in account.figures if first <= n < until and n not in numbers]:
            del account.figures[number]
        return sorted(numbers)

    async def _beyond(self, issuer: int, until: int, next_range: int) -> int | None:
        """Return the next range in which something is counted, held or was told; None for none."""
        told = await self._compute.run(self.duty.next_range, issuer, until)
        held = self._store.held(issuer, (until << RANGE_BITS) - 1, 1)
        found = [next_range] if next_range >= until else []
        found += [] if told is None else [told]
        found += [one.segment_serial >> RANGE_BITS for one in held]
        return min(found, default=None)

    # --- one range ---

    async def _look_at(
        self,
        account: _Account,
        number: int,
        kept: frozenset[int],
        terms: Terms,
        outcome: _Outcome,
    ) -> None:
        """Judge a range's pieces, unless nothing can have changed, and act."""
        touched = self._store.take_touched(account.issuer, number)
        known = account.figures.get(number)
        if known is not None and known.settled and not touched:
            return
        account.figures.pop(number, None)
        duty = await self._compute.run(self.duty.get, account.issuer, number)
        judgement = Judgement(number, duty.pieces(), kept, terms)
        at, end = (number << RANGE_BITS) - 1, (number + 1) << RANGE_BITS
        while page := self._store.held(account.issuer, at, PAGE_PIECES, end):
            for held in page:
                judgement.see(held)
            at = page[-1].segment_serial
            await self._clock.sleep(PAGE_PAUSE_S)
        missing = judgement.missing()
        outcome.missing += len(missing)
        outcome.missing_pieces += missing[: MISSING_REPORTED_MAX - len(outcome.missing_pieces)]
        await self._in_turns(self._discard, judgement.surplus, judgement, outcome)
        await self._in_turns(self._revive, judgement.revived, judgement, outcome)
        account.figures[number] = judgement.figures

    async def _in_turns(
        self,
        act: Callable[[HeldPiece, Judgement, _Outcome], Awaitable[None]],
        pieces: Sequence[HeldPiece],
        judgement: Judgement,
        outcome: _Outcome,
    ) -> None:
        for at in range(0, len(pieces), WRITES_AT_ONCE):
            some = pieces[at : at + WRITES_AT_ONCE]
            await asyncio.gather(*(act(held, judgement, outcome) for held in some))

    async def _discard(self, held: HeldPiece, judgement: Judgement, outcome: _Outcome) -> None:
        figures = judgement.figures
        try:
            if await self._store.discard(held):
                outcome.discarded.add(held)
            else:
                figures.settling += 1
        except AtollError as cause:
            (figures.retained if cause.kind is Kind.RETAINED else figures.surplus).add(held)

    async def _revive(self, held: HeldPiece, judgement: Judgement, outcome: _Outcome) -> None:
        try:
            await self._store.revive(held.piece)
        except AtollError:
            # It can be read all the same; the next comparison tries again.
            judgement.figures.settling += 1
        else:
            judgement.figures.counted.add(held)
            outcome.revived.add(held)

    # --- the end ---

    async def _report(self, link: Link, account: _Account, outcome: _Outcome) -> None:
        total = Figures()
        for figures in account.figures.values():
            total.plus(figures)
        if outcome.discarded.pieces or outcome.missing:
            _LOG.warning(
                "%s counts less: %d pieces went to the trash; it counts %d that are not here",
                link.address,
                outcome.discarded.pieces,
                outcome.missing,
            )
        report = ReportSet(
            as_of_ms=outcome.as_of_ms,
            held=total.held().tally(),
            counted=total.counted.tally(),
            young=total.young.tally(),
            kept=total.kept.tally(),
            retained=total.retained.tally(),
            surplus=total.surplus.tally(),
            discarded=outcome.discarded.tally(),
            revived=outcome.revived.tally(),
            settling=total.settling,
            missing=outcome.missing,
            missing_pieces=pack_missing(outcome.missing_pieces),
        )
        await self._ask(link, report, Done)


def _lows_in(places: BitMap, at: int) -> frozenset[int]:
    """Return those of a window's places that lie in the range that begins at ``at``, less it."""
    return frozenset(place - at for place in places & BitMap(range(at, at + RANGE_SERIALS)))
