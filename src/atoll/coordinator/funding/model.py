"""The nouns of funding: what customers have in escrow, acts on the chain, pots, what is short."""

from dataclasses import dataclass
from enum import Enum, IntEnum

import msgspec

from atoll.core.money import PICO_PER_MICRO

CUSTOMER_BYTES_MAX = 64
"""As owners in the ledger."""
ESCROW_SALTS = b"escrow-salts/1"
"""Purpose under which a coordinator's identity derives the secret behind customers' salts."""
KEY = "funding/"
"""Keys of our intents begin so."""
CUSTOMERS_MAX = 256
"""Of one call of the escrow; ``CUSTOMERS_MAX`` there."""
FOLLOWED_ENTRIES = 50
"""Entries of the ledger that one step follows."""
FOLLOWED_EVENTS = 500
DEPOSITS_MAX = 256
"""Deposits under way at once."""
WITHDRAWALS_MAX = 256
"""Withdrawals under way at once; on a public chain each takes days."""
POT_CUSTOMERS_MAX = 50_000
"""Customers of one pot; the others are drawn with the next one."""
OPEN_MOVES_MAX = DEPOSITS_MAX + WITHDRAWALS_MAX + POT_CUSTOMERS_MAX // CUSTOMERS_MAX + 16
"""Acts under way at once, all together."""
RETRY_MS = 30_000
"""What the contract undid is not tried again before: each attempt costs gas."""
ATTEMPTS_SEEN_MAX = 64
"""Earlier attempts that are looked at before another one."""
REVIEWED_MAX = 1_000
"""Failed intents that a review looks at: a chain that branched may undo what was done."""
REVIEW_PAUSE_S = 10.0
FUNDED_PAUSE_S = 10.0
"""The distributor is asked so often how it is funded, where nothing has changed."""
FLOAT_MICRO = 1_000_000_000
"""On an embedded chain the operator's account is kept above this: a proposer's bond fits in."""
FAUCET_MICRO_MAX = 1_000_000_000_000
"""Of one call; ``FAUCET_MAX`` of the contract."""
ALLOWANCE = 2**256 - 1
"""Escrow and distributor may pull all that the operator has: they pull what he asks them to."""
CHAIN_DEPOSIT = "chain deposit"
"""Kind of the entry for what somebody else paid into a customer's escrow on the chain."""


class Act(Enum):
    """What is done on the chain. Append only: names are stored."""

    APPROVE_ESCROW = "approve escrow"
    APPROVE_DISTRIBUTOR = "approve distributor"
    FAUCET = "faucet"
    """Make test euros; on an embedded chain only."""
    DEPOSIT = "deposit"
    NOTICE = "notice"
    WITHDRAW = "withdraw"
    DRAW = "draw"
    RELEASE = "release"
    ABSORB = "absorb"
    RECLAIM = "reclaim"
    """Customers get back what was drawn for a pot that was rejected, or is too old."""
    REFUND = "refund"
    """The same of an open pot: where a chain forgot that it was rejected."""
    INSURE = "insure"
    """Insurance's bucket of the treasury pays to the distributor."""
    FUND = "fund"
    """The operator pays to the distributor."""


SPENDS = (Act.DEPOSIT, Act.FUND)
"""Take stablecoin from the operator's account."""


class MoveState(IntEnum):
    """How an act stands. Numbers are stored."""

    OPEN = 0
    DONE = 1
    DROPPED = 2
    """The contract refuses it for good, so that it never happens."""


class PotState(Enum):
    """How far the draw of an epoch is. Append only: names are stored."""

    DRAWING = "drawing"
    """Its draws are fixed and on their way."""
    LOCKED = "locked"
    """All drawn; waits for the lock to be over."""
    RELEASING = "releasing"
    RECLAIMING = "reclaiming"
    """It was rejected, or expired: customers get back what was drawn."""
    RELEASED = "released"
    GIVEN_BACK = "given back"


ENDED = (PotState.RELEASED, PotState.GIVEN_BACK)


class MoveBody(msgspec.Struct, frozen=True, array_like=True):
    """What an act is about; the same for ever, whatever is tried."""

    customers: list[bytes] = []
    sums_micro: list[int] = []


@dataclass(frozen=True, slots=True)
class Move:
    """One act on the chain: durable before it is wanted of the outbox, tried until it is done."""

    serial: int
    act: Act
    epoch: int
    """0 where it is of none."""
    body: MoveBody
    attempt: int
    """From 0; another one after the contract refused it for good."""
    state: MoveState

    @property
    def key(self) -> str:
        """Key of the attempt's intent."""
        return f"{KEY}{self.serial}/{self.attempt}"

    @property
    def amount_micro(self) -> int:
        """All that is moved."""
        return sum(self.body.sums_micro)


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer's money, since the beginning.

    What is ``_pico`` comes from the ledger; what is ``_micro`` was given to acts on the chain,
    whether they are done or not.
    """

    customer: bytes
    paid_in_pico: int = 0
    """Ever, other than by epochs."""
    paid_out_pico: int = 0
    charged_pico: int = 0
    """By epochs, net of refunds and credits; falls where credits exceed charges."""
    deposited_micro: int = 0
    arrived_micro: int = 0
    """Of the deposits: stands on the chain."""
    drawn_micro: int = 0
    withdrawn_micro: int = 0

    @property
    def balance_pico(self) -> int:
        """What the ledger says he has."""
        return self.paid_in_pico - self.paid_out_pico - self.charged_pico

    @property
    def spent_micro(self) -> int:
        """What was taken of his escrow."""
        return self.drawn_micro + self.withdrawn_micro

    @property
    def to_deposit_micro(self) -> int:
        """What has to be deposited yet; fractions wait."""
        return self.paid_in_pico // PICO_PER_MICRO - self.deposited_micro

    @property
    def to_draw_micro(self) -> int:
        """What has to be drawn yet: never more than is there with all deposits."""
        return max(0, self.charged_pico // PICO_PER_MICRO - self.drawn_micro)

    @property
    def to_withdraw_micro(self) -> int:
        """What has to be withdrawn yet, and is there."""
        due = self.paid_out_pico // PICO_PER_MICRO - self.withdrawn_micro
        return max(0, min(due, self.arrived_micro - self.spent_micro))


@dataclass(frozen=True, slots=True)
class EpochNeeds:
    """What an epoch's document asks of the distributor, and what all epochs so far came to."""

    epoch: int
    released_micro: int
    held_micro: int
    take_pico: int
    """Of all epochs."""
    top_up_pico: int
    """Of all epochs; the operator's."""
    insured_pico: int
    """Of all epochs: what the insurance paid less what it got of nodes; falls, below 0, too."""

    @property
    def need_micro(self) -> int:
        """What the distributor must have been funded with since the first epoch."""
        return self.released_micro + self.held_micro


@dataclass(frozen=True, slots=True)
class Pot:
    """What was drawn for an epoch, and for those before it that were not drawn for."""

    epoch: int
    state: PotState
    drawn_micro: int
    take_micro: int
    """Decided when it is released."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far funding is; one row."""

    entry: int = 0
    """Last entry of the ledger that was followed."""
    event: int = 0
    """Serial of the last event of the chain that was followed."""
    epoch_charged: int = 0
    """Newest epoch in the ledger, as far as it was followed."""
    epoch_known: int = 0
    """Newest epoch whose document was read."""
    funded_micro: int = 0
    """What the distributor said it was funded with, when it was asked last."""
    take_micro: int = 0
    """Sent to the treasury, or about to be."""
    insured_micro: int = 0
    """From insurance's bucket to the distributor, or about to be."""
    advanced_micro: int = 0
    """From the operator to the distributor, or about to be."""
    sent_micro: int = 0
    """To the distributor by transfers that contracts told of."""
    counted_micro: int = 0
    """Told by the distributor as funds."""


EventName = tuple[bytes, bytes, int]
"""Transaction, contract's address and ordinal: an event's name for good."""


@dataclass(frozen=True, slots=True)
class PostedEvent:
    """How an event of the chain stands in the books."""

    generation: int = 0
    """How often it was posted anew, after the chain had lost it or told it otherwise."""
    undone: bool = False
    sent_micro: int = 0
    """What it adds to ``Progress.sent_micro``."""
    counted_micro: int = 0


@dataclass(frozen=True, slots=True)
class ReconciliationLine:
    """One sum on the chain beside the same in the books, in stablecoin units (1e-6 EUR)."""

    name: str
    chain_micro: int
    books_micro: int

    @property
    def difference_micro(self) -> int:
        """What the chain has beyond the books."""
        return self.chain_micro - self.books_micro


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The chain beside the books."""

    lines: tuple[ReconciliationLine, ...]
    moves: int
    """Acts under way: while there are any, lines may differ."""
    waits_for: str
    """What funding waits for, in words; empty for nothing."""

    @property
    def agrees(self) -> bool:
        """Whether every line is equal to the unit."""
        return all(not line.difference_micro for line in self.lines)
