"""A verifier and a coordinator that wants to know values of slots to come."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.unit.node.machine import Machine

from atoll.core.identity import Identity
from atoll.core.messages import decode, encode
from atoll.core.messages.proofs import VerifierState, VerifierSync
from atoll.core.ports import Address, Reply
from atoll.core.proofs.beacon import ChainCheck, Reveal, read_chain
from atoll.core.proofs.signed import Signed, decode_statement
from atoll.verifier.config import VerifierConfig
from atoll.verifier.desk import MEMORY_FILE
from atoll.verifier.service import REFUSED_MS, VerifierService

ME = Identity(b"\x0b" * 32)
KEY = Identity(b"coordinator".ljust(32, b".")).public_key
SLOT_MS = 10_000
AHEAD_SLOTS = 40
ADDRESSES = (Address("127.0.0.1", 9001), Address("127.0.0.1", 9002))


class HostileCoordinator:
    """What a verifier's questions reach; honest until it is told to say another slot length."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.slot_ms = SLOT_MS
        self.ask_ahead_slots = 0
        self.chains: list[bytes] = []
        self.chains_shown = 0
        self.denies = False
        self.reveals: list[tuple[int, Reveal]] = []
        self.asked: list[int] = []

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        question: Any = decode(body, VerifierSync)
        now_ms = self.machine.now_ms
        self.asked.append(now_ms)
        if question.chain and question.chain not in self.chains:
            self.chains.append(question.chain)
        self.chains_shown += bool(question.chain)
        if question.reveal:
            self.reveals.append((now_ms, decode_statement(question.reveal, Reveal)))
        # Slots of another length, so numbered that the chain's values seem due.
        slot = now_ms // SLOT_MS
        answer = VerifierState(
            time_ms=now_ms,
            coordinator_key=KEY,
            slot=slot,
            slot_ms=self.slot_ms,
            reveal_slot=slot + self.ask_ahead_slots,
            beacon=b"",
            verifiers=[],
            chains=[] if self.denies else self.chains,
            excluded=[],
            pause_ms=500,
            chain_known=True,
        )
        return Reply(200, {}, encode(answer))


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    machine.boot()
    yield machine
    machine.end()


def verifier_of(
    machine: Machine, coordinator: HostileCoordinator, addresses: tuple[Address, ...]
) -> VerifierService:
    service = VerifierService(
        machine.clock,
        machine.disk,
        machine.compute,
        coordinator,  # type: ignore[arg-type]
        ME,
        VerifierConfig(operator="reef", host="127.0.0.1", port=1, coordinators=addresses),
    )
    machine.run(service.start())
    return service


def early(coordinator: HostileCoordinator) -> list[Reveal]:
    """Values that were told before their slot began."""
    return [one for told_ms, one in coordinator.reveals if told_ms < one.slot * SLOT_MS]


def lie(coordinator: HostileCoordinator) -> None:
    """Say slots so short that one of the chain's later values seems to be due."""
    coordinator.slot_ms, coordinator.ask_ahead_slots = 1_000, AHEAD_SLOTS


def test_values_come_in_their_slots_and_are_of_the_chain(machine: Machine) -> None:
    coordinator = HostileCoordinator(machine)
    service = verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(40)
    (chain,) = coordinator.chains
    check = ChainCheck(read_chain(decode_statement(chain, Signed)))
    told = {one.slot: one.value for _, one in coordinator.reveals}
    assert len(told) >= 2
    assert all(check.accepts(slot, value) for slot, value in sorted(told.items()))
    assert not early(coordinator)
    machine.run(service.stop())


def test_who_denies_chains_gets_the_same_one_again_also_after_a_restart(machine: Machine) -> None:
    coordinator = HostileCoordinator(machine)
    coordinator.denies = True
    verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(40)
    machine.crash()
    # What it remembered is gone as well.
    machine.boot()
    machine.disk.remove(MEMORY_FILE)
    service = verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(40)
    assert coordinator.chains_shown > 4
    assert len(coordinator.chains) == 1
    assert not coordinator.reveals
    machine.run(service.stop())


def test_a_slot_said_to_be_shorter_gets_no_value_of_the_future(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = HostileCoordinator(machine)
    service = verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(30)
    lie(coordinator)
    before = len(coordinator.asked)
    machine.pass_time(REFUSED_MS / 1000)
    assert not early(coordinator)
    assert "slots of 1000 ms, not of 10000 ms as at first" in caplog.text
    assert MEMORY_FILE in caplog.text
    # It is not pestered, either.
    assert len(coordinator.asked) - before <= 3
    machine.run(service.stop())


def test_a_restart_does_not_forget_how_long_slots_are(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = HostileCoordinator(machine)
    verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(30)
    machine.crash()
    lie(coordinator)
    machine.boot()
    service = verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(30)
    assert not early(coordinator)
    assert service.desks[0].state is None
    assert "slots of 1000 ms, not of 10000 ms as at first" in caplog.text
    # Its operator may agree to other slots.
    machine.run(service.stop())
    machine.disk.remove(MEMORY_FILE)
    coordinator.slot_ms, coordinator.ask_ahead_slots = SLOT_MS, 0
    service = verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(2)
    assert service.desks[0].state is not None
    machine.run(service.stop())


def test_another_address_of_the_same_coordinator_is_bound_as_well(machine: Machine) -> None:
    coordinator = HostileCoordinator(machine)
    service = verifier_of(machine, coordinator, ADDRESSES[:1])
    machine.pass_time(30)
    machine.run(service.stop())
    lie(coordinator)
    service = verifier_of(machine, coordinator, ADDRESSES)
    machine.pass_time(5)
    assert [desk.state for desk in service.desks] == [None, None]
    assert [desk.slot_ms for desk in service.desks] == [SLOT_MS, SLOT_MS]
    assert not early(coordinator)
    machine.run(service.stop())
