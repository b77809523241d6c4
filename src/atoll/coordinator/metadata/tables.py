"""The tables of the metadata. docs/spec/metadata.md says why they look like this.

Times are milliseconds since the Unix epoch. ``key`` columns hold UTF-8 bytes. There are no foreign
keys: each transaction that removes an owner removes what it owns, and tests check that nothing is
left behind.
"""

from sqlalchemy import Column, Index, Integer, String, Table, UniqueConstraint

from atoll.coordinator.sql import SCHEMA, Big, Bytes, Small

ACCOUNT = Table(
    "account",
    SCHEMA,
    Column("account", Bytes, primary_key=True),
    Column("owner_name", String, nullable=False),
    Column("status", String, nullable=False),
    Column("created_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

CREDENTIAL = Table(
    "credential",
    SCHEMA,
    Column("access_key", String, primary_key=True),
    Column("account", Bytes, nullable=False, index=True),
    Column("sealed_secret", Bytes, nullable=False),
    Column("status", String, nullable=False),
    Column("created_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

BUCKET = Table(
    "bucket",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("account", Bytes, nullable=False),
    # Names are ASCII; as bytes they sort alike on every database and locale.
    Column("name", Bytes, nullable=False),
    Column("region", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("policy", Big, nullable=False),
    Column("created_ms", Big, nullable=False),
    # How writes wait for manifests: ``group`` or ``sync``.
    Column("manifests", String, nullable=False, server_default="group"),
    UniqueConstraint("name"),
    Index(None, "account", "name"),
    sqlite_with_rowid=False,
)

# One row per key: what a reader sees. Earlier versions will get a table of their own, so that
# neither a read nor a listing ever steps over them.
OBJECT = Table(
    "object",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("key", Bytes, primary_key=True),
    Column("version", Bytes, nullable=False),
    Column("status", Small, nullable=False),
    Column("modified_ms", Big, nullable=False),
    Column("size", Big, nullable=False),
    Column("stream", Bytes, nullable=False),
    Column("segments", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("facts", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# Sizes and checksums of a multipart object's parts, up to 10,000: apart from ``object`` so that
# listings and plain reads never load them.
COMPOSITION = Table(
    "composition",
    SCHEMA,
    Column("stream", Bytes, primary_key=True),
    Column("parts", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# ``stream`` names a run of segments: the first segment's id for an object written at once, the
# upload's id for a multipart object (whose parts thus never move). ``position`` orders them:
# part number * 2^32 + place in the part.
SEGMENT = Table(
    "segment",
    SCHEMA,
    # Given with the first order (``metadata.serials``); SQLite's own row number.
    Column("serial", Big().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("segment", Bytes, nullable=False),
    Column("bucket", Bytes, nullable=False),
    Column("stream", Bytes, nullable=False),
    Column("position", Big, nullable=False),
    Column("k", Small, nullable=False),
    Column("n", Small, nullable=False),
    Column("unit_bytes", Integer, nullable=False),
    Column("plain_bytes", Integer, nullable=False),
    Column("root", Bytes, nullable=False),
    Column("wrapped_key", Bytes, nullable=False),
    Column("policy", Big, nullable=False),
    Column("pieces", Bytes, nullable=False),
    Column("created_ms", Big, nullable=False),
    Column("repaired_ms", Big, nullable=False),
    UniqueConstraint("segment"),
    UniqueConstraint("stream", "position"),
)

PIECE = Table(
    "piece",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("piece_index", Small, primary_key=True, autoincrement=False),
    # Of its data area: what a node is paid for, summed without a look at the segments.
    Column("piece_bytes", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

UPLOAD = Table(
    "upload",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("key", Bytes, primary_key=True),
    Column("upload", Bytes, primary_key=True),
    Column("facts", Bytes, nullable=False),
    Column("checksum_algorithm", String, nullable=False),
    Column("created_ms", Big, nullable=False, index=True),
    sqlite_with_rowid=False,
)

PART = Table(
    "part",
    SCHEMA,
    Column("upload", Bytes, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("size", Big, nullable=False),
    Column("etag", String, nullable=False),
    Column("checksums", Bytes, nullable=False),
    Column("modified_ms", Big, nullable=False),
    Column("segments", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# The answer to a CompleteUpload, kept for a day: a client whose connection broke asks again.
COMPLETED = Table(
    "completed",
    SCHEMA,
    Column("upload", Bytes, primary_key=True),
    Column("bucket", Bytes, nullable=False),
    Column("key", Bytes, nullable=False),
    Column("parts_digest", Bytes, nullable=False),
    Column("answer", Bytes, nullable=False),
    Column("completed_ms", Big, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Pieces that no object needs any more and that their nodes have not yet confirmed as deleted.
GARBAGE = Table(
    "garbage",
    SCHEMA,
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("segment", Bytes, primary_key=True),
    Column("piece_index", Small, primary_key=True, autoincrement=False),
    Column("bucket", Bytes, nullable=False),
    Column("since_ms", Big, nullable=False),
    Column("serial", Big, nullable=False),
    Index(None, "alias", "serial"),
    sqlite_with_rowid=False,
)

# Ids of segments collected within the last day. A commit that comes again (its first answer was
# lost on the way) must not bring back a segment whose pieces are being deleted. ``account``: whose
# it was, for reads that are settled afterwards.
SPENT = Table(
    "spent",
    SCHEMA,
    Column("segment", Bytes, primary_key=True),
    Column("since_ms", Big, nullable=False, index=True),
    Column("account", Bytes, nullable=True),
    sqlite_with_rowid=False,
)

# Segments below full strength, found by a scan or a dead node; leased so that several
# coordinators share the work. ``healthy`` is the count when it was judged last.
REPAIR = Table(
    "repair",
    SCHEMA,
    Column("serial", Big, primary_key=True, autoincrement=False),
    Column("healthy", Small, nullable=False),
    Column("urgent", Small, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_ms", Big, nullable=False),
    Column("lease_owner", Bytes, nullable=False),
    Column("lease_until_ms", Big, nullable=False),
    Column("reason", String, nullable=False),
    # Since when it waits: what repair takes is measured, durability is computed from it.
    Column("since_ms", Big, nullable=False, server_default="0"),
    Index(None, "urgent", "healthy", "due_ms"),
    sqlite_with_rowid=False,
)

# What gateways saw of nodes that serve wrong bytes, on its way to the coordinator that checks it.
REPORT = Table(
    "report",
    SCHEMA,
    Column("segment", Bytes, primary_key=True),
    Column("piece_index", Small, primary_key=True, autoincrement=False),
    Column("alias", Integer, primary_key=True, autoincrement=False),
    Column("reason", String, nullable=False),
    Column("since_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Segments whose plaintext is the ciphertexts of many small ones; the ``stream`` of such a segment
# is its own id. The bytes of items that were deleted count as dead until the pack is written anew.
PACK = Table(
    "pack",
    SCHEMA,
    Column("segment", Bytes, primary_key=True),
    Column("bucket", Bytes, nullable=False, index=True),
    Column("live_bytes", Big, nullable=False),
    Column("dead_bytes", Big, nullable=False),
    Column("items", Integer, nullable=False),
    Column("created_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Small segments that lie in a pack: they stand in the stream of their object as before.
PACKED = Table(
    "packed",
    SCHEMA,
    Column("stream", Bytes, primary_key=True),
    Column("position", Big, primary_key=True, autoincrement=False),
    Column("segment", Bytes, nullable=False),
    Column("plain_bytes", Integer, nullable=False),
    Column("unit_bytes", Integer, nullable=False),
    Column("wrapped_key", Bytes, nullable=False),
    Column("pack", Bytes, nullable=False, index=True),
    Column("pack_offset", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# How far the search for small objects has come in each bucket, and who is packing there.
PACK_WALK = Table(
    "pack_walk",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("after_key", Bytes, nullable=False),
    Column("due_ms", Big, nullable=False),
    Column("lease_owner", Bytes, nullable=False),
    Column("lease_until_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# Keys whose change is on its way into a manifest: written in the transaction that changes them,
# gone when the manifest lies on nodes. A row is left to the process that made it for a while.
CHANGE = Table(
    "change",
    SCHEMA,
    # Never given twice, even when the table was empty meanwhile.
    Column("sequence", Big().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("bucket", Bytes, nullable=False),
    Column("kind", Small, nullable=False),
    Column("key", Bytes, nullable=False),
    Column("time_ms", Big, nullable=False),
    Column("writer", Bytes, nullable=False),
    Column("number", Big, nullable=False),
    Column("lease_until_ms", Big, nullable=False, index=True),
    Index(None, "writer", "number"),
    Index(None, "bucket", "number"),
    sqlite_autoincrement=True,
)

# Manifests that lie on nodes; ``stream`` is that of their segments. ``bucket`` is the account's id
# for the account's catalogue.
MANIFEST = Table(
    "manifest",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("snapshot", Small, nullable=False),
    Column("plain_bytes", Big, nullable=False),
    Column("stream", Bytes, nullable=False),
    Column("created_ms", Big, nullable=False),
    sqlite_with_rowid=False,
)

# The number given last to a manifest of a bucket, and who is making a snapshot.
MANIFEST_STATE = Table(
    "manifest_state",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("number", Big, nullable=False),
    Column("lease_owner", Bytes, nullable=False),
    Column("lease_until_ms", Big, nullable=False),
    # Which root's keys it is written under, as the first writer said.
    Column("keys", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# Sums per bucket, changed in the transaction that changes the bucket. Several rows (shards) per
# bucket on databases with concurrent writers, so that commits do not queue for one row.
USAGE = Table(
    "usage",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("shard", Small, primary_key=True, autoincrement=False),
    Column("objects", Big, nullable=False),
    Column("object_bytes", Big, nullable=False),
    Column("segments", Big, nullable=False),
    Column("pieces", Big, nullable=False),
    Column("piece_bytes", Big, nullable=False),
    sqlite_with_rowid=False,
)

COUNTER = Table(
    "counter",
    SCHEMA,
    Column("name", String, primary_key=True),
    Column("value", Big, nullable=False),
    sqlite_with_rowid=False,
)

SETTING = Table(
    "setting",
    SCHEMA,
    Column("name", String, primary_key=True),
    Column("value", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

# What new objects of a bucket are locked by (docs/locking.md).
DEFAULT_LOCK = Table(
    "default_lock",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("mode", Small, nullable=False),
    Column("days", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# One row per object that is, or once was, locked; apart from ``object``, which most readers read
# and few locks are in. ``signed`` is 0 until a gateway has signed records for its segments.
OBJECT_LOCK = Table(
    "object_lock",
    SCHEMA,
    Column("bucket", Bytes, primary_key=True),
    Column("key", Bytes, primary_key=True),
    Column("stream", Bytes, nullable=False),
    Column("mode", Small, nullable=False),
    Column("until_ms", Big, nullable=False),
    Column("legal_hold", Small, nullable=False),
    Column("sequence", Big, nullable=False),
    Column("signed", Small, nullable=False),
    Index(None, "signed", "bucket"),
    sqlite_with_rowid=False,
)

# The newest signed record of a segment; ``confirmed`` packs (piece index, alias) of the holders
# that have signed that they obey it.
SEGMENT_LOCK = Table(
    "segment_lock",
    SCHEMA,
    Column("segment", Bytes, primary_key=True),
    Column("bucket", Bytes, nullable=False),
    Column("record", Bytes, nullable=False),
    Column("lock_grant", Bytes, nullable=False),
    Column("confirmed", Bytes, nullable=False),
    Column("pending", Small, nullable=False),
    Column("due_ms", Big, nullable=False),
    Column("attempts", Integer, nullable=False),
    Index(None, "pending", "due_ms"),
    sqlite_with_rowid=False,
)
