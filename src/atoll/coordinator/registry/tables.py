"""The table of the registry."""

from sqlalchemy import Column, Integer, String, Table, UniqueConstraint

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# ``facts`` is the node's own encoding, with its signature: anyone may check it again. A node that
# left keeps its row, so that its alias is never given to another.
NODE = Table(
    "node",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=True),
    Column("node_id", Bytes, nullable=False),
    Column("facts", Bytes, nullable=False),
    Column("signature", Bytes, nullable=False),
    Column("proof_ms", Big, nullable=False),
    Column("registered_ms", Big, nullable=False),
    Column("last_seen_ms", Big, nullable=False),
    Column("heartbeat_ms", Big, nullable=False),
    Column("incarnation", Big, nullable=False),
    Column("full_flag", Small, nullable=False),
    Column("skew_ms", Big, nullable=False),
    Column("state", String, nullable=False),
    Column("state_since_ms", Big, nullable=False),
    Column("counters", Bytes, nullable=False),
    Column("changed_ms", Big, nullable=False, index=True),
    # When it owes to be online: ``registry.hours.Hours``; empty for always.
    Column("hours", Bytes, nullable=False, server_default=""),
    UniqueConstraint("node_id"),
    sqlite_autoincrement=True,
)
