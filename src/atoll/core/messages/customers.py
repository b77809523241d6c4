"""What a customer owes and has: bills, budgets, invoices; and what an operator's bank says.

Amounts (``*_eur``) are euros as decimal text, exact to 1e-12 (``core.money.parse_euro`` reads
them): whole numbers of messages end at 64 bits, picos do not. Months are ``2026-11``, in UTC.
"""

import msgspec

from atoll.core.messages.base import Message
from atoll.core.messages.objects import Done

STATEMENT_BYTES_MAX = 7 << 20
"""Of one imported file: it travels in one message."""
STATEMENT_LISTED_MAX = 10_000


class BillLine(msgspec.Struct, frozen=True):
    """What one bucket comes to in a month."""

    bucket: str
    """Its name; empty for what concerns all of them or a bucket that is gone."""
    bytes_now: int
    """Of pieces, at the last reading of the meters."""
    quantity: str
    """``1.25 GB-month`` of pieces."""
    storage_eur: str
    """Settled and running together, as far as nodes prove what they keep."""
    egress_eur: str
    returned_eur: str
    """Given back: what nodes did not prove, discounts, credits. Not negative."""
    to_date_eur: str
    rate_eur: str
    """What a month of 30 days costs as it is now."""


class CustomerNotice(msgspec.Struct, frozen=True):
    """Something a customer was told."""

    number: int
    time_ms: int
    kind: str
    """``budget_75``, ``budget_100``, ``notice``, ``read_only``, ``grace``, ``deletion``,
    ``active``."""
    about: str = ""
    """An amount or a number that it is about."""


class BillingAddress(msgspec.Struct, frozen=True):
    """To whom invoices are written."""

    name: str = ""
    address: list[str] = []
    vat_number: str = ""


class TransferFacts(msgspec.Struct, frozen=True):
    """How to pay in: everything that a transfer needs."""

    holder: str = ""
    """Empty where the operator has named no bank account."""
    iban: str = ""
    bic: str = ""
    reference: str = ""
    """The customer's own, for life."""


class GetBill(Message, frozen=True):
    """What does an account owe for a month, and how long does its balance last?"""

    account: bytes
    month: str = ""
    """Empty: this one."""


class Bill(Message, frozen=True):
    """A month of a customer."""

    account: str
    """In hex."""
    month: str
    time_ms: int
    charged: bool
    """False where this cloud settles no epochs: nothing is charged."""
    enforced: bool
    """Whether an empty balance has consequences here."""
    time_factor: int
    """More than 1 in demonstrations: so many times longer is time for fees."""
    balance_eur: str
    """Prepaid and not charged yet."""
    running_eur: str
    """Used since the last settled epoch: part of ``to_date_eur``, not yet of the balance."""
    reserved_eur: str
    """Set aside for locked data until its locks end."""
    available_eur: str
    """Balance less running and reserved: when it is used up the standing changes."""
    to_date_eur: str
    projected_eur: str
    """The whole month, if all stays as it is."""
    unfunded_eur: str
    """Used this month and not charged: nothing was there to pay it."""
    rate_eur: str
    """What a month of 30 days costs as it is now."""
    empty_ms: int
    """When the available balance will be used up; 0 for not within ten years."""
    standing: str
    """``active``, ``notice``, ``read_only``, ``grace``, ``deletion``."""
    standing_since_ms: int
    standing_until_ms: int
    """When the next standing follows; 0 for never."""
    refused: str
    """Why uploads are refused; empty where they are not."""
    budget_eur: str
    """Of a month; empty for none."""
    budget_stops: bool
    """Uploads are refused when it is used up."""
    lines: list[BillLine]
    notices: list[CustomerNotice]
    """The newest first."""
    transfer: TransferFacts
    settled_epoch: int = 0
    """The last epoch in these figures."""


class SetBudget(Message, frozen=True):
    """Set a customer's budget of a month. Errors: ``BAD_REQUEST``."""

    account: bytes
    budget_eur: str
    """Empty for none."""
    stops: bool = True
    """Refuse uploads when it is used up; else only tell."""


class SetBillingAddress(Message, frozen=True):
    """Say to whom a customer's invoices are written. Errors: ``BAD_REQUEST``."""

    account: bytes
    address: BillingAddress


class GetBillingAddress(Message, frozen=True):
    """Ask to whom a customer's invoices are written."""

    account: bytes


class BillingAddressFacts(Message, frozen=True):
    """It."""

    address: BillingAddress


class InvoiceFacts(msgspec.Struct, frozen=True):
    """One invoice in a list."""

    number: str
    month: str
    issued: str
    gross_eur: str
    open_eur: str
    """Still to be paid."""


class ListInvoices(Message, frozen=True):
    """A customer's invoices, the newest first."""

    account: bytes
    limit: int = 100


class InvoiceList(Message, frozen=True):
    """Them, and how to pay."""

    invoices: list[InvoiceFacts]
    transfer: TransferFacts


class GetInvoice(Message, frozen=True):
    """One invoice in full. Errors: ``NOT_FOUND``."""

    account: bytes
    number: str


class InvoiceDocument(Message, frozen=True):
    """It, as ``atoll/invoice/1``."""

    body: str
    """In JSON."""
    open_eur: str
    """Still to be paid: less than it says where something was paid since."""


class ImportStatement(Message, frozen=True):
    """The operator: take over a bank's statement (camt.053).

    Errors: ``BAD_REQUEST``, ``TOO_LARGE``, ``PRECONDITION_FAILED`` (no bank account is set).
    """

    data: bytes
    dry_run: bool = False
    """Judge and tell; change nothing."""


class MovementFacts(msgspec.Struct, frozen=True):
    """What became of one movement of a statement."""

    key: bytes
    booked: str
    amount_eur: str
    verdict: str
    account: bytes = b""
    owner: str = ""
    """The customer's name, of a credit."""
    new: bool = False
    """It was credited, or taken down for a person, by this very import."""
    note: str = ""
    certain: bool = True
    """The bank itself has named it by a reference."""


class StatementTaken(Message, frozen=True):
    """What became of a file."""

    statements: int
    movements: list[MovementFacts]
    """At most 10,000; those for a person first."""
    credited_eur: str
    """By this import."""
    known_eur: str
    """Credited by an earlier import already."""
    charges_eur: str
    """What the bank kept: the operator's expense."""
    waiting: int
    """For a person."""
    dry_run: bool = False


class AssignMovement(Message, frozen=True):
    """The operator: credit money that named nobody to a customer.

    Errors: ``NOT_FOUND``, ``CONFLICT`` (it was credited to another, or waits for something else).
    """

    key: bytes
    account: bytes


class MovementTaken(Message, frozen=True):
    """What became of it."""

    movement: MovementFacts


class ListCustomers(Message, frozen=True):
    """The operator: customers with reference, balance and standing, in the order of their ids."""

    after: bytes = b""
    limit: int = 1_000


class CustomerFacts(msgspec.Struct, frozen=True):
    """One customer in the operator's list."""

    account: bytes
    owner: str
    reference: str
    balance_eur: str
    standing: str
    until_ms: int
    refused: str = ""


class CustomerList(Message, frozen=True):
    """A page of customers, and the movements that wait for a person."""

    customers: list[CustomerFacts]
    more: bool
    waiting: list[MovementFacts]


NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    GetBill: Bill,
    SetBudget: Done,
    SetBillingAddress: Done,
    GetBillingAddress: BillingAddressFacts,
    ListInvoices: InvoiceList,
    GetInvoice: InvoiceDocument,
    ImportStatement: StatementTaken,
    AssignMovement: MovementTaken,
    ListCustomers: CustomerList,
}
"""Requests of gateways and of the operator of this family and their answers."""
OPERATOR_REQUESTS: frozenset[type[Message]] = frozenset(
    {ImportStatement, AssignMovement, ListCustomers}
)
"""Answered to the coordinator's own key alone."""
