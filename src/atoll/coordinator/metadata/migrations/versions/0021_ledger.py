"""The ledger: entries, postings, balances.

Revision ID: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the ledger's tables."""
    op.create_table(
        "ledger_entry",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("memo", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("ledger_entry_key")),
        sa.UniqueConstraint("key", name=op.f("ledger_entry_one_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_posting",
        sa.Column("entry", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("line", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("amount_micro", sa.BigInteger(), nullable=False),
        sa.Column("amount_pico", sa.Integer(), nullable=False),
        sa.Column("balance_micro", sa.BigInteger(), nullable=False),
        sa.Column("balance_pico", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("entry", "line", name=op.f("ledger_posting_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ledger_posting_by_kind_owner_number"),
        "ledger_posting",
        ["kind", "owner", "number"],
        unique=True,
    )
    op.create_table(
        "ledger_balance",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=False),
        sa.Column("balance_micro", sa.BigInteger(), nullable=False),
        sa.Column("balance_pico", sa.Integer(), nullable=False),
        sa.Column("postings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "owner", name=op.f("ledger_balance_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("ledger_head_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the ledger: all money is forgotten."""
    for table in ("head", "balance", "posting", "entry"):
        op.drop_table(f"ledger_{table}")
