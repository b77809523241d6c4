"""The nouns of customers: how one stands, what he used, what is known when that is judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from atoll.core.messages.customers import BillingAddress
from atoll.core.ports import Disk
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.invoices.model import Party, Vat
from atoll.economy.settlement.model import REAL_TIME

MINUTE_MS = 60_000
DAY_MS = 86_400_000
NO_BUDGET = -1
NOTICES_SHOWN = 10
BUDGET_ALERTS_PERCENT = (75, 100)
DELETED_AT_ONCE = 500
"""Objects removed in one transaction."""
BUDGET_MICRO_MAX = 10**15
"""A billion euro a month."""


class Standing(Enum):
    """How a customer stands. Append only: names are stored."""

    ACTIVE = "active"
    """Something is left."""
    NOTICE = "notice"
    """Nothing is left; he was told, and everything works."""
    READ_ONLY = "read_only"
    """Uploads are refused; everything can be read and removed."""
    GRACE = "grace"
    """As before; the day of deletion is announced."""
    DELETION = "deletion"
    """His objects are removed, those that are locked when their locks end."""


class LineKind(Enum):
    """What a figure of a month is for. Append only: names are stored."""

    STORAGE = "storage"
    EGRESS = "egress"
    UNPROVEN = "unproven"
    DISCOUNT = "discount"
    CREDIT = "credit"
    UNFUNDED = "unfunded"
    """Used and not charged. No money moved."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long each standing lasts before the next one."""

    notice_ms: int
    read_only_ms: int
    grace_ms: int


PROFILES = {
    "local": Times(10 * MINUTE_MS, 20 * MINUTE_MS, 30 * MINUTE_MS),
    "demo": Times(10 * MINUTE_MS, 20 * MINUTE_MS, 30 * MINUTE_MS),
    "wan": Times(3 * DAY_MS, 14 * DAY_MS, 30 * DAY_MS),
}
"""By timer profile."""


@dataclass(frozen=True, slots=True)
class InvoiceConfig:
    """Who writes invoices, and how."""

    account: BankAccount
    """Where customers pay to."""
    seller: Party
    series: str = "A"
    vat: Vat = field(default_factory=lambda: Vat(0))


@dataclass(frozen=True, slots=True)
class CustomersConfig:
    """How customers are billed."""

    times: Times = PROFILES["wan"]
    enforced: bool = False
    """Whether an empty balance has consequences. Budgets always have."""
    charged: bool = False
    """Whether there are epochs."""
    epochs: Disk | None = None
    """Where documents of epochs are kept; None in processes without loops."""
    invoices: InvoiceConfig | None = None
    """None where the operator has named no bank account."""
    time_factor: int = REAL_TIME
    pause_s: float = 5.0
    """Between two judgements."""
    fresh_s: float = 1.0
    """How old what is known of refusals may be."""


@dataclass(frozen=True, slots=True)
class Customer:
    """What is known of one customer."""

    account: bytes
    budget_micro: int = NO_BUDGET
    budget_stops: bool = True
    told_month: str = ""
    told_percent: int = 0
    standing: Standing = Standing.ACTIVE
    since_ms: int = 0
    until_ms: int = 0
    """When the next standing follows; 0 for never."""
    refused: str = ""
    reserved_micro: int = 0
    address: bytes = b""
    sequence: int = 0


class UsageLine(msgspec.Struct, frozen=True, array_like=True):
    """What one bucket came to in a month, of one kind."""

    bucket: bytes
    """Empty for what concerns no single bucket."""
    kind: str
    """A ``LineKind``."""
    quantity: int
    """Byte-milliseconds of storage, bytes of traffic, else 0."""
    amount_pico: int
    """Not negative; the kind says in whose favour."""


@dataclass(frozen=True, slots=True)
class OpenLine:
    """What was metered and is not in ``customer_month`` yet."""

    epoch: int
    """0 while no epoch was closed over it."""
    alias: int
    bucket: bytes
    account: bytes
    piece_bytes: int
    price_pico: int
    from_ms: int
    until_ms: int
    """0 while it goes on."""


@dataclass(frozen=True, slots=True)
class OpenRead:
    """What was read at a node and is not in ``customer_month`` yet."""

    epoch: int
    """0 while no epoch was closed over it."""
    alias: int
    account: bytes
    byte_count: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What lay of a bucket at a node when the meters were read last."""

    alias: int
    bucket: bytes
    account: bytes
    piece_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """One bucket of one customer since the last settled epoch, and how it goes on."""

    bytes_now: int = 0
    byte_ms: int = 0
    fee_pico: int = 0
    """Since the last epoch in ``customer_month``."""
    unposted_pico: int = 0
    """That part of it which the ledger does not know either."""
    rate_pico: int = 0
    """What a month costs as it is now."""
    egress_pico: int = 0
    """What of the fee is for reading."""

    def plus(self, other: "Running") -> "Running":
        """Return both together."""
        return Running(
            self.bytes_now + other.bytes_now,
            self.byte_ms + other.byte_ms,
            self.fee_pico + other.fee_pico,
            self.unposted_pico + other.unposted_pico,
            self.rate_pico + other.rate_pico,
            self.egress_pico + other.egress_pico,
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a customer when he is judged."""

    balance_pico: int
    unposted_pico: int
    reserved_pico: int
    rate_pico: int
    bytes_now: int
    """Of pieces, stored now."""
    month: str
    month_pico: int
    """Of the budget: charged and running this month."""

    @property
    def available_pico(self) -> int:
        """What can still be used up."""
        return self.balance_pico - self.unposted_pico - self.reserved_pico


@dataclass(frozen=True, slots=True)
class Told:
    """Something to tell a customer."""

    kind: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class MovementRow:
    """A movement of our bank account."""

    key: bytes
    seen_ms: int
    booked: str
    amount_cents: int
    verdict: str
    account: bytes
    note: str
    certain: bool
    file: bytes
    waiting: bool


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """An invoice as stored."""

    number: str
    account: bytes
    month: str
    issued: str
    gross_cents: int
    open_cents: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Clock:
    """How far the books of customers are."""

    epoch: int
    until_ms: int
    invoiced: str


NO_ADDRESS = BillingAddress()
Months = Mapping[bytes, tuple[UsageLine, ...]]
"""Lines of one month by account."""
