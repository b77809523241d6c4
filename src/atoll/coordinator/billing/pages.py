"""``/v1/epochs``: what there is, and the documents themselves, for everybody.

    /v1/epochs[?before=N]      at most 100 epochs, newest first, in JSON
    /v1/epochs/N               one of them
    /v1/epochs/N/index         the index of its document
    /v1/epochs/chunks/SHA256   a chunk of any document

What is served is checked by whoever reads it: it is named by its content.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from urllib.parse import parse_qs

import msgspec

from atoll.coordinator.billing import store
from atoll.coordinator.billing.model import (
    EPOCHS_PAGE_MAX,
    BillingConfig,
    EpochFacts,
    EpochRow,
    SettlementFacts,
    State,
)
from atoll.coordinator.billing.service import chunk_name, index_name
from atoll.coordinator.part import Page, PageHandler, Part
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Compute, Database

PATH = "/v1/epochs"
QUERY_CHARACTERS_MAX = 100
_NUMBER = "[1-9][0-9]{0,17}"
_EPOCH = re.compile(rf"{PATH}/({_NUMBER})(/index)?")
_CHUNK = re.compile(rf"{PATH}/chunks/([0-9a-f]{{64}})")
_BYTES = "application/octet-stream"
_ALL = 1 << 62
Settlements = Callable[[Sequence[int]], Awaitable[Mapping[int, SettlementFacts]]]
"""Returns how far epochs are on the chain, of those that are known there."""


class EpochPages(Part):
    """Shows epochs and their documents."""

    def __init__(
        self,
        database: Database,
        compute: Compute,
        config: BillingConfig,
        settlements: Settlements | None = None,
    ) -> None:
        self._settlements = settlements
        self._database = database
        self._compute = compute
        self._disk = config.disk
        self.pages: dict[str, PageHandler] = {PATH: self.page}

    async def page(self, path: str, query: str) -> Page:
        """Return what is asked for. Raises ``NOT_FOUND``."""
        if path == PATH:
            rows = await self._database.read(
                partial(store.page, before=_before(query), limit=EPOCHS_PAGE_MAX)
            )
            return _json(await self._facts(rows))
        chunk = _CHUNK.fullmatch(path)
        if chunk is not None:
            return await self._file(chunk_name(bytes.fromhex(chunk[1])))
        named = _EPOCH.fullmatch(path)
        if named is None:
            raise _absent()
        epoch = int(named[1])
        row = await self._database.read(partial(store.one, epoch=epoch))
        if row is None or (named[2] and row.state is not State.PUBLISHED):
            raise _absent()
        if named[2]:
            return await self._file(index_name(epoch))
        return _json((await self._facts([row]))[0])

    async def _facts(self, rows: Sequence[EpochRow]) -> list[EpochFacts]:
        settled: Mapping[int, SettlementFacts] = {}
        if self._settlements is not None:
            settled = await self._settlements([row.epoch for row in rows])
        return [_facts(row, settled.get(row.epoch)) for row in rows]

    async def _file(self, name: str) -> Page:
        if not await self._compute.run(self._disk.exists, name):
            raise _absent()
        return Page(_BYTES, await self._compute.run(self._disk.read, name))


def _facts(row: EpochRow, settlement: SettlementFacts | None) -> EpochFacts:
    computed = row.state is not State.CLOSED
    return EpochFacts(
        epoch=row.epoch,
        state=row.state.value,
        from_ms=row.from_ms,
        until_ms=row.until_ms,
        content=row.content.hex() if computed else "",
        root=row.root.hex(),
        settlement=settlement,
    )


def _before(query: str) -> int:
    given = parse_qs(query[:QUERY_CHARACTERS_MAX]).get("before", [""])[0]
    return int(given) if re.fullmatch(_NUMBER, given) else _ALL


def _json(facts: object) -> Page:
    return Page("application/json", msgspec.json.encode(facts))


def _absent() -> AtollError:
    return AtollError(Kind.NOT_FOUND, "show epoch", "there is no such epoch or file here")
