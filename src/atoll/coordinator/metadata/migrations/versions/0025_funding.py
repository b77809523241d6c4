"""Funding: customers' escrow, acts on the chain, what epochs need, pots.

Revision ID: 0025
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of funding."""
    op.create_table(
        "funding_customer",
        sa.Column("customer", sa.LargeBinary(), nullable=False),
        sa.Column("escrow_key", sa.LargeBinary(), nullable=False),
        sa.Column("paid_in_micro", sa.BigInteger(), nullable=False),
        sa.Column("paid_in_pico", sa.Integer(), nullable=False),
        sa.Column("paid_out_micro", sa.BigInteger(), nullable=False),
        sa.Column("paid_out_pico", sa.Integer(), nullable=False),
        sa.Column("charged_micro", sa.BigInteger(), nullable=False),
        sa.Column("charged_pico", sa.Integer(), nullable=False),
        sa.Column("deposited_micro", sa.BigInteger(), nullable=False),
        sa.Column("arrived_micro", sa.BigInteger(), nullable=False),
        sa.Column("drawn_micro", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_micro", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("customer", name=op.f("funding_customer_key")),
        sa.UniqueConstraint("escrow_key", name=op.f("funding_customer_one_escrow_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "funding_move",
        sa.Column("serial", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("funding_move_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("funding_move_by_state"), "funding_move", ["state"], unique=False)
    op.create_table(
        "funding_epoch",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("released_micro", sa.BigInteger(), nullable=False),
        sa.Column("held_micro", sa.BigInteger(), nullable=False),
        sa.Column("take_micro", sa.BigInteger(), nullable=False),
        sa.Column("take_pico", sa.Integer(), nullable=False),
        sa.Column("top_up_micro", sa.BigInteger(), nullable=False),
        sa.Column("top_up_pico", sa.Integer(), nullable=False),
        sa.Column("insured_micro", sa.BigInteger(), nullable=False),
        sa.Column("insured_pico", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("funding_epoch_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "funding_pot",
        sa.Column("epoch", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("drawn_micro", sa.BigInteger(), nullable=False),
        sa.Column("take_micro", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("funding_pot_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "funding_progress",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("next_serial", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("epoch_charged", sa.BigInteger(), nullable=False),
        sa.Column("epoch_known", sa.BigInteger(), nullable=False),
        sa.Column("funded_micro", sa.BigInteger(), nullable=False),
        sa.Column("take_micro", sa.BigInteger(), nullable=False),
        sa.Column("insured_micro", sa.BigInteger(), nullable=False),
        sa.Column("advanced_micro", sa.BigInteger(), nullable=False),
        sa.Column("sent_micro", sa.BigInteger(), nullable=False),
        sa.Column("counted_micro", sa.BigInteger(), nullable=False),
        sa.Column("waits_for", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("funding_progress_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "funding_event",
        sa.Column("transaction_hash", sa.LargeBinary(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("undone", sa.SmallInteger(), nullable=False),
        sa.Column("sent_micro", sa.BigInteger(), nullable=False),
        sa.Column("counted_micro", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "transaction_hash", "address", "ordinal", name=op.f("funding_event_key")
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; what stands in the escrow stays there."""
    op.drop_table("funding_event")
    op.drop_table("funding_progress")
    op.drop_table("funding_pot")
    op.drop_table("funding_epoch")
    op.drop_table("funding_move")
    op.drop_table("funding_customer")
