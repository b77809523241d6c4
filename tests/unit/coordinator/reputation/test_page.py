"""The public pages: all that is judged, nothing that is private, and nothing that runs."""

import json

import pytest
from tests.unit.coordinator.reputation.world import World

from atoll.coordinator.reputation.door import FACTS, PAGE, ProviderPages
from atoll.coordinator.reputation.model import FailedSample
from atoll.coordinator.reputation.page import index_page, plain, provider_page
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.reputation import (
    AxisHealth,
    FailedCheck,
    MassFailure,
    NodeHealth,
    NodeStanding,
    StandingEvent,
    StandingList,
)
from atoll.runtime.database import SqlDatabase

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database)


def pages_of(world: World) -> ProviderPages:
    return ProviderPages(world.clock, world.registry, world.service)


async def test_every_provider_has_a_page_with_its_figures(world: World) -> None:
    (alias, *_) = await world.join(3)
    samples = [FailedSample(b"p" * 16, 7, reason="wrong", evidence="verdict:abcd")]
    world.service.observe_possession(alias, 40, samples)
    await world.settle()
    await world.service.flush()
    view = world.registry.node(alias)
    assert view is not None
    pages = pages_of(world)
    shown = (await pages.page(f"{PAGE}/{view.node_id.hex()}", "")).body.decode()
    for words in ("+1.94", "1 of 41 samples failed", "+13.81", b"p".hex() * 16, "verdict:abcd"):
        assert words in shown
    facts = json.loads((await pages.page(f"{FACTS}/{view.node_id.hex()}", "")).body)
    assert facts["failed"][0]["piece"] == b"p".hex() * 16
    assert facts["axes"][0]["level"] == "warning"
    index = (await pages.page(PAGE, "")).body.decode()
    assert index.count('<a href="/providers/') == 3


async def test_no_page_tells_an_address_or_a_site(world: World) -> None:
    await world.join(2)
    pages = pages_of(world)
    view = world.registry.node(1)
    assert view is not None
    for path in (PAGE, FACTS, f"{PAGE}/{view.node_id.hex()}", f"{FACTS}/{view.node_id.hex()}"):
        body = (await pages.page(path, "")).body.decode()
        assert "127.0.0.1" not in body
        assert "9000" not in body
        assert "s0" not in body.replace("is0", "")
        assert view.facts.public_key.hex() not in body


@pytest.mark.parametrize(
    "path",
    [
        f"{PAGE}/{'0' * 64}",
        f"{PAGE}/{'0' * 63}",
        f"{PAGE}/../secrets",
        f"{PAGE}/page.css/x",
        f"{PAGE}/",
        f"{FACTS}/{'A' * 64}",
    ],
)
async def test_what_is_not_there_is_not_found(world: World, path: str) -> None:
    await world.join(1)
    with pytest.raises(AtollError) as caught:
        await pages_of(world).page(path, "")
    assert caught.value.kind is Kind.NOT_FOUND


async def test_long_lists_are_paged(world: World) -> None:
    await world.join(3)
    pages = pages_of(world)
    for query in ("after=1", "after=1&after=9", "x=1&after=1"):
        assert json.loads((await pages.page(FACTS, query)).body)["nodes"][0]["alias"] == 2
    for query in ("after=-1", "after=x", "after=" + "9" * 50, "after=%00", "after=²"):
        assert len(json.loads((await pages.page(FACTS, query)).body)["nodes"]) == 3


async def test_pages_are_kept_for_a_second_and_in_bounds(world: World) -> None:
    await world.join(1)
    pages = pages_of(world)
    first = await pages.page(FACTS, "")
    assert await pages.page(FACTS, "") is first
    world.clock.time_ms += 1_100
    assert await pages.page(FACTS, "") is not first
    for after in range(600):
        await pages.page(FACTS, f"after={after}")
    assert len(pages._kept) <= 256


def test_nothing_that_a_provider_says_is_markup() -> None:
    axis = AxisHealth(
        axis=EVIL, level=EVIL, rule=EVIL, figure=EVIL, threshold=EVIL, margin=EVIL, window=EVIL,
        remedy=EVIL, deadline_ms=5, used=0.5,
    )  # fmt: skip
    event = StandingEvent(
        at_ms=1, kind="warning", before=EVIL, after="x", axis=EVIL, rule=EVIL, figure=EVIL,
        threshold=EVIL, evidence=EVIL, remedy=EVIL,
    )  # fmt: skip
    check = FailedCheck(
        axis=EVIL, at_ms=1, slot=1, piece=b"", reason=EVIL, evidence=EVIL, forgiven=EVIL
    )
    health = NodeHealth(
        time_ms=1, alias=1, node_id=b"n" * 32, operator=EVIL, region=EVIL, country=EVIL,
        tier=EVIL, state=EVIL, last_seen_ms=1, registered_ms=1, standing=EVIL, since_ms=1,
        meaning=EVIL, deadline_ms=1, axes=[axis], speeds=[], failed=[check], history=[event],
        samples_passed=0, samples_failed=0, last_proof_ms=0, profile=EVIL,
    )  # fmt: skip
    node = NodeStanding(
        alias=1, node_id=b"n" * 32, operator=EVIL, region=EVIL, country=EVIL, tier=EVIL,
        state=EVIL, standing=EVIL, since_ms=1, deadline_ms=0, possession=0, online_share=1,
        windows=1, success=1, p50_ms=0, p95_ms=0, samples_passed=0, samples_failed=0,
        last_proof_ms=0, warnings=[EVIL],
    )  # fmt: skip
    mass = MassFailure(axis=EVIL, number=1, at_ms=1, operators_failed=1, operators=2, reason=EVIL)
    found = StandingList(time_ms=1, profile=EVIL, nodes=[node], more=True, forgiven=[mass])
    for page in (provider_page(health), index_page(found)):
        assert b"<script" not in page
        assert b"&lt;script" in page
        assert b" style=" not in page  # the content policy would refuse it
    assert plain(health)["node_id"] == "6e" * 32
