"""The tables of billing. docs/billing.md says what they are for."""

from sqlalchemy import Column, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# How far an epoch is on its way; epoch 0 is when epochs began here. Its content hash and root once
# it was computed.
BILLING_EPOCH = Table(
    "billing_epoch",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("from_ms", Big, nullable=False),
    Column("until_ms", Big, nullable=False),
    Column("content", Bytes, nullable=False),
    Column("root", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# What an epoch is computed from (kind ``inputs``, until it is published) and where it ended
# (kind ``totals``, until the next one is published), cut into parts.
BILLING_PART = Table(
    "billing_part",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("kind", String, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("body", Bytes, nullable=False),
    sqlite_with_rowid=False,
)
