"""A verifier signs epochs that come out, once each, whoever asks it to sign anything else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.fixtures.epochs import PARAMETERS, Life, node_id
from tests.unit.node.machine import Machine

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import decode, encode, failure_of
from atoll.core.messages.settlement import (
    AskedStatement,
    GetStatements,
    PostSignature,
    SignatureTaken,
    StatementList,
)
from atoll.core.ports import Address, Reply
from atoll.economy.chain.signer import Signer, recover_account
from atoll.economy.settlement import document
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import Content, LeafRow, Published, read_index
from atoll.economy.settlement.model import FIRST, EpochTotals
from atoll.economy.settlement.slots import slots_of
from atoll.economy.settlement.statement import (
    Court,
    RootStated,
    Statement,
    root_statement,
    statement_digest,
)
from atoll.economy.settlement.wire import encode_rows
from atoll.verifier.desk import Desk
from atoll.verifier.epochs import EpochSigner
from atoll.verifier.epochs_record import EPOCHS_FILE
from atoll.verifier.epochs_rules import OwnVerdict

ME = Identity(b"\x0c" * 32)
SIGNER = Signer.derived(b"s" * 32, "verifier")
KEY = Identity(b"coordinator".ljust(32, b".")).public_key
COURT = Court(31337, b"c" * 20, b"d" * 20)
OTHER_COURT = Court(31337, b"C" * 20, b"D" * 20)
SECRET = b"s" * 32
SLOT_MS = 10_000
Falsify = Callable[[Content], Content]


class Coordinator:
    """A door that shows and asks whatever it likes; says what it got."""

    def __init__(self) -> None:
        self.index: dict[int, bytes] = {}
        self.chunks: dict[bytes, bytes] = {}
        self.published: dict[int, Published] = {}
        self.asked: list[AskedStatement] = []
        self.signed: list[PostSignature] = []
        self.court = COURT
        self.refuses: Kind | None = None
        self.before_answer: Callable[[], None] = lambda: None

    # --- what it publishes ----------------------------------------------------------------------

    def show(self, published: Published) -> None:
        index = read_index(published.index)
        self.index[index.epoch] = published.index
        self.published[index.epoch] = published
        for entry, body in zip(index.chunks, published.chunks, strict=True):
            self.chunks[entry.sha256] = body

    def ask(self, published: Published, attempt: int = 1, **changes: Any) -> AskedStatement:
        """Ask for signatures under a document's root; ``changes`` are to what is stated."""
        index = read_index(published.index)
        stated = RootStated(index.epoch, attempt, index.root, published.content_hash)
        stated = msgspec.structs.replace(stated, **changes)
        made = root_statement(self.court, stated)
        asked = AskedStatement(
            made.kind, made.subject, made.epoch, made.stated, encode_rows([stated])
        )
        self.asked.append(asked)
        return asked

    # --- what it answers ------------------------------------------------------------------------

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        if method == "GET":
            return self._get(path)
        question: Any = decode(body, GetStatements | PostSignature)
        if isinstance(question, GetStatements):
            assert question.account == SIGNER.address
            court, distributor = self.court.address, self.court.distributor
            chain = self.court.chain_id
            found = StatementList(chain, court, distributor, True, self.asked, 500)
            return Reply(200, {}, encode(found))
        self.before_answer()
        self.signed.append(question)
        if self.refuses is not None:
            failure = failure_of(AtollError(self.refuses, "take signature", "no"))
            return Reply(404, {}, encode(failure))
        return Reply(200, {}, encode(SignatureTaken(SIGNER.address, 1, 2)))

    def _get(self, path: str) -> Reply:
        words = path.removeprefix("/v1/epochs/").split("/")
        body = None
        if words[0] == "chunks":
            body = self.chunks.get(bytes.fromhex(words[1]))
        elif words[1:] == ["index"]:
            body = self.index.get(int(words[0]))
        return Reply(404, {}, b"") if body is None else Reply(200, {}, body)


def life(
    epochs: int, seed: int = 3, falsify: Mapping[int, Falsify] | None = None
) -> list[Published]:
    """Epochs of random life; some are falsified, each before the next one builds on it."""
    living = Life(seed, nodes=8, payers=4)
    totals: EpochTotals = FIRST
    previous = document.NO_DOCUMENT
    found = []
    for number in range(1, epochs + 1):
        # Slashes are judged by ``verifier.losses``: see test_losses.py.
        plain = msgspec.structs.replace(living.next(), slashes=[])
        inputs, _ = document.with_pseudonyms(plain, SECRET)
        result = compute(totals, inputs, living.tariff, PARAMETERS)
        content = document.content_of(totals, inputs, living.tariff, PARAMETERS, result)
        content = (falsify or {}).get(number, lambda same: same)(content)
        one = document.publish(content, KEY, previous)
        previous, totals = one.content_hash, content.result.totals
        found.append(one)
    return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    machine.boot()
    yield machine
    machine.end()


def nothing_seen(key: bytes, first: int, end: int) -> dict[bytes, list[OwnVerdict]]:
    return {}


class Verifier:
    """The part of a verifier that signs, on a machine that may crash."""

    def __init__(self, machine: Machine, coordinator: Coordinator) -> None:
        self.machine = machine
        self.coordinator = coordinator
        self.own: Callable[[bytes, int, int], Mapping[bytes, Sequence[OwnVerdict]]] = nothing_seen
        self.start()

    def start(self) -> None:
        self.desk = Desk(Address("127.0.0.1", 9001), ME)
        self.desk.pin(KEY, SLOT_MS)
        machine = self.machine
        self.signer = EpochSigner(
            machine.clock,
            machine.disk,
            machine.compute,
            self.coordinator,  # type: ignore[arg-type]
            ME,
            SIGNER,
            lambda key, first, end: self.own(key, first, end),
        )
        machine.run(self.signer.open())

    def crash(self) -> None:
        self.machine.crash()
        self.machine.boot()
        self.start()

    def step(self) -> int:
        """Ask once more, however lately it asked."""
        self.machine.pass_time(61)
        return self.machine.run(self.signer.step(self.desk))


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def verifier(machine: Machine, coordinator: Coordinator) -> Verifier:
    return Verifier(machine, coordinator)


def test_what_comes_out_is_signed_in_the_court_s_form(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    for one in life(3):
        coordinator.show(one)
    asked = coordinator.ask(coordinator.published[3])
    assert verifier.step() == 1
    (post,) = coordinator.signed
    statement = Statement(asked.kind, asked.subject, asked.epoch, asked.stated)
    digest = statement_digest(COURT, statement)
    assert recover_account(digest, post.signature) == SIGNER.address
    assert verifier.signer.record.last_checked(KEY).epoch == 3  # type: ignore[union-attr]


def test_the_same_is_signed_again_for_another_attempt(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    (one,) = life(1)
    coordinator.show(one)
    coordinator.ask(one, attempt=1)
    coordinator.ask(one, attempt=2)
    assert verifier.step() == 2


def test_a_signature_that_was_lost_is_given_again_the_same(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    (one,) = life(1)
    coordinator.show(one)
    coordinator.ask(one)
    coordinator.refuses = Kind.NOT_FOUND
    assert verifier.step() == 0
    coordinator.refuses = None
    assert verifier.step() == 1
    first, second = coordinator.signed
    assert first.signature == second.signature


# --- a coordinator that lies ----------------------------------------------------------------------


def more_for_one(content: Content) -> Content:
    rows = list(content.leaves)
    rows[0] = LeafRow(rows[0].account, rows[0].released_micro + 1, rows[0].held_micro)
    return replace(content, leaves=tuple(rows))


def more_earned(content: Content) -> Content:
    nodes = list(content.result.nodes)
    nodes[0] = msgspec.structs.replace(nodes[0], earned_pico=nodes[0].earned_pico + 1)
    return replace(content, result=msgspec.structs.replace(content.result, nodes=nodes))


def more_take(content: Content) -> Content:
    result = msgspec.structs.replace(content.result, take_pico=content.result.take_pico + 1)
    return replace(content, result=result)


def one_left_out(content: Content) -> Content:
    return replace(content, leaves=content.leaves[1:])


def totals_changed(content: Content) -> Content:
    accounts = list(content.result.totals.accounts)
    accounts[0] = msgspec.structs.replace(
        accounts[0], released_pico=accounts[0].released_pico + 10**6
    )
    totals = msgspec.structs.replace(content.result.totals, accounts=accounts)
    return replace(content, result=msgspec.structs.replace(content.result, totals=totals))


def begins_elsewhere(content: Content) -> Content:
    before = msgspec.structs.replace(content.before, insurance_pico=10**12)
    return replace(content, before=before)


FALSIFIED = [more_for_one, more_earned, more_take, one_left_out, totals_changed, begins_elsewhere]


@pytest.mark.parametrize("falsify", FALSIFIED, ids=lambda one: one.__name__)
@pytest.mark.parametrize("place", [1, 2])
def test_figures_that_do_not_come_out_get_no_signature(
    verifier: Verifier, coordinator: Coordinator, falsify: Falsify, place: int
) -> None:
    """Also where the wrong epoch is an earlier one, on which a right one builds."""
    epochs = life(3, falsify={place: falsify})
    for one in epochs:
        coordinator.show(one)
    for one in epochs[place - 1 :]:
        coordinator.ask(one)
    assert verifier.step() == 0
    assert coordinator.signed == []
    assert len(verifier.signer.refusals) == 4 - place
    # It does not change its mind, and computes it only once.
    coordinator.index.clear()
    assert verifier.step() == 0
    verifier.crash()
    assert verifier.step() == 0
    assert coordinator.signed == []


def test_two_documents_of_one_epoch_get_one_signature(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    """Both come out; whichever was first is the one, for every attempt and after a crash."""
    (one,), (other,) = life(1, seed=3), life(1, seed=4)
    coordinator.show(one)
    coordinator.ask(one)
    assert verifier.step() == 1
    coordinator.asked.clear()
    coordinator.show(other)
    coordinator.ask(other)
    coordinator.ask(other, attempt=2)
    assert verifier.step() == 0
    verifier.crash()
    assert verifier.step() == 0
    assert len(coordinator.signed) == 1


def test_what_was_stated_is_durable_before_anybody_hears_it(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    """It loses power while the coordinator has its signature, and is asked for the opposite."""
    (one,), (other,) = life(1, seed=3), life(1, seed=4)
    coordinator.show(one)
    coordinator.ask(one)
    coordinator.before_answer = verifier.machine.crash
    verifier.machine.pass_time(61)
    assert not verifier.machine.run_or_die(verifier.signer.step(verifier.desk))
    assert len(coordinator.signed) <= 1
    coordinator.before_answer = lambda: None
    verifier.machine.boot()
    verifier.start()
    coordinator.asked.clear()
    coordinator.signed.clear()
    coordinator.show(other)
    coordinator.ask(other)
    assert verifier.step() == 0
    assert coordinator.signed == []


def test_other_contracts_than_at_first_get_no_signature(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    one, two = life(2)
    coordinator.show(one)
    coordinator.show(two)
    coordinator.ask(one)
    assert verifier.step() == 1
    coordinator.asked.clear()
    coordinator.court = OTHER_COURT
    coordinator.ask(two)
    with pytest.raises(AtollError) as refused:
        verifier.step()
    assert refused.value.kind is Kind.CONFLICT
    verifier.crash()
    with pytest.raises(AtollError):
        verifier.step()
    assert len(coordinator.signed) == 1


def test_a_statement_is_what_its_body_says(verifier: Verifier, coordinator: Coordinator) -> None:
    """A body that comes out, under a statement over something else."""
    (one,) = life(1)
    coordinator.show(one)
    asked = coordinator.ask(one)
    coordinator.asked[:] = [
        msgspec.structs.replace(asked, stated=b"x" * 32),
        msgspec.structs.replace(asked, subject=b"x" * 32),
        msgspec.structs.replace(asked, epoch=2),
        msgspec.structs.replace(asked, kind=3),
        msgspec.structs.replace(asked, kind=9),
        msgspec.structs.replace(asked, body=b"\x00"),
        msgspec.structs.replace(asked, body=encode_rows([])),
        msgspec.structs.replace(asked, stated=b"short"),
    ]
    assert verifier.step() == 0
    assert coordinator.signed == []


def test_a_root_that_is_not_the_document_s_is_not_signed(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    one, two = life(2)
    coordinator.show(one)
    coordinator.show(two)
    coordinator.ask(one, root=b"r" * 32)
    coordinator.ask(two, content=one.content_hash)
    assert verifier.step() == 0
    assert coordinator.signed == []


def test_another_coordinator_s_document_is_not_signed(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    (one,) = life(1)
    index = read_index(one.index)
    other = document.encode_index(
        msgspec.structs.replace(index, coordinator_key=Identity(b"o" * 32).public_key)
    )
    foreign = Published(other, one.chunks, document.content_hash(other))
    coordinator.show(foreign)
    coordinator.ask(foreign)
    assert verifier.step() == 0
    assert coordinator.signed == []


def test_what_is_withheld_is_signed_once_it_is_shown(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    (one,) = life(1)
    coordinator.show(one)
    coordinator.ask(one)
    some = next(iter(coordinator.chunks))
    kept = coordinator.chunks.pop(some)
    assert verifier.step() == 0
    coordinator.chunks[some] = kept[:-1] + bytes([kept[-1] ^ 1])
    assert verifier.step() == 0
    assert coordinator.signed == []
    coordinator.chunks[some] = kept
    assert verifier.step() == 1


# --- what it saw itself ---------------------------------------------------------------------------


def proof_line(published: Published, *, met: bool = True) -> Any:
    content = document.read(published.index, published.chunks).content
    return next(one for one in content.inputs.proofs if one.slots_missed == 0 and not one.failed)


def test_time_counts_as_it_passes_where_money_is_meant(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    """On a public chain no epoch is signed that charges more time than passed, nor one after it."""
    coordinator.court = Court(8453, COURT.address, COURT.distributor)
    epochs = life(8)
    factors = [document.read(one.index, one.chunks).content.inputs.time_factor for one in epochs]
    real = next(place for place, factor in enumerate(factors) if factor > 1)
    for one in epochs:
        coordinator.show(one)
        coordinator.ask(one)
    assert verifier.step() == real
    assert [one.epoch for one in coordinator.signed] == list(range(1, real + 1))
    assert "time that did not pass" in verifier.signer.refusals[0]


def test_failures_that_it_saw_must_stand_in_the_document(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    (one,) = life(1)
    line = proof_line(one)
    index = read_index(one.index)
    first, end = slots_of(index.from_ms, index.until_ms, SLOT_MS, None)

    def saw(key: bytes, from_slot: int, until_slot: int) -> dict[bytes, list[OwnVerdict]]:
        assert (key, from_slot, until_slot) == (KEY, first, end)
        return {line.node: [OwnVerdict(first, 32, 0), OwnVerdict(first + 1, 32, 1)]}

    verifier.own = saw
    coordinator.show(one)
    coordinator.ask(one)
    assert verifier.step() == 0
    assert coordinator.signed == []
    assert "1 samples failed before us, not 0" in verifier.signer.refusals[0]


def test_what_it_saw_and_stands_there_is_no_objection(
    verifier: Verifier, coordinator: Coordinator
) -> None:
    (one,) = life(1)
    line = proof_line(one)
    verifier.own = lambda *_: {
        line.node: [OwnVerdict(1, line.samples // 2, 0)],
        node_id(99): [OwnVerdict(1, 32, 32)],
    }
    coordinator.show(one)
    coordinator.ask(one)
    assert verifier.step() == 1


def test_a_torn_record_is_cut_away(machine: Machine, coordinator: Coordinator) -> None:
    verifier = Verifier(machine, coordinator)
    (one,) = life(1)
    coordinator.show(one)
    coordinator.ask(one)
    assert verifier.step() == 1
    statements = verifier.signer.record.statements()
    file = machine.disk.open(EPOCHS_FILE)
    size = file.size()
    file.write_at(size, [b"\x00\x00\x01\x00torn"])
    file.sync()
    verifier.crash()
    assert verifier.signer.record.statements() == statements == 1
    assert machine.disk.open(EPOCHS_FILE).size() == size
