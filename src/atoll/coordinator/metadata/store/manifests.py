"""Manifests on nodes: which there are, and who may make the next snapshot."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store.changes import KEYS_BYTES
from atoll.coordinator.sql import Statement

_NEXT = Statement("""
    INSERT INTO manifest_state (bucket, number, lease_owner, lease_until_ms, keys)
    VALUES (:bucket, 1, :nobody, 0, :keys)
    ON CONFLICT (bucket) DO UPDATE SET number = manifest_state.number + 1,
        keys = CASE WHEN manifest_state.keys = :nobody THEN :keys ELSE manifest_state.keys END
    RETURNING number""")
_RAISE = Statement("""
    INSERT INTO manifest_state (bucket, number, lease_owner, lease_until_ms, keys)
    VALUES (:bucket, :number, :nobody, 0, :nobody)
    ON CONFLICT (bucket) DO UPDATE SET number = :number WHERE manifest_state.number < :number""")
_LEASE = Statement("""
    UPDATE manifest_state SET lease_owner = :writer, lease_until_ms = :until_ms
    WHERE bucket = :bucket AND (lease_until_ms < :now_ms OR lease_owner = :writer)""")
_HOLDS = Statement("""
    SELECT 1 FROM manifest_state WHERE bucket = :bucket AND lease_owner = :writer
    AND lease_until_ms >= :now_ms""")
_RELEASE = Statement("""
    UPDATE manifest_state SET lease_until_ms = 0
    WHERE bucket = :bucket AND lease_owner = :writer""")
_INSERT = Statement("""
    INSERT INTO manifest (bucket, number, snapshot, plain_bytes, stream, created_ms)
    VALUES (:bucket, :number, :snapshot, :plain_bytes, :stream, :now_ms)""")
_SUMS = Statement("""
    SELECT coalesce(sum(1 - snapshot), 0), coalesce(sum((1 - snapshot) * plain_bytes), 0),
        coalesce(sum(snapshot * plain_bytes), 0), count(*) FROM manifest WHERE bucket = :bucket""")
_DELETE_UPTO = Statement("""
    DELETE FROM manifest WHERE bucket = :bucket AND number <= :number RETURNING stream""")
_POLICY_TEXT = Statement("SELECT text FROM policy WHERE policy = :policy")
_FORGET = Statement("DELETE FROM manifest_state WHERE bucket = :bucket")


@dataclass(frozen=True, slots=True)
class ManifestSums:
    """What a bucket's manifests amount to, in plaintext bytes."""

    deltas: int
    delta_bytes: int
    snapshot_bytes: int
    manifests: int


def next_number(connection: Connection, bucket: bytes, writer: bytes) -> int:
    """Return the number of a bucket's next manifest: higher than all before.

    The first to write one decides whose keys the bucket is under (``changes.KEYS_BYTES``).
    """
    keys = writer[:KEYS_BYTES]
    return int(_NEXT.scalar(connection, bucket=bucket, nobody=b"", keys=keys))


def raise_number(connection: Connection, bucket: bytes, number: int) -> None:
    """Let the next manifest have a number above this one."""
    _RAISE.run(connection, bucket=bucket, number=number, nobody=b"")


def lease_snapshot(
    connection: Connection, bucket: bytes, writer: bytes, now_ms: int, until_ms: int
) -> bool:
    """Let one writer make a snapshot. Returns False if another does."""
    return bool(
        _LEASE.run(connection, bucket=bucket, writer=writer, now_ms=now_ms, until_ms=until_ms)
    )


def holds_lease(connection: Connection, bucket: bytes, writer: bytes, now_ms: int) -> bool:
    """Say whether this writer may still finish its snapshot."""
    return _HOLDS.first(connection, bucket=bucket, writer=writer, now_ms=now_ms) is not None


def release_lease(connection: Connection, bucket: bytes, writer: bytes) -> None:
    """Let others make snapshots."""
    _RELEASE.run(connection, bucket=bucket, writer=writer)


def insert_manifest(
    connection: Connection,
    bucket: bytes,
    number: int,
    stream: bytes,
    plain_bytes: int,
    now_ms: int,
    *,
    snapshot: bool,
) -> None:
    """Note a manifest that lies on nodes."""
    _INSERT.run(
        connection,
        bucket=bucket,
        number=number,
        snapshot=int(snapshot),
        plain_bytes=plain_bytes,
        stream=stream,
        now_ms=now_ms,
    )


def sums(connection: Connection, bucket: bytes) -> ManifestSums:
    """Return what a bucket's manifests amount to."""
    return ManifestSums(*(int(value) for value in _SUMS.first(connection, bucket=bucket)))


def delete_upto(connection: Connection, bucket: bytes, number: int) -> list[bytes]:
    """Forget manifests up to a number; return their streams, whose segments the caller collects."""
    return [bytes(row[0]) for row in _DELETE_UPTO.all(connection, bucket=bucket, number=number)]


def forget_bucket(connection: Connection, bucket: bytes) -> list[bytes]:
    """Forget all manifests of a bucket; return their streams."""
    _FORGET.run(connection, bucket=bucket)
    return delete_upto(connection, bucket, (1 << 63) - 1)


def policy_text(connection: Connection, policy: int) -> str:
    """Return the text of a policy; empty for the one of buckets that have none."""
    return str(_POLICY_TEXT.scalar(connection, policy=policy) or "")
