"""Nouns of placement: a candidate node, a policy, the caps of independence."""

__all__ = [
    "EVERYWHERE",
    "POLICY_EVERYWHERE",
    "Candidate",
    "NodeState",
    "Place",
    "Policy",
    "Standing",
    "candidate_of",
    "network_of",
]

import ipaddress
from dataclasses import dataclass, field

from atoll.coordinator.registry.hours import online_share
from atoll.coordinator.registry.model import NodeState, NodeView
from atoll.coordinator.reputation.model import Judgement, Standing
from atoll.core.policy.model import RULES_ANYWHERE, Rules, Subject
from atoll.core.policy.text import lack_words
from atoll.core.ports import Address

IPV4_GROUP_BITS = 24
IPV6_GROUP_BITS = 48
FULL_TIME_SHARE_MIN = 0.98
"""A node that promises less of the time (over half an hour a day offline) is part-time."""
EVERYWHERE = 1
"""Id of the policy that admits every node."""


def network_of(host: str) -> str:
    """Return the network group of a host: its /24 (IPv4) or /48 (IPv6), else the name itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    bits = IPV4_GROUP_BITS if address.version == 4 else IPV6_GROUP_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))


NOBODY = Subject()


@dataclass(frozen=True, slots=True)
class Place:
    """All facts of a node that decide where pieces may lie: when they change, pieces may move."""

    subject: Subject
    operator: str
    network: str
    site: str
    relays: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered node as placement sees it."""

    alias: int
    node_id: bytes
    address: Address
    operator: str
    site: str
    region: str
    country: str
    tier: str
    state: NodeState
    full: bool
    free_bytes: int
    success: float = 1.0
    """Share of its recent transfers that succeeded, 0..1."""
    latency_ms: float = 0.0
    """Usual time to its first byte; 0 where nothing is known."""
    since_ms: int = 0
    """When it came into its state."""
    exiting: bool = False
    """It leaves gracefully: nothing new for it, its pieces move elsewhere."""
    online_share: float = 1.0
    """Share of the time that its calendar promises to be online, 0..1."""
    off_hours: bool = False
    """Its calendar excuses it now, or in a moment."""
    asn: int = 0
    """Autonomous system of its address; 0 where it is not known."""
    subject: Subject = field(default=NOBODY)
    """What policies see of it: as established, not as declared. Made of the facts above where it is
    not given."""
    relays: tuple[Subject, ...] = ()
    """Who carries its connections, where it has no address of its own."""
    standing: Standing = Standing.VETTED
    """What reputation thinks of it."""
    vetted: bool = True
    """Vetting is over; a node that is not vetted gets few pieces, whatever else is said of it."""
    forfeit: bool = False
    """Its pieces count as lost: disqualified, or suspended beyond its grace."""
    price_factor: float = 1.0
    """The reference price of its class over its own, within 0.5 … 2."""
    network: str = field(default="")
    """Network group; derived from the address where it is not given."""

    @property
    def part_time(self) -> bool:
        """Whether it is offline for so much of the time that its pieces are rationed."""
        return self.online_share < FULL_TIME_SHARE_MIN

    @property
    def relayed(self) -> bool:
        """Whether it is reached through relays: those are rationed too."""
        return bool(self.relays)

    @property
    def place(self) -> Place:
        """What placement's rules look at."""
        return Place(self.subject, self.operator, self.network, self.site, self.relays)

    def __post_init__(self) -> None:
        if not self.network:
            # Behind relays the address is a relay's and changes with it: such nodes are told apart
            # by operator and site, and rationed as a whole.
            network = f"relayed/{self.node_id.hex()}" if self.relays else ""
            object.__setattr__(self, "network", network or network_of(self.address.host))
        if self.subject is NOBODY:
            object.__setattr__(self, "subject", declared_subject(self))


def declared_subject(node: Candidate) -> Subject:
    """Return what a node says of itself, where nothing else is known."""
    return Subject(
        country=node.country,
        region=node.region,
        tier=node.tier,
        operator=node.operator,
        node_id=node.node_id,
    )


_UNJUDGED = Judgement(alias=0, standing=Standing.VETTED)


def candidate_of(
    view: NodeView,
    known: Subject = NOBODY,
    judgement: Judgement = _UNJUDGED,
    price_factor: float = 1.0,
) -> Candidate:
    """Return a registered node as placement sees it.

    ``known`` is what is established of it, ``judgement`` what reputation thinks of it,
    ``price_factor`` by how much its price raises its weight.
    """
    facts = view.facts
    return Candidate(
        alias=view.alias,
        node_id=view.node_id,
        address=view.address,
        operator=facts.operator,
        site=facts.site,
        region=facts.region,
        country=facts.country,
        tier=facts.tier,
        state=view.state,
        full=view.full,
        free_bytes=view.free_bytes,
        since_ms=view.state_since_ms,
        asn=facts.asn,
        subject=known,
        relays=tuple(Subject(operator=r.operator, node_id=r.relay_id) for r in facts.relays),
        exiting=facts.exiting or bool(facts.evacuating),
        online_share=online_share(view.hours),
        off_hours=view.off_hours,
        standing=judgement.standing,
        vetted=judgement.vetted,
        forfeit=judgement.forfeit,
        success=judgement.success,
        latency_ms=judgement.latency_ms,
        price_factor=price_factor,
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """Which nodes may hold a piece.

    A segment stores the id of the policy it was placed by; a change is a new id.
    """

    policy: int
    name: str
    """Canonical text."""
    rules: Rules = RULES_ANYWHERE

    def admits(self, node: Candidate) -> bool:
        """Say whether this policy lets the node hold a piece, and its relays carry it."""
        if self.rules is RULES_ANYWHERE:
            return True
        return self.rules.admits("data", node.subject) and all(
            self.rules.admits("relays", relay) for relay in node.relays
        )

    def lacks(self, node: Candidate) -> list[str]:
        """Say in words why a node may hold no piece; nothing where it may."""
        words = lack_words("its node", "data", self.rules, node.subject)
        for relay in node.relays:
            words += lack_words(f"its relay {relay.operator}", "relays", self.rules, relay)
        return words


POLICY_EVERYWHERE = Policy(EVERYWHERE, "everywhere")
