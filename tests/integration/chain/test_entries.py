"""Nodes' entries in the registry of a real chain: signed by the node, sent by its coordinator."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fixtures.chain import LocalChain, open_chain
from tests.unit.coordinator.market.providers import Providers, provider
from tests.unit.coordinator.metadata.world import StillClock

from atoll.coordinator.reputation.model import LIMITS, Limits, Standing
from atoll.coordinator.reputation.service import ReputationService
from atoll.coordinator.settlement.service import SettlementConfig, SettlementService
from atoll.coordinator.slashing.entries import EntryService
from atoll.coordinator.slashing.pages import SlashPages
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Message
from atoll.core.messages.entries import AskEntry, EntryTerms, PostEntry
from atoll.core.ports import Address, Chain
from atoll.core.proofs.signed import Signed, decode_statement
from atoll.economy.chain.link import LinkConfig
from atoll.economy.chain.registry import describe, description_hash, read_description
from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.slashes import entry_key
from atoll.node.entry import ChainEntry
from atoll.node.link import Link
from atoll.runtime.database import SqlDatabase, migrate

pytestmark = pytest.mark.xdist_group("chain")
NODE, OTHER = provider(1), provider(2)
OWNER, THIEF = Signer.derived(b"o" * 32, "payout"), Signer.derived(b"t" * 32, "payout")


class Office:
    """A coordinator with a chain, and nodes that ask it about their entries."""

    def __init__(self, database: SqlDatabase, server: LocalChain, limits: Limits) -> None:
        self.database = database
        self.clock = StillClock()
        self.providers = Providers(database, self.clock)
        registry = self.providers.registry
        self.reputation = ReputationService(
            self.clock, database, registry, "local", judges=True, limits=limits
        )

        async def open_it() -> Chain:
            return await open_chain(server.url)

        config = SettlementConfig(open_it, LinkConfig(time_divisor=3_600))
        self.settlement = SettlementService(self.clock, database, b"e" * 32, config)
        self.entries = EntryService(
            self.clock, database, registry, self.reputation, self.settlement
        )

    async def open(self) -> None:
        await self.settlement.link.deploy(lambda _: None)

    async def ask(self, who: Identity, message: Message) -> Any:
        handler = self.entries.node_handlers[type(message)]
        return await handler(message, who.public_key, 0)

    async def settle(self) -> None:
        """Send what is wanted until it stands."""
        for _ in range(200):
            await self.settlement.link.step()
            if not (await self.settlement.link.outbox.state()).pending:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it does not stand")

    async def is_active(self, who: Identity, owner: Signer = OWNER) -> bool:
        key = entry_key(who.node_id, owner.address)
        return bool(await self.settlement.views.ask("NodeRegistry", "is_active", key))

    def node(self, who: Identity, signer: Signer = OWNER) -> ChainEntry:
        """The part of a node that enters it."""
        link = Link(Address("127.0.0.1", 9_000), registered=True)

        async def ask(_: Link, message: Message, answer: type[Any]) -> Any:
            found = await self.ask(who, message)
            assert isinstance(found, answer)
            return found

        return ChainEntry(self.clock, who, signer.address, signer.sign_digest, [link], ask)


@pytest.fixture
async def office(server: LocalChain, folder: Path) -> AsyncIterator[Office]:
    url = f"sqlite:///{folder}/coordinator.db"
    migrate(url)
    database = SqlDatabase(url)
    made = Office(database, server, LIMITS["local"])
    await made.open()
    yield made
    await made.settlement.stop()
    await database.close()


async def test_a_node_is_entered_once(office: Office) -> None:
    await office.providers.post(1, payout_account=OWNER.address)
    part = office.node(NODE)
    await part.step()
    await office.settle()
    assert await office.is_active(NODE)
    for _ in range(3):
        office.clock.time_ms += 24 * 3_600_000
        await part.step()
    state = await office.settlement.link.outbox.state()
    assert state.pending == state.refused == 0
    terms: EntryTerms = await office.ask(NODE, AskEntry())
    assert terms.is_active
    key = entry_key(NODE.node_id, OWNER.address)
    _, owner, payout, hash_, _, _ = await office.settlement.views.ask("NodeRegistry", "nodes", key)
    assert owner == payout == "0x" + OWNER.address.hex()
    page = await SlashPages(office.database).page(f"/v1/entries/{hash_.hex()}", "")
    said = read_description(decode_statement(page.body, Signed))
    assert (said.node_key, said.owner) == (NODE.public_key, OWNER.address)


async def test_only_what_the_account_signed_is_sent(office: Office) -> None:
    await office.providers.post(1, payout_account=OWNER.address)
    await office.providers.post(2, payout_account=THIEF.address)
    terms: EntryTerms = await office.ask(NODE, AskEntry())
    assert terms.registry

    async def refused(post: PostEntry, who: Identity = NODE) -> Kind:
        with pytest.raises(AtollError) as caught:
            await office.ask(who, post)
        return caught.value.kind

    chain_id, registry = terms.chain_id, terms.registry
    good = describe(NODE, OWNER.address, chain_id, registry)
    signature = THIEF.sign_digest(description_hash(good))
    post = PostEntry(description=good, deadline_s=terms.deadline_s, signature=signature)
    assert await refused(post) is Kind.BAD_REQUEST, "the account did not sign"
    for description in (
        describe(NODE, THIEF.address, chain_id, registry),
        describe(OTHER, OWNER.address, chain_id, registry),
        describe(NODE, OWNER.address, 1, registry),
        describe(NODE, OWNER.address, chain_id, bytes(20)),
        b"x" * 5_000,
    ):
        changed = msgspec.structs.replace(post, description=description)
        assert await refused(changed) is Kind.BAD_REQUEST
    for spoilt in (b"x", good[:-1] + b"\0"):
        changed = msgspec.structs.replace(post, description=spoilt)
        assert await refused(changed) in (Kind.CORRUPT, Kind.UNAUTHENTICATED)
    assert await refused(msgspec.structs.replace(post, signature=b"s")) is Kind.BAD_REQUEST
    assert await refused(post, provider(9)) is Kind.NOT_FOUND
    await office.settle()
    assert not await office.is_active(NODE)
    assert not await office.is_active(NODE, THIEF)


async def test_keys_that_have_proven_nothing_cost_nobody_anything(
    server: LocalChain, folder: Path
) -> None:
    url = f"sqlite:///{folder}/strict.db"
    migrate(url)
    database = SqlDatabase(url)
    office = Office(database, server, replace(LIMITS["local"], founding_ms=0))
    await office.open()
    await office.providers.post(1, payout_account=OWNER.address)
    assert office.reputation.standing(1) is Standing.UNVETTED
    terms: EntryTerms = await office.ask(NODE, AskEntry())
    assert not terms.registry
    post = PostEntry(description=b"", deadline_s=1, signature=b"")
    with pytest.raises(AtollError) as caught:
        await office.ask(NODE, post)
    assert caught.value.kind is Kind.PRECONDITION_FAILED
    await office.providers.post(2)
    assert not (await office.ask(OTHER, AskEntry())).registry, "it names no account"
    await office.settlement.stop()
    await database.close()
