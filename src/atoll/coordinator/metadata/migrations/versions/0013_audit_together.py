"""Several coordinator processes audit together: verifiers' words by slot, and a lease.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables that processes share while a slot is open."""
    op.create_table(
        "verifier_word",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("heard_ms", sa.BigInteger(), nullable=False),
        sa.Column("reveal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "key", name=op.f("verifier_word_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "audit_lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lease_owner", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("audit_lease_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop them: what slots brought stays."""
    op.drop_table("audit_lease")
    op.drop_table("verifier_word")
