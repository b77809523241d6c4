"""The tables of settlement. docs/billing.md says what they are for."""

from sqlalchemy import Column, Index, String, Table, Text

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

# A published epoch on its way to accounts on the chain. ``attempt`` numbers the proposal that it is
# signed for, or has; sums are cumulative, but ``claimed_micro``: what was sent from its root.
SETTLEMENT_EPOCH = Table(
    "settlement_epoch",
    SCHEMA,
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False, index=True),
    Column("content", Bytes, nullable=False),
    Column("root", Bytes, nullable=False),
    Column("leaf_count", Big, nullable=False),
    Column("released_micro", Big, nullable=False),
    Column("held_micro", Big, nullable=False),
    Column("attempt", Big, nullable=False),
    Column("rejections", Small, nullable=False),
    Column("ends_s", Big, nullable=False),
    Column("proposed_transaction", Bytes, nullable=False),
    Column("final_transaction", Bytes, nullable=False),
    Column("claimed_micro", Big, nullable=False),
    Column("problem", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Statements that verifiers are asked to sign, of whatever kind; ``body`` is what they are made of.
SETTLEMENT_STATEMENT = Table(
    "settlement_statement",
    SCHEMA,
    Column("kind", Small, primary_key=True, autoincrement=False),
    Column("subject", Bytes, primary_key=True),
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("stated", Bytes, primary_key=True),
    Column("body", Bytes, nullable=False),
    Column("is_open", Small, nullable=False),
    Column("made_ms", Big, nullable=False),
    Index(None, "is_open", "made_ms"),
    sqlite_with_rowid=False,
)

# Their signatures (r, s, v) by the signer's account of the chain.
SETTLEMENT_SIGNATURE = Table(
    "settlement_signature",
    SCHEMA,
    Column("kind", Small, primary_key=True, autoincrement=False),
    Column("subject", Bytes, primary_key=True),
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("stated", Bytes, primary_key=True),
    Column("account", Bytes, primary_key=True),
    Column("signature", Bytes, nullable=False),
    Column("received_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Which account of the chain a verifier (by its Ed25519 key) said last that it signs with.
SETTLEMENT_VERIFIER = Table(
    "settlement_verifier",
    SCHEMA,
    Column("verifier_key", Bytes, primary_key=True),
    Column("account", Bytes, nullable=False),
    Column("seen_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Payments of the distributor, by the serial of their event.
SETTLEMENT_CLAIM = Table(
    "settlement_claim",
    SCHEMA,
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("account", Bytes, nullable=False),
    Column("epoch", Big, nullable=False),
    Column("amount_micro", Big, nullable=False),
    Column("held_micro", Big, nullable=False),
    Column("transaction_hash", Bytes, nullable=False),
    Column("block_number", Big, nullable=False),
    Index(None, "account", "serial"),
    sqlite_with_rowid=False,
)

# What each account was sent, all its payments together.
SETTLEMENT_ACCOUNT = Table(
    "settlement_account",
    SCHEMA,
    Column("account", Bytes, primary_key=True),
    Column("claimed_micro", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Demands for chunks of leaves of a proposal.
SETTLEMENT_DEMAND = Table(
    "settlement_demand",
    SCHEMA,
    Column("attempt", Big, primary_key=True, autoincrement=False),
    Column("chunk", Big, primary_key=True, autoincrement=False),
    Column("answered", Small, nullable=False),
    sqlite_with_rowid=False,
)

# Up to which event the chain was taken over (``serial``), how many proposals there were, and which
# epoch is proposed now (0: none), whoever proposed it. ``lost``: SHA-256 of the serials of events
# that the chain has lost; when it changes all is taken over anew.
SETTLEMENT_CURSOR = Table(
    "settlement_cursor",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("serial", Big, nullable=False),
    Column("attempts", Big, nullable=False),
    Column("proposed_epoch", Big, nullable=False),
    Column("lost", Bytes, nullable=False),
    sqlite_with_rowid=False,
)
