"""The table of departures."""

from sqlalchemy import Column, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big

# One row per node that ever moved pieces away; a later departure begins it anew.
DEPARTURE = Table(
    "departure",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("reason", String, nullable=False),
    Column("began_ms", Big, nullable=False),
    Column("ended_ms", Big, nullable=False),
    Column("moved_pieces", Big, nullable=False),
    Column("moved_bytes", Big, nullable=False),
    sqlite_with_rowid=False,
)
