"""Epochs on their way to the chain: statements, verifiers' signatures, proposals, claims.

Revision ID: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger(), nullable=False, autoincrement=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Make the tables of settlement."""
    op.create_table(
        "settlement_epoch",
        _number("epoch"),
        sa.Column("state", sa.String(), nullable=False),
        _bytes("content"),
        _bytes("root"),
        _number("leaf_count"),
        _number("released_micro"),
        _number("held_micro"),
        _number("attempt"),
        _small("rejections"),
        _number("ends_s"),
        _bytes("proposed_transaction"),
        _bytes("final_transaction"),
        _number("claimed_micro"),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("settlement_epoch_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("settlement_epoch_by_state"), "settlement_epoch", ["state"])
    statement = ("kind", "subject", "epoch", "stated")
    op.create_table(
        "settlement_statement",
        _small("kind"),
        _bytes("subject"),
        _number("epoch"),
        _bytes("stated"),
        _bytes("body"),
        _small("is_open"),
        _number("made_ms"),
        sa.PrimaryKeyConstraint(*statement, name=op.f("settlement_statement_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("settlement_statement_by_is_open_made_ms"),
        "settlement_statement",
        ["is_open", "made_ms"],
    )
    op.create_table(
        "settlement_signature",
        _small("kind"),
        _bytes("subject"),
        _number("epoch"),
        _bytes("stated"),
        _bytes("account"),
        _bytes("signature"),
        _number("received_ms"),
        sa.PrimaryKeyConstraint(*statement, "account", name=op.f("settlement_signature_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settlement_verifier",
        _bytes("verifier_key"),
        _bytes("account"),
        _number("seen_ms"),
        sa.PrimaryKeyConstraint("verifier_key", name=op.f("settlement_verifier_key")),
        sqlite_with_rowid=False,
    )
    _chain_side()


def _chain_side() -> None:
    """Make what is taken over from the chain."""
    op.create_table(
        "settlement_claim",
        _number("serial"),
        _bytes("account"),
        _number("epoch"),
        _number("amount_micro"),
        _number("held_micro"),
        _bytes("transaction_hash"),
        _number("block_number"),
        sa.PrimaryKeyConstraint("serial", name=op.f("settlement_claim_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("settlement_claim_by_account_serial"), "settlement_claim", ["account", "serial"]
    )
    op.create_table(
        "settlement_account",
        _bytes("account"),
        _number("claimed_micro"),
        sa.PrimaryKeyConstraint("account", name=op.f("settlement_account_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settlement_demand",
        _number("attempt"),
        _number("chunk"),
        _small("answered"),
        sa.PrimaryKeyConstraint("attempt", "chunk", name=op.f("settlement_demand_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settlement_cursor",
        _number("chain_id"),
        _number("serial"),
        _number("attempts"),
        _number("proposed_epoch"),
        _bytes("lost"),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("settlement_cursor_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; what the chain settled stays settled."""
    kinds = ("cursor", "demand", "account", "claim", "verifier", "signature", "statement", "epoch")
    for kind in kinds:
        op.drop_table(f"settlement_{kind}")
