"""A proof file stands alone: whatever was done to it, it is told, and what it is worth."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    VERIFIERS,
    beacon_of,
    chain_of,
    small_holder,
    verdict_of,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.proofs.bundle import (
    Bundle,
    ProofFile,
    check_bundle,
    read_proof_file,
    write_proof_file,
)
from atoll.core.proofs.signed import encode_statement

SLOT = 9


def bundle(*, lost: bool = False, signers: int = 3) -> Bundle:
    holder = small_holder()
    if lost:
        holder.pieces[2].data = None
    proof = holder.proof(beacon_of(SLOT), SLOT, 16)
    return Bundle(
        encode_statement(proof),
        verdict_of(proof, VERIFIERS[:signers]),
        [chain_of(verifier) for verifier in VERIFIERS],
    )


WHOLE = bundle()
FILE = write_proof_file(ProofFile("node", [WHOLE]))


def test_a_file_says_who_proved_what() -> None:
    checked = check_bundle(read_proof_file(FILE).bundles[0], COORDINATOR.public_key)
    assert checked.passed
    assert checked.node_key == PROVIDER.public_key
    assert (checked.samples, checked.pieces, checked.slot) == (16, 5, SLOT)
    assert len(checked.signers) == 3
    assert checked.needed == 2
    assert checked.reveals == 3


def test_failed_samples_are_shown_not_hidden() -> None:
    checked = check_bundle(bundle(lost=True))
    assert not checked.passed
    assert {failed.fault for failed in checked.failed} == {"admitted"}


def test_too_few_signatures_are_no_verdict() -> None:
    with pytest.raises(AtollError, match="1 of 3 verifiers signed, 2 are needed") as refused:
        check_bundle(bundle(signers=1))
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_a_file_of_another_coordinator_does_not_count() -> None:
    with pytest.raises(AtollError) as refused:
        check_bundle(bundle(), b"k" * 32)
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_a_beacon_without_its_chains_does_not_count() -> None:
    whole = bundle()
    with pytest.raises(AtollError, match="of no chain"):
        check_bundle(Bundle(whole.proof, whole.verdict, whole.chains[:2]))


def test_a_kinder_verdict_than_the_proof_allows_is_refused() -> None:
    praise = bundle()
    with pytest.raises(AtollError, match="something else"):
        check_bundle(Bundle(bundle(lost=True).proof, praise.verdict, praise.chains))


@settings(max_examples=60)
@given(st.integers(0, len(FILE) - 1))
def test_a_file_cut_short_is_said_to_be(length: int) -> None:
    with pytest.raises(AtollError) as refused:
        read_proof_file(FILE[:length])
    assert refused.value.kind is Kind.CORRUPT


@settings(max_examples=120)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_garbled_byte_is_found(place: int, change: int) -> None:
    data = FILE[:place] + bytes((FILE[place] ^ change,)) + FILE[place + 1 :]
    with pytest.raises(AtollError) as refused:
        read_proof_file(data)
    assert refused.value.kind in (Kind.CORRUPT, Kind.NEWER_FORMAT)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_an_altered_proof_never_passes_as_the_same(data: st.DataObject) -> None:
    whole = WHOLE
    place = data.draw(st.integers(0, len(whole.proof) - 1))
    changed = bytearray(whole.proof)
    changed[place] ^= data.draw(st.integers(1, 255))
    forged = msgspec.structs.replace(whole, proof=bytes(changed))
    again = read_proof_file(write_proof_file(ProofFile("node", [forged]))).bundles[0]
    with pytest.raises(AtollError):
        check_bundle(again)
