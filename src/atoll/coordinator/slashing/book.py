"""What billing asks of slashing: the slashes of an epoch, and that it settled them."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.slashing import rules, store
from atoll.coordinator.slashing.model import CASES_PAGE_MAX
from atoll.core.ports import Compute, Database
from atoll.economy.settlement.model import (
    EpochInputs,
    EpochResult,
    EpochTotals,
    Slash,
    TakeParameters,
)
from atoll.economy.tariff.model import Tariff


class SlashBook:
    """Open cases, as ``billing.model.Slashes``."""

    def __init__(self, database: Database, compute: Compute) -> None:
        self._database = database
        self._compute = compute

    async def due(
        self,
        before: EpochTotals,
        inputs: EpochInputs,
        tariff: Tariff,
        parameters: TakeParameters,
    ) -> list[Slash]:
        """Return what an epoch takes from nodes that lost data. Payers: true ids."""
        cases = await self._database.read(partial(store.open_cases, limit=CASES_PAGE_MAX))
        if not cases:
            return []
        return await self._compute.run(rules.slashes_of, cases, before, inputs, tariff, parameters)

    def settle(
        self, connection: Connection, epoch: int, slashes: Sequence[Slash], result: EpochResult
    ) -> None:
        """Note, in the epoch's own transaction, that it settled these."""
        store.settle(connection, epoch, rules.taken_of(slashes, result.nodes))
