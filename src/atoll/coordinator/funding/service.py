"""Credits and withdrawals of customers, and what funding tells others.

An entry of the ledger is all that is to be written: deposits and withdrawals on the chain follow
from its postings on customers' accounts, whoever posted them.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.billing import store as billing_store
from atoll.coordinator.billing.model import State
from atoll.coordinator.billing.service import chunk_name, index_name
from atoll.coordinator.funding import follow, rules, store
from atoll.coordinator.funding.acts import Acts
from atoll.coordinator.funding.books import reconcile
from atoll.coordinator.funding.model import (
    CUSTOMER_BYTES_MAX,
    FOLLOWED_EVENTS,
    FUNDED_PAUSE_S,
    REVIEW_PAUSE_S,
    EpochNeeds,
    EventName,
    Progress,
    Reconciliation,
)
from atoll.coordinator.funding.pots import Pots
from atoll.coordinator.funding.rules import OPERATOR, Places, Told
from atoll.coordinator.part import Part, Step
from atoll.coordinator.settlement.service import EMBEDDED_PAUSE_S, PUBLIC_PAUSE_S, START_PAUSE_S
from atoll.coordinator.settlement.views import PARAMETERS, Views
from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_MICRO
from atoll.core.ports import Clock, Compute, Database, Disk
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.deploy import TEST_STABLE
from atoll.economy.chain.link import ChainLink
from atoll.economy.chain.model import ChainEvent, Contract
from atoll.economy.chain.watcher import EVENTS_MAX
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posted, Posting
from atoll.economy.ledger.service import post_in
from atoll.economy.settlement.document import Figures, TotalFigures, content_hash, read_index
from atoll.economy.settlement.wire import decode_rows

log = logging.getLogger("atoll.coordinator.funding")
ROUNDS_MAX = 16
"""Of one step: after so many it lets others go on."""
WAITS_CHARACTERS_MAX = 300
_AWAY = frozenset({Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OVERLOADED})


@dataclass(frozen=True, slots=True)
class OnChain:
    """What funding needs to bring money onto a chain."""

    link: ChainLink
    secret: bytes
    """32 bytes behind customers' names in the escrow (``model.ESCROW_SALTS``)."""
    compute: Compute
    documents: Disk | None = None
    """Where epochs' documents are; None where there are no epochs."""


@dataclass(frozen=True, slots=True)
class _News:
    """What is new in the database since it was looked at last."""

    progress: Progress
    entries: bool
    document: bytes
    """Content hash of the next epoch's document; empty while it is not published."""


def credit_entry(
    customer: bytes, amount_pico: int, *, key: bytes, kind: str, evidence: bytes, source: Account
) -> Entry:
    """Return the entry by which a customer has more. Raises ``BAD_REQUEST``."""
    _check(customer, amount_pico)
    postings = (
        Posting(source, amount_pico),
        Posting(Account.of(AccountKind.CUSTOMER, customer), -amount_pico),
    )
    return Entry(key, kind, evidence, postings)


class FundingService(Part):
    """Customers' prepaid euros, in the ledger and on the chain."""

    def __init__(self, clock: Clock, database: Database, on_chain: OnChain | None = None) -> None:
        """Serve from a migrated database; without a chain there is the ledger alone."""
        self._clock = clock
        self._database = database
        self._on_chain = on_chain
        self._reviewed = self._asked = float("-inf")
        self._begins = clock.monotonic() + START_PAUSE_S
        self._connected = False
        self.waits_for = ""
        """What money on its way to the chain waits for, in words; empty for nothing."""
        self._noted = ""
        self._stirred = True
        """Whether the last round moved anything."""
        if on_chain is None:
            return
        link = on_chain.link
        self._views = Views(link)
        self._acts = Acts(clock, database, link, self._views, on_chain.secret)
        self._pots = Pots(database, link, self._views, self._acts)
        pause_s = EMBEDDED_PAUSE_S if link.config.embedded else PUBLIC_PAUSE_S
        self.steps = (Step("funding", self._paced, pause_s),)

    # --- what others ask ------------------------------------------------------------------------

    async def credit(
        self,
        customer: bytes,
        amount_pico: int,
        *,
        key: bytes,
        kind: str,
        evidence: bytes,
        source: Account = OPERATOR,
    ) -> Posted:
        """Give a customer credit: durable on return, once per ``key``; its deposit follows.

        ``customer``: his id in the ledger. ``amount_pico``: pico-euro, above 0; what is below a
        stablecoin unit is deposited together with a later credit. ``key``: 1 … 64 bytes; the same
        credit under it again does nothing. ``kind``: a word for statements (``deposit``,
        ``top-up``). ``evidence``: what it rests on. ``source``: the account that has more (an
        asset, as a bank's) or less by it; the operator's unless named.

        Whoever has entries already (a bank's statement) posts them himself, by ``post_in``: what
        they credit customers with is deposited all the same.

        Raises ``BAD_REQUEST``, and ``REPLAYED`` where the key was used for something else.
        """
        entry = credit_entry(
            customer, amount_pico, key=key, kind=kind, evidence=evidence, source=source
        )
        return await self._post(entry)

    async def withdraw(
        self,
        customer: bytes,
        amount_pico: int,
        *,
        key: bytes,
        evidence: bytes,
        to: Account = OPERATOR,
    ) -> Posted:
        """Take from a customer's balance what is paid back to him: durable, once per ``key``.

        ``to``: what owes it to him from now on (a ``payable``), or who bears it. The escrow pays
        the operator's account after notice; that takes days on a public chain, so the customer
        is paid from what the operator has. Whole stablecoin units only.

        Raises ``BAD_REQUEST``, ``PRECONDITION_FAILED`` where he has less, ``REPLAYED`` as
        ``credit`` does.
        """
        _check(customer, amount_pico)
        if amount_pico % PICO_PER_MICRO:
            raise _bad("a withdrawal is of whole stablecoin units (1e-6 EUR)")
        postings = (
            Posting(Account.of(AccountKind.CUSTOMER, customer), amount_pico),
            Posting(to, -amount_pico),
        )
        return await self._post(Entry(key, "withdrawal", evidence, postings))

    async def _post(self, entry: Entry) -> Posted:
        now_ms = self._clock.now_ms()
        posted = await self._database.write(partial(post_in, entries=[entry], now_ms=now_ms))
        return posted[0]

    async def funded(self, epoch: int) -> bool:
        """Say whether the distributor has the funds for all that an epoch's leaves say.

        As it was when the chain was asked last. False for an epoch that is not published, too.
        """

        def read(connection: Connection) -> bool:
            needs = store.epoch(connection, epoch)
            now = store.progress_now(connection)
            return needs is not None and needs.need_micro <= now.funded_micro

        return await self._database.read(read)

    async def escrow_key(self, customer: bytes) -> bytes:
        """Return a customer's name in the escrow, 32 bytes: whoever deposits there credits him.

        Raises ``CONFIG`` where there is no chain.
        """
        on_chain = self._require()
        owner, secret = on_chain.link.operator.address, on_chain.secret
        return await self._database.write(
            partial(follow.key_in, owner=owner, secret=secret, customer=customer)
        )

    def salt(self, customer: bytes) -> bytes:
        """Return the salt of a customer's name in the escrow. Raises ``CONFIG`` as above."""
        return rules.salt_of(self._require().secret, customer)

    async def reconciliation(self) -> Reconciliation:
        """Return the chain's sums beside those of the books.

        Raises ``CONFIG`` where there is no chain, and what the chain raises.
        """
        on_chain = self._require()
        return await reconcile(self._database, on_chain.link)

    def _require(self) -> OnChain:
        if self._on_chain is None:
            raise AtollError(
                Kind.CONFIG,
                "ask the escrow",
                "this coordinator settles on no chain",
                hint="set chain.url, or let `atoll up` start a chain",
            )
        return self._on_chain

    # --- the step -------------------------------------------------------------------------------

    async def _paced(self) -> None:
        if self._clock.monotonic() < self._begins:
            return
        try:
            await self.step()
        finally:
            if self.waits_for != self._noted:
                self._noted = self.waits_for
                words = self._noted[:WAITS_CHARACTERS_MAX]
                await self._database.write(partial(store.note_waiting, words=words))

    async def step(self) -> int:
        """Follow ledger, documents and chain, and act; return how much moved.

        What keeps it from going on is no error but told as ``waits_for``; it tries again.
        """
        on_chain = self._require()
        moved = 0
        try:
            for _ in range(ROUNDS_MAX):
                found = await self._round(on_chain)
                moved += found
                if not found:
                    break
        except AtollError as error:
            # Also where a chain forgot its contracts: the outbox makes them again.
            if error.kind not in _AWAY and self.waits_for != str(error):
                log.warning("customers' euros wait: %s", error)
            self.waits_for = str(error)
        return moved

    async def _round(self, on_chain: OnChain) -> int:
        news = await self._database.read(self._news)
        owner, secret = on_chain.link.operator.address, on_chain.secret
        moved = 0
        if news.entries:
            moved += await self._database.write(
                partial(follow.follow_ledger, owner=owner, secret=secret)
            )
        if news.document and on_chain.documents is not None:
            moved += await self._follow_document(on_chain, news)
        contracts = await on_chain.link.contracts()
        if not await self._stands(on_chain, contracts):
            self.waits_for = "the contracts are not on the chain yet"
            return moved
        now = self._clock.monotonic()
        looks = now - self._reviewed >= REVIEW_PAUSE_S
        moved += await self._follow_events(on_chain, news.progress, contracts, looks=looks)
        if looks:
            self._reviewed = now
            moved += await self._acts.review()
        # All customers are looked through, so only where something has happened.
        stirred = bool(moved) or self._stirred or looks
        if stirred:
            moved += await self._acts.begin()
        moved += await self._acts.step()
        moved += await self._pots.step(may_open=stirred or bool(moved))
        if not self._pots.busy:
            moved += await self._fund(now)
        self.waits_for = self._acts.waits_for or self._pots.waits_for or self._pots.lacks
        self._stirred = bool(moved)
        return moved

    async def _fund(self, now: float) -> bool:
        """Ask for the distributor's funds where they may have changed, and see to them."""
        if await self._database.read(_is_funded) and now - self._asked < FUNDED_PAUSE_S:
            return False
        self._asked = now
        return await self._pots.fund()

    def _news(self, connection: Connection) -> _News:
        now = store.progress_now(connection)
        row = billing_store.one(connection, now.epoch_known + 1)
        published = row is not None and row.state is State.PUBLISHED
        return _News(
            progress=now,
            entries=ledger_store.head(connection)[0] > now.entry,
            document=row.content if row is not None and published else b"",
        )

    async def _stands(self, on_chain: OnChain, contracts: Mapping[str, Contract]) -> bool:
        """Say whether the contracts stand and are connected."""
        stable = on_chain.link.config.stable or contracts.get(TEST_STABLE)
        if not stable or any(name not in contracts for name in (*rules.SPEAKERS, PARAMETERS)):
            return False
        if not self._connected:
            found = str(await self._views.ask(rules.ESCROW, "distributor"))
            self._connected = bool(int(found, 16))
        return self._connected

    async def _follow_document(self, on_chain: OnChain, news: _News) -> bool:
        epoch = news.progress.epoch_known + 1
        assert on_chain.documents is not None
        read = partial(_read_document, on_chain.documents, epoch, news.document)
        released, held, result, after = await on_chain.compute.run(read)

        def keep(connection: Connection) -> bool:
            before = store.epoch(connection, epoch - 1)
            needs = rules.needs_of(before, epoch, released, held, result, after)
            return follow.follow_document(connection, needs)

        return await self._database.write(keep)

    async def _follow_events(
        self, on_chain: OnChain, now: Progress, contracts: Mapping[str, Contract], *, looks: bool
    ) -> int:
        """Post new events; where there are any, or it is time to look, see to lost ones, too."""
        watcher = on_chain.link.watcher
        found = await watcher.events(now.event, FOLLOWED_EVENTS)
        if not found and not looks:
            return 0
        addresses = {name: contracts[name].address for name in rules.SPEAKERS}
        places = Places(on_chain.link.operator.address, addresses)
        lost = _told(await watcher.retracted(), addresses)
        now_ms = self._clock.now_ms()
        moved = await self._come_back(on_chain, {one.event for one in lost}, places, now_ms)
        if not found and not lost:
            return moved
        told = _told(found, addresses)
        last = found[-1].serial if found else now.event
        post = partial(
            follow.follow_events, told=told, lost=lost, last=last, places=places, now_ms=now_ms
        )
        return moved + await self._database.write(post) + len(found)

    async def _come_back(
        self,
        on_chain: OnChain,
        lost: Collection[EventName],
        places: Places,
        now_ms: int,
    ) -> int:
        """Post again what had been lost and is there again."""
        undone = await self._database.read(partial(store.undone, limit=EVENTS_MAX))
        back = undone - set(lost)
        if not back:
            return 0
        events = await on_chain.link.watcher.named(sorted(back))
        told = _told(events, places.addresses)
        return await self._database.write(
            partial(follow.come_back, told=told, places=places, now_ms=now_ms)
        )


def _is_funded(connection: Connection) -> bool:
    now = store.progress_now(connection)
    needs: EpochNeeds | None = store.epoch(connection, now.epoch_known)
    return needs is None or needs.need_micro <= now.funded_micro


def _told(found: Sequence[ChainEvent], addresses: Mapping[str, bytes]) -> list[Told]:
    """Read events of contracts that move money."""
    names = {address: name for name, address in addresses.items()}
    told = []
    for event in found:
        name = names.get(event.address)
        read = abi.read_event(load(name), event) if name is not None else None
        if name is not None and read is not None:
            told.append(
                Told(
                    event.serial,
                    name,
                    *read,
                    event.address,
                    event.transaction,
                    event.ordinal,
                )
            )
    return told


def _read_document(
    documents: Disk, epoch: int, content: bytes
) -> tuple[int, int, Figures, TotalFigures]:
    """Return what an epoch's document says of released, held, result and totals. Blocks.

    Raises ``CORRUPT`` where the files are not those that were published.
    """
    encoded = documents.read(index_name(epoch))
    if content_hash(encoded) != content:
        raise _broken(epoch)
    index = read_index(encoded)

    def rows(section: str, kind: type[Any]) -> Any:
        entry = next((one for one in index.chunks if one.section == section), None)
        body = documents.read(chunk_name(entry.sha256)) if entry is not None else b""
        if entry is None or hashlib.sha256(body).digest() != entry.sha256:
            raise _broken(epoch)
        return decode_rows(body, kind)[0]

    return (
        index.released_micro,
        index.held_micro,
        rows("result", Figures),
        rows("after", TotalFigures),
    )


def _broken(epoch: int) -> AtollError:
    return AtollError(
        Kind.CORRUPT,
        "read epoch",
        f"the files of epoch {epoch} are not those that were published",
        hint="`atoll epoch recompute` names what differs; take them from a mirror",
    )


def _check(customer: bytes, amount_pico: int) -> None:
    if not 0 < len(customer) <= CUSTOMER_BYTES_MAX:
        raise _bad("a customer has an id")
    if amount_pico <= 0:
        raise _bad("an amount is above nothing")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "move a customer's money", message)
