"""Locks in the metadata and their way to the holders, on both databases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from tests.unit.coordinator.metadata.world import Metadata, StillClock, facts_of, tiny

from atoll.coordinator.metadata.store import locks, segments
from atoll.coordinator.placement.model import Candidate
from atoll.coordinator.registry.model import NodeState
from atoll.coordinator.retention.rules import PROFILES
from atoll.coordinator.retention.service import RetentionService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.messages import (
    CommitObject,
    DeletedKeys,
    DeleteObjects,
    Done,
    ObjectInfo,
    SegmentRecord,
    StoredPiece,
)
from atoll.core.messages.retention import (
    ConfirmLocks,
    DefaultLock,
    GetDefaultLock,
    GetLock,
    HolderWord,
    LockObject,
    LockReport,
    LockState,
    RetentionItem,
    RetentionOutcome,
    SegmentLock,
    SetDefaultLock,
    UnsignedList,
    UnsignedLocks,
)
from atoll.core.ports import Address, Reply
from atoll.core.retention import (
    DAY_MS,
    Mode,
    RetentionReceipt,
    RetentionRecord,
    grant_lock_key,
    parse_record,
    record_digest,
    sign_record,
    sign_retention_receipt,
)
from atoll.runtime.database import SqlDatabase

LOCK, OWNER = Identity(b"l" * 32), Identity(b"o" * 32)
GRANT = grant_lock_key(OWNER, LOCK.public_key)


@dataclass
class Holders:
    """The nodes, as the network and placement show them."""

    away: set[int] = field(default_factory=set)
    liars: set[int] = field(default_factory=set)
    calls: int = 0

    def identity(self, alias: int) -> Identity:
        return Identity(bytes((alias,)) * 32)

    def nodes(self) -> Mapping[int, Candidate]:
        return {
            alias: Candidate(
                alias=alias,
                node_id=self.identity(alias).node_id,
                address=Address(f"127.0.{alias}.1", 9003),
                operator=f"o{alias}",
                site="s",
                region="r",
                country="DE",
                tier="home",
                state=NodeState.ALIVE,
                full=False,
                free_bytes=1,
            )
            for alias in range(1, 9)
        }

    def word(self, alias: int, index: int, record: bytes) -> bytes:
        node = self.identity(alias)
        segment = parse_record(record).segment_id
        return sign_retention_receipt(
            node, RetentionReceipt(node.node_id, segment, index, record_digest(record), 1)
        )

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        self.calls += 1
        alias = int(address.host.split(".")[2])
        if alias in self.away:
            raise AtollError(Kind.UNREACHABLE, "call", "away")
        items = msgspec.msgpack.decode(body, type=list[RetentionItem])
        signer = 9 if alias in self.liars else alias
        answers = [
            RetentionOutcome("", self.word(signer, item.index, item.record), item.record)
            for item in items
        ]
        return Reply(200, {}, msgspec.msgpack.encode(answers))


class World(Metadata):
    """Metadata, locks, and the nodes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.holders = Holders()
        holders: Any = self.holders
        self.retention = RetentionService(
            self.clock, self.database, holders, holders, PROFILES["local"]
        )
        self.handlers |= self.retention.handlers

    async def lock(
        self,
        bucket: bytes,
        key: str,
        records: list[SegmentRecord],
        state: LockState,
        *,
        segment: bytes = b"",
    ) -> Done:
        mode = {"": Mode.NONE, "governance": Mode.GOVERNANCE}.get(state.mode, Mode.COMPLIANCE)
        made = [
            SegmentLock(
                segment=segment or one.segment,
                record=sign_record(
                    LOCK,
                    RetentionRecord(
                        SegmentId(segment or one.segment),
                        LOCK.public_key,
                        mode,
                        state.until_ms,
                        state.legal_hold,
                        state.sequence,
                    ),
                ),
            )
            for one in records
        ]
        request = LockObject(bucket=bucket, key=key, state=state, grant=GRANT, locks=made)
        return await self.ask(request, Done)

    async def report(self, bucket: bytes, key: str) -> LockReport:
        return await self.ask(GetLock(bucket=bucket, key=key), LockReport)

    def state(self, days: int = 30, mode: str = "compliance", **more: Any) -> LockState:
        now_ms = self.clock.now_ms()
        return LockState(mode=mode, until_ms=now_ms + days * DAY_MS, sequence=now_ms, **more)


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database, StillClock())


async def kind_of(coroutine: Any) -> Kind:
    with pytest.raises(AtollError) as refused:
        await coroutine
    return refused.value.kind


async def test_a_locked_object_is_neither_removed_nor_replaced(world: World) -> None:
    bucket = await world.make_bucket()
    record = tiny()
    await world.put(bucket, "k", [record])
    await world.put(bucket, "free")
    await world.lock(bucket, "k", [record], world.state())
    assert await kind_of(world.put(bucket, "k", [tiny()], "other")) is Kind.RETAINED
    request = DeleteObjects(bucket=bucket, keys=["k", "free", "absent"])
    answer = await world.ask(request, DeletedKeys)
    assert (answer.existed, answer.locked) == (["free"], ["k"])
    upload = await world.begin(bucket, "k")
    part = await world.put_part(bucket, "k", upload, 1, [tiny(5)])
    finish = world.complete(bucket, "k", upload, [part], facts=facts_of(5, "x-1"))
    assert await kind_of(finish) is Kind.RETAINED
    # The same commit again (its answer was lost) is no replacement.
    await world.put(bucket, "k", [record])
    world.clock.time_ms += 31 * DAY_MS
    assert await world.delete(bucket, "k") == ["k"]
    assert (await world.database.read(lambda c: locks.find_lock(c, bucket, b"k"))) is None


async def test_holders_are_told_until_each_has_signed(world: World) -> None:
    bucket = await world.make_bucket()
    record = tiny(aliases=(1, 2, 3))
    await world.put(bucket, "k", [record])
    world.holders.away, world.holders.liars = {2}, {3}
    await world.lock(bucket, "k", [record], world.state())
    await world.retention.spread()
    report = await world.report(bucket, "k")
    assert (report.holders, report.confirmed, report.segments) == (3, 1, 1)
    assert {piece.alias for piece in report.waiting} == {2, 3}
    assert await world.retention.spread() == 0  # not before its time
    world.holders.away, world.holders.liars = set(), set()
    world.clock.time_ms += 60_000
    await world.retention.spread()
    assert (await world.report(bucket, "k")).confirmed == 3
    calls = world.holders.calls
    world.clock.time_ms += 3_600_000
    await world.retention.spread()
    assert world.holders.calls == calls


async def test_a_new_holder_is_found_and_told(world: World) -> None:
    bucket = await world.make_bucket()
    record = tiny(aliases=(1, 2, 3))
    await world.put(bucket, "k", [record])
    await world.lock(bucket, "k", [record], world.state())
    await world.retention.spread()

    def repair(connection: Any) -> Any:
        stored = segments.segment_by_id(connection, record.segment)
        assert stored is not None
        pieces = [StoredPiece(index=0, alias=7), *stored.pieces[1:]]
        return segments.replace_pieces(
            connection, stored, pieces, world.clock.now_ms(), collect=True
        )

    await world.database.write(repair)
    assert (await world.report(bucket, "k")).confirmed == 2
    await world.retention.sweep()
    await world.retention.spread()
    assert (await world.report(bucket, "k")).confirmed == 3


async def test_what_a_gateway_heard_counts_only_if_signed(world: World) -> None:
    bucket = await world.make_bucket()
    record = tiny(aliases=(1, 2, 3))
    await world.put(bucket, "k", [record])
    await world.lock(bucket, "k", [record], world.state())
    row = await world.database.read(lambda c: locks.segment_lock(c, record.segment))
    assert row is not None

    def word(alias: int, signer: int, index: int) -> HolderWord:
        receipt = world.holders.word(signer, index, row.record)
        node_id = world.holders.identity(alias).node_id
        return HolderWord(
            alias=alias, node_id=node_id, index=index, segment=record.segment, receipt=receipt
        )

    words = [word(1, 1, 0), word(2, 9, 1), word(3, 3, 2), word(5, 5, 0)]
    await world.ask(ConfirmLocks(words=words), Done)
    assert (await world.report(bucket, "k")).confirmed == 2


async def test_locks_are_for_the_object_that_is_there(world: World) -> None:
    bucket = await world.make_bucket()
    record = tiny()
    await world.put(bucket, "k", [record])
    state = world.state()
    other = world.lock(bucket, "k", [record], state, segment=b"x" * 16)
    assert await kind_of(other) is Kind.CONFLICT
    assert await kind_of(world.lock(bucket, "absent", [], state)) is Kind.OBJECT_NOT_FOUND
    assert await kind_of(world.lock(bucket, "k", [], state)) is Kind.CONFLICT
    await world.lock(bucket, "k", [record], state)
    shorter = LockState(mode="compliance", until_ms=state.until_ms - 1, sequence=state.sequence + 1)
    assert await kind_of(world.lock(bucket, "k", [record], shorter)) is Kind.RETAINED
    assert (await world.report(bucket, "k")).state == state


async def test_a_buckets_default_waits_for_a_signature(world: World) -> None:
    bucket = await world.make_bucket()
    await world.put(bucket, "before")
    default = DefaultLock(mode="compliance", days=7)
    await world.ask(SetDefaultLock(bucket=bucket, lock=default), Done)
    assert await world.ask(GetDefaultLock(bucket=bucket), DefaultLock) == default
    record = tiny()
    await world.put(bucket, "k", [record])
    waiting = (await world.ask(UnsignedLocks(), UnsignedList)).locks
    assert [(one.key, one.bucket_name) for one in waiting] == [("k", "photos")]
    answer = await world.ask(DeleteObjects(bucket=bucket, keys=["k", "before"]), DeletedKeys)
    assert (answer.existed, answer.locked) == (["before"], ["k"])
    await world.lock(bucket, "k", [record], world.state(days=7))
    assert not (await world.ask(UnsignedLocks(), UnsignedList)).locks
    await world.ask(SetDefaultLock(bucket=bucket, lock=DefaultLock()), Done)
    commit = CommitObject(bucket=bucket, key="free", facts=facts_of(100), segments=[tiny()])
    await world.ask(commit, ObjectInfo)
    assert await world.delete(bucket, "free") == ["free"]


async def test_records_of_gone_segments_are_forgotten(world: World) -> None:
    bucket = await world.make_bucket()
    record = tiny()
    await world.put(bucket, "k", [record])
    await world.lock(bucket, "k", [record], world.state(days=1))
    world.clock.time_ms += 2 * DAY_MS
    assert await world.delete(bucket, "k") == ["k"]
    await world.retention.sweep()
    kept = await world.database.read(lambda c: locks.segment_lock(c, record.segment))
    assert kept is None
