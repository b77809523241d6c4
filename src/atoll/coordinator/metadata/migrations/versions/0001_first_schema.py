"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the first version."""
    _make_customers()
    _make_objects()
    _make_uploads()
    _make_work()
    _make_nodes()


def _make_customers() -> None:
    op.create_table(
        "account",
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("owner_name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("account_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "credential",
        sa.Column("access_key", sa.String(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("access_key", name=op.f("credential_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("credential_by_account"), "credential", ["account"], unique=False)
    op.create_table(
        "bucket",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("policy", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("bucket_key")),
        sa.UniqueConstraint("name", name=op.f("bucket_one_name")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("bucket_by_account_name"), "bucket", ["account", "name"], unique=False)
    op.create_table(
        "usage",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("object_bytes", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("pieces", sa.BigInteger(), nullable=False),
        sa.Column("piece_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "shard", name=op.f("usage_key")),
        sqlite_with_rowid=False,
    )


def _make_objects() -> None:
    op.create_table(
        "object",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "key", name=op.f("object_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "composition",
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("parts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name=op.f("composition_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "segment",
        sa.Column(
            "serial",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("stream", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("k", sa.SmallInteger(), nullable=False),
        sa.Column("n", sa.SmallInteger(), nullable=False),
        sa.Column("unit_bytes", sa.Integer(), nullable=False),
        sa.Column("plain_bytes", sa.Integer(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("policy", sa.BigInteger(), nullable=False),
        sa.Column("pieces", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("repaired_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("segment_key")),
        sa.UniqueConstraint("segment", name=op.f("segment_one_segment")),
        sa.UniqueConstraint("stream", "position", name=op.f("segment_one_stream_position")),
    )
    op.create_table(
        "piece",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("serial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("piece_index", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("alias", "serial", "piece_index", name=op.f("piece_key")),
        sqlite_with_rowid=False,
    )


def _make_uploads() -> None:
    op.create_table(
        "upload",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("upload", sa.LargeBinary(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("checksum_algorithm", sa.String(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "key", "upload", name=op.f("upload_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("upload_by_created_ms"), "upload", ["created_ms"], unique=False)
    op.create_table(
        "part",
        sa.Column("upload", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String(), nullable=False),
        sa.Column("checksums", sa.LargeBinary(), nullable=False),
        sa.Column("modified_ms", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("upload", "number", name=op.f("part_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "completed",
        sa.Column("upload", sa.LargeBinary(), nullable=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("parts_digest", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("completed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("upload", name=op.f("completed_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("completed_by_completed_ms"), "completed", ["completed_ms"], unique=False)


def _make_work() -> None:
    op.create_table(
        "garbage",
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("piece_index", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", "segment", "piece_index", name=op.f("garbage_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spent",
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment", name=op.f("spent_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("spent_by_since_ms"), "spent", ["since_ms"], unique=False)
    op.create_table(
        "repair",
        sa.Column("serial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("healthy", sa.SmallInteger(), nullable=False),
        sa.Column("urgent", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.LargeBinary(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("repair_key")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("repair_by_urgent_healthy_due_ms"),
        "repair",
        ["urgent", "healthy", "due_ms"],
        unique=False,
    )
    op.create_table(
        "report",
        sa.Column("segment", sa.LargeBinary(), nullable=False),
        sa.Column("piece_index", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("alias", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment", "piece_index", "alias", name=op.f("report_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "policy",
        sa.Column("policy", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy", name=op.f("policy_key")),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("counter_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("setting_key")),
        sqlite_with_rowid=False,
    )


def _make_nodes() -> None:
    op.create_table(
        "node",
        sa.Column("alias", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("proof_ms", sa.BigInteger(), nullable=False),
        sa.Column("registered_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger(), nullable=False),
        sa.Column("incarnation", sa.BigInteger(), nullable=False),
        sa.Column("full_flag", sa.SmallInteger(), nullable=False),
        sa.Column("skew_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("state_since_ms", sa.BigInteger(), nullable=False),
        sa.Column("counters", sa.LargeBinary(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias", name=op.f("node_key")),
        sa.UniqueConstraint("node_id", name=op.f("node_one_node_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("node_by_changed_ms"), "node", ["changed_ms"], unique=False)
