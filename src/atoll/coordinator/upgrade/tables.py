"""The tables of upgrades. docs/repair.md and docs/decisions/0150 say why they look like this."""

from sqlalchemy import Column, Integer, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# Since when the placement of a policy has had enough operators for the class of scheme that is
# named by its ``k``, without a break that anybody saw; and when that was looked at last.
UPGRADE_OFFER = Table(
    "upgrade_offer",
    SCHEMA,
    Column("policy", Big, primary_key=True, autoincrement=False),
    Column("k", Small, primary_key=True, autoincrement=False),
    Column("since_ms", Big, nullable=False),
    Column("seen_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Segments of objects and packs by bucket and ``k``: of the last whole survey, less what was
# upgraded since; ``found_…`` are those of the survey under way.
UPGRADE_COUNT = Table(
    "upgrade_count",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("k", Small, primary_key=True, autoincrement=False),
    Column("segments", Big, nullable=False),
    Column("plain_bytes", Big, nullable=False),
    # Of them: kept by a lock of their owner. They stay as they are.
    Column("locked", Big, nullable=False),
    Column("found_segments", Big, nullable=False),
    Column("found_bytes", Big, nullable=False),
    Column("found_locked", Big, nullable=False),
    sqlite_with_rowid=False,
)

# How far the search for segments of one ``k`` has come in a bucket, and who copies there.
UPGRADE_WALK = Table(
    "upgrade_walk",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("k", Small, primary_key=True, autoincrement=False),
    Column("after_key", Bytes, nullable=False),
    Column("after_position", Big, nullable=False),
    Column("due_ms", Big, nullable=False),
    Column("lease_owner", Bytes, nullable=False),
    Column("lease_until_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# One row: the survey's place, and what was handed out in the hour (since 1970) that it names.
UPGRADE_STATE = Table(
    "upgrade_state",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("survey_serial", Big, nullable=False),
    Column("survey_began_ms", Big, nullable=False),
    Column("survey_ended_ms", Big, nullable=False),
    Column("hour", Big, nullable=False),
    Column("hour_segments", Big, nullable=False),
    Column("hour_bytes", Big, nullable=False),
    sqlite_with_rowid=False,
)
