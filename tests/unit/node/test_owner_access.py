"""Owners at a node: they list and read their own, without an order and against any coordinator."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.node.machine import HOUR_MS, UPLOADER, Machine, Piece, make_piece
from tests.unit.node.test_app import NODE, Answer, Door

from atoll.core.capsule import label_tlvs, owner_hash_of
from atoll.core.errors import Kind
from atoll.core.identity import Identity
from atoll.core.merkle import piece_root
from atoll.core.messages import decode, encode
from atoll.core.messages.recovery import ListOwned, OwnedPieces
from atoll.core.orders import Action
from atoll.core.owner import PROOF_MS_MAX, sign_owner_proof
from atoll.core.pieces import crc32c, encode_header, encode_trailer, sign_trailer
from atoll.node.owner_access import CHECKS_PER_S, LIST_PATH, PAGES_PER_S

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
