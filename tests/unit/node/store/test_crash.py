"""The store against a model, on a disk that loses power at any change.

The model knows what was acknowledged. After every start all of that must be there, byte by byte,
and nothing that was refused or never asked for.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tests.unit.node.machine import (
    KIB,
    TINY,
    Machine,
    Piece,
    admission_of,
    forged,
    get,
    make_piece,
    put,
)

from atoll.core.errors import AtollError, Kind
from atoll.node.store.commit import GroupCommit
from atoll.node.store.log import LogFile
from atoll.node.store.model import State
from atoll.node.store.store import PieceStore

SMALL_LOGS = replace(TINY, log_bytes=128 * KIB, log_step_bytes=32 * KIB, capacity_bytes=800 * KIB)
CRASHES = st.one_of(st.just(0), st.integers(1, 12), st.integers(1, 60))
"""At which change of the disk the power goes; 0: it stays."""
SIZES = st.sampled_from([16, 500, 4096, 5000, 30 * KIB, 70 * KIB, 100 * KIB])


class StoreModel(RuleBasedStateMachine):
    store_class: type[PieceStore] = PieceStore
    done: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine("model", SMALL_LOGS, disk_bytes=4 << 20, make=self.store_class)
        self.live: dict[bytes, Piece] = {}
        self.trash: dict[bytes, tuple[Piece, int]] = {}
        """Deleted pieces with the time after which they may be gone."""
        self.unsure: dict[bytes, Piece] = {}
        """Under way when the power went: whole or absent, live or deleted, but never damaged."""
        self.known: dict[bytes, Piece] = {}
        self.number = 0
        self.quiet = True
        """Nothing was done since the last start: another one would show nothing."""
        self.machine.boot()

    def teardown(self) -> None:
        self.check_all()
        self.machine.end()

    # --- helpers ---

    def new_piece(self, data_bytes: int) -> Piece:
        self.number += 1
        piece = make_piece(f"{self.number}", data_bytes)
        self.known[piece.id] = piece
        return piece

    async def _put(self, piece: Piece) -> None:
        self.unsure[piece.id] = piece
        self.number += 1
        admission = admission_of(piece, f"put{self.number}", self.machine.now_ms)
        try:
            await put(self.machine.store, piece, admission)
        except AtollError as refused:
            del self.unsure[piece.id]
            if refused.kind is not Kind.DISK_FULL:
                raise
            self.done["refused as full"] += 1
            return
        del self.unsure[piece.id]
        self.live[piece.id] = piece

    async def _delete(self, piece: Piece) -> None:
        self.unsure[piece.id] = self.live.pop(piece.id)
        self.number += 1
        admission = admission_of(piece, f"delete{self.number}", self.machine.now_ms)
        try:
            await self.machine.store.delete(admission)
        except AtollError as refused:
            self.live[piece.id] = self.unsure.pop(piece.id)
            if refused.kind is not Kind.DISK_FULL:
                raise
            return
        del self.unsure[piece.id]
        self.trash[piece.id] = (piece, self.machine.now_ms + SMALL_LOGS.trash_ms)

    def do(self, name: str, work: Awaitable[Any], crash_at: int = 0) -> None:
        self.quiet = False
        self.machine.platter.faults.crash_at = crash_at
        survived = self.machine.run_or_die(work)
        self.machine.platter.faults.crash_at = 0
        if survived:
            self.done[name] += 1
        else:
            self.done[f"crash during {name}"] += 1
            self.restart()

    def restart(self) -> None:
        self.machine.boot()
        self.quiet = True
        self.check_all()

    def check_all(self) -> None:
        store = self.machine.store
        for piece in self.live.values():
            assert self.machine.run(get(store, piece.id)) == piece.record
        now_ms = self.machine.now_ms
        for piece_id, (piece, until_ms) in list(self.trash.items()):
            row = store.volume.index.get(piece_id)
            assert row is None or row.state in (State.TRASH, State.DEAD)
            if now_ms < until_ms:
                assert self.machine.run(get(store, piece.id)) == piece.record
        for piece_id, piece in list(self.unsure.items()):
            del self.unsure[piece_id]
            row = store.volume.index.get(piece_id)
            if row is None:
                continue
            assert self.machine.run(get(store, piece_id)) == piece.record
            if row.state == State.LIVE:
                self.live[piece_id] = piece
            else:
                assert row.state == State.TRASH
                self.trash[piece_id] = (piece, row.marked_ms + SMALL_LOGS.trash_ms)
        counters = store.counters()
        assert counters.pieces == len(self.live)
        assert counters.used_bytes == sum(len(p.record) for p in self.live.values())
        for lost in store.lost(1000):
            assert lost not in self.live

    # --- rules ---

    @rule(crash_at=st.integers(1, 25), stagger_ms=st.sampled_from([0.2, 0.5, 1, 3]))
    def put_staggered(self, crash_at: int, stagger_ms: float) -> None:
        """Uploads end while the sync for others is running, and then the power goes."""
        pieces = [self.new_piece(3000) for _ in range(6)]

        async def one(number: int) -> None:
            await asyncio.sleep(number * stagger_ms / 1000)
            await self._put(pieces[number])

        async def together() -> None:
            await asyncio.gather(*(one(number) for number in range(len(pieces))))

        self.do("put", together(), crash_at)

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=5), crash_at=CRASHES)
    def put_new(self, sizes: list[int], crash_at: int) -> None:
        pieces = [self.new_piece(size) for size in sizes]

        async def together() -> None:
            await asyncio.gather(*(self._put(piece) for piece in pieces))

        self.do("put", together(), crash_at)

    @rule(count=st.integers(1, 12))
    def put_many(self, count: int) -> None:
        async def one_by_one() -> None:
            for _ in range(count):
                await self._put(self.new_piece(9000))

        self.do("put many", one_by_one())

    @rule(size=st.sampled_from([5000, 100 * KIB]), cut=st.integers(1, 4000), then=SIZES)
    def put_cut_off(self, size: int, cut: int, then: int) -> None:
        piece, other = self.new_piece(size), self.new_piece(then)

        async def cut_off() -> None:
            admission = admission_of(piece, f"cut{self.number}", self.machine.now_ms)
            try:
                upload = self.machine.store.begin(admission, len(piece.record))
            except AtollError as refused:
                _expect_full(refused)
                return
            try:
                await upload.write(piece.record[:-cut])
                await self._put(other)
                with pytest.raises(AtollError) as bad:
                    await upload.finish()
                assert bad.value.kind in (Kind.CORRUPT, Kind.DISK_FULL)
            except AtollError as refused:
                _expect_full(refused)
            finally:
                await upload.close()

        self.do("cut off", cut_off())
        assert self.machine.store.volume.index.get(piece.id) is None

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        piece = self.live[data.draw(st.sampled_from(sorted(self.live)))]
        admission = admission_of(piece, f"again{self.number}", self.machine.now_ms)
        self.do("put again", put(self.machine.store, piece, admission))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), crash_at=CRASHES)
    def delete(self, data: st.DataObject, crash_at: int) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.live)), unique=True, min_size=1))

        async def together() -> None:
            await asyncio.gather(*(self._delete(self.live[piece]) for piece in chosen))

        self.do("delete", together(), crash_at)

    @precondition(lambda self: self.trash)
    @rule(data=st.data())
    def put_over_trash(self, data: st.DataObject) -> None:
        piece, until_ms = self.trash.pop(data.draw(st.sampled_from(sorted(self.trash))))

        async def back() -> None:
            await self._put(piece)
            if piece.id not in self.live:
                self.trash[piece.id] = (piece, until_ms)

        self.do("put over trash", back())

    @precondition(lambda self: self.live or self.trash)
    @rule(data=st.data(), crash_at=CRASHES)
    def put_forged(self, data: st.DataObject, crash_at: int) -> None:
        """A coordinator's thief writes other bytes under the id of a piece, deleted or not."""
        now_ms = self.machine.now_ms
        there = self.live | {i: p for i, (p, until_ms) in self.trash.items() if now_ms < until_ms}
        if not there:
            return
        piece = there[data.draw(st.sampled_from(sorted(there)))]

        async def attack() -> None:
            admission = admission_of(piece, f"forged{self.number}", self.machine.now_ms)
            with pytest.raises(AtollError) as refused:
                await put(self.machine.store, forged(piece), admission)
            assert refused.value.kind in (Kind.CONFLICT, Kind.DISK_FULL)

        self.number += 1
        self.do("put forged", attack(), crash_at)

    @rule(seconds=st.sampled_from([60, 2000, 4000]), crash_at=CRASHES)
    def time_passes(self, seconds: int, crash_at: int) -> None:
        self.upkeep(seconds, crash_at)

    def upkeep(self, seconds: int, crash_at: int) -> None:
        self.machine.pass_time(seconds)
        before = self.machine.store.counts.compacted_logs
        self.do("upkeep", self.machine.store.maintain(), crash_at)
        if self.machine.store.counts.compacted_logs > before:
            self.done["compaction"] += 1

    @precondition(lambda self: len(self.live) > 3)
    @rule(kept=st.integers(0, 3), crash_at=CRASHES)
    def turn_over(self, kept: int, crash_at: int) -> None:
        """Most is deleted, the trash time passes, logs are compacted."""
        going = [self.live[piece] for piece in sorted(self.live) if piece[0] % 4 >= kept]

        async def all_of_them() -> None:
            await asyncio.gather(*(self._delete(piece) for piece in going))

        self.do("delete", all_of_them())
        self.upkeep(4000, crash_at)

    @precondition(lambda self: not self.quiet)
    @rule()
    def power_cut(self) -> None:
        self.machine.crash()
        self.restart()
        self.done["power cut"] += 1

    @precondition(lambda self: not self.quiet)
    @rule()
    def orderly_stop(self) -> None:
        self.machine.stop()
        self.restart()
        self.done["stop"] += 1

    @precondition(lambda self: not self.quiet)
    @rule()
    def scrub(self) -> None:
        async def scrub() -> None:
            assert await self.machine.store.scrub() == 0

        self.do("scrub", scrub())


def _expect_full(refused: AtollError) -> None:
    if refused.kind is not Kind.DISK_FULL:
        raise refused


ROUNDS_MAX = 6
"""A random mix may never offer some rule its chance: further rounds, each with other steps, do."""


def torture(
    store_class: type[PieceStore],
    examples: int,
    phases: Sequence[Phase] = tuple(Phase),
    *,
    same_steps: bool = True,
) -> Counter[str]:
    counts: Counter[str] = Counter()

    class Model(StoreModel):
        pass

    Model.store_class = store_class
    Model.done = counts
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Model,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=same_steps,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=phases,
        ),
    )
    return counts


def test_no_power_cut_loses_what_was_acknowledged() -> None:
    names = (
        "put",
        "put again",
        "put over trash",
        "put forged",
        "cut off",
        "delete",
        "upkeep",
        "compaction",
        "power cut",
        "stop",
        "scrub",
        "refused as full",
        "crash during put",
        "crash during delete",
        "crash during upkeep",
    )
    counts = torture(PieceStore, 60)
    for _ in range(ROUNDS_MAX):
        if all(counts[name] for name in names):
            break
        counts += torture(PieceStore, 60, same_steps=False)
    for name in names:
        assert counts[name] > 0, (name, counts)


class HastyCommit(GroupCommit):
    """The deliberate fault: tells the index, and so acknowledges, without the sync."""

    def _sync(self, files: list[LogFile], fresh: bool) -> None:
        pass


class HastyStore(PieceStore):
    commit_class = HastyCommit


class LateBatchCommit(GroupCommit):
    """The deliberate fault: acknowledges also what came in while the sync was running."""

    async def _commit(self, batch: Any) -> None:
        await super()._commit(batch)
        for waiter in self._next.waiters:
            if not waiter.done():
                waiter.set_result(None)


class LateBatchStore(PieceStore):
    commit_class = LateBatchCommit


@pytest.mark.parametrize("faulty", [HastyStore, LateBatchStore])
def test_an_acknowledgement_before_the_sync_is_caught(faulty: type[PieceStore]) -> None:
    with pytest.raises((AssertionError, AtollError)):
        torture(faulty, 200, phases=[Phase.generate])
