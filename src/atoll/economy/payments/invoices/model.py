"""The nouns of an invoice. What is here is never changed once it has a number."""

from enum import Enum

import msgspec

LINES_MAX = 10_000
TEXT_CHARACTERS_MAX = 500
VAT_BPS_MAX = 5_000


class LineKind(Enum):
    """What a line is for. Append only: names are stored."""

    STORAGE = "storage"
    """Bytes kept, times time."""
    EGRESS = "egress"
    """Bytes read."""
    UNPROVEN = "unproven"
    """Given back: what nodes could not prove that they kept. Negative."""
    DISCOUNT = "discount"
    """Negative."""
    CREDIT = "credit"
    """From slashes and the insurance. Negative."""
    ROUNDING = "rounding"
    """What is left out to come to whole cents. Negative, under a cent."""


NEGATIVE = frozenset({LineKind.UNPROVEN, LineKind.DISCOUNT, LineKind.CREDIT, LineKind.ROUNDING})


class Line(msgspec.Struct, frozen=True):
    """One line: exact to the pico, without VAT."""

    kind: LineKind
    bucket: str
    """The bucket's name; "" for what concerns all."""
    quantity: int
    """In ``unit``s; 0 where there is none to name."""
    unit: str
    """``byte_ms``, ``bytes`` or ""."""
    amount_pico: int
    """Negative for what is given back."""
    note: str = ""


class Party(msgspec.Struct, frozen=True):
    """Who writes an invoice, or gets it."""

    name: str
    address: tuple[str, ...]
    """Lines of a postal address."""
    vat_number: str = ""


class Vat(msgspec.Struct, frozen=True):
    """Value added tax, as the operator must charge it. He answers for it, not the program."""

    rate_bps: int
    """1900 is 19 %; 0 with a ``note`` that says why."""
    note: str = ""
    """What must be said, ``reverse charge`` for one."""


class Invoice(msgspec.Struct, frozen=True):
    """An invoice over one period. All sums follow from the lines: ``rules.check``."""

    number: str
    issued: str
    """ISO date."""
    period_from: str
    """ISO date, the first day."""
    period_until: str
    """ISO date, the last day."""
    seller: Party
    customer: Party
    lines: tuple[Line, ...]
    vat: Vat
    net_cents: int
    vat_cents: int
    gross_cents: int
    prepaid_cents: int
    """Paid already from what the customer had prepaid."""
    due: str
    """ISO date until when the rest is to be paid."""
    iban: str
    bic: str
    reference: str
    """The customer's own, RF …, the same on all his invoices and top-ups."""

    @property
    def open_cents(self) -> int:
        """What is still to be paid."""
        return self.gross_cents - self.prepaid_cents
