"""A node and its coordinator come to the same set: whatever was deleted, lost or left behind."""

from collections.abc import Iterator
from functools import partial

import pytest
from tests.unit.coordinator.sets.world import (
    AGE_MS,
    COORDINATOR,
    ISSUER,
    PROVIDER,
    Pair,
    segment_of,
)

from atoll.coordinator.metadata.model import GarbagePiece
from atoll.coordinator.metadata.store.segments import add_garbage
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages.sets import CompareSet, ReportSet, SetChange, Tally
from atoll.core.sets import RANGE_SERIALS, WINDOW_RANGES_MAX
from atoll.node.store.model import State


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.end()


def stored(pair: Pair, count: int, *, step: int = 1) -> list[int]:
    serials = [pair.next_serial(step) for _ in range(count)]
    for serial in serials:
        pair.upload(serial)
        pair.commit(serial)
    return serials


def test_equal_sets_agree_to_the_byte(pair: Pair) -> None:
    stored(pair, 12, step=RANGE_SERIALS // 4)
    report = pair.compare()
    assert report.held == report.counted == Tally(pieces=12, piece_bytes=12 * 116)
    assert (report.missing, report.settling, report.discarded) == (0, 0, Tally())
    pair.check_equal()
    pair.said.clear()
    pair.compare()
    changes = [one for one in pair.said if isinstance(one, SetChange)]
    assert all(not (one.added or one.removed or one.whole) for one in changes)


def test_the_pieces_of_an_upload_that_was_never_committed_vanish(pair: Pair) -> None:
    stored(pair, 2)
    orphan = pair.upload(pair.next_serial())
    report = pair.compare()
    assert report.young.pieces == 1
    assert report.discarded.pieces == 0
    pair.machine.pass_time(AGE_MS / 1000 + 1)
    report = pair.compare()
    assert (report.discarded.pieces, report.young.pieces) == (1, 0)
    assert [one.piece for one in pair.held(State.TRASH)] == [orphan]
    pair.check_equal()


@pytest.mark.parametrize("ahead_ms", [-3_600_000, 3_600_000])
def test_the_age_of_an_order_counts_not_the_clock_of_the_node(ahead_ms: int) -> None:
    pair = Pair(skew_ms=ahead_ms)
    pair.upload(pair.next_serial())
    assert pair.compare().young.pieces == 1
    pair.machine.pass_time(AGE_MS / 1000 + 1)
    assert pair.compare().discarded.pieces == 1
    pair.end()


def test_deletions_that_never_reached_the_node_are_made_good(pair: Pair) -> None:
    serials = stored(pair, 10)
    pair.compare()
    for serial in serials[:3]:
        pair.delete(serial)
    assert pair.garbage() == 3
    pair.pass_age()
    assert pair.compare().discarded.pieces == 3
    pair.check_equal()
    assert pair.garbage() == 0, "the node holds none of it: nothing is left to be ordered"


def test_garbage_younger_than_the_comparison_is_still_ordered(pair: Pair) -> None:
    (serial,) = stored(pair, 1)
    pair.pass_age()
    pair.compare()
    pair.delete(serial)
    pair.compare()
    assert pair.garbage() == 1


def test_a_piece_that_the_node_does_not_have_is_reported_and_struck(pair: Pair) -> None:
    serials = stored(pair, 3)
    pair.compare()
    pair.forget(serials[1])
    report = pair.compare()
    assert report.missing == 1
    assert pair.lost == [piece_id_of(SegmentId(segment_of(serials[1])), 0)]
    assert pair.compare().missing == 0
    pair.check_equal()


def test_what_is_struck_or_moved_meanwhile_is_not_struck_again(pair: Pair) -> None:
    serials = stored(pair, 2)
    pair.forget(serials[0])

    async def deleted_before_the_report() -> None:
        pair.delete(serials[0])

    ask = pair.ask

    async def late(link: object, message: object, answer: object) -> object:
        if isinstance(message, ReportSet):
            await deleted_before_the_report()
        return await ask(link, message, answer)  # type: ignore[arg-type]

    pair.keeper._ask = late  # type: ignore[assignment]
    assert pair.machine.run(pair.keeper.compare(pair.link)) == 10_000
    assert pair.lost == []


def test_a_piece_under_another_index_is_surplus_and_missing(pair: Pair) -> None:
    serial = pair.next_serial()
    pair.upload(serial, 2)
    pair.commit(serial, 1)
    pair.machine.pass_time(AGE_MS / 1000 + 1)
    report = pair.compare()
    assert (report.discarded.pieces, report.missing) == (1, 1)
    pair.settle()
    pair.check_equal()


def test_a_locked_piece_stays_and_is_accounted_for(pair: Pair) -> None:
    serial = pair.next_serial()
    pair.upload(serial, until_ms=pair.clock.now_ms() + 3_600_000)
    pair.commit(serial)
    pair.delete(serial)
    pair.pass_age()
    report = pair.compare()
    assert (report.retained, report.held) == (Tally(pieces=1, piece_bytes=116),) * 2
    assert pair.garbage() == 1
    pair.machine.pass_time(3600)
    assert pair.compare().discarded.pieces == 1
    pair.check_equal()


def test_a_coordinator_that_forgets_and_remembers_destroys_nothing(pair: Pair) -> None:
    """Its database is set back; all goes to the trash; the right one is found; all is back."""
    serials = stored(pair, 5)
    pair.pass_age()
    for serial in serials:
        pair.delete(serial)
    assert pair.compare().discarded.pieces == 5
    assert len(pair.held(State.TRASH)) == 5
    assert not pair.held()
    for serial in serials:
        pair.write(lambda c: c.exec_driver_sql("DELETE FROM spent"))
        pair.commit(serial)
    report = pair.compare()
    assert (report.settling, report.missing) == (5, 0), "deleted a moment ago: not judged yet"
    pair.pass_age()
    report = pair.compare()
    assert report.revived.pieces == report.counted.pieces == 5
    assert len(pair.held()) == 5
    pair.check_equal()


def test_pieces_on_their_way_are_kept_however_old(pair: Pair) -> None:
    serial = pair.next_serial()
    pair.upload(serial)
    later_ms = pair.clock.now_ms() + 10 * AGE_MS
    intent = GarbagePiece(pair.alias, segment_of(serial), 0, b"b" * 16, later_ms, serial)
    pair.write(partial(add_garbage, pieces=[intent]))
    pair.pass_age()
    assert pair.compare().kept.pieces == 1
    pair.machine.pass_time(10 * AGE_MS / 1000)
    assert pair.compare().discarded.pieces == 1


def test_both_sides_forget_what_was_told_and_agree_again(pair: Pair) -> None:
    stored(pair, 6, step=RANGE_SERIALS // 2)
    pair.compare()
    pair.write(lambda c: c.exec_driver_sql("DELETE FROM node_set WHERE number % 2 = 0"))
    assert pair.compare().counted.pieces == 6
    questions = [one for one in pair.said if isinstance(one, CompareSet) and one.digests]
    assert questions, "the digests were asked for"
    pair.check_equal()
    pair.crash()  # the simulated node keeps no cache: it was told nothing
    assert pair.compare().counted.pieces == 6
    pair.write(lambda c: c.exec_driver_sql("UPDATE node_set SET serials = x'00'"))
    pair.crash()
    assert pair.compare().counted.pieces == 6
    pair.check_equal()


def test_serials_far_apart_are_found_window_by_window(pair: Pair) -> None:
    far = WINDOW_RANGES_MAX * RANGE_SERIALS
    serials = [5, far - 1, far, 3 * far + 7, 9 * far]
    for serial in serials:
        pair.upload(serial)
        pair.commit(serial)
    orphan = pair.upload(1 << 50)
    pair.pass_age()
    report = pair.compare()
    assert report.counted.pieces == 5
    assert report.discarded.pieces == 1
    assert [one.piece for one in pair.held(State.TRASH)] == [orphan]
    assert len(pair.said) == 2 * (5 + 1), "five windows with something in them, one report"
    pair.check_equal()


def test_a_stranger_and_nonsense_are_refused(pair: Pair) -> None:
    def refused(request: CompareSet | ReportSet, key: bytes) -> Kind:
        handler = pair.service.node_handlers[type(request)]
        with pytest.raises(AtollError) as caught:
            pair.machine.loop.run_until_complete(handler(request, key, 0))  # type: ignore[arg-type]
        return caught.value.kind

    base = CompareSet(first_range=0, end_range=4, base=bytes(16))
    assert refused(base, COORDINATOR.public_key) is Kind.NOT_FOUND
    for first, end in ((-1, 4), (4, 4), (0, WINDOW_RANGES_MAX + 1), (1 << 47, (1 << 47) + 1)):
        bad = CompareSet(first_range=first, end_range=end, base=bytes(16))
        assert refused(bad, PROVIDER.public_key) is Kind.BAD_REQUEST
    other = CompareSet(first_range=0, end_range=4, base=bytes(16), digests=b"\0" * 20)
    assert refused(other, PROVIDER.public_key) is Kind.BAD_REQUEST
    nothing = Tally()
    too_many = ReportSet(
        as_of_ms=0, held=nothing, counted=nothing, young=nothing, kept=nothing, retained=nothing,
        surplus=nothing, discarded=nothing, revived=nothing, settling=0, missing=0,
        missing_pieces=bytes(9),
    )  # fmt: skip
    assert refused(too_many, PROVIDER.public_key) is Kind.BAD_REQUEST


def test_a_frozen_set_is_what_is_counted(pair: Pair) -> None:
    serials = stored(pair, 5)
    pair.delete(serials[2])
    entries = pair.read(lambda c: list(pair.service.frozen(c, pair.alias)))
    assert [one.serial for one in entries] == [*serials[:2], *serials[3:]]
    assert {(one.leaf_count, one.piece_bytes, one.index) for one in entries} == {(1, 116, 0)}
    assert entries[0].segment == segment_of(serials[0])
    rest = pair.read(lambda c: list(pair.service.frozen(c, pair.alias, serials[1])))
    assert rest == entries[2:]


def test_the_node_lists_what_it_holds_across_index_and_memory(pair: Pair) -> None:
    serials = stored(pair, 7)
    assert [one.segment_serial for one in pair.held()] == serials
    pair.upload(serials[3], 2)
    pair.node.volume.index.apply([], [])
    pair.upload(serials[3], 1)
    page = pair.node.held(ISSUER, serials[2], 1)
    assert [(one.segment_serial, one.index) for one in page if one.index] != []
    assert {one.index for one in page} == {0, 1, 2}, "a page holds all pieces of its last serial"
    before = pair.held()
    pair.crash()
    assert sorted(pair.held(), key=str) == sorted(before, key=str), "the logs tell all of it"
    assert all(one.issued_ms and len(one.segment_root) == 32 for one in before)
