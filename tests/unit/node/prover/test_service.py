"""A prover and a coordinator that wants two heads of one epoch signed: evidence against a node."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.node.machine import COORDINATOR, Machine, admission_of, make_piece, put

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Message
from atoll.core.messages.proofs import (
    AgreeHead,
    GetProofRanges,
    HeadAnswer,
    ProofRanges,
    ProofState,
    ProofSync,
    RangeInfo,
)
from atoll.core.ports import Address
from atoll.core.proofs.evidence import Lie, check_evidence, make_evidence
from atoll.core.proofs.heads import SignedHead, TreeHead, check_head, head_of, sign_head
from atoll.core.proofs.signed import encode_statement
from atoll.core.proofs.sums import RangeTree
from atoll.node.link import Link
from atoll.node.prover.service import MEMORY_FILE, Prover, issuer_number
from atoll.node.prover.time import BeaconTime
from atoll.node.prover.tree import Tree, entry_of, tree_of

NODE = Identity(b"node".ljust(32, b"."))
SLOT_MS = 10_000
EPOCH = 100


class HostileCoordinator:
    """Asks for heads of whatever epoch and moment it likes, and keeps what the node signed."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.slot = EPOCH
        self.epoch = EPOCH
        self.frozen_ms = EPOCH * SLOT_MS
        self.offered: SignedHead | None = None
        self.signed: list[SignedHead] = []
        self.deaf = False

    async def ask(self, link: Link, message: Message, answer: type[Any]) -> Message:
        if isinstance(message, ProofSync):
            return ProofState(
                time_ms=0,
                epoch=self.epoch,
                head_epoch=-1,
                slot=self.slot,
                slot_ms=SLOT_MS,
                beacon=b"",
                samples=0,
                verifiers=[],
                pause_ms=0,
            )
        if isinstance(message, GetProofRanges):
            tops = [one.top for one in self.tree.ranges]
            infos = [
                RangeInfo(
                    range=top.range,
                    entries=top.entries,
                    leaves=top.leaves,
                    piece_bytes=top.piece_bytes,
                    digest=top.digest,
                )
                for top in tops
            ]
            return ProofRanges(epoch=self.epoch, ranges=infos, more=False, frozen_ms=self.frozen_ms)
        assert isinstance(message, AgreeHead)
        if not message.signature:
            self.offered = sign_head(COORDINATOR, self.head())
            return HeadAnswer(head=encode_statement(self.offered))
        if self.deaf:
            raise AtollError(Kind.UNREACHABLE, "ask coordinator", "it went away")
        assert self.offered is not None
        signed = SignedHead(
            self.offered.body, self.offered.coordinator_signature, message.signature
        )
        check_head(signed)
        self.signed.append(signed)
        return HeadAnswer(head=encode_statement(signed))

    def head(self) -> TreeHead:
        return head_of(
            self.tree.top, NODE.public_key, COORDINATOR.public_key, self.epoch, self.frozen_ms
        )

    def wants(self, *, slot: int, epoch: int, frozen_ms: int | None = None) -> None:
        """Ask in ``slot`` for a head of ``epoch``, as of ``frozen_ms``."""
        self.slot, self.epoch = slot, epoch
        self.frozen_ms = epoch * SLOT_MS if frozen_ms is None else frozen_ms

    def evidence(self) -> list[bytes]:
        """Keys of those of whom two of the signed heads are evidence."""
        found = []
        for number, one in enumerate(self.signed):
            for two in self.signed[:number]:
                try:
                    found.append(check_evidence(make_evidence(Lie.NODE_HEAD, one, two)).key)
                except AtollError:
                    continue
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    machine.boot()
    yield machine
    machine.end()


def prover_of(machine: Machine, coordinator: HostileCoordinator) -> Prover:
    prover = Prover(
        store=machine.store,
        identity=NODE,
        clock=machine.clock,
        compute=machine.compute,
        disk=machine.disk,
        transport=None,  # type: ignore[arg-type]  # no beacon, no proof: nothing is pushed
        links=[Link(Address("127.0.0.1", 1), COORDINATOR.public_key, registered=True)],
        ask=coordinator.ask,
        time=BeaconTime(machine.disk, machine.compute, machine.clock),
    )
    machine.run(prover.start())
    return prover


def step(machine: Machine, prover: Prover) -> None:
    machine.run(prover.step())
    machine.pass_time(10)


def refused(machine: Machine, prover: Prover) -> AtollError:
    with pytest.raises(AtollError) as error:
        machine.run(prover.step())
    machine.pass_time(10)
    return error.value


def agreed(machine: Machine) -> tuple[HostileCoordinator, Prover]:
    """A node that signed the head of an epoch, of no pieces."""
    coordinator = HostileCoordinator(tree_of([]))
    prover = prover_of(machine, coordinator)
    step(machine, prover)
    assert len(coordinator.signed) == 1
    return coordinator, prover


def restarted(machine: Machine, coordinator: HostileCoordinator) -> Prover:
    machine.crash()
    machine.boot()
    return prover_of(machine, coordinator)


@pytest.mark.parametrize("restart", [False, True])
def test_no_second_head_of_an_epoch_is_signed(machine: Machine, restart: bool) -> None:
    coordinator, prover = agreed(machine)
    if restart:
        prover = restarted(machine, coordinator)
    coordinator.wants(slot=EPOCH + 1, epoch=EPOCH, frozen_ms=EPOCH * SLOT_MS + 1)
    assert refused(machine, prover).kind is Kind.FORBIDDEN
    assert coordinator.evidence() == []
    # What it signed before is still good, and later epochs are agreed upon.
    coordinator.wants(slot=EPOCH + 2, epoch=EPOCH + 2)
    step(machine, prover)
    assert len(coordinator.signed) == 2
    assert coordinator.evidence() == []


@pytest.mark.parametrize("restart", [False, True])
def test_the_same_head_gets_the_same_signature(machine: Machine, restart: bool) -> None:
    coordinator, prover = agreed(machine)
    if restart:
        prover = restarted(machine, coordinator)
    coordinator.wants(slot=EPOCH + 1, epoch=EPOCH)
    step(machine, prover)
    first, second = coordinator.signed
    assert first == second


def test_no_head_of_an_older_epoch_is_signed(machine: Machine) -> None:
    coordinator, prover = agreed(machine)
    offered = coordinator.offered
    coordinator.wants(slot=EPOCH + 1, epoch=EPOCH - 1)
    assert refused(machine, prover).kind is Kind.FORBIDDEN
    # It does not even say what it has and what it misses.
    assert coordinator.offered is offered
    assert len(coordinator.signed) == 1


def test_a_head_that_did_not_arrive_was_signed_all_the_same(machine: Machine) -> None:
    coordinator = HostileCoordinator(tree_of([]))
    coordinator.deaf = True
    prover = prover_of(machine, coordinator)
    assert refused(machine, prover).kind is Kind.UNREACHABLE
    coordinator.deaf = False
    prover = restarted(machine, coordinator)
    coordinator.wants(slot=EPOCH + 1, epoch=EPOCH, frozen_ms=EPOCH * SLOT_MS + 1)
    assert refused(machine, prover).kind is Kind.FORBIDDEN
    coordinator.wants(slot=EPOCH + 2, epoch=EPOCH)
    step(machine, prover)
    assert len(coordinator.signed) == 1


def test_who_lost_what_it_promised_remembers_that_it_did(machine: Machine) -> None:
    issuer = issuer_number(COORDINATOR.public_key)
    piece = make_piece("coral", 20_000)
    machine.run(
        put(machine.store, piece, admission_of(piece, "coral", machine.now_ms, issuer=issuer))
    )
    entries = [entry_of(held) for held in machine.store.held(issuer, 0, 10)]
    coordinator = HostileCoordinator(tree_of([RangeTree(entries[0].serial >> 16, entries)]))
    step(machine, prover_of(machine, coordinator))
    assert check_head(coordinator.signed[0]).head.pieces == 1
    emptied = Machine("emptied")
    emptied.boot()
    emptied.disk.replace(MEMORY_FILE, machine.disk.read(MEMORY_FILE))
    prover = prover_of(emptied, coordinator)
    # In another epoch nothing was signed: there it says what it holds now.
    coordinator.tree = tree_of([])
    coordinator.wants(slot=EPOCH + 1, epoch=EPOCH)
    assert refused(emptied, prover).kind is Kind.FORBIDDEN
    coordinator.wants(slot=EPOCH + 2, epoch=EPOCH + 2)
    step(emptied, prover)
    assert [check_head(one).head.pieces for one in coordinator.signed] == [1, 0]
    assert coordinator.evidence() == []
    emptied.end()
