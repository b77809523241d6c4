"""A verifier signs what lost data costs only where the evidence shows the loss by itself."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
from tests.fixtures.epochs import PARAMETERS, Life
from tests.unit.core.proofs.losses import loss_by

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.proofs import VerifierPlace, VerifierState
from atoll.core.messages.settlement import AskedStatement
from atoll.core.ports import Address, Reply
from atoll.core.proofs.loss import name_of
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import Content, content_of, with_pseudonyms
from atoll.economy.settlement.model import FIRST
from atoll.economy.settlement.slashes import LossStated, loss_statement, lost_data_slash
from atoll.economy.settlement.statement import Court
from atoll.economy.settlement.wire import encode_rows
from atoll.runtime.compute import ThreadCompute
from atoll.verifier.desk import Desk
from atoll.verifier.losses import LossJudge

COORDINATOR, STRANGER = Identity(b"c" * 32), Identity(b"x" * 32)
VERIFIERS = [Identity(bytes([n]) * 32) for n in (11, 12, 13)]
LOSER, INNOCENT = Identity(b"l" * 32), Identity(b"i" * 32)
COURT = Court(31_337, b"c" * 20, b"d" * 20)
OWNER = b"o" * 20


class FileServer:
    """A door that shows files by whatever name it likes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def show(self, body: bytes, name: bytes = b"") -> bytes:
        evidence = name or name_of(body)
        self.files[f"/v1/slashes/{evidence.hex()}"] = body
        return evidence

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        found = self.files.get(path)
        return Reply(404, {}, b"") if found is None else Reply(200, {}, found)


@pytest.fixture
def files() -> FileServer:
    return FileServer()


@pytest.fixture
def judge(files: FileServer) -> Iterator[LossJudge]:
    compute = ThreadCompute(1)
    yield LossJudge(files, compute)  # type: ignore[arg-type]
    compute.close()


@pytest.fixture
def desk() -> Desk:
    made = Desk(Address("127.0.0.1", 9001), VERIFIERS[0])
    made.pin(COORDINATOR.public_key, 10_000)
    places = [VerifierPlace(one.public_key, "h", 1, b"", "o") for one in VERIFIERS]
    made.state = VerifierState(
        time_ms=0, coordinator_key=COORDINATOR.public_key, slot=1, slot_ms=10_000, reveal_slot=0,
        beacon=b"", verifiers=places, chains=[], excluded=[], pause_ms=1, chain_known=True,
    )  # fmt: skip
    return made


def asked_for(evidence: bytes, node: Identity = LOSER, **changes: Any) -> AskedStatement:
    stated = LossStated(node.node_id, OWNER, evidence, 3, b"", b"")
    made = loss_statement(stated)
    asked = AskedStatement(made.kind, made.subject, made.epoch, made.stated, encode_rows([stated]))
    return msgspec.structs.replace(asked, **changes)


async def refused(judge: LossJudge, desk: Desk, asked: AskedStatement) -> Kind:
    with pytest.raises(AtollError) as caught:
        await judge.judge(desk, COURT, asked)
    return caught.value.kind


async def test_a_loss_that_is_shown_is_signed(
    judge: LossJudge, desk: Desk, files: FileServer
) -> None:
    evidence = files.show(loss_by(COORDINATOR, VERIFIERS, LOSER, 70))
    await judge.judge(desk, COURT, asked_for(evidence))


async def test_what_is_not_shown_is_not_signed(
    judge: LossJudge, desk: Desk, files: FileServer
) -> None:
    right = files.show(loss_by(COORDINATOR, VERIFIERS, LOSER, 70))
    assert await refused(judge, desk, asked_for(b"e" * 32)) is Kind.NOT_FOUND
    assert await refused(judge, desk, asked_for(right, INNOCENT)) is Kind.CORRUPT
    for changes in (
        {"stated": b"s" * 32},
        {"subject": b"s" * 32},
        {"epoch": 4},
        {"body": b"\x90"},
        {"body": b"x"},
    ):
        assert await refused(judge, desk, asked_for(right, **changes)) is Kind.CORRUPT
    another = files.show(loss_by(STRANGER, VERIFIERS, LOSER, 70))
    assert await refused(judge, desk, asked_for(another)) is Kind.CORRUPT
    made_up = [Identity(bytes([n]) * 32) for n in (201, 202, 203)]
    forged = files.show(loss_by(COORDINATOR, made_up, LOSER, 70))
    assert await refused(judge, desk, asked_for(forged)) is Kind.UNAUTHENTICATED
    swapped = files.show(loss_by(COORDINATOR, VERIFIERS, LOSER, 71), b"n" * 32)
    assert await refused(judge, desk, asked_for(swapped)) is Kind.CORRUPT
    desk.liars.add(VERIFIERS[1].public_key)
    assert await refused(judge, desk, asked_for(right)) is Kind.UNAUTHENTICATED


def renamed(one: Any, old: bytes, new: bytes) -> Any:
    """The same with another node id."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(one).replace(old, new), type=type(one))


def content_with(
    evidence: bytes, *, more_pico: int = 0, loser: bytes | None = None
) -> tuple[Content, bytes]:
    """A second epoch in which a node of random life is slashed; and that node's id."""
    life = Life(5, nodes=6, payers=4)
    first, _ = with_pseudonyms(msgspec.structs.replace(life.next(), slashes=[]), b"s" * 32)
    before = compute(FIRST, first, life.tariff, PARAMETERS).totals
    inputs, _ = with_pseudonyms(msgspec.structs.replace(life.next(), slashes=[]), b"s" * 32)
    node = max(before.nodes, key=lambda one: one.held_pico).node
    if loser is not None:
        inputs, before = (renamed(one, node, loser) for one in (inputs, before))
        node = loser
    slash = lost_data_slash(node, evidence, b"r" * 20, before, inputs, life.tariff, PARAMETERS)
    slash = msgspec.structs.replace(slash, repair_pico=slash.repair_pico + more_pico)
    inputs = msgspec.structs.replace(inputs, slashes=[slash])
    result = compute(before, inputs, life.tariff, PARAMETERS)
    return content_of(before, inputs, life.tariff, PARAMETERS, result), node


async def test_slashes_of_a_document_need_evidence_and_the_right_figures(
    judge: LossJudge, desk: Desk, files: FileServer
) -> None:
    content, _ = content_with(b"e" * 32)
    with pytest.raises(AtollError) as caught:
        await judge.check_slashes(desk, content)
    assert caught.value.kind is Kind.NOT_FOUND
    evidence = files.show(loss_by(COORDINATOR, VERIFIERS, LOSER, 70))
    content, node = content_with(evidence)
    with pytest.raises(AtollError) as caught:
        await judge.check_slashes(desk, content)
    assert "not about" in caught.value.message, "it shows another node's loss"
    content, _ = content_with(evidence, more_pico=1)
    with pytest.raises(AtollError) as caught:
        await judge.check_slashes(desk, content)
    assert "repair_pico" in caught.value.message
    content, node = content_with(evidence, loser=LOSER.node_id)
    assert content.inputs.slashes[0].node == node == LOSER.node_id
    await judge.check_slashes(desk, content)
