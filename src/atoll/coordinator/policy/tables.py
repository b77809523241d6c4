"""The tables of policies and trust."""

from sqlalchemy import Column, Index, Integer, String, Table

from atoll.coordinator.sql import SCHEMA, Big, Bytes

# Placement rules by version: a segment keeps the id under which its pieces were placed; a bucket's
# newest version decides where they may stay. Row 1 stands for "anywhere".
POLICY = Table(
    "policy",
    SCHEMA,
    Column("policy", Big().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("bucket", Bytes, nullable=False),
    Column("version", Integer, nullable=False),
    Column("text", String, nullable=False),
    Column("created_ms", Big, nullable=False, index=True),
    Index("policy_one_bucket_version", "bucket", "version", unique=True),
    sqlite_autoincrement=True,
)

# Whom this coordinator believes about parties, and for what (statements, one per line).
ISSUER = Table(
    "issuer",
    SCHEMA,
    Column("issuer", Bytes, primary_key=True),
    Column("name", String, nullable=False),
    Column("statements", String, nullable=False),
    Column("added_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# The newest revocation list of each issuer, as he signed it.
REVOCATIONS = Table(
    "revocations",
    SCHEMA,
    Column("issuer", Bytes, primary_key=True),
    Column("sequence", Big, nullable=False),
    Column("list", Bytes, nullable=False),
    sqlite_with_rowid=False,
)
