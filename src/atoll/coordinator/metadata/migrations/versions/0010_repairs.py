"""Repair: credits, resumable rounds of the ranged loop, work of nodes, what was measured.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of repair; the queue remembers since when a segment waits."""
    op.add_column(
        "repair", sa.Column("since_ms", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "repair_credit",
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("piece_index", sa.SmallInteger(), nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", "piece_index", "alias", name=op.f("repair_credit_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("repair_credit_by_alias"), "repair_credit", ["alias"])
    op.create_index(op.f("repair_credit_by_until_ms"), "repair_credit", ["until_ms"])
    op.create_table(
        "repair_range",
        sa.Column("end_serial", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("after_serial", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("end_serial", name=op.f("repair_range_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "repair_round",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("began_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("measured_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("repair_round_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "repair_task",
        sa.Column("task", sa.LargeBinary(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("repair_task_key")),
        sa.UniqueConstraint("serial", name=op.f("repair_task_one_serial")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("repair_task_by_alias"), "repair_task", ["alias"])
    op.create_index(op.f("repair_task_by_until_ms"), "repair_task", ["until_ms"])
    op.create_table(
        "repair_work",
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("tasks", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("false_claims", sa.BigInteger(), nullable=False),
        sa.Column("pieces", sa.BigInteger(), nullable=False),
        sa.Column("downloaded_bytes", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("repair_work_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "repair_day",
        sa.Column("day", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("node_ms", sa.BigInteger(), nullable=False),
        sa.Column("nodes_lost", sa.BigInteger(), nullable=False),
        sa.Column("healed", sa.BigInteger(), nullable=False),
        sa.Column("healed_ms", sa.BigInteger(), nullable=False),
        sa.Column("healed_ms_max", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("repair_day_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; what was measured is forgotten."""
    for table in ("day", "work", "task", "round", "range", "credit"):
        op.drop_table(f"repair_{table}")
    op.drop_column("repair", "since_ms")
