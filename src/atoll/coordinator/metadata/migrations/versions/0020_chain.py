"""The settlement chain: intents, signed attempts, blocks read, events, contracts.

Revision ID: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the chain."""
    op.create_table(
        "chain_attempt",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transaction_hash", sa.LargeBinary(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("fee_wei_max", sa.BigInteger(), nullable=False),
        sa.Column("tip_wei", sa.BigInteger(), nullable=False),
        sa.Column("signed_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "transaction_hash", name=op.f("chain_attempt_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("chain_attempt_by_serial"), "chain_attempt", ["serial"], unique=False)
    op.create_table(
        "chain_block",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "number", name=op.f("chain_block_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chain_contract",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("source_sha256", sa.Text(), nullable=False),
        sa.Column("transaction_hash", sa.LargeBinary(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "name", name=op.f("chain_contract_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chain_event",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("topics", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("transaction_hash", sa.LargeBinary(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(), nullable=False),
        sa.Column("settled", sa.SmallInteger(), nullable=False),
        sa.Column("retracted", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "serial", name=op.f("chain_event_key")),
        sa.UniqueConstraint(
            "chain_id",
            "transaction_hash",
            "address",
            "ordinal",
            name=op.f("chain_event_one_chain_id_transaction_hash_address_ordinal"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("chain_event_by_block_number"), "chain_event", ["block_number"], unique=False
    )
    op.create_table(
        "chain_intent",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("intent_key", sa.Text(), nullable=False),
        sa.Column("sender", sa.LargeBinary(), nullable=False),
        sa.Column("destination", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("value_wei", sa.LargeBinary(), nullable=False),
        sa.Column("gas", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("transaction_hash", sa.LargeBinary(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(), nullable=False),
        sa.Column("succeeded", sa.SmallInteger(), nullable=False),
        sa.Column("gas_used", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.LargeBinary(), nullable=False),
        sa.Column("missing_block", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "serial", name=op.f("chain_intent_key")),
        sa.UniqueConstraint(
            "chain_id", "intent_key", name=op.f("chain_intent_one_chain_id_intent_key")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("chain_intent_by_chain_id_sender_nonce"),
        "chain_intent",
        ["chain_id", "sender", "nonce"],
        unique=False,
    )
    op.create_index(op.f("chain_intent_by_state"), "chain_intent", ["state"], unique=False)
    op.create_table(
        "chain_link",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_serial", sa.BigInteger(), nullable=False),
        sa.Column("next_event", sa.BigInteger(), nullable=False),
        sa.Column("head_number", sa.BigInteger(), nullable=False),
        sa.Column("head_time_s", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("chain_link_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; what was signed is forgotten."""
    for table in ("contract", "event", "block", "attempt", "intent", "link"):
        op.drop_table(f"chain_{table}")
