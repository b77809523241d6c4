"""Policies by version, certificates trusted.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema. Row 1 of ``policy`` is what buckets without a policy have."""
    op.drop_table("policy")
    op.create_table(
        "policy",
        sa.Column(
            "policy",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy", name=op.f("policy_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("policy_one_bucket_version"), "policy", ["bucket", "version"], unique=True)
    op.create_index(op.f("policy_by_created_ms"), "policy", ["created_ms"], unique=False)
    columns = (
        sa.column("bucket", sa.LargeBinary()),
        sa.column("version", sa.Integer()),
        sa.column("text", sa.String()),
        sa.column("created_ms", sa.BigInteger()),
    )
    op.bulk_insert(
        sa.table("policy", *columns), [{"bucket": b"", "version": 0, "text": "", "created_ms": 0}]
    )
    op.create_table(
        "issuer",
        sa.Column("issuer", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("statements", sa.String(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", name=op.f("issuer_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "revocations",
        sa.Column("issuer", sa.LargeBinary(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("list", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", name=op.f("revocations_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Go back."""
    op.drop_table("revocations")
    op.drop_table("issuer")
    op.drop_table("policy")
    op.create_table(
        "policy",
        sa.Column("policy", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy", name=op.f("policy_key")),
    )
