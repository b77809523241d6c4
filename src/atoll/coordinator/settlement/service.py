"""Keeps up with the chain: sends what is wanted, watches the contracts, settles epochs there.

The rest of the coordinator never waits for it. What it wants on the chain it gives to
``link.outbox``, which needs no chain; what happened there it reads from ``link.watcher``.

For other rooms:

* ``settled()``, ``claimed_micro(account)``, ``claims_of(account)``: what the chain has settled;
* ``statements.ask(WantedStatement)``, ``.signatures(…)``, ``.is_agreed(…)``: signatures of the
  verifiers under a statement of any kind;
* ``views``: questions to the contracts; ``link.operator.address``: the account that settles.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.billing.model import SettlementFacts
from atoll.coordinator.part import Part, Step
from atoll.coordinator.settlement import store
from atoll.coordinator.settlement.documents import Documents
from atoll.coordinator.settlement.model import Claim, SettledFacts, State
from atoll.coordinator.settlement.progress import Funded, Progress
from atoll.coordinator.settlement.statements import StatementDesk
from atoll.coordinator.settlement.views import Views
from atoll.core.ports import Clock, Database
from atoll.economy.chain.book import write_book
from atoll.economy.chain.link import ChainLink, LinkConfig, Open
from atoll.economy.chain.model import Contract

CHAIN_KEYS = b"chain-keys/1"
"""Purpose under which an identity derives the seed of its keys of the chain."""
EMBEDDED_PAUSE_S = 0.5
PUBLIC_PAUSE_S = 4.0
"""Between steps: chains make a block every few seconds."""

START_PAUSE_S = 3.0
"""The libraries of the chain are imported after a coordinator has begun to serve."""
CLAIMS_PAGE_MAX = 1_000

Publish = Callable[[bytes], Awaitable[None]]
"""Takes the address book as a file."""
log = logging.getLogger("atoll.coordinator.settlement")


@dataclass(frozen=True, slots=True)
class SettlementConfig:
    """Which chain a coordinator settles on, and the way there."""

    open_chain: Open
    link: LinkConfig = field(default_factory=LinkConfig)
    publish: Publish | None = None
    """Keeps the address book where others find it, whenever it changed."""


class SettlementService(Part):
    """Steps a chain's link where the coordinator runs its loops, and answers verifiers."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        seed: bytes,
        config: SettlementConfig,
        *,
        verifiers: Collection[bytes] = (),
        documents: Documents | None = None,
    ) -> None:
        """Open nothing yet. Raises ``CONFIG``.

        ``seed``: what the identity derives for ``CHAIN_KEYS``; ``verifiers``: the Ed25519 keys of
        those who may ask for statements and post signatures; ``documents``: what this coordinator
        publishes (without it no epoch is settled).
        """
        self.link = ChainLink(clock, database, seed, config.link, config.open_chain)
        pause_s = EMBEDDED_PAUSE_S if config.link.embedded else PUBLIC_PAUSE_S
        self._clock = clock
        self._database = database
        self._publish = config.publish
        self._published: dict[str, Contract] = {}
        self._begins = clock.monotonic() + START_PAUSE_S
        self.views = Views(self.link)
        """Questions to the contracts."""
        self.statements = StatementDesk(
            clock, database, self.views, verifiers, embedded=config.link.embedded
        )
        """Signatures of verifiers under statements of any kind."""
        self._progress: Progress | None = None
        if documents is not None:
            self._progress = Progress(
                clock, database, self.link, self.views, self.statements, documents
            )
        self.node_handlers = self.statements.node_handlers
        self.steps = (Step("settlement", self._step, pause_s),)

    async def _step(self) -> None:
        if self._clock.monotonic() < self._begins:
            return
        await self.link.step()
        contracts = await self.link.contracts()
        if contracts and self._publish is not None and contracts != self._published:
            await self._publish(write_book(self.link.config.chain_id, contracts))
            self._published = contracts
        if self._progress is not None and contracts:
            await self._progress.step()

    def use_funds(self, funded: Funded) -> None:
        """Propose epochs from now on, each as soon as ``funded(epoch)`` says yes.

        Until this is called nothing is proposed: an unfunded root is refused by the contract.
        """
        if self._progress is not None:
            self._progress.funded = funded

    async def stop(self) -> None:
        """Let go of the chain's server."""
        await self.link.close()

    async def facts(self, epochs: Sequence[int]) -> dict[int, SettlementFacts]:
        """Return how far epochs are on the chain, of those that are known. Asks no chain."""
        return {} if self._progress is None else await self._progress.facts(epochs)

    # --- what other rooms ask -------------------------------------------------------------------

    async def settled(self) -> SettledFacts:
        """Return what the chain has settled, as far as its events were taken over. No chain asked.

        Of another process of this coordinator's what it took over counts, too.
        """
        chain_id = self.link.config.chain_id

        def read(connection: Connection) -> SettledFacts:
            last = store.last_settled(connection)
            proposed = store.in_state(connection, State.PROPOSED, 1)
            return SettledFacts(
                epoch_final=last.epoch if last else 0,
                root=last.root if last else b"",
                released_micro=last.released_micro if last else 0,
                held_micro=last.held_micro if last else 0,
                claimed_micro=store.claimed_all_micro(connection),
                epoch_proposed=proposed[0].epoch if proposed else 0,
                attempts=store.cursor(connection, chain_id).attempts,
            )

        return await self._database.read(read)

    async def claimed_micro(self, account: bytes) -> int:
        """Return what an account (20 bytes) was sent by the distributor since the first epoch."""
        return await self._database.read(partial(store.claimed_micro, account=account))

    async def claims_of(self, account: bytes, limit: int = CLAIMS_PAGE_MAX) -> list[Claim]:
        """Return the payments to an account, newest first."""
        count = min(limit, CLAIMS_PAGE_MAX)
        return await self._database.read(partial(store.claims_of, account=account, limit=count))
