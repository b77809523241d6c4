"""The tables of sets. docs/spec/sets.md says what they are for."""

from sqlalchemy import Column, Integer, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# What a node was told last, by range of 65,536 serials: so that the next answer names only what
# changed since. A cache: without a row the node is told the whole range.
NODE_SET = Table(
    "node_set",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("pieces", Integer, nullable=False),
    Column("piece_bytes", Big, nullable=False),
    Column("mark", Big, nullable=False),
    Column("digest", Bytes, nullable=False),
    Column("indexes", Bytes, nullable=False),
    Column("serials", Bytes, nullable=False),
)

# The latest report of each node, and what was counted then.
NODE_REPORT = Table(
    "node_report",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("reported_ms", Big, nullable=False),
    Column("pieces", Big, nullable=False),
    Column("piece_bytes", Big, nullable=False),
    Column("report", Bytes, nullable=False),
    sqlite_with_rowid=False,
)
