"""Epochs on their way: how far each is, what it is computed from, where it ended.

Revision ID: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of billing."""
    op.create_table(
        "billing_epoch",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("billing_epoch_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "billing_part",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "kind", "part", name=op.f("billing_part_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; documents that were published stay where they are."""
    op.drop_table("billing_part")
    op.drop_table("billing_epoch")
