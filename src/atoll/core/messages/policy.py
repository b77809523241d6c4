"""Where data may lie: policies, certificates, explanations, attestations.

Times are milliseconds since the Unix epoch; evidence is a word of ``core.policy``.
"""

from atoll.core.messages.base import Message


class PartyFacts(Message, frozen=True):
    """What a gateway or a coordinator says about where it runs and who runs it.

    Signed by its key for purpose ``party-facts/1``, as encoded.
    """

    public_key: bytes
    role: str
    """``gateway`` or ``coordinator``."""
    operator: str = ""
    country: str = ""
    parent_country: str = ""
    region: str = ""
    certificates: list[bytes] = []
    database_country: str = ""
    """A coordinator's: where its database is; empty: as ``country``."""


class SignedPartyFacts(Message, frozen=True):
    """Encoded ``PartyFacts`` with the party's signature."""

    facts: bytes
    signature: bytes


class PolicyVersion(Message, frozen=True):
    """One version of a bucket's policy; versions are never changed, only followed by others."""

    policy: int
    """Its id; 1 is the policy of buckets that have none."""
    bucket: bytes
    version: int
    """1, 2, 3 … within the bucket; 0 for policy 1."""
    text: str
    """Canonical text."""
    created_ms: int


class GetPolicy(Message, frozen=True):
    """Read a policy by its id, or, with ``bucket``, the one that a bucket has now.

    Error: ``NOT_FOUND``.
    """

    policy: int = 0
    bucket: bytes = b""


class ListPolicies(Message, frozen=True):
    """The versions of a bucket's policy, the newest first."""

    bucket: bytes
    limit: int = 100


class PolicyList(Message, frozen=True):
    """Versions, the newest first."""

    versions: list[PolicyVersion]


class SetPolicy(Message, frozen=True):
    """Give a bucket a further version of its policy.

    Errors: ``BAD_REQUEST`` for a text that cannot be read or that this bucket's mode contradicts,
    ``BUCKET_NOT_FOUND``, ``FORBIDDEN`` where the bucket is another's, ``PRECONDITION_FAILED`` where
    its version is not ``expected_version``, or where the nodes, this coordinator or the gateway
    that asks could not satisfy it and ``force`` is not set.
    """

    bucket: bytes
    account: bytes
    text: str
    expected_version: int = -1
    """-1: whatever it is."""
    force: bool = False
    gateway: SignedPartyFacts | None = None


class Refusal(Message, frozen=True):
    """One part of a policy, and how many nodes alive it alone keeps out."""

    part: str
    nodes: int


class SchemeFit(Message, frozen=True):
    """Whether segments of one size can be placed."""

    plain_bytes: int
    scheme: str
    needed: int
    """Independent nodes that a segment needs to be acknowledged."""
    full: int
    """Independent nodes for full strength."""
    found: int
    fits: bool


class CheckPolicy(Message, frozen=True):
    """Ask how a policy would do with the nodes of now; nothing is changed.

    With ``bucket`` and no text: the bucket's own. Errors as for ``SetPolicy``.
    """

    text: str = ""
    bucket: bytes = b""
    gateway: SignedPartyFacts | None = None


class PolicyFit(Message, frozen=True):
    """How a policy does with the nodes of now."""

    text: str
    """Canonical."""
    nodes_alive: int
    nodes_admitted: int
    independent: int
    """Pieces of one segment that the admitted nodes can take under the caps."""
    refusals: list[Refusal]
    schemes: list[SchemeFit]
    networks_crowded: list[str] = []
    """Autonomous systems that hold more of the admitted nodes than a segment may give them: the
    cap is then exceeded rather than the upload refused."""
    objections: list[str] = []
    """What keeps this coordinator or the gateway that asks from serving under it, in words."""
    stated: list[str] = []
    """What the policy says that nothing here can enforce, in words."""


class ExplainObject(Message, frozen=True):
    """Ask where an object's pieces are, why, and what it survives.

    Errors: ``BUCKET_NOT_FOUND``, ``OBJECT_NOT_FOUND``.
    """

    bucket: bytes
    key: str
    after_segment: int = 0
    """Segments before this one are left out."""
    limit: int = 100


class PlaceExplained(Message, frozen=True):
    """Where one piece is and what is known of the place."""

    index: int
    alias: int
    node_id: bytes
    operator: str
    site: str
    region: str
    country: str
    """As it is known; empty where the location is disputed or not said."""
    declared_country: str
    parent_country: str
    tier: str
    evidence: str
    """``disputed``, ``declared``, ``address`` or ``certificate``."""
    network: str
    asn: int
    relays: list[str]
    """Operators of the relays that carry its connections."""
    state: str
    standing: str = ""
    proven_ms: int = 0
    """When its node last proved possession; 0 where that is not known."""
    violation: str = ""
    """Why the piece must not stay; empty where all is well."""
    soft: str = ""
    """Which soft cap is exceeded; the piece stays."""
    labels: list[str] = []
    """Labels of its node's valid certificates."""


class SegmentExplained(Message, frozen=True):
    """One segment of an object."""

    segment: bytes
    serial: int
    plain_bytes: int
    k: int
    n: int
    policy: int
    """The policy under which it was placed; the bucket's present one decides."""
    places: list[PlaceExplained]
    healthy: int
    survives_nodes: int
    """Any so many nodes may vanish; -1 where it is not readable now."""
    worst_domain: str
    """The operator, network or site with most of its pieces."""
    worst_domain_pieces: int
    survives_domain: bool
    packed: bool = False


class ObjectExplained(Message, frozen=True):
    """The answer to ``ExplainObject``; segments from ``after_segment`` on."""

    key: str
    size: int
    modified_ms: int
    segments_total: int
    segments: list[SegmentExplained]
    policy: PolicyVersion
    survives_nodes: int
    """The least of the segments listed."""
    stored_bytes: int
    """Bytes of the listed segments' pieces on nodes."""
    plain_bytes: int
    one_machine: bool
    """All these nodes are on one machine: nothing survives its loss."""


class AttestPage(Message, frozen=True):
    """Ask for a page of a residency attestation: ``core.attestation``.

    ``seal`` is the seal of the page before, as it was signed; empty for the first page. Errors:
    ``BUCKET_NOT_FOUND``, ``FORBIDDEN``, ``BAD_REQUEST`` for a seal that is not this coordinator's.
    """

    bucket: bytes
    account: bytes
    seal: bytes = b""
    gateway: SignedPartyFacts | None = None
    hash_keys: bool = False
    """Show SHA-256 of the objects' keys instead of the keys."""


class AttestedPage(Message, frozen=True):
    """One page with its seal; ``last`` says that no further one follows."""

    page: bytes
    seal: bytes
    """Encoded ``attestation.SignedSeal``."""
    last: bool


class GetTrust(Message, frozen=True):
    """Whom this coordinator believes about nodes."""


class IssuerInfo(Message, frozen=True):
    """An issuer on the coordinator's trust list."""

    key: bytes
    name: str
    statements: list[str]
    """What his word counts for; empty: anything."""
    revoked: int
    """Certificates that he has taken back, as far as known here."""


class TrustInfo(Message, frozen=True):
    """The coordinator's trust list, and its own facts."""

    issuers: list[IssuerInfo]
    coordinator: SignedPartyFacts
    addresses: int
    """Prefixes in its table of addresses; 0: it has none."""


class PublishRevocations(Message, frozen=True):
    """Hand in an issuer's revocation list; anybody may, the issuer's signature decides.

    An older list than the one known changes nothing. Errors: ``UNAUTHENTICATED``, ``FORBIDDEN``
    where the issuer is not trusted here anyway.
    """

    revocations: bytes


class RevocationsTaken(Message, frozen=True):
    """What became of the list."""

    sequence: int
    """Of the list that counts now."""
    revoked: int


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    GetPolicy: PolicyVersion,
    ListPolicies: PolicyList,
    SetPolicy: PolicyVersion,
    CheckPolicy: PolicyFit,
    ExplainObject: ObjectExplained,
    AttestPage: AttestedPage,
    GetTrust: TrustInfo,
    PublishRevocations: RevocationsTaken,
}
"""Requests of gateways of this family and their answers."""
