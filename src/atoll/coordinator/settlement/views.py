"""What the contracts say when they are asked: the court, the distributor, the stablecoin.

Answers are those of the newest block; whatever is kept rests on events under enough blocks.
"""

from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainCall
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.deploy import TEST_STABLE
from atoll.economy.chain.link import ChainLink
from atoll.economy.chain.model import Contract
from atoll.economy.settlement.statement import Court

COURT: Final = "SlashCourt"
DISTRIBUTOR: Final = "EpochDistributor"
PARAMETERS: Final = "Parameters"


class Views:
    """Asks the contracts of one chain."""

    def __init__(self, link: ChainLink) -> None:
        self._link = link
        self._contracts: dict[str, Contract] = {}

    async def address_of(self, name: str) -> bytes:
        """Return where a contract stands. Raises ``UNREACHABLE`` while it does not."""
        if name not in self._contracts:
            self._contracts = await self._link.contracts()
        found = self._contracts.get(name)
        if found is None:
            raise AtollError(
                Kind.UNREACHABLE,
                "ask contract",
                f"there is no {name} on this chain yet",
                hint="`atoll chain status` shows what stands",
            )
        return found.address

    async def stable(self) -> bytes:
        """Return the stablecoin's address. Raises ``UNREACHABLE`` while there is none."""
        return self._link.config.stable or await self.address_of(TEST_STABLE)

    async def court(self) -> Court:
        """Return where signatures count. Raises ``UNREACHABLE`` while there is no court."""
        return Court(
            self._link.config.chain_id,
            await self.address_of(COURT),
            await self.address_of(DISTRIBUTOR),
        )

    async def ask(self, contract: str, function: str, *values: Any) -> Any:
        """Return what a function of a contract answers. Raises what the chain raises."""
        return await self.ask_at(await self.address_of(contract), contract, function, *values)

    async def ask_at(self, address: bytes, contract: str, function: str, *values: Any) -> Any:
        """Ask at an address as if a contract of ours stood there (a stablecoin, as a rule)."""
        artifact = load(contract)
        chain = await self._link.chain()
        call = ChainCall(address, abi.call_data(artifact, function, *values))
        return abi.read_answer(artifact, function, await chain.call(call), len(values))

    # --- the court ------------------------------------------------------------------------------

    async def quorum(self) -> int:
        """Return how many signatures are needed now."""
        return int(await self.ask(COURT, "quorum"))

    async def stands(self, account: bytes) -> bool:
        """Say whether the court knows an account as a verifier's now."""
        return bool(await self.ask(COURT, "standing", account))

    # --- money ----------------------------------------------------------------------------------

    async def balance_micro(self, account: bytes) -> int:
        """Return what an account has of the stablecoin."""
        return int(await self.ask_at(await self.stable(), TEST_STABLE, "balanceOf", account))

    async def allowance_micro(self, owner: bytes, spender: bytes) -> int:
        """Return what ``spender`` may take of the stablecoin of ``owner``."""
        stable = await self.stable()
        return int(await self.ask_at(stable, TEST_STABLE, "allowance", owner, spender))

    async def parameter(self, name: str) -> int:
        """Return a number of ``Parameters`` by its function's name."""
        return int(await self.ask(PARAMETERS, name))
