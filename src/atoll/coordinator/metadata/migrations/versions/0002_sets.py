"""Sets compared: what each piece weighs, what each node was told, what it answered.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WEIGH = """
    UPDATE piece SET piece_bytes = (
        SELECT CASE WHEN s.plain_bytes = 0 THEN s.unit_bytes ELSE
            ((s.plain_bytes + s.unit_bytes - 17) / (s.unit_bytes - 16) + s.k - 1) / s.k
            * s.unit_bytes END
        FROM segment AS s WHERE s.serial = piece.serial
    ) WHERE EXISTS (SELECT 1 FROM segment AS s WHERE s.serial = piece.serial)
"""
"""``Layout.piece_bytes`` in SQL: rows of k chunks, each a unit long with its 16 bytes of tag."""


def upgrade() -> None:
    """Weigh the pieces there are; make the tables of sets."""
    op.add_column(
        "piece", sa.Column("piece_bytes", sa.Integer(), nullable=False, server_default="0")
    )
    op.execute(_WEIGH)
    op.create_index(op.f("garbage_by_alias_serial"), "garbage", ["alias", "serial"])
    op.create_table(
        "node_set",
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("pieces", sa.Integer(), nullable=False),
        sa.Column("piece_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("indexes", sa.LargeBinary(), nullable=False),
        sa.Column("serials", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "number", name=op.f("node_set_key")),
    )
    op.create_table(
        "node_report",
        sa.Column("alias", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("reported_ms", sa.BigInteger(), nullable=False),
        sa.Column("pieces", sa.BigInteger(), nullable=False),
        sa.Column("piece_bytes", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("node_report_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Forget them; what nodes hold is the same without."""
    op.drop_table("node_report")
    op.drop_table("node_set")
    op.drop_index(op.f("garbage_by_alias_serial"), "garbage")
    op.drop_column("piece", "piece_bytes")
