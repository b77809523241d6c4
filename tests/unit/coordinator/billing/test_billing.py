"""Epochs from meters to a document: once, in full, the same bytes whatever dies in between."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.market.providers import Providers, provider
from tests.unit.coordinator.metadata.world import ACCOUNT, Metadata, StillClock, tiny

from atoll.coordinator.audit import store as audit_store
from atoll.coordinator.audit.model import PASSED, Result
from atoll.coordinator.billing import rules, store
from atoll.coordinator.billing.model import BillingConfig, EpochFacts, State
from atoll.coordinator.billing.pages import EpochPages
from atoll.coordinator.billing.service import BillingService
from atoll.coordinator.market.rules import price_of
from atoll.coordinator.market.service import MarketService
from atoll.coordinator.metering.model import MeteringConfig
from atoll.coordinator.metering.service import MeteringService
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import LedgerService
from atoll.economy.settlement.document import Document, content_hash, read, read_index
from atoll.economy.settlement.model import FIRST
from atoll.economy.settlement.recompute import recompute
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk

SLOT_MS = 10_000
LENGTH_MS = 600_000
EUR = 10**12
SIZE = 40_000_000
COORDINATOR = Identity(b"c" * 32)
SECRET = b"s" * 32
CUSTOMER = Account.of(AccountKind.CUSTOMER, ACCOUNT)
OPERATOR = Account.of(AccountKind.OPERATOR)


def account(number: int) -> bytes:
    return b"pay" + number.to_bytes(17, "big")


class FullDisk(FolderDisk):
    """Fails after so many files, like a process that was killed while it wrote them."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left = left

    def replace(self, name: str, content: bytes) -> None:
        if not self.left:
            raise AtollError(Kind.DISK_FULL, "replace file", "no room")
        self.left -= 1
        super().replace(name, content)


class World:
    """A customer's bucket on three nodes, meters, a market, and what bills it."""

    def __init__(self, database: SqlDatabase, folder: Path, compute: ThreadCompute) -> None:
        self.database = database
        self.folder = folder
        self.compute = compute
        self.clock = StillClock()
        self.metadata = Metadata(database, self.clock)
        self.providers = Providers(database, self.clock)
        self.ledger = LedgerService(self.clock, database)
        self.slot = self.clock.time_ms // SLOT_MS
        self.meters = MeteringService(
            self.clock,
            database,
            self.providers.registry,
            MeteringConfig(1.0),
            price_of=price_of,
            slot_ms=SLOT_MS,
        )
        self.market = MarketService(
            self.clock,
            database,
            self.providers.registry,
            proven=lambda _: True,
            score_bps=lambda _: 10_000,
        )

    def biller(self, disk: FolderDisk | None = None, length_max_ms: int = 0) -> BillingService:
        """A process that knows only what is durable."""
        return BillingService(
            self.clock,
            self.database,
            self.compute,
            self.providers.registry,
            self.market,
            self.meters,
            BillingConfig(LENGTH_MS, disk or FolderDisk(self.folder), length_max_ms=length_max_ms),
            public_key=COORDINATOR.public_key,
            secret=SECRET,
        )

    def pages(self) -> EpochPages:
        return EpochPages(
            self.database, self.compute, BillingConfig(LENGTH_MS, FolderDisk(self.folder))
        )

    async def begin(self, *, prepaid_pico: int = EUR) -> None:
        for number in (1, 2, 3):
            await self.providers.post(number, 1_000_000, payout_account=account(number))
        bucket = await self.metadata.make_bucket()
        await self.metadata.put(bucket, "a", [tiny(SIZE)])
        if prepaid_pico:
            await self.move(prepaid_pico, b"deposit")
        assert await self.biller().advance(), "epochs begin"
        await self.meters.read()

    async def move(self, amount_pico: int, key: bytes) -> None:
        """The customer pays in; or, below nothing, takes out."""
        await self.ledger.post(
            Entry(
                key,
                "deposit",
                b"bank",
                (Posting(OPERATOR, amount_pico), Posting(CUSTOMER, -amount_pico)),
            )
        )

    async def pass_epoch(self) -> None:
        """Let an epoch's time pass; all nodes prove what they hold."""
        self.clock.time_ms += LENGTH_MS + 5 * SLOT_MS
        await self.meters.read()
        end = self.clock.time_ms // SLOT_MS
        for slot in range(self.slot, end, 10):
            for alias in (1, 2, 3):
                result = Result(slot, alias, PASSED, 32, 0, (), os.urandom(20))
                await self.database.write(lambda c, r=result: audit_store.add_result(c, r))
        self.slot = end

    async def settle(self) -> None:
        biller = self.biller()
        for _ in range(3):
            assert await biller.advance()
        assert not await biller.advance(), "there is nothing more to do"

    async def state(self) -> State:
        row = await self.database.read(store.newest)
        assert row is not None
        return row.state

    async def document(self, epoch: int) -> Document:
        """Read a document as a stranger does."""
        pages = self.pages()
        facts = msgspec.json.decode(
            (await pages.page(f"/v1/epochs/{epoch}", "")).body, type=EpochFacts
        )
        index = (await pages.page(f"/v1/epochs/{epoch}/index", "")).body
        chunks = [
            (await pages.page(f"/v1/epochs/chunks/{entry.sha256.hex()}", "")).body
            for entry in read_index(index).chunks
        ]
        return read(index, chunks, bytes.fromhex(facts.content))

    async def balance(self, kind: AccountKind, owner: bytes) -> int:
        return (await self.ledger.balance(Account.of(kind, owner))).amount_pico


@pytest.fixture
def compute() -> Iterator[ThreadCompute]:
    made = ThreadCompute()
    yield made
    made.close()


@pytest.fixture
def world(database: SqlDatabase, tmp_path: Path, compute: ThreadCompute) -> World:
    return World(database, tmp_path / "epochs", compute)


async def test_an_epoch_is_computed_posted_and_published(world: World) -> None:
    await world.begin()
    assert not await world.biller().advance(), "its time has not come"
    await world.pass_epoch()
    await world.settle()
    document = await world.document(1)
    assert recompute(document) == []
    result = document.content.result
    assert len(result.nodes) == 3
    assert all(one.earned_pico for one in result.nodes)
    for number in (1, 2, 3):
        node = next(one for one in result.nodes if one.node == provider(number).node_id)
        assert node.account == account(number)
        assert node.withheld_pico == node.earned_pico // 4
        assert await world.balance(AccountKind.PROVIDER, account(number)) == node.released_pico
        assert await world.balance(AccountKind.HELD, node.node) == node.held_pico
    paid = sum(one.charge_pico - one.refund_pico for one in result.customers)
    assert paid
    assert await world.balance(AccountKind.CUSTOMER, ACCOUNT) == EUR - paid
    assert await world.ledger.check() == 2
    assert ACCOUNT not in b"".join(
        path.read_bytes() for path in world.folder.rglob("*") if path.is_file()
    ), "customers appear by pseudonyms alone"


async def test_epochs_follow_each_other(world: World) -> None:
    await world.begin()
    for _ in range(3):
        await world.pass_epoch()
        await world.settle()
    documents = [await world.document(epoch) for epoch in (1, 2, 3)]
    assert [recompute(one) for one in documents] == [[], [], []]
    assert recompute(documents[2], documents[1]) == []
    assert recompute(documents[2], documents[0]) != []
    listed = msgspec.json.decode((await world.pages().page("/v1/epochs", "")).body)
    assert [one["epoch"] for one in listed] == [3, 2, 1]
    older = msgspec.json.decode((await world.pages().page("/v1/epochs", "before=3")).body)
    assert [one["epoch"] for one in older] == [2, 1]
    released = documents[2].content.result.totals.accounts
    for one in released:
        found = await world.balance(AccountKind.PROVIDER, one.account)
        assert found == one.released_pico


async def test_a_process_that_dies_between_steps_leads_to_the_same_bytes(world: World) -> None:
    await world.begin()
    await world.pass_epoch()
    closed = await world.meters.close(1)
    world.clock.time_ms += 60_000
    assert await world.biller().advance(), "closed by the meters, not frozen yet"
    row = await world.database.read(store.newest)
    assert row is not None
    assert (row.from_ms, row.until_ms) == (closed.from_ms, closed.until_ms)
    body = await world.database.read(lambda c: store.body_of(c, 1, store.INPUTS))
    expected = rules.make(
        rules.unpack_frozen(body), FIRST, SECRET, COORDINATOR.public_key
    ).published
    for number in (1, 2, 3):
        await world.providers.post(number, 9_000_000, payout_account=account(9))
    await world.market.move()
    world.clock.time_ms += 60_000
    assert await world.biller().advance()
    assert await world.state() is State.COMPUTED
    for left in range(len(expected.chunks) + 1):
        with pytest.raises(AtollError) as caught:
            await world.biller(FullDisk(world.folder, left)).advance()
        assert caught.value.kind is Kind.DISK_FULL
        assert await world.state() is State.COMPUTED
        with pytest.raises(AtollError):
            await world.pages().page("/v1/epochs/1/index", "")
    assert await world.biller().advance()
    assert await world.state() is State.PUBLISHED
    document = await world.document(1)
    assert document.content_hash == expected.content_hash
    assert await world.ledger.check() == 2, "posted once"


@pytest.mark.parametrize(
    ("running_s", "length_s"), [(0, 30), (299, 30), (310, 31), (36_000, 3_600), (10**7, 3_600)]
)
def test_epochs_grow_where_they_may(tmp_path: Path, running_s: int, length_s: int) -> None:
    """Who looks on sees them pass; a cloud left alone has few."""
    fixed = BillingConfig(30_000, FolderDisk(tmp_path))
    grows = replace(fixed, length_max_ms=3_600_000)
    assert rules.length_of(grows, running_s * 1000) == length_s * 1000
    assert rules.length_of(fixed, running_s * 1000) == 30_000


async def test_an_epoch_waits_for_its_length(world: World) -> None:
    await world.begin()
    biller = world.biller(length_max_ms=10 * LENGTH_MS)
    world.clock.time_ms += 20 * LENGTH_MS
    for _ in range(3):
        assert await biller.advance(), "closed, computed, published"
    world.clock.time_ms += 3 * LENGTH_MS // 2
    assert not await biller.advance(), "it has run for long: the next is twice as long"
    assert await world.biller(length_max_ms=10 * LENGTH_MS).advance(), "one that just started"


async def test_who_has_prepaid_nothing_is_charged_nothing(world: World) -> None:
    await world.begin(prepaid_pico=0)
    await world.pass_epoch()
    await world.settle()
    document = await world.document(1)
    (customer,) = document.content.result.customers
    assert customer.charge_pico == 0 < customer.unfunded_pico
    assert recompute(document) == []
    assert await world.ledger.check() == 0


async def test_money_spent_after_the_close_is_not_spent_twice(world: World) -> None:
    await world.begin()
    await world.pass_epoch()
    biller = world.biller()
    assert await biller.advance()
    await world.move(-EUR + 1_000, b"withdrawal")
    assert await biller.advance()
    assert await world.state() is State.CLOSED, "frozen again, with what is left"
    assert await biller.advance()
    assert await biller.advance()
    document = await world.document(1)
    (customer,) = document.content.result.customers
    assert 0 < customer.charge_pico <= 1_000
    assert document.content.inputs.customers[0].limit_pico == 1_000
    assert await world.balance(AccountKind.CUSTOMER, ACCOUNT) == 1_000 - customer.charge_pico
    assert recompute(document) == []


async def test_what_was_frozen_again_is_not_posted_as_it_was_before(world: World) -> None:
    await world.begin()
    await world.pass_epoch()
    assert await world.biller().advance()
    row = await world.database.read(store.newest)
    assert row is not None
    again, late = replace(row, content=b"b" * 32), replace(row, state=State.COMPUTED)
    assert await world.database.write(lambda c: store.move(c, row, again))
    assert not await world.database.write(lambda c: store.move(c, row, late))
    assert await world.state() is State.CLOSED


async def test_nobody_is_charged_for_a_node_without_an_account(world: World) -> None:
    await world.begin()
    await world.providers.post(2, 1_000_000)
    await world.pass_epoch()
    await world.settle()
    content = (await world.document(1)).content
    paid = {provider(1).node_id, provider(3).node_id}
    assert {line.node for line in content.inputs.storage} == paid
    assert {one.node for one in content.result.nodes} == paid


async def test_two_coordinators_settle_an_epoch_once(world: World) -> None:
    await world.begin()
    await world.pass_epoch()
    other = FolderDisk(world.folder / "other")
    for _ in range(3):
        await asyncio.gather(world.biller().advance(), world.biller(other).advance())
    while await world.biller().advance():
        pass
    if other.exists("1/index"):
        world.folder = other.root
    assert await world.state() is State.PUBLISHED
    assert recompute(await world.document(1)) == []
    assert await world.ledger.check() == 2
    assert await world.database.read(lambda c: len(store.page(c, 1 << 40, 10))) == 1


async def test_a_document_that_came_out_otherwise_is_not_published(world: World) -> None:
    await world.begin()
    await world.pass_epoch()
    biller = world.biller()
    assert await biller.advance()
    assert await biller.advance()
    body = await world.database.read(lambda c: store.body_of(c, 1, store.INPUTS))
    frozen = rules.unpack_frozen(body)
    inputs = msgspec.structs.replace(frozen.inputs, until_ms=frozen.inputs.until_ms + 1)
    other = rules.pack(msgspec.structs.replace(frozen, inputs=inputs))
    await world.database.write(lambda c: store.keep_body(c, 1, store.INPUTS, other))
    with pytest.raises(AtollError) as caught:
        await world.biller().advance()
    assert caught.value.kind is Kind.CORRUPT
    assert not world.folder.exists() or not list(world.folder.rglob("index"))


async def test_only_documents_are_shown(world: World) -> None:
    await world.begin()
    await world.pass_epoch()
    await world.settle()
    await world.pass_epoch()
    assert await world.biller().advance(), "the second is closed"
    FolderDisk(world.folder).replace("2/index", b"not yet")
    index = (await world.pages().page("/v1/epochs/1/index", "")).body
    facts = msgspec.json.decode((await world.pages().page("/v1/epochs/1", "")).body)
    assert facts["content"] == content_hash(index).hex()
    second = msgspec.json.decode((await world.pages().page("/v1/epochs/2", "")).body)
    assert (second["state"], second.get("content")) == ("closed", None)
    for path in (
        "2/index",
        "3",
        "0",
        "1/",
        "1/chunks",
        "../1",
        "chunks/00",
        "chunks/" + "0" * 64,
        "01",
    ):
        with pytest.raises(AtollError) as caught:
            await world.pages().page(f"/v1/epochs/{path}", "")
        assert caught.value.kind is Kind.NOT_FOUND
