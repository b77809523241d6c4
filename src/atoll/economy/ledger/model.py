"""The nouns of the ledger: accounts, entries, postings. ``docs/spec/ledger.md``."""

import hashlib
from dataclasses import dataclass
from enum import Enum

import msgspec

ENTRY_POSTINGS_MAX = 20_000
"""More than this is written as several entries over a clearing account."""
KEY_BYTES_MAX = 64
OWNER_BYTES_MAX = 64
EVIDENCE_BYTES_MAX = 256
MEMO_CHARACTERS_MAX = 200
STATEMENT_LINES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Nature:
    """What a kind of account means."""

    asset: bool
    """Grows by what is debited (assets, expenses); others grow by what is credited."""
    may_be_negative: bool = False


class AccountKind(Enum):
    """Kinds of accounts. Append only: names are stored."""

    CUSTOMER = "customer"
    """What a customer has prepaid and not used; owner: customer id."""
    PROVIDER = "provider"
    """Released to a provider and not paid out yet; owner: its account on chain."""
    HELD = "held"
    """Held back of a node's pay; owner: node id."""
    BUCKET = "bucket"
    """A share of the take; owner: its name (``settlement.model.BUCKETS``)."""
    REMAINDER = "remainder"
    """Fractions that are carried to the next epoch; no owner."""
    RESERVE = "reserve"
    """What there is to top up from."""
    CLEARING = "clearing"
    """In between the entries of one epoch; owner: the epoch. Empty when all are written."""
    PAYABLE = "payable"
    """On its way out by bank; owner: the payment."""
    BANK = "bank"
    """Money at a bank; owner: which."""
    STABLE = "stable"
    """Stablecoin in a contract; owner: its address."""
    EXPENSE = "expense"
    """What the operator bears: fees of banks and chains, goodwill."""
    OPERATOR = "operator"
    """What the operator put in; may be overdrawn, it is his."""


NATURES: dict[AccountKind, Nature] = {
    AccountKind.CUSTOMER: Nature(asset=False),
    AccountKind.PROVIDER: Nature(asset=False),
    AccountKind.HELD: Nature(asset=False),
    AccountKind.BUCKET: Nature(asset=False),
    AccountKind.REMAINDER: Nature(asset=False),
    AccountKind.RESERVE: Nature(asset=False),
    AccountKind.CLEARING: Nature(asset=False, may_be_negative=True),
    AccountKind.PAYABLE: Nature(asset=False),
    AccountKind.BANK: Nature(asset=True),
    AccountKind.STABLE: Nature(asset=True),
    AccountKind.EXPENSE: Nature(asset=True, may_be_negative=True),
    AccountKind.OPERATOR: Nature(asset=False, may_be_negative=True),
}


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """One account: its kind's name and its owner (0 … 64 bytes)."""

    kind: str
    owner: bytes = b""

    @classmethod
    def of(cls, kind: AccountKind, owner: bytes = b"") -> "Account":
        """Name an account of a known kind."""
        return cls(kind.value, owner)

    def __str__(self) -> str:
        return f"{self.kind}:{self.owner.hex()}" if self.owner else self.kind


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of an entry. Debits are positive, credits negative; pico-euro, never 0."""

    account: Account
    amount_pico: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement of money: postings that sum to zero, why, and its key: it happens once."""

    key: bytes
    """Idempotency key, 1 … 64 bytes: the same entry under it again does nothing."""
    kind: str
    """``epoch``, ``deposit``, ``payout``, …: a word for statements."""
    evidence: bytes
    """What it rests on: a document's hash, a transaction, a bank's reference; 1 … 256 bytes."""
    postings: tuple[Posting, ...]
    memo: str = ""

    def digest(self) -> bytes:
        """Return 32 bytes that stand for this very content."""
        body = msgspec.msgpack.encode(
            (
                self.kind,
                self.evidence,
                self.memo,
                [
                    (one.account.kind, one.account.owner, str(one.amount_pico))
                    for one in self.postings
                ],
            )
        )
        return hashlib.sha256(b"atoll/ledger-entry/1\0" + body).digest()


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's balance in its own sense: what it owes, or has; and how many postings it had."""

    account: Account
    amount_pico: int
    postings: int


@dataclass(frozen=True, slots=True)
class Posted:
    """The outcome of posting an entry."""

    number: int
    new: bool
    """False where it had been posted before."""


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One posting as its account's owner sees it."""

    number: int
    """1, 2, 3, … within the account."""
    entry: int
    time_ms: int
    kind: str
    amount_pico: int
    """In the account's own sense: positive where its balance grew."""
    balance_pico: int
    """After it."""
    evidence: bytes
    memo: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of an account's statement, oldest first."""

    account: Account
    lines: tuple[StatementLine, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it was written."""

    number: int
    time_ms: int
    entry: Entry
    chain: bytes
    """SHA-256 over the chain value before it and this entry's digest: nothing is changed unseen."""
