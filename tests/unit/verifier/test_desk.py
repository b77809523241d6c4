"""A verifier's books: it reveals in time only, believes chains only, and finds liars out."""

import msgspec
import pytest
from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    SLOT_MS,
    VERIFIERS,
    beacon_of,
    chain_of,
    small_holder,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.proofs import VerifierState
from atoll.core.ports import Address
from atoll.core.proofs.beacon import CHAIN_SLOTS, read_chain
from atoll.core.proofs.evidence import Lie, check_evidence
from atoll.core.proofs.signed import encode_statement
from atoll.core.proofs.verdicts import (
    SignedVerdict,
    VerdictSignature,
    judge_proof,
    sign_verdict,
)
from atoll.verifier.desk import CHAINS_MAX, Desk

SLOT = 9
NOW_MS = SLOT * SLOT_MS
ME, FELLOW, LIAR = VERIFIERS


def state(
    *,
    slot: int = SLOT,
    reveal: int = 0,
    chains: list[bytes] | None = None,
    slot_ms: int = SLOT_MS,
) -> VerifierState:
    known = [encode_statement(chain_of(one)) for one in VERIFIERS] if chains is None else chains
    return VerifierState(
        time_ms=slot * SLOT_MS,
        coordinator_key=COORDINATOR.public_key,
        slot=slot,
        slot_ms=slot_ms,
        reveal_slot=reveal,
        beacon=b"",
        verifiers=[],
        chains=known,
        excluded=[],
        pause_ms=100,
        chain_known=True,
    )


@pytest.fixture
def desk() -> Desk:
    made = new_desk()
    made.adopt(state(), SLOT * SLOT_MS)
    return made


def new_desk() -> Desk:
    made = Desk(Address("127.0.0.1", 1), ME)
    made.pin(COORDINATOR.public_key, SLOT_MS)
    return made


def test_a_new_verifier_shows_its_chain_and_reveals_its_values() -> None:
    desk = new_desk()
    desk.adopt(state(chains=[], reveal=SLOT), SLOT * SLOT_MS)
    chain = desk.ready_chain(SLOT)
    assert read_chain(chain).period == 0
    # Before the coordinator names the chain, its values are worth nothing there.
    assert desk.reveal_due(SLOT * SLOT_MS) is None
    now_ms = (SLOT + 1) * SLOT_MS
    desk.adopt(state(slot=SLOT + 1, reveal=SLOT + 1, chains=[encode_statement(chain)]), now_ms)
    assert desk.ready_chain(SLOT + 1).body == chain.body
    assert desk.reveal_due(now_ms) is not None
    assert desk.pause_ms(now_ms) == 0


END = CHAIN_SLOTS - 1


def test_a_coordinator_that_denies_chains_gets_no_second_one() -> None:
    desk = new_desk()
    said: dict[int, set[bytes]] = {}
    for slot in (SLOT, SLOT + 1, 5_000, END - 3, END, CHAIN_SLOTS, CHAIN_SLOTS + 70):
        for chains in ([], None, [encode_statement(chain_of(FELLOW))]):
            # Also after a restart, and whatever it denied or named before.
            for one in (desk, new_desk()):
                one.adopt(state(slot=slot, chains=chains), slot * SLOT_MS)
                chain = one.ready_chain(slot)
                said.setdefault(read_chain(chain).period, set()).add(encode_statement(chain))
    assert sorted(said) == [0, 1]
    assert all(len(chains) == 1 for chains in said.values())


def test_the_next_chain_is_shown_before_its_period_and_after_the_one_in_use() -> None:
    desk = new_desk()
    desk.adopt(state(slot=END, chains=[]), END * SLOT_MS)
    first = desk.ready_chain(END)
    assert read_chain(first).period == 0
    desk.adopt(state(slot=END, chains=[encode_statement(first)]), END * SLOT_MS)
    second = desk.ready_chain(END)
    assert read_chain(second).period == 1
    assert desk.ready_chain(END - 100).body == first.body
    known = [encode_statement(first), encode_statement(second)]
    for slot in (END, CHAIN_SLOTS):
        desk.adopt(state(slot=slot, reveal=slot, chains=known), slot * SLOT_MS)
        assert desk.reveal_due(slot * SLOT_MS) is not None


def test_a_chain_named_within_the_slot_does_not_count_in_it() -> None:
    desk = new_desk()
    desk.adopt(state(chains=[encode_statement(chain_of(one)) for one in VERIFIERS[:2]]), NOW_MS)
    later = (SLOT + 1) * SLOT_MS
    desk.adopt(state(slot=SLOT + 1), later)
    with pytest.raises(AtollError, match="of no known chain"):
        desk.take_beacon(beacon_of(SLOT + 1))
    desk.adopt(state(slot=SLOT + 2), later + SLOT_MS)
    assert desk.take_beacon(beacon_of(SLOT + 2)).slot == SLOT + 2


def test_more_chains_than_a_coordinator_can_have_are_refused(desk: Desk) -> None:
    with pytest.raises(AtollError, match="too many chains"):
        desk.adopt(state(chains=[b""] * (CHAINS_MAX + 1)), NOW_MS)


def asked_for(slot: int, now_ms: int) -> Desk:
    """A desk with a known chain, of which the coordinator wants a value."""
    desk = new_desk()
    chain = encode_statement(desk.ready_chain(SLOT))
    desk.adopt(state(slot=now_ms // SLOT_MS, reveal=slot, chains=[chain]), now_ms)
    return desk


@pytest.mark.parametrize("early_ms", [1, 1_999, 60_000])
def test_nobody_gets_a_value_before_its_slot(early_ms: int) -> None:
    now_ms = 30 * SLOT_MS - early_ms
    desk = asked_for(30, now_ms)
    assert desk.reveal_due(now_ms) is None
    assert desk.pause_ms(now_ms) == min(100, early_ms)
    assert desk.reveal_due(30 * SLOT_MS) is not None


def test_nobody_gets_values_of_slots_long_over() -> None:
    desk = asked_for(30, 31 * SLOT_MS)
    assert desk.reveal_due(31 * SLOT_MS) is not None
    assert desk.reveal_due(32 * SLOT_MS) is None


def test_a_coordinator_cannot_make_slots_shorter(desk: Desk) -> None:
    with pytest.raises(AtollError, match="not of 10000 ms as at first") as refused:
        desk.adopt(state(slot=SLOT * 10, slot_ms=1_000), SLOT * SLOT_MS)
    assert refused.value.kind is Kind.FORBIDDEN
    assert desk.slot_ms == SLOT_MS


@pytest.mark.parametrize("slot_ms", [0, 1, 999, -1, 1 << 62])
def test_slots_of_no_sane_length_are_refused(slot_ms: int) -> None:
    desk = Desk(Address("127.0.0.1", 1), ME)
    with pytest.raises(AtollError) as refused:
        desk.pin(COORDINATOR.public_key, slot_ms)
    assert refused.value.kind is Kind.BAD_REQUEST
    assert (desk.key, desk.slot_ms) == (b"", 0)


def test_slots_are_numbered_by_our_own_clock(desk: Desk) -> None:
    with pytest.raises(AtollError) as refused:
        desk.adopt(state(slot=SLOT + 7), SLOT * SLOT_MS)
    assert refused.value.kind is Kind.CLOCK_SKEW
    desk.adopt(state(slot=SLOT + 6), SLOT * SLOT_MS)


def test_a_beacon_with_a_value_of_no_chain_is_refused() -> None:
    desk = new_desk()
    desk.adopt(state(chains=[encode_statement(chain_of(ME))]), SLOT * SLOT_MS)
    with pytest.raises(AtollError, match="of no known chain"):
        desk.take_beacon(beacon_of(SLOT))


def test_two_beacons_for_a_slot_are_evidence_against_the_coordinator(desk: Desk) -> None:
    desk.take_beacon(beacon_of(SLOT))
    with pytest.raises(AtollError, match="two for this slot"):
        desk.take_beacon(beacon_of(SLOT, VERIFIERS[:2]))
    (evidence,) = desk.untold
    assert check_evidence(evidence).key == COORDINATOR.public_key


def test_a_slanderer_is_found_out_by_the_proof(desk: Desk) -> None:
    beacon = beacon_of(SLOT)
    desk.take_beacon(beacon)
    judged = judge_proof(small_holder().proof(beacon, SLOT))
    lie = sign_verdict(LIAR, msgspec.structs.replace(judged.verdict, samples=7))
    desk.hear(SignedVerdict(lie.body, [VerdictSignature(lie.key, lie.signature)]))
    desk.own(judged, sign_verdict(ME, judged.verdict))
    desk.compare(judged)
    (evidence,) = desk.untold
    assert evidence.lie == Lie.FALSE_VERDICT.value
    assert check_evidence(evidence).key == LIAR.public_key
    assert desk.liars == {LIAR.public_key}


def test_who_tells_each_something_else_is_found_out(desk: Desk) -> None:
    beacon = beacon_of(SLOT)
    desk.take_beacon(beacon)
    verdict = judge_proof(small_holder().proof(beacon, SLOT)).verdict
    for said in (verdict, msgspec.structs.replace(verdict, proof=b"x" * 32)):
        signed = sign_verdict(LIAR, said)
        desk.hear(SignedVerdict(signed.body, [VerdictSignature(signed.key, signed.signature)]))
    (evidence,) = desk.untold
    assert (evidence.lie, check_evidence(evidence).key) == (Lie.VERDICT.value, LIAR.public_key)


def test_only_open_slots_are_judged(desk: Desk) -> None:
    beacon = desk.take_beacon(beacon_of(SLOT))
    desk.may_judge(PROVIDER.node_id, beacon, SLOT * SLOT_MS + 1)
    desk.may_judge(PROVIDER.node_id, beacon, (SLOT + 1) * SLOT_MS + 1)
    with pytest.raises(AtollError) as refused:
        desk.may_judge(PROVIDER.node_id, beacon, (SLOT + 2) * SLOT_MS + 1)
    assert refused.value.kind is Kind.EXPIRED
