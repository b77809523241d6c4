"""Certificates: what an issuer says about a party, signed, for a time, revocable.

A party is a node, a gateway or a coordinator, named by the hash of its key (``ids.node_id_of``). An
operator is named by the hash of a key of his own: a certificate about him counts for a node only
where that key has signed a certificate about the node. A name alone would bind nobody: facts are
public, and whoever reads a certificate could carry it.

Statements are words: ``country:DE``, ``parent:DE``, ``region:eu-central``, ``tier:dc``, or a label
of the issuer's own such as ``ISO27001`` or ``TIA-942 rated 3``.

Normative text: ``docs/spec/certificates.md``. Vectors: ``tests/golden/vectors/certificates.json``.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from atoll.core.addresses import NO_TABLE, AddressTable
from atoll.core.countries import COUNTRIES
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.ids import NODE_ID_BYTES, PUBLIC_KEY_BYTES, SHORT_ID_BYTES, node_id_of
from atoll.core.messages.base import Message, decode, encode
from atoll.core.policy.model import TIERS, Evidence, Subject

CERTIFICATE_PURPOSE = b"certificate/1"
REVOCATIONS_PURPOSE = b"revocations/1"
CERTIFICATE_BYTES_MAX = 4 << 10
CERTIFICATES_MAX = 16
"""Certificates that one party carries."""
STATEMENTS_MAX = 32
STATEMENT_CHARACTERS_MAX = 128
REVOKED_MAX = 20_000
"""Certificates of one revocation list; expired ones are left out when a new list is made."""
REASON_CHARACTERS_MAX = 200
REVOCATIONS_BYTES_MAX = 6 << 20
TIME_MS_MAX = 1 << 52
PARTY, OPERATOR = "party", "operator"
KINDS = (PARTY, OPERATOR)
_NAMED = ("country", "parent", "region", "tier")
_ARMOUR = "ATOLL CERTIFICATE"
_LINE_CHARACTERS = 64


class Certificate(Message, frozen=True):
    """What an issuer says. Signed by his key for purpose ``certificate/1``, as encoded."""

    certificate: bytes
    """16 random bytes that name it in revocation lists."""
    issuer: bytes
    """The issuer's Ed25519 public key."""
    kind: str
    """``party`` or ``operator``."""
    subject: bytes
    """``node_id_of`` the key that it is about."""
    statements: list[str]
    not_before_ms: int
    not_after_ms: int


class SignedCertificate(Message, frozen=True):
    """An encoded ``Certificate`` with the issuer's signature."""

    certificate: bytes
    signature: bytes


class Revocation(Message, frozen=True):
    """One certificate that its issuer takes back."""

    certificate: bytes
    since_ms: int
    reason: str = ""


class RevocationList(Message, frozen=True):
    """All that an issuer has taken back; a higher ``sequence`` replaces a lower one."""

    issuer: bytes
    sequence: int
    issued_ms: int
    revoked: list[Revocation]


class SignedRevocations(Message, frozen=True):
    """An encoded ``RevocationList``, signed for purpose ``revocations/1``."""

    revocations: bytes
    signature: bytes


def issue(identity: Identity, certificate: Certificate) -> bytes:
    """Sign a certificate; return its encoded form. Raises ``BAD_REQUEST`` for what cannot be."""
    _check(certificate)
    if certificate.issuer != identity.public_key:
        raise _bad("the issuer is another key than the one that signs")
    raw = encode(certificate)
    return encode(
        SignedCertificate(certificate=raw, signature=identity.sign(CERTIFICATE_PURPOSE, raw))
    )


def read_certificate(raw: bytes) -> Certificate:
    """Return a certificate whose signature holds. Whether to believe its issuer is not said here.

    Raises ``BAD_REQUEST`` for what cannot be, ``UNAUTHENTICATED`` for a signature that does not
    hold.
    """
    if len(raw) > CERTIFICATE_BYTES_MAX:
        raise _bad(f"a certificate has at most {CERTIFICATE_BYTES_MAX} bytes")
    signed: SignedCertificate = decode(raw, SignedCertificate)
    certificate: Certificate = decode(signed.certificate, Certificate)
    _check(certificate)
    if not signature_holds(
        certificate.issuer, CERTIFICATE_PURPOSE, signed.certificate, signed.signature
    ):
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "read certificate",
            "the issuer's signature does not hold",
            about=certificate.certificate.hex(),
        )
    return certificate


def _check(certificate: Certificate) -> None:
    if (
        len(certificate.certificate) != SHORT_ID_BYTES
        or len(certificate.issuer) != PUBLIC_KEY_BYTES
        or len(certificate.subject) != NODE_ID_BYTES
    ):
        raise _bad("an id, key or subject has the wrong length")
    if certificate.kind not in KINDS:
        raise _bad(f"a certificate is about one of {', '.join(KINDS)}")
    if not 0 <= certificate.not_before_ms < certificate.not_after_ms <= TIME_MS_MAX:
        raise _bad("it must begin before it ends")
    if len(certificate.statements) > STATEMENTS_MAX:
        raise _bad(f"at most {STATEMENTS_MAX} statements")
    for statement in certificate.statements:
        check_statement(statement)


def check_statement(statement: str) -> None:
    """Raise ``BAD_REQUEST`` for a statement that cannot be."""
    if not 1 <= len(statement) <= STATEMENT_CHARACTERS_MAX or not statement.isprintable():
        raise _bad(f"a statement has 1..{STATEMENT_CHARACTERS_MAX} printable characters")
    name, colon, value = statement.partition(":")
    if colon and name in ("country", "parent") and value not in COUNTRIES:
        raise _bad(f"{statement!r} names no country")
    if colon and name == "tier" and value not in TIERS:
        raise _bad(f"a tier is one of {', '.join(TIERS)}")
    if colon and name == "region" and not value:
        raise _bad(f"{statement!r} names no region")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read certificate", message)


# --- revocation ----------------------------------------------------------------------------------


def sign_revocations(identity: Identity, revocations: RevocationList) -> bytes:
    """Sign a list; return its encoded form. Raises ``BAD_REQUEST`` for what cannot be."""
    _check_revocations(revocations)
    if revocations.issuer != identity.public_key:
        raise _bad("the issuer is another key than the one that signs")
    raw = encode(revocations)
    return encode(
        SignedRevocations(revocations=raw, signature=identity.sign(REVOCATIONS_PURPOSE, raw))
    )


def read_revocations(raw: bytes) -> RevocationList:
    """Return a list whose signature holds. Raises ``BAD_REQUEST``, ``UNAUTHENTICATED``."""
    if len(raw) > REVOCATIONS_BYTES_MAX:
        raise _bad(f"a revocation list has at most {REVOCATIONS_BYTES_MAX} bytes")
    signed: SignedRevocations = decode(raw, SignedRevocations)
    revocations: RevocationList = decode(signed.revocations, RevocationList)
    _check_revocations(revocations)
    if not signature_holds(
        revocations.issuer, REVOCATIONS_PURPOSE, signed.revocations, signed.signature
    ):
        raise AtollError(
            Kind.UNAUTHENTICATED, "read revocations", "the issuer's signature does not hold"
        )
    return revocations


def _check_revocations(revocations: RevocationList) -> None:
    if len(revocations.issuer) != PUBLIC_KEY_BYTES or not 0 <= revocations.sequence < 1 << 62:
        raise _bad("no such issuer or sequence")
    if not 0 <= revocations.issued_ms <= TIME_MS_MAX or len(revocations.revoked) > REVOKED_MAX:
        raise _bad(f"a list names at most {REVOKED_MAX} certificates")
    for one in revocations.revoked:
        if len(one.certificate) != SHORT_ID_BYTES or not 0 <= one.since_ms <= TIME_MS_MAX:
            raise _bad("a revocation names no certificate or time")
        if len(one.reason) > REASON_CHARACTERS_MAX or not one.reason.isprintable():
            raise _bad("a reason is too long or not printable")


# --- trust ---------------------------------------------------------------------------------------


class Validity(Enum):
    """What became of a certificate."""

    VALID = "valid"
    EARLY = "not yet valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNTRUSTED = "issuer not trusted"
    FOREIGN = "about another party"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose word counts, and for what."""

    key: bytes
    name: str
    statements: tuple[str, ...] = ()
    """What he may state: exact, or with ``*`` at the end (``country:*``). Empty: anything."""

    def may_state(self, statement: str) -> bool:
        """Say whether his word counts for a statement."""
        return not self.statements or any(
            statement == allowed or (allowed.endswith("*") and statement.startswith(allowed[:-1]))
            for allowed in self.statements
        )


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a judge believes, and what was taken back."""

    issuers: Mapping[bytes, Issuer] = field(default_factory=dict)
    revoked: frozenset[tuple[bytes, bytes]] = frozenset()
    """(issuer's key, certificate's id)."""


NO_TRUST = Trust()


def in_time(certificate: Certificate, trust: Trust, now_ms: int) -> Validity:
    """Judge a certificate's time and revocation, not its issuer."""
    if (certificate.issuer, certificate.certificate) in trust.revoked:
        return Validity.REVOKED
    if now_ms < certificate.not_before_ms:
        return Validity.EARLY
    if now_ms >= certificate.not_after_ms:
        return Validity.EXPIRED
    return Validity.VALID


@dataclass(frozen=True, slots=True)
class Judged:
    """One certificate as judged for one party."""

    raw: bytes
    certificate: Certificate | None
    validity: Validity
    issuer: str = ""
    """Name of the issuer as the judge knows him."""
    statements: tuple[str, ...] = ()
    """What counts of what it states."""


def judge(
    raws: Sequence[bytes], party: bytes, trust: Trust, now_ms: int
) -> tuple[tuple[Judged, ...], int]:
    """Judge what a party (its id) carries; also return when that may change by time alone, in ms.

    An operator's certificate counts where its subject's key vouches for the party by a certificate
    of its own; what that one states does not count: nobody is his own witness.
    """
    read = [_read(raw) for raw in raws[:CERTIFICATES_MAX]]
    changes = {TIME_MS_MAX}
    for _, certificate in read:
        if certificate is not None:
            changes |= {certificate.not_before_ms, certificate.not_after_ms}
    vouchers = {
        node_id_of(one.issuer)
        for _, one in read
        if one is not None
        and one.kind == PARTY
        and one.subject == party
        and in_time(one, trust, now_ms) is Validity.VALID
    }
    judged = tuple(_judge_one(raw, one, party, vouchers, trust, now_ms) for raw, one in read)
    return judged, min(at_ms for at_ms in changes if at_ms > now_ms or at_ms == TIME_MS_MAX)


def _read(raw: bytes) -> tuple[bytes, Certificate | None]:
    try:
        return raw, read_certificate(raw)
    except AtollError:
        return raw, None


def _judge_one(
    raw: bytes,
    certificate: Certificate | None,
    party: bytes,
    vouchers: Iterable[bytes],
    trust: Trust,
    now_ms: int,
) -> Judged:
    if certificate is None:
        return Judged(raw, None, Validity.UNREADABLE)
    issuer = trust.issuers.get(certificate.issuer)
    if issuer is None:
        return Judged(raw, certificate, Validity.UNTRUSTED)
    about = certificate.subject == party
    if certificate.kind == OPERATOR:
        about = certificate.subject in vouchers
    if not about:
        return Judged(raw, certificate, Validity.FOREIGN, issuer.name)
    validity = in_time(certificate, trust, now_ms)
    statements: tuple[str, ...] = ()
    if validity is Validity.VALID:
        statements = tuple(s for s in certificate.statements if issuer.may_state(s))
    return Judged(raw, certificate, validity, issuer.name, statements)


# --- what follows for a party --------------------------------------------------------------------


def established(
    declared: Subject, host: str, judged: Iterable[Judged], table: AddressTable = NO_TABLE
) -> Subject:
    """Return a party as it is known: what it declares, with what certificates and address say.

    Where country by certificate and by declaration differ, or two certificates, or the table and
    the declaration without any certificate, the location is disputed and the country not known.
    """
    said, parent = _code(declared.country), _code(declared.parent_country)
    stated: dict[str, set[str]] = {name: set() for name in _NAMED}
    labels: set[str] = set()
    for one in judged:
        for statement in one.statements:
            name, colon, value = statement.partition(":")
            if colon and name in stated:
                stated[name].add(value)
            else:
                labels.add(statement.lower())
    country, evidence = _located(said, stated["country"], table.country_of(host))
    return replace(
        declared,
        country=country,
        parent_country=_one(stated["parent"], parent or said),
        region=_one(stated["region"], declared.region),
        tier=_one(stated["tier"], declared.tier),
        certificates=frozenset(labels),
        evidence=evidence,
    )


def _code(country: str) -> str:
    """Return a country as policies name it; empty for what is no country: nothing is known then."""
    code = country.upper()
    return code if code in COUNTRIES else ""


def _one(stated: set[str], declared: str) -> str:
    """Return what is stated, if it is one thing; what is declared where nothing is stated."""
    if not stated:
        return declared
    return next(iter(stated)) if len(stated) == 1 else ""


def _located(declared: str, stated: set[str], by_address: str) -> tuple[str, Evidence]:
    if stated:
        agreed = stated | ({declared} if declared else set())
        return (
            (declared or next(iter(stated)), Evidence.CERTIFICATE)
            if len(agreed) == 1
            else (
                "",
                Evidence.DISPUTED,
            )
        )
    if by_address and declared:
        return (declared, Evidence.ADDRESS) if by_address == declared else ("", Evidence.DISPUTED)
    if by_address:
        return by_address, Evidence.ADDRESS
    return declared, Evidence.DECLARED


# --- files ---------------------------------------------------------------------------------------


def to_text(raw: bytes) -> str:
    """Return a certificate or revocation list as a text file: base64 between two marks."""
    packed = base64.b64encode(raw).decode()
    lines = [packed[i : i + _LINE_CHARACTERS] for i in range(0, len(packed), _LINE_CHARACTERS)]
    return "\n".join([f"-----BEGIN {_ARMOUR}-----", *lines, f"-----END {_ARMOUR}-----", ""])


def from_text(text: str) -> list[bytes]:
    """Return all that stands between marks in a text. Raises ``BAD_REQUEST``."""
    found: list[bytes] = []
    inside: list[str] | None = None
    for line in text.splitlines():
        bare = line.strip()
        if bare == f"-----BEGIN {_ARMOUR}-----":
            inside = []
        elif bare == f"-----END {_ARMOUR}-----" and inside is not None:
            try:
                found.append(base64.b64decode("".join(inside), validate=True))
            except binascii.Error as cause:
                raise _bad(f"the text is not base64: {cause}") from cause
            inside = None
        elif inside is not None:
            inside.append(bare)
    if inside is not None or not found:
        raise _bad("there is no whole certificate in this text")
    return found
