"""Brings epochs on their way, one durable step after the other, and shows their documents.

Each step is one transaction or a set of files that are named by their content, so that a process
may be killed between any two: what was frozen when an epoch was closed gives the same bytes again.
Nothing waits for an epoch, and an epoch waits for nothing but time.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.billing import rules, store
from atoll.coordinator.billing.model import (
    BillingConfig,
    EpochRow,
    Frozen,
    Made,
    Providers,
    Reserved,
    Slashes,
    SoFar,
    State,
)
from atoll.coordinator.market.service import MarketService
from atoll.coordinator.metering.service import Metered, MeteringService
from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.terms import store as departures
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Compute, Database
from atoll.economy.ledger.model import Account, AccountKind
from atoll.economy.ledger.rules import epoch_entries
from atoll.economy.ledger.service import LedgerService, post_in
from atoll.economy.settlement.document import NO_DOCUMENT
from atoll.economy.settlement.model import FIRST, EpochInputs, EpochTotals, TakeParameters
from atoll.economy.tariff.model import Tariff

log = logging.getLogger("atoll.coordinator.billing")


def index_name(epoch: int) -> str:
    """Return the file of a document's index in the folder of documents."""
    return f"{epoch}/index"


def chunk_name(sha256: bytes) -> str:
    """Return the file of a chunk."""
    return f"chunks/{sha256.hex()}"


class BillingService(Part):
    """The way of epochs: begun, closed, computed and in the ledger, published."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        compute: Compute,
        registry: RegistryService,
        market: MarketService,
        metering: MeteringService,
        config: BillingConfig,
        *,
        public_key: bytes,
        secret: bytes,
        providers: Providers | None = None,
        slashes: Slashes | None = None,
        reserved: Reserved | None = None,
    ) -> None:
        """``public_key``: the coordinator's; ``secret``: 32 bytes for pseudonyms."""
        self._clock = clock
        self._database = database
        self._compute = compute
        self._registry = registry
        self._market = market
        self._metering = metering
        self._config = config
        self._public_key = public_key
        self._secret = secret
        self._providers = providers
        self._slashes = slashes
        self._reserved = reserved
        self._ledger = LedgerService(clock, database)
        self._begun_s = clock.monotonic()
        self._made: Made | None = None
        """What was computed last, so that publishing it need not compute it again."""
        self.steps = [Step("bring epochs on", self.advance, config.pause_s)]

    async def advance(self) -> bool:
        """Take one step; False where there was nothing to do. Raises what a step raises."""
        row = await self._database.read(store.newest)
        if row is None:
            return await self._begin()
        if row.state is State.CLOSED:
            return await self._compute_epoch(row)
        if row.state is State.COMPUTED:
            return await self._publish(row)
        return await self._close(row)

    async def _begin(self) -> bool:
        now_ms = self._clock.now_ms()
        row = EpochRow(0, State.BEGUN, now_ms, now_ms, b"", b"")
        return await self._database.write(partial(store.put, row=row))

    # --- close ------------------------------------------------------------------------------

    async def _close(self, last: EpochRow) -> bool:
        """Close the epoch after ``last`` when its time has come, and freeze it."""
        epoch = last.epoch + 1
        metered = await self._metering.last()
        closed_before = metered is not None and metered.epoch >= epoch
        running_ms = int(1000 * (self._clock.monotonic() - self._begun_s))
        length_ms = rules.length_of(self._config, running_ms)
        due = self._clock.now_ms() >= last.until_ms + length_ms
        if not closed_before and not due:
            return False
        try:
            closed = await self._metering.close(epoch)
        except AtollError as error:
            if error.kind is not Kind.CONFLICT:
                raise
            log.debug("epoch %d is not closed: %s", epoch, error.message)
            return False
        frozen = await self._freeze(epoch, last)
        body = rules.pack(frozen)
        row = EpochRow(
            epoch, State.CLOSED, closed.from_ms, closed.until_ms, rules.digest(body), b""
        )

        def write(connection: Connection) -> bool:
            new = store.put(connection, row)
            if new:
                store.keep_body(connection, epoch, store.INPUTS, body)
            return new

        return await self._database.write(write)

    async def _freeze(self, epoch: int, last: EpochRow) -> Frozen:
        """Gather what an epoch is computed from, as it stands now."""
        metered = await self._metering.metered(epoch)
        inputs, tariff, parameters = await self._gather(metered)
        return Frozen(inputs, tariff, parameters, last.content if last.epoch else NO_DOCUMENT)

    async def _gather(self, metered: Metered) -> tuple[EpochInputs, Tariff, TakeParameters]:
        """Return the inputs of an epoch, and the prices and parameters of now."""
        await self._registry.fresh()
        await self._market.fresh()
        tariff = self._market.tariff
        parameters = TakeParameters(take_bps=self._market.take_bps)
        barters = await self._database.read(self._providers.barters) if self._providers else {}
        left = await self._database.read(departures.left)
        nodes = rules.terms_of(
            self._registry.nodes(), tariff, self._config.hold_back_bps, barters, left
        )
        reserve = await self._ledger.balance(Account.of(AccountKind.RESERVE))
        inputs = rules.inputs_of(metered, nodes, reserve.amount_pico, self._config.time_factor)
        inputs = await self._limited(metered.epoch.epoch, inputs, tariff, parameters)
        return inputs, tariff, parameters

    async def _limited(
        self, epoch: int, inputs: EpochInputs, tariff: Tariff, parameters: TakeParameters
    ) -> EpochInputs:
        """Return inputs with the limits that customers' balances set now."""
        before = await self._totals(epoch - 1)
        payers = {line.payer for line in inputs.storage} | {line.payer for line in inputs.egress}
        balances = await self._balances(payers)
        inputs = await self._compute.run(
            rules.with_limits, before, inputs, tariff, parameters, balances
        )
        if self._slashes is None:
            return inputs
        slashes = await self._slashes.due(before, inputs, tariff, parameters)
        return msgspec.structs.replace(inputs, slashes=slashes)

    async def _balances(self, payers: Iterable[bytes]) -> dict[bytes, int]:
        """Return what customers have prepaid and not set aside for what they have locked."""
        reserved = await self._database.read(self._reserved) if self._reserved else {}
        balances = {}
        for payer in sorted(set(payers)):
            found = await self._ledger.balance(Account.of(AccountKind.CUSTOMER, payer))
            balances[payer] = found.amount_pico - reserved.get(payer, 0)
        return balances

    async def _totals(self, epoch: int) -> EpochTotals:
        """Return where an epoch ended."""
        if not epoch:
            return FIRST
        body = await self._database.read(partial(store.body_of, epoch=epoch, kind=store.TOTALS))
        return rules.unpack_totals(body)

    # --- compute ----------------------------------------------------------------------------

    async def _frozen(self, epoch: int) -> Frozen:
        body = await self._database.read(partial(store.body_of, epoch=epoch, kind=store.INPUTS))
        return rules.unpack_frozen(body)

    async def _make(self, epoch: int, frozen: Frozen) -> Made:
        before = await self._totals(epoch - 1)
        return await self._compute.run(rules.make, frozen, before, self._secret, self._public_key)

    async def _compute_epoch(self, row: EpochRow) -> bool:
        """Compute an epoch; give it its name and post it in one transaction."""
        frozen = await self._frozen(row.epoch)
        made = await self._make(row.epoch, frozen)
        before = await self._totals(row.epoch - 1)
        content = made.published.content_hash
        after = replace(row, state=State.COMPUTED, content=content, root=made.index.root)
        barters = await self._database.read(self._providers.barters) if self._providers else {}
        credited = {node: one.customer for node, one in barters.items()}
        entries = epoch_entries(before, made.result, content, made.names, credited)
        now_ms = self._clock.now_ms()

        def write(connection: Connection) -> bool:
            if not store.move(connection, row, after):
                return False
            totals = rules.pack(made.result.totals)
            store.keep_body(connection, row.epoch, store.TOTALS, totals)
            post_in(connection, entries, now_ms)
            if self._providers is not None:
                self._providers.settle(connection, row.until_ms, made.result)
            if self._slashes is not None:
                taken = frozen.inputs.slashes
                self._slashes.settle(connection, row.epoch, taken, made.result)
            return True

        try:
            moved = await self._database.write(write)
        except AtollError as error:
            if error.kind is not Kind.PRECONDITION_FAILED:
                raise
            # Somebody spent what he had when the epoch was frozen; nobody has seen it yet.
            log.info("epoch %d is frozen again: %s", row.epoch, error)
            return await self._freeze_again(row, frozen)
        self._made = made if moved else None
        return moved

    async def _freeze_again(self, row: EpochRow, frozen: Frozen) -> bool:
        reserve = await self._ledger.balance(Account.of(AccountKind.RESERVE))
        inputs = msgspec.structs.replace(frozen.inputs, reserve_pico=reserve.amount_pico)
        inputs = await self._limited(row.epoch, inputs, frozen.tariff, frozen.parameters)
        body = rules.pack(msgspec.structs.replace(frozen, inputs=inputs))

        def write(connection: Connection) -> bool:
            moved = store.move(connection, row, replace(row, content=rules.digest(body)))
            if moved:
                store.keep_body(connection, row.epoch, store.INPUTS, body)
            return moved

        return await self._database.write(write)

    # --- meanwhile --------------------------------------------------------------------------

    async def so_far(self) -> SoFar | None:
        """Return what providers earned since the last epoch that stands in the ledger.

        None before epochs began, and for the moment between an epoch's end and its entries.
        """
        row = await self._database.read(store.newest)
        if row is None or row.state is State.CLOSED:
            return None
        measured = await self._metering.so_far()
        if measured.metered.epoch.epoch != row.epoch + 1:
            return None
        try:
            before = await self._totals(row.epoch)
            inputs, tariff, parameters = await self._gather(measured.metered)
        except AtollError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            return None  # the next epoch was settled meanwhile
        balances = await self._balances(line.payer for line in measured.stored)
        return await self._compute.run(
            rules.so_far, before, inputs, measured.stored, tariff, parameters, balances
        )

    # --- publish ----------------------------------------------------------------------------

    async def _publish(self, row: EpochRow) -> bool:
        """Write the document's files, then say that they are there."""
        made = self._made
        if made is None or made.published.content_hash != row.content:
            made = await self._make(row.epoch, await self._frozen(row.epoch))
        if made.published.content_hash != row.content:
            raise AtollError(
                Kind.CORRUPT,
                "publish epoch",
                f"epoch {row.epoch} comes out otherwise than it was posted",
                hint="was the version of Atoll changed in between? go back to the former one",
            )
        await self._compute.run(_write, self._config, row.epoch, made)

        def write(connection: Connection) -> bool:
            moved = store.move(connection, row, replace(row, state=State.PUBLISHED))
            if moved:
                store.drop_body(connection, row.epoch, store.INPUTS)
                store.drop_body(connection, row.epoch - 1, store.TOTALS)
            return moved

        moved = await self._database.write(write)
        self._made = None
        log.info("epoch %d is published: %s", row.epoch, row.content.hex())
        return moved


def _write(config: BillingConfig, epoch: int, made: Made) -> None:
    """Write a document; its index last. Blocks."""
    for entry, body in zip(made.index.chunks, made.published.chunks, strict=True):
        config.disk.replace(chunk_name(entry.sha256), body)
    config.disk.replace(index_name(epoch), made.published.index)
