"""What placement stands on, as it wants it: nodes as established, policies of buckets."""

from collections.abc import Sequence

from atoll.coordinator.market.service import MarketService
from atoll.coordinator.placement.model import POLICY_EVERYWHERE, Candidate, Policy, candidate_of
from atoll.coordinator.policy.model import StoredPolicy
from atoll.coordinator.policy.service import Known, PolicyService
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.reputation.service import ReputationService
from atoll.core.policy.model import Subject


def known_node(view: NodeView, policies: PolicyService) -> Known:
    """Return a node as certificates and addresses establish it."""
    facts = view.facts
    declared = Subject(
        country=facts.country,
        parent_country=facts.parent_country,
        region=facts.region,
        tier=facts.tier,
        operator=facts.operator,
        node_id=view.node_id,
    )
    return policies.known(view.node_id, declared, facts.host, facts.certificates)


class KnownNodes:
    """The registry's nodes with what is established, thought and asked. A ``NodeSource``."""

    def __init__(
        self,
        registry: RegistryService,
        policies: PolicyService,
        reputation: ReputationService,
        market: MarketService,
    ) -> None:
        self._registry = registry
        self._policies = policies
        self._reputation = reputation
        self._market = market

    @property
    def version(self) -> int:
        """Grows with news of the registry, of certificates, of standings and of prices."""
        judged = self._reputation.version + self._market.version
        return self._registry.version + self._policies.version + judged

    def candidates(self) -> Sequence[Candidate]:
        """Return every registered node, whatever its state."""
        return [
            candidate_of(
                view,
                known_node(view, self._policies).subject,
                self._reputation.judgement(view.alias),
                self._market.price_factor(view),
            )
            for view in self._registry.nodes()
        ]


class BucketPolicies:
    """The policies of buckets as placement applies them. A ``PolicySource``."""

    def __init__(self, policies: PolicyService) -> None:
        self._policies = policies

    @property
    def newest(self) -> int:
        """Grows whenever a bucket gets another policy."""
        return self._policies.newest

    def of_bucket(self, bucket: bytes) -> Policy:
        """Return the policy that decides about a bucket now."""
        return _applied(self._policies.of_bucket(bucket))

    def by_id(self, policy: int) -> Policy | None:
        """Return what decides now about what was placed under an id; None for an unknown one."""
        found = self._policies.by_id(policy)
        return None if found is None else _applied(found)


def _applied(stored: StoredPolicy) -> Policy:
    if stored.policy == POLICY_EVERYWHERE.policy:
        return POLICY_EVERYWHERE
    return Policy(stored.policy, stored.text, stored.rules)
