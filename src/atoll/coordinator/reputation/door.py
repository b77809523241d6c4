"""The public pages at the coordinator's door: bounded, cached, without asking who looks."""

import re
from collections import OrderedDict
from functools import cache
from importlib.resources import files
from urllib.parse import parse_qs

import msgspec

from atoll.coordinator.part import Page, PageHandler, Part
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.reputation.page import index_page, plain, provider_page
from atoll.coordinator.reputation.service import ReputationService
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock

PAGE = "/providers"
FACTS = "/v1/providers"
CACHE_S = 1.0
PAGES_KEPT_MAX = 256
QUERY_CHARACTERS_MAX = 100
_NODE_ID = re.compile(r"[0-9a-f]{64}")
_HTML = "text/html; charset=utf-8"


class ProviderPages(Part):
    """``/providers`` and ``/providers/ID`` for people, the same below ``/v1`` in JSON."""

    def __init__(
        self, clock: Clock, registry: RegistryService, reputation: ReputationService
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._reputation = reputation
        self._kept: OrderedDict[str, tuple[float, Page]] = OrderedDict()
        self.pages: dict[str, PageHandler] = {PAGE: self.page, FACTS: self.page}

    async def page(self, path: str, query: str) -> Page:
        """Return a page, at most a second old. Raises ``NOT_FOUND``."""
        if path == f"{PAGE}/page.css":
            return Page("text/css; charset=utf-8", _style())
        after = _after(query) if path in (PAGE, FACTS) else 0
        key, now = f"{path}?{after}", self._clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < CACHE_S:
            return kept[1]
        page = await self._made(path, after)
        self._kept[key] = (now, page)
        self._kept.move_to_end(key)
        while len(self._kept) > PAGES_KEPT_MAX:
            self._kept.popitem(last=False)
        return page

    async def _made(self, path: str, after: int) -> Page:
        await self._registry.fresh()
        if path == PAGE:
            return Page(_HTML, index_page(await self._reputation.listing(after)))
        if path == FACTS:
            return _json(plain(await self._reputation.listing(after)))
        folder, _, name = path.rpartition("/")
        if folder in (PAGE, FACTS) and _NODE_ID.fullmatch(name):
            alias = self._registry.alias_of(bytes.fromhex(name))
            if alias is not None:
                health = await self._reputation.health(alias)
                return (
                    _json(plain(health)) if folder == FACTS else Page(_HTML, provider_page(health))
                )
        raise AtollError(Kind.NOT_FOUND, "show provider", "there is no such provider here")


def _after(query: str) -> int:
    given = parse_qs(query[:QUERY_CHARACTERS_MAX]).get("after", ["0"])[0]
    return int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0


def _json(facts: object) -> Page:
    return Page("application/json", msgspec.json.encode(facts))


@cache
def _style() -> bytes:
    return files("atoll.coordinator.reputation").joinpath("page.css").read_bytes()
