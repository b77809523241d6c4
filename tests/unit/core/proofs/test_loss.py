"""Loss files: they show what was lost to anybody, and nothing where nothing was lost."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.proofs.losses import loss_file_of, verdict_on
from tests.unit.core.proofs.world import COORDINATOR, PROVIDER, VERIFIERS, beacon_of

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.proofs import loss as losses
from atoll.core.proofs.loss import (
    FAILED_SCORE,
    LABEL,
    LOST_SCORE,
    PASSED_SCORE,
    LossEvidence,
    LossSlot,
    check_loss,
    choose_run,
    name_of,
    score_of,
    write_loss,
)
from atoll.core.proofs.signed import decode_statement
from atoll.core.proofs.verdicts import read_verdict

OTHER = Identity(b"o" * 32)
KEYS = frozenset(one.public_key for one in VERIFIERS)


def parts(body: bytes) -> LossEvidence:
    return decode_statement(body[len(LABEL) :], LossEvidence)


def refused(kind: Kind, body: bytes, verifiers: frozenset[bytes] | None = None) -> str:
    with pytest.raises(AtollError) as caught:
        check_loss(body, verifiers)
    assert caught.value.kind is kind
    return caught.value.message


def test_the_scores_are_those_of_the_sequential_test() -> None:
    assert math.ceil(1e5 * math.log(0.01 / 0.001)) == FAILED_SCORE
    assert math.floor(1e5 * math.log(0.999 / 0.99)) == PASSED_SCORE
    assert math.floor(1e5 * math.log((1 - 1e-3) / 1e-6)) == LOST_SCORE


def test_a_node_that_lost_everything_is_shown_by_one_verdict() -> None:
    body = loss_file_of(PROVIDER, [(70, 32)])
    loss = check_loss(body, KEYS)
    assert (loss.node_key, loss.coordinator_key) == (PROVIDER.public_key, COORDINATOR.public_key)
    assert (loss.first_slot, loss.last_slot, loss.verdicts) == (70, 70, 1)
    assert (loss.samples, loss.failed, loss.evidence) == (32, 32, name_of(body))
    assert set(loss.signers) == KEYS
    assert check_loss(body) == loss


@pytest.mark.parametrize(("failed", "lost"), [(6, False), (7, True)])
def test_a_few_failures_are_judged_with_what_passed(failed: int, lost: bool) -> None:
    body = loss_file_of(PROVIDER, [(70, failed)])
    if lost:
        assert check_loss(body).failed == failed
    else:
        assert "score" in refused(Kind.CORRUPT, body)


def test_slots_left_out_count_for_the_node() -> None:
    together = [(70, 3), (71, 3), (72, 3)]
    assert check_loss(loss_file_of(PROVIDER, together)).failed == 9
    apart = [(70, 3), (71, 3), (74, 3)]
    assert "score" in refused(Kind.CORRUPT, loss_file_of(PROVIDER, apart))
    picked = [(slot, 1) for slot in range(70, 700, 10)]
    assert "score" in refused(Kind.CORRUPT, loss_file_of(PROVIDER, picked)), "one in 320 fails"


def test_what_is_no_loss_file_is_refused() -> None:
    body = loss_file_of(PROVIDER, [(70, 32)])
    content = parts(body)
    slot = content.slots[0]
    assert "first bytes" in refused(Kind.CORRUPT, b"x" + body)
    refused(Kind.CORRUPT, body + b"x")
    refused(Kind.CORRUPT, LABEL)
    refused(Kind.TOO_LARGE, bytes(losses.FILE_BYTES_MAX + 1))
    for changed in (
        LossEvidence(OTHER.public_key, content.coordinator_key, content.slots),
        LossEvidence(content.node_key, content.coordinator_key, []),
        LossEvidence(content.node_key, content.coordinator_key, [slot, slot]),
        LossEvidence(
            content.node_key,
            content.coordinator_key,
            [LossSlot(beacon_of(70), verdict_on(PROVIDER, 71, 32))],
        ),
        LossEvidence(
            content.node_key,
            content.coordinator_key,
            [slot, LossSlot(beacon_of(71), verdict_on(PROVIDER, 71, 0))],
        ),
    ):
        refused(Kind.CORRUPT, write_loss(changed))


def test_two_thirds_of_known_verifiers_have_signed() -> None:
    short = LossSlot(beacon_of(70), verdict_on(PROVIDER, 70, 32, signers=VERIFIERS[:1]))
    content = LossEvidence(PROVIDER.public_key, COORDINATOR.public_key, [short])
    assert "1 of 3" in refused(Kind.UNAUTHENTICATED, write_loss(content))
    strangers = LossSlot(
        beacon_of(70), verdict_on(PROVIDER, 70, 32, signers=(VERIFIERS[0], OTHER, PROVIDER))
    )
    refused(Kind.UNAUTHENTICATED, write_loss(msgspec.structs.replace(content, slots=[strangers])))
    body = loss_file_of(PROVIDER, [(70, 32)])
    assert "not known here" in refused(Kind.UNAUTHENTICATED, body, KEYS - {min(KEYS)})


def test_a_flipped_byte_is_noticed_anywhere() -> None:
    body = loss_file_of(PROVIDER, [(70, 32)])
    for place in range(0, len(body), 37):
        changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        try:
            found = check_loss(changed, KEYS)
        except AtollError:
            continue
        # One of three signatures is spoilt: two are enough, but it is another file.
        assert found.evidence != name_of(body)
        assert (found.node_key, found.failed, found.first_slot) == (PROVIDER.public_key, 32, 70)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=30))
def test_a_run_is_chosen_that_shows_the_loss_where_there_is_one(
    steps: list[tuple[int, int]],
) -> None:
    plain = read_verdict(verdict_on(PROVIDER, 70, 6).body)
    slot, verdicts = 10, []
    for gap, failed in steps:
        slot += 1 + gap
        verdicts.append(msgspec.structs.replace(plain, slot=slot, failed=plain.failed[:failed]))
    end = max((i for i, one in enumerate(verdicts) if one.failed), default=-1) + 1
    possible = [
        first
        for first in range(end)
        if verdicts[first].failed and score_of(verdicts[first:end]) >= LOST_SCORE
    ]
    assert choose_run(verdicts) == ((max(possible), end) if possible else None)
