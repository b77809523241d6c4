"""How a coordinator is set up: its profile, whom it trusts, where it is, what differs."""

from dataclasses import dataclass, field

from atoll.coordinator.audit.model import ProofTimes
from atoll.coordinator.billing.model import Allowance, BillingConfig
from atoll.coordinator.customers.model import CustomersConfig
from atoll.coordinator.market.model import MarketConfig
from atoll.coordinator.metadata.service import MetadataConfig
from atoll.coordinator.metering.model import MeteringConfig
from atoll.coordinator.packing.rules import PackingProfile
from atoll.coordinator.policy.model import OwnPlace
from atoll.coordinator.repair.rules import Profile as RepairProfile
from atoll.coordinator.reputation.model import Limits
from atoll.coordinator.sets.rules import SetTimers
from atoll.coordinator.settlement.service import SettlementConfig
from atoll.coordinator.upgrade.rules import UpgradeProfile
from atoll.core.addresses import NO_TABLE, AddressTable


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Settings of a coordinator."""

    profile: str = "local"
    """Timers and repair's manners: ``local`` or ``wan``."""
    metadata: MetadataConfig = field(default_factory=MetadataConfig)
    gateway_keys: frozenset[bytes] = frozenset()
    """Ed25519 public keys that may ask over the network, beside the coordinator's own."""
    place: OwnPlace = field(default_factory=OwnPlace)
    """Where this coordinator is and who runs it."""
    addresses: AddressTable = NO_TABLE
    """Countries of addresses, as its operator believes them."""
    customer_keys: frozenset[bytes] = frozenset()
    """Keys of gateways in front of the same database: pieces are read in their name to see who
    serves."""
    verifier_keys: frozenset[bytes] = frozenset()
    """Ed25519 public keys of verifiers whose verdicts count; without any nothing is proven."""
    proofs: ProofTimes | None = None
    """How often what is proven; None for the profile's way."""
    repair: RepairProfile | None = None
    """Repair's pace and patience; None for the profile's."""
    reputation: Limits | None = None
    """Figures of the rules of reputation; None for the profile's."""
    packing: PackingProfile | None = None
    """How eagerly small objects are packed; None for the profile's way."""
    upgrade: UpgradeProfile | None = None
    """How eagerly segments are copied into wider schemes; None for the profile's way."""
    sets: SetTimers | None = None
    """When sets of pieces are compared; None for the profile's way."""
    market: MarketConfig | None = None
    """The take, and how often reference prices move; None for the usual way."""
    metering: MeteringConfig | None = None
    """How often meters are read; None for the profile's way."""
    settlement: SettlementConfig | None = None
    """The chain that is settled on; None for none."""
    billing: BillingConfig | None = None
    """How long epochs are and where they are published; None for no epochs."""
    customers: CustomersConfig = field(default_factory=CustomersConfig)
    """How customers are billed, and what follows when nothing is left."""
    allowance: Allowance | None = None
    """Whom a chain of one's own gives euros that are worth nothing; None for nobody."""
