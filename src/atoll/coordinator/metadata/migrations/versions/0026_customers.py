"""Customers: how they stand, what they were charged, invoices, movements of the bank.

Revision ID: 0026
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of customers."""
    op.create_table(
        "customer",
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("budget_micro", sa.BigInteger(), nullable=False),
        sa.Column("budget_stops", sa.SmallInteger(), nullable=False),
        sa.Column("told_month", sa.String(), nullable=False),
        sa.Column("told_percent", sa.SmallInteger(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.String(), nullable=False),
        sa.Column("reserved_micro", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("customer_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "customer_notice",
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("about", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account", "number", name=op.f("customer_notice_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "customer_month",
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("account", "month", name=op.f("customer_month_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "customer_clock",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("invoiced", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("customer_clock_key")),
        sqlite_with_rowid=False,
    )
    _upgrade_money()


def _upgrade_money() -> None:
    op.create_table(
        "invoice",
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("issued", sa.String(), nullable=False),
        sa.Column("gross_cents", sa.BigInteger(), nullable=False),
        sa.Column("open_cents", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("invoice_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("invoice_by_account"), "invoice", ["account"])
    op.create_table(
        "invoice_series",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("issued", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("series", name=op.f("invoice_series_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bank_movement",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("booked", sa.String(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("certain", sa.SmallInteger(), nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
        sa.Column("waiting", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("bank_movement_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("bank_movement_by_waiting"), "bank_movement", ["waiting"])


def downgrade() -> None:
    """Drop the tables; the ledger stays as it is."""
    for name in (
        "bank_movement",
        "invoice_series",
        "invoice",
        "customer_clock",
        "customer_month",
        "customer_notice",
        "customer",
    ):
        op.drop_table(name)
