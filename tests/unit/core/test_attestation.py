"""Attestations: a coordinator that signs what does not follow is caught by the file alone."""

import hashlib
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core import attestation
from atoll.core.attestation import Head, NodeLine, PieceLine, Seal, SegmentLine, Sums
from atoll.core.attestation_check import Trusted, Verified, verify
from atoll.core.certificates import PARTY, Certificate, Issuer, issue
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.merkle import node_hash
from atoll.core.messages import NodeFacts, encode
from atoll.core.messages.policy import PartyFacts
from atoll.core.parties import sign_party

NOW_MS = 1_800_000_000_000
COORDINATOR, GATEWAY, NODE = Identity(b"c" * 32), Identity(b"g" * 32), Identity(b"n" * 32)
ISSUER = Identity(b"i" * 32)
TRUSTED = Trusted(frozenset((COORDINATOR.public_key,)))


def facts_of(**changes: Any) -> NodeFacts:
    base = NodeFacts(
        public_key=NODE.public_key, operator="op", site="s", region="eu", country="DE",
        tier="home", host="192.0.2.1", port=1, fingerprint=bytes(32), capacity_bytes=1,
        price_micro=0, version="1",
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def node_line(facts: NodeFacts, **changes: Any) -> NodeLine:
    raw = encode(facts)
    base = NodeLine(
        alias=1, facts=raw.hex(), signature=NODE.sign(b"node-facts/1", raw).hex(), by_address="",
        country=facts.country, parent_country=facts.country, region=facts.region, tier=facts.tier,
        evidence="declared", labels=[], state="alive",
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def head_of(**changes: Any) -> Head:
    party = PartyFacts(public_key=COORDINATOR.public_key, role="coordinator", country="DE")
    base = Head(
        version=1, attestation="00" * 16, bucket="reef", bucket_id="01" * 16, account="02" * 16,
        policy=2, policy_version=1, policy_text="country in DE", groups_date="", begun_ms=NOW_MS,
        coordinator=encode(sign_party(COORDINATOR, party)).hex(), gateway="", issuers=[],
        objections=[], stated=[], keys_hashed=False,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def segment_line(**changes: Any) -> SegmentLine:
    base = SegmentLine(
        object="a", number=0, segment="03" * 16, plain_bytes=5, k=1, n=4, packed=False,
        pieces=[PieceLine(0, 1)],
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def whole(*lines: msgspec.Struct, **changes: Any) -> list[bytes]:
    """Return a file of one page that the coordinator signed, whatever it says."""
    raws = [attestation.line_of(line) for line in lines]
    hashes = [attestation.line_hash(raw) for raw in raws]
    peaks = attestation.extended([], 0, attestation.page_leaf(hashes))
    seal = Seal(
        attestation="00" * 16, page=0, lines=hashes, peaks=[peak.hex() for peak in peaks],
        sums=Sums(objects=1, segments=1, pieces=1, declared=1), cursor="", policy=2,
        begun_ms=NOW_MS, time_ms=NOW_MS, last=True, root=attestation.root_of(peaks, 1).hex(),
        verdict="within", head=hashes[0],
    )  # fmt: skip
    seal = msgspec.structs.replace(seal, **changes)
    return [*raws, attestation.sign_seal(COORDINATOR, seal)]


def refused(lines: list[bytes], trusted: Trusted = TRUSTED) -> str:
    with pytest.raises(AtollError) as caught:
        verify(lines, trusted)
    return caught.value.message


def accepted(lines: list[bytes], trusted: Trusted = TRUSTED) -> Verified:
    return verify(lines, trusted)


def test_what_follows_is_accepted() -> None:
    found = accepted(whole(head_of(), node_line(facts_of()), segment_line()))
    assert (found.verdict, found.sums.pieces, found.witnessed) == ("within", 1, False)


def test_a_location_cannot_be_claimed_beyond_its_evidence() -> None:
    told = refused(
        whole(
            head_of(),
            node_line(facts_of(), evidence="certificate"),
            segment_line(),
            sums=Sums(objects=1, segments=1, pieces=1, certificate=1),
        )
    )
    assert told.startswith("line 2 (byte ")
    assert "only declared is shown" in told
    assert "only declared" in refused(
        whole(head_of(), node_line(facts_of(), evidence="address"), segment_line())
    )
    line = node_line(facts_of(), by_address="DE", evidence="address")
    sums = Sums(objects=1, segments=1, pieces=1, address=1)
    assert accepted(whole(head_of(), line, segment_line(), sums=sums)).sums.address == 1
    assert "only disputed" in refused(
        whole(head_of(), node_line(facts_of(), by_address="US"), segment_line())
    )


def test_a_country_nobody_declared_or_certified_is_refused() -> None:
    line = node_line(facts_of(country="US"), country="DE", parent_country="DE")
    assert "DE is neither declared nor certified" in refused(whole(head_of(), line, segment_line()))


def test_facts_must_be_the_nodes_own() -> None:
    line = node_line(facts_of(country="US"), country="DE")
    forged = encode(facts_of(country="DE")).hex()
    told = refused(whole(head_of(), msgspec.structs.replace(line, facts=forged), segment_line()))
    assert "did not sign" in told


def test_labels_need_a_certificate_of_an_issuer_the_reader_believes() -> None:
    certificate = issue(
        ISSUER,
        Certificate(
            certificate=b"c" * 16, issuer=ISSUER.public_key, kind=PARTY, subject=NODE.node_id,
            statements=["ISO27001", "country:DE"], not_before_ms=1, not_after_ms=NOW_MS + 1,
        ),
    )  # fmt: skip
    named = attestation.IssuerLine(ISSUER.public_key.hex(), "issuer", [], 0)
    line = node_line(
        facts_of(certificates=[certificate]), labels=["iso27001"], evidence="certificate"
    )
    sums = Sums(objects=1, segments=1, pieces=1, certificate=1)
    text = 'certificate "ISO27001" and evidence >= certificate'
    lines = whole(head_of(issuers=[named], policy_text=text), line, segment_line(), sums=sums)
    assert accepted(lines).verdict == "within"
    mine = {ISSUER.public_key: Issuer(ISSUER.public_key, "mine")}
    assert accepted(lines, Trusted(TRUSTED.coordinators, issuers=mine)).verdict == "within"
    assert "only declared" in refused(lines, Trusted(TRUSTED.coordinators, issuers={}))
    late = whole(
        head_of(issuers=[named], policy_text=text), line, segment_line(), sums=sums,
        time_ms=NOW_MS + 1,
    )  # fmt: skip
    assert "only declared" in refused(late)


def test_a_piece_that_the_policy_does_not_admit_cannot_count_as_inside() -> None:
    told = refused(
        whole(head_of(policy_text="country in FR"), node_line(facts_of()), segment_line())
    )
    assert "counts as inside" in told
    assert "segment 0 of 'a'" in told
    outside = segment_line(pieces=[PieceLine(0, 1, "country is DE")])
    sums = Sums(objects=1, segments=1, pieces=1, declared=1, outside=1)
    lines = whole(
        head_of(policy_text="country in FR"),
        node_line(facts_of()),
        outside,
        sums=sums,
        verdict="outside",
    )
    assert accepted(lines).outside == ("a, segment 0, piece 0: country is DE",)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sums": Sums(objects=1, segments=1, pieces=1, address=1)}, "sums"),
        ({"sums": Sums(objects=0, segments=1, pieces=1, declared=1)}, "fewer objects"),
        ({"verdict": "outside"}, "verdict"),
        ({"root": "00" * 32}, "root"),
        ({"peaks": ["00" * 32]}, "tree"),
        ({"page": 1}, "page"),
        ({"policy": 3}, "policy"),
        ({"head": "00" * 32}, "head"),
        ({"attestation": "11" * 16}, "attestation"),
        ({"last": False}, "root|verdict"),
    ],
)
def test_a_seal_that_does_not_follow_from_its_lines_is_refused(
    changes: dict[str, Any], word: str
) -> None:
    lines = whole(head_of(), node_line(facts_of()), segment_line(), **changes)
    assert re.search(word, refused(lines))


def test_an_objection_makes_the_verdict_outside() -> None:
    lines = whole(head_of(objections=["this gateway …"]), node_line(facts_of()), segment_line())
    assert "verdict" in refused(lines)


def test_a_piece_on_a_node_that_is_not_shown_is_refused() -> None:
    lines = whole(head_of(), segment_line(), sums=Sums(objects=1, segments=1, pieces=1, unknown=1))
    assert "nothing is shown" in refused(lines)


def test_the_witness_must_have_seen_this_very_seal() -> None:
    lines = whole(head_of(), node_line(facts_of()), segment_line())
    witness = attestation.sign_witness(GATEWAY, lines[-1], NOW_MS)
    assert accepted([*lines, witness]).witnessed
    believed = Trusted(TRUSTED.coordinators, frozenset((NODE.public_key,)))
    assert not accepted([*lines, witness], believed).witnessed
    other = attestation.sign_witness(GATEWAY, lines[-1] + b" ", NOW_MS)
    assert "does not hold" in refused([*lines, other])
    assert "nothing may follow" in refused([*lines, lines[0]])
    assert "nothing may follow" in refused([*lines, witness, witness])


def test_another_coordinators_signature_or_head_does_not_count() -> None:
    lines = whole(head_of(), node_line(facts_of()), segment_line())
    assert "do not trust" in refused(lines, Trusted(frozenset((GATEWAY.public_key,))))
    party = PartyFacts(public_key=GATEWAY.public_key, role="coordinator")
    stranger = head_of(coordinator=encode(sign_party(GATEWAY, party)).hex())
    assert "not the one that signed" in refused(
        whole(stranger, node_line(facts_of()), segment_line())
    )


@settings(deadline=None)
@given(st.integers(1, 200))
def test_the_frontier_stands_for_the_tree_of_all_pages(pages: int) -> None:
    leaves = [attestation.page_leaf([f"{number:064x}"]) for number in range(pages)]
    peaks: list[bytes] = []
    for number, leaf in enumerate(leaves):
        peaks = attestation.extended(peaks, number, leaf)
    assert len(peaks) == pages.bit_count()

    def top(part: list[bytes]) -> bytes:
        """RFC 6962: split at the largest power of two below the count."""
        if len(part) == 1:
            return part[0]
        split = 1 << (len(part) - 1).bit_length() - 1
        return node_hash(top(part[:split]), top(part[split:]))

    bound = b"atoll/residency-root/1" + pages.to_bytes(8, "big") + top(leaves)
    assert attestation.root_of(peaks, pages) == hashlib.sha256(bound).digest()
