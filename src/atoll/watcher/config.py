"""What a watcher's operator decides."""

from dataclasses import dataclass

from atoll.economy.chain.model import EMBEDDED, EMBEDDED_CHAIN_ID, ChainProfile

DEMANDS_MAX = 64
"""Chunks asked for per proposal: 4,096 accounts."""


@dataclass(frozen=True, slots=True)
class WatcherConfig:
    """Which chain is watched, and what a challenge may cost."""

    chain_id: int = EMBEDDED_CHAIN_ID
    profile: ChainProfile = EMBEDDED
    first_block: int = 0
    """The contract is not below it."""
    demands_max: int = DEMANDS_MAX
    """Each costs a fee, which is lost if the data is shown."""
    accuse: bool = False
    """Whether verifiers who signed what was shown to be wrong are taken to the court."""

    @property
    def embedded(self) -> bool:
        """Whether it is the chain of a single machine, where everybody has funds."""
        return self.chain_id == EMBEDDED_CHAIN_ID
