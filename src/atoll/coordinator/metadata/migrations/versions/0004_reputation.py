"""Reputation.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of reputation."""
    op.create_table(
        "reputation",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("forfeit", sa.SmallInteger(), nullable=False),
        sa.Column("vetted", sa.SmallInteger(), nullable=False),
        sa.Column("success_ppm", sa.Integer(), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("reputation_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("reputation_by_changed_ms"), "reputation", ["changed_ms"], unique=False)
    op.create_table(
        "reputation_event",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("axis", sa.String(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "alias", "at_ms", "kind", "axis", name=op.f("reputation_event_key")
        ),
        sqlite_with_rowid=False,
    )
    _make_samples()
    op.create_table(
        "reputation_mass",
        sa.Column("axis", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("operators_failed", sa.Integer(), nullable=False),
        sa.Column("operators", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("axis", "number", name=op.f("reputation_mass_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("reputation_mass_by_at_ms"), "reputation_mass", ["at_ms"], unique=False)
    op.create_table(
        "reputation_report",
        sa.Column(
            "serial",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("reputation_report_key")),
    )


def _make_samples() -> None:
    op.create_table(
        "reputation_sample",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("axis", sa.String(), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("piece", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "alias", "axis", "slot", "piece", name=op.f("reputation_sample_key")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("reputation_sample_by_alias_at_ms"),
        "reputation_sample",
        ["alias", "at_ms"],
        unique=False,
    )
    op.create_table(
        "reputation_forgiven",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("piece", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "piece", name=op.f("reputation_forgiven_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Remove the tables of reputation."""
    for table in ("report", "mass", "forgiven", "sample", "event"):
        op.drop_table(f"reputation_{table}")
    op.drop_table("reputation")
