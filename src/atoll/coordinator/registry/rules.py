"""The registry's pure decisions: which facts can be, how silence is judged, what is a replay."""

import ipaddress

from atoll.coordinator.registry.model import NodeState, NodeView, Timers
from atoll.core.calendar import parse_calendar
from atoll.core.certificates import CERTIFICATES_MAX
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import signature_holds
from atoll.core.messages import Heartbeat, NodeFacts, SignedFacts, decode

FACTS_PURPOSE = b"node-facts/1"
FACTS_BYTES_MAX = 32 << 10
"""Words, a calendar, and certificates of usual length as many as a node may carry."""
WORD_CHARACTERS_MAX = 128
CAPACITY_BYTES_MAX = 1 << 60
PRICE_MICRO_MAX = 10**12
ASN_MAX = (1 << 32) - 1
ACCOUNT_BYTES = 20
LOST_PIECES_MAX = 1000
TIERS = ("edge", "home", "pro", "dc")
SKEW_MS_LIMIT = 30_000
"""A node's clock further off than this is reported; orders expire by minutes."""


def checked_facts(signed: SignedFacts, prover: bytes) -> NodeFacts:
    """Return a node's facts if they can be and the node itself said them.

    ``prover`` is the key that signed the request. Raises ``BAD_REQUEST``, ``UNAUTHENTICATED``.
    """
    if len(signed.facts) > FACTS_BYTES_MAX:
        raise _bad("the facts are too long")
    facts: NodeFacts = decode(signed.facts, NodeFacts)
    if facts.public_key != prover:
        raise AtollError(
            Kind.UNAUTHENTICATED, "register node", "these facts are another node's than the request"
        )
    if not signature_holds(facts.public_key, FACTS_PURPOSE, signed.facts, signed.signature):
        raise AtollError(
            Kind.UNAUTHENTICATED, "register node", "the signature of the facts does not hold"
        )
    _check_facts(facts)
    return facts


def _check_facts(facts: NodeFacts) -> None:
    words = (facts.operator, facts.site, facts.region, facts.country, facts.host, facts.version)
    if any(len(word) > WORD_CHARACTERS_MAX or not word.isprintable() for word in words):
        raise _bad("a word of the facts is too long or not printable")
    if not facts.operator or not facts.site or not facts.host:
        raise _bad("operator, site and host must be named")
    if facts.tier not in TIERS:
        raise _bad(f"a tier is one of {', '.join(TIERS)}")
    if facts.country and not (len(facts.country) == 2 and facts.country.isalpha()):
        raise _bad("a country is two letters")
    if not 1 <= facts.port <= 65_535:
        raise _bad("there is no such port")
    if not 0 <= facts.capacity_bytes <= CAPACITY_BYTES_MAX:
        raise _bad("no node has such a capacity")
    if not 0 <= facts.price_micro <= PRICE_MICRO_MAX:
        raise _bad("no price is like that")
    if len(facts.fingerprint) not in (0, 32):
        raise _bad("a fingerprint has 32 bytes")
    if facts.payout_account and not (
        len(facts.payout_account) == ACCOUNT_BYTES and any(facts.payout_account)
    ):
        raise _bad(f"a payout account has {ACCOUNT_BYTES} bytes, not all of them 0")
    _check_terms(facts)
    _check_claims(facts)
    if not facts.fingerprint and not is_loopback(facts.host):
        raise _bad("beyond loopback a node needs a TLS certificate")


def _check_claims(facts: NodeFacts) -> None:
    parent = facts.parent_country
    if parent and not (len(parent) == 2 and parent.isalpha()):
        raise _bad("a parent's country is two letters")
    if not 0 <= facts.asn <= ASN_MAX:
        raise _bad("there is no such autonomous system")
    if len(facts.certificates) > CERTIFICATES_MAX:
        raise _bad(f"a node carries at most {CERTIFICATES_MAX} certificates")


def _check_terms(facts: NodeFacts) -> None:
    parse_calendar(facts.calendar)
    for figure in (facts.bandwidth_bytes_per_s, facts.traffic_bytes_month):
        if not 0 <= figure <= CAPACITY_BYTES_MAX:
            raise _bad("no line is like that")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "register node", message)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def state_after(silence_ms: int, timers: Timers) -> NodeState:
    """Return a node's state after so long a silence, none of it excused."""
    if silence_ms >= timers.lost_ms:
        return NodeState.LOST
    if silence_ms >= timers.dead_ms:
        return NodeState.DEAD
    if silence_ms >= timers.suspect_ms:
        return NodeState.SUSPECT
    return NodeState.ALIVE


def state_by_hours(silence_ms: int, owed_ms: int, timers: Timers) -> NodeState:
    """Return a node's state after a silence of which it owed ``owed_ms`` to be online.

    Only owed time makes it suspect, dead, lost; until then it is away. A silence longer than
    ``away_ms_max`` is not excused by any calendar.
    """
    if silence_ms < timers.suspect_ms:
        return NodeState.ALIVE
    if silence_ms >= timers.away_ms_max:
        owed_ms = max(owed_ms, timers.dead_ms)
    state = state_after(owed_ms, timers)
    return NodeState.AWAY if state is NodeState.ALIVE else state


def silence_at_start(view: NodeView, now_ms: int) -> int:
    """Return the silence to begin with when a coordinator starts.

    Who was taken for alive is given time to report: the silence may have been the coordinator's
    own. Who was dead stays so until heard, and who was away is away, with nothing owed so far.
    """
    if view.state in (NodeState.ALIVE, NodeState.SUSPECT):
        return 0
    return max(0, now_ms - view.last_seen_ms)


def is_repeat(view: NodeView, heartbeat: Heartbeat) -> bool:
    """Say whether a heartbeat is one already heard. Raises ``REPLAYED`` for an older one."""
    said = (heartbeat.incarnation, heartbeat.time_ms)
    heard = (view.incarnation, view.heartbeat_ms)
    if said < heard:
        raise AtollError(
            Kind.REPLAYED,
            "take heartbeat",
            "a later heartbeat of this node was heard before",
            hint="did the node's clock go back?",
        )
    return said == heard


def check_heartbeat(heartbeat: Heartbeat) -> None:
    """Raise ``BAD_REQUEST`` for a heartbeat that cannot be."""
    counters = heartbeat.counters
    figures = (
        counters.used_bytes,
        counters.trash_bytes,
        counters.free_bytes,
        counters.pieces,
        counters.put_bytes,
        counters.get_bytes,
        counters.errors,
        heartbeat.incarnation,
        heartbeat.time_ms,
    )
    if any(not 0 <= figure < 1 << 63 for figure in figures):
        raise AtollError(Kind.BAD_REQUEST, "take heartbeat", "a figure is out of range")
    if len(heartbeat.lost_pieces) > LOST_PIECES_MAX:
        raise AtollError(
            Kind.BAD_REQUEST, "take heartbeat", f"at most {LOST_PIECES_MAX} lost pieces at a time"
        )
    if any(len(piece) != 16 for piece in heartbeat.lost_pieces):
        raise AtollError(Kind.BAD_REQUEST, "take heartbeat", "a piece id has 16 bytes")


def matters(old: NodeView, new: NodeView) -> bool:
    """Say whether placement should look at its nodes anew."""
    return (
        old.state is not new.state
        or old.full is not new.full
        or old.facts != new.facts
        or old.hours != new.hours
        or old.off_hours is not new.off_hours
        or abs(old.free_bytes - new.free_bytes) > old.free_bytes >> 6
    )
