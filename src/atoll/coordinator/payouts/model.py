"""The nouns of payouts: days of earnings, terms, payments on their way."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from atoll.coordinator.billing.model import SoFar
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.payouts.model import Progress

DAY_MS = 86_400_000
MICRO_PER_CENT = 10_000
SIGN_MS_MAX = 7 * DAY_MS
"""A node that has not signed by then is asked anew, with the next file."""
PAYOUT_BYTES = 16
FILE_PAYOUTS_MAX = 5_000
"""Of one file: banks take twice as many, a message of ours does not."""
ORDERS_AT_ONCE = 500
"""Payouts that one look takes on."""
DAY_PICO_MAX = 1 << 62
"""What a column holds: 4.6 million euro of one node and day. A larger figure is shown as this."""


class Method(Enum):
    """How a provider is paid. Append only: names are stored."""

    EURO = "euro"
    CREDIT = "credit"
    """Everything is spent on own storage."""
    MIX = "mix"
    """A share of it is."""


class OrderState(Enum):
    """How far a payout is on our side. Append only: names are stored."""

    ASKED = "asked"
    """The node is to sign."""
    SIGNED = "signed"
    """The node let exactly this amount go; it is on its way over the chain."""
    SET_ASIDE = "set_aside"
    """Taken from the provider's balance; it waits for a file."""
    FILED = "filed"
    """It stands in a file for the bank."""
    FAILED = "failed"
    """The bank did not pay it, or it came back: it is in the provider's balance again, and on
    its way to his account on the chain."""
    GIVEN_BACK = "given_back"
    """As before, and it is there."""
    DROPPED = "dropped"
    """It never was set aside: not signed in time, or refused by the chain."""


OPEN = (OrderState.ASKED, OrderState.SIGNED)
"""Nothing was taken yet."""
TAKEN = (OrderState.SET_ASIDE, OrderState.FILED, OrderState.FAILED)
"""What it is worth is not at the provider's account on the chain."""


@dataclass(frozen=True, slots=True)
class DaySums:
    """What all settled epochs brought one node. Pico-euro."""

    earned_pico: int = 0
    repair_pico: int = 0
    top_up_pico: int = 0
    slashed_pico: int = 0
    held_pico: int = 0
    credited_pico: int = 0
    released_pico: int = 0

    @property
    def gained_pico(self) -> int:
        """All that it brought, slashes taken off."""
        return self.earned_pico + self.repair_pico + self.top_up_pico - self.slashed_pico


NOTHING = DaySums()


@dataclass(frozen=True, slots=True)
class PaidSums:
    """What was paid out to one node, by how far it is."""

    sent_pico: int = 0
    paid_pico: int = 0


NOT_PAID = PaidSums()


@dataclass(frozen=True, slots=True)
class Terms:
    """How a node wants to be paid."""

    node: bytes
    method: Method = Method.EURO
    credit_bps: int = 0
    """Share that is spent on storage."""
    customer: bytes = b""
    """Whose storage: a customer id; empty until one was named, kept when it is not used."""
    bank: BankAccount | None = None
    problem: str = ""
    """Why the bank did not pay; no payout is ordered until the terms are set again."""
    changed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """All nodes' figures of one moment, that belong together."""

    so_far: SoFar
    sums: Mapping[bytes, DaySums]
    held: Mapping[bytes, int]
    """By node."""
    due: Mapping[bytes, int]
    """By account on the chain."""
    paid: Mapping[bytes, PaidSums]
    terms: Mapping[bytes, Terms]


@dataclass(frozen=True, slots=True)
class Order:
    """One payout, from the wish to the bank's last word."""

    payout: bytes
    """16 bytes."""
    node: bytes
    account: bytes
    """Where the node's earnings arrive on the chain."""
    amount_cents: int
    state: OrderState
    to: BankAccount
    created_ms: int
    end_to_end: str = ""
    """What banks know it by."""
    statement: bytes = b""
    """What the coordinator signed for it, an encoded ``SignedPayout``; empty without a chain."""
    permit: bytes = b""
    """The node's signature, 65 bytes; empty until it signed, or where no chain is."""
    file: int = 0
    """Number of the file it stands in; 0 for none."""
    progress: Progress | None = None
    """What the bank said; None before it stands in a file."""
    changed_ms: int = 0


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file for the bank: with its payouts enough to write the same bytes again."""

    number: int
    execution_date: str
    version: str
    message: str
    batch: str
    debtor: BankAccount
    created_ms: int
