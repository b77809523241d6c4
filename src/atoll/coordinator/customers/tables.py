"""The tables of customers. docs/customers.md says what they are for."""

from sqlalchemy import Column, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# One row per customer of whom anything is known: what he has set, how he stands, and what was set
# aside for his locked data. ``budget_micro`` -1: none. ``refused``: why he may not upload, or "".
CUSTOMER = Table(
    "customer",
    SCHEMA,
    Column("account", Bytes, primary_key=True),
    Column("budget_micro", Big, nullable=False),
    Column("budget_stops", Small, nullable=False),
    # Month and share of the budget that he was told of last.
    Column("told_month", String, nullable=False),
    Column("told_percent", Small, nullable=False),
    Column("standing", String, nullable=False),
    Column("since_ms", Big, nullable=False),
    Column("until_ms", Big, nullable=False),
    Column("refused", String, nullable=False),
    Column("reserved_micro", Big, nullable=False),
    # BillingAddress in MessagePack; empty for none.
    Column("address", Bytes, nullable=False),
    # Grows with every change of the standing: whoever judged an older one does nothing.
    Column("sequence", Big, nullable=False),
    sqlite_with_rowid=False,
)

CUSTOMER_NOTICE = Table(
    "customer_notice",
    SCHEMA,
    Column("account", Bytes, primary_key=True),
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("time_ms", Big, nullable=False),
    Column("kind", String, nullable=False),
    Column("about", String, nullable=False),
    sqlite_with_rowid=False,
)

# What a customer was charged in a month, by bucket and kind (rows of ``UsageLine``).
CUSTOMER_MONTH = Table(
    "customer_month",
    SCHEMA,
    Column("account", Bytes, primary_key=True),
    Column("month", String, primary_key=True),
    Column("epoch", Big, nullable=False),
    Column("body", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# One row: the last epoch whose charges stand in ``customer_month``, and when it ended.
CUSTOMER_CLOCK = Table(
    "customer_clock",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Big, nullable=False),
    Column("until_ms", Big, nullable=False),
    # The last month of which all invoices were written.
    Column("invoiced", String, nullable=False),
    sqlite_with_rowid=False,
)

INVOICE = Table(
    "invoice",
    SCHEMA,
    Column("number", String, primary_key=True),
    Column("account", Bytes, nullable=False, index=True),
    Column("month", String, nullable=False),
    Column("issued", String, nullable=False),
    Column("gross_cents", Big, nullable=False),
    Column("open_cents", Big, nullable=False),
    Column("body", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# The number given last in a series, and that invoice's day: locked while the next one is stored.
INVOICE_SERIES = Table(
    "invoice_series",
    SCHEMA,
    Column("series", String, primary_key=True),
    Column("number", String, nullable=False),
    Column("issued", String, nullable=False),
    sqlite_with_rowid=False,
)

# Movements of our bank account as statements told them: credited to a customer, or waiting for a
# person. Who paid is not kept here.
BANK_MOVEMENT = Table(
    "bank_movement",
    SCHEMA,
    Column("key", Bytes, primary_key=True),
    Column("seen_ms", Big, nullable=False),
    Column("booked", String, nullable=False),
    Column("amount_cents", Big, nullable=False),
    Column("verdict", String, nullable=False),
    Column("account", Bytes, nullable=False),
    Column("note", String, nullable=False),
    Column("certain", Small, nullable=False),
    # SHA-256 of the file that told it first, and whether a person must still decide.
    Column("file", Bytes, nullable=False),
    Column("waiting", Small, nullable=False, index=True),
    sqlite_with_rowid=False,
)
