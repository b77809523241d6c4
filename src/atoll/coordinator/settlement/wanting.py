"""Intents that are wanted anew where the chain refused them: each try has a key of its own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from atoll.coordinator.settlement.model import TRIES_MAX
from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.model import Intent, IntentState
from atoll.economy.chain.outbox import Outbox

MakeCall = Callable[[], Awaitable[tuple[bytes, bytes]]]
"""Returns a contract's address and the data of a call."""


class Standing(Enum):
    """How something wanted stands."""

    WAITING = "waiting"
    DONE = "done"
    """It stands under enough blocks."""
    GIVEN_UP = "given up"
    """It was refused ``TRIES_MAX`` times."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How something wanted stands, and what is in its way."""

    standing: Standing
    problem: str = ""
    transaction: bytes = b""
    block_number: int = -1


class Wants:
    """Wants things of an outbox, from one account."""

    def __init__(self, outbox: Outbox, sender: bytes) -> None:
        self._outbox = outbox
        self._sender = sender

    async def want(self, key: str, make: MakeCall) -> Wanted:
        """Want a call once, or anew after a refusal; ``make`` is asked only where one is sent.

        The call is that of the first moment: a key that is wanted already is left as it is.
        """
        problem = ""
        for number in range(1, TRIES_MAX + 1):
            name = key if number == 1 else f"{key}/again/{number}"
            status = await self._outbox.status(name)
            if status is None:
                await self._submit(name, *await make())
                return Wanted(Standing.WAITING, problem)
            if status.state in (IntentState.REFUSED, IntentState.FAILED):
                problem = status.problem
                continue
            standing = Standing.DONE if status.state is IntentState.FINAL else Standing.WAITING
            return Wanted(
                standing, status.problem or problem, status.transaction, status.block_number
            )
        return Wanted(Standing.GIVEN_UP, problem)

    async def _submit(self, name: str, to: bytes, data: bytes) -> None:
        try:
            await self._outbox.submit(Intent(name, self._sender, to, data))
        except AtollError as error:
            if error.kind is not Kind.CONFLICT:
                raise
            # Another process of this coordinator was faster: its call is as good.

    async def is_wanted(self, key: str) -> bool:
        """Say whether a call was wanted, however it stands."""
        return await self._outbox.status(key) is not None
