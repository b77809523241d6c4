"""The nouns of a bank's statement, and what becomes of each movement."""

from dataclasses import dataclass
from enum import Enum

EURO = "EUR"


@dataclass(frozen=True, slots=True)
class Movement:
    """One transfer on a statement: an entry, or one of the transfers that an entry sums up."""

    key: bytes
    """32 bytes: the same transfer has the same key in every export. Crediting happens once by it.
    """
    certain: bool
    """The key rests on a reference of the bank's. Otherwise on the content and its place among
    equal ones of the day, which cannot tell apart what two partial exports of one day list."""
    statement: str
    """The statement's own identification."""
    booked: str
    """ISO date."""
    amount_cents: int
    """What came in; negative for what went out. 0 only where ``problem`` says why."""
    currency: str
    reversal: bool = False
    """It takes back an earlier movement."""
    return_reason: str = ""
    """ISO 20022 code (``AC04``) of a transfer that came back; "" for others."""
    name: str = ""
    """Of the other side."""
    iban: str = ""
    end_to_end: str = ""
    payment_information: str = ""
    """Identification of the batch in a payout file, where the bank names it."""
    bank_reference: str = ""
    structured: tuple[str, ...] = ()
    unstructured: tuple[str, ...] = ()
    code: str = ""
    """Bank transaction code, ``PMNT/RCDT/ESCT``."""
    problem: str = ""
    """Why a person must look at it before anything happens; "" for nothing."""
    stated: str = ""
    """What the entry says, ``5.00 CHF``: where the amount is not in euros, or illegible."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What the bank kept for itself, of an entry."""

    key: bytes
    amount_cents: int
    """Positive: the bank took it."""
    booked: str
    statement: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One account's statement."""

    identification: str
    iban: str
    currency: str
    sequence: str
    opening_cents: int | None
    closing_cents: int | None
    movements: tuple[Movement, ...]
    charges: tuple[Charge, ...]
    not_booked: int
    """Entries that are pending or for information: they come again when they are booked."""
    problem: str = ""
    """Why none of it is believed without a person; "" for nothing."""


@dataclass(frozen=True, slots=True)
class StatementFile:
    """A file of statements."""

    message: str
    """``camt.053.001.08``."""
    statements: tuple[Statement, ...]


class Verdict(Enum):
    """What becomes of a movement. Append only: names are stored."""

    CREDIT = "credit"
    """A customer's transfer: it is credited."""
    PAID = "paid"
    """A payout of ours left the account."""
    RETURNED = "returned"
    """A payout of ours came back."""
    TAKEN_BACK = "taken_back"
    """A customer's earlier transfer was reversed: a person decides, it may have been used."""
    UNKNOWN = "unknown"
    """Money came in, nobody knows for whom."""
    AMBIGUOUS = "ambiguous"
    """Money came in with references of several customers."""
    FOREIGN = "foreign"
    """Not in euros: refused."""
    OTHER_DEBIT = "other_debit"
    """Money went out that is no payout of ours: a fee, a payment by hand."""
    REPEATED = "repeated"
    """It stands in the file twice: done once."""
    HELD = "held"
    """It contradicts itself: ``note`` says how."""


AUTOMATIC = frozenset({Verdict.CREDIT, Verdict.PAID, Verdict.RETURNED, Verdict.REPEATED})
"""All others are listed for a person."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A movement and what becomes of it."""

    movement: Movement
    verdict: Verdict
    account: bytes = b""
    """The customer, of ``CREDIT`` and where known of ``TAKEN_BACK``."""
    payouts: tuple[bytes, ...] = ()
    """The payouts, of ``PAID`` and ``RETURNED``."""
    note: str = ""
    """For people."""
