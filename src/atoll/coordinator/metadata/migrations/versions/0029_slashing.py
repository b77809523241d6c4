"""Slashing: cases against nodes that lost data, nodes' entries in the registry on the chain.

Revision ID: 0029
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of slashing."""
    op.create_table(
        "slash_case",
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=False),
        sa.Column("reporter", sa.LargeBinary(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("first_slot", sa.BigInteger(), nullable=False),
        sa.Column("last_slot", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("taken_pico", sa.String(), nullable=False),
        sa.Column("transaction_hash", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("slash_case_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("slash_case_by_evidence"), "slash_case", ["evidence"])
    op.create_table(
        "chain_entry",
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("alias", sa.Integer(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=False),
        sa.Column("description_hash", sa.LargeBinary(), nullable=False),
        sa.Column("description", sa.LargeBinary(), nullable=False),
        sa.Column("signed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("entry", name=op.f("chain_entry_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("chain_entry_by_description_hash"), "chain_entry", ["description_hash"])


def downgrade() -> None:
    """Drop the tables; what was taken stays taken."""
    op.drop_table("chain_entry")
    op.drop_table("slash_case")
