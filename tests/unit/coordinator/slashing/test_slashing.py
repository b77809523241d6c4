"""Lost data in the epoch: what was held goes to repair, customers, reporter and insurance."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.billing.test_billing import (
    COORDINATOR,
    EUR,
    LENGTH_MS,
    SECRET,
    World,
    account,
)
from tests.unit.coordinator.market.providers import provider
from tests.unit.coordinator.metadata.world import ACCOUNT
from tests.unit.core.proofs.losses import verdict_on
from tests.unit.core.proofs.world import VERIFIERS, beacon_of

from atoll.coordinator.audit import store as audit_store
from atoll.coordinator.audit.model import FAILED, Result
from atoll.coordinator.billing.model import BillingConfig
from atoll.coordinator.billing.service import BillingService
from atoll.coordinator.reputation.model import FailedSample, Standing
from atoll.coordinator.reputation.service import ReputationService
from atoll.coordinator.slashing import store
from atoll.coordinator.slashing.book import SlashBook
from atoll.coordinator.slashing.model import SlashFacts
from atoll.coordinator.slashing.pages import SlashPages
from atoll.coordinator.slashing.service import SlashingService
from atoll.core.errors import AtollError, Kind
from atoll.core.proofs.loss import check_loss
from atoll.core.proofs.signed import encode_statement
from atoll.economy.ledger.model import AccountKind
from atoll.economy.settlement.document import Content, Document
from atoll.economy.settlement.model import NodeResult
from atoll.economy.settlement.recompute import recompute
from atoll.economy.settlement.slashes import check_slashes
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk

LOSER = provider(1)
KEYS = frozenset(one.public_key for one in VERIFIERS)


class Cloud(World):
    """Three providers that are billed, judged and slashed."""

    def __init__(self, database: SqlDatabase, folder: Path, compute: ThreadCompute) -> None:
        super().__init__(database, folder, compute)
        self.reputation = ReputationService(
            self.clock, database, self.providers.registry, "local", judges=True
        )

    def biller(self, disk: FolderDisk | None = None) -> BillingService:
        return BillingService(
            self.clock,
            self.database,
            self.compute,
            self.providers.registry,
            self.market,
            self.meters,
            # An epoch is two years of fees, so that what is held pays more than the repair.
            BillingConfig(LENGTH_MS, disk or FolderDisk(self.folder), time_factor=100_000),
            public_key=COORDINATOR.public_key,
            secret=SECRET,
            slashes=SlashBook(self.database, self.compute),
        )

    def slasher(self) -> SlashingService:
        """A process that knows only what is durable."""
        return SlashingService(
            self.clock, self.database, self.compute, self.providers.registry, self.reputation
        )

    async def lose(self, alias: int = 1, failed: int = 32) -> None:
        """A node's samples fail; its verdict stands, and its reputation hears of it."""
        slot = self.slot
        signed = verdict_on(provider(alias), slot, failed)
        result = Result(slot, alias, FAILED, 32, failed, (), encode_statement(signed))
        await self.database.write(lambda c: audit_store.add_result(c, result))
        await self.database.write(lambda c: audit_store.keep_beacon(c, slot, beacon_of(slot)))
        self.slot += 1
        samples = [FailedSample(os.urandom(16), slot, reason="wrong") for _ in range(failed)]
        await self.reputation.tick()
        self.reputation.observe_possession(alias, 32 - failed, samples, slot=slot)
        self.clock.time_ms += 3_000
        await self.reputation.tick()
        assert self.reputation.standing(alias) is Standing.DISQUALIFIED

    async def facts(self) -> list[SlashFacts]:
        page = await SlashPages(self.database).page("/v1/slashes", "")
        return msgspec.json.decode(page.body, type=list[SlashFacts])


@pytest.fixture
def compute() -> Iterator[ThreadCompute]:
    made = ThreadCompute()
    yield made
    made.close()


@pytest.fixture
def cloud(database: SqlDatabase, tmp_path: Path, compute: ThreadCompute) -> Cloud:
    return Cloud(database, tmp_path / "epochs", compute)


def of_node(content: Content) -> NodeResult:
    return next(one for one in content.result.nodes if one.node == LOSER.node_id)


async def epochs(cloud: Cloud, number: int) -> Document:
    await cloud.pass_epoch()
    await cloud.settle()
    document = await cloud.document(number)
    assert recompute(document) == []
    assert check_slashes(document.content) == []
    return document


async def test_what_was_held_is_forfeited_in_the_next_epoch_and_customers_are_credited(
    cloud: Cloud,
) -> None:
    await cloud.begin(prepaid_pico=1_000 * EUR)
    first = await epochs(cloud, 1)
    held = of_node(first.content).held_pico
    assert held > 0
    await cloud.lose()
    await cloud.slasher().step()
    (told,) = await cloud.facts()
    assert (told.state, told.node, told.failed) == ("open", LOSER.node_id.hex(), 32)
    second = await epochs(cloud, 2)
    (slash,) = second.content.inputs.slashes
    assert (slash.node, slash.amount_pico, slash.evidence.hex()) == (
        LOSER.node_id,
        held,
        told.evidence,
    )
    result = second.content.result
    loser = of_node(second.content)
    assert loser.slashed_pico == held
    assert loser.held_pico == loser.withheld_pico, "only what this epoch kept back"
    credited = sum(one.credit_pico for one in result.customers)
    assert 0 < credited == held - result.slash_repair_pico - result.slash_insurance_pico
    assert result.slash_repair_pico == slash.repair_pico > 0
    assert sum(one.amount_pico for one in slash.customers) > 0
    (told,) = await cloud.facts()
    assert (told.state, told.epoch, told.taken_pico) == ("settled", 2, str(held))
    paid = sum(one.charge_pico - one.refund_pico for one in first.content.result.customers)
    paid += sum(one.charge_pico - one.refund_pico for one in result.customers)
    assert await cloud.balance(AccountKind.CUSTOMER, ACCOUNT) == 1_000 * EUR - paid + credited
    assert await cloud.balance(AccountKind.HELD, LOSER.node_id) == loser.held_pico
    third = await epochs(cloud, 3)
    assert third.content.inputs.slashes == [], "a fault is slashed once"


async def test_the_evidence_shows_the_loss_to_anybody(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.lose()
    await cloud.slasher().step()
    (told,) = await cloud.facts()
    pages = SlashPages(cloud.database)
    body = (await pages.page(f"/v1/slashes/{told.evidence}", "")).body
    loss = check_loss(body, KEYS)
    assert (loss.node_key, loss.evidence.hex()) == (LOSER.public_key, told.evidence)
    for absent in (f"/v1/slashes/{'0' * 64}", "/v1/slashes/x", f"/v1/entries/{told.evidence}"):
        with pytest.raises(AtollError) as caught:
            await pages.page(absent, "")
        assert caught.value.kind is Kind.NOT_FOUND


async def test_a_case_is_opened_once_whatever_dies(cloud: Cloud) -> None:
    await cloud.begin()
    await cloud.lose()
    service = cloud.slasher()
    await service.step()
    await service.step()
    await cloud.slasher().step()
    assert len(await cloud.facts()) == 1
    await cloud.lose(alias=2)
    await service.step()
    assert len(await cloud.facts()) == 2


async def test_who_is_disqualified_without_evidence_keeps_what_is_held(cloud: Cloud) -> None:
    await cloud.begin()
    await epochs(cloud, 1)
    await cloud.lose()
    await cloud.database.write(lambda c: audit_store.forget(c, cloud.slot))
    service = cloud.slasher()
    await service.step()
    assert await cloud.facts() == []
    document = await epochs(cloud, 2)
    assert document.content.inputs.slashes == []
    assert of_node(document.content).slashed_pico == 0


async def test_a_coordinator_that_dies_between_steps_slashes_once(cloud: Cloud) -> None:
    await cloud.begin()
    await epochs(cloud, 1)
    await cloud.lose()
    await cloud.slasher().step()
    await cloud.pass_epoch()
    assert await cloud.biller().advance(), "closed"
    assert [one.epoch for one in await cloud.database.read(lambda c: store.cases(c, 9))] == [0]
    assert await cloud.biller().advance(), "computed"
    assert [one.epoch for one in await cloud.database.read(lambda c: store.cases(c, 9))] == [2]
    assert await cloud.biller().advance(), "published"
    assert recompute(await cloud.document(2)) == []
    assert (await epochs(cloud, 3)).content.inputs.slashes == []


async def test_figures_that_do_not_follow_are_named(cloud: Cloud) -> None:
    await cloud.begin()
    await epochs(cloud, 1)
    await cloud.lose()
    await cloud.slasher().step()
    content = (await epochs(cloud, 2)).content
    (slash,) = content.inputs.slashes
    payer = slash.customers[0]
    for name, value in (
        ("amount_pico", slash.amount_pico - 1),
        ("repair_pico", slash.repair_pico + 1),
        ("customers", []),
        ("customers", [msgspec.structs.replace(payer, amount_pico=payer.amount_pico + 1)]),
        ("reporter_bps", 1),
        ("evidence", b""),
    ):
        changed = msgspec.structs.replace(slash, **{name: value})
        inputs = msgspec.structs.replace(content.inputs, slashes=[changed])
        other = Content(
            content.tariff, content.parameters, content.before, inputs, content.result, ()
        )
        assert check_slashes(other), name
    twice = msgspec.structs.replace(content.inputs, slashes=[slash, slash])
    other = Content(content.tariff, content.parameters, content.before, twice, content.result, ())
    assert "twice" in check_slashes(other)[0]


async def test_accounts_of_providers_are_told_apart(cloud: Cloud) -> None:
    """The owner that a verdict names is the account that the node is paid to."""
    await cloud.begin()
    await cloud.lose(alias=2)
    await cloud.slasher().step()
    (case,) = await cloud.database.read(lambda c: store.cases(c, 9))
    assert (case.alias, case.owner) == (2, account(2))
