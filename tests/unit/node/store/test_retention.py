"""Retention at the node: what its owner locked stays, whatever happens to disk and process."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit.node.machine import HOUR_MS, KIB, Machine, Piece, admission_of, get, make_piece, put

from atoll.core.capsule import owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.pieces import (
    Tlv,
    TlvType,
    crc32c,
    encode_header,
    encode_trailer,
    parse_trailer,
    sign_trailer,
)
from atoll.core.retention import (
    DAY_MS,
    Mode,
    RetentionRecord,
    grant_lock_key,
    sign_record,
)
from atoll.node.store.model import State

LOCK = Identity(b"l" * 32)
OWNER = Identity(b"o" * 32)
THIEF = Identity(b"t" * 32)
UPLOADER = Identity(b"u" * 32)
GRANT = grant_lock_key(OWNER, LOCK.public_key)


def owned(name: str, data_bytes: int = 4 * KIB, record: bytes = b"", grant: bytes = GRANT) -> Piece:
    """A piece that names its owner and, if given, carries a retention record with its grant."""
    plain = make_piece(name, data_bytes)
    tlvs = (Tlv(TlvType.OWNER_KEY_HASH, owner_hash_of(OWNER.public_key)),)
    if record:
        lock = (Tlv(TlvType.RETENTION, record), Tlv(TlvType.LOCK_GRANT, grant))
        tlvs = (*(one for one in lock if one.value), *tlvs)
    header = replace(plain.header, tlvs=tlvs)
    head = encode_header(header)
    start = plain.header.head_bytes + plain.header.data_bytes
    roots = parse_trailer(plain.header, plain.record[start:])[0].piece_roots
    trailer = sign_trailer(UPLOADER, header, roots)
    whole = head + plain.data + encode_trailer(header, trailer, crc32c(head + plain.data))
    return Piece(header, whole)


def signed(
    piece: Piece,
    until_ms: int,
    sequence: int,
    mode: Mode = Mode.COMPLIANCE,
    *,
    hold: bool = False,
    lock: Identity = LOCK,
) -> bytes:
    return sign_record(
        lock,
        RetentionRecord(piece.header.segment_id, lock.public_key, mode, until_ms, hold, sequence),
    )


def refusal(machine: Machine, work: Any) -> Kind:
    with pytest.raises(AtollError) as refused:
        machine.run(work)
    return refused.value.kind


def store_piece(machine: Machine, piece: Piece, name: str = "put") -> None:
    machine.run(put(machine.store, piece, admission_of(piece, name, machine.now_ms)))


def delete(machine: Machine, piece: Piece, name: str = "delete") -> Any:
    return machine.store.delete(admission_of(piece, name, machine.now_ms))


def extend(machine: Machine, piece: Piece, record: bytes, grant: bytes = GRANT) -> Any:
    return machine.store.extend_retention(piece.id, record, grant)


@pytest.mark.parametrize("data_bytes", [4 * KIB, 100 * KIB])
@pytest.mark.parametrize("end", ["crash", "stop"])
def test_a_record_that_came_with_the_piece_holds_it_after_any_restart(
    machine: Machine, data_bytes: int, end: str
) -> None:
    plain = make_piece("a", data_bytes)
    piece = owned("a", data_bytes, signed(plain, machine.now_ms + DAY_MS, machine.now_ms))
    store_piece(machine, piece)
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    restart(machine, end)
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    assert machine.run(get(machine.store, piece.id)) == piece.record
    machine.pass_time(DAY_MS / 1000 + 1)
    machine.run(delete(machine, piece))
    assert not machine.store.retained(piece.id)


def restart(machine: Machine, how: str) -> None:
    if how == "crash":
        machine.crash()
    else:
        machine.stop()
    machine.boot()  # the simulated index lives in memory: it is built anew from the logs


@pytest.mark.parametrize("end", ["crash", "stop"])
@pytest.mark.parametrize("data_bytes", [4 * KIB, 100 * KIB])
def test_a_rotten_piece_brought_back_without_its_record_stays_held(
    machine: Machine, data_bytes: int, end: str
) -> None:
    """No signature says that a piece has a record: who repairs it may leave that out."""
    bare = owned("a", data_bytes)
    record = signed(bare, machine.now_ms + DAY_MS, machine.now_ms)
    piece = owned("a", data_bytes, record)
    store_piece(machine, piece)
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    content = machine.platter.files[f"logs/{row.log:08d}.log"].content
    content.write(row.offset + 2000, b"rotten")
    assert machine.run(machine.store.scrub()) == 1
    store_piece(machine, bare, "repair")
    for _ in range(3):
        assert machine.run(get(machine.store, piece.id)) == bare.record
        kept = machine.store.kept_retention(piece.id)
        assert kept is not None
        assert kept.signed == record
        assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
        restart(machine, end)


@pytest.mark.parametrize("end", ["crash", "stop"])
def test_a_record_that_came_later_is_durable_before_the_answer(machine: Machine, end: str) -> None:
    piece = owned("a")
    store_piece(machine, piece)
    record = signed(piece, machine.now_ms + DAY_MS, machine.now_ms)
    machine.run(extend(machine, piece, record))
    restart(machine, end)
    kept = machine.store.kept_retention(piece.id)
    assert kept is not None
    assert kept.signed == record
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED


def test_a_first_record_needs_the_owners_grant(machine: Machine) -> None:
    piece, nobodys = owned("a"), make_piece("b", 4 * KIB)
    store_piece(machine, piece)
    store_piece(machine, nobodys, "b")
    until_ms = machine.now_ms + DAY_MS
    mine = signed(piece, until_ms, machine.now_ms)
    thiefs = signed(piece, until_ms, machine.now_ms, lock=THIEF)
    assert refusal(machine, extend(machine, piece, mine, b"")) is Kind.FORBIDDEN
    own_grant = grant_lock_key(THIEF, THIEF.public_key)
    assert refusal(machine, extend(machine, piece, thiefs, own_grant)) is Kind.FORBIDDEN
    assert refusal(machine, extend(machine, piece, thiefs, GRANT)) is Kind.UNAUTHENTICATED
    other = signed(nobodys, until_ms, machine.now_ms)
    assert refusal(machine, extend(machine, nobodys, other)) is Kind.FORBIDDEN
    assert machine.store.kept_retention(piece.id) is None
    machine.run(extend(machine, piece, mine))
    longer = signed(piece, until_ms + 1, machine.now_ms + 1, lock=THIEF)
    assert refusal(machine, extend(machine, piece, longer, own_grant)) is Kind.FORBIDDEN


@pytest.mark.parametrize("before", ["nothing", "trash", "lost", "gone"])
@pytest.mark.parametrize("whose", ["no grant", "a thief's", "another key's"])
def test_whoever_brings_a_piece_again_brings_no_lock_of_his_own(
    machine: Machine, before: str, whose: str
) -> None:
    """Neither a coordinator nor a repairer can lock, or be locked out by, what is another's."""
    bare = owned("a")
    if before != "nothing":
        store_piece(machine, bare)
        row = machine.store.volume.index.get(bare.id)
        assert row is not None
        if before == "lost":
            content = machine.platter.files[f"logs/{row.log:08d}.log"].content
            content.write(row.offset + 2000, b"rotten")
            assert machine.run(machine.store.scrub()) == 1
        else:
            machine.run(delete(machine, bare))
        if before == "gone":
            machine.pass_time(2 * HOUR_MS / 1000)
            machine.run(machine.store.maintain())
    lock, grant = {
        "no grant": (LOCK, b""),
        "a thief's": (THIEF, grant_lock_key(THIEF, THIEF.public_key)),
        "another key's": (THIEF, GRANT),
    }[whose]
    record = signed(bare, machine.now_ms + DAY_MS, machine.now_ms, lock=lock)
    wanted = Kind.UNAUTHENTICATED if whose == "another key's" else Kind.FORBIDDEN
    piece = owned("a", record=record, grant=grant)
    admission = admission_of(piece, "again", machine.now_ms)
    assert refusal(machine, put(machine.store, piece, admission)) is wanted
    assert machine.store.kept_retention(piece.id) is None
    # The owner's own lock finds its place free.
    mine = signed(bare, machine.now_ms + DAY_MS, machine.now_ms)
    store_piece(machine, owned("a", record=mine), "owner")
    for end in ("crash", "stop"):
        restart(machine, end)
        kept = machine.store.kept_retention(piece.id)
        assert kept is not None
        assert (kept.signed, kept.grant) == (mine, GRANT)
        assert refusal(machine, delete(machine, piece, end)) is Kind.RETAINED


@pytest.mark.parametrize("harm", ["another segment", "flip", "two records", "far"])
def test_an_upload_with_a_bad_record_leaves_no_trace(machine: Machine, harm: str) -> None:
    plain = make_piece("a", 4 * KIB)
    record = signed(plain, machine.now_ms + DAY_MS, machine.now_ms)
    wanted = {
        "another segment": Kind.FORBIDDEN,
        "flip": Kind.UNAUTHENTICATED,
        "far": Kind.BAD_REQUEST,
        "two records": Kind.CORRUPT,
    }[harm]
    if harm == "another segment":
        record = signed(make_piece("b", 4 * KIB), machine.now_ms + DAY_MS, machine.now_ms)
    elif harm == "flip":
        record = record[:-1] + bytes((record[-1] ^ 1,))
    elif harm == "far":
        record = signed(plain, machine.now_ms + 40_000 * DAY_MS, machine.now_ms)
    piece = owned("a", record=record)
    if harm == "two records":
        tlvs = (Tlv(TlvType.RETENTION, record), *piece.header.tlvs)
        header = replace(piece.header, tlvs=tlvs)
        head = encode_header(header)
        start = piece.header.head_bytes + piece.header.data_bytes
        trailer, _ = parse_trailer(piece.header, piece.record[start:])
        whole = head + piece.data + encode_trailer(header, trailer, crc32c(head + piece.data))
        piece = Piece(header, whole)
    admission = admission_of(piece, "put", machine.now_ms)
    assert refusal(machine, put(machine.store, piece, admission)) is wanted
    assert machine.store.counters().pieces == 0
    assert machine.store.volume.logs.active is None or machine.store.counters().used_bytes == 0


def test_a_record_takes_a_piece_out_of_the_trash(machine: Machine) -> None:
    piece = owned("a")
    store_piece(machine, piece)
    machine.run(delete(machine, piece))
    machine.run(extend(machine, piece, signed(piece, machine.now_ms + DAY_MS, machine.now_ms)))
    machine.pass_time(2 * HOUR_MS / 1000)
    machine.run(machine.store.maintain())
    assert machine.run(get(machine.store, piece.id)) == piece.record
    assert machine.store.counters().pieces == 1


def test_the_trash_is_not_emptied_of_what_is_retained(machine: Machine) -> None:
    """A clock set forward let a piece into the trash; set right again, it comes back out."""
    piece = owned("a")
    store_piece(machine, piece)
    record = signed(piece, machine.now_ms + 3 * DAY_MS, machine.now_ms)
    machine.run(extend(machine, piece, record))
    machine.stop()
    machine.clock_ahead_ms = 4 * DAY_MS
    machine.boot()
    machine.run(delete(machine, piece))
    machine.stop()
    machine.clock_ahead_ms = 0
    machine.boot()
    machine.store.config = machine.config
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    assert row.state == State.TRASH
    # With a right clock the deletion lies in the future; when its time has come:
    machine.pass_time(2 * DAY_MS / 1000)
    volume = machine.store.volume
    volume.config = replace(volume.config, trash_ms=-5 * DAY_MS)
    machine.run(machine.store.maintain())
    row = machine.store.volume.index.get(piece.id)
    assert row is not None
    assert row.state == State.LIVE


def test_a_clock_far_ahead_of_the_beacon_frees_nothing(machine: Machine) -> None:
    piece = owned("a")
    store_piece(machine, piece)
    beacon_ms = machine.now_ms
    machine.run(extend(machine, piece, signed(piece, beacon_ms + DAY_MS, machine.now_ms)))
    machine.pass_time(2 * DAY_MS / 1000)
    machine.store.volume.beacon_ms = lambda: beacon_ms
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    machine.store.volume.beacon_ms = lambda: beacon_ms + 2 * DAY_MS
    machine.run(delete(machine, piece))


@pytest.mark.parametrize("with_piece", [True, False])
def test_records_outlive_compaction_and_a_rebuild(machine: Machine, with_piece: bool) -> None:
    plain = make_piece("kept", 8 * KIB)
    first = signed(plain, machine.now_ms + DAY_MS, machine.now_ms)
    piece = owned("kept", 8 * KIB, first if with_piece else b"")
    store_piece(machine, piece)
    machine.pass_time(1)
    newest = signed(piece, machine.now_ms + 30 * DAY_MS, machine.now_ms)
    machine.run(extend(machine, piece, newest))
    for number in range(60):
        other = owned(f"other{number}", 8 * KIB)
        store_piece(machine, other, f"put{number}")
        machine.run(delete(machine, other, f"delete{number}"))
    machine.pass_time(2 * HOUR_MS / 1000)
    machine.run(machine.store.maintain())
    assert machine.store.counts.compacted_logs > 0
    machine.crash()
    machine.boot()
    kept = machine.store.kept_retention(piece.id)
    assert kept is not None
    assert kept.signed == newest
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    assert machine.run(get(machine.store, piece.id)) == piece.record


def test_a_repeated_upload_with_a_newer_record_is_no_conflict(machine: Machine) -> None:
    plain = make_piece("a", 4 * KIB)
    first = owned("a", record=signed(plain, machine.now_ms + DAY_MS, machine.now_ms))
    again = owned("a", record=signed(plain, machine.now_ms + DAY_MS, machine.now_ms + 1))
    store_piece(machine, first)
    accepted = machine.run(put(machine.store, again, admission_of(again, "again", machine.now_ms)))
    assert accepted.repeated


def test_records_of_many_at_once_share_their_syncs(machine: Machine) -> None:
    pieces = [owned(f"p{number}") for number in range(20)]
    for number, piece in enumerate(pieces):
        store_piece(machine, piece, f"p{number}")
    until_ms = machine.now_ms + DAY_MS

    async def all_of_them() -> None:
        await asyncio.gather(
            *(extend(machine, piece, signed(piece, until_ms, machine.now_ms)) for piece in pieces)
        )

    before = machine.store.volume.commit.syncs
    machine.run(all_of_them())
    assert machine.store.volume.commit.syncs - before < 10
    assert all(machine.store.retained(piece.id) for piece in pieces)


# --- any sequence --------------------------------------------------------------------------------


class RetentionRules(RuleBasedStateMachine):
    """What a compliance record promised is there at its time, whatever else is done."""

    seen: dict[str, int] = {}  # noqa: RUF012 - counts over all runs

    @initialize()
    def begin(self) -> None:
        self.machine = Machine()
        self.machine.boot()
        self.pieces: list[Piece] = []
        self.promised: dict[bytes, int] = {}
        self.held: dict[bytes, bool] = {}
        self.sequence = self.machine.now_ms
        self.steps = 0
        for locked in (True, False, True):
            self._store(locked)

    def _count(self, name: str) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1

    def _name(self) -> str:
        self.steps += 1
        return f"s{self.steps}"

    @precondition(lambda self: len(self.pieces) < 6)
    @rule(locked=st.booleans())
    def store(self, locked: bool) -> None:
        self._store(locked)

    def _store(self, locked: bool) -> None:
        name = self._name()
        plain = make_piece(name, 4 * KIB)
        self.sequence += 1
        until_ms = self.machine.now_ms + 10 * HOUR_MS
        piece = owned(name, record=signed(plain, until_ms, self.sequence) if locked else b"")
        store_piece(self.machine, piece, name)
        self.pieces.append(piece)
        if locked:
            self.promised[piece.id] = until_ms
        self._count("stored")

    @rule(
        which=st.integers(0, 5),
        hours=st.integers(-2, 40),
        mode=st.sampled_from(Mode),
        hold=st.booleans(),
        by=st.sampled_from([LOCK, LOCK, LOCK, THIEF]),
    )
    def extend(self, which: int, hours: int, mode: Mode, hold: bool, by: Identity) -> None:
        piece = self.pieces[which % len(self.pieces)]
        self.sequence += 1
        until_ms = 0 if mode is Mode.NONE else self.machine.now_ms + hours * HOUR_MS
        record = signed(piece, until_ms, self.sequence, mode, hold=hold, lock=by)
        grant = grant_lock_key(OWNER if by is LOCK else THIEF, by.public_key)
        try:
            self.machine.run(extend(self.machine, piece, record, grant))
        except AtollError as refused:
            self._count(f"refused {refused.kind.value}")
            return
        assert by is LOCK
        if mode is Mode.COMPLIANCE:
            assert until_ms >= self.promised.get(piece.id, 0)
            self.promised[piece.id] = until_ms
        else:
            assert piece.id not in self.promised
        self.held[piece.id] = hold
        self._count("extended")

    @rule(which=st.integers(0, 5))
    def remove(self, which: int) -> None:
        piece = self.pieces[which % len(self.pieces)]
        try:
            self.machine.run(delete(self.machine, piece, self._name()))
        except AtollError as refused:
            self._count(f"deletion {refused.kind.value}")
            return
        assert not self._must_stay(piece)
        self._count("deleted")

    @rule(hours=st.integers(1, 12))
    def wait(self, hours: int) -> None:
        self.machine.pass_time(hours * 3600)
        self._count("waited")

    @rule()
    def maintain(self) -> None:
        self.machine.run(self.machine.store.maintain())
        self._count("maintained")

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        restart(self.machine, "crash" if crash else "stop")
        self._count("restarted")

    def _must_stay(self, piece: Piece) -> bool:
        until_ms = self.promised.get(piece.id, 0)
        return until_ms > self.machine.now_ms or self.held.get(piece.id, False)

    @invariant()
    def what_was_promised_is_there(self) -> None:
        for piece in getattr(self, "pieces", []):
            if self._must_stay(piece):
                row = self.machine.store.volume.index.get(piece.id)
                assert row is not None
                assert row.state == State.LIVE
                assert self.machine.run(get(self.machine.store, piece.id)) == piece.record

    def teardown(self) -> None:
        self.machine.end()


def test_in_any_sequence_promises_are_kept() -> None:
    RetentionRules.seen.clear()
    run_state_machine_as_test(
        RetentionRules, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
    for happened in (
        "stored",
        "extended",
        "deleted",
        "deletion retained",
        "restarted",
        "maintained",
        "waited",
        "refused retained",
        "refused forbidden",
    ):
        assert RetentionRules.seen.get(happened, 0) > 5, (happened, RetentionRules.seen)
