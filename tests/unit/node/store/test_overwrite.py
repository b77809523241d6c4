"""What may be written over a piece: its own bytes, whoever's order deleted it; no others.

An attacker who holds a coordinator's key can order any deletion and any upload.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.node.machine import (
    THIEF,
    TINY,
    UPLOADER,
    Machine,
    Piece,
    admission_of,
    forged,
    get,
    make_piece,
    put,
    signed_again,
)

from atoll.core.capsule import owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PayerTag
from atoll.core.pieces import Tlv, TlvType, encode_header, parse_trailer
from atoll.node.store.log import HEAD_BYTES
from atoll.node.store.model import Row, State
from atoll.node.store.store import PieceStore
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

SIZES = pytest.mark.parametrize("data_bytes", [4096, 200 << 10])
OWNED = (
    Tlv(TlvType.BUCKET_TAG, b"t" * 16),
    Tlv(TlvType.RECOVERY_CAPSULE, b"capsule of the owner"),
    Tlv(TlvType.OWNER_KEY_HASH, owner_hash_of(UPLOADER.public_key)),
)


def resigned(piece: Piece, header: object, signer: object) -> Piece:
    """The same data and roots under another header, signed for it."""
    return signed_again(
        Piece(header, encode_header(header) + piece.data),  # type: ignore[arg-type]
        roots_of(piece),
        signer,  # type: ignore[arg-type]
    )


def roots_of(piece: Piece) -> list[bytes]:
    start = piece.header.head_bytes + piece.header.data_bytes
    return list(parse_trailer(piece.header, piece.record[start:])[0].piece_roots)


def owned(name: str, data_bytes: int) -> Piece:
    piece = make_piece(name, data_bytes)
    return resigned(piece, replace(piece.header, tlvs=OWNED), UPLOADER)


def do_put(machine: Machine, piece: Piece, name: str, **changes: object) -> bool:
    """Store a piece; say whether it was there already."""
    admission = admission_of(piece, name, machine.now_ms, **changes)
    return machine.run(put(machine.store, piece, admission)).repeated


def put_refusal(machine: Machine, piece: Piece, name: str, **changes: object) -> Kind:
    with pytest.raises(AtollError) as refused:
        do_put(machine, piece, name, **changes)
    return refused.value.kind


def row_of(machine: Machine, piece: Piece) -> Row:
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    return row


def delete(machine: Machine, piece: Piece, how: str = "order") -> None:
    if how == "order":
        machine.run(machine.store.delete(admission_of(piece, "delete", machine.now_ms)))
    else:
        (held,) = machine.store.held(7, 0, 10)
        assert machine.run(machine.store.discard(held))
    assert row_of(machine, piece).state == State.TRASH


def restart(machine: Machine, how: str) -> None:
    """Start again; the simulated disk keeps no index, so that it is built anew from the logs."""
    if how == "stop":
        machine.stop()
    else:
        machine.crash()
    machine.boot()


def flip(machine: Machine, row: Row, at: int) -> None:
    """Damage one byte of a stored record, counted from its head."""
    content = machine.platter.files[f"logs/{row.log:08d}.log"].content
    offset = row.offset + at
    content.write(offset, bytes((content.read(offset, 1)[0] ^ 0x10,)))


@SIZES
@pytest.mark.parametrize("how", ["order", "discarded"])
@pytest.mark.parametrize("issuer", [7, 8])
def test_what_lies_in_the_trash_is_not_overwritten(
    machine: Machine, data_bytes: int, how: str, issuer: int
) -> None:
    piece = owned("a", data_bytes)
    do_put(machine, piece, "put")
    delete(machine, piece, how)
    plain = make_piece("a", data_bytes)
    capsule = (OWNED[0], Tlv(TlvType.RECOVERY_CAPSULE, b"capsule of a thief!!"), OWNED[2])
    attacks = [
        forged(piece),
        forged(plain),
        make_piece("a", data_bytes + 64),
        resigned(piece, plain.header, THIEF),
        resigned(piece, replace(piece.header, tlvs=capsule), THIEF),
        resigned(piece, piece.header, THIEF),
    ]
    physical = machine.store.volume.logs.physical_bytes
    for step in ("at once", "crash", "stop"):
        if step != "at once":
            restart(machine, step)
        for number, attack in enumerate(attacks):
            assert attack.id == piece.id
            kind = put_refusal(machine, attack, f"{step}{number}", issuer=issuer)
            assert kind is Kind.CONFLICT
        assert machine.run(get(machine.store, piece.id)) == piece.record
        assert row_of(machine, piece).state == State.TRASH
        assert machine.store.volume.logs.physical_bytes == physical


@SIZES
@pytest.mark.parametrize("how", ["crash", "stop"])
def test_the_same_record_takes_a_piece_out_of_the_trash(
    machine: Machine, data_bytes: int, how: str
) -> None:
    piece = owned("a", data_bytes)
    do_put(machine, piece, "put")
    delete(machine, piece)
    # The order of before the deletion does not undo it.
    assert put_refusal(machine, piece, "put") is Kind.REPLAYED
    # A repair: another payer, by another coordinator's order; all else byte for byte.
    header = replace(piece.header, payer_tag=PayerTag(b"p" * 16))
    repaired = resigned(piece, header, UPLOADER)
    assert not do_put(machine, repaired, "repair", issuer=8)
    assert do_put(machine, repaired, "repair", issuer=8)
    for _ in range(2):
        assert row_of(machine, piece).state == State.LIVE
        assert row_of(machine, piece).issuer == 8
        assert machine.run(get(machine.store, piece.id)) == repaired.record
        assert put_refusal(machine, forged(piece), "attack") is Kind.CONFLICT
        assert machine.store.counters().pieces == 1
        assert machine.store.counters().trash_bytes == 0
        restart(machine, how)


@SIZES
@pytest.mark.parametrize("state", [State.TRASH, State.LOST])
@pytest.mark.parametrize("part", ["header", "data", "trailer", "mark"])
def test_a_damaged_piece_is_replaced_by_its_own_bytes_only(
    machine: Machine, data_bytes: int, state: State, part: str
) -> None:
    piece = owned("a", data_bytes)
    do_put(machine, piece, "put")
    row = row_of(machine, piece)
    if state is State.TRASH:
        delete(machine, piece)
    at = {
        "header": 70,
        "data": row.head_bytes + 5,
        "trailer": row.body_bytes - 60,
        "mark": row.body_bytes - 1,
    }[part]
    flip(machine, row, HEAD_BYTES + at)
    if state is State.LOST:
        machine.run(machine.store.damaged(piece.id, row))
    assert row_of(machine, piece).state == state
    plain = make_piece("a", data_bytes)
    for attack in (forged(piece), forged(plain), resigned(piece, plain.header, THIEF)):
        assert put_refusal(machine, attack, "attack") is Kind.CONFLICT
    assert not do_put(machine, piece, "repair")
    for how in ("crash", "stop"):
        assert row_of(machine, piece).state == State.LIVE
        assert machine.run(get(machine.store, piece.id)) == piece.record
        restart(machine, how)
    assert machine.store.lost(10) == []


@SIZES
@pytest.mark.parametrize("at", [20, HEAD_BYTES + 70])
def test_a_live_piece_found_unreadable_is_taken_anew(
    machine: Machine, data_bytes: int, at: int
) -> None:
    piece = owned("a", data_bytes)
    do_put(machine, piece, "put")
    flip(machine, row_of(machine, piece), at)
    assert put_refusal(machine, forged(piece), "attack") is Kind.CONFLICT
    assert row_of(machine, piece).state == State.LIVE
    if data_bytes > 64 << 10:
        # Its room was not asked for: the piece was there.
        assert put_refusal(machine, piece, "again") is Kind.CONFLICT
        assert machine.store.lost(10) == [piece.id]
    assert not do_put(machine, piece, "again")
    assert machine.run(get(machine.store, piece.id)) == piece.record
    assert machine.store.lost(10) == []


def test_past_the_trash_the_id_is_free(machine: Machine) -> None:
    piece = owned("a", 4096)
    do_put(machine, piece, "put")
    delete(machine, piece)
    machine.pass_time(TINY.trash_ms / 1000 + 1)
    machine.run(machine.store.maintain())
    other = forged(piece)
    assert not do_put(machine, other, "other")
    assert machine.run(get(machine.store, piece.id)) == other.record


@pytest.mark.parametrize("keep", ["no index", "index of before", "index"])
async def test_what_wins_is_the_same_however_the_index_comes_back(
    tmp_path: Path, keep: str
) -> None:
    compute = ThreadCompute(1)
    clock = SystemClock()

    async def opened() -> PieceStore:
        store = PieceStore(FolderDisk(tmp_path), compute, clock, SystemRng(), TINY)
        await store.open()
        return store

    names = ("revived", "kept", "kept large")
    pieces = [owned(name, 100_000 if "large" in name else 4096) for name in names]
    store = await opened()
    for number, piece in enumerate(pieces):
        await put(store, piece, admission_of(piece, f"put{number}", clock.now_ms()))
    await store.close()
    before = (tmp_path / "index.sqlite").read_bytes()
    store = await opened()
    for number, piece in enumerate(pieces):
        await store.delete(admission_of(piece, f"delete{number}", clock.now_ms()))
        attack = admission_of(piece, f"attack{number}", clock.now_ms())
        with pytest.raises(AtollError) as refused:
            await put(store, forged(piece), attack)
        assert refused.value.kind is Kind.CONFLICT
    header = replace(pieces[0].header, payer_tag=PayerTag(b"p" * 16))
    repaired = resigned(pieces[0], header, UPLOADER)
    await put(store, repaired, admission_of(repaired, "repair", clock.now_ms(), issuer=8))
    await store.close()
    if keep != "index":
        (tmp_path / "index.sqlite").unlink()
    if keep == "index of before":
        (tmp_path / "index.sqlite").write_bytes(before)
    store = await opened()
    assert store.recovered is not None
    assert store.recovered.rebuilt == (keep == "no index")
    found = [store.volume.index.get(piece.id) for piece in pieces]
    assert [row and (row.state, row.issuer) for row in found] == [
        (State.LIVE, 8),
        (State.TRASH, 7),
        (State.TRASH, 7),
    ]
    for piece in (repaired, *pieces[1:]):
        assert await get(store, piece.id) == piece.record
    await store.close()
    compute.close()
