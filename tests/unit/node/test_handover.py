"""A locked piece on its way between holders: whatever dies in between, its newest lock holds it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.unit.node.machine import Machine, Piece, admission_of, put
from tests.unit.node.store.test_retention import GRANT, owned, signed

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.retention import RetentionItem
from atoll.core.orders import PieceReceipt, sign_receipt
from atoll.core.pieces import LOCK_TLVS, Tlv, TlvType, crc32c, encode_header, parse_trailer
from atoll.core.pieces import encode_trailer as trailer_of
from atoll.core.retention import DAY_MS
from atoll.node.retention import NodeRetention
from atoll.node.store.model import State

NODES = [Identity(bytes((number,)) * 32) for number in (1, 2, 3)]
WHO = st.integers(0, 2)


class Holder:
    """A node's store with its door for locks; it may crash between any two steps."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.machine = Machine()
        self.machine.boot()

    def run(self, work: Any) -> Any:
        return self.machine.run(work)

    @property
    def retention(self) -> NodeRetention:
        return NodeRetention(self.machine.store, self.identity, self.machine.clock, 5.0)

    def state_of(self, piece: bytes) -> State | None:
        row = self.machine.store.volume.index.get(piece)
        return None if row is None else State(row.state)

    def keeps(self, piece: bytes, newest: int) -> bool:
        """Whether it holds the piece under a record not older than this one."""
        kept = self.machine.store.kept_retention(piece)
        return (
            self.state_of(piece) in (State.LIVE, State.TRASH)
            and kept is not None
            and kept.record.sequence >= newest
            and self.machine.store.retained(piece)
        )


def with_lock(piece: Piece, record: bytes) -> Piece:
    """A piece as its holder sends it on: the newest record in its head."""
    rest = tuple(tlv for tlv in piece.header.tlvs if tlv.type not in LOCK_TLVS)
    lock = (Tlv(TlvType.RETENTION, record), Tlv(TlvType.LOCK_GRANT, GRANT))
    header = replace(piece.header, tlvs=(*lock, *rest))
    start = piece.header.head_bytes + piece.header.data_bytes
    trailer, _ = parse_trailer(piece.header, piece.record[start:])
    body = encode_header(header) + piece.data
    return Piece(header, body + trailer_of(header, trailer, crc32c(body)))


def only_for_a_lock(refused: AtollError) -> None:
    """Raise what was refused for any other reason."""
    if refused.kind is not Kind.RETAINED:
        raise refused


class Handover(RuleBasedStateMachine):
    """Moves of one locked piece, each cut off after any step, among newer records and crashes."""

    @initialize()
    def begin(self) -> None:
        self.holders = [Holder(one) for one in NODES]
        self.piece = owned("a")
        self.count = 0
        self.newest = 0
        first = self.holders[0]
        self.store_at(first, self.piece)
        self.lock([0])

    @property
    def now_ms(self) -> int:
        return max(holder.machine.now_ms for holder in self.holders)

    def store_at(self, holder: Holder, piece: Piece) -> bool:
        self.count += 1
        admission = admission_of(piece, f"put{self.count}", holder.machine.now_ms)
        try:
            holder.run(put(holder.machine.store, piece, admission))
        except AtollError as refused:
            only_for_a_lock(refused)
            return False
        return True

    def lock(self, told: list[int]) -> None:
        """The owner extends; some holders are told now, and answer."""
        sequence = max(self.newest + 1, self.now_ms)
        record = signed(self.piece, self.now_ms + 10 * DAY_MS + sequence, sequence)
        for number in told:
            outcome = self.tell(self.holders[number], record)
            if not outcome.kind:
                self.newest = sequence

    def tell(self, holder: Holder, record: bytes) -> Any:
        return holder.run(holder.retention._take_one(RetentionItem(0, record, GRANT)))

    @rule(told=st.lists(WHO, min_size=1, max_size=3, unique=True))
    def extend(self, told: list[int]) -> None:
        self.lock(told)

    @rule(who=WHO)
    def crash(self, who: int) -> None:
        self.holders[who].machine.crash()
        self.holders[who].machine.boot()

    @rule(source=WHO, other=WHO, steps=st.integers(1, 4), extended=st.integers(0, 4))
    def move(self, source: int, other: int, steps: int, extended: int) -> None:
        """What ``node.move`` does, cut off after some steps; the lock may be extended amid them."""
        old, new = self.holders[source], self.holders[other]
        kept = old.machine.store.kept_retention(self.piece.id)
        if source == other or kept is None or old.state_of(self.piece.id) is not State.LIVE:
            return
        sent = with_lock(self.piece, kept.signed)
        if not self.store_at(new, sent):
            return
        if extended == 1:
            self.lock([source])
        if steps < 2:
            return
        record = old.machine.store.kept_retention(self.piece.id)
        assert record is not None
        outcome = self.tell(new, record.signed)
        if outcome.kind:
            return
        if extended == 2:
            self.lock([source])
        if steps < 3:
            return
        receipt = PieceReceipt(
            new.identity.node_id,
            self.piece.header.segment_id,
            0,
            bytes(32),
            b"s" * 16,  # type: ignore[arg-type]
            new.machine.now_ms,
        )
        stored = sign_receipt(new.identity, receipt)
        try:
            old.run(old.retention.let_go(self.piece.id, stored, outcome.receipt, outcome.record))
        except AtollError as refused:
            only_for_a_lock(refused)
            return
        if extended == 3:
            self.lock([source])
        if steps < 4:
            return
        self.discard(source)

    @rule(who=WHO)
    def discard(self, who: int) -> None:
        """The old copy goes, or a coordinator says that it shall: the holder decides."""
        store = self.holders[who].machine.store
        held = [
            one
            for one in store.held(admission_of(self.piece, "x", 0).issuer, -1, 10)
            if one.piece == self.piece.id
        ]
        for one in held:
            try:
                self.holders[who].run(store.discard(one))
            except AtollError as refused:
                only_for_a_lock(refused)

    @invariant()
    def somebody_holds_it_under_the_newest_record(self) -> None:
        if self.newest:
            assert any(one.keeps(self.piece.id, self.newest) for one in self.holders)


def test_a_piece_that_comes_back_before_it_has_gone_is_held_again() -> None:
    """Handed over and not yet gone: its next holder hands it back."""
    world = Handover()
    world.begin()
    world.move(source=0, other=1, steps=3, extended=0)
    assert world.holders[1].keeps(world.piece.id, world.newest)
    world.move(source=1, other=0, steps=4, extended=0)
    world.discard(0)
    world.somebody_holds_it_under_the_newest_record()
    world.crash(0)
    world.discard(0)
    world.somebody_holds_it_under_the_newest_record()


@pytest.mark.parametrize("extended", [1, 2, 3])
def test_a_lock_extended_amid_a_hand_over_holds_the_piece(extended: int) -> None:
    world = Handover()
    world.begin()
    world.move(source=0, other=1, steps=4, extended=extended)
    world.discard(0)
    world.somebody_holds_it_under_the_newest_record()


def test_in_any_order_of_moves_crashes_and_extensions_the_newest_lock_holds_the_piece() -> None:
    run_state_machine_as_test(
        Handover,
        settings=settings(
            max_examples=15,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
