"""The beacon's time: a clock set forward, alone, frees nothing; nor do made-up beacons, alone."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.core.proofs.world import COORDINATOR, VERIFIERS, secret_of
from tests.unit.node.machine import Machine
from tests.unit.node.store.test_retention import (
    delete,
    extend,
    owned,
    refusal,
    signed,
    store_piece,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Message
from atoll.core.messages.proofs import ProofState, ProofSync
from atoll.core.ports import Address
from atoll.core.proofs.beacon import BEACON_PURPOSE, BeaconValue, chain_value, make_reveal
from atoll.core.proofs.signed import encode_statement, sign_statement
from atoll.core.retention import DAY_MS
from atoll.node.link import Link
from atoll.node.prover.service import Prover
from atoll.node.prover.time import FILE, SAVE_S, BeaconTime

SLOT_MS = 3_600_000
HOUR_S = SLOT_MS / 1000
NODE = Identity(b"n" * 32)
YEAR_MS = 366 * DAY_MS


def beacon_at(slot: int) -> bytes:
    reveals = [
        make_reveal(one, COORDINATOR.public_key, slot, chain_value(secret_of(one), slot))
        for one in sorted(VERIFIERS[:2], key=lambda one: one.public_key)
    ]
    keys = sorted(one.public_key for one in VERIFIERS)
    value = BeaconValue(COORDINATOR.public_key, slot, slot * SLOT_MS, keys, reveals)
    return encode_statement(sign_statement(COORDINATOR, BEACON_PURPOSE, encode_statement(value)))


class Coordinator:
    """Tells the beacon of the true slot, until it stops or lies."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.silent = False
        self.ahead_ms = 0
        self.beacon = b""

    async def ask(self, link: Link, message: Message, answer: type[Any]) -> Any:
        if not isinstance(message, ProofSync) or self.silent:
            raise AtollError(Kind.UNREACHABLE, "ask coordinator", "it does not answer")
        slot = (self.machine.now_ms + self.ahead_ms) // SLOT_MS
        return ProofState(
            time_ms=self.machine.now_ms,
            epoch=slot,
            head_epoch=-1,
            slot=slot,
            slot_ms=SLOT_MS,
            beacon=self.beacon or beacon_at(slot),
            samples=0,
            verifiers=[],
            pause_ms=0,
        )


class Node:
    """A node whose clock may be wrong; its store and prover live and die together."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.coordinator = Coordinator(self.machine)
        self.start()

    def start(self) -> None:
        machine = self.machine
        machine.boot()
        self.time = BeaconTime(machine.disk, machine.compute, machine.clock)
        machine.run(self.time.load())
        machine.store.volume.beacon_ms = self.time.now_ms
        self.prover = Prover(
            store=machine.store,
            identity=NODE,
            clock=machine.clock,
            compute=machine.compute,
            disk=machine.disk,
            transport=None,  # type: ignore[arg-type]  # no sample is due: nothing is pushed
            links=[Link(Address("127.0.0.1", 1), COORDINATOR.public_key, registered=True)],
            ask=self.coordinator.ask,
            time=self.time,
        )
        machine.run(self.prover.start())

    def hear(self) -> None:
        """Ask the coordinator once; no head is agreed on, so that ends in a refusal."""
        with pytest.raises(AtollError, match="does not answer"):
            self.machine.run(self.prover.step())
        self.machine.pass_time(HOUR_S)


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.machine.end()


def set_clock(node: Node, ahead_ms: int) -> None:
    node.machine.clock.skew_ms = ahead_ms


def test_a_clock_set_years_ahead_frees_no_locked_piece(node: Node) -> None:
    machine, piece = node.machine, owned("a")
    store_piece(machine, piece)
    machine.run(extend(machine, piece, signed(piece, machine.now_ms + 30 * DAY_MS, 1)))
    node.hear()
    set_clock(node, 3 * YEAR_MS)
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    machine.run(machine.store.maintain())
    assert machine.store.retained(piece.id)
    # Nor after a restart, though the coordinator says nothing any more.
    node.coordinator.silent = True
    machine.crash()
    node.start()
    set_clock(node, 3 * YEAR_MS)
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    # The hours that the node runs count: the lock ends in its time.
    machine.pass_time(31 * DAY_MS / 1000)
    machine.run(delete(machine, piece))


def test_a_clock_far_behind_frees_nothing_either(node: Node) -> None:
    machine, piece = node.machine, owned("a")
    store_piece(machine, piece)
    machine.run(extend(machine, piece, signed(piece, machine.now_ms + DAY_MS, 1)))
    node.hear()
    machine.pass_time(2 * DAY_MS / 1000)
    set_clock(node, -30 * DAY_MS)
    assert machine.store.retained(piece.id)


def test_beacons_of_years_to_come_are_passed_over(node: Node) -> None:
    node.coordinator.ahead_ms = 3 * YEAR_MS
    node.hear()
    assert node.time.now_ms() == 0
    node.coordinator.ahead_ms = 0
    again = BeaconTime(node.machine.disk, node.machine.compute, node.machine.clock)
    node.machine.run(again.hear(node.machine.now_ms))
    node.machine.run(again.hear(node.machine.now_ms + 3 * YEAR_MS))
    assert again.now_ms() == node.machine.now_ms


def test_a_beacon_whose_signature_does_not_hold_tells_no_time(node: Node) -> None:
    body = beacon_at(node.machine.now_ms // SLOT_MS)

    node.coordinator.beacon = body[:-1] + bytes((body[-1] ^ 1,))
    with pytest.raises(AtollError) as refused:
        node.machine.run(node.prover.step())
    assert refused.value.kind is Kind.UNAUTHENTICATED
    assert node.time.now_ms() == 0


def test_without_any_beacon_the_clock_counts_alone(node: Node) -> None:
    machine, piece = node.machine, owned("a")
    store_piece(machine, piece)
    machine.run(extend(machine, piece, signed(piece, machine.now_ms + DAY_MS, 1)))
    assert refusal(machine, delete(machine, piece)) is Kind.RETAINED
    machine.pass_time(2 * DAY_MS / 1000)
    machine.run(delete(machine, piece))


def test_the_time_is_written_down_now_and_then(node: Node) -> None:
    machine = node.machine
    node.hear()
    first = machine.disk.read(FILE)
    machine.run(node.time.hear(machine.now_ms))
    later = machine.disk.read(FILE)
    assert later != first
    machine.pass_time(SAVE_S / 2)
    machine.run(node.time.hear(machine.now_ms))
    assert machine.disk.read(FILE) == later


def test_a_time_that_cannot_be_read_stops_the_start(node: Node) -> None:
    machine = node.machine
    machine.run(machine.compute.run(machine.disk.replace, FILE, b"\xc1"))
    with pytest.raises(AtollError) as refused:
        machine.run(BeaconTime(machine.disk, machine.compute, machine.clock).load())
    assert refused.value.kind is Kind.WRONG_FOLDER
