"""The tables of the audit. All but ``verifier`` and ``proof_evidence`` are kept for a while."""

from sqlalchemy import Column, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# A verifier by its key: where it listens, and the chains it signed (never forgotten: two chains
# for one slot would be a lie).
VERIFIER = Table(
    "verifier",
    SCHEMA,
    Column("key", Bytes, primary_key=True),
    Column("place", Bytes, nullable=False),
    Column("chains", Bytes, nullable=False),
    Column("status", String, nullable=False),
    Column("changed_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# One value per slot, whoever of several coordinators was first: a second one would be a lie.
BEACON = Table(
    "beacon",
    SCHEMA,
    Column("slot", Big, primary_key=True, autoincrement=False),
    Column("value", Bytes, nullable=False),
)

# Heads by node and epoch; signed once by us, then by the node (``signed`` holds both).
TREE_HEAD = Table(
    "tree_head",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Big, primary_key=True, autoincrement=False),
    Column("signed", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

PROOF_RESULT = Table(
    "proof_result",
    SCHEMA,
    Column("slot", Big, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("outcome", String, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("pieces", Bytes, nullable=False),
    Column("verdict", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

PROOF_EVIDENCE = Table(
    "proof_evidence",
    SCHEMA,
    Column("digest", Bytes, primary_key=True),
    Column("key", Bytes, nullable=False),
    Column("lie", String, nullable=False),
    Column("evidence", Bytes, nullable=False),
    Column("since_ms", Big, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What a verifier was heard with in a slot, by whichever of several processes it asked.
VERIFIER_WORD = Table(
    "verifier_word",
    SCHEMA,
    Column("slot", Big, primary_key=True, autoincrement=False),
    Column("key", Bytes, primary_key=True),
    Column("heard_ms", Big, nullable=False),
    # Encoded ``Reveal``; empty while it has given none.
    Column("reveal", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# Work that one process does at a time.
AUDIT_LEASE = Table(
    "audit_lease",
    SCHEMA,
    Column("name", String, primary_key=True),
    Column("lease_owner", Bytes, nullable=False),
    Column("lease_until_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)
