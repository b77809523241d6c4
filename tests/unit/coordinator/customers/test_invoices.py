"""Invoices: one a month, numbered without gaps, to the pico what was charged; tax from balances."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.coordinator.customers.test_standing import store
from tests.unit.coordinator.customers.world import (
    ANNA,
    BEN,
    DAY_MS,
    EUR,
    INVOICES,
    World,
    statement,
    transfer,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Done
from atoll.core.messages.customers import (
    BillingAddress,
    BillingAddressFacts,
    GetBillingAddress,
    GetInvoice,
    InvoiceDocument,
    InvoiceList,
    ListInvoices,
    SetBillingAddress,
)
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.payments.invoices.model import Invoice, Vat
from atoll.economy.payments.invoices.render import parse_json
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase

CENT = EUR // 100
FACTOR = 10_000_000
"""So that some objects cost euros in an epoch."""
VAT = Account.of(AccountKind.PAYABLE, b"vat")


async def invoices(world: World, account: bytes = ANNA) -> InvoiceList:
    found: InvoiceList = await world.ask(ListInvoices(account=account), InvoiceList)
    return found


async def invoice(world: World, number: str, account: bytes = ANNA) -> tuple[Invoice, str]:
    found: InvoiceDocument = await world.ask(
        GetInvoice(account=account, number=number), InvoiceDocument
    )
    return parse_json(found.body.encode()), found.open_eur


async def dear_world(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute, vat: Vat
) -> World:
    """A world in which epochs cost euros: a demonstration's."""
    world = World(
        database,
        tmp_path / "dear",
        compute,
        time_factor=FACTOR,
        enforced=False,
        invoices=replace(INVOICES, vat=vat),
    )
    await world.begin()
    return world


async def spend(world: World) -> int:
    """Store, settle, and let the month end; return what Anna was charged in November."""
    before = await world.balance(ANNA)
    await world.coordinator.metering.read()
    await world.pass_epoch()
    charged = before - await world.balance(ANNA)
    assert charged > CENT, "something to invoice"
    assert await world.invoices.write() == 0, "the month is not over"
    world.clock.time_ms += 25 * DAY_MS
    await world.pass_epoch(proven=False)
    return charged


async def test_a_month_has_one_invoice_over_what_was_charged(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> None:
    world = await dear_world(database, tmp_path, compute, Vat(0, "small business"))
    await world.deposit(ANNA, 1_000_000 * EUR)
    await store(world, "a", "b")
    address = BillingAddress("Anna & Söhne GmbH", ["Am Deich 2", "26506 Norden"], "DE123")
    await world.ask(SetBillingAddress(account=ANNA, address=address), Done)
    charged = await spend(world)
    counts = await asyncio.gather(*(world.invoices.write() for _ in range(3)))
    assert sum(counts) == 1, "of several coordinators one writes it"
    assert await world.invoices.write() == 0
    (facts,) = (await invoices(world)).invoices
    assert (facts.number, facts.month, facts.open_eur) == ("A-2026-000001", "2026-11", "0.00")
    written, _ = await invoice(world, facts.number)
    exact = sum(one.amount_pico for one in written.lines if one.kind.value != "rounding")
    assert exact == charged
    assert written.net_cents == charged // CENT == written.prepaid_cents
    assert (written.customer.name, written.customer.vat_number) == (address.name, "DE123")
    assert (written.period_from, written.period_until) == ("2026-11-01", "2026-11-30")
    assert {one.bucket for one in written.lines if one.kind.value == "storage"} == {"photos"}
    with pytest.raises(AtollError) as caught:
        await invoice(world, facts.number, BEN)
    assert caught.value.kind is Kind.NOT_FOUND, "somebody else's"
    assert (await invoices(world, BEN)).invoices == []
    await world.close()


async def test_tax_is_drawn_as_soon_as_it_is_there(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> None:
    world = await dear_world(database, tmp_path, compute, Vat(1_900))
    await world.deposit(ANNA, 1_000_000 * EUR)
    await store(world, "a")
    charged = await spend(world)
    await world.deposit(ANNA, CENT // 2 - await world.balance(ANNA))
    assert await world.invoices.write() == 1
    (facts,) = (await invoices(world)).invoices
    tax = (charged // CENT * 1_900 + 5_000) // 10_000
    written, unpaid = await invoice(world, facts.number)
    assert written.open_cents == written.vat_cents == tax
    assert unpaid == facts.open_eur == f"{tax // 100}.{tax % 100:02}"
    await world.bank_says(statement(transfer(ANNA, tax + 500)))
    _, unpaid = await invoice(world, facts.number)
    assert unpaid == "0.00"
    assert await world.balance(ANNA) == 500 * CENT + CENT // 2
    assert (await world.ledger.balance(VAT)).amount_pico == tax * CENT
    assert await world.ledger.check()
    await world.close()


async def test_a_month_of_less_than_a_cent_has_no_invoice(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    await world.pass_epoch()
    world.clock.time_ms += 25 * DAY_MS
    await world.pass_epoch()
    assert await world.invoices.write() == 0
    assert (await invoices(world)).invoices == []
    assert (await invoices(world)).transfer.reference.startswith("RF")


async def test_an_address_is_kept_and_a_long_or_hidden_one_refused(world: World) -> None:
    address = BillingAddress("Anna", ["Am Deich 2"])
    await world.ask(SetBillingAddress(account=ANNA, address=address), Done)
    found = await world.ask(GetBillingAddress(account=ANNA), BillingAddressFacts)
    assert found.address == address
    for wrong in (
        BillingAddress("x" * 201),
        BillingAddress("\x1b[2J"),
        BillingAddress("Anna", ["line"] * 9),
    ):
        with pytest.raises(AtollError) as caught:
            await world.ask(SetBillingAddress(account=ANNA, address=wrong), Done)
        assert caught.value.kind is Kind.BAD_REQUEST
    assert (
        await world.ask(GetBillingAddress(account=ANNA), BillingAddressFacts)
    ).address == address
