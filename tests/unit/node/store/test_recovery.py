"""What a start makes of logs that were cut, harmed or taken away, and of an index that was."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.node.machine import TINY, Machine, Piece, admission_of, get, make_piece, put

from atoll.core.errors import AtollError, Kind
from atoll.node.store.log import HEAD_BYTES, extent_bytes
from atoll.node.store.store import PieceStore
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

LOG = "logs/00000001.log"


def filled(machine: Machine, count: int = 20) -> list[Piece]:
    pieces = [make_piece(f"p{i}", 1000 + 37 * i) for i in range(count)]
    for i, piece in enumerate(pieces):
        machine.run(put(machine.store, piece, admission_of(piece, f"p{i}", machine.now_ms)))
    return pieces


def present(machine: Machine, pieces: list[Piece]) -> list[bool]:
    """Which pieces are there; one that is there is right."""
    found = []
    for piece in pieces:
        try:
            record = machine.run(get(machine.store, piece.id))
        except AtollError as absent:
            if absent.kind not in (Kind.NOT_FOUND, Kind.DATA_LOST):
                raise
            found.append(False)
        else:
            assert record == piece.record
            found.append(True)
    return found


@pytest.mark.parametrize("seed", range(25))
def test_a_log_cut_anywhere_keeps_what_is_before_the_cut(machine: Machine, seed: int) -> None:
    pieces = filled(machine)
    tail = machine.store.volume.logs.physical_bytes
    cut = random.Random(seed).randrange(tail)
    machine.crash()
    machine.platter.files[LOG].content.resize(cut)
    machine.boot()
    ends = []
    end = 0
    for piece in pieces:
        end += extent_bytes(len(piece.record))
        ends.append(end)
    assert present(machine, pieces) == [end <= cut for end in ends]
    # The store goes on behind the cut.
    late = make_piece("late", 5000)
    machine.run(put(machine.store, late, admission_of(late, "late", machine.now_ms)))
    before = present(machine, pieces)
    machine.crash()
    machine.boot()
    assert present(machine, [*pieces, late]) == [*before, True]


@pytest.mark.parametrize("seed", range(40))
def test_a_corrupt_byte_anywhere_costs_one_piece_at_most(machine: Machine, seed: int) -> None:
    pieces = filled(machine)
    chance = random.Random(seed)
    offset = chance.randrange(machine.store.volume.logs.physical_bytes)
    machine.crash()
    content = machine.platter.files[LOG].content
    content.write(offset, bytes((content.read(offset, 1)[0] ^ (1 << chance.randrange(8)),)))
    machine.boot()
    lost = [p.id for p, there in zip(pieces, present(machine, pieces), strict=True) if not there]
    start = 0
    struck = b""
    for piece in pieces:
        end = start + extent_bytes(len(piece.record))
        if start <= offset < end:
            struck = piece.id
        start = end
    assert lost in ([], [struck])
    if not lost:
        # Only padding may be harmed without harm.
        row = machine.store.volume.index.get(struck)
        assert row is not None
        assert offset >= row.offset + HEAD_BYTES + row.body_bytes + 24
    assert machine.store.counters().pieces == len(pieces) - len(lost)


def harm_nothing(folder: Path) -> None:
    pass


def harm_index(folder: Path) -> None:
    content = bytearray((folder / "index.sqlite").read_bytes())
    content[4096:8192] = random.Random(1).randbytes(4096)
    (folder / "index.sqlite").write_bytes(content)


def remove_index(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()


def replace_index(folder: Path) -> None:
    (folder / "index.sqlite").write_bytes(b"this is no database" * 1000)


def remove_identity(folder: Path) -> None:
    (folder / "store.id").unlink()


def harm_identity(folder: Path) -> None:
    (folder / "store.id.copy").write_bytes(b"x" * 80)


@pytest.mark.parametrize(
    ("harm", "rebuilt"),
    [
        (harm_nothing, False),
        (harm_index, True),
        (remove_index, True),
        (replace_index, True),
        (remove_identity, False),
        (harm_identity, False),
    ],
)
async def test_with_real_files_everything_but_the_logs_may_be_harmed(
    tmp_path: Path, harm: Callable[[Path], None], rebuilt: bool
) -> None:
    compute = ThreadCompute(2)

    async def opened() -> PieceStore:
        store = PieceStore(FolderDisk(tmp_path), compute, SystemClock(), SystemRng(), TINY)
        await store.open()
        return store

    now_ms = SystemClock().now_ms()
    pieces = [make_piece(f"p{i}", 3000 * (1 + i % 3) + i) for i in range(60)]
    store = await opened()
    for i, piece in enumerate(pieces):
        await put(store, piece, admission_of(piece, f"p{i}", now_ms))
    for i in range(10):
        await store.delete(admission_of(pieces[i], f"d{i}", now_ms))
    counters = store.counters()
    await store.close()
    harm(tmp_path)
    store = await opened()
    assert store.recovered is not None
    assert store.recovered.rebuilt == rebuilt
    after = store.counters()
    assert (after.pieces, after.used_bytes, after.trash_bytes) == (
        50,
        counters.used_bytes,
        counters.trash_bytes,
    )
    for piece in pieces:
        assert await get(store, piece.id) == piece.record
    assert store.lost(100) == []
    await store.close()
    compute.close()


async def test_with_real_files_a_log_taken_away_is_told_as_lost(tmp_path: Path) -> None:
    compute = ThreadCompute(2)
    disk = FolderDisk(tmp_path)
    store = PieceStore(disk, compute, SystemClock(), SystemRng(), TINY)
    await store.open()
    pieces = [make_piece(f"p{i}", 60_000) for i in range(9)]
    for i, piece in enumerate(pieces):
        await put(store, piece, admission_of(piece, f"p{i}", SystemClock().now_ms()))
    await store.close()
    (tmp_path / "logs" / "00000001.log").unlink()
    store = PieceStore(disk, compute, SystemClock(), SystemRng(), TINY)
    recovered = await store.open()
    assert recovered.rebuilt
    lost = store.lost(100)
    assert sorted(lost) == sorted(p.id for p in pieces[:4])
    for piece in pieces[4:]:
        assert await get(store, piece.id) == piece.record
    await store.close()
    compute.close()


async def test_logs_without_their_key_are_refused(tmp_path: Path) -> None:
    compute = ThreadCompute(2)
    store = PieceStore(FolderDisk(tmp_path), compute, SystemClock(), SystemRng(), TINY)
    await store.open()
    piece = make_piece("a", 1000)
    await put(store, piece, admission_of(piece, "a", SystemClock().now_ms()))
    await store.close()
    for name in ("store.id", "store.id.copy"):
        (tmp_path / name).unlink()
    with pytest.raises(AtollError) as refused:
        await PieceStore(FolderDisk(tmp_path), compute, SystemClock(), SystemRng(), TINY).open()
    assert refused.value.kind is Kind.WRONG_FOLDER
    compute.close()
