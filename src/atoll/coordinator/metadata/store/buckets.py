"""Accounts, credentials, buckets and settings."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement
from atoll.core.messages import BucketInfo

_INSERT_ACCOUNT = Statement("""
    INSERT INTO account (account, owner_name, status, created_ms)
    VALUES (:account, :owner_name, :status, :now_ms) ON CONFLICT (account) DO NOTHING""")
_INSERT_CREDENTIAL = Statement("""
    INSERT INTO credential (access_key, account, sealed_secret, status, created_ms)
    VALUES (:access_key, :account, :sealed_secret, :status, :now_ms)
    ON CONFLICT (access_key) DO NOTHING""")
_CREDENTIAL = Statement("""
    SELECT c.access_key, c.account, c.sealed_secret, c.status, a.owner_name, a.status
    FROM credential c JOIN account a ON a.account = c.account
    WHERE c.access_key = :access_key""")
_CREDENTIALS = Statement("""
    SELECT c.access_key, c.account, c.sealed_secret, c.status, a.owner_name, a.status
    FROM credential c JOIN account a ON a.account = c.account ORDER BY c.created_ms, c.access_key
    LIMIT :limit""")
_SET_CREDENTIAL_STATUS = Statement(
    "UPDATE credential SET status = :status WHERE access_key = :access_key"
)

_INSERT_BUCKET = Statement("""
    INSERT INTO bucket (bucket, account, name, region, mode, policy, created_ms, manifests)
    VALUES (:bucket, :account, :name, :region, :mode, :policy, :now_ms, :manifests)
    ON CONFLICT (name) DO NOTHING""")
_BUCKET_BY_NAME = Statement("""
    SELECT bucket, account, name, region, mode, created_ms, policy, manifests FROM bucket
    WHERE name = :name""")
_LOCK_BUCKET_BY_NAME = Statement("""
    SELECT bucket, account, name, region, mode, created_ms, policy, manifests FROM bucket
    WHERE name = :name FOR UPDATE""")
_BUCKET_BY_ID = Statement("""
    SELECT bucket, account, name, region, mode, created_ms, policy, manifests FROM bucket
    WHERE bucket = :bucket""")
_SET_MANIFESTS = Statement("UPDATE bucket SET manifests = :mode WHERE bucket = :bucket")
_LOCK_BUCKET_POLICY = Statement("SELECT policy FROM bucket WHERE bucket = :bucket FOR KEY SHARE")
_BUCKET_EXISTS = Statement("SELECT 1 FROM bucket WHERE bucket = :bucket")
_BUCKETS = Statement("""
    SELECT bucket, account, name, region, mode, created_ms, policy, manifests FROM bucket
    WHERE account = :account AND name >= :start AND name < :stop ORDER BY name LIMIT :limit""")
_COUNT_BUCKETS = Statement("SELECT count(*) FROM bucket")
_ANY_OBJECT = Statement("SELECT 1 FROM object WHERE bucket = :bucket LIMIT 1")
_AGE_UPLOADS = Statement("UPDATE upload SET created_ms = 0 WHERE bucket = :bucket")
_DELETE_BUCKET = Statement("DELETE FROM bucket WHERE bucket = :bucket")

_SETTING = Statement("SELECT value FROM setting WHERE name = :name")
_INSERT_SETTING = Statement("""
    INSERT INTO setting (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING""")


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as stored: its secret is sealed."""

    access_key: str
    account: bytes
    sealed_secret: bytes
    status: str
    owner_name: str
    account_status: str


def insert_account(connection: Connection, account: bytes, owner_name: str, now_ms: int) -> None:
    """Make an active account; one that exists stays as it is."""
    _INSERT_ACCOUNT.run(
        connection, account=account, owner_name=owner_name, status="active", now_ms=now_ms
    )


def insert_credential(
    connection: Connection,
    access_key: str,
    account: bytes,
    sealed_secret: bytes,
    now_ms: int,
) -> bool:
    """Make an active credential. Returns False if the access key is taken."""
    return bool(
        _INSERT_CREDENTIAL.run(
            connection,
            access_key=access_key,
            account=account,
            sealed_secret=sealed_secret,
            status="active",
            now_ms=now_ms,
        )
    )


def find_credential(connection: Connection, access_key: str) -> CredentialRow | None:
    """Find a credential by its access key."""
    row = _CREDENTIAL.first(connection, access_key=access_key)
    return None if row is None else CredentialRow(*row)


def list_credentials(connection: Connection, limit: int) -> list[CredentialRow]:
    """Return up to ``limit`` credentials, oldest first."""
    return [CredentialRow(*row) for row in _CREDENTIALS.all(connection, limit=limit)]


def set_credential_status(connection: Connection, access_key: str, status: str) -> bool:
    """Change a credential's status. Returns False if there is none."""
    return bool(_SET_CREDENTIAL_STATUS.run(connection, access_key=access_key, status=status))


def _bucket(row: tuple[bytes, bytes, bytes, str, str, int, int, str]) -> BucketInfo:
    bucket, account, name, region, mode, created_ms, policy, manifests = row
    return BucketInfo(
        bucket=bucket,
        account=account,
        name=name.decode(),
        region=region,
        mode=mode,
        created_ms=created_ms,
        policy=policy,
        manifests=manifests,
    )


def insert_bucket(connection: Connection, bucket: BucketInfo, policy: int) -> bool:
    """Make a bucket. Returns False if the name is taken."""
    return bool(
        _INSERT_BUCKET.run(
            connection,
            bucket=bucket.bucket,
            account=bucket.account,
            name=bucket.name.encode(),
            region=bucket.region,
            mode=bucket.mode,
            policy=policy,
            now_ms=bucket.created_ms,
            manifests=bucket.manifests,
        )
    )


def find_bucket(connection: Connection, name: str) -> BucketInfo | None:
    """Find a bucket by its name."""
    row = _BUCKET_BY_NAME.first(connection, name=name.encode())
    return None if row is None else _bucket(row)


def bucket_by_id(connection: Connection, bucket: bytes) -> BucketInfo | None:
    """Find a bucket by its id."""
    row = _BUCKET_BY_ID.first(connection, bucket=bucket)
    return None if row is None else _bucket(row)


def set_manifests(connection: Connection, bucket: bytes, mode: str) -> None:
    """Set how a bucket's writes wait for manifests."""
    _SET_MANIFESTS.run(connection, bucket=bucket, mode=mode)


def bucket_exists(connection: Connection, bucket: bytes) -> bool:
    """Say whether a bucket id is in use."""
    return _BUCKET_EXISTS.first(connection, bucket=bucket) is not None


def lock_bucket(connection: Connection, bucket: bytes) -> int | None:
    """Keep a bucket from being deleted until the transaction ends; return its policy."""
    row = _LOCK_BUCKET_POLICY.first(connection, bucket=bucket)
    return None if row is None else int(row[0])


def lock_bucket_by_name(connection: Connection, name: str) -> BucketInfo | None:
    """Find a bucket and keep all others from adding to it until the transaction ends."""
    row = _LOCK_BUCKET_BY_NAME.first(connection, name=name.encode())
    return None if row is None else _bucket(row)


def bucket_is_empty(connection: Connection, bucket: bytes) -> bool:
    """Say whether a bucket holds no object."""
    return _ANY_OBJECT.first(connection, bucket=bucket) is None


def delete_bucket(connection: Connection, bucket: bytes) -> None:
    """Remove an empty bucket; its uploads become the oldest, so that they are collected next."""
    _AGE_UPLOADS.run(connection, bucket=bucket)
    _DELETE_BUCKET.run(connection, bucket=bucket)


def list_buckets(
    connection: Connection, account: bytes, start: bytes, stop: bytes, limit: int
) -> list[BucketInfo]:
    """Return an account's buckets with names start <= name < stop, in order."""
    rows = _BUCKETS.all(connection, account=account, start=start, stop=stop, limit=limit)
    return [_bucket(row) for row in rows]


def count_buckets(connection: Connection) -> int:
    """Return the number of buckets."""
    return int(_COUNT_BUCKETS.scalar(connection))


def read_setting(connection: Connection, name: str) -> bytes | None:
    """Return a setting's value."""
    row = _SETTING.first(connection, name=name)
    return None if row is None else bytes(row[0])


def keep_setting(connection: Connection, name: str, value: bytes) -> bytes:
    """Set a setting that has no value yet; return the value it has now."""
    _INSERT_SETTING.run(connection, name=name, value=value)
    kept = read_setting(connection, name)
    assert kept is not None, "it was set by us or by another"
    return kept
