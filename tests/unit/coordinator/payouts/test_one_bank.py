"""One statement of the operator's bank: customers' transfers and payouts, each taken once."""

import os
from pathlib import Path

from tests.fixtures.bank import CUSTOMER_IBAN, Row, Tx
from tests.unit.coordinator.customers.world import ANNA, World, statement, transfer
from tests.unit.coordinator.market.providers import provider
from tests.unit.coordinator.payouts.test_payouts import amounts_of

from atoll.coordinator.payouts.desk import PayoutDesk
from atoll.core.messages.customers import CustomerList, ListCustomers
from atoll.core.messages.payouts import (
    ListPayouts,
    OpenPayouts,
    PayoutFileWritten,
    PayoutList,
    PayoutsOpened,
    SetPayout,
    TakeBankWords,
    WritePayoutFile,
)
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.payments.amounts import PICO_PER_CENT
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase

CENTS = 1_234
PROVIDER = Account.of(AccountKind.PROVIDER, b"pay" + (1).to_bytes(17, "big"))


async def test_a_statement_credits_customers_and_settles_payouts(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> None:
    world = World(database, tmp_path / "epochs", compute)
    await world.begin()
    (desk,) = (one for one in world.coordinator.parts if isinstance(one, PayoutDesk))
    wish = SetPayout(method="euro", name="Ada", iban=CUSTOMER_IBAN)
    await desk.node_handlers[SetPayout](wish, provider(1).public_key, world.clock.time_ms)
    owed = (
        Posting(Account.of(AccountKind.OPERATOR), CENTS * PICO_PER_CENT),
        Posting(PROVIDER, -CENTS * PICO_PER_CENT),
    )
    await world.ledger.post(Entry(os.urandom(16), "epoch", b"test", owed))
    assert (await world.ask(OpenPayouts(), PayoutsOpened)).ready_cents == CENTS
    made = await world.ask(WritePayoutFile(), PayoutFileWritten)
    ((name, cents),) = amounts_of(made.data).items()

    async def bank_state() -> tuple[str, str]:
        (one,) = (await world.ask(ListPayouts(), PayoutList)).payouts
        return one.state, one.bank_state

    left = Row((Tx(cents, end_to_end=name),), "P1", debit=True)
    data = statement(transfer(ANNA, 5_000), left)
    await world.bank_says(data, dry_run=True)
    assert await bank_state() == ("filed", "sent"), "a trial changes nothing"
    said = await world.bank_says(data)
    assert (said.credited_eur, said.waiting) == ("50.00", 0)
    assert {one.verdict for one in said.movements} == {"credit", "paid"}
    assert await bank_state() == ("filed", "paid")
    assert await world.balance(ANNA) == 5_000 * PICO_PER_CENT
    again = await world.bank_says(data)
    assert not any(one.new for one in again.movements)

    came_back = Row((Tx(cents, end_to_end=name, reason="AC04"),), "P2")
    said = await world.bank_says(statement(came_back, identification="S-2"))
    assert [one.verdict for one in said.movements] == ["returned"]
    assert said.waiting == 0, "it is nobody's to be decided"
    assert await bank_state() == ("given_back", "returned")
    assert (await world.ledger.balance(PROVIDER)).amount_pico == CENTS * PICO_PER_CENT
    assert (await world.ask(ListCustomers(), CustomerList)).waiting == []
    await world.ask(TakeBankWords(data=data), object)
    assert await bank_state() == ("given_back", "returned")
    assert (await world.ledger.balance(PROVIDER)).amount_pico == CENTS * PICO_PER_CENT
    await world.ledger.check()
    await world.close()
