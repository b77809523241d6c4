"""The tables of payouts. docs/payouts.md says what they are for."""

from sqlalchemy import Column, Index, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# What epochs that ended on a day brought a node, pico-euro; the ledger has the same to the pico.
EARNING_DAY = Table(
    "earning_day",
    SCHEMA,
    Column("node", Bytes, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("earned_pico", Big, nullable=False),
    Column("repair_pico", Big, nullable=False),
    Column("top_up_pico", Big, nullable=False),
    Column("slashed_pico", Big, nullable=False),
    Column("held_pico", Big, nullable=False),
    Column("credited_pico", Big, nullable=False),
    Column("released_pico", Big, nullable=False),
    sqlite_with_rowid=False,
)

# How a node wants to be paid. Name and number of its bank account are sealed.
PAYOUT_TERMS = Table(
    "payout_terms",
    SCHEMA,
    Column("node", Bytes, primary_key=True),
    Column("method", String, nullable=False),
    Column("credit_bps", Integer, nullable=False),
    Column("customer", Bytes, nullable=False),
    Column("sealed", Bytes, nullable=False),
    Column("problem", String, nullable=False),
    Column("changed_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# One payment to one node's bank account, from the wish to the bank's last word.
PAYOUT = Table(
    "payout",
    SCHEMA,
    Column("payout", Bytes, primary_key=True),
    Column("node", Bytes, nullable=False, index=True),
    Column("account", Bytes, nullable=False, index=True),
    Column("end_to_end", String, nullable=False, unique=True),
    Column("amount_cents", Big, nullable=False),
    Column("state", String, nullable=False),
    Column("sealed", Bytes, nullable=False),
    Column("statement", Bytes, nullable=False),
    Column("permit", Bytes, nullable=False),
    Column("file", Big, nullable=False),
    Column("bank_state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("conflict", String, nullable=False),
    Column("paid_by", Bytes, nullable=False),
    Column("returned_by", Bytes, nullable=False),
    Column("created_ms", Big, nullable=False),
    Column("changed_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)
Index(None, PAYOUT.c.state, PAYOUT.c.created_ms)
Index(None, PAYOUT.c.file)

# A file that tells the bank to pay: with its payouts enough to write the same bytes again.
PAYOUT_FILE = Table(
    "payout_file",
    SCHEMA,
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("execution_date", String, nullable=False),
    Column("version", String, nullable=False),
    Column("message", String, nullable=False, unique=True),
    Column("batch", String, nullable=False, unique=True),
    Column("sealed", Bytes, nullable=False),
    Column("created_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)
