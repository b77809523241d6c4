"""The tables of metering. docs/metering.md says what they are for."""

from sqlalchemy import Column, Integer, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# When meters were read last (one row), and what lay where then.
METER_CLOCK = Table(
    "meter_clock",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("read_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

METER_COUNT = Table(
    "meter_count",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("bucket", Bytes, primary_key=True),
    Column("account", Bytes, nullable=False),
    Column("piece_bytes", Big, nullable=False),
    sqlite_with_rowid=False,
)

# So many bytes of a bucket at a node from one time until another; epoch 0 while it is open.
METER_LINE = Table(
    "meter_line",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("bucket", Bytes, primary_key=True),
    Column("from_ms", Big, primary_key=True, autoincrement=False),
    Column("until_ms", Big, nullable=False),
    Column("account", Bytes, nullable=False),
    Column("piece_bytes", Big, nullable=False),
    Column("price_pico", Big, nullable=False),
    Column("head", Bytes, nullable=False),
    Column("evidence", Bytes, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Repair work of nodes, by the node whose pieces were rebuilt (0: nobody's any more), with the
# receipts that show it.
METER_REPAIR = Table(
    "meter_repair",
    SCHEMA,
    Column("task", Bytes, primary_key=True),
    Column("failed", Integer, primary_key=True, autoincrement=False),
    Column("worker", Integer, nullable=False),
    Column("piece_bytes", Big, nullable=False),
    Column("done_ms", Big, nullable=False),
    Column("epoch", Big, nullable=False, index=True),
    Column("receipts", Bytes, nullable=False),
    Column("evidence", Bytes, nullable=True, index=True),
    sqlite_with_rowid=False,
)

METER_EPOCH = Table(
    "meter_epoch",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("from_ms", Big, nullable=False),
    Column("until_ms", Big, nullable=False),
    Column("slots_end", Big, nullable=False),
    sqlite_with_rowid=False,
)

METER_PROOF = Table(
    "meter_proof",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("slots_due", Integer, nullable=False),
    Column("slots_missed", Integer, nullable=False),
    Column("samples", Big, nullable=False),
    Column("failed", Big, nullable=False),
    Column("evidence", Bytes, nullable=False, index=True),
    sqlite_with_rowid=False,
)
