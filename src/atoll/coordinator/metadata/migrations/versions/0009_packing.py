"""Packs: segments that hold the ciphertexts of many small ones.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of packs."""
    op.create_table(
        "pack",
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("live_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dead_bytes", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment", name=op.f("pack_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("pack_by_bucket"), "pack", ["bucket"])
    op.create_table(
        "packed",
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("plain_bytes", sa.Integer(), nullable=False),
        sa.Column("unit_bytes", sa.Integer(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("pack", sa.LargeBinary(), nullable=False),
        sa.Column("pack_offset", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "position", name=op.f("packed_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("packed_by_pack"), "packed", ["pack"])
    op.create_table(
        "pack_walk",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("after_key", sa.LargeBinary(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pack_walk_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables; only right for a database without packs."""
    op.drop_table("pack_walk")
    op.drop_table("packed")
    op.drop_table("pack")
