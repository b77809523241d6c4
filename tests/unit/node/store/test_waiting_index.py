"""New pieces whose rows wait in memory: read, counted, guarded and recovered like all others."""

from typing import Any

import pytest
from tests.unit.node.machine import Machine, admission_of, get, make_piece, put

from atoll.core.errors import AtollError, Kind
from atoll.node.store.index import PENDING_PIECES_MAX
from atoll.node.store.model import State


def rows_written(machine: Machine) -> int:
    found = machine.store.volume.index._reader.execute("SELECT count(*) FROM piece").fetchone()
    return int(found[0])


def test_a_piece_that_waits_is_read_and_its_order_is_spent(machine: Machine) -> None:
    piece, other = make_piece("one", 1000), make_piece("other", 1000)
    machine.run(put(machine.store, piece, admission_of(piece, "order", machine.now_ms)))
    assert rows_written(machine) == 0
    assert machine.run(get(machine.store, piece.id)) == piece.record
    assert machine.store.counters().pieces == 1
    index = machine.store.volume.index
    assert [found for found, _ in index.pieces_in(1)] == [piece.id]
    with pytest.raises(AtollError) as caught:
        machine.run(put(machine.store, other, admission_of(other, "order", machine.now_ms)))
    assert caught.value.kind is Kind.REPLAYED


def test_waiting_pieces_survive_a_loss_of_power(machine: Machine) -> None:
    pieces = [make_piece(f"p{i}", 1000) for i in range(5)]
    for i, piece in enumerate(pieces):
        machine.run(put(machine.store, piece, admission_of(piece, f"p{i}", machine.now_ms)))
    assert rows_written(machine) == 0
    machine.crash()
    machine.boot()
    for piece in pieces:
        assert machine.run(get(machine.store, piece.id)) == piece.record
    late = make_piece("late", 1000)
    with pytest.raises(AtollError) as caught:
        machine.run(put(machine.store, late, admission_of(late, "p0", machine.now_ms)))
    assert caught.value.kind is Kind.REPLAYED


def test_a_deletion_writes_down_what_waits_before_it(machine: Machine) -> None:
    piece = make_piece("one", 1000)
    machine.run(put(machine.store, piece, admission_of(piece, "put", machine.now_ms)))
    machine.run(machine.store.delete(admission_of(piece, "delete", machine.now_ms)))
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    assert row.state == State.TRASH
    assert rows_written(machine) == 1
    assert machine.store.counters().pieces == 0


def test_no_more_than_so_many_wait(machine: Machine) -> None:
    for i in range(PENDING_PIECES_MAX + 1):
        piece = make_piece(f"p{i}", 100)
        machine.run(put(machine.store, piece, admission_of(piece, f"p{i}", machine.now_ms)))
    assert rows_written(machine) == PENDING_PIECES_MAX + 1
    machine.stop()
    machine.boot()
    assert machine.store.counters().pieces == PENDING_PIECES_MAX + 1


def test_a_listing_misses_nothing_that_is_written_down_meanwhile(machine: Machine) -> None:
    pieces = [make_piece(f"p{i}", 100) for i in range(5)]
    for i, piece in enumerate(pieces):
        machine.run(put(machine.store, piece, admission_of(piece, f"p{i}", machine.now_ms)))
    index = machine.store.volume.index
    seek = index._seek

    class Meanwhile:
        """The group commit writes down what waits just when a listing has asked the database."""

        def execute(self, *asked: Any) -> Any:
            found = seek.execute(*asked).fetchall()
            index.apply([], [])
            return Found(found)

    class Found:
        def __init__(self, rows: list[Any]) -> None:
            self.rows = rows

        def fetchall(self) -> list[Any]:
            return self.rows

    index._seek = Meanwhile()  # type: ignore[assignment]
    assert len(index.held(7, 0, 100, 1 << 62)) == 5
    index._seek = seek
    assert rows_written(machine) == 5
    assert len(index.held(7, 0, 100, 1 << 62)) == 5
