"""What the chain says of a settled epoch: root, document, parameters, and what it follows."""

from dataclasses import dataclass
from typing import Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain
from atoll.economy.settlement.model import TakeParameters
from atoll.watcher.contract import Distributor
from atoll.watcher.model import Proposed

RANGE_BLOCKS: Final = 2_000
FINAL: Final = "final"
OPEN: Final = "open"
"""Proposed; its window to be struck down is not over."""


@dataclass(frozen=True, slots=True)
class SettledEpoch:
    """One epoch, as the chain has it."""

    proposed: Proposed
    state: str
    before: Proposed | None
    """The last final epoch below it; None for the first."""
    parameters: TakeParameters
    parameters_then: bool
    """Whether the parameters are those of the proposal's block, or, where the server does not
    remember so far back, of today."""


async def settled_epoch(
    chain: Chain, contract: Distributor, first_block: int, epoch: int
) -> SettledEpoch:
    """Return what the chain says of an epoch, read backwards from its newest block.

    Raises ``NOT_FOUND`` where it is neither final nor open, and what the chain raises.
    """
    await contract.open(chain)
    snapshot = await contract.snapshot(chain)
    root, state = await contract.root_of(chain, epoch), FINAL
    if not any(root):
        state = OPEN
        standing = snapshot.proposal
        if standing is None or standing.epoch != epoch:
            raise AtollError(
                Kind.NOT_FOUND,
                "read epoch",
                f"epoch {epoch} is not on the chain; the last final one is {snapshot.last_epoch}",
                hint="an epoch in which nobody is owed anything is not settled by itself",
            )
        root = standing.root
    found, before = await _search(chain, contract, first_block, snapshot.block, epoch, root)
    parameters, then = await _parameters(chain, contract, found.block)
    return SettledEpoch(found, state, before, parameters, then)


async def _search(
    chain: Chain, contract: Distributor, first_block: int, head: int, epoch: int, root: bytes
) -> tuple[Proposed, Proposed | None]:
    """Return the proposal of a root, and that of the final root before it."""
    found: Proposed | None = None
    width, last = RANGE_BLOCKS, head
    while last >= first_block:
        first = max(first_block, last - width + 1)
        try:
            logs = await chain.logs(first, last, [contract.address])
        except AtollError as error:
            if error.kind is not Kind.TOO_LARGE or width == 1:
                raise
            width = max(1, width // 2)
            continue
        for told in (contract.told(entry) for entry in reversed(logs)):
            if not isinstance(told, Proposed):
                continue
            if found is None:
                found = told if (told.epoch, told.root) == (epoch, root) else None
            elif told.epoch < epoch and told.root == await contract.root_of(chain, told.epoch):
                return found, told
        last = first - 1
    if found is None:
        raise AtollError(
            Kind.CORRUPT,
            "read epoch",
            f"the chain has a root of epoch {epoch} and does not tell who proposed it",
            hint="name another server of the chain, or set chain.first_block lower",
        )
    return found, None


async def _parameters(
    chain: Chain, contract: Distributor, block: int
) -> tuple[TakeParameters, bool]:
    try:
        return await contract.take_parameters(chain, block), True
    except AtollError as error:
        if error.kind in (Kind.UNREACHABLE, Kind.TIMEOUT):
            raise
        # Most servers remember the newest blocks only.
        return await contract.take_parameters(chain, None), False
