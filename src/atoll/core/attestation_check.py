"""Checks a residency attestation without asking anybody: signatures, sums, and every claim.

What is checked: each line is the one that was signed; each node said of itself what is shown; no
location is claimed by more than its certificates and the address table's word carry; the policy,
evaluated anew on what is shown, agrees piece by piece; sums, Merkle root and verdict follow.
What cannot be checked: that the list is complete, and that nodes told the truth.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from atoll.core.addresses import NO_TABLE, AddressTable
from atoll.core.attestation import (
    VERSION,
    Head,
    NodeLine,
    Seal,
    SegmentLine,
    SignedSeal,
    Sums,
    Witness,
    check_seal,
    extended,
    line_hash,
    page_leaf,
    read_line,
    root_of,
    witness_holds,
)
from atoll.core.certificates import Issuer, Trust, established, judge
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import signature_holds
from atoll.core.ids import node_id_of
from atoll.core.messages.base import decode
from atoll.core.messages.nodes import NodeFacts
from atoll.core.messages.policy import PartyFacts, SignedPartyFacts
from atoll.core.parties import read_party
from atoll.core.policy.model import Evidence, Rules, Subject
from atoll.core.policy.text import parse

FACTS_PURPOSE = b"node-facts/1"
_SEAL_BEGINS = b'{"line":"signed-seal"'
PAGE_LINES_MAX = 20_000
NO_POLICY = 1
"""Id of the policy of buckets that have none."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whom the reader of an attestation trusts himself."""

    coordinators: frozenset[bytes]
    gateways: frozenset[bytes] = frozenset()
    """Empty: any gateway's signature is named, and not more believed than shown."""
    issuers: Mapping[bytes, Issuer] | None = None
    """None: the issuers that the coordinator trusted, as the head names them."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a file proves, to those who trust its signers."""

    head: Head
    coordinator: PartyFacts
    gateway: PartyFacts | None
    sums: Sums
    pages: int
    verdict: str
    time_ms: int
    root: str
    witnessed: bool
    """The gateway signed the last seal, and it is one that the reader trusts, if he named any."""
    outside: tuple[str, ...]
    """The first pieces that lie outside, in words."""


OUTSIDE_SHOWN_MAX = 20


@dataclass(slots=True)
class _Node:
    subject: Subject
    admitted: bool


@dataclass(slots=True)
class _Run:
    """What a check has seen so far."""

    trusted: Trusted
    head: Head | None = None
    rules: Rules = field(default_factory=Rules)
    coordinator: PartyFacts | None = None
    gateway: PartyFacts | None = None
    before: Seal | None = None
    peaks: list[bytes] = field(default_factory=list)
    counted: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(Sums.__struct_fields__, 0)
    )
    outside: list[str] = field(default_factory=list)


def verify(lines: Iterable[bytes], trusted: Trusted) -> Verified:
    """Check a file given as its lines, without newlines.

    Raises ``CORRUPT`` or ``UNAUTHENTICATED`` naming the line, and where in the file it begins, of
    what does not hold.
    """
    run = _Run(trusted)
    rest = _numbered(lines)
    last_raw = b""
    while run.before is None or not run.before.last:
        page, sealed = _page(rest)
        _check_page(run, page, sealed)
        last_raw = sealed.raw
    return _ended(run, rest, last_raw)


@dataclass(frozen=True, slots=True)
class _Raw:
    number: int
    offset: int
    raw: bytes

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Let a refusal name this line."""
        try:
            yield
        except AtollError as cause:
            raise self.wrong(cause.message) from cause

    def wrong(self, message: str) -> AtollError:
        return AtollError(
            Kind.CORRUPT,
            "verify attestation",
            f"line {self.number} (byte {self.offset}{_named(self.raw)}): {message}",
            hint="the file is not what was signed: get it again from whom you have it",
        )


def _named(raw: bytes) -> str:
    """Return what a line is about, if it can still be read."""
    try:
        line = read_line(raw)
    except AtollError:
        return ""
    match line:
        case SegmentLine():
            return f", segment {line.number} of {line.object!r}"
        case NodeLine():
            return f", node {line.alias}"
        case SignedSeal():
            return f", seal of page {line.seal.page}"
        case _:
            return f", {type(line).__name__.lower()}"


def _numbered(lines: Iterable[bytes]) -> Iterator[_Raw]:
    offset = 0
    for number, raw in enumerate(lines, 1):
        yield _Raw(number, offset, raw)
        offset += len(raw) + 1


def _page(rest: Iterator[_Raw]) -> tuple[list[_Raw], _Raw]:
    """Return the lines up to the next seal, and the seal."""
    page: list[_Raw] = []
    for raw in rest:
        if raw.raw.startswith(_SEAL_BEGINS):
            return page, raw
        page.append(raw)
        if len(page) > PAGE_LINES_MAX:
            raise raw.wrong("there is no seal after so many lines")
    at = f"after line {page[-1].number}" if page else "at the end"
    raise AtollError(
        Kind.CORRUPT,
        "verify attestation",
        f"the file breaks off {at}: a seal is missing",
        hint="get it again from whom you have it",
    )


def _check_page(run: _Run, page: list[_Raw], sealed: _Raw) -> None:
    try:
        seal = check_seal(sealed.raw, run.trusted.coordinators)
    except AtollError as cause:
        told = sealed.wrong(cause.message)
        raise AtollError(
            cause.kind, told.operation, told.message, hint=cause.hint or told.hint
        ) from cause
    for raw, signed in zip(page, seal.lines, strict=False):
        if line_hash(raw.raw) != signed:
            raise raw.wrong("these are not the bytes that were signed")
    if len(page) != len(seal.lines):
        raise sealed.wrong(f"{len(seal.lines)} lines were signed, {len(page)} are here")
    lines = iter(page)
    if run.head is None:
        first = next(lines, None)
        if first is None:
            raise sealed.wrong("there is no head")
        _check_head(run, first, sealed)
    _check_lines(run, lines, seal)
    _check_chain(run, sealed, seal)
    run.before = seal


def _check_head(run: _Run, raw: _Raw, sealed: _Raw) -> None:
    line = read_line(sealed.raw)
    assert isinstance(line, SignedSeal), "its signature was checked"
    with raw.telling():
        head = read_line(raw.raw)
        if not isinstance(head, Head) or head.version != VERSION:
            raise _claim(f"the first line is no head of version {VERSION}")
        run.head, run.rules = head, parse(head.policy_text)
        run.coordinator = _party(head.coordinator)
        run.gateway = _party(head.gateway) if head.gateway else None
    if run.coordinator.public_key.hex() != line.key:
        raise raw.wrong("the coordinator shown is not the one that signed")


def _party(packed: str) -> PartyFacts:
    signed: SignedPartyFacts = decode(_hex(packed), SignedPartyFacts)
    return read_party(signed)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise AtollError(Kind.CORRUPT, "verify attestation", "this is not hex") from None


def _check_lines(run: _Run, lines: Iterator[_Raw], seal: Seal) -> None:
    nodes: dict[int, _Node] = {}
    for raw in lines:
        with raw.telling():
            line = read_line(raw.raw)
            if isinstance(line, NodeLine):
                nodes[line.alias] = _checked_node(run, line, seal.time_ms)
            elif isinstance(line, SegmentLine):
                _check_segment(run, line, nodes)
            else:
                raise _claim("such a line has no place here")


def _claim(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "verify attestation", message)


# --- nodes ---------------------------------------------------------------------------------------


def _checked_node(run: _Run, line: NodeLine, now_ms: int) -> _Node:
    """Return a node as shown, if nothing of it is more than was declared or certified."""
    raw = _hex(line.facts)
    facts: NodeFacts = decode(raw, NodeFacts)
    if not signature_holds(facts.public_key, FACTS_PURPOSE, raw, _hex(line.signature)):
        raise _claim("the node did not sign these facts")
    party = node_id_of(facts.public_key)
    declared = Subject(
        country=facts.country,
        parent_country=facts.parent_country,
        region=facts.region,
        tier=facts.tier,
        operator=facts.operator,
        node_id=party,
    )
    judged, _ = judge(facts.certificates, party, _trust_of(run), now_ms)
    known = established(declared, facts.host, judged, _table_of(facts.host, line.by_address))
    shown = Subject(
        country=line.country,
        parent_country=line.parent_country,
        region=line.region,
        tier=line.tier,
        operator=facts.operator,
        node_id=party,
        certificates=frozenset(line.labels),
        evidence=_evidence(line.evidence),
    )
    _check_claims(shown, declared, known)
    relays = [Subject(operator=r.operator, node_id=r.relay_id) for r in facts.relays]
    admitted = run.rules.admits("data", shown) and all(
        run.rules.admits("relays", relay) for relay in relays
    )
    return _Node(shown, admitted)


def _evidence(word: str) -> Evidence:
    for evidence in Evidence:
        if evidence.word == word:
            return evidence
    raise _claim(f"{word!r} is no class of evidence")


def _check_claims(shown: Subject, declared: Subject, known: Subject) -> None:
    """Raise for a claim beyond what its evidence carries.

    Less may be claimed at any time: a certificate may have been revoked, which a file cannot show.
    """
    if shown.evidence > known.evidence:
        raise _claim(
            f"its location is claimed by {shown.evidence.word}, and only {known.evidence.word} "
            "is shown"
        )
    if shown.country not in ("", known.country, declared.country):
        raise _claim(f"{shown.country} is neither declared nor certified")
    if shown.evidence is Evidence.DISPUTED and shown.country:
        raise _claim("a disputed location has no country")
    if not shown.certificates <= known.certificates:
        lacking = sorted(shown.certificates - known.certificates)
        raise _claim(f"no valid certificate of a trusted issuer says {', '.join(lacking)}")
    for fact in ("region", "tier"):
        claimed = getattr(shown, fact)
        if claimed not in ("", getattr(known, fact), getattr(declared, fact)):
            raise _claim(f"{fact} {claimed} is neither declared nor certified")
    parents = {"", known.parent_country, declared.parent_country, declared.country, shown.country}
    if shown.parent_country not in parents:
        raise _claim(f"parent {shown.parent_country} is neither declared nor certified")


def _trust_of(run: _Run) -> Trust:
    if run.trusted.issuers is not None:
        return Trust(run.trusted.issuers)
    assert run.head is not None, "the head is the first line"
    named = [Issuer(_hex(one.key), one.name, tuple(one.statements)) for one in run.head.issuers]
    return Trust({issuer.key: issuer for issuer in named})


def _table_of(host: str, country: str) -> AddressTable:
    """Return the coordinator's word about one address, as a table of that address."""
    if not country:
        return NO_TABLE
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _claim("a name has no country by its address") from None
    return AddressTable({(address.version, address.max_prefixlen, int(address)): country})


# --- segments and sums ---------------------------------------------------------------------------


def _check_segment(run: _Run, line: SegmentLine, nodes: Mapping[int, _Node]) -> None:
    counted = run.counted
    counted["segments"] += 1
    if line.number == 0:
        counted["objects"] += 1
    if len({piece.index for piece in line.pieces}) != len(line.pieces):
        raise _claim("a piece is named twice")
    for piece in line.pieces:
        node = nodes.get(piece.alias)
        counted["pieces"] += 1
        counted["outside"] += bool(piece.violation)
        if node is None:
            counted["unknown"] += 1
            if not piece.violation:
                raise _claim(f"of the node of piece {piece.index} nothing is shown")
        else:
            counted[node.subject.evidence.word] += 1
            if not node.admitted and not piece.violation:
                raise _claim(
                    f"piece {piece.index} counts as inside, but the policy does not admit node "
                    f"{piece.alias}"
                )
        if piece.violation and len(run.outside) < OUTSIDE_SHOWN_MAX:
            run.outside.append(
                f"{line.object}, segment {line.number}, piece {piece.index}: {piece.violation}"
            )


def _check_chain(run: _Run, sealed: _Raw, seal: Seal) -> None:
    """Check that a seal continues the one before and says what was counted."""
    head, before = run.head, run.before
    assert head is not None, "the head is the first line"
    page = 0 if before is None else before.page + 1
    run.peaks = extended(run.peaks, page, page_leaf(seal.lines))
    sums = Sums(**{**run.counted, "objects": seal.sums.objects})
    expected = (
        (seal.page, page, "page"),
        (seal.attestation, head.attestation, "attestation"),
        (seal.policy, head.policy, "policy"),
        (seal.begun_ms, head.begun_ms, "beginning"),
        (seal.peaks, [peak.hex() for peak in run.peaks], "tree"),
        (seal.head, seal.lines[0] if before is None else before.head, "head"),
        (seal.sums, sums, "sums"),
        (seal.root, root_of(run.peaks, page + 1).hex() if seal.last else "", "root"),
        (seal.verdict, _verdict(head, seal) if seal.last else "", "verdict"),
    )
    for found, wanted, what in expected:
        if found != wanted:
            raise sealed.wrong(f"its {what} does not follow from the lines: {found!r}")
    # Objects without a byte have no line of their own.
    if seal.sums.objects < run.counted["objects"]:
        raise sealed.wrong("it counts fewer objects than there are")
    if before is not None and seal.time_ms < before.time_ms:
        raise sealed.wrong("it is older than the seal before it")


def _verdict(head: Head, seal: Seal) -> str:
    if head.policy == NO_POLICY:
        return "no policy"
    return "outside" if seal.sums.outside or head.objections else "within"


def _ended(run: _Run, rest: Iterator[_Raw], last_seal: bytes) -> Verified:
    witnessed = False
    for number, raw in enumerate(rest):
        with raw.telling():
            line = read_line(raw.raw)
            if number or not isinstance(line, Witness):
                raise _claim("nothing may follow the last seal but one gateway's signature")
            if not witness_holds(line, last_seal):
                raise _claim("the gateway's signature does not hold")
            key = _hex(line.key)
            if run.gateway is not None and run.gateway.public_key != key:
                raise _claim("the gateway that signed is not the one in the head")
            witnessed = not run.trusted.gateways or key in run.trusted.gateways
    seal = run.before
    assert seal is not None, "the last seal was read"
    assert run.head is not None, "the head was read"
    assert run.coordinator is not None, "the head names it"
    return Verified(
        head=run.head,
        coordinator=run.coordinator,
        gateway=run.gateway,
        sums=seal.sums,
        pages=seal.page + 1,
        verdict=seal.verdict,
        time_ms=seal.time_ms,
        root=seal.root,
        witnessed=witnessed,
        outside=tuple(run.outside),
    )
