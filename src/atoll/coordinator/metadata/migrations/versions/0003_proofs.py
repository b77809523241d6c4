"""Epochs, tree heads, beacons, verdicts.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the audit."""
    op.create_table(
        "verifier",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.LargeBinary(), nullable=False),
        sa.Column("chains", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("verifier_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "beacon",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("beacon_key")),
    )
    op.create_table(
        "tree_head",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "epoch", name=op.f("tree_head_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "proof_result",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("pieces", sa.LargeBinary(), nullable=False),
        sa.Column("verdict", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "alias", name=op.f("proof_result_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "proof_evidence",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("lie", sa.String(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("proof_evidence_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("proof_evidence_by_since_ms"), "proof_evidence", ["since_ms"], unique=False
    )


def downgrade() -> None:
    """Go back."""
    for table in ("proof_evidence", "proof_result", "tree_head", "beacon", "verifier"):
        op.drop_table(table)
