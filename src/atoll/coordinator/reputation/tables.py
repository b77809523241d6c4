"""The tables of reputation."""

from sqlalchemy import Column, Index, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# One row per node; ``facts`` is for judges, the columns are what every process needs.
REPUTATION = Table(
    "reputation",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("node_id", Bytes, nullable=False),
    Column("standing", String, nullable=False),
    Column("since_ms", Big, nullable=False),
    Column("forfeit", Small, nullable=False),
    Column("vetted", Small, nullable=False),
    Column("success_ppm", Integer, nullable=False),
    Column("latency_us", Big, nullable=False),
    Column("facts", Bytes, nullable=False),
    Column("changed_ms", Big, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# A node's history: standings, warnings, amnesties; the latest 200 are kept.
REPUTATION_EVENT = Table(
    "reputation_event",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("at_ms", Big, primary_key=True, autoincrement=False),
    Column("kind", String, primary_key=True),
    Column("axis", String, primary_key=True),
    Column("facts", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# Failed samples, each with its piece, slot and evidence; the latest 1,000 of a node are kept.
REPUTATION_SAMPLE = Table(
    "reputation_sample",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("axis", String, primary_key=True),
    Column("slot", Big, primary_key=True, autoincrement=False),
    Column("piece", Bytes, primary_key=True),
    Column("at_ms", Big, nullable=False),
    Column("facts", Bytes, nullable=False),
    Index(None, "alias", "at_ms"),
    sqlite_with_rowid=False,
)

# Pieces that a node itself reported as lost: samples of them that come later do not count.
REPUTATION_FORGIVEN = Table(
    "reputation_forgiven",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("piece", Bytes, primary_key=True),
    Column("at_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Slots and windows in which too many failed together.
REPUTATION_MASS = Table(
    "reputation_mass",
    SCHEMA,
    Column("axis", String, primary_key=True),
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("at_ms", Big, nullable=False, index=True),
    Column("operators_failed", Integer, nullable=False),
    Column("operators", Integer, nullable=False),
    Column("reason", String, nullable=False),
    sqlite_with_rowid=False,
)

# What gateways that share the database saw of nodes, on its way to the process that judges.
REPUTATION_REPORT = Table(
    "reputation_report",
    SCHEMA,
    Column("serial", Big().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("body", Bytes, nullable=False),
    Column("since_ms", Big, nullable=False),
)
