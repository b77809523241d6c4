"""Locks of objects, retention records of their segments.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of locks."""
    op.create_table(
        "default_lock",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("mode", sa.SmallInteger(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("default_lock_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "object_lock",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("mode", sa.SmallInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("legal_hold", sa.SmallInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("signed", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "key", name=op.f("object_lock_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("object_lock_by_signed_bucket"), "object_lock", ["signed", "bucket"], unique=False
    )
    op.create_table(
        "segment_lock",
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("lock_grant", sa.LargeBinary(), nullable=False),
        sa.Column("confirmed", sa.LargeBinary(), nullable=False),
        sa.Column("pending", sa.SmallInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("segment", name=op.f("segment_lock_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("segment_lock_by_pending_due_ms"), "segment_lock", ["pending", "due_ms"], unique=False
    )


def downgrade() -> None:
    """Go back; nodes keep what they were told."""
    op.drop_table("segment_lock")
    op.drop_table("object_lock")
    op.drop_table("default_lock")
