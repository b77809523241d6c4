"""The nouns of billing: how far an epoch is, what it is frozen as, what is made of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import msgspec
from sqlalchemy.engine import Connection

from atoll.core.ports import Disk
from atoll.economy.settlement.document import Index, Published
from atoll.economy.settlement.model import (
    REAL_TIME,
    EpochInputs,
    EpochResult,
    EpochTotals,
    Slash,
    TakeParameters,
)
from atoll.economy.tariff.model import Tariff

PART_BYTES = 1 << 20
"""Longer bodies are kept in the database in parts of this size."""
PARTS_MAX = 1 << 12
HOLD_BACK_BPS = 2_500
"""A quarter of what a node earns is held until its ceiling is reached."""
HOLD_BACK_HALF_MONTHS = 9
"""The ceiling: what all of a node's capacity earns in so many half months at the reference."""
EPOCHS_PAGE_MAX = 100
CALM_PARTS = 10
"""Where epochs may grow, the next is as long as this part of the time that there were epochs here
since the start: who looks on sees them pass, and a cloud left alone has few."""
EPOCH_SLOTS_MIN = 2
"""An epoch is at least so many slots long: who proved nothing in it is not paid for it."""


class State(Enum):
    """How far an epoch is. Append only: names are stored."""

    BEGUN = "begun"
    """Of epoch 0 alone: from here on time counts."""
    CLOSED = "closed"
    """Its lines are fixed, and so is all that it is computed from."""
    COMPUTED = "computed"
    """It has its content hash and stands in the ledger; nobody was told."""
    PUBLISHED = "published"
    """Everybody may read it."""


@dataclass(frozen=True, slots=True)
class BillingConfig:
    """How epochs are made."""

    length_ms: int
    """An epoch is closed when so much has passed since the end of the last one."""
    disk: Disk
    """Where documents are kept."""
    length_max_ms: int = 0
    """Epochs grow to this while the process runs on; 0: all have ``length_ms``."""
    hold_back_bps: int = HOLD_BACK_BPS
    time_factor: int = REAL_TIME
    """So many times longer is stored bytes' time for fees; more than 1 in demonstrations only."""
    pause_s: float = 1.0
    """Between two looks whether there is anything to do."""
    mirror: Disk | None = None
    """Where documents are copied to beside it; None for nowhere."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """An account that is kept in money which is worth nothing."""

    customer: bytes
    amount_pico: int


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch on its way."""

    epoch: int
    state: State
    from_ms: int
    until_ms: int
    content: bytes
    """The document's content hash; while it is only closed, the SHA-256 of what is frozen."""
    root: bytes
    """Empty until it is computed."""


class Frozen(msgspec.Struct, frozen=True, array_like=True):
    """All that an epoch is computed from beside where the last one ended. Payers: true ids."""

    inputs: EpochInputs
    tariff: Tariff
    parameters: TakeParameters
    previous: bytes
    """Content hash of the epoch before; zeros for the first."""


@dataclass(frozen=True, slots=True)
class Made:
    """An epoch, computed: its document, and who is behind the pseudonyms in it."""

    published: Published
    index: Index
    result: EpochResult
    names: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Barter:
    """What of a node's pay is spent on storage, and whose storage that is."""

    share_bps: int
    customer: bytes


class Providers(Protocol):
    """What billing asks of whoever pays providers; all within its own transactions."""

    def barters(self, connection: Connection) -> Mapping[bytes, Barter]:
        """Return who spends what on storage, by node, also those who spend nothing any more."""

    def settle(self, connection: Connection, until_ms: int, result: EpochResult) -> None:
        """Take down what an epoch that ended then brought each node."""


class Slashes(Protocol):
    """What billing asks of whoever knows which nodes lost data."""

    async def due(
        self,
        before: EpochTotals,
        inputs: EpochInputs,
        tariff: Tariff,
        parameters: TakeParameters,
    ) -> list[Slash]:
        """Return what an epoch takes from them; payers by their true ids, as in ``inputs``."""

    def settle(
        self, connection: Connection, epoch: int, slashes: Sequence[Slash], result: EpochResult
    ) -> None:
        """Take down, in the epoch's transaction, that it settled these."""


Reserved = Callable[[Connection], Mapping[bytes, int]]
"""What customers have prepaid and epochs do not charge: pico-euro by customer."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """What providers earned since the last epoch that stands in the ledger."""

    since_ms: int
    until_ms: int
    """Up to here it is measured."""
    time_factor: int
    nodes: Mapping[bytes, int]
    """Earned by each node: pay, repair and top-up; settled exactly so where nothing changes."""
    months: Mapping[bytes, int]
    """What is stored at each node now would earn in 30 days, if proven and paid as so far."""
    proven_bps: Mapping[bytes, int]


class SettlementFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told of an epoch's settlement at ``/v1/epochs`` (within ``EpochFacts``)."""

    state: str
    """published, signed, proposed, final, claimed; rejected, empty, carried."""
    attempt: int = 0
    signatures: int = 0
    """Of verifiers that the court knows, for that attempt."""
    quorum: int = 0
    ends_s: int = 0
    proposed_transaction: str = ""
    """0x and 64 hex digits; empty before."""
    final_transaction: str = ""
    claimed_micro: int = 0
    """What all accounts were sent by claims from this epoch's root."""
    problem: str = ""


class EpochFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told of an epoch at ``/v1/epochs``."""

    epoch: int
    state: str
    from_ms: int
    until_ms: int
    content: str = ""
    """Content hash, hex; empty until it is computed."""
    root: str = ""
    settlement: SettlementFacts | None = None
    """How far it is on the chain; None where none is settled on, or before it is published."""
