"""Answers questions about locks, and tells holders what they have not yet confirmed.

The records are the owner's: this service can neither make nor change one. All it could do is not to
tell them, and gateways tell them too.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.engine import Connection

from atoll.client.retention import Told, confirms, tell_holder
from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.rules import bad_request, key_bytes
from atoll.coordinator.metadata.service import no_bucket, no_object
from atoll.coordinator.metadata.store import buckets, changes, locks, objects, segments
from atoll.coordinator.metadata.store.locks import LockRow, SegmentLockRow
from atoll.coordinator.part import Part, Step
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.registry.model import NodeState
from atoll.coordinator.retention.rules import (
    NAMES,
    RetentionProfile,
    check_change,
    check_days,
    mode_named,
    retry_ms,
    says,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Done, SegmentRecord, StoredPiece
from atoll.core.messages.retention import (
    RETENTION_ITEMS_MAX,
    SEGMENTS_LOCKED_MAX,
    ConfirmLocks,
    DefaultLock,
    GetDefaultLock,
    GetLock,
    LockObject,
    LockReport,
    LockState,
    RetentionItem,
    SetDefaultLock,
    UnsignedList,
    UnsignedLock,
    UnsignedLocks,
)
from atoll.core.ports import Clock, Database, PieceTransport
from atoll.core.retention import parse_record

_LOG = logging.getLogger(__name__)
SPREAD_SEGMENTS = 2000
"""Segments whose holders are told in one pass."""
SWEEP_SEGMENTS = 500
WAITING_TOLD_MAX = 1000
CONFIRMED_MAX = 10_000
NODES_AT_ONCE = 16
TELL_TIMEOUT_S = 10.0
BUCKETS_UNSIGNED_MAX = 16


class RetentionService(Part):
    """Locks of objects in the metadata, and their way to the nodes."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        transport: PieceTransport,
        placement: PlacementService,
        profile: RetentionProfile,
    ) -> None:
        """Serve from ``database``; tell nodes through ``transport``."""
        self._clock = clock
        self._database = database
        self._transport = transport
        self._placement = placement
        self._profile = profile
        self._swept = b""
        self.handlers = {
            SetDefaultLock: self.set_default,
            GetDefaultLock: self.get_default,
            LockObject: self.lock_object,
            GetLock: self.get_lock,
            ConfirmLocks: self.confirm,
            UnsignedLocks: self.unsigned,
        }
        self.steps = [
            Step("tell retention records", self.spread, profile.poll_s),
            Step("look for new holders of locked pieces", self.sweep, profile.sweep_s),
        ]

    # --- questions ---

    async def set_default(self, request: SetDefaultLock) -> Done:
        """Set what new objects get. Raises ``BUCKET_NOT_FOUND``, ``BAD_REQUEST``."""
        mode = mode_named(request.lock.mode)
        check_days(mode, request.lock.days)

        now_ms = self._clock.now_ms()

        def put(connection: Connection) -> None:
            found = buckets.bucket_by_id(connection, request.bucket)
            if found is None or buckets.lock_bucket(connection, request.bucket) is None:
                raise no_bucket()
            locks.set_default_lock(connection, request.bucket, mode, request.lock.days)
            changes.note_catalogue(connection, found.account, now_ms, request.writer)

        await self._database.write(put)
        return Done()

    async def get_default(self, request: GetDefaultLock) -> DefaultLock:
        """Return what new objects get. Raises ``BUCKET_NOT_FOUND``."""

        def find(connection: Connection) -> DefaultLock:
            if not buckets.bucket_exists(connection, request.bucket):
                raise no_bucket()
            mode, days = locks.default_lock(connection, request.bucket)
            return DefaultLock(mode=NAMES[mode], days=days)

        return await self._database.read(find)

    async def lock_object(self, request: LockObject) -> Done:
        """Lock an object in the metadata and keep its records for the holders.

        Raises as ``LockObject`` says.
        """
        if len(request.locks) > SEGMENTS_LOCKED_MAX:
            raise bad_request(f"at most {SEGMENTS_LOCKED_MAX} segments are locked at once")
        records = [parse_record(one.record) for one in request.locks]
        for one, record in zip(request.locks, records, strict=True):
            if record.segment_id != one.segment or not says(record, request.state):
                raise bad_request("a record does not say what the object's state says")
        now_ms = self._clock.now_ms()
        await self._database.write(lambda c: _lock(c, request, now_ms))
        return Done()

    async def get_lock(self, request: GetLock) -> LockReport:
        """Return how an object is locked. Raises ``BUCKET_NOT_FOUND``, ``OBJECT_NOT_FOUND``."""
        return await self._database.read(lambda c: _report(c, request))

    async def confirm(self, request: ConfirmLocks) -> Done:
        """Note what holders signed, as a gateway saw it; what does not hold is passed over."""
        if len(request.words) > CONFIRMED_MAX:
            raise bad_request(f"at most {CONFIRMED_MAX} receipts at once")
        nodes = self._placement.nodes()

        def note(connection: Connection) -> None:
            for segment in {word.segment for word in request.words}:
                row = locks.segment_lock(connection, segment)
                stored = segments.segment_by_id(connection, segment)
                if row is None or stored is None:
                    continue
                new = set(row.confirmed)
                for word in request.words:
                    node = nodes.get(word.alias)
                    if word.segment != segment or node is None:
                        continue
                    try:
                        confirms(word.receipt, node.node_id, word.index, row.record)
                    except AtollError:
                        continue
                    new.add((word.index, word.alias))
                self._note(connection, row, stored.pieces, frozenset(new), row.attempts)

        await self._database.write(note)
        return Done()

    async def unsigned(self, request: UnsignedLocks) -> UnsignedList:
        """Return locks that a bucket's default made and nobody has signed."""
        limit = max(1, min(request.limit, 1000))

        def find(connection: Connection) -> UnsignedList:
            found: list[UnsignedLock] = []
            for bucket, account, name in locks.unsigned_buckets(connection, BUCKETS_UNSIGNED_MAX):
                found += [
                    UnsignedLock(
                        account=account,
                        bucket_name=name,
                        bucket=bucket,
                        key=row.key.decode("utf-8", "surrogateescape"),
                        state=_state(row),
                    )
                    for row in locks.unsigned_locks(connection, bucket, limit - len(found))
                ]
                if len(found) >= limit:
                    break
            return UnsignedList(locks=found)

        return await self._database.read(find)

    # --- holders ---

    async def spread(self) -> int:
        """Tell holders what they have not confirmed; return how many confirmed now."""
        now_ms = self._clock.now_ms()
        due = await self._database.read(
            lambda c: [
                (row, segments.segment_by_id(c, row.segment))
                for row in locks.due_segment_locks(c, now_ms, SPREAD_SEGMENTS)
            ]
        )
        if not due:
            return 0
        asked: dict[int, list[RetentionItem]] = defaultdict(list)
        for row, stored in due:
            for piece in stored.pieces if stored is not None else ():
                if (piece.index, piece.alias) not in row.confirmed:
                    asked[piece.alias].append(RetentionItem(piece.index, row.record, row.grant))
        said = await self._tell_all(asked)
        await self._database.write(lambda c: self._note_all(c, due, said))
        return len(said)

    async def _tell_all(self, asked: dict[int, list[RetentionItem]]) -> set[tuple[bytes, int, int]]:
        """Return (record, index, alias) of what was confirmed."""
        gate = asyncio.Semaphore(NODES_AT_ONCE)
        known = self._placement.nodes()

        async def one(alias: int, items: list[RetentionItem]) -> set[tuple[bytes, int, int]]:
            node = known.get(alias)
            if node is None or node.state is not NodeState.ALIVE:
                return set()
            done: set[tuple[bytes, int, int]] = set()
            async with gate:
                for start in range(0, len(items), RETENTION_ITEMS_MAX):
                    some = items[start : start + RETENTION_ITEMS_MAX]
                    try:
                        told = await tell_holder(
                            self._transport, node.address, node.node_id, some, TELL_TIMEOUT_S
                        )
                    except AtollError as cause:
                        _LOG.info("node %d was not told retention records: %s", alias, cause)
                        break
                    _log_refusals(alias, told)
                    done |= {(t.item.record, t.item.index, alias) for t in told if not t.kind}
            return done

        answers = await asyncio.gather(*(one(alias, items) for alias, items in asked.items()))
        return set().union(*answers)

    def _note_all(
        self,
        connection: Connection,
        due: Sequence[tuple[SegmentLockRow, StoredSegment | None]],
        said: set[tuple[bytes, int, int]],
    ) -> None:
        for row, stored in due:
            if stored is None:
                locks.drop_segment_lock(connection, row.segment)
                continue
            new = {
                (piece.index, piece.alias)
                for piece in stored.pieces
                if (row.record, piece.index, piece.alias) in said
            }
            self._note(connection, row, stored.pieces, row.confirmed | new, row.attempts + 1)

    def _note(
        self,
        connection: Connection,
        row: SegmentLockRow,
        pieces: Sequence[StoredPiece],
        confirmed: frozenset[tuple[int, int]],
        attempts: int,
    ) -> None:
        holders = {(piece.index, piece.alias) for piece in pieces}
        pending = not holders <= confirmed
        due_ms = self._clock.now_ms() + retry_ms(attempts, self._profile)
        locks.note_segment_lock(
            connection,
            row,
            confirmed & holders,
            pending=pending,
            due_ms=due_ms,
            attempts=attempts if pending else 0,
        )

    async def sweep(self) -> None:
        """Walk over all records: holders that repair made are told, gone segments forgotten."""
        after = self._swept

        def page(connection: Connection) -> bytes:
            rows = locks.segment_locks_after(connection, after, SWEEP_SEGMENTS)
            for row in rows:
                stored = segments.segment_by_id(connection, row.segment)
                if stored is None:
                    locks.drop_segment_lock(connection, row.segment)
                    continue
                holders = {(piece.index, piece.alias) for piece in stored.pieces}
                if not row.pending and not holders <= row.confirmed:
                    locks.note_segment_lock(
                        connection, row, row.confirmed & holders, pending=True, due_ms=0, attempts=0
                    )
            return rows[-1].segment if len(rows) == SWEEP_SEGMENTS else b""

        self._swept = await self._database.write(page)


def _log_refusals(alias: int, told: list[Told]) -> None:
    refused = [one.kind for one in told if one.kind]
    if refused:
        _LOG.info("node %d refused %d retention records: %s", alias, len(refused), refused[0])


def stored_place(record: SegmentRecord) -> tuple[bytes, list[StoredPiece]]:
    """Return the segment whose pieces lie on nodes: the pack for a packed one."""
    if record.packed is not None:
        return record.packed.segment, list(record.packed.pieces)
    return record.segment, list(record.pieces)


def _records(connection: Connection, bucket: bytes, key: bytes) -> list[SegmentRecord]:
    row = objects.lock_object(connection, bucket, key)
    if row is None:
        if not buckets.bucket_exists(connection, bucket):
            raise no_bucket()
        raise no_object(key)
    if not row.segments:
        return []
    return segments.records_of_stream(connection, row.stream, row.segments)


def _lock(connection: Connection, request: LockObject, now_ms: int) -> None:
    key = key_bytes(request.key)
    if buckets.lock_bucket(connection, request.bucket) is None:
        raise no_bucket()
    records = _records(connection, request.bucket, key)
    old = locks.hold_lock(connection, request.bucket, key)
    check_change(old, request.state, now_ms)
    mine = {record.segment for record in records if record.packed is None}
    if any(one.segment not in mine for one in request.locks):
        raise AtollError(
            Kind.CONFLICT, "lock object", "the object is another by now", hint="lock it again"
        )
    for one in request.locks:
        locks.put_segment_lock(
            connection, one.segment, request.bucket, one.record, request.grant, now_ms
        )
    if not request.last:
        return
    for record in records:
        kept = locks.segment_lock(connection, record.segment)
        if kept is None or not says(parse_record(kept.record), request.state):
            raise AtollError(
                Kind.CONFLICT, "lock object", "a segment has no record", hint="lock it again"
            )
    state = request.state
    row = objects.find_object(connection, request.bucket, key)
    assert row is not None
    locks.put_lock(
        connection,
        LockRow(
            request.bucket,
            key,
            row.stream,
            mode_named(state.mode),
            state.until_ms,
            state.legal_hold,
            state.sequence,
            signed=True,
        ),
    )
    changes.note_keys(connection, request.bucket, [key], now_ms, request.writer)


def _state(row: LockRow | None) -> LockState:
    if row is None:
        return LockState()
    return LockState(
        mode=NAMES[row.mode],
        until_ms=row.until_ms,
        legal_hold=row.legal_hold,
        sequence=row.sequence,
    )


def _report(connection: Connection, request: GetLock) -> LockReport:
    key = key_bytes(request.key)
    row = objects.find_object(connection, request.bucket, key)
    if row is None:
        raise no_object(key)
    records = []
    if row.segments:
        records = segments.records_of_stream(connection, row.stream, row.segments)
    holders = confirmed = known = 0
    waiting: list[StoredPiece] = []
    for record in records:
        segment, pieces = stored_place(record)
        kept = locks.segment_lock(connection, segment)
        known += kept is not None
        for piece in pieces:
            holders += 1
            if kept is not None and (piece.index, piece.alias) in kept.confirmed:
                confirmed += 1
            elif len(waiting) < WAITING_TOLD_MAX:
                waiting.append(piece)
    return LockReport(
        state=_state(locks.find_lock(connection, request.bucket, key)),
        segments=known,
        holders=holders,
        confirmed=confirmed,
        waiting=waiting,
    )
