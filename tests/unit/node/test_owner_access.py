"""Owners at a node: they list and read their own, without an order and against any coordinator."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.node.machine import (
    HOUR_MS,
    UPLOADER,
    Machine,
    Piece,
    admission_of,
    make_piece,
)
from tests.unit.node.test_app import NODE, Answer, Door

from atoll.core.capsule import label_tlvs, owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.merkle import piece_root
from atoll.core.messages import decode, encode
from atoll.core.messages.recovery import (
    AdoptPiece,
    AdoptPieces,
    ListOwned,
    OwnedPieces,
    PiecesAdopted,
    SignedAdoption,
)
from atoll.core.orders import Action
from atoll.core.owner import PROOF_MS_MAX, sign_adoption, sign_owner_proof
from atoll.core.pieces import crc32c, encode_header, encode_trailer, sign_trailer
from atoll.core.retention import Mode, RetentionRecord, grant_lock_key, sign_record
from atoll.node.orders import issuer_of_key
from atoll.node.owner_access import ADOPT_PATH, CHECKS_PER_S, LIST_PATH, PAGES_PER_S
from atoll.node.store.compaction import Compactor

OWNER = Identity(b"owner".ljust(32, b"."))
OTHER = Identity(b"other owner".ljust(32, b"."))
TAGS = (b"january".ljust(16, b"."), b"february".ljust(16, b"."))


def owned_piece(name: str, owner: Identity = OWNER, tag: bytes = TAGS[0]) -> Piece:
    piece = make_piece(name, 5000)
    tlvs = label_tlvs(tag, b"capsule", owner_hash_of(owner.public_key))
    header = replace(piece.header, tlvs=tlvs)
    roots = [bytes(32)] * header.n
    roots[header.index] = piece_root(piece.data)
    head = encode_header(header)
    crc = crc32c(head + piece.data)
    tail = encode_trailer(header, sign_trailer(UPLOADER, header, roots), crc)
    return Piece(header, head + piece.data + tail)


@pytest.fixture
def door(machine: Machine) -> Door:
    made = Door(machine)
    made.app.routes.update(made.app.owners.routes)
    return made


def proof_of(door: Door, owner: Identity = OWNER, node: Identity = NODE) -> bytes:
    return sign_owner_proof(owner, node.node_id, door.machine.now_ms)


def list_of(door: Door, proof: bytes, **wanted: Any) -> Answer:
    answer: Answer = door.run(door.ask("POST", LIST_PATH, proof, encode(ListOwned(**wanted))))
    return answer


def pieces_of(answer: Answer) -> OwnedPieces:
    assert answer.status == 200, answer.kind
    listed: OwnedPieces = decode(answer.body, OwnedPieces)
    return listed


def stored(door: Door, *pieces: Piece) -> None:
    for piece in pieces:
        assert door.put(piece, door.order(piece, Action.PUT)).status == 201


def test_an_owner_lists_his_pieces_page_by_page_and_by_tag(door: Door) -> None:
    mine = [owned_piece(str(i), tag=TAGS[i % 2]) for i in range(5)]
    stored(door, *mine, owned_piece("theirs", OTHER), make_piece("nobody's", 5000))
    proof, seen, after = proof_of(door), [], b""
    while True:
        page = pieces_of(list_of(door, proof, after=after, limit=2))
        seen += page.pieces
        if not page.more:
            break
        after = page.pieces[-1].piece
    assert [one.piece for one in seen] == sorted(piece.id for piece in mine)
    assert {(one.segment, one.index) for one in seen} == {
        (piece.header.segment_id, piece.header.index) for piece in mine
    }
    tagged = pieces_of(list_of(door, proof, tag=TAGS[1])).pieces
    assert {one.piece for one in tagged} == {mine[1].id, mine[3].id}
    assert not any(one.trash for one in seen)


def test_an_owner_reads_his_piece_with_head_and_trailer(door: Door) -> None:
    piece = owned_piece("a")
    stored(door, piece)
    proof = proof_of(door)
    parts = [door.get(piece, proof, f"part={part}").body for part in ("head", "data", "trailer")]
    assert b"".join(parts) == piece.record
    assert door.get(piece, proof, "part=data&offset=7&length=9").body == piece.data[7:16]


def test_what_a_hostile_coordinator_deleted_its_owner_still_finds_and_reads(door: Door) -> None:
    piece = owned_piece("a")
    stored(door, piece)
    assert door.delete([door.order(piece, Action.DELETE)]) == [""]
    proof = proof_of(door)
    assert [one.trash for one in pieces_of(list_of(door, proof)).pieces] == [True]
    assert door.get(piece, proof).body == piece.data


def test_others_find_and_read_nothing(door: Door) -> None:
    mine, nobodys = owned_piece("a"), make_piece("b", 5000)
    stored(door, mine, nobodys)
    theirs = proof_of(door, OTHER)
    assert pieces_of(list_of(door, theirs)).pieces == []
    assert door.get(mine, theirs).kind is Kind.NOT_FOUND
    assert door.get(nobodys, proof_of(door)).kind is Kind.NOT_FOUND


def test_a_proof_is_for_one_node_and_a_short_time(door: Door) -> None:
    piece = owned_piece("a")
    stored(door, piece)
    elsewhere = proof_of(door, node=Identity(b"another node".ljust(32, b".")))
    assert door.get(piece, elsewhere).kind is Kind.FORBIDDEN
    good = proof_of(door)
    for spoilt in range(len(good) - 40, len(good), 7):
        forged = bytearray(good)
        forged[spoilt] ^= 1
        assert door.get(piece, bytes(forged)).kind is Kind.UNAUTHENTICATED
    assert door.get(piece, good[:-1]).kind is Kind.BAD_REQUEST
    later = sign_owner_proof(OWNER, NODE.node_id, door.machine.now_ms + HOUR_MS)
    assert door.get(piece, later).kind is Kind.CLOCK_SKEW
    assert door.get(piece, good).status == 200
    door.run(door.machine.clock.sleep(PROOF_MS_MAX / 1000 + 1))
    assert door.get(piece, good).kind is Kind.EXPIRED
    assert list_of(door, good).kind is Kind.EXPIRED


def test_a_proof_only_reads(door: Door) -> None:
    piece = owned_piece("a")
    stored(door, piece)
    proof = proof_of(door)
    assert door.put(owned_piece("b"), proof).kind in (Kind.BAD_REQUEST, Kind.NEWER_FORMAT)
    assert door.delete([proof]) != [""]
    assert door.get(piece, proof).status == 200


def test_strangers_cannot_keep_a_node_busy(door: Door) -> None:
    refused = 0
    for number in range(CHECKS_PER_S * 3):
        stranger = Identity(number.to_bytes(32, "big"))
        refused += list_of(door, proof_of(door, stranger)).status != 200
    assert refused
    door.run(door.machine.clock.sleep(2.0))
    proof = proof_of(door)
    statuses = [list_of(door, proof).status for _ in range(PAGES_PER_S * 4)]
    assert statuses[0] == 200
    assert statuses[-1] != 200


def test_a_malformed_question_is_refused(door: Door) -> None:
    proof = proof_of(door)
    assert list_of(door, proof, tag=b"short").kind is Kind.BAD_REQUEST
    for body in (b"", b"\xff", base64.b64encode(b"x" * 100)):
        answer: Answer = door.run(door.ask("POST", LIST_PATH, proof, body))
        assert answer.kind is Kind.BAD_REQUEST
    without: Answer = door.run(door.ask("POST", LIST_PATH, None, encode(ListOwned())))
    assert without.kind is Kind.UNAUTHENTICATED


# --- adoption ------------------------------------------------------------------------------------

NEW = Identity(b"new coordinator".ljust(32, b"."))


def adoption_of(
    proof: bytes, pieces: list[AdoptPiece], to: Identity = NEW, owner: Identity = OWNER
) -> bytes:
    body = encode(AdoptPieces(coordinator_key=to.public_key, pieces=pieces))
    return encode(SignedAdoption(body=body, signature=sign_adoption(owner, proof, body)))


def adopt(door: Door, proof: bytes, body: bytes) -> Answer:
    answer: Answer = door.run(door.ask("POST", ADOPT_PATH, proof, body))
    return answer


def outcomes_of(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.kind
    told: PiecesAdopted = decode(answer.body, PiecesAdopted)
    return told.outcomes


def test_an_owner_gives_his_pieces_to_another_coordinator(door: Door) -> None:
    door.app.owners.coordinators = {NEW.public_key}
    mine, deleted, other = owned_piece("a"), owned_piece("b"), owned_piece("c", OTHER)
    stored(door, mine, deleted, other)
    door.delete([door.order(deleted, Action.DELETE)])
    proof = proof_of(door)
    wanted = [
        AdoptPiece(piece=piece.id, segment_serial=70 + number)
        for number, piece in enumerate((mine, deleted, other))
    ]
    assert outcomes_of(adopt(door, proof, adoption_of(proof, wanted))) == ["", "", "not_found"]
    listed = {one.piece: one for one in pieces_of(list_of(door, proof)).pieces}
    assert {one.issuer for one in listed.values()} == {issuer_of_key(NEW.public_key)}
    assert listed[mine.id].segment_serial == 70
    assert listed[deleted.id].segment_serial == 71
    assert not listed[deleted.id].trash
    # The former coordinator may no longer delete; again and again changes nothing.
    assert door.delete([door.order(mine, Action.DELETE)]) == ["forbidden"]
    assert outcomes_of(adopt(door, proof, adoption_of(proof, wanted[:1]))) == [""]
    # Nor does it rebuild from them, or find them where it "rebuilds" one; readers may still read.
    assert door.get(mine, door.order(mine, Action.REPAIR_GET)).kind is Kind.FORBIDDEN
    assert door.put(mine, door.order(mine, Action.REPAIR_PUT)).kind is Kind.FORBIDDEN
    assert door.get(mine, door.order(mine, Action.GET)).status == 200
    held = door.machine.store.held(issuer_of_key(NEW.public_key), 0, 10)
    assert [one.segment_serial for one in held] == [70, 71]


def test_an_adoption_outlives_crash_rebuild_and_compaction(machine: Machine) -> None:
    door = Door(machine)
    door.app.routes.update(door.app.owners.routes)
    door.app.owners.coordinators = {NEW.public_key}
    pieces = [owned_piece(str(number)) for number in range(3)]
    stored(door, *pieces)
    proof = proof_of(door)
    wanted = [AdoptPiece(piece=one.id, segment_serial=5 + i) for i, one in enumerate(pieces)]
    assert outcomes_of(adopt(door, proof, adoption_of(proof, wanted))) == ["", "", ""]

    def serials() -> list[int]:
        held = machine.store.held(issuer_of_key(NEW.public_key), 0, 10)
        return [one.segment_serial for one in held]

    machine.crash()
    machine.boot()
    assert serials() == [5, 6, 7]
    machine.store.volume.logs.seal_active()
    (log,) = machine.store.volume.logs.files.values()
    machine.run(Compactor(machine.store.volume)._compact(log))
    assert log.number not in machine.store.volume.logs.files
    assert serials() == [5, 6, 7]
    machine.crash()
    machine.boot()
    assert serials() == [5, 6, 7]


def test_only_the_owner_and_only_for_this_node_and_a_coordinator_it_serves(door: Door) -> None:
    piece = owned_piece("a")
    stored(door, piece)
    proof, wanted = proof_of(door), [AdoptPiece(piece=piece.id, segment_serial=1)]
    assert adopt(door, proof, adoption_of(proof, wanted)).kind is Kind.FORBIDDEN
    door.app.owners.coordinators = {NEW.public_key}
    forged = adoption_of(proof, wanted, owner=OTHER)
    assert adopt(door, proof, forged).kind is Kind.UNAUTHENTICATED
    door.run(door.machine.clock.sleep(0.01))
    other_proof = proof_of(door)
    assert other_proof != proof
    moved = adoption_of(proof, wanted)
    assert adopt(door, other_proof, moved).kind is Kind.UNAUTHENTICATED
    nowhere = adoption_of(proof, [AdoptPiece(piece=piece.id, segment_serial=0)])
    assert adopt(door, proof, nowhere).kind is Kind.BAD_REQUEST
    many = adoption_of(proof, wanted * 1001)
    assert adopt(door, proof, many).kind is Kind.TOO_LARGE
    assert adopt(door, proof, b"\xff").kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("crash", [False, True])
def test_a_lock_stays_in_force_whoever_the_piece_obeys(door: Door, crash: bool) -> None:
    """Neither the former nor the new coordinator deletes, counts away or empties what is locked."""
    door.app.owners.coordinators = {NEW.public_key}
    piece, lock = owned_piece("a"), Identity(b"lock".ljust(32, b"."))
    stored(door, piece)
    machine = door.machine
    until_ms = machine.now_ms + 30 * 24 * HOUR_MS
    said = RetentionRecord(
        piece.header.segment_id, lock.public_key, Mode.COMPLIANCE, until_ms, False, machine.now_ms
    )
    record, grant = sign_record(lock, said), grant_lock_key(OWNER, lock.public_key)
    door.run(machine.store.extend_retention(piece.id, record, grant))
    proof = proof_of(door)
    wanted = [AdoptPiece(piece=piece.id, segment_serial=7)]
    assert outcomes_of(adopt(door, proof, adoption_of(proof, wanted))) == [""]
    if crash:
        machine.crash()
        machine.boot()
    kept = machine.store.kept_retention(piece.id)
    assert kept is not None
    assert (kept.signed, kept.grant) == (record, grant)
    (held,) = machine.store.held(issuer_of_key(NEW.public_key), 0, 10)
    with pytest.raises(AtollError) as refused:
        machine.run(machine.store.discard(held))
    assert refused.value.kind is Kind.RETAINED
    admission = admission_of(
        piece, "new", machine.now_ms, issuer=issuer_of_key(NEW.public_key), segment_serial=7
    )
    with pytest.raises(AtollError) as refused:
        machine.run(machine.store.delete(admission))
    assert refused.value.kind is Kind.RETAINED
    with pytest.raises(AtollError) as refused:
        machine.run(machine.store.delete(admission_of(piece, "old", machine.now_ms)))
    assert refused.value.kind is Kind.FORBIDDEN
