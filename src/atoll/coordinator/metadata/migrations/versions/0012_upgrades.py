"""Upgrades of segments to wider schemes: what is offered, what is below, who works where.

Revision ID: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of upgrades."""
    op.create_table(
        "upgrade_offer",
        sa.Column("policy", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("k", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy", "k", name=op.f("upgrade_offer_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "upgrade_count",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("k", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("plain_bytes", sa.BigInteger(), nullable=False),
        sa.Column("locked", sa.BigInteger(), nullable=False),
        sa.Column("found_segments", sa.BigInteger(), nullable=False),
        sa.Column("found_bytes", sa.BigInteger(), nullable=False),
        sa.Column("found_locked", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "k", name=op.f("upgrade_count_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "upgrade_walk",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("k", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("after_key", sa.LargeBinary(), nullable=False),
        sa.Column("after_position", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "k", name=op.f("upgrade_walk_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "upgrade_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("survey_serial", sa.BigInteger(), nullable=False),
        sa.Column("survey_began_ms", sa.BigInteger(), nullable=False),
        sa.Column("survey_ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("hour_segments", sa.BigInteger(), nullable=False),
        sa.Column("hour_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("upgrade_state_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables: what was upgraded stays as it is."""
    op.drop_table("upgrade_state")
    op.drop_table("upgrade_walk")
    op.drop_table("upgrade_count")
    op.drop_table("upgrade_offer")
