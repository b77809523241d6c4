"""Nouns of watching: what is proposed, what was asked for, what was found."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum

from atoll.economy.settlement.fraud import Fault
from atoll.economy.settlement.sumtree import Leaf, SumTree

NEVER = float("-inf")
"""Before any time of the monotonic clock."""
SPENT = (1 << 256) - 1
"""Deadline of a demand that was answered, or whose fee went back."""


class Verdict(Enum):
    """What is known of a proposal. Append only: names are stored."""

    UNKNOWN = "unknown"
    """Its document was not found yet."""
    UNCHECKED = "unchecked"
    """It fits its document; the leaves of the last final root were not found yet."""
    HONEST = "honest"
    """Nothing is wrong with it that the chain could judge."""
    WRONG = "wrong"
    """What is wrong can be proven on the chain, and is."""
    UNSHOWN = "unshown"
    """Its document makes another root: its leaves are asked for."""
    SHOWN = "shown"
    """Its leaves were shown; they are not its document's, but nothing else is wrong."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What stands open at the distributor. Amounts in stablecoin units, times in seconds."""

    attempt: int
    epoch: int
    root: bytes
    content: bytes
    released_micro: int
    held_micro: int
    count: int
    bond_micro: int
    proposer: bytes
    ends_s: int
    demands_open: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The distributor after one block."""

    block: int
    time_s: int
    """Now, by the chain; on an embedded one not before the machine's clock."""
    attempts: int
    proposal: Proposal | None
    last_epoch: int
    """Of the last final root; 0 before the first."""
    last_root: bytes


@dataclass(frozen=True, slots=True)
class Windows:
    """Numbers that challenges go by."""

    challenge_s: int
    answer_s: int
    fee_micro: int
    """Of one demand."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A chunk that somebody asked for, as the chain has it."""

    attempt: int
    chunk: int
    demander: bytes
    deadline_s: int
    """``SPENT`` once it was answered or paid back."""
    fee_micro: int
    answered_by: bytes = b""
    """Transaction of the answer; empty for none."""

    @property
    def open(self) -> bool:
        """Whether an answer is still owed."""
        return self.deadline_s != SPENT


@dataclass(frozen=True, slots=True)
class Strike:
    """A proposal that was struck down."""

    attempt: int
    epoch: int
    fault: int
    challenger: bytes
    reward_micro: int


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal as the chain told of it once."""

    attempt: int
    epoch: int
    root: bytes
    content: bytes
    count: int
    transaction: bytes
    block: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What came out."""

    verdict: Verdict
    problem: str = ""
    fault: Fault | None = None
    tree: SumTree | None = None


@dataclass(slots=True)
class Case:
    """One proposal, being judged. Lives in memory: all of it can be found out again."""

    proposal: Proposal
    verdict: Verdict = Verdict.UNKNOWN
    problem: str = ""
    """Why it is not judged yet, or what is wrong, in words."""
    fault: Fault | None = None
    tree: SumTree | None = None
    """Of its leaves, where they are known."""
    shown: dict[int, tuple[Leaf, ...]] = field(default_factory=dict)
    """Chunks that were shown on the chain."""
    looked: float = NEVER
    """When its document was last looked for, by the monotonic clock."""
    judging: "asyncio.Task[Judged] | None" = None
    """Looks for its document; nothing else waits for that."""
    figures: "asyncio.Task[str] | None" = None
    """Computes its document again."""
    figures_told: bool = False

    def let_go(self) -> None:
        """End what is being done about it."""
        for task in (self.judging, self.figures):
            if task is not None:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a case, for people."""

    attempt: int
    epoch: int
    root: bytes
    content: bytes
    verdict: Verdict
    problem: str
    outcome: str
    """``open``, ``final``, ``struck`` or ``gone``."""
    challenger: bytes
    reward_micro: int
