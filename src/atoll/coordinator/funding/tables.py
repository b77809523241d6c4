"""The tables of funding. docs/funding.md says what they are for.

Amounts of the ledger are two columns as there: stablecoin units and the picos above.
"""

from sqlalchemy import Column, Integer, String, Table, UniqueConstraint

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# What each customer paid in, was paid out and was charged, by the ledger; what of it was given to
# acts on the chain.
FUNDING_CUSTOMER = Table(
    "funding_customer",
    SCHEMA,
    Column("customer", Bytes, primary_key=True),
    # The customer's name in the escrow.
    Column("escrow_key", Bytes, nullable=False),
    Column("paid_in_micro", Big, nullable=False),
    Column("paid_in_pico", Integer, nullable=False),
    Column("paid_out_micro", Big, nullable=False),
    Column("paid_out_pico", Integer, nullable=False),
    Column("charged_micro", Big, nullable=False),
    Column("charged_pico", Integer, nullable=False),
    Column("deposited_micro", Big, nullable=False),
    Column("arrived_micro", Big, nullable=False),
    Column("drawn_micro", Big, nullable=False),
    Column("withdrawn_micro", Big, nullable=False),
    UniqueConstraint("escrow_key"),
    sqlite_with_rowid=False,
)

# Acts on the chain, each tried until it is done.
FUNDING_MOVE = Table(
    "funding_move",
    SCHEMA,
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("act", String, nullable=False),
    Column("epoch", Big, nullable=False),
    Column("body", Bytes, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", Small, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What each published epoch asks for; take, top-ups and insurance are of all epochs so far.
FUNDING_EPOCH = Table(
    "funding_epoch",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("released_micro", Big, nullable=False),
    Column("held_micro", Big, nullable=False),
    Column("take_micro", Big, nullable=False),
    Column("take_pico", Integer, nullable=False),
    Column("top_up_micro", Big, nullable=False),
    Column("top_up_pico", Integer, nullable=False),
    Column("insured_micro", Big, nullable=False),
    Column("insured_pico", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Draws by epoch; one at a time is not ended.
FUNDING_POT = Table(
    "funding_pot",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("drawn_micro", Big, nullable=False),
    Column("take_micro", Big, nullable=False),
    sqlite_with_rowid=False,
)

# One row: how far ledger, chain and epochs were followed, and what was paid to the distributor.
FUNDING_PROGRESS = Table(
    "funding_progress",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("next_serial", Big, nullable=False),
    Column("entry", Big, nullable=False),
    Column("event", Big, nullable=False),
    Column("epoch_charged", Big, nullable=False),
    Column("epoch_known", Big, nullable=False),
    Column("funded_micro", Big, nullable=False),
    Column("take_micro", Big, nullable=False),
    Column("insured_micro", Big, nullable=False),
    Column("advanced_micro", Big, nullable=False),
    Column("sent_micro", Big, nullable=False),
    Column("counted_micro", Big, nullable=False),
    # In words, for people.
    Column("waits_for", String, nullable=False),
    sqlite_with_rowid=False,
)

# Events that were posted and that the chain lost since, or that concern the distributor's funds:
# how often they were posted anew, whether they are undone now, what they add to those funds.
FUNDING_EVENT = Table(
    "funding_event",
    SCHEMA,
    Column("transaction_hash", Bytes, primary_key=True),
    Column("address", Bytes, primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, nullable=False),
    Column("undone", Small, nullable=False),
    Column("sent_micro", Big, nullable=False),
    Column("counted_micro", Big, nullable=False),
    sqlite_with_rowid=False,
)
