"""Retention over the node's interface, and what a node that leaves may let go."""

import json

import msgspec
import pytest
from tests.unit.node.machine import COORDINATOR, HOUR_MS, Machine, Piece, admission_of, put
from tests.unit.node.store.test_retention import GRANT, LOCK, OWNER, owned, signed
from tests.unit.node.test_app import NODE, Door

from atoll.core.capsule import owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.merkle import piece_root
from atoll.core.messages.retention import (
    RETENTION_ITEMS_MAX,
    RETENTION_PATH,
    RETENTION_SHOW_PATH,
    RetentionItem,
    RetentionOutcome,
)
from atoll.core.orders import Action, PieceReceipt, sign_orders, sign_receipt
from atoll.core.retention import (
    DAY_MS,
    RetentionReceipt,
    check_retention_receipt,
    record_digest,
    sign_retention_receipt,
)
from atoll.node.orders import issuer_of
from atoll.node.retention import NodeRetention
from atoll.node.store.model import HeldPiece, State

OTHER = Identity(b"other-holder".ljust(32, b"."))


class LockDoor(Door):
    """The node's app with its retention."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.retention = NodeRetention(machine.store, NODE, machine.clock, 10.0)
        self.app.routes.update(self.retention.routes)

    def take(self, *items: RetentionItem) -> list[RetentionOutcome]:
        body = msgspec.msgpack.encode(list(items))
        answer = self.machine.run(self.ask("POST", RETENTION_PATH, body=body))
        assert answer.status == 200, answer.body
        return msgspec.msgpack.decode(answer.body, type=list[RetentionOutcome])

    def show(self, *pieces: bytes) -> list[bytes]:
        body = msgspec.msgpack.encode(list(pieces))
        answer = self.machine.run(self.ask("POST", RETENTION_SHOW_PATH, body=body))
        found: list[bytes] = msgspec.msgpack.decode(answer.body)
        return found


@pytest.fixture
def door(machine: Machine) -> LockDoor:
    return LockDoor(machine)


def stored(door: LockDoor, name: str = "a") -> Piece:
    piece = owned(name)
    machine = door.machine
    issuer = issuer_of(door.order(piece, Action.PUT))
    admission = admission_of(piece, name, machine.now_ms, issuer=issuer)
    machine.run(put(machine.store, piece, admission))
    return piece


def test_each_item_is_answered_for_itself(door: LockDoor) -> None:
    piece, absent = stored(door), owned("absent")
    now_ms = door.machine.now_ms
    record = signed(piece, now_ms + DAY_MS, now_ms)
    older = signed(piece, now_ms + DAY_MS, now_ms - 1)
    (bad,) = door.take(RetentionItem(0, record))
    assert (bad.kind, bad.record) == (Kind.FORBIDDEN.value, b"")
    good, late, gone, nonsense, index = door.take(
        RetentionItem(0, record, GRANT),
        RetentionItem(0, older, GRANT),
        RetentionItem(0, signed(absent, now_ms + DAY_MS, now_ms), GRANT),
        RetentionItem(0, b"nonsense"),
        RetentionItem(999, record),
    )
    assert good.kind == ""
    word = check_retention_receipt(good.receipt, NODE.node_id)
    assert (word.segment_id, word.index) == (piece.header.segment_id, 0)
    assert word.record_digest == record_digest(record)
    assert (late.kind, late.record, late.receipt) == (Kind.CONFLICT.value, record, b"")
    assert gone.kind == Kind.NOT_FOUND.value
    assert nonsense.kind == index.kind == Kind.BAD_REQUEST.value
    assert door.show(piece.id, absent.id) == [record + GRANT, b""]


def test_the_same_record_again_is_confirmed_again(door: LockDoor) -> None:
    piece = stored(door)
    now_ms = door.machine.now_ms
    record = signed(piece, now_ms + DAY_MS, now_ms)
    for item in (RetentionItem(0, record, GRANT), RetentionItem(0, record)):
        (answer,) = door.take(item)
        assert answer.kind == ""


def test_too_much_at_once_is_refused(door: LockDoor) -> None:
    many = msgspec.msgpack.encode([[0, b"", b""]] * (RETENTION_ITEMS_MAX + 1))
    answer = door.machine.run(door.ask("POST", RETENTION_PATH, body=many))
    assert answer.kind is Kind.TOO_LARGE
    for path in (RETENTION_PATH, RETENTION_SHOW_PATH):
        assert door.machine.run(door.ask("POST", path, body=b"\xc1")).kind is Kind.BAD_REQUEST
    short = msgspec.msgpack.encode([b"short"])
    answer = door.machine.run(door.ask("POST", RETENTION_SHOW_PATH, body=short))
    assert answer.kind is Kind.BAD_REQUEST


def test_a_hostile_coordinator_deletes_and_counts_nothing_away(door: LockDoor) -> None:
    machine, piece = door.machine, stored(door)
    now_ms = machine.now_ms
    door.take(RetentionItem(0, signed(piece, now_ms + DAY_MS, now_ms), GRANT))
    orders = sign_orders(COORDINATOR, [door.limit(piece, Action.DELETE)])
    answer = machine.run(door.ask("POST", "/v1/delete", body=msgspec.msgpack.encode(orders)))
    assert msgspec.msgpack.decode(answer.body) == [Kind.RETAINED.value]
    (held,) = machine.store.owned(owner_hash_of(OWNER.public_key), None, b"", 9)
    with pytest.raises(AtollError) as refused:
        machine.run(machine.store.discard(held))
    assert refused.value.kind is Kind.RETAINED
    assert isinstance(held, HeldPiece)
    machine.pass_time(2 * HOUR_MS / 1000)
    machine.run(machine.store.maintain())
    health = machine.run(door.ask("GET", "/v1/health"))
    assert json.loads(health.body)["pieces"] == 1


def test_a_node_that_leaves_hands_over_or_stays(door: LockDoor) -> None:
    machine, piece = door.machine, stored(door)
    now_ms = machine.now_ms
    record = signed(piece, now_ms + DAY_MS, now_ms)
    door.take(RetentionItem(0, record, GRANT))
    header, root = piece.header, piece_root(piece.data)

    def receipts(who: Identity, said: bytes) -> tuple[bytes, bytes]:
        stored_there = PieceReceipt(
            who.node_id,
            header.segment_id,
            0,
            root,
            b"s" * 16,
            now_ms,  # type: ignore[arg-type]
        )
        obeys = RetentionReceipt(who.node_id, header.segment_id, 0, record_digest(said), now_ms)
        return sign_receipt(who, stored_there), sign_retention_receipt(who, obeys)

    older = signed(piece, now_ms + DAY_MS, now_ms - 5)
    good = receipts(OTHER, record)
    for receipt, word, said in (
        (*receipts(NODE, record), record),
        (*receipts(OTHER, older), older),
        (good[0], receipts(OTHER, older)[1], record),
        (good[0], receipts(NODE, record)[1], record),
    ):
        with pytest.raises(AtollError):
            machine.run(door.retention.let_go(piece.id, receipt, word, said))
        assert machine.store.retained(piece.id)
    machine.run(door.retention.let_go(piece.id, *good, record))
    assert not machine.store.retained(piece.id)
    machine.crash()
    machine.boot()
    assert not machine.store.retained(piece.id)
    issuer = issuer_of(door.order(piece, Action.DELETE))
    gone = admission_of(piece, "gone", machine.now_ms, issuer=issuer)
    machine.run(machine.store.delete(gone))
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    assert row.state == State.TRASH
    # The owner extends: the node takes it out of the trash and holds it again.
    newer = signed(piece, now_ms + 2 * DAY_MS, machine.now_ms)
    machine.run(machine.store.extend_retention(piece.id, newer, b""))
    assert machine.store.retained(piece.id)
    assert LOCK.public_key != OWNER.public_key
