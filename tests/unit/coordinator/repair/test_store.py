"""Claims about the repair queue's SQL, on both engines."""

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store.segments import (
    garbage_counts,
    garbage_of_node,
    insert_segments,
    segment_by_serial,
    segments_after,
)
from atoll.coordinator.repair import store
from atoll.coordinator.repair.store import QueueEntry
from atoll.core.messages import SegmentRecord, StoredPiece
from atoll.runtime.database import SqlDatabase

ME, OTHER = b"me", b"other"
MINUTE_MS = 60_000


def record(number: int, *aliases: int) -> SegmentRecord:
    return SegmentRecord(
        segment=number.to_bytes(16, "big"),
        serial=number,
        plain_bytes=100_000,
        k=2,
        n=4,
        unit_bytes=1024,
        root=bytes(32),
        wrapped_key=b"key",
        pieces=[StoredPiece(index=index, alias=alias) for index, alias in enumerate(aliases)],
    )


async def filled(database: SqlDatabase, count: int) -> list[int]:
    """Write segments on nodes 1..4 and return their serials."""
    records = [record(number, 1, 2, 3, 4) for number in range(1, count + 1)]
    await database.write(lambda c: insert_segments(c, b"b" * 16, b"s" * 16, 0, records, 1, 1000))
    return [s.serial for s in await database.read(lambda c: segments_after(c, 0, 100))]


async def put(database: SqlDatabase, *entries: QueueEntry, now_ms: int = 1000) -> None:
    await database.write(lambda c: store.enqueue(c, entries, now_ms, disturb=False))


async def claimed(
    database: SqlDatabase, owner: bytes, now_ms: int, limit: int = 10, urgent_min: int = 0
) -> list[int]:
    claims = await database.write(
        lambda c: store.claim(c, owner, now_ms, MINUTE_MS, limit, urgent_min)
    )
    return [claim.serial for claim in claims]


async def test_the_most_urgent_come_first_and_nobody_gets_them_twice(
    database: SqlDatabase,
) -> None:
    await put(
        database,
        QueueEntry(1, 3, 0, "x"),
        QueueEntry(2, 2, 9, "x"),
        QueueEntry(3, 3, 4, "x"),
        QueueEntry(4, 2, 4, "x"),
    )
    assert await claimed(database, ME, 2000, limit=3) == [2, 4, 3]
    assert await claimed(database, OTHER, 2000) == [1]
    assert await claimed(database, OTHER, 2000 + MINUTE_MS - 1) == []
    assert await claimed(database, OTHER, 2000 + MINUTE_MS) == [2, 4, 3, 1]


async def test_a_renewed_lease_is_kept_and_a_released_one_is_free(database: SqlDatabase) -> None:
    await put(database, QueueEntry(1, 3, 0, "x"), QueueEntry(2, 3, 0, "x"))
    assert await claimed(database, ME, 2000) == [1, 2]
    await database.write(lambda c: store.renew(c, ME, [1], 30_000, MINUTE_MS))
    await database.write(lambda c: store.renew(c, OTHER, [2], 30_000, MINUTE_MS))
    assert await claimed(database, OTHER, 70_000) == [2]
    await database.write(lambda c: store.release(c, ME))
    assert await claimed(database, OTHER, 70_000) == [1]


async def test_while_frozen_only_the_critical_are_given(database: SqlDatabase) -> None:
    await put(database, QueueEntry(1, 3, 8, "x"), QueueEntry(2, 2, 9, "x"))
    assert await claimed(database, ME, 2000, urgent_min=9) == [2]


async def test_only_the_owner_of_the_lease_ends_it(database: SqlDatabase) -> None:
    await put(database, QueueEntry(1, 3, 0, "x"))
    await claimed(database, ME, 2000)
    await database.write(lambda c: store.finish(c, 1, OTHER, 9000))
    assert await database.read(store.queued) == 1
    await database.write(lambda c: store.finish(c, 1, ME, 9000))
    assert await database.read(store.queued) == 0


async def test_a_postponed_segment_waits_unless_its_health_changes(database: SqlDatabase) -> None:
    entry = QueueEntry(1, 3, 2, "no room")
    await put(database, entry)
    await claimed(database, ME, 2000)
    await database.write(lambda c: store.postpone(c, entry, ME, 4, 50_000))
    assert await database.read(store.queue_reasons) == {"no room": 1}
    await put(database, entry, now_ms=3000)
    assert await claimed(database, ME, 3000) == []
    await put(database, QueueEntry(1, 2, 9, "worse"), now_ms=4000)
    claims = await database.write(lambda c: store.claim(c, ME, 4000, MINUTE_MS, 1, 0))
    assert claims == [store.Claim(1, 0)]


async def test_what_happened_during_a_repair_is_not_forgotten_at_its_end(
    database: SqlDatabase,
) -> None:
    entry = QueueEntry(1, 3, 0, "x")
    await put(database, entry)
    await claimed(database, ME, 2000)
    await database.write(lambda c: store.enqueue(c, [entry], 3000, disturb=True))
    await database.write(lambda c: store.finish(c, 1, ME, 9000))
    assert await claimed(database, OTHER, 3000) == [], "the first worker may still be at it"
    assert await claimed(database, OTHER, 2000 + MINUTE_MS) == [1]


async def test_a_node_that_returns_wakes_its_segments(database: SqlDatabase) -> None:
    first, second = await filled(database, 2)
    entries = [QueueEntry(first, 1, 9, "x"), QueueEntry(second, 1, 9, "x")]
    await put(database, *entries, now_ms=500_000)
    await put(database, QueueEntry(999, 1, 9, "of another node"), now_ms=500_000)
    assert await database.write(lambda c: store.wake(c, 1000, 3)) == 2
    assert await claimed(database, ME, 1000) == [first, second]
    assert await database.write(lambda c: store.wake(c, 1000)) == 1


async def test_an_intent_is_no_garbage_until_its_time(database: SqlDatabase) -> None:
    (serial,) = await filled(database, 1)
    segment = await database.read(lambda c: segment_by_serial(c, serial))
    assert segment is not None
    piece, other = StoredPiece(index=3, alias=9), StoredPiece(index=2, alias=8)

    def write(connection: Connection) -> store.Intents:
        return store.write_intents(connection, segment, [piece, other], 1000, 10**7)

    both = (piece, other)
    assert await database.write(write) == store.Intents(both, ())
    inherited = await database.write(write)
    assert inherited == store.Intents(both, both), "taken over from a repair that died"
    assert await database.write(lambda c: store.confirm_intent(c, segment, piece, 2000))
    assert not await database.write(lambda c: store.confirm_intent(c, segment, piece, 2000))
    await database.write(lambda c: store.collect_pieces(c, segment, [piece], 3000))
    await database.write(lambda c: store.drop_intents(c, segment, [piece, other], 3000))
    assert await database.read(garbage_counts) == {9: 1}
    (garbage,) = await database.read(lambda c: garbage_of_node(c, 9, 10))
    assert garbage.since_ms == 3000
    assert not await database.write(lambda c: store.confirm_intent(c, segment, piece, 3000))
    granted = await database.write(write)
    assert granted == store.Intents((other,), ()), "the piece's deletion may be on its way"
