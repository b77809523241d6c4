"""Vectors of the policy language, of certificates and of residency attestations."""

from dataclasses import asdict
from typing import Any

from atoll.core import attestation, certificates
from atoll.core.countries import GROUPS, GROUPS_DATE
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.ids import node_id_of
from atoll.core.messages import NodeFacts, encode
from atoll.core.messages.policy import PartyFacts
from atoll.core.parties import sign_party
from atoll.core.policy.model import Evidence, Subject
from atoll.core.policy.text import parse, show

NOW_MS = 1_800_000_000_000
ISSUER, OPERATOR, NODE = Identity(b"i" * 32), Identity(b"o" * 32), Identity(b"p" * 32)
COORDINATOR, GATEWAY = Identity(b"c" * 32), Identity(b"g" * 32)

TEXTS = (
    "",
    "anywhere",
    "country in de, AT,at and parent not in US",
    'country DE and tier >= PRO and certificate "ISO27001"',
    "not (country in EU or country CH) or region in eu-*",
    'operator not in "a \\"quoted\\" name", plain; metadata: country in EEA; decrypt by gateway',
    "evidence >= address # a comment\n and node in n-0123456789\ngateway: country is DE",
    "data: tier in home, pro; manifests: tier in home, pro; relays: operator in x; keys: anywhere",
    "not not tier <= pro",
)
WRONG = (
    "country in XX",
    "cuntry in DE",
    "country in DE tier >= pro",
    "tier >= gold",
    "(country in DE",
    "country in",
    'operator "unended',
    "country in DE; country in AT",
    "metadat: country in DE",
    "decrypt by anybody",
    "not " * 40 + "anywhere",
)
SUBJECTS = (
    Subject(),
    Subject(country="DE", tier="pro", region="eu-central", operator="plain"),
    Subject(country="DE", parent_country="US", tier="dc", certificates=frozenset({"iso27001"})),
    Subject(country="CH", tier="home", region="eu-central", evidence=Evidence.CERTIFICATE),
    Subject(country="", tier="edge", operator="x", evidence=Evidence.DISPUTED),
    Subject(country="US", tier="pro", node_id=bytes.fromhex("0123456789" + "00" * 27)),
)


def _refused(text: str) -> str:
    try:
        parse(text)
    except AtollError as error:
        return error.message
    raise AssertionError(f"{text!r} was accepted")


def _subject(subject: Subject) -> dict[str, Any]:
    return asdict(subject) | {
        "node_id": subject.node_id.hex(),
        "certificates": sorted(subject.certificates),
        "evidence": subject.evidence.word,
    }


def policies() -> dict[str, Any]:
    return {
        "groups_date": GROUPS_DATE,
        "groups": {name: sorted(members) for name, members in GROUPS.items()},
        "subjects": [_subject(subject) for subject in SUBJECTS],
        "policies": [
            {
                "text": text,
                "canonical": show(parse(text)),
                "data_admits": [parse(text).admits("data", subject) for subject in SUBJECTS],
                "manifests_admit": [
                    parse(text).admits("manifests", subject) for subject in SUBJECTS
                ],
            }
            for text in TEXTS
        ],
        "refused": [{"text": text, "message": _refused(text)} for text in WRONG],
    }


def _certificate(
    number: int, issuer: Identity, kind: str, subject: bytes, *statements: str
) -> tuple[certificates.Certificate, bytes]:
    made = certificates.Certificate(
        certificate=bytes([number]) * 16,
        issuer=issuer.public_key,
        kind=kind,
        subject=subject,
        statements=list(statements),
        not_before_ms=NOW_MS - 1000,
        not_after_ms=NOW_MS + 1000,
    )
    return made, certificates.issue(issuer, made)


def credentials() -> dict[str, Any]:
    party, operator = NODE.node_id, node_id_of(OPERATOR.public_key)
    made = [
        _certificate(1, ISSUER, "party", party, "country:DE", "tier:dc"),
        _certificate(2, ISSUER, "operator", operator, "ISO27001", "parent:DE"),
        _certificate(3, OPERATOR, "party", party, "claims count for nothing"),
        _certificate(4, ISSUER, "party", bytes(32), "country:FR"),
    ]
    taken = certificates.RevocationList(
        issuer=ISSUER.public_key,
        sequence=7,
        issued_ms=NOW_MS,
        revoked=[certificates.Revocation(certificate=bytes([1]) * 16, since_ms=5, reason="lost")],
    )
    issuer = certificates.Issuer(ISSUER.public_key, "issuer", ("country:*", "tier:*", "ISO27001"))
    trusts = {
        "nobody": certificates.Trust(),
        "issuer": certificates.Trust({issuer.key: issuer}),
        "issuer, first revoked": certificates.Trust(
            {issuer.key: issuer}, frozenset({(issuer.key, bytes([1]) * 16)})
        ),
    }
    raws = [raw for _, raw in made]
    return {
        "issuer_seed": (b"i" * 32).hex(),
        "operator_seed": (b"o" * 32).hex(),
        "party_seed": (b"p" * 32).hex(),
        "now_ms": NOW_MS,
        "certificates": [
            {
                "certificate": one.certificate.hex(),
                "kind": one.kind,
                "subject": one.subject.hex(),
                "statements": one.statements,
                "not_before_ms": one.not_before_ms,
                "not_after_ms": one.not_after_ms,
                "signed": raw.hex(),
            }
            for one, raw in made
        ],
        "revocations": certificates.sign_revocations(ISSUER, taken).hex(),
        "allowed": list(issuer.statements),
        "judged": {
            name: [
                {"validity": one.validity.value, "counts": list(one.statements)}
                for one in certificates.judge(raws, party, trust, NOW_MS)[0]
            ]
            for name, trust in trusts.items()
        },
        "text": certificates.to_text(raws[0]),
    }


def attestations() -> dict[str, Any]:
    facts = NodeFacts(
        public_key=NODE.public_key, operator="op", site="s", region="eu", country="DE",
        tier="home", host="192.0.2.1", port=1, fingerprint=bytes(32), capacity_bytes=1,
        price_micro=0, version="1",
    )  # fmt: skip
    raw = encode(facts)
    coordinator = PartyFacts(public_key=COORDINATOR.public_key, role="coordinator", country="DE")
    gateway = PartyFacts(public_key=GATEWAY.public_key, role="gateway", country="DE")
    head = attestation.Head(
        version=1, attestation="00" * 16, bucket="reef", bucket_id="01" * 16, account="02" * 16,
        policy=2, policy_version=1, policy_text="country in DE", groups_date=GROUPS_DATE,
        begun_ms=NOW_MS, coordinator=encode(sign_party(COORDINATOR, coordinator)).hex(),
        gateway=encode(sign_party(GATEWAY, gateway)).hex(), issuers=[], objections=[],
        stated=[], keys_hashed=False,
    )  # fmt: skip
    node = attestation.NodeLine(
        alias=1, facts=raw.hex(), signature=NODE.sign(b"node-facts/1", raw).hex(), by_address="DE",
        country="DE", parent_country="DE", region="eu", tier="home", evidence="address", labels=[],
        state="alive",
    )  # fmt: skip
    segment = attestation.SegmentLine(
        object="a/b.jpg", number=0, segment="03" * 16, plain_bytes=5, k=1, n=4, packed=False,
        pieces=[attestation.PieceLine(0, 1)],
    )  # fmt: skip
    lines = [attestation.line_of(one) for one in (head, node, segment)]
    hashes = [attestation.line_hash(line) for line in lines]
    peaks = attestation.extended([], 0, attestation.page_leaf(hashes))
    seal = attestation.sign_seal(
        COORDINATOR,
        attestation.Seal(
            attestation="00" * 16, page=0, lines=hashes, peaks=[peak.hex() for peak in peaks],
            sums=attestation.Sums(objects=1, segments=1, pieces=1, address=1), cursor="", policy=2,
            begun_ms=NOW_MS, time_ms=NOW_MS, last=True,
            root=attestation.root_of(peaks, 1).hex(), verdict="within", head=hashes[0],
        ),
    )  # fmt: skip
    witness = attestation.sign_witness(GATEWAY, seal, NOW_MS)
    roots = []
    grown: list[bytes] = []
    for count in range(9):
        grown = attestation.extended(grown, count, attestation.page_leaf([f"{count:064x}"]))
        roots.append(attestation.root_of(grown, count + 1).hex())
    return {
        "coordinator_seed": (b"c" * 32).hex(),
        "coordinator_key": COORDINATOR.public_key.hex(),
        "gateway_seed": (b"g" * 32).hex(),
        "lines": [line.decode() for line in (*lines, seal, witness)],
        "roots_of_pages_with_one_line_hash_equal_to_their_number": roots,
    }
