"""What nodes have earned: one way to the figures, for providers, for the page, for the operator.

What is settled is kept by day, written within the transaction that settles an epoch. What was
earned since is computed by the functions that will settle it. Both are read together or not at
all, so that an epoch's end neither hides nor doubles anything.
"""

from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.billing import store as billing_store
from atoll.coordinator.billing.model import Barter, EpochRow, SoFar, State
from atoll.coordinator.billing.service import BillingService
from atoll.coordinator.part import Part
from atoll.coordinator.payouts import orders, rules, store
from atoll.coordinator.payouts.model import DaySums, Figures
from atoll.coordinator.payouts.seal import Seal
from atoll.coordinator.registry.service import RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.messages import Message
from atoll.core.messages.payouts import (
    EARNING_DAYS_MAX,
    EARNING_NODES_MAX,
    AllEarnings,
    GetAllEarnings,
    GetEarnings,
    NodeEarnings,
)
from atoll.core.ports import Clock, Database
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import AccountKind
from atoll.economy.settlement.model import REAL_TIME, EpochResult

FRESH_S_MIN = 1.0
SHARE_OF_TIME = 50
"""Figures are gathered anew after so many times what gathering them took: 2 % of the time."""
PAGE = 1_000


class ProviderBook:
    """What billing asks for within its transactions (``billing.model.Providers``)."""

    def barters(self, connection: Connection) -> dict[bytes, Barter]:
        """Return who spends what on storage, by node."""
        return orders.barters(connection)

    def settle(self, connection: Connection, until_ms: int, result: EpochResult) -> None:
        """Take down what an epoch that ended then brought each node."""
        # An epoch that ends at midnight was the day's before.
        day = rules.day_of(max(0, until_ms - 1))
        store.add_days(connection, day, rules.sums_of(result))


class EarningsService(Part):
    """Answers ``GetEarnings`` and ``GetAllEarnings``."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        billing: BillingService,
        seal: Seal,
    ) -> None:
        """``seal`` opens what is kept of bank accounts."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._billing = billing
        self._seal = seal
        self._figures: Figures | None = None
        self._fresh_until = 0.0
        self.handlers = {GetAllEarnings: self._all}
        self.node_handlers = {GetEarnings: self._own}

    async def _own(self, request: GetEarnings, prover: bytes, _: int) -> Message:
        await self._registry.fresh()
        alias = self._registry.alias_of(node_id_of(prover))
        if alias is None:
            raise AtollError(
                Kind.NOT_FOUND,
                "show earnings",
                "this node is not registered",
                hint="start it: it registers by itself",
            )
        return await self._earnings(alias, request.days)

    async def _all(self, request: GetAllEarnings) -> Message:
        await self._registry.fresh()
        aliases = sorted(
            view.alias for view in self._registry.nodes() if view.alias > request.after
        )
        page = aliases[:EARNING_NODES_MAX]
        nodes = [await self._earnings(alias, request.days) for alias in page]
        return AllEarnings(time_ms=self._clock.now_ms(), nodes=nodes, more=len(aliases) > len(page))

    async def _earnings(self, alias: int, days: int) -> NodeEarnings:
        if not 0 <= days <= EARNING_DAYS_MAX:
            raise AtollError(Kind.BAD_REQUEST, "show earnings", f"days are 0 to {EARNING_DAYS_MAX}")
        figures = await self.figures()
        view = self._registry.node(alias)
        if view is None:
            raise AtollError(Kind.NOT_FOUND, "show earnings", "the node left just now")
        listed: list[tuple[int, DaySums]] = []
        if days:
            first = rules.day_of(self._clock.now_ms()) - days + 1
            listed = await self._database.read(
                partial(store.days_of, node=view.node_id, first=first)
            )
        return rules.earnings_of(view, figures, self._clock.now_ms(), listed)

    async def figures(self) -> Figures:
        """Return all nodes' figures, as fresh as they can be had cheaply."""
        began = self._clock.monotonic()
        if self._figures is not None and began < self._fresh_until:
            return self._figures
        found = await self._gather()
        if found is not None:
            self._figures = found
        elif self._figures is None:
            # Nothing was measured yet, or an epoch is between its end and its entries.
            now_ms = self._clock.now_ms()
            nothing = SoFar(now_ms, now_ms, REAL_TIME, {}, {}, {})
            return await self._database.read(partial(self._settled, so_far=nothing))
        ended = self._clock.monotonic()
        self._fresh_until = ended + max(FRESH_S_MIN, SHARE_OF_TIME * (ended - began))
        return self._figures

    async def _gather(self) -> Figures | None:
        so_far = await self._billing.so_far()
        if so_far is None:
            return None

        def load(connection: Connection) -> Figures | None:
            row = billing_store.newest(connection)
            if row is None or not _follows(so_far, row):
                return None
            return self._settled(connection, so_far)

        return await self._database.read(load)

    def _settled(self, connection: Connection, so_far: SoFar) -> Figures:
        return Figures(
            so_far=so_far,
            sums=store.all_sums(connection),
            held=_balances(connection, AccountKind.HELD),
            due=_balances(connection, AccountKind.PROVIDER),
            paid=orders.paid_sums(connection),
            terms=orders.all_terms(connection, self._seal.open),
        )


def _follows(so_far: SoFar, row: EpochRow) -> bool:
    """Say whether what was measured begins where the newest epoch in the ledger ended."""
    if row.state is State.CLOSED:
        return False
    return row.state is State.BEGUN or so_far.since_ms == row.until_ms


def _balances(connection: Connection, kind: AccountKind) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    after = b""
    while True:
        page = ledger_store.balances(connection, kind.value, after, PAGE)
        for one in page:
            found[one.account.owner] = one.amount_pico
        if len(page) < PAGE:
            return found
        after = page[-1].account.owner
