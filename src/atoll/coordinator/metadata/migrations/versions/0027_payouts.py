"""What nodes earned by day, how they want to be paid, payments by bank.

Revision ID: 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of payouts."""
    op.create_table(
        "earning_day",
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("earned_pico", sa.BigInteger(), nullable=False),
        sa.Column("repair_pico", sa.BigInteger(), nullable=False),
        sa.Column("top_up_pico", sa.BigInteger(), nullable=False),
        sa.Column("slashed_pico", sa.BigInteger(), nullable=False),
        sa.Column("held_pico", sa.BigInteger(), nullable=False),
        sa.Column("credited_pico", sa.BigInteger(), nullable=False),
        sa.Column("released_pico", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "day", name=op.f("earning_day_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "payout_terms",
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("credit_bps", sa.Integer(), nullable=False),
        sa.Column("customer", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", name=op.f("payout_terms_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "payout",
        sa.Column("payout", sa.LargeBinary(), nullable=False),
        sa.Column("node", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("end_to_end", sa.String(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("permit", sa.LargeBinary(), nullable=False),
        sa.Column("file", sa.BigInteger(), nullable=False),
        sa.Column("bank_state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("conflict", sa.String(), nullable=False),
        sa.Column("paid_by", sa.LargeBinary(), nullable=False),
        sa.Column("returned_by", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("payout", name=op.f("payout_key")),
        sa.UniqueConstraint("end_to_end", name=op.f("payout_one_end_to_end")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("payout_by_node"), "payout", ["node"])
    op.create_index(op.f("payout_by_account"), "payout", ["account"])
    op.create_index(op.f("payout_by_state_created_ms"), "payout", ["state", "created_ms"])
    op.create_index(op.f("payout_by_file"), "payout", ["file"])
    op.create_table(
        "payout_file",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("execution_date", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("batch", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("payout_file_key")),
        sa.UniqueConstraint("batch", name=op.f("payout_file_one_batch")),
        sa.UniqueConstraint("message", name=op.f("payout_file_one_message")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; what was booked stays in the ledger."""
    op.drop_table("payout_file")
    op.drop_table("payout")
    op.drop_table("payout_terms")
    op.drop_table("earning_day")
