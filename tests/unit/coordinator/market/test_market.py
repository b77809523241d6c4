"""Prices follow what proven providers post, slowly; previews are what placement would do."""

import pytest
from tests.unit.coordinator.market.providers import TB, Providers, provider
from tests.unit.coordinator.metadata.world import StillClock

from atoll.coordinator.market import rules
from atoll.coordinator.market.service import MarketService
from atoll.coordinator.placement.model import candidate_of
from atoll.coordinator.placement.rules import weight
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.market import (
    AskPreview,
    ClassPrice,
    GetPrices,
    PreviewPrice,
    PricePreview,
    Prices,
)
from atoll.core.money import PICO_PER_EUR, parse_euro
from atoll.runtime.database import SqlDatabase

DAY_MS = 86_400_000
HOME = 1_300 * 10**6


class Market:
    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.clock = StillClock()
        self.providers = Providers(database, self.clock)
        self.unproven: set[int] = set()
        self.service = self.another()

    def another(self) -> MarketService:
        return MarketService(
            self.clock,
            self.database,
            self.providers.registry,
            proven=lambda alias: alias not in self.unproven,
            score_bps=lambda alias: 10_000,
        )

    async def ask(self, request: Message, service: MarketService | None = None) -> Message:
        return await (service or self.service).handlers[type(request)](request)

    async def home(self, service: MarketService | None = None) -> ClassPrice:
        found = await self.ask(GetPrices(), service)
        assert isinstance(found, Prices)
        return next(one for one in found.classes if one.tier == "home")

    async def days(self, count: int) -> None:
        """Let days pass, a move each."""
        for _ in range(count):
            self.clock.time_ms += DAY_MS
            await self.service.move()


@pytest.fixture
def market(database: SqlDatabase) -> Market:
    return Market(database)


async def test_a_market_begins_with_prices_for_every_class(market: Market) -> None:
    found = await market.ask(GetPrices())
    assert isinstance(found, Prices)
    assert [one.tier for one in found.classes] == ["dc", "edge", "home", "pro"]
    home = await market.home()
    assert (home.reference_pico, home.multiplier_bps, home.nodes) == (HOME, 10_000, 0)
    assert home.customer_pico == -(-HOME * 100 // 88)
    assert home.customer_max_pico == 2 * home.customer_pico - 1
    assert home.price_min_pico < home.reference_pico < home.price_max_pico


async def test_the_reference_follows_what_is_posted_by_two_percent_a_day(market: Market) -> None:
    for number, price in ((1, 2_000_000), (2, 2_200_000), (3, 900_000)):
        await market.providers.post(number, price, used_bytes=3 * TB)
    await market.service.move()
    assert (await market.home()).reference_pico == HOME, "there was no time to move in"
    await market.days(1)
    home = await market.home()
    assert (home.reference_pico, home.nodes) == (HOME * 102 // 100, 3)
    assert (home.capacity_bytes, home.used_bytes) == (12 * TB, 9 * TB)
    await market.days(40)
    assert (await market.home()).reference_pico == 2_000 * 10**6


async def test_who_proves_nothing_or_posts_nothing_does_not_make_the_price(market: Market) -> None:
    for number in (1, 2, 3):
        await market.providers.post(number, 9_000_000, capacity_bytes=100 * TB)
    await market.providers.post(4, 0, capacity_bytes=100 * TB)
    await market.providers.post(5, 1_000_000, exiting=True)
    market.unproven = {1, 2, 3}
    await market.service.move()
    await market.days(3)
    assert (await market.home()).reference_pico == HOME


async def test_use_raises_and_lowers_what_everything_costs(market: Market) -> None:
    await market.providers.post(1, used_bytes=4 * TB)
    await market.service.move()
    assert (await market.home()).multiplier_bps == 19_999
    await market.providers.post(1, used_bytes=TB)
    await market.days(1)
    home = await market.home()
    assert home.multiplier_bps == 8_000
    assert home.customer_pico == -(-HOME * 80 // 88)


async def test_other_processes_read_the_prices(market: Market) -> None:
    await market.providers.post(1, 2_000_000)
    await market.service.move()
    await market.days(2)
    other = market.another()
    assert await market.home(other) == await market.home()
    before = other.version
    await market.days(1)
    market.clock.time_ms += 20_000
    assert (await market.home(other)).reference_pico == (await market.home()).reference_pico
    assert other.version > before


async def test_of_two_coordinators_one_moves_the_price(market: Market) -> None:
    await market.providers.post(1, 3_000_000)
    await market.service.move()
    market.clock.time_ms += DAY_MS
    await market.service.move()
    await market.another().move()
    assert (await market.home()).reference_pico == HOME * 102 // 100


async def test_a_preview_compares_with_the_others_of_the_class(market: Market) -> None:
    for number in (1, 2, 3):
        await market.providers.post(number, 1_300_000, used_bytes=2 * TB)
    await market.providers.post(4, 100_000, tier="dc")
    request = PreviewPrice(tier="home", price_pico=HOME, capacity_bytes=4 * TB, held_bytes=TB)
    found = await market.ask(request)
    assert isinstance(found, PricePreview)
    assert (found.share_bps, found.expected_bytes) == (2_500, 6 * TB // 4)
    assert found.income_now_micro == parse_euro("1.30") // 10**6
    assert not found.ceiling


async def test_a_node_previews_with_its_own_pieces_and_without_itself_as_a_rival(
    market: Market,
) -> None:
    for number in (1, 2):
        await market.providers.post(number, 1_300_000, used_bytes=2 * TB)
    key = provider(1).public_key
    found = await market.service.node_handlers[AskPreview](AskPreview(price_pico=HOME), key, 0)
    assert isinstance(found, PricePreview)
    assert (found.share_bps, found.held_bytes, found.capacity_bytes) == (5_000, 2 * TB, 4 * TB)
    half = await market.service.node_handlers[AskPreview](AskPreview(price_pico=HOME // 2), key, 0)
    assert isinstance(half, PricePreview)
    assert half.share_bps == 6_666
    assert half.income_now_micro == found.income_now_micro // 2
    with pytest.raises(AtollError) as caught:
        await market.service.node_handlers[AskPreview](
            AskPreview(price_pico=1), provider(9).public_key, 0
        )
    assert caught.value.kind is Kind.NOT_FOUND


@pytest.mark.parametrize(
    "wrong",
    [
        PreviewPrice(tier="moon", price_pico=1, capacity_bytes=1),
        PreviewPrice(tier="home", price_pico=-1, capacity_bytes=1),
        PreviewPrice(tier="home", price_pico=1, capacity_bytes=-1),
        PreviewPrice(tier="home", price_pico=1, capacity_bytes=1 << 62),
        PreviewPrice(tier="home", price_pico=1, capacity_bytes=1, score_bps=10_001),
    ],
    ids=range(5),
)
async def test_previews_that_cannot_be_are_refused(market: Market, wrong: PreviewPrice) -> None:
    with pytest.raises(AtollError) as caught:
        await market.ask(wrong)
    assert caught.value.kind is Kind.BAD_REQUEST


async def test_the_largest_preview_fits_into_a_message(market: Market) -> None:
    from atoll.core.messages import encode

    huge = PreviewPrice(tier="dc", price_pico=10**15, capacity_bytes=1 << 60, held_bytes=1 << 60)
    assert encode(await market.ask(huge))


async def test_placement_prefers_the_cheaper_within_bounds(market: Market) -> None:
    prices = (1_300_000, 650_000, 130_000, 2_600_000, 13_000_000, 0)
    for number, price in enumerate(prices, 1):
        await market.providers.post(number, price)
    factors = [
        market.service.price_factor(view)
        for view in sorted(market.providers.registry.nodes(), key=lambda view: view.alias)
    ]
    assert factors == [1.0, 2.0, 2.0, 0.5, 0.5, 1.0]
    view = market.providers.registry.node(1)
    assert view is not None
    plain, cheap = candidate_of(view), candidate_of(view, price_factor=2.0)
    assert weight(cheap) == 2 * weight(plain)


def test_a_price_of_the_facts_is_per_gigabyte_in_the_market() -> None:
    """1.30 EUR per TB and month."""
    assert rules.first_state("home").reference_pico * 1_000 == PICO_PER_EUR * 13 // 10
