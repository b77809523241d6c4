"""The SQL of policies and trust. Functions take a connection and run in its transaction."""

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

COLUMNS = "policy, bucket, version, text, created_ms"
CHANGED_MARGIN_MS = 10_000
"""How far back a refresh looks beyond the last one: commits take time, clocks differ a little."""

PolicyRow = tuple[int, bytes, int, str, int]
"""``COLUMNS``."""

_CHANGED = Statement(
    "SELECT {columns} FROM policy WHERE created_ms >= :since_ms ORDER BY policy", columns=COLUMNS
)
_BY_ID = Statement("SELECT {columns} FROM policy WHERE policy = :policy", columns=COLUMNS)
_OF_BUCKET = Statement(
    """SELECT {columns} FROM policy WHERE bucket = :bucket
    ORDER BY version DESC LIMIT :limit""",
    columns=COLUMNS,
)
_LOCK_BUCKET = Statement(
    "SELECT account, mode FROM bucket WHERE bucket = :bucket FOR NO KEY UPDATE"
)
_INSERT = Statement("""
    INSERT INTO policy (bucket, version, text, created_ms)
    VALUES (:bucket, :version, :text, :now_ms) RETURNING policy""")
_NOTE = Statement("""
    INSERT INTO change (bucket, kind, key, time_ms, writer, number, lease_until_ms)
    VALUES (:account, 1, :nothing, :now_ms, :nothing, 0, 0)""")
_USE = Statement("UPDATE bucket SET policy = :policy WHERE bucket = :bucket")
_ISSUERS = Statement("SELECT issuer, name, statements FROM issuer ORDER BY name, issuer")
_TRUST = Statement("""
    INSERT INTO issuer (issuer, name, statements, added_ms)
    VALUES (:issuer, :name, :statements, :now_ms)
    ON CONFLICT (issuer) DO UPDATE SET name = excluded.name, statements = excluded.statements""")
_DISTRUST = Statement("DELETE FROM issuer WHERE issuer = :issuer")
_LISTS = Statement("SELECT list FROM revocations ORDER BY issuer")
_SEQUENCES = Statement("SELECT issuer, sequence FROM revocations ORDER BY issuer")
_LIST = Statement("SELECT list FROM revocations WHERE issuer = :issuer")
_KEEP_LIST = Statement("""
    INSERT INTO revocations (issuer, sequence, list) VALUES (:issuer, :sequence, :list)
    ON CONFLICT (issuer) DO UPDATE SET sequence = excluded.sequence, list = excluded.list
    WHERE revocations.sequence < excluded.sequence""")


def changed_policies(connection: Connection, since_ms: int) -> list[PolicyRow]:
    """Return the versions made since shortly before a time, oldest first."""
    rows = _CHANGED.all(connection, since_ms=max(0, since_ms - CHANGED_MARGIN_MS))
    return [(row[0], bytes(row[1]), row[2], row[3], row[4]) for row in rows]


def policy_by_id(connection: Connection, policy: int) -> PolicyRow | None:
    """Find a version by its id."""
    row = _BY_ID.first(connection, policy=policy)
    return None if row is None else (row[0], bytes(row[1]), row[2], row[3], row[4])


def policies_of(connection: Connection, bucket: bytes, limit: int) -> list[PolicyRow]:
    """Return a bucket's versions, the newest first."""
    rows = _OF_BUCKET.all(connection, bucket=bucket, limit=limit)
    return [(row[0], bytes(row[1]), row[2], row[3], row[4]) for row in rows]


def lock_bucket(connection: Connection, bucket: bytes) -> tuple[bytes, str] | None:
    """Return a bucket's account and mode; its policy stays as it is until the transaction ends."""
    row = _LOCK_BUCKET.first(connection, bucket=bucket)
    return None if row is None else (bytes(row[0]), row[1])


def note_catalogue(connection: Connection, account: bytes, now_ms: int) -> None:
    """Let the account's catalogue be written anew: as ``metadata.store.changes`` does."""
    _NOTE.run(connection, account=account, now_ms=now_ms, nothing=b"")


def add_policy(
    connection: Connection, bucket: bytes, version: int, text: str, now_ms: int
) -> PolicyRow:
    """Write a further version and make it the bucket's."""
    policy = _INSERT.scalar(connection, bucket=bucket, version=version, text=text, now_ms=now_ms)
    _USE.run(connection, policy=policy, bucket=bucket)
    return policy, bucket, version, text, now_ms


def issuers(connection: Connection) -> list[tuple[bytes, str, tuple[str, ...]]]:
    """Return the trusted issuers: key, name, what their word counts for."""
    rows = _ISSUERS.all(connection)
    return [(bytes(row[0]), row[1], tuple(row[2].splitlines())) for row in rows]


def trust(
    connection: Connection, issuer: bytes, name: str, statements: tuple[str, ...], now_ms: int
) -> None:
    """Trust an issuer, or change what for."""
    _TRUST.run(
        connection, issuer=issuer, name=name, statements="\n".join(statements), now_ms=now_ms
    )


def distrust(connection: Connection, issuer: bytes) -> bool:
    """Trust an issuer no longer. Returns False if he was not trusted."""
    return bool(_DISTRUST.run(connection, issuer=issuer))


def revocation_lists(connection: Connection) -> list[bytes]:
    """Return the newest list of each issuer, as signed."""
    return [bytes(row[0]) for row in _LISTS.all(connection)]


def revocation_sequences(connection: Connection) -> list[tuple[bytes, int]]:
    """Return the sequence of each issuer's newest list: what to compare before reading them."""
    return [(bytes(row[0]), row[1]) for row in _SEQUENCES.all(connection)]


def revocation_list(connection: Connection, issuer: bytes) -> bytes | None:
    """Return an issuer's newest list."""
    found = _LIST.scalar(connection, issuer=issuer)
    return None if found is None else bytes(found)


def keep_revocations(connection: Connection, issuer: bytes, sequence: int, raw: bytes) -> bool:
    """Keep a list unless one as new is there."""
    return bool(_KEEP_LIST.run(connection, issuer=issuer, sequence=sequence, list=raw))
