"""Receipts of reads: orders settled, newest receipts, lines; what finds a line by its evidence.

Revision ID: 0028
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of traffic."""
    op.add_column("spent", sa.Column("account", sa.LargeBinary(), nullable=True))
    op.add_column("meter_repair", sa.Column("evidence", sa.LargeBinary(), nullable=True))
    op.create_index(op.f("meter_repair_by_evidence"), "meter_repair", ["evidence"])
    op.create_table(
        "read_order",
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "issued_ms", "serial", name=op.f("read_order_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "read_receipt",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("tab", sa.LargeBinary(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.Column("node_key", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "alias", "tab", name=op.f("read_receipt_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "read_line",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "alias", "account", name=op.f("read_line_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("read_line_by_evidence"), "read_line", ["evidence"])


def downgrade() -> None:
    """Drop the tables; what was read is forgotten."""
    for table in ("line", "receipt", "order"):
        op.drop_table(f"read_{table}")
    op.drop_index(op.f("meter_repair_by_evidence"), "meter_repair")
    op.drop_column("meter_repair", "evidence")
    op.drop_column("spent", "account")
