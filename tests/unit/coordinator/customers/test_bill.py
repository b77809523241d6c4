"""Bills: to the pico what the ledger charged, by bucket; budgets, alerts, projections."""

from pathlib import Path

import pytest
from tests.unit.coordinator.customers.test_standing import BODY, store
from tests.unit.coordinator.customers.world import (
    ANNA,
    BEN,
    DAY_MS,
    EUR,
    LENGTH_MS,
    World,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Done
from atoll.core.messages.customers import Bill, SetBudget
from atoll.core.money import MONTH_MS, parse_euro
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase


def pico(text: str) -> int:
    return parse_euro(text)


async def budget(world: World, euros: str, *, stops: bool = True) -> None:
    await world.ask(SetBudget(account=ANNA, budget_eur=euros, stops=stops), Done)


async def test_a_settled_bill_is_what_the_ledger_charged_by_bucket(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a", "b")
    await world.anna("PUT", "/films")
    await world.anna("PUT", "/films/f", body=BODY)
    await world.coordinator.metering.read()
    for _ in range(3):
        await world.pass_epoch()
    bill = await world.bill()
    paid = EUR - await world.balance(ANNA)
    assert paid > 0
    running = pico(bill.running_eur)
    assert pico(bill.to_date_eur) - running == paid
    assert bill.settled_epoch == 3
    named = {one.bucket: one for one in bill.lines}
    assert set(named) == {"photos", "films"}
    assert sum(pico(one.to_date_eur) for one in bill.lines) == pico(bill.to_date_eur)
    twice, once = pico(named["photos"].storage_eur), pico(named["films"].storage_eur)
    assert abs(twice - 2 * once) * 100 < twice, "two objects cost as two"
    assert pico(bill.available_eur) == EUR - paid - running
    assert (await world.bill(BEN)).lines == []


async def test_what_was_not_proven_is_given_back(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.pass_epoch(proven=False)
    bill = await world.bill()
    assert await world.balance(ANNA) == EUR
    (line,) = bill.lines
    settled = pico(line.storage_eur) - pico(bill.running_eur)
    assert pico(line.returned_eur) == settled > 0
    assert bill.to_date_eur == bill.running_eur


async def test_what_nobody_could_pay_is_told_and_not_charged(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.deposit(ANNA, 1_000 - EUR)
    await world.pass_epoch()
    bill = await world.bill()
    assert 0 <= await world.balance(ANNA) < 1_000
    assert pico(bill.to_date_eur) - pico(bill.running_eur) == 1_000 - await world.balance(ANNA)
    assert pico(bill.unfunded_eur) > 1_000


async def test_a_bill_grows_between_epochs_by_what_the_month_costs(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    world.clock.time_ms += 1_000
    await world.coordinator.metering.read()
    before = await world.bill()
    world.clock.time_ms += DAY_MS
    after = await world.bill()
    rate = pico(before.rate_eur)
    grown = pico(after.to_date_eur) - pico(before.to_date_eur)
    assert abs(grown - rate // 30) <= 10, "a day is a thirtieth of a month"
    left_ms = 1_796_083_200_000 - after.time_ms  # 1 December 2026
    assert (
        abs(pico(after.projected_eur) - pico(after.to_date_eur) - rate * left_ms // MONTH_MS) <= 1
    )
    assert after.empty_ms == 0, "a euro lasts longer than ten years"
    await world.deposit(ANNA, pico(after.running_eur) + rate - EUR)
    lasts = await world.bill()
    assert abs(lasts.empty_ms - lasts.time_ms - MONTH_MS) < 60_000


async def test_another_month_has_its_own_bill(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.pass_epoch()
    paid = EUR - await world.balance(ANNA)
    world.clock.time_ms += 30 * DAY_MS
    november = await world.bill(month="2026-11")
    assert (pico(november.to_date_eur), november.projected_eur) == (paid, november.to_date_eur)
    december = await world.bill()
    assert december.month == "2026-12"
    assert december.to_date_eur == december.running_eur
    with pytest.raises(AtollError) as caught:
        await world.bill(month="november")
    assert caught.value.kind is Kind.BAD_REQUEST


async def test_a_budget_tells_at_75_and_stops_uploads_at_100_percent(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> None:
    world = World(database, tmp_path / "fast", compute, time_factor=100_000)
    await world.begin()
    await world.deposit(ANNA, 1_000 * EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.wait(1_000)
    world.clock.time_ms += DAY_MS
    used = pico((await world.bill()).to_date_eur)
    micro = used * 10 // 8 // 10**6 + 1
    await budget(world, f"0.{micro:06}")
    bill = await world.bill()
    assert [one.kind for one in bill.notices if "budget" in one.kind] == ["budget_75"]
    assert not bill.refused
    await world.wait(DAY_MS)
    bill = await world.bill()
    assert [one.kind for one in bill.notices if "budget" in one.kind] == [
        "budget_100", "budget_75",
    ]  # fmt: skip
    refused = await world.anna("PUT", "/photos/b", body=BODY)
    assert (refused.code, bill.refused, bill.standing) == ("AccountProblem", "budget", "active")
    assert b"atoll bill budget" in refused.body
    assert (await world.anna("GET", "/photos/a")).body == BODY
    await world.wait(DAY_MS)
    assert len((await world.bill()).notices) == len(bill.notices), "each is told once"
    await budget(world, "5")
    assert (await world.anna("PUT", "/photos/b", body=BODY)).status == 200
    await budget(world, "0.000001", stops=False)
    assert (await world.anna("PUT", "/photos/c", body=BODY)).status == 200, "only told"
    await budget(world, "0.000001")
    assert (await world.anna("PUT", "/photos/d", body=BODY)).status == 403
    await budget(world, "")
    assert (await world.bill()).budget_eur == ""
    assert (await world.anna("PUT", "/photos/d", body=BODY)).status == 200
    await world.close()


@pytest.mark.parametrize("euros", ["-1", "1.0000001", "many", "1e3", "1000000001"])
async def test_a_budget_that_is_none_is_refused(world: World, euros: str) -> None:
    with pytest.raises(AtollError) as caught:
        await budget(world, euros)
    assert caught.value.kind is Kind.BAD_REQUEST
    assert (await world.bill()).budget_eur == ""


async def test_a_demonstration_charges_each_second_as_many(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> None:
    world = World(database, tmp_path / "fast", compute, time_factor=1_000)
    await world.begin()
    await world.deposit(ANNA, 100 * EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    world.clock.time_ms += 1_000
    await world.coordinator.metering.read()
    before = await world.bill()
    world.clock.time_ms += LENGTH_MS
    running = await world.bill()
    grown = pico(running.to_date_eur) - pico(before.to_date_eur)
    assert abs(grown - pico(before.rate_eur) * 1_000 * LENGTH_MS // MONTH_MS) <= 10_000
    world.clock.time_ms -= LENGTH_MS
    await world.pass_epoch()
    bill = await world.bill()
    settled = 100 * EUR - await world.balance(ANNA)
    assert pico(bill.to_date_eur) - pico(bill.running_eur) == settled
    await world.close()


async def test_books_that_were_cut_off_are_taken_over_once(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.pass_epoch()
    first: Bill = await world.bill()
    other = type(world.books)(
        world.database,
        world.compute,
        world.books._disk,
        world.books._secret,
    )
    assert not await other.take()
    assert (await world.bill()).lines == first.lines


async def test_reading_stands_under_all_buckets_while_it_runs_and_when_it_is_settled(
    world: World,
) -> None:
    from atoll.core.money import GB_BYTES

    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.wait(1_000)
    stored = await world.bill()
    await read_bytes(world, GB_BYTES)
    price = world.coordinator.market.tariff.of("home").egress_pico
    running = {one.bucket: one for one in (await world.bill()).lines}
    fee = pico(running[""].egress_eur)
    assert price < fee < price * 12 // 10, "the price of a GB, take included"
    assert pico(running["photos"].egress_eur) == 0
    grown = pico((await world.bill()).to_date_eur) - pico(stored.to_date_eur)
    assert grown == fee
    await world.pass_epoch()
    settled = {one.bucket: one for one in (await world.bill()).lines}
    assert pico(settled[""].egress_eur) == fee
    bill = await world.bill()
    assert pico(bill.to_date_eur) - pico(bill.running_eur) == EUR - await world.balance(ANNA)


async def read_bytes(world: World, count: int) -> None:
    """Take down that Anna read so much at a node, as receipts would show it."""
    from atoll.coordinator.traffic import store as traffic_store

    alias = min(one.alias for one in world.coordinator.registry.nodes())
    await world.database.write(
        lambda c: traffic_store._ADD_LINE.run(
            c, alias=alias, account=ANNA, byte_count=count, evidence=b""
        )
    )


async def test_where_nothing_is_charged_nothing_is_owed_and_nobody_is_refused(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> None:
    world = World(database, tmp_path / "free", compute, charged=False, enforced=False)
    await world.begin()
    await world.customers.judge()
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.wait(30 * DAY_MS)
    bill = await world.bill()
    assert not bill.charged
    assert (bill.to_date_eur, bill.running_eur, bill.available_eur) == ("0.00",) * 3
    assert pico(bill.rate_eur) > 0, "what it would cost"
    assert world.admission.guards == {}
    assert [step.name for step in world.loops.steps] == ["take epochs over"]
    await world.close()


async def test_of_two_who_change_a_customer_neither_undoes_the_other(world: World) -> None:
    import asyncio

    from atoll.core.messages.customers import (
        BillingAddress,
        BillingAddressFacts,
        GetBillingAddress,
        SetBillingAddress,
    )

    address = SetBillingAddress(account=BEN, address=BillingAddress("Ben", ["Am Deich 3"]))
    await asyncio.gather(
        world.ask(address, Done),
        world.ask(SetBudget(account=BEN, budget_eur="7"), Done),
        world.customers.judge(),
    )
    kept = await world.ask(GetBillingAddress(account=BEN), BillingAddressFacts)
    assert kept.address.name == "Ben"
    assert (await world.bill(BEN)).budget_eur == "7.00"
    stranger = b"z" * 16
    with pytest.raises(AtollError) as caught:
        await world.ask(SetBudget(account=stranger, budget_eur="7"), Done)
    assert caught.value.kind is Kind.NOT_FOUND
