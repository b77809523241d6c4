"""The nouns of payouts by bank."""

from dataclasses import dataclass
from enum import Enum

from atoll.economy.payments.accounts import BankAccount

PAYOUTS_MAX = 10_000
"""Of one file: what banks take."""
PAYOUT_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class Payout:
    """A payment to somebody, by SEPA credit transfer."""

    payout: bytes
    """What it is known by here, 1 … 64 bytes: one payout, one payment, however often it is sent."""
    to: BankAccount
    amount_cents: int
    text: str = ""
    """For the payee's statement, at most 140 characters."""


@dataclass(frozen=True, slots=True)
class PayoutFile:
    """An order to the bank: one debtor, one day, and who is paid."""

    debtor: BankAccount
    execution_date: str
    """ISO date; the bank takes its next working day."""
    created_ms: int
    """Since 1970, UTC: it is written into the file and identifies nothing."""
    payouts: tuple[Payout, ...]


class State(Enum):
    """How far a payout is. Append only: names are stored."""

    SENT = "sent"
    """The file was written; nothing is known yet."""
    ACCEPTED = "accepted"
    """The bank took it; the money is still there."""
    PAID = "paid"
    """It left the account, by the bank's statement."""
    REJECTED = "rejected"
    """The bank refused it: nothing left the account."""
    RETURNED = "returned"
    """It came back, by the bank's statement."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A payout's state, and why."""

    state: State
    reason: str = ""
    """ISO 20022 code of a refusal or return, with what the bank adds."""
    conflict: str = ""
    """What the bank said that contradicts the state: for a person; "" for nothing."""
    paid_by: bytes = b""
    """Key of the movement with which it left the account."""
    returned_by: bytes = b""


@dataclass(frozen=True, slots=True)
class Word:
    """What the bank said of one payout."""

    payout: bytes
    state: State
    reason: str = ""
    evidence: bytes = b""
    """Key of the statement's movement that says so; empty for reports."""
