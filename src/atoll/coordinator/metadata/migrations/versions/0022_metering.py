"""The market's classes; meters, their lines, epochs and proofs.

Revision ID: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of market and metering."""
    op.create_table(
        "market_class",
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("reference_pico", sa.BigInteger(), nullable=False),
        sa.Column("multiplier_bps", sa.Integer(), nullable=False),
        sa.Column("moved_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tier", name=op.f("market_class_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meter_clock",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("read_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("meter_clock_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meter_count",
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("piece_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "bucket", name=op.f("meter_count_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meter_line",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("piece_bytes", sa.BigInteger(), nullable=False),
        sa.Column("price_pico", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "alias", "bucket", "from_ms", name=op.f("meter_line_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("meter_line_by_evidence"), "meter_line", ["evidence"])
    op.create_table(
        "meter_repair",
        sa.Column("task", sa.LargeBinary(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column("piece_bytes", sa.BigInteger(), nullable=False),
        sa.Column("done_ms", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("receipts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task", "failed", name=op.f("meter_repair_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("meter_repair_by_epoch"), "meter_repair", ["epoch"])
    op.create_table(
        "meter_epoch",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("slots_end", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("meter_epoch_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meter_proof",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("slots_due", sa.Integer(), nullable=False),
        sa.Column("slots_missed", sa.Integer(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "alias", name=op.f("meter_proof_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("meter_proof_by_evidence"), "meter_proof", ["evidence"])


def downgrade() -> None:
    """Drop the tables; what was metered is forgotten."""
    for table in ("proof", "epoch", "repair", "line", "count", "clock"):
        op.drop_table(f"meter_{table}")
    op.drop_table("market_class")
