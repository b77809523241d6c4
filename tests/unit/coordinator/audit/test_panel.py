"""The panel alone: whose chains are taken, when a beacon is made, who is left out."""

import asyncio
from collections.abc import Awaitable, Iterator
from functools import cache
from typing import TypeVar

import pytest
from tests.unit.core.proofs.world import COORDINATOR, VERIFIERS, secret_of

from atoll.coordinator.audit.model import PROFILES, Verifier
from atoll.coordinator.audit.panel import ABSENT_SLOTS, SHARE_S, Panel
from atoll.coordinator.metadata.migrate import migrate_connection
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.proofs import VerifierPlace
from atoll.core.proofs.beacon import (
    Reveal,
    chain_value,
    check_beacon,
    commit_chain,
    make_reveal,
    period_of,
)
from atoll.core.proofs.evidence import Lie
from atoll.core.proofs.signed import Signed
from atoll.sim.clock import WORLD_BEGINS_MS, SimClock
from atoll.sim.database import DatabaseServer, SimDatabase
from atoll.sim.incarnation import Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.trace import Trace

Result = TypeVar("Result")
TIMES = PROFILES["local"]
SLOT_S = TIMES.slot_ms / 1000
NOW = WORLD_BEGINS_MS // TIMES.slot_ms
FIRST = NOW + 2
PERIOD = period_of(NOW)
STRANGER = Identity(b"s" * 32)
ONE, TWO, THREE = VERIFIERS
TRUSTED = frozenset(one.public_key for one in VERIFIERS)


def place_of(verifier: Identity, port: int = 1) -> VerifierPlace:
    key = verifier.public_key
    return VerifierPlace(key=key, host="127.0.0.1", port=port, fingerprint=b"", operator="reef")


@cache
def chain_from(
    verifier: Identity, period: int = PERIOD, coordinator: Identity = COORDINATOR
) -> Signed:
    return commit_chain(verifier, coordinator.public_key, secret_of(verifier), period)


def value_of(verifier: Identity, slot: int) -> Reveal:
    value = chain_value(secret_of(verifier), slot)
    return make_reveal(verifier, COORDINATOR.public_key, slot, value)


def invented_by_one() -> Reveal:
    return make_reveal(ONE, COORDINATOR.public_key, FIRST, b"i" * 32)


class Office:
    """Panels over one database: each is a coordinator's process."""

    def __init__(self) -> None:
        self.loop = SimLoop("panel")
        self.trace = Trace(self.loop.time)
        self.server = DatabaseServer(migrate_connection)
        self.lives: list[Incarnation] = []
        self.panel = self.open()

    def open(self) -> Panel:
        """Start a process."""
        life = Incarnation("coordinator", len(self.lives) + 1, self.loop, self.trace)
        self.lives.append(life)
        database = SimDatabase(life, self.server, f"database/{life.number}")
        panel = Panel(SimClock(life), database, COORDINATOR, TIMES, TRUSTED)
        self.run(panel.load())
        return panel

    def run(self, work: Awaitable[Result]) -> Result:
        """Run a coroutine in the newest process."""

        async def coroutine() -> Result:
            return await work

        async def main() -> Result:
            return await self.lives[-1].start(coroutine())

        return self.loop.run_until_complete(main())

    def refused(self, work: Awaitable[object]) -> Kind:
        with pytest.raises(AtollError) as error:
            self.run(work)
        return error.value.kind

    def until_slot(self, slot: int, seconds: float = 0.01) -> None:
        """Let time pass until some seconds into a slot."""
        at_s = (slot * TIMES.slot_ms - WORLD_BEGINS_MS) / 1000 + seconds
        self.loop.run_until_complete(asyncio.sleep(at_s - self.loop.time()))

    def meet(self, verifier: Identity, panel: Panel | None = None) -> Verifier:
        return self.run((panel or self.panel).meet(place_of(verifier), chain_from(verifier)))

    def reveal(self, verifier: Identity, slot: int, panel: Panel | None = None) -> None:
        known = self.meet(verifier, panel)
        assert self.run((panel or self.panel).reveal(known, value_of(verifier, slot))) is None

    def end(self) -> None:
        for life in self.lives:
            life.crash()
            life.bury()
        self.loop.close()
        self.server.close()


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.end()


@pytest.fixture
def met(office: Office) -> Office:
    """Three verifiers are known; the first slot of their chains has begun."""
    for one in VERIFIERS:
        office.meet(one)
    office.until_slot(FIRST)
    for one in VERIFIERS:
        office.meet(one)
    return office


def test_only_trusted_verifiers_with_chains_for_us_are_met(office: Office) -> None:
    panel = office.panel
    assert office.refused(panel.meet(place_of(STRANGER), chain_from(STRANGER))) is Kind.FORBIDDEN
    foreign = chain_from(ONE, coordinator=STRANGER)
    assert office.refused(panel.meet(place_of(ONE), foreign)) is Kind.UNAUTHENTICATED
    borrowed = chain_from(TWO)
    assert office.refused(panel.meet(place_of(ONE), borrowed)) is Kind.UNAUTHENTICATED
    forged = Signed(chain_from(ONE).body, ONE.public_key, bytes(64))
    assert office.refused(panel.meet(place_of(ONE), forged)) is Kind.UNAUTHENTICATED
    assert (panel.active(), panel.chains()) == ([], [])


@pytest.mark.parametrize("period", [0, PERIOD - 1, PERIOD + 2])
def test_a_chain_is_of_this_period_or_the_next(office: Office, period: int) -> None:
    early = chain_from(ONE, period)
    assert office.refused(office.panel.meet(place_of(ONE), early)) is Kind.CONFLICT
    assert office.panel.chains() == []


def test_chains_of_two_periods_are_kept_by_every_process(office: Office) -> None:
    office.meet(ONE)
    office.run(office.panel.meet(place_of(ONE), chain_from(ONE, PERIOD + 1)))
    # The one in use is announced again and again.
    office.meet(ONE)
    expected = [chain_from(ONE), chain_from(ONE, PERIOD + 1)]
    assert office.panel.chains() == expected
    assert office.open().chains() == expected


def test_a_second_chain_for_a_period_excludes_who_signed_it(office: Office) -> None:
    office.meet(ONE)
    other = commit_chain(ONE, COORDINATOR.public_key, b"another", PERIOD)
    assert office.refused(office.panel.meet(place_of(ONE), other)) is Kind.CONFLICT
    assert office.panel.excluded() == [ONE.public_key]
    assert office.panel.chains() == [chain_from(ONE)]


def test_a_chain_does_not_count_before_everybody_could_know_it(office: Office) -> None:
    office.meet(ONE)
    for slot, counts in ((NOW, False), (NOW + 1, False), (NOW + 2, True)):
        office.until_slot(slot)
        office.reveal(ONE, slot)
        office.until_slot(slot, SLOT_S - 0.5)
        office.run(office.panel.combine(slot))
        assert (office.panel.signed_beacon(slot) is not None) == counts


def test_a_verifier_that_moves_is_found_at_its_new_place(office: Office) -> None:
    office.meet(ONE)
    office.run(office.panel.meet(place_of(ONE, port=2), chain_from(ONE)))
    assert [place.port for place in office.panel.places()] == [2]


def test_the_beacon_is_made_when_the_last_reveal_is_there(met: Office) -> None:
    met.reveal(ONE, FIRST)
    met.reveal(TWO, FIRST)
    assert met.panel.signed_beacon(FIRST) is None
    assert met.run(met.panel.value(FIRST)) is None
    met.reveal(THREE, FIRST)
    found = met.panel.signed_beacon(FIRST)
    assert found is not None
    beacon = check_beacon(found[0], COORDINATOR.public_key)
    assert beacon.verifiers == sorted(TRUSTED)
    assert beacon.reveals == [value_of(one, FIRST) for one in sorted(VERIFIERS, key=by_key)]
    assert met.run(met.panel.value(FIRST)) == beacon.value


def by_key(identity: Identity) -> bytes:
    return identity.public_key


def test_two_of_three_reveals_make_a_beacon_after_the_others_time(met: Office) -> None:
    met.reveal(ONE, FIRST)
    met.reveal(TWO, FIRST)
    met.until_slot(FIRST, TIMES.gathering_ms / 1000 - 0.5)
    met.run(met.panel.combine(FIRST))
    assert met.panel.signed_beacon(FIRST) is None
    met.until_slot(FIRST, TIMES.gathering_ms / 1000 + 0.5)
    met.run(met.panel.combine(FIRST))
    found = met.panel.signed_beacon(FIRST)
    assert found is not None
    assert found[1].verifiers == sorted(TRUSTED)
    assert {one.verifier_key for one in found[1].reveals} == {ONE.public_key, TWO.public_key}


def test_one_reveal_of_three_is_no_beacon(met: Office) -> None:
    met.reveal(ONE, FIRST)
    met.until_slot(FIRST, SLOT_S - 0.5)
    met.run(met.panel.combine(FIRST))
    assert met.panel.signed_beacon(FIRST) is None


def test_a_beacon_that_was_made_stays_whatever_comes_later(met: Office) -> None:
    met.reveal(ONE, FIRST)
    met.reveal(TWO, FIRST)
    met.until_slot(FIRST, TIMES.gathering_ms / 1000 + 0.5)
    met.run(met.panel.combine(FIRST))
    first = met.panel.signed_beacon(FIRST)
    assert first is not None
    met.reveal(THREE, FIRST)
    assert met.panel.signed_beacon(FIRST) == first
    # Another process with all three reveals takes the one that was written first.
    other = met.open()
    for one in VERIFIERS:
        met.reveal(one, FIRST, other)
    assert other.signed_beacon(FIRST) == first


def test_who_joins_within_a_slot_waits_for_the_next(met: Office) -> None:
    met.until_slot(FIRST + ABSENT_SLOTS + 1)
    slot = FIRST + ABSENT_SLOTS + 1
    assert met.panel.active() == []
    met.meet(ONE)
    met.run(met.panel.combine(slot))
    met.meet(TWO)
    met.reveal(ONE, slot)
    found = met.panel.signed_beacon(slot)
    assert found is not None
    assert found[1].verifiers == [ONE.public_key]


def test_reveals_that_prove_nothing_are_refused(met: Office) -> None:
    known = met.meet(ONE)
    true = value_of(ONE, FIRST)
    forged = Reveal(ONE.public_key, COORDINATOR.public_key, FIRST, true.value, bytes(64))
    assert met.refused(met.panel.reveal(known, forged)) is Kind.UNAUTHENTICATED
    assert met.refused(met.panel.reveal(known, value_of(TWO, FIRST))) is Kind.UNAUTHENTICATED
    invented = invented_by_one()
    assert met.refused(met.panel.reveal(known, invented)) is Kind.CORRUPT
    foreign = make_reveal(ONE, STRANGER.public_key, FIRST, true.value)
    assert met.refused(met.panel.reveal(known, foreign)) is Kind.UNAUTHENTICATED
    assert known.reveals == {}


@pytest.mark.parametrize("slot", [FIRST - 1, FIRST + 1])
def test_values_of_other_slots_are_passed_over(met: Office, slot: int) -> None:
    known = met.meet(ONE)
    value = chain_value(secret_of(ONE), FIRST + 1)
    told = make_reveal(ONE, COORDINATOR.public_key, slot, value)
    assert met.run(met.panel.reveal(known, told)) is None
    assert known.reveals == {}


def test_who_reveals_two_values_is_excluded_for_good(met: Office) -> None:
    met.reveal(ONE, FIRST)
    known = met.meet(ONE)
    evidence = met.run(met.panel.reveal(known, invented_by_one()))
    assert evidence is not None
    accused = met.run(met.panel.accuse(evidence))
    assert accused is not None
    assert (accused.key, accused.lie) == (ONE.public_key, Lie.REVEAL)
    # Told again it is no news.
    assert met.run(met.panel.accuse(evidence)) is None
    for panel in (met.panel, met.open()):
        for one in VERIFIERS:
            met.meet(one, panel)
        assert panel.excluded() == [ONE.public_key]
        assert {one.key for one in panel.active()} == {TWO.public_key, THREE.public_key}
    met.until_slot(FIRST + 1)
    met.reveal(TWO, FIRST + 1)
    met.reveal(THREE, FIRST + 1)
    found = met.panel.signed_beacon(FIRST + 1)
    assert found is not None
    assert ONE.public_key not in found[1].verifiers


def test_processes_over_one_database_make_one_beacon_of_all_they_heard(met: Office) -> None:
    """Each verifier asks whichever process it reaches; no value is lost between them."""
    panels = [met.panel, met.open()]
    for one, panel in zip(VERIFIERS, (panels[0], panels[0], panels[1]), strict=True):
        known = met.meet(one, panel)
        assert met.run(panel.reveal(known, value_of(one, FIRST))) is None
        met.run(panel.note(known))
    met.until_slot(FIRST, SHARE_S * 2)
    beacons = []
    for panel in panels:
        met.run(panel.combine(FIRST))
        found = panel.signed_beacon(FIRST)
        assert found is not None
        beacons.append(found[0])
        assert {one.key for one in panel.active()} == TRUSTED
        assert len(found[1].reveals) == 3
    assert beacons[0] == beacons[1]


def test_a_process_takes_the_beacon_that_another_made(met: Office) -> None:
    other = met.open()
    met.run(other.combine(FIRST))
    assert other.signed_beacon(FIRST) is None
    for one in VERIFIERS:
        met.reveal(one, FIRST)
    met.until_slot(FIRST, SHARE_S * 2)
    met.run(other.combine(FIRST))
    assert other.signed_beacon(FIRST) == met.panel.signed_beacon(FIRST)


def test_a_liar_stays_excluded_whichever_process_writes_its_place(met: Office) -> None:
    other = met.open()
    met.reveal(ONE, FIRST)
    evidence = met.run(met.panel.reveal(met.meet(ONE), invented_by_one()))
    assert evidence is not None
    met.run(met.panel.accuse(evidence))
    # The other process knows nothing of it yet when the liar moves.
    met.run(other.meet(place_of(ONE, port=2), chain_from(ONE)))
    assert met.open().excluded() == [ONE.public_key]
    met.until_slot(FIRST, 1.0)
    met.run(other.refresh())
    assert other.excluded() == [ONE.public_key]
