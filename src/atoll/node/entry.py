"""Has the node entered in the registry on the chain: it signs, its coordinators send and pay."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.messages import Message
from atoll.core.messages.entries import AskEntry, EntryTaken, EntryTerms, PostEntry
from atoll.core.ports import Clock
from atoll.economy.chain.registry import Entry, describe, description_hash
from atoll.node.link import Link
from atoll.node.part import NodePart, Step

_LOG = logging.getLogger(__name__)
LOOK_S = 2.0
PAUSE_MS_MIN, PAUSE_MS_MAX = 1_000, 24 * 3_600_000
RETRY_MS = 60_000
"""After a coordinator that did not answer, or refused."""
DEADLINE_S_MAX = 1 << 40

Ask = Callable[[Link, Message, type[Any]], Awaitable[Any]]
"""Sends a signed request to a link's coordinator."""
SignDigest = Callable[[bytes], bytes]
"""Signs 32 bytes with the key of the account that the node is paid to: r, s, v."""


class ChainEntry(NodePart):
    """The node's entries, one for each coordinator's chain."""

    def __init__(
        self,
        clock: Clock,
        identity: Identity,
        account: bytes,
        sign_digest: SignDigest,
        links: Sequence[Link],
        ask: Ask,
    ) -> None:
        """``account``: what the node is paid to, and owns its entry."""
        self._clock = clock
        self._identity = identity
        self._account = account
        self._sign_digest = sign_digest
        self._links = links
        self._ask = ask
        self._next_ms: dict[int, int] = {}
        self.steps = (Step("enter the chain's registry", self.step, LOOK_S),)

    async def step(self) -> None:
        """Ask each coordinator whether there is something to sign; sign it."""
        for number, link in enumerate(self._links):
            now_ms = self._clock.now_ms()
            if not link.registered or now_ms < self._next_ms.get(number, 0):
                continue
            self._next_ms[number] = now_ms + RETRY_MS
            try:
                pause_ms = await self._enter(link)
            except AtollError as error:
                _LOG.debug("entry at %s: %s", link.address, error)
                continue
            self._next_ms[number] = now_ms + min(max(pause_ms, PAUSE_MS_MIN), PAUSE_MS_MAX)

    async def _enter(self, link: Link) -> int:
        terms: EntryTerms = await self._ask(link, AskEntry(), EntryTerms)
        if terms.is_active or not terms.registry or not 0 < terms.deadline_s < DEADLINE_S_MAX:
            return terms.pause_ms
        description = describe(self._identity, self._account, terms.chain_id, terms.registry)
        entry = Entry(
            chain_id=terms.chain_id,
            registry=terms.registry,
            node_id=self._identity.node_id,
            owner=self._account,
            payout=self._account,
            description_hash=description_hash(description),
            nonce=terms.nonce,
            deadline_s=terms.deadline_s,
        )
        post = PostEntry(
            description=description,
            deadline_s=terms.deadline_s,
            signature=self._sign_digest(entry.digest()),
        )
        taken: EntryTaken = await self._ask(link, post, EntryTaken)
        _LOG.info("entry %s is on its way to chain %d", taken.entry.hex(), terms.chain_id)
        return terms.pause_ms
