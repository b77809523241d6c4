"""One chain, kept up with: its outbox, its watcher and its contracts behind one step.

Nothing here waits for the chain: what is wanted while it is away is kept, and caught up with when
it is back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, Clock, Database
from atoll.economy.chain import book
from atoll.economy.chain.anvil import fund
from atoll.economy.chain.deploy import Deployer, Plan, Progress
from atoll.economy.chain.embedded import ACCOUNT_ROLES, default_values
from atoll.economy.chain.model import EMBEDDED, EMBEDDED_CHAIN_ID, PUBLIC, ChainProfile, Contract
from atoll.economy.chain.outbox import Outbox, check_chain
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.economy.chain.watcher import Watcher

OPERATOR: Final = "operator"
"""The role that settles epochs."""
DEPLOYER: Final = "deployer"
"""The role that puts contracts on the chain, and does nothing else."""
ACCOUNTS: Final = "accounts."
"""Values that begin so are the addresses of people and roles."""
DEPLOY_STEPS_MAX: Final = 2_000
DEPLOY_PAUSE_S: Final = 0.5
_AWAY: Final = frozenset({Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OVERLOADED})
log = logging.getLogger(__name__)

Open = Callable[[], Awaitable[Chain]]
"""Returns the chain's server, ready to be asked."""


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """Which chain, and how it is treated."""

    chain_id: int = EMBEDDED_CHAIN_ID
    profile: ChainProfile = EMBEDDED
    stable: bytes = b""
    """The EUR stablecoin; empty on an embedded chain."""
    first_block: int = 0
    """Nothing of ours is below it."""
    time_divisor: int = 1
    """Windows of an embedded chain's contracts are so many times shorter."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of contracts, over the usual ones; ``accounts.NAME`` is whom ``@NAME`` names."""

    @property
    def embedded(self) -> bool:
        """Whether it is the chain of a single machine."""
        return self.chain_id == EMBEDDED_CHAIN_ID


def profile_of(chain_id: int, confirmations: int = 0, fee_wei_max: int = 0) -> ChainProfile:
    """Return how a chain is treated; 0 leaves a figure as it is for that kind of chain."""
    base = EMBEDDED if chain_id == EMBEDDED_CHAIN_ID else PUBLIC
    return replace(
        base,
        confirmations=confirmations or base.confirmations,
        fee_wei_max=fee_wei_max or base.fee_wei_max,
    )


class ChainLink:
    """The way to one chain. Others want things of ``outbox`` and read ``watcher``."""

    def __init__(
        self, clock: Clock, database: Database, seed: bytes, config: LinkConfig, open_chain: Open
    ) -> None:
        """``seed``: 32 secret bytes that the keys follow from. Raises ``CONFIG``."""
        self._clock = clock
        self._database = self.database = database
        self._open = open_chain
        self._chain: Chain | None = None
        self._opening = asyncio.Lock()
        self.config = config
        self.operator = Signer.derived(seed, OPERATOR)
        self.deployer = Signer.derived(seed, DEPLOYER)
        self.insurance = Signer.derived(seed, "insurance") if config.embedded else self.operator
        """Who pays out of insurance's bucket, if it is one of us; the operator, on other chains."""
        signers = [self.operator, self.deployer]
        if config.embedded:
            signers.append(self.insurance)
        self.outbox = Outbox(clock, database, config.chain_id, signers, config.profile)
        self.watcher = Watcher(
            clock, database, config.chain_id, config.profile, first_block=config.first_block
        )
        self.problem = ""
        """Why the chain is not kept up with now, in words; empty while it is."""
        plan = self._plan(seed)
        self.accounts = plan.accounts
        """Accounts of an embedded chain by role; empty on another one."""
        self._deployment = Deployer(
            database, config.chain_id, self.outbox, self.deployer.address, plan
        )
        self.deployed: Progress | None = None
        self._deploy_problem = ""

    def _plan(self, seed: bytes) -> Plan:
        """Return what the contracts are made with."""
        config = self.config
        divisor = config.time_divisor if config.embedded else 1
        accounts = {"settler": self.operator.address}
        if config.embedded:
            accounts |= {role: Signer.derived(seed, role).address for role in ACCOUNT_ROLES}
        accounts |= {
            name.removeprefix(ACCOUNTS): value
            for name, value in config.values.items()
            if name.startswith(ACCOUNTS)
        }
        return Plan({**default_values(divisor), **config.values}, accounts, config.stable)

    async def chain(self) -> Chain:
        """Return the chain's server. Raises ``CONFIG``."""
        async with self._opening:  # asked by several at once, it is opened once
            if self._chain is None:
                self._chain = await self._open()
            return self._chain

    async def step(self) -> int:
        """Catch up; return how much moved. A chain that is away is no error: see ``problem``.

        Raises ``CONFIG`` for a server of another chain, ``CORRUPT`` for one that talks nonsense.
        """
        try:
            moved = await self._step()
        except AtollError as error:
            self._note(str(error))
            if error.kind in _AWAY:
                return 0
            raise
        self._note(self._deploy_problem)
        return moved

    async def _step(self) -> int:
        chain = await self.chain()
        await check_chain(chain, self.config.chain_id)
        if self.config.embedded:
            await fund(chain, self.operator.address, self.deployer.address, self.insurance.address)
            if self.deployed is None or not self.deployed.done:
                await self._deploy(chain)
        moved = await self.outbox.step(chain)
        contracts = await self.contracts()
        complete = set(self._deployment.order()) <= contracts.keys()
        if not complete and await self.watcher.read_to() < self.config.first_block:
            return moved  # what a contract says when it is made must not be missed
        addresses = [contract.address for contract in contracts.values()]
        return moved + await self.watcher.step(chain, addresses)

    async def _deploy(self, chain: Chain) -> None:
        """Carry the deployment on as far as it goes at once; a refusal must not stop the rest."""
        for _ in range(DEPLOY_STEPS_MAX):
            try:
                progress = await self._deployment.step(chain)
            except AtollError as error:
                if error.kind in _AWAY or error.kind is Kind.CORRUPT:
                    raise
                self._deploy_problem = str(error)
                return
            self._deploy_problem = ""
            waited = self.deployed is not None and progress == self.deployed
            self.deployed = progress
            if progress.done or waited:
                return
            await self.outbox.step(chain)

    async def deploy(self, told: Callable[[str], None]) -> Progress:
        """Put the contracts on the chain and wait until they stand; ``told`` hears each step.

        What was refused is wanted anew. Raises as ``Deployer.step``; ``TIMEOUT``.
        """
        chain = await self.chain()
        await check_chain(chain, self.config.chain_id)
        await fund(chain, self.operator.address, self.deployer.address)
        again, heard = True, ""
        for _ in range(DEPLOY_STEPS_MAX):
            progress = await self._deployment.step(chain, again=again)
            if progress.done:
                return progress
            if progress.waits_for != heard:
                heard, again = progress.waits_for, True
                told(heard)
            else:
                again = False
                await self._clock.sleep(DEPLOY_PAUSE_S)
            await self.outbox.step(chain)
        raise AtollError(
            Kind.TIMEOUT,
            "deploy contracts",
            f"{heard} is still in no block",
            hint="run it again, it goes on; `atoll chain status` says what it waits for",
        )

    async def close(self) -> None:
        """Let go of the chain's server; a later step opens it again."""
        chain, self._chain = self._chain, None
        if isinstance(chain, RpcChain):
            await chain.close()

    async def contracts(self) -> dict[str, Contract]:
        """Return the address book."""
        return await self._database.read(lambda c: book.contracts(c, self.config.chain_id))

    def _note(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem:
            log.warning("settlement waits: %s", problem)
        else:
            log.info("settlement goes on")
