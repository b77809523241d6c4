"""``/v1/slashes``: which nodes lost data, and the files that show it, for everybody.

/v1/slashes            the newest cases, in JSON
/v1/slashes/EVIDENCE   a loss file, by its SHA-256 (docs/spec/slashes.md)
/v1/entries/HASH       a node's signed description, by the hash in the registry on the chain
"""

import re
from functools import partial

import msgspec

from atoll.coordinator.part import Page, PageHandler, Part
from atoll.coordinator.slashing import store
from atoll.coordinator.slashing.model import CASES_PAGE_MAX, Case, SlashFacts, state_of
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Database

PATH = "/v1/slashes"
ENTRIES_PATH = "/v1/entries"
_NAMED = re.compile(rf"({PATH}|{ENTRIES_PATH})/([0-9a-f]{{64}})")


class SlashPages(Part):
    """Shows cases, evidence and descriptions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.pages: dict[str, PageHandler] = {PATH: self.page, ENTRIES_PATH: self.page}

    async def page(self, path: str, query: str) -> Page:
        """Return what is asked for. Raises ``NOT_FOUND``."""
        if path == PATH:
            found = await self._database.read(partial(store.cases, limit=CASES_PAGE_MAX))
            return Page("application/json", msgspec.json.encode([facts_of(one) for one in found]))
        named = _NAMED.fullmatch(path)
        body = None
        if named is not None:
            name = bytes.fromhex(named[2])
            read = (
                partial(store.body_of, evidence=name)
                if named[1] == PATH
                else partial(store.description_of, description_hash=name)
            )
            body = await self._database.read(read)
        if body is None:
            raise AtollError(Kind.NOT_FOUND, "show slash", "there is no such file here")
        return Page("application/octet-stream", body)


def facts_of(case: Case) -> SlashFacts:
    """Return a case as it is told."""
    return SlashFacts(
        evidence=case.evidence.hex(),
        node=case.node_id.hex(),
        opened_ms=case.opened_ms,
        first_slot=case.first_slot,
        last_slot=case.last_slot,
        samples=case.samples,
        failed=case.failed,
        state=state_of(case),
        reporter=case.reporter.hex(),
        epoch=case.epoch,
        taken_pico=str(case.taken_pico),
        transaction=case.transaction.hex(),
    )
