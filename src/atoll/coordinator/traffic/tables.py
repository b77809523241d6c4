"""The tables of traffic. docs/metering.md says what they are for."""

from sqlalchemy import Column, Integer, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# Bytes settled under each read order, until it is too old to be claimed for.
READ_ORDER = Table(
    "read_order",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    # Early in the key, so that orders come in nearly sorted and go away from one end.
    Column("issued_ms", Big, primary_key=True, autoincrement=False),
    Column("serial", Bytes, primary_key=True),
    Column("byte_count", Big, nullable=False),
    sqlite_with_rowid=False,
)

# The newest receipt of each tab (a gateway's worker at a node) of an epoch, signed by both sides;
# epoch 0 is the one that goes on. ``byte_count`` is what counted in that epoch.
READ_RECEIPT = Table(
    "read_receipt",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("tab", Bytes, primary_key=True),
    Column("sequence", Big, nullable=False),
    Column("byte_count", Big, nullable=False),
    Column("receipt", Bytes, nullable=False),
    Column("node_key", Bytes, nullable=False),
    Column("signature", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# What each account read at each node in an epoch; epoch 0 is the one that goes on.
READ_LINE = Table(
    "read_line",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("account", Bytes, primary_key=True),
    Column("byte_count", Big, nullable=False),
    Column("evidence", Bytes, nullable=False, index=True),
    sqlite_with_rowid=False,
)
