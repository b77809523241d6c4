"""The tables of slashing. docs/slashing.md says what they are for."""

from sqlalchemy import Column, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# One row per node that lost data, with the file that shows it.
SLASH_CASE = Table(
    "slash_case",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("evidence", Bytes, nullable=False, index=True),
    Column("node_id", Bytes, nullable=False),
    Column("owner", Bytes, nullable=False),
    Column("reporter", Bytes, nullable=False),
    Column("opened_ms", Big, nullable=False),
    Column("first_slot", Big, nullable=False),
    Column("last_slot", Big, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("epoch", Big, nullable=False),
    Column("taken_pico", String, nullable=False),
    Column("transaction_hash", Bytes, nullable=False),
    Column("body", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# Nodes' entries in the registry on the chain: what the owner signed, and the node's own signed
# description that the entry names by hash.
CHAIN_ENTRY = Table(
    "chain_entry",
    SCHEMA,
    Column("entry", Bytes, primary_key=True),
    Column("alias", Integer, nullable=False),
    Column("owner", Bytes, nullable=False),
    Column("description_hash", Bytes, nullable=False, index=True),
    Column("description", Bytes, nullable=False),
    Column("signed_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)
