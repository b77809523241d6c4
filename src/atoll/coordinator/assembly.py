"""The coordinator's sub-rooms put together: facts, judgements, actions, each on those below.

What is made here answers nobody by itself; ``coordinator.app`` does.
"""

import hashlib
from dataclasses import dataclass, replace

from atoll.coordinator.audit.model import PROFILES as PROOF_PROFILES
from atoll.coordinator.audit.reads import DisguisedReads
from atoll.coordinator.audit.service import AuditService
from atoll.coordinator.billing.allowance import AllowanceService
from atoll.coordinator.billing.mirror import EpochMirror
from atoll.coordinator.billing.pages import EpochPages
from atoll.coordinator.billing.service import BillingService
from atoll.coordinator.collection.rules import LIMITS
from atoll.coordinator.collection.service import CollectionService
from atoll.coordinator.config import CoordinatorConfig
from atoll.coordinator.customers.bank import BankDesk
from atoll.coordinator.customers.parts import parts_of as customers_of
from atoll.coordinator.funding.model import ESCROW_SALTS
from atoll.coordinator.funding.service import FundingService, OnChain
from atoll.coordinator.market.rules import price_of
from atoll.coordinator.market.service import MarketService
from atoll.coordinator.metadata.serials import SerialAllocator
from atoll.coordinator.metadata.service import MetadataConfig, MetadataService
from atoll.coordinator.metadata.uploads import UploadService
from atoll.coordinator.metering.model import PROFILES as METERING_PROFILES
from atoll.coordinator.metering.service import MeteringService
from atoll.coordinator.packing.rules import PROFILES as PACKING_PROFILES
from atoll.coordinator.packing.service import PackingService
from atoll.coordinator.part import Part
from atoll.coordinator.payouts.bank import PayoutBank
from atoll.coordinator.payouts.desk import PayoutDesk
from atoll.coordinator.payouts.earnings import EarningsService, ProviderBook
from atoll.coordinator.payouts.seal import Seal
from atoll.coordinator.payouts.till import Till
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.placement.sources import BucketPolicies, KnownNodes
from atoll.coordinator.policy.service import PolicyService
from atoll.coordinator.reach.service import ReachService
from atoll.coordinator.recovery.adoption import AdoptionService
from atoll.coordinator.recovery.service import RecoveryService
from atoll.coordinator.registry.model import TIMERS
from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.coordinator.repair.figures import RepairFigureService
from atoll.coordinator.repair.offers import RepairOffers
from atoll.coordinator.repair.rules import PROFILES
from atoll.coordinator.repair.service import RepairService
from atoll.coordinator.reputation.door import ProviderPages
from atoll.coordinator.reputation.model import Standing
from atoll.coordinator.reputation.service import ReputationService
from atoll.coordinator.residency.service import ResidencyService
from atoll.coordinator.retention.rules import PROFILES as RETENTION_PROFILES
from atoll.coordinator.retention.service import RetentionService
from atoll.coordinator.sets.rules import PROFILES as SET_PROFILES
from atoll.coordinator.sets.service import SetsService
from atoll.coordinator.settlement.documents import Documents
from atoll.coordinator.settlement.service import CHAIN_KEYS, SettlementService
from atoll.coordinator.slashing.book import SlashBook
from atoll.coordinator.slashing.entries import EntryService
from atoll.coordinator.slashing.pages import SlashPages
from atoll.coordinator.slashing.service import SlashingService
from atoll.coordinator.terms.service import TermsService
from atoll.coordinator.traffic.service import TrafficService
from atoll.coordinator.upgrade.rules import PROFILES as UPGRADE_PROFILES
from atoll.coordinator.upgrade.service import UpgradeService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ports import Clock, Compute, Database, PieceTransport, Rng
from atoll.economy.payments.accounts import BankAccount

_PROVEN = (Standing.VETTED, Standing.TRUSTED)
"""Standings of nodes that have proven what they hold: their prices make the market."""


@dataclass(frozen=True, slots=True)
class World:
    """What a coordinator asks of the world, and who it is."""

    clock: Clock
    rng: Rng
    database: Database
    transport: PieceTransport
    compute: Compute
    identity: Identity

    def secret(self, purpose: bytes) -> bytes:
        """Return 32 bytes that only this identity can derive, the same at every start."""
        return hashlib.sha256(self.identity.sign(purpose, b"")).digest()


class Rooms:
    """All services of a coordinator, wired; ``parts`` answer or act by themselves."""

    def __init__(self, world: World, config: CoordinatorConfig, *, loops: bool) -> None:
        """Make them over a migrated database. Raises ``CONFIG`` for an unknown profile."""
        if config.profile not in TIMERS:
            raise AtollError(
                Kind.CONFIG, "start coordinator", f"a profile is one of {', '.join(sorted(TIMERS))}"
            )
        metadata = config.metadata
        if not metadata.secrets_key:
            metadata = replace(metadata, secrets_key=world.secret(b"secrets-root/1"))
        metadata = replace(metadata, segment_key=world.secret(b"segment-ids/1"))
        self.secrets_key = metadata.secrets_key
        link_secret = world.secret(b"link-secret/1")
        self._know(world, config, metadata, link_secret, judges=loops)
        self._act(world, config, metadata, link_secret)
        self._serve(world, config, metadata)
        self.audit = self._prove(world, config)
        figures = RepairFigureService(
            world.clock,
            world.database,
            self.registry,
            self.placement,
            self.repair,
            TIMERS[config.profile].dead_ms,
        )
        self.parts: list[Part] = [
            self.audit,
            self.offers,
            figures,
            self.sets,
            self.residency,
            self.policies,
            self.reputation,
            self.market,
            self.metering,
            self.traffic,
            ProviderPages(world.clock, self.registry, self.reputation),
            self.packing,
            self.upgrades,
            self.terms,
            self.recovery,
            self.adoption,
            self.retention,
            ReachService(world.clock, world.transport),
        ]
        self._settle(world, config)

    def _settle(self, world: World, config: CoordinatorConfig) -> None:
        """Money: epochs, the chain, customers, providers, slashes."""
        self.settlement: SettlementService | None = None
        if config.settlement is not None:
            self.settlement = SettlementService(
                world.clock,
                world.database,
                world.secret(CHAIN_KEYS),
                config.settlement,
                verifiers=config.verifier_keys,
                documents=(
                    Documents(world.database, world.compute, config.billing)
                    if config.billing is not None
                    else None
                ),
            )
            self.parts.append(self.settlement)
        admission, customers = customers_of(
            world.clock,
            world.database,
            world.compute,
            self.registry,
            self.market,
            config.customers,
            secret=world.secret(b"epoch-pseudonyms/1"),
        )
        self.billing: BillingService | None = None
        if config.billing is not None:
            self.billing = BillingService(
                world.clock,
                world.database,
                world.compute,
                self.registry,
                self.market,
                self.metering,
                config.billing,
                public_key=world.identity.public_key,
                secret=world.secret(b"epoch-pseudonyms/1"),
                providers=ProviderBook(),
                slashes=SlashBook(world.database, world.compute),
                reserved=admission.reserved,
            )
            self.parts.append(self.billing)
            self.parts += self._pay(world, config, self.billing)
            settlements = self.settlement.facts if self.settlement is not None else None
            self.parts.append(
                EpochPages(world.database, world.compute, config.billing, settlements)
            )
            if config.billing.mirror is not None:
                self.parts.append(
                    EpochMirror(
                        world.database, world.compute, config.billing, config.billing.mirror
                    )
                )
        self.funding = self._fund(world, config)
        self.parts.append(self.funding)
        self.parts += [
            SlashingService(
                world.clock,
                world.database,
                world.compute,
                self.registry,
                self.reputation,
                self.settlement,
            ),
            SlashPages(world.database),
        ]
        if self.settlement is not None:
            self.parts.append(
                EntryService(
                    world.clock, world.database, self.registry, self.reputation, self.settlement
                )
            )
        for desk in customers:
            if isinstance(desk, BankDesk):
                banks = (one for one in self.parts if isinstance(one, PayoutBank))
                desk.payouts = next(banks, None)
        self.parts += customers
        if config.allowance is not None:
            self.parts.append(AllowanceService(world.clock, world.database, config.allowance))

    def _know(
        self,
        world: World,
        config: CoordinatorConfig,
        metadata: MetadataConfig,
        link_secret: bytes,
        *,
        judges: bool,
    ) -> None:
        """Facts, and judgements of them."""
        clock, database = world.clock, world.database
        self.metadata = MetadataService(clock, world.rng, database, metadata)
        self.serials = SerialAllocator(database)
        self.uploads = UploadService(clock, world.rng, database, metadata, self.metadata)
        self.registry = RegistryService(
            clock,
            database,
            world.identity.public_key,
            RegistryConfig(timers=TIMERS[config.profile]),
            judges=judges,
            link_secret=link_secret,
        )
        self.policies = PolicyService(
            clock, database, world.identity, config.place, config.addresses
        )
        self.reputation = ReputationService(
            clock,
            database,
            self.registry,
            config.profile,
            judges=judges,
            limits=config.reputation,
        )
        self.market = MarketService(
            clock,
            database,
            self.registry,
            proven=lambda alias: self.reputation.standing(alias) in _PROVEN,
            score_bps=lambda alias: int(10_000 * self.reputation.judgement(alias).success),
            config=config.market,
        )

    def _act(
        self, world: World, config: CoordinatorConfig, metadata: MetadataConfig, link_secret: bytes
    ) -> None:
        """What decides where pieces go, brings them back and takes them away."""
        self.placement = PlacementService(
            world.clock,
            world.rng,
            world.identity,
            KnownNodes(self.registry, self.policies, self.reputation, self.market),
            policies=BucketPolicies(self.policies),
            segment_key=metadata.segment_key,
            link_secret=link_secret,
        )
        profile = config.repair or PROFILES[config.profile]
        self.repair = RepairService(
            clock=world.clock,
            rng=world.rng,
            database=world.database,
            transport=world.transport,
            compute=world.compute,
            placement=self.placement,
            profile=profile,
            accuse=self._accuse,
        )
        self.traffic = TrafficService(
            world.clock,
            world.database,
            self.registry,
            public_key=world.identity.public_key,
            settlement_key=self.placement.settlement_key,
        )
        self.metering = MeteringService(
            world.clock,
            world.database,
            self.registry,
            config.metering or METERING_PROFILES[config.profile],
            price_of=price_of,
            slot_ms=(config.proofs or PROOF_PROFILES[config.profile]).slot_ms,
            traffic=self.traffic,
        )
        self.offers = RepairOffers(
            clock=world.clock,
            rng=world.rng,
            database=world.database,
            registry=self.registry,
            placement=self.placement,
            repair=self.repair,
            profile=profile,
            done=self.metering.note_repair,
        )
        self.collection = CollectionService(
            clock=world.clock,
            database=world.database,
            transport=world.transport,
            placement=self.placement,
            limits=LIMITS[config.profile],
        )
        self.sets = SetsService(
            world.clock,
            world.database,
            self.registry,
            config.sets or SET_PROFILES[config.profile],
            lost=self.repair.report_lost,
        )

    def _accuse(self, alias: int, piece: bytes, reason: str) -> None:
        self.reputation.observe_retrieval(
            alias, False, piece=piece, reason=f"a reader got wrong bytes, and so did we: {reason}"
        )

    def _serve(self, world: World, config: CoordinatorConfig, metadata: MetadataConfig) -> None:
        """What customers and providers ask for beyond pieces in their places."""
        clock, database = world.clock, world.database
        packing = config.packing or PACKING_PROFILES[config.profile]
        self.packing = PackingService(
            clock,
            database,
            packing,
            metadata.segment_key,
            lambda policy: self.placement.pool(0, policy).independent,
        )
        self.upgrades = UpgradeService(
            clock,
            database,
            self.placement,
            config.upgrade or UPGRADE_PROFILES[config.profile],
            metadata.segment_key,
        )
        self.terms = TermsService(
            clock=clock,
            rng=world.rng,
            database=database,
            identity=world.identity,
            registry=self.registry,
            placement=self.placement,
        )
        self.recovery = RecoveryService(clock, database)
        self.adoption = AdoptionService(
            clock, database, self.serials, self.registry, world.identity.public_key
        )
        self.retention = RetentionService(
            clock, database, world.transport, self.placement, RETENTION_PROFILES[config.profile]
        )
        self.residency = ResidencyService(
            clock,
            world.rng,
            database,
            world.identity,
            self.registry,
            self.policies,
            self.placement,
            proof_slot_ms=(config.proofs or PROOF_PROFILES[config.profile]).slot_ms,
        )

    def _fund(self, world: World, config: CoordinatorConfig) -> FundingService:
        """What brings customers' money onto the chain; without one, into the ledger alone."""
        on_chain = None
        if self.settlement is not None:
            documents = config.billing.disk if config.billing is not None else None
            secret = world.secret(ESCROW_SALTS)
            on_chain = OnChain(self.settlement.link, secret, world.compute, documents)
        funding = FundingService(world.clock, world.database, on_chain)
        if self.settlement is not None:
            self.settlement.use_funds(funding.funded)
        return funding

    def _pay(self, world: World, config: CoordinatorConfig, billing: BillingService) -> list[Part]:
        """What shows providers their earnings, and pays them."""
        clock, database = world.clock, world.database
        seal = Seal(world.secret(b"bank-accounts/1"), world.rng)
        till = Till(self.settlement) if self.settlement is not None else None
        invoices = config.customers.invoices

        def debtor() -> BankAccount | None:
            return invoices.account if invoices is not None else None

        desk = PayoutDesk(
            clock, world.rng, database, world.identity, self.registry, seal, till, debtor
        )
        return [
            EarningsService(clock, database, self.registry, billing, seal),
            desk,
            PayoutBank(clock, database, world.compute, seal, debtor, on_chain=till is not None),
        ]

    def _prove(self, world: World, config: CoordinatorConfig) -> AuditService:
        """What proves possession."""
        times = config.proofs or PROOF_PROFILES[config.profile]
        reads = DisguisedReads(
            clock=world.clock,
            rng=world.rng,
            database=world.database,
            transport=world.transport,
            compute=world.compute,
            placement=self.placement,
            retrievals=self.reputation,
            customers=sorted(config.gateway_keys | config.customer_keys),
            period_ms=times.read_slots * times.slot_ms,
        )
        return AuditService(
            clock=world.clock,
            database=world.database,
            identity=world.identity,
            registry=self.registry,
            times=times,
            verifiers=config.verifier_keys,
            judges=self.reputation,
            strike=self.repair.report_lost,
            forgive=self.reputation.amnesty,
            reads=reads,
        )
