"""Certificates: who may say what about whom, for how long; what follows for a location."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.addresses import AddressTable, read_table
from atoll.core.certificates import (
    CERTIFICATES_MAX,
    NO_TRUST,
    OPERATOR,
    PARTY,
    Certificate,
    Issuer,
    Revocation,
    RevocationList,
    Trust,
    Validity,
    established,
    from_text,
    issue,
    judge,
    read_certificate,
    read_revocations,
    sign_revocations,
    to_text,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.policy.model import Evidence, Subject

ISSUER, OTHER, OWNER = Identity(b"i" * 32), Identity(b"x" * 32), Identity(b"o" * 32)
NODE, THIEF = Identity(b"n" * 32), Identity(b"t" * 32)
NOW_MS = 1_800_000_000_000
TRUST = Trust({ISSUER.public_key: Issuer(ISSUER.public_key, "issuer")})


def made(issuer: Identity = ISSUER, **changes: object) -> Certificate:
    base = Certificate(
        certificate=b"c" * 16,
        issuer=issuer.public_key,
        kind=PARTY,
        subject=NODE.node_id,
        statements=["country:DE", "ISO27001"],
        not_before_ms=NOW_MS - 10,
        not_after_ms=NOW_MS + 10,
    )
    return msgspec.structs.replace(base, **changes)


def validity(raw: bytes, trust: Trust = TRUST, now_ms: int = NOW_MS) -> Validity:
    return judge([raw], NODE.node_id, trust, now_ms)[0][0].validity


def test_a_certificate_counts_for_its_party_while_it_holds() -> None:
    raw = issue(ISSUER, made())
    assert validity(raw) is Validity.VALID
    assert validity(raw, now_ms=NOW_MS - 11) is Validity.EARLY
    assert validity(raw, now_ms=NOW_MS + 10) is Validity.EXPIRED
    assert validity(raw, NO_TRUST) is Validity.UNTRUSTED
    assert validity(issue(ISSUER, made(subject=THIEF.node_id))) is Validity.FOREIGN
    revoked = Trust(TRUST.issuers, frozenset({(ISSUER.public_key, b"c" * 16)}))
    assert validity(raw, revoked) is Validity.REVOKED
    foreign = Trust(TRUST.issuers, frozenset({(OTHER.public_key, b"c" * 16)}))
    assert validity(raw, foreign) is Validity.VALID


def test_when_time_alone_changes_a_judgement_is_told() -> None:
    raw = issue(ISSUER, made())
    assert judge([raw], NODE.node_id, TRUST, NOW_MS)[1] == NOW_MS + 10
    assert judge([raw], NODE.node_id, TRUST, NOW_MS - 50)[1] == NOW_MS - 10


def test_an_issuer_counts_only_for_what_he_is_trusted_for() -> None:
    issuer = Issuer(ISSUER.public_key, "issuer", ("country:*",))
    judged, _ = judge([issue(ISSUER, made())], NODE.node_id, Trust({issuer.key: issuer}), NOW_MS)
    assert judged[0].statements == ("country:DE",)


def test_an_operators_certificate_needs_his_own_word_for_the_node() -> None:
    about = issue(ISSUER, made(kind=OPERATOR, subject=OWNER.node_id))
    assert validity(about) is Validity.FOREIGN
    vouched = issue(OWNER, made(OWNER, statements=["tier:dc"]))
    judged, _ = judge([about, vouched], NODE.node_id, TRUST, NOW_MS)
    assert [one.validity for one in judged] == [Validity.VALID, Validity.UNTRUSTED]
    assert judged[1].statements == ()
    # Whoever copies both from public facts gains nothing: the voucher names another node.
    stolen, _ = judge([about, vouched], THIEF.node_id, TRUST, NOW_MS)
    assert stolen[0].validity is Validity.FOREIGN


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_altered_certificate_is_read(place: int, change: int) -> None:
    raw = bytearray(issue(ISSUER, made()))
    raw[place % len(raw)] ^= change
    try:
        read = read_certificate(bytes(raw))
    except AtollError:
        return
    assert read == made()  # the message's framing only, not what was signed


@pytest.mark.parametrize(
    "changes",
    [
        {"certificate": b"short"},
        {"kind": "town"},
        {"subject": b""},
        {"not_after_ms": NOW_MS - 10},
        {"statements": ["country:XX"]},
        {"statements": ["tier:gold"]},
        {"statements": [""]},
        {"statements": ["x" * 200]},
        {"statements": ["a"] * 40},
    ],
)
def test_what_cannot_be_is_not_issued(changes: dict[str, object]) -> None:
    with pytest.raises(AtollError) as caught:
        issue(ISSUER, made(**changes))
    assert caught.value.kind is Kind.BAD_REQUEST


def test_only_the_issuer_signs_his_certificates_and_lists() -> None:
    with pytest.raises(AtollError):
        issue(OTHER, made())
    taken = RevocationList(
        issuer=ISSUER.public_key,
        sequence=1,
        issued_ms=NOW_MS,
        revoked=[Revocation(certificate=b"c" * 16, since_ms=1)],
    )
    with pytest.raises(AtollError):
        sign_revocations(OTHER, taken)
    raw = sign_revocations(ISSUER, taken)
    assert read_revocations(raw) == taken
    with pytest.raises(AtollError):
        read_revocations(raw[:-1] + bytes([raw[-1] ^ 1]))


def located(country: str, *statements: str, table: AddressTable | None = None) -> Subject:
    raws = [issue(ISSUER, made(statements=list(statements)))] if statements else []
    judged, _ = judge(raws, NODE.node_id, TRUST, NOW_MS)
    host = "192.0.2.7"
    return established(Subject(country=country), host, judged, table or AddressTable({}))


def test_a_location_is_known_as_well_as_its_best_evidence_and_no_better() -> None:
    german = read_table("192.0.2.0/24,DE\n")
    swiss = read_table("192.0.2.0/24,CH\n")
    cases = [
        (located("DE"), "DE", Evidence.DECLARED),
        (located("de"), "DE", Evidence.DECLARED),
        (located("XX"), "", Evidence.DECLARED),
        (located("DE", table=german), "DE", Evidence.ADDRESS),
        (located("DE", table=swiss), "", Evidence.DISPUTED),
        (located("", table=swiss), "CH", Evidence.ADDRESS),
        (located("DE", "country:DE", table=swiss), "DE", Evidence.CERTIFICATE),
        (located("US", "country:DE"), "", Evidence.DISPUTED),
        (located("DE", "country:DE", "country:FR"), "", Evidence.DISPUTED),
        (located("", "country:DE"), "DE", Evidence.CERTIFICATE),
    ]
    for subject, country, evidence in cases:
        assert (subject.country, subject.evidence) == (country, evidence)


def test_certificates_state_tier_parent_region_and_labels() -> None:
    found = located("DE", "tier:dc", "parent:US", "region:eu-1", "ISO27001", "a:b")
    assert (found.tier, found.parent_country, found.region) == ("dc", "US", "eu-1")
    assert found.certificates == {"iso27001", "a:b"}


def test_a_party_shows_a_bounded_number_of_certificates() -> None:
    raws = [issue(ISSUER, made())] * (CERTIFICATES_MAX + 5)
    assert len(judge(raws, NODE.node_id, TRUST, NOW_MS)[0]) == CERTIFICATES_MAX
    assert judge([b"rubbish"], NODE.node_id, TRUST, NOW_MS)[0][0].validity is Validity.UNREADABLE


def test_files_hold_what_was_written_into_them() -> None:
    raws = [issue(ISSUER, made()), issue(OTHER, made(OTHER))]
    text = "a mail\n" + "".join(map(to_text, raws)) + "regards\n"
    assert from_text(text) == raws
    for bad in ("", "nothing", to_text(raws[0])[:-30], to_text(raws[0]).replace("A", "?")):
        with pytest.raises(AtollError):
            from_text(bad)


def test_the_longest_prefix_decides_and_wrong_lines_are_named() -> None:
    table = read_table("10.0.0.0/8,US\n10.1.0.0/16,DE # office\n\n2001:db8::/32,fr\n")
    assert len(table) == 3
    assert table.country_of("10.1.2.3") == "DE"
    assert table.country_of("10.2.2.3") == "US"
    assert table.country_of("2001:db8::1") == "FR"
    assert table.country_of("192.0.2.1") == table.country_of("node.example") == ""
    for text in ("10.0.0.0/8", "10.0.0.0/8,XX", "10.0.0.1/8,US", "10.0.0.0/8,US\n10.0.0.0/8,DE"):
        with pytest.raises(AtollError, match="line"):
            read_table(text)
