"""The tables of a watcher, in a database of its own beside those of the chain.

All of it can be read from the chain again; it is kept so that a start need not read years of it.
Amounts are 32 bytes, big-endian.
"""

from sqlalchemy import Column, MetaData, Table, Text

from atoll.economy.sql import NAMES, Big, Bytes

SCHEMA = MetaData(naming_convention=NAMES)

WATCHER_SCAN = Table(
    "watcher_scan",
    SCHEMA,
    Column("distributor", Bytes, primary_key=True),
    Column("read_to", Big, nullable=False),
    sqlite_with_rowid=False,
)

WATCHER_PROPOSAL = Table(
    "watcher_proposal",
    SCHEMA,
    Column("distributor", Bytes, primary_key=True),
    Column("attempt", Big, primary_key=True, autoincrement=False),
    Column("epoch", Big, nullable=False, index=True),
    Column("root", Bytes, nullable=False),
    Column("content", Bytes, nullable=False),
    Column("leaf_count", Big, nullable=False),
    Column("transaction_hash", Bytes, nullable=False),
    Column("block_number", Big, nullable=False),
    sqlite_with_rowid=False,
)

WATCHER_DEMAND = Table(
    "watcher_demand",
    SCHEMA,
    Column("distributor", Bytes, primary_key=True),
    Column("attempt", Big, primary_key=True, autoincrement=False),
    Column("chunk", Big, primary_key=True, autoincrement=False),
    Column("demander", Bytes, nullable=False),
    Column("answered_by", Bytes, nullable=False),
    Column("settled", Big, nullable=False),
    sqlite_with_rowid=False,
)

WATCHER_STRIKE = Table(
    "watcher_strike",
    SCHEMA,
    Column("distributor", Bytes, primary_key=True),
    Column("attempt", Big, primary_key=True, autoincrement=False),
    Column("epoch", Big, nullable=False),
    Column("fault", Big, nullable=False),
    Column("challenger", Bytes, nullable=False),
    Column("reward_micro", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

WATCHER_CASE = Table(
    "watcher_case",
    SCHEMA,
    Column("distributor", Bytes, primary_key=True),
    Column("attempt", Big, primary_key=True, autoincrement=False),
    Column("verdict", Text, nullable=False),
    Column("problem", Text, nullable=False),
    sqlite_with_rowid=False,
)
