"""Changes for the manifests.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the outbox of changes, the tables of manifests, and the mode of each bucket."""
    op.create_table(
        "change",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("change_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("change_by_writer_number"), "change", ["writer", "number"])
    op.create_index(op.f("change_by_lease_until_ms"), "change", ["lease_until_ms"])
    op.create_index(op.f("change_by_bucket_number"), "change", ["bucket", "number"])
    op.create_table(
        "manifest",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("snapshot", sa.SmallInteger(), nullable=False),
        sa.Column("plain_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "number", name=op.f("manifest_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "manifest_state",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("keys", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("manifest_state_key")),
        sqlite_with_rowid=False,
    )
    op.add_column(
        "bucket", sa.Column("manifests", sa.String(), nullable=False, server_default="group")
    )


def downgrade() -> None:
    """Go back."""
    op.drop_column("bucket", "manifests")
    for table in ("manifest_state", "manifest", "change"):
        op.drop_table(table)
