"""The tables of the chain. One database may know several chains: each row names its own.

Amounts in wei do not fit a database's whole numbers: they are kept as 32 bytes, big-endian.
"""

from sqlalchemy import Column, Index, Integer, Table, Text, UniqueConstraint

from atoll.economy.sql import SCHEMA, Big, Bytes, Small

# What is known of a chain: who counts its rows, and how far it was read.
CHAIN_LINK = Table(
    "chain_link",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("next_serial", Big, nullable=False),
    Column("next_event", Big, nullable=False),
    Column("head_number", Big, nullable=False),
    Column("head_time_s", Big, nullable=False),
    Column("seen_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# What is to happen on the chain, in the order in which it was wanted. ``nonce`` is -1 until it is
# signed; ``transaction_hash`` names the attempt that stands in a block; ``missing_block`` is the
# chain's length when its nonce was first seen used by something else, -1 otherwise.
CHAIN_INTENT = Table(
    "chain_intent",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("intent_key", Text, nullable=False),
    Column("sender", Bytes, nullable=False),
    Column("destination", Bytes, nullable=False),
    Column("data", Bytes, nullable=False),
    Column("value_wei", Bytes, nullable=False),
    Column("gas", Big, nullable=False),
    Column("state", Small, nullable=False, index=True),
    Column("nonce", Big, nullable=False),
    Column("transaction_hash", Bytes, nullable=False),
    Column("block_number", Big, nullable=False),
    Column("block_hash", Bytes, nullable=False),
    Column("succeeded", Small, nullable=False),
    Column("gas_used", Big, nullable=False),
    Column("contract", Bytes, nullable=False),
    Column("missing_block", Big, nullable=False),
    Column("problem", Text, nullable=False),
    Column("created_ms", Big, nullable=False),
    UniqueConstraint("chain_id", "intent_key"),
    Index(None, "chain_id", "sender", "nonce"),
    sqlite_with_rowid=False,
)

# Signed transactions: one per intent, more where the fee was raised. All have the same nonce, so
# that one of them at most ever stands in a block.
CHAIN_ATTEMPT = Table(
    "chain_attempt",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("transaction_hash", Bytes, primary_key=True),
    Column("serial", Big, nullable=False, index=True),
    Column("nonce", Big, nullable=False),
    Column("raw", Bytes, nullable=False),
    Column("fee_wei_max", Big, nullable=False),
    Column("tip_wei", Big, nullable=False),
    Column("signed_ms", Big, nullable=False),
    Column("sent_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Blocks up to which the chain was read: where it branched off is found among them.
CHAIN_BLOCK = Table(
    "chain_block",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("hash", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# What contracts said. ``ordinal`` counts what one contract said in one transaction, so that an
# event that comes back in another block is known again; ``settled`` once it was told to anybody;
# ``retracted`` while its block is gone.
CHAIN_EVENT = Table(
    "chain_event",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("address", Bytes, nullable=False),
    Column("topics", Bytes, nullable=False),
    Column("data", Bytes, nullable=False),
    Column("transaction_hash", Bytes, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("block_number", Big, nullable=False, index=True),
    Column("block_hash", Bytes, nullable=False),
    Column("settled", Small, nullable=False),
    Column("retracted", Small, nullable=False),
    UniqueConstraint("chain_id", "transaction_hash", "address", "ordinal"),
    sqlite_with_rowid=False,
)

# Which contract stands where, and what it was built of.
CHAIN_CONTRACT = Table(
    "chain_contract",
    SCHEMA,
    Column("chain_id", Big, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("address", Bytes, nullable=False),
    Column("code_hash", Bytes, nullable=False),
    Column("source_sha256", Text, nullable=False),
    Column("transaction_hash", Bytes, nullable=False),
    Column("block_number", Big, nullable=False),
    sqlite_with_rowid=False,
)
