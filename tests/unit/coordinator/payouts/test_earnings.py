"""What nodes earned: told before it is settled as it will be, nothing hidden, nothing doubled."""

import pytest
from tests.unit.coordinator.billing.test_billing import EUR, account
from tests.unit.coordinator.market.providers import provider
from tests.unit.coordinator.metadata.world import ACCOUNT
from tests.unit.coordinator.payouts.world import FACTOR, SEAL, World

from atoll.coordinator.billing.model import SoFar
from atoll.coordinator.payouts import earnings
from atoll.coordinator.payouts.earnings import EarningsService
from atoll.coordinator.terms import store as departures
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.payouts import AllEarnings, GetAllEarnings, GetEarnings, NodeEarnings
from atoll.core.money import MONTH_MS
from atoll.economy.ledger.model import AccountKind


async def test_what_is_told_is_what_is_settled(world: World) -> None:
    await world.begin(prepaid_pico=1_000 * EUR)
    before = await world.earned(1)
    assert (before.now_pico, before.settled_pico, before.days) == (0, 0, [])
    await world.pass_epoch()
    told = {number: await world.earned(number) for number in (1, 2, 3)}
    assert all(one.now_pico > 0 and not one.settled_pico for one in told.values())
    assert all(one.proven_bps == 10_000 for one in told.values())
    await world.settle()
    result = (await world.document(1)).content.result
    for number in (1, 2, 3):
        node = next(one for one in result.nodes if one.node == provider(number).node_id)
        assert told[number].now_pico == node.earned_pico + node.repair_pico + node.top_up_pico
        after = await world.earned(number)
        assert after.now_pico == 0
        assert after.settled_pico == told[number].now_pico
        assert after.held_pico == await world.balance(AccountKind.HELD, node.node) > 0
        assert after.due_pico == await world.balance(AccountKind.PROVIDER, account(number)) > 0
        assert after.released_pico == after.due_pico
        assert after.settled_pico == after.released_pico + after.held_pico
        (day,) = after.days
        assert (day.earned_pico, day.held_pico) == (node.earned_pico, node.withheld_pico)
        gained = day.earned_pico + day.repair_pico + day.top_up_pico - day.slashed_pico
        assert gained == day.released_pico + day.credited_pico + day.held_pico


async def test_it_grows_at_the_pace_that_is_told(world: World) -> None:
    await world.begin(prepaid_pico=100_000 * EUR)
    await world.pass_epoch()
    one = await world.earned(1)
    assert one.time_factor == FACTOR
    assert one.month_pico > 0
    await world.pass_epoch()
    two = await world.earned(1)
    passed_ms = two.time_ms - one.time_ms
    grown = one.month_pico * FACTOR * passed_ms // MONTH_MS
    assert two.now_pico - one.now_pico == pytest.approx(grown, rel=1e-6)
    assert one.earned_by(two.time_ms) == pytest.approx(two.now_pico, rel=1e-6)
    assert one.earned_by(0) == one.now_pico, "nothing is taken back for clocks that differ"


async def test_the_figure_never_falls_while_an_epoch_is_settled(world: World) -> None:
    await world.begin(prepaid_pico=10_000 * EUR)
    service, biller = world.earnings(), world.biller()

    async def seen() -> int:
        world.clock.time_ms += 2_000
        found = await service.handlers[GetAllEarnings](GetAllEarnings())
        assert isinstance(found, AllEarnings)
        assert len(found.nodes) == 3
        return sum(one.settled_pico + one.now_pico for one in found.nodes)

    figures = []
    for _ in range(3):
        await world.pass_epoch()
        figures.append(await seen())
        for _ in range(3):
            assert await biller.advance()
            figures.append(await seen())
    assert figures == sorted(figures)
    assert figures[0] > 0
    entries = [await world.balance(AccountKind.PROVIDER, account(one)) for one in (1, 2, 3)]
    held = [await world.balance(AccountKind.HELD, provider(one).node_id) for one in (1, 2, 3)]
    assert figures[-1] == sum(entries) + sum(held)


async def test_an_epoch_that_is_settled_meanwhile_is_not_told_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin(prepaid_pico=1_000 * EUR)
    await world.pass_epoch()
    told = (await world.earned(1)).now_pico
    biller = world.biller()
    service = EarningsService(world.clock, world.database, world.providers.registry, biller, SEAL)
    measure = biller.so_far

    async def slow() -> SoFar | None:
        """Measure; before anybody hears it the epoch is settled."""
        found = await measure()
        await world.settle()
        return found

    monkeypatch.setattr(biller, "so_far", slow)
    figures = await service.figures()
    node = provider(1).node_id
    assert figures.sums[node].gained_pico + figures.so_far.nodes.get(node, 0) == told > 0


async def test_all_nodes_are_told_page_by_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin()
    monkeypatch.setattr(earnings, "EARNING_NODES_MAX", 2)
    service = world.earnings()

    async def page(after: int) -> AllEarnings:
        found = await service.handlers[GetAllEarnings](GetAllEarnings(after=after))
        assert isinstance(found, AllEarnings)
        return found

    first, second = await page(0), await page(2)
    assert ([one.alias for one in first.nodes], first.more) == ([1, 2], True)
    assert ([one.alias for one in second.nodes], second.more) == ([3], False)


async def test_nobody_is_told_what_no_customer_can_pay(world: World) -> None:
    await world.begin(prepaid_pico=0)
    await world.pass_epoch()
    told = await world.earned(1)
    assert (told.now_pico, told.month_pico) == (0, 0)
    assert ACCOUNT


async def test_what_a_node_does_not_prove_is_not_told(world: World) -> None:
    await world.begin(prepaid_pico=1_000 * EUR)
    await world.pass_epoch()
    await world.settle()
    # An epoch passes in which nobody proves anything: the last proofs are all that is known …
    world.clock.time_ms += 60_000
    await world.meters.read()
    told = await world.earned(1)
    assert told.now_pico > 0
    assert told.proven_bps == 10_000


async def test_who_left_gets_all_that_was_held(world: World) -> None:
    await world.begin(prepaid_pico=10_000 * EUR)
    await world.pass_epoch()
    await world.settle()
    held = (await world.earned(1)).held_pico
    assert held > 0
    # Saying so is not enough: the pieces must be elsewhere.
    await world.providers.post(1, 1_000_000, payout_account=account(1), exiting=True)
    await world.pass_epoch()
    await world.settle()
    before = await world.earned(1)
    assert before.held_pico > held
    await world.database.write(lambda c: departures.begin(c, 1, "exit", 1))
    await world.database.write(lambda c: departures.end(c, 1, 2))
    await world.pass_epoch()
    await world.settle()
    after = await world.earned(1)
    assert after.held_pico == 0
    assert after.released_pico == after.settled_pico == after.due_pico
    assert (await world.earned(2)).held_pico > 0
    # Back again: held to a bond again.
    await world.providers.post(1, 1_000_000, payout_account=account(1))
    await world.pass_epoch()
    await world.settle()
    assert (await world.earned(1)).held_pico > 0
    await world.ledger.check()


async def test_strangers_and_unreasonable_questions_are_refused(world: World) -> None:
    await world.begin()
    with pytest.raises(AtollError) as refused:
        await world.as_node(9, GetEarnings(), NodeEarnings)
    assert refused.value.kind is Kind.NOT_FOUND
    for days in (-1, 401):
        with pytest.raises(AtollError) as refused:
            await world.earned(1, days=days)
        assert refused.value.kind is Kind.BAD_REQUEST
