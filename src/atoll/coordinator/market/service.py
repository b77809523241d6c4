"""Keeps the reference prices, tells prices to customers and previews to providers."""

import logging
from collections.abc import Callable

from sqlalchemy.engine import Connection

from atoll.coordinator.market import rules, store
from atoll.coordinator.market.model import ClassState, MarketConfig
from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.messages import Message
from atoll.core.messages.market import (
    AskPreview,
    ClassPrice,
    GetPrices,
    PreviewPrice,
    PricePreview,
    Prices,
)
from atoll.core.money import AMOUNT_PICO_MAX, micro_of
from atoll.core.ports import Clock, Database
from atoll.economy.tariff import rules as tariff_rules
from atoll.economy.tariff.model import SCORE_BPS_MAX, ClassTariff, Offer, Rival, Tariff

log = logging.getLogger("atoll.coordinator.market")

FRESH_S = 10.0
"""A process that does not keep the market reads it as often."""
CAPACITY_BYTES_MAX = 1 << 60


class MarketService(Part):
    """Answers ``GetPrices``, ``PreviewPrice`` and ``AskPreview``; moves reference prices."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        *,
        proven: Callable[[int], bool],
        score_bps: Callable[[int], int],
        config: MarketConfig | None = None,
    ) -> None:
        """``proven``: does the node of an alias prove what it holds; ``score_bps``: its score."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._proven = proven
        self._score_bps = score_bps
        self._config = config or MarketConfig()
        self._states: dict[str, ClassState] = {}
        self._tariff = rules.tariff_of({})
        self._prices = {one.tier: one for one in self._tariff.classes}
        self._read_at: float | None = None
        self.version = 0
        """Grows whenever a reference price moved."""
        self.handlers = {GetPrices: self._get_prices, PreviewPrice: self._preview}
        self.node_handlers = {AskPreview: self._ask_preview}
        self.steps = [Step("move reference prices", self.move, self._config.pause_s)]

    # --- prices -----------------------------------------------------------------------------

    @property
    def tariff(self) -> Tariff:
        """All prices as they are known here."""
        return self._tariff

    @property
    def take_bps(self) -> int:
        """The take that prices for customers include."""
        return self._config.take_bps

    def prices_of(self, view: NodeView) -> ClassTariff:
        """Return the prices of a node's class."""
        return self._prices[rules.tier_of(view)]

    def price_factor(self, view: NodeView) -> float:
        """Return by how much a node's price raises its weight in placement: 0.5 … 2."""
        return rules.price_factor(view, self.prices_of(view))

    async def fresh(self) -> None:
        """Read the prices if what is in memory is older than ``FRESH_S``."""
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at >= FRESH_S:
            self._read_at = now
            self._take(await self._database.read(store.all_classes))

    def _take(self, states: dict[str, ClassState]) -> None:
        if states == self._states:
            return
        tariff = rules.tariff_of(states)
        if [c.reference_pico for c in tariff.classes] != [
            c.reference_pico for c in self._tariff.classes
        ]:
            self.version += 1
        self._states, self._tariff = states, tariff
        self._prices = {one.tier: one for one in tariff.classes}

    async def move(self) -> None:
        """Move every class by the time that passed; of several coordinators one does."""
        await self._registry.fresh()
        nodes = list(self._registry.nodes())
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> dict[str, ClassState]:
            known = store.all_classes(connection)
            for tier in rules.BEGINNINGS:
                before = known.get(tier) or rules.first_state(tier)
                after = rules.moved(before, nodes, self._proven, now_ms)
                if store.put(connection, after, before.moved_ms):
                    known[tier] = after
            return known

        self._take(await self._database.write(write))
        self._read_at = self._clock.monotonic()

    # --- answers ----------------------------------------------------------------------------

    async def _get_prices(self, _: GetPrices) -> Message:
        await self.fresh()
        await self._registry.fresh()
        nodes = list(self._registry.nodes())
        take = self._config.take_bps
        classes = []
        for prices in self._tariff.classes:
            use = rules.use_of(rules.of_class(nodes, prices.tier))
            classes.append(
                ClassPrice(
                    tier=prices.tier,
                    reference_pico=prices.reference_pico,
                    multiplier_bps=prices.multiplier_bps,
                    price_min_pico=prices.price_min_pico,
                    price_max_pico=prices.price_max_pico,
                    customer_pico=tariff_rules.class_price(prices, take),
                    customer_max_pico=tariff_rules.class_price_max(prices, take),
                    egress_pico=tariff_rules.fee_price(prices.egress_pico, take),
                    nodes=use.nodes,
                    capacity_bytes=use.capacity_bytes,
                    used_bytes=use.used_bytes,
                )
            )
        return Prices(
            time_ms=self._clock.now_ms(),
            take_bps=take,
            repair_pico=self._tariff.repair_pico,
            classes=classes,
        )

    async def _preview(self, request: PreviewPrice) -> Message:
        sizes = (request.capacity_bytes, request.held_bytes)
        if not all(0 <= size <= CAPACITY_BYTES_MAX for size in sizes):
            raise _bad("a capacity from nothing to an exabyte")
        if not 0 <= request.score_bps <= SCORE_BPS_MAX:
            raise _bad(f"a score is 0 to {SCORE_BPS_MAX} basis points")
        offer = Offer(
            request.price_pico, request.score_bps, request.capacity_bytes, request.held_bytes
        )
        return await self._previewed(request.tier, offer, alias=0)

    async def _ask_preview(self, request: AskPreview, prover: bytes, _: int) -> Message:
        await self._registry.fresh()
        alias = self._registry.alias_of(node_id_of(prover))
        view = None if alias is None else self._registry.node(alias)
        if view is None:
            raise AtollError(
                Kind.NOT_FOUND,
                "preview price",
                "this node is not registered",
                hint="register first",
            )
        offer = Offer(
            request.price_pico,
            self._score_bps(view.alias),
            min(view.facts.capacity_bytes, CAPACITY_BYTES_MAX),
            min(view.counters.used_bytes, CAPACITY_BYTES_MAX),
        )
        return await self._previewed(rules.tier_of(view), offer, alias=view.alias)

    async def _previewed(self, tier: str, offer: Offer, alias: int) -> PricePreview:
        """Preview an offer beside all nodes of its class but the one of ``alias``."""
        if not 0 <= offer.price_pico <= AMOUNT_PICO_MAX:
            raise _bad("a price below nothing")
        await self.fresh()
        await self._registry.fresh()
        prices = self._tariff.of(tier)
        peers = rules.of_class(self._registry.nodes(), tier)
        rivals = [
            Rival(
                tariff_rules.posted_price(rules.price_of(view), prices), self._score_bps(view.alias)
            )
            for view in peers
            if view.alias != alias
        ]
        held = rules.use_of(peers).used_bytes
        found = tariff_rules.preview(offer, prices, rivals, held, self._config.take_bps)
        return PricePreview(
            tier=tier,
            price_pico=found.price_pico,
            payout_pico=found.payout_pico,
            customer_pico=found.customer_pico,
            share_bps=found.share_bps,
            held_bytes=offer.held_bytes,
            expected_bytes=found.expected_bytes,
            capacity_bytes=offer.capacity_bytes,
            income_now_micro=micro_of(found.income_now_pico),
            income_expected_micro=micro_of(found.income_expected_pico),
            income_full_micro=micro_of(found.income_full_pico),
            ceiling=found.ceiling,
        )


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "preview price", message)
