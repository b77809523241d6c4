"""The store by example: what is acknowledged is there, what is refused leaves no trace."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.unit.node.machine import (
    HOUR_MS,
    KIB,
    TINY,
    UPLOADER,
    Machine,
    Piece,
    admission_of,
    get,
    make_piece,
    put,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.merkle import piece_root
from atoll.core.pieces import crc32c, encode_header, encode_trailer, sign_trailer

LARGE = replace(
    TINY, capacity_bytes=64 << 20, log_bytes=8 << 20, log_step_bytes=1 << 20, reserve_bytes=1 << 20
)


@pytest.fixture
def large() -> Iterator[Machine]:
    machine = Machine("large", LARGE, disk_bytes=128 << 20)
    machine.boot()
    yield machine
    machine.end()


def refusal(machine: Machine, work: object) -> Kind:
    with pytest.raises(AtollError) as refused:
        machine.run(work)  # type: ignore[arg-type]
    return refused.value.kind


def fill(machine: Machine, data_bytes: int) -> list[Piece]:
    """Store pieces until the store says that it is full."""
    pieces: list[Piece] = []
    while len(pieces) < 1000:
        piece = make_piece(f"p{len(pieces)}", data_bytes)
        admission = admission_of(piece, f"p{len(pieces)}", machine.now_ms)
        try:
            machine.run(put(machine.store, piece, admission))
        except AtollError as refused:
            if refused.kind is Kind.DISK_FULL:
                return pieces
            raise
        pieces.append(piece)
    raise AssertionError("never full")


@pytest.mark.parametrize("data_bytes", [16, 17, 4096, 60 * KIB, 70 * KIB, 200 * KIB])
def test_a_piece_comes_back_as_it_was_after_a_restart_of_either_kind(
    machine: Machine, data_bytes: int
) -> None:
    piece = make_piece("a", data_bytes)
    accepted = machine.run(put(machine.store, piece, admission_of(piece, "a", machine.now_ms)))
    assert not accepted.repeated
    assert machine.run(get(machine.store, piece.id)) == piece.record
    machine.crash()
    machine.boot()
    assert machine.run(get(machine.store, piece.id)) == piece.record
    machine.stop()
    machine.boot()
    assert machine.run(get(machine.store, piece.id)) == piece.record
    assert machine.store.counters().pieces == 1
    assert machine.store.counters().used_bytes == len(piece.record)


@pytest.mark.parametrize("data_bytes", [4096, 200 * KIB])
def test_the_same_upload_again_gets_the_same_answer(machine: Machine, data_bytes: int) -> None:
    piece = make_piece("a", data_bytes)
    first = machine.run(put(machine.store, piece, admission_of(piece, "a", machine.now_ms)))
    machine.pass_time(5)
    again = machine.run(put(machine.store, piece, admission_of(piece, "b", machine.now_ms)))
    assert again.repeated
    assert (again.serial, again.time_ms, again.piece_root) == (
        first.serial,
        first.time_ms,
        first.piece_root,
    )
    assert machine.store.counters().pieces == 1


@pytest.mark.parametrize("data_bytes", [4096, 200 * KIB])
def test_another_content_under_the_same_id_is_a_conflict(machine: Machine, data_bytes: int) -> None:
    piece = make_piece("a", data_bytes)
    machine.run(put(machine.store, piece, admission_of(piece, "a", machine.now_ms)))
    physical = machine.store.volume.logs.physical_bytes
    for other in (_with_other_roots(piece), make_piece("a", data_bytes + 64)):
        admission = admission_of(other, "b", machine.now_ms)
        assert other.id == piece.id
        assert refusal(machine, put(machine.store, other, admission)) is Kind.CONFLICT
    assert machine.run(get(machine.store, piece.id)) == piece.record
    assert machine.store.volume.logs.physical_bytes == physical


def _with_other_roots(piece: Piece) -> Piece:
    """A right record of the same id and data, which commits to other sister pieces."""
    header = piece.header
    roots = [bytes((i,)) * 32 for i in range(header.n)]
    roots[header.index] = piece_root(piece.data)
    before = encode_header(header) + piece.data
    trailer = sign_trailer(UPLOADER, header, roots)
    return Piece(header, before + encode_trailer(header, trailer, crc32c(before)))


@pytest.mark.parametrize("data_bytes", [4096, 200 * KIB])
@pytest.mark.parametrize("harm", ["flip", "cut", "long", "another piece"])
def test_a_bad_upload_leaves_no_trace(machine: Machine, data_bytes: int, harm: str) -> None:
    piece = make_piece("a", data_bytes)
    admission = admission_of(piece, "a", machine.now_ms)
    before = machine.store.volume.logs.physical_bytes

    async def attack() -> None:
        record = bytearray(piece.record)
        announced = len(record)
        if harm == "flip":
            record[len(record) // 2] ^= 1
        elif harm == "cut":
            del record[-7:]
        elif harm == "long":
            record += b"more"
        else:
            record = bytearray(make_piece("b", data_bytes).record)
        upload = machine.store.begin(admission, announced)
        try:
            for start in range(0, len(record), 30 * KIB):
                await upload.write(bytes(record[start : start + 30 * KIB]))
            await upload.finish()
        finally:
            await upload.close()

    assert refusal(machine, attack()) in (Kind.CORRUPT, Kind.TOO_LARGE)
    assert machine.store.volume.logs.physical_bytes == before
    assert refusal(machine, get(machine.store, piece.id)) is Kind.NOT_FOUND
    # The order was not spent: the customer may try again.
    machine.run(put(machine.store, piece, admission))


def test_uploads_at_the_same_time_do_not_mix(large: Machine) -> None:
    pieces = [make_piece(f"p{i}", (i % 4 + 1) * 300 * KIB) for i in range(8)]

    async def all_at_once() -> None:
        uploads = [
            put(large.store, piece, admission_of(piece, f"p{i}", large.now_ms), cut=(i + 3) * 10000)
            for i, piece in enumerate(pieces)
        ]
        cut_off = large.store.begin(
            admission_of(make_piece("cut", 900 * KIB), "cut", large.now_ms),
            len(make_piece("cut", 900 * KIB).record),
        )
        await cut_off.write(make_piece("cut", 900 * KIB).record[: 600 * KIB])
        await asyncio.gather(*uploads)
        await cut_off.close()

    large.run(all_at_once())
    large.crash()
    large.boot()
    for piece in pieces:
        assert large.run(get(large.store, piece.id)) == piece.record
    assert large.store.counters().pieces == len(pieces)


def test_an_order_for_any_piece_serves_for_one_only(machine: Machine) -> None:
    one, other = make_piece("a", 4096, index=0), make_piece("a", 4096, index=1)
    machine.run(put(machine.store, one, admission_of(one, "x", machine.now_ms)))
    again = admission_of(other, "x", machine.now_ms)
    assert refusal(machine, put(machine.store, other, again)) is Kind.REPLAYED
    machine.crash()
    machine.boot()
    assert refusal(machine, put(machine.store, other, again)) is Kind.REPLAYED

    async def both() -> list[object]:
        tries = [
            put(machine.store, p, admission_of(p, "y", machine.now_ms))
            for p in (make_piece("c", 64, index=2), make_piece("c", 64, index=3))
        ]
        return list(await asyncio.gather(*tries, return_exceptions=True))

    outcome = machine.run(both())
    assert sum(isinstance(o, AtollError) and o.kind is Kind.REPLAYED for o in outcome) == 1


def test_a_deleted_piece_stays_deleted_and_its_put_order_is_spent(machine: Machine) -> None:
    piece = make_piece("a", 4096)
    stored = admission_of(piece, "put", machine.now_ms)
    deleted = admission_of(piece, "delete", machine.now_ms)
    machine.run(put(machine.store, piece, stored))
    machine.run(machine.store.delete(deleted))
    machine.run(machine.store.delete(deleted))
    for _ in range(2):
        assert machine.store.counters().pieces == 0
        assert machine.store.counters().trash_bytes == len(piece.record)
        assert refusal(machine, put(machine.store, piece, stored)) is Kind.REPLAYED
        # An order from before the deletion may still read; it revives nothing.
        assert machine.run(get(machine.store, piece.id)) == piece.record
        assert machine.store.counters().pieces == 0
        machine.crash()
        machine.boot()


def test_the_trash_is_emptied_by_the_clock_and_the_room_comes_back(machine: Machine) -> None:
    pieces = [make_piece(f"p{i}", 60 * KIB) for i in range(12)]
    stored = [admission_of(p, f"put{i}", machine.now_ms) for i, p in enumerate(pieces)]
    for piece, admission in zip(pieces, stored, strict=True):
        machine.run(put(machine.store, piece, admission))
    full = machine.store.volume.logs.physical_bytes
    for i, piece in enumerate(pieces[:-1]):
        machine.run(machine.store.delete(admission_of(piece, f"delete{i}", machine.now_ms)))
    machine.run(machine.store.maintain())
    assert machine.store.counters().trash_bytes == sum(len(p.record) for p in pieces[:-1])
    machine.pass_time(TINY.trash_ms / 1000 + 1)
    machine.run(machine.store.maintain())
    assert machine.store.counters().trash_bytes == 0
    assert machine.store.volume.logs.physical_bytes < full / 2
    assert refusal(machine, get(machine.store, pieces[0].id)) is Kind.NOT_FOUND
    # The log is gone, the order is still known.
    assert refusal(machine, put(machine.store, pieces[0], stored[0])) is Kind.REPLAYED
    machine.crash()
    machine.boot()
    assert refusal(machine, put(machine.store, pieces[0], stored[0])) is Kind.REPLAYED
    assert machine.run(get(machine.store, pieces[-1].id)) == pieces[-1].record
    assert machine.store.counters().pieces == 1


def test_a_newer_read_order_takes_a_piece_out_of_the_trash(machine: Machine) -> None:
    piece = make_piece("a", 4096)
    machine.run(put(machine.store, piece, admission_of(piece, "put", machine.now_ms)))
    machine.run(machine.store.delete(admission_of(piece, "delete", machine.now_ms)))
    machine.pass_time(120)
    assert machine.run(get(machine.store, piece.id, machine.now_ms)) == piece.record
    assert machine.store.counts.revived == 1
    for _ in range(2):
        assert machine.store.counters().pieces == 1
        machine.crash()
        machine.boot()


def test_retention_and_the_coordinator_of_the_put_bind_a_delete(machine: Machine) -> None:
    piece = make_piece("a", 4096)
    until = machine.now_ms + 10_000
    machine.run(
        put(
            machine.store,
            piece,
            admission_of(piece, "put", machine.now_ms, retention_until_ms=until),
        )
    )
    machine.crash()
    machine.boot()
    for name, changes, kind in (
        ("d1", {}, Kind.RETAINED),
        ("d2", {"issuer": 8}, Kind.FORBIDDEN),
    ):
        admission = admission_of(piece, name, machine.now_ms, **changes)
        assert refusal(machine, machine.store.delete(admission)) is kind
    machine.pass_time(11)
    machine.run(machine.store.delete(admission_of(piece, "d3", machine.now_ms)))
    absent = admission_of(make_piece("b", 64), "d4", machine.now_ms)
    assert refusal(machine, machine.store.delete(absent)) is Kind.NOT_FOUND


def test_a_full_disk_refuses_new_pieces_but_reads_and_deletes() -> None:
    machine = Machine("full", replace(TINY, capacity_bytes=64 << 20), disk_bytes=1024 * KIB)
    machine.boot()
    large = make_piece("large", 100 * KIB)
    machine.run(put(machine.store, large, admission_of(large, "large", machine.now_ms)))
    pieces = fill(machine, 40 * KIB)
    again = admission_of(large, "again", machine.now_ms)
    assert machine.run(put(machine.store, large, again)).repeated
    assert len(pieces) > 10
    # What is left at the end of the last log is too short for such a piece.
    assert machine.store.volume.room_bytes() < (42 + 42) * KIB
    for size in (40 * KIB, 100 * KIB):
        refused = make_piece(f"one more {size}", size)
        admission = admission_of(refused, "one more", machine.now_ms)
        assert refusal(machine, put(machine.store, refused, admission)) is Kind.DISK_FULL
    for piece in pieces:
        assert machine.run(get(machine.store, piece.id)) == piece.record
    for i, piece in enumerate(pieces):
        machine.run(machine.store.delete(admission_of(piece, f"d{i}", machine.now_ms)))
    machine.pass_time(TINY.trash_ms / 1000 + 1)
    machine.run(machine.store.maintain())
    assert not machine.store.full
    machine.run(put(machine.store, make_piece("new", 40 * KIB), admission_of(
        make_piece("new", 40 * KIB), "new", machine.now_ms)))  # fmt: skip
    machine.end()


def test_the_capacity_offered_is_kept() -> None:
    machine = Machine("capacity", replace(TINY, capacity_bytes=300 * KIB))
    machine.boot()
    stored = sum(len(piece.record) for piece in fill(machine, 10 * KIB))
    assert 260 * KIB < stored <= 300 * KIB
    assert machine.store.volume.room_bytes() < 11 * KIB
    machine.end()


def test_a_failed_sync_is_final_until_a_restart(machine: Machine) -> None:
    kept, other = make_piece("a", 4096), make_piece("b", 4096)
    machine.run(put(machine.store, kept, admission_of(kept, "a", machine.now_ms)))
    machine.platter.faults.sync_fails = 1.0
    admission = admission_of(other, "b", machine.now_ms)
    assert refusal(machine, put(machine.store, other, admission)) is Kind.INTERNAL
    machine.platter.faults.sync_fails = 0.0
    assert machine.store.failed
    assert refusal(machine, put(machine.store, other, admission)) is Kind.INTERNAL
    assert machine.store.counters().free_bytes == 0
    assert machine.run(get(machine.store, kept.id)) == kept.record
    machine.crash()
    machine.boot()
    machine.run(put(machine.store, other, admission))
    assert not machine.store.failed


def test_scrub_finds_rot_and_only_that_piece_is_lost(machine: Machine) -> None:
    pieces = [make_piece(f"p{i}", 3000 + i) for i in range(10)]
    for i, piece in enumerate(pieces):
        machine.run(put(machine.store, piece, admission_of(piece, f"p{i}", machine.now_ms)))
    row = machine.store.volume.index.get(pieces[4].id)
    assert row is not None
    content = machine.platter.files["logs/00000001.log"].content
    harmed = row.offset + 1000
    content.write(harmed, bytes((content.read(harmed, 1)[0] ^ 0x10,)))
    assert machine.run(machine.store.scrub()) == 1
    assert machine.store.lost(10) == [pieces[4].id]
    assert refusal(machine, get(machine.store, pieces[4].id)) is Kind.DATA_LOST
    machine.crash()
    machine.boot()
    assert machine.store.lost(10) == [pieces[4].id]
    for piece in pieces[:4] + pieces[5:]:
        assert machine.run(get(machine.store, piece.id)) == piece.record
    # Repair may bring it back to this very node, even by the same order.
    machine.run(put(machine.store, pieces[4], admission_of(pieces[4], "repair", machine.now_ms)))
    assert machine.store.lost(10) == []
    assert machine.run(get(machine.store, pieces[4].id)) == pieces[4].record


def test_told_losses_are_forgotten(machine: Machine) -> None:
    piece = make_piece("a", 3000)
    machine.run(put(machine.store, piece, admission_of(piece, "a", machine.now_ms)))
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    machine.run(machine.store.damaged(piece.id, row))
    assert machine.store.lost(10) == [piece.id]
    machine.run(machine.store.told_lost([piece.id]))
    assert machine.store.lost(10) == []


def test_compaction_does_not_pull_a_log_from_under_a_reader(machine: Machine) -> None:
    pieces = [make_piece(f"p{i}", 60 * KIB) for i in range(9)]
    for i, piece in enumerate(pieces):
        machine.run(put(machine.store, piece, admission_of(piece, f"p{i}", machine.now_ms)))

    async def read_slowly() -> bytes:
        row = await machine.store.locate(pieces[0].id, 0)
        with machine.store.reading(row) as reader:
            first = await reader.read(0, 1000)
            await asyncio.sleep(3 * HOUR_MS / 1000)
            return first + await reader.read(1000, row.body_bytes - 1000)

    reader = machine.start(read_slowly())
    machine.pass_time(1)
    for i, piece in enumerate(pieces[1:]):
        machine.run(machine.store.delete(admission_of(piece, f"d{i}", machine.now_ms)))
    machine.pass_time(TINY.trash_ms / 1000 + 1)
    upkeep = machine.start(machine.store.maintain())
    machine.pass_time(100)
    assert not upkeep.done()
    assert machine.run(get(machine.store, pieces[0].id)) == pieces[0].record
    machine.pass_time(3 * HOUR_MS / 1000)
    assert reader.result() == pieces[0].record


def test_bytes_inside_a_piece_never_pass_for_a_record(machine: Machine) -> None:
    """An attacker stores a whole log, tombstones and all, as the data of his piece."""
    victim = make_piece("victim", 4096)
    machine.run(put(machine.store, victim, admission_of(victim, "v", machine.now_ms)))
    machine.run(machine.store.delete(admission_of(victim, "d", machine.now_ms)))
    log = machine.platter.files["logs/00000001.log"].content.read(0, 8 * KIB)
    header = replace(make_piece("attack", len(log)).header)
    roots = [piece_root(log)] * header.n
    before = encode_header(header) + log
    trailer = encode_trailer(header, sign_trailer(UPLOADER, header, roots), crc32c(before))
    attack = Piece(header, before + trailer)
    machine.run(put(machine.store, attack, admission_of(attack, "a", machine.now_ms)))
    row = machine.store.volume.index.get(attack.id)
    assert row is not None
    # The head of the attacker's own record rots, so that a scan walks into his data.
    machine.platter.files["logs/00000001.log"].content.write(row.offset, b"X")
    after = make_piece("after", 4096)
    machine.run(put(machine.store, after, admission_of(after, "z", machine.now_ms)))
    machine.crash()
    machine.boot()
    recovered = machine.store.recovered
    assert recovered is not None
    assert recovered.records == 3
    assert machine.run(get(machine.store, after.id)) == after.record
