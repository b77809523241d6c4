"""The table of the market."""

from sqlalchemy import Column, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big

# One row per class of storage: its reference price and multiplier, and when they were last moved.
MARKET_CLASS = Table(
    "market_class",
    SCHEMA,
    Column("tier", String, primary_key=True),
    Column("reference_pico", Big, nullable=False),
    Column("multiplier_bps", Integer, nullable=False),
    Column("moved_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)
