"""The tables of repair, beside the queue (``metadata.tables.REPAIR``). docs/repair.md says why."""

from sqlalchemy import Column, Integer, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# Pieces that were replaced while their nodes were gone and that are not yet collected: if the node
# returns and the segment needs the piece, it is adopted instead of rebuilt.
REPAIR_CREDIT = Table(
    "repair_credit",
    SCHEMA,
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("piece_index", Small, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False, index=True),
    Column("until_ms", Big, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What is left of the ranged loop's round: serials after ``after_serial`` up to ``end_serial``.
# Ranges are leased, so that coordinators share a round and a restart goes on where it was.
REPAIR_RANGE = Table(
    "repair_range",
    SCHEMA,
    Column("end_serial", Big, primary_key=True, autoincrement=False),
    Column("after_serial", Big, nullable=False),
    Column("lease_owner", Bytes, nullable=False),
    Column("lease_until_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# The ranged loop's last round, and until when was measured: one row.
REPAIR_ROUND = Table(
    "repair_round",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("began_ms", Big, nullable=False),
    Column("ended_ms", Big, nullable=False),
    Column("segments", Big, nullable=False),
    Column("measured_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# A segment's repair given to a node: what it was asked to do, until when.
REPAIR_TASK = Table(
    "repair_task",
    SCHEMA,
    Column("task", Bytes, primary_key=True),
    Column("serial", Big, nullable=False, unique=True),
    Column("alias", Integer, nullable=False, index=True),
    Column("until_ms", Big, nullable=False, index=True),
    Column("facts", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# What a node's repair work came to, since its first task.
REPAIR_WORK = Table(
    "repair_work",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("tasks", Big, nullable=False),
    Column("failed", Big, nullable=False),
    Column("false_claims", Big, nullable=False),
    Column("pieces", Big, nullable=False),
    Column("downloaded_bytes", Big, nullable=False),
    Column("uploaded_bytes", Big, nullable=False),
    Column("last_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# What was measured on one day (UTC, days since 1970): node time observed, nodes gone for good,
# segments healed and how long they were below their threshold.
REPAIR_DAY = Table(
    "repair_day",
    SCHEMA,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("node_ms", Big, nullable=False),
    Column("nodes_lost", Big, nullable=False),
    Column("healed", Big, nullable=False),
    Column("healed_ms", Big, nullable=False),
    Column("healed_ms_max", Big, nullable=False),
    sqlite_with_rowid=False,
)
