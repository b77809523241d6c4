"""The nouns of settlement: how far an epoch is on its way to accounts on the chain."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

EPOCHS_AT_ONCE_MAX: Final = 8
"""Epochs that signatures are wanted of at a time: the newest that are not settled."""
REJECTIONS_MAX: Final = 5
"""An epoch that was struck down so often is not proposed again by itself."""
TRIES_MAX: Final = 16
"""How often one transaction is wanted anew after the chain refused it."""
CLAIM_LEAVES_MAX: Final = 256
"""Leaves of one batched claim (the contract's subtree of level 8)."""
CLAIMS_AT_ONCE_MAX: Final = 32
"""Claims of an epoch that wait for the chain at a time."""
SIGNATURES_KEPT_EPOCHS: Final = 1_000
"""Signatures under roots of so many epochs before a claimed one are kept."""
EVENTS_PAGE: Final = 500
"""Events of the chain taken over in one transaction of the database."""


class State(Enum):
    """How far an epoch is. Append only: names are stored and shown at ``/v1/epochs``.

    published -> signed -> proposed -> final -> claimed
    """

    PUBLISHED = "published"
    """Its document is there; signatures are collected for the next attempt."""
    SIGNED = "signed"
    """Two thirds of the verifiers signed it for the next attempt; it waits for its funds, and for
    the proposal before it."""
    PROPOSED = "proposed"
    """Its root stands at the distributor, and its window to challenge it is open."""
    FINAL = "final"
    """Its root is final: anyone may claim from it."""
    CLAIMED = "claimed"
    """All that it released was sent to the accounts (or could not be sent, see ``problem``)."""
    REJECTED = "rejected"
    """Its root was shown to be wrong, or was struck down too often: it needs a person."""
    EMPTY = "empty"
    """Nobody is owed anything yet: there is no root to settle."""
    CARRIED = "carried"
    """A later epoch became final; figures are cumulative, so this one is settled with it."""


OPEN: Final = frozenset({State.PUBLISHED, State.SIGNED})
"""May still be signed and proposed."""
SETTLED: Final = frozenset({State.FINAL, State.CLAIMED})


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One epoch on its way: a row of ``settlement_epoch``."""

    epoch: int
    state: State
    content: bytes
    """Content hash of its document."""
    root: bytes
    count: int
    """Leaves."""
    released_micro: int
    """All accounts together, since the first epoch."""
    held_micro: int
    attempt: int = 0
    """Number of the proposal that it is signed for, or has; 0 before."""
    rejections: int = 0
    ends_s: int = 0
    """When its window to challenge ends, by the chain's clock."""
    proposed_transaction: bytes = b""
    final_transaction: bytes = b""
    claimed_micro: int = 0
    """What was sent by claims from this epoch's root."""
    problem: str = ""
    """What keeps it from going on, in words; empty for nothing."""


@dataclass(frozen=True, slots=True)
class SettledFacts:
    """What the chain has settled, as far as its events were taken over here."""

    epoch_final: int = 0
    """Newest final epoch; 0 before the first."""
    root: bytes = b""
    """Of that epoch; empty before."""
    released_micro: int = 0
    """What all accounts together may have claimed by it, since the first epoch."""
    held_micro: int = 0
    claimed_micro: int = 0
    """What all accounts together were sent."""
    epoch_proposed: int = 0
    """Open at the distributor now; 0 for none."""
    attempts: int = 0
    """Proposals that there were."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One payment of the distributor to an account: a row of ``settlement_claim``."""

    account: bytes
    epoch: int
    amount_micro: int
    held_micro: int
    transaction: bytes
    block_number: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the chain's events were taken over."""

    serial: int = 0
    """Of the last event."""
    attempts: int = 0
    """Proposals that there were."""
    proposed_epoch: int = 0
    """Open at the distributor, whoever proposed it; 0 for none."""
    lost: bytes = b""
    """SHA-256 of the serials of events that were told and that the chain has lost since."""


@dataclass(frozen=True, slots=True)
class WantedStatement:
    """A statement that signatures are collected of: a row of ``settlement_statement``."""

    kind: int
    subject: bytes
    epoch: int
    stated: bytes
    body: bytes = field(repr=False)
