"""Nouns of placement: a candidate node, a policy, the caps of independence."""

__all__ = [
    "EVERYWHERE",
    "POLICY_EVERYWHERE",
    "Candidate",
    "NodeState",
    "Policy",
    "candidate_of",
    "network_of",
]

import ipaddress
from dataclasses import dataclass, field

from atoll.coordinator.registry.hours import online_share
from atoll.coordinator.registry.model import NodeState, NodeView
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
    network: str = field(default="")
    """Network group; derived from the address where it is not given."""

    @property
    def part_time(self) -> bool:
        """Whether it is offline for so much of the time that its pieces are rationed."""
        return self.online_share < FULL_TIME_SHARE_MIN

    def __post_init__(self) -> None:
        if not self.network:
            object.__setattr__(self, "network", network_of(self.address.host))


def candidate_of(view: NodeView) -> Candidate:
    """Return a registered node as placement sees it."""
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
        exiting=facts.exiting or bool(facts.evacuating),
        online_share=online_share(view.hours),
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """Which nodes may hold a piece. Empty sets admit everything.

    A segment stores the id of the policy it was placed by; a change is a new id.
    """

    policy: int
    name: str
    countries: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    tiers: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    operators_refused: frozenset[str] = frozenset()

    def admits(self, node: Candidate) -> bool:
        """Say whether this policy lets the node hold a piece."""
        return (
            (not self.countries or node.country in self.countries)
            and (not self.regions or node.region in self.regions)
            and (not self.tiers or node.tier in self.tiers)
            and (not self.operators or node.operator in self.operators)
            and node.operator not in self.operators_refused
        )


POLICY_EVERYWHERE = Policy(EVERYWHERE, "everywhere")
