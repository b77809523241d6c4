"""What gateways and coordinators say about themselves, signed; nodes have ``NodeFacts``."""

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.ids import PUBLIC_KEY_BYTES, node_id_of
from atoll.core.messages.base import decode, encode
from atoll.core.messages.policy import PartyFacts, SignedPartyFacts
from atoll.core.policy.model import Subject

PARTY_PURPOSE = b"party-facts/1"
FACTS_BYTES_MAX = 80 << 10
"""Words, and certificates as many as a party may carry."""


def sign_party(identity: Identity, facts: PartyFacts) -> SignedPartyFacts:
    """Sign a party's facts."""
    raw = encode(facts)
    return SignedPartyFacts(facts=raw, signature=identity.sign(PARTY_PURPOSE, raw))


def read_party(signed: SignedPartyFacts) -> PartyFacts:
    """Return facts that their party signed. Raises ``BAD_REQUEST``, ``UNAUTHENTICATED``."""
    if len(signed.facts) > FACTS_BYTES_MAX:
        raise AtollError(Kind.BAD_REQUEST, "read facts", "the facts are too long")
    facts: PartyFacts = decode(signed.facts, PartyFacts)
    if len(facts.public_key) != PUBLIC_KEY_BYTES or not signature_holds(
        facts.public_key, PARTY_PURPOSE, signed.facts, signed.signature
    ):
        raise AtollError(
            Kind.UNAUTHENTICATED, "read facts", f"the {facts.role}'s signature does not hold"
        )
    return facts


def declared_by(facts: PartyFacts) -> Subject:
    """Return what a party declares, as policies see it; its id is made of its key."""
    return Subject(
        country=facts.country,
        parent_country=facts.parent_country,
        region=facts.region,
        operator=facts.operator,
        node_id=node_id_of(facts.public_key),
    )
