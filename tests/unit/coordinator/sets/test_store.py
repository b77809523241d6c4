"""The SQL of sets, on both databases: marks as the rules make them, sums to the byte, pages."""

import random

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store import segments as metadata
from atoll.coordinator.sets import store
from atoll.coordinator.sets.model import Counted, NodeReport, RangeMark
from atoll.coordinator.sets.rules import mark_of, range_mark
from atoll.core.messages import SegmentRecord, StoredPiece
from atoll.core.messages.sets import ReportSet, Tally
from atoll.core.scheme import Layout, scheme_of, unit_bytes_for
from atoll.core.sets import RANGE_BITS, RangeSet
from atoll.runtime.database import SqlDatabase

ALIAS = 3
BUCKET = b"b" * 16


def record(serial: int, size: int, index: int) -> SegmentRecord:
    chance = random.Random(serial)
    return SegmentRecord(
        segment=chance.randbytes(16),
        serial=serial,
        plain_bytes=size,
        k=4,
        n=8,
        unit_bytes=unit_bytes_for(size, 4),
        root=chance.randbytes(32),
        wrapped_key=b"k",
        pieces=[
            StoredPiece(index=index, alias=ALIAS),
            StoredPiece(index=(index + 1) % 8, alias=ALIAS + 1),
        ],
    )


async def filled(database: SqlDatabase, count: int = 300) -> list[SegmentRecord]:
    assert scheme_of(4, 8)
    chance = random.Random(7)
    serials = [*sorted(chance.sample(range(1, 5 << RANGE_BITS), count - 1)), (1 << 63) - 70_000]
    records = [
        record(serial, chance.choice([0, 1, 70_000, 5 << 20]), chance.randrange(8))
        for serial in serials
    ]

    def write(connection: Connection) -> None:
        metadata.insert_segments(connection, BUCKET, b"s" * 16, 0, records, 1, 5)

    await database.write(write)
    return records


def weight(one: SegmentRecord) -> int:
    return Layout(one.plain_bytes, one.k, one.n, one.unit_bytes).piece_bytes


async def test_marks_in_sql_are_those_of_the_rules(database: SqlDatabase) -> None:
    records = await filled(database)
    expected: dict[int, list[tuple[int, int, int]]] = {}
    for one in records:
        place = (one.serial, one.pieces[0].index, weight(one))
        expected.setdefault(one.serial >> RANGE_BITS, []).append(place)
    found, until = await database.read(lambda c: store.marks(c, ALIAS, 0, 1 << 46))
    high, _ = await database.read(lambda c: store.marks(c, ALIAS, 1 << 46, (1 << 47) - 1))
    assert until == 1 << 46
    assert found | high == {number: range_mark(pieces) for number, pieces in expected.items()}
    loaded = await database.read(lambda c: list(store.pieces_of_ranges(c, ALIAS, 0, 5)))
    assert {number: mark for number, mark, _ in loaded} == found
    assert all(len(held) == mark.pieces for _, mark, held in loaded)


async def test_sums_are_exact(database: SqlDatabase) -> None:
    records = await filled(database)
    total = Counted(len(records), sum(map(weight, records)))
    assert await database.read(lambda c: store.counted(c, ALIAS)) == total
    assert await database.read(store.all_counted) == {ALIAS: total, ALIAS + 1: total}
    assert await database.read(lambda c: store.counted(c, 99)) == Counted(0, 0)


async def test_what_was_told_is_kept_and_forgotten(database: SqlDatabase) -> None:
    held = RangeSet.of({1: 2, 65_535: 0})
    mark = RangeMark(2, 100, mark_of(1, 2))
    await database.write(lambda c: store.keep(c, ALIAS, [(4, mark, held), (9, mark, held)]))
    told = await database.read(lambda c: store.told(c, ALIAS, 0, 9))
    assert {n: (one.mark, one.digest) for n, one in told.items()} == {4: (mark, held.digest(4))}
    assert await database.read(lambda c: store.told_set(c, ALIAS, 4)) == held
    assert await database.read(lambda c: store.told_sum(c, ALIAS)) == Counted(4, 200)
    assert await database.read(lambda c: store.next_range(c, ALIAS, 5)) == 9
    await database.write(lambda c: store.keep(c, ALIAS, [(9, mark, RangeSet())]))
    assert await database.read(lambda c: store.next_range(c, ALIAS, 5)) == -1


async def test_a_report_is_kept_without_its_list(database: SqlDatabase) -> None:
    none = Tally()
    report = ReportSet(
        as_of_ms=5, held=Tally(pieces=1, piece_bytes=2), counted=none, young=none, kept=none,
        retained=none, surplus=none, discarded=none, revived=none, settling=0, missing=1,
        missing_pieces=bytes(9),
    )  # fmt: skip
    for at_ms in (7, 8):
        one = NodeReport(ALIAS, at_ms, Counted(3, 4), report)
        await database.write(lambda c, one=one: store.put_report(c, one))
    (kept,) = (await database.read(store.reports)).values()
    assert (kept.reported_ms, kept.counted, kept.report.missing_pieces) == (8, Counted(3, 4), b"")


def test_a_mark_tells_index_and_serial() -> None:
    marks = {mark_of(serial, index) for serial in range(0, 65_536, 16) for index in range(4)}
    assert len(marks) > 4 * 4096 * 0.99
    assert max(marks) < 1 << 46
