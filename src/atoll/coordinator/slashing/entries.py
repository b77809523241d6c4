"""Relays nodes' entries to the registry on the chain: nodes sign, the coordinator sends and pays.

Only for nodes that have proven what they hold: keys cost nothing, transactions do.
"""

import logging
from functools import partial
from typing import Final

from atoll.coordinator.part import Part
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.reputation.model import Standing
from atoll.coordinator.reputation.service import ReputationService
from atoll.coordinator.settlement.service import SettlementService
from atoll.coordinator.settlement.wanting import Wants
from atoll.coordinator.slashing import store
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.messages import Message
from atoll.core.messages.entries import (
    DESCRIPTION_BYTES_MAX,
    AskEntry,
    EntryTaken,
    EntryTerms,
    PostEntry,
)
from atoll.core.ports import Clock, Database
from atoll.core.proofs.signed import Signed, decode_statement
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.registry import Entry, description_hash, read_description
from atoll.economy.chain.signer import recover_account
from atoll.economy.settlement.slashes import entry_key
from atoll.economy.settlement.statement import split_signature

REGISTRY: Final = "NodeRegistry"
PROVEN: Final = frozenset({Standing.VETTED, Standing.TRUSTED})
GOOD_FOR_S: Final = 7 * 86_400
"""How long a signature is good: chains may be away for days."""
PAUSE_MS: Final = 10_000
"""Ask again after so long while there is nothing to sign yet, or it is on its way."""
PUBLIC_PAUSE_MS: Final = 10 * 60_000
ENTERED_PAUSE_MS: Final = 6 * 3_600_000
log = logging.getLogger("atoll.coordinator.slashing")


class EntryService(Part):
    """Answers nodes about their entries."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        reputation: ReputationService,
        settlement: SettlementService,
    ) -> None:
        self._clock = clock
        self._database = database
        self._registry = registry
        self._reputation = reputation
        self._settlement = settlement
        link = settlement.link
        self._wants = Wants(link.outbox, link.operator.address)
        self._pause_ms = PAUSE_MS if link.config.embedded else PUBLIC_PAUSE_MS
        self.node_handlers = {AskEntry: self._terms, PostEntry: self._take}

    def _node_of(self, prover: bytes) -> NodeView:
        alias = self._registry.alias_of(node_id_of(prover))
        view = self._registry.node(alias) if alias is not None else None
        if view is None:
            raise AtollError(Kind.NOT_FOUND, "enter node", "this node is not registered here")
        return view

    def _may_enter(self, view: NodeView) -> bool:
        return bool(view.facts.payout_account) and self._reputation.standing(view.alias) in PROVEN

    async def _terms(self, _: AskEntry, prover: bytes, __: int) -> Message:
        view = self._node_of(prover)
        chain_id = self._settlement.link.config.chain_id
        nothing = EntryTerms(chain_id, b"", 0, 0, False, self._pause_ms)
        if not self._may_enter(view):
            return nothing
        owner, views = view.facts.payout_account, self._settlement.views
        try:
            registry = await views.address_of(REGISTRY)
            active = await views.ask(REGISTRY, "is_active", entry_key(view.node_id, owner))
            known = await views.ask(REGISTRY, "owner_of", entry_key(view.node_id, owner))
            nonce = int(await views.ask(REGISTRY, "nonces", owner))
            chain = await self._settlement.link.chain()
            head = await chain.block()
        except AtollError as error:
            log.debug("entries wait: %s", error)
            return nothing
        if active or int(known, 16):
            # Who retired stays retired: an entry is never made twice.
            return EntryTerms(chain_id, b"", 0, 0, bool(active), ENTERED_PAUSE_MS)
        # An embedded chain's clock may run ahead of ours.
        time_s = head.time_s if head is not None else 0
        deadline_s = max(time_s, self._clock.now_ms() // 1000) + GOOD_FOR_S
        return EntryTerms(chain_id, registry, nonce, deadline_s, False, self._pause_ms)

    async def _take(self, request: PostEntry, prover: bytes, _: int) -> Message:
        view = self._node_of(prover)
        if not self._may_enter(view):
            raise AtollError(
                Kind.PRECONDITION_FAILED,
                "enter node",
                "a node is entered once it names an account and has proven what it holds",
                hint="`atoll node health` shows how it stands",
            )
        views, owner = self._settlement.views, view.facts.payout_account
        registry, chain_id = await views.address_of(REGISTRY), self._settlement.link.config.chain_id
        if len(request.description) > DESCRIPTION_BYTES_MAX:
            raise _bad("its description is too long")
        said = read_description(decode_statement(request.description, Signed))
        if (said.node_key, said.owner) != (prover, owner) or (said.chain_id, said.registry) != (
            chain_id,
            registry,
        ):
            raise _bad("its description is of another node, owner or registry")
        hash_ = description_hash(request.description)
        nonce = int(await views.ask(REGISTRY, "nonces", owner))
        entry = Entry(
            chain_id, registry, view.node_id, owner, owner, hash_, nonce, request.deadline_s
        )
        v, r, s = split_signature(request.signature)
        if recover_account(entry.digest(), request.signature) != owner:
            raise _bad("the account that the node is paid to did not sign this")
        key = entry_key(view.node_id, owner)
        await self._database.write(
            partial(
                store.put_entry,
                entry=key,
                alias=view.alias,
                owner=owner,
                description_hash=hash_,
                description=request.description,
                now_ms=self._clock.now_ms(),
            )
        )
        call = abi.call_data(
            load(REGISTRY),
            "register_for",
            view.node_id,
            owner,
            owner,
            hash_,
            request.deadline_s,
            v,
            r,
            s,
        )

        async def make() -> tuple[bytes, bytes]:
            return registry, call

        await self._wants.want(f"entry/{key.hex()}", make)
        return EntryTaken(key)


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "enter node", message)
