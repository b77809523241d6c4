"""The SQL of billing."""

from sqlalchemy.engine import Connection

from atoll.coordinator.billing.model import PARTS_MAX, EpochRow, State
from atoll.coordinator.billing.rules import parts_of
from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind

INPUTS = "inputs"
TOTALS = "totals"
_COLUMNS = "epoch, state, from_ms, until_ms, content, root"
_NEWEST = Statement(
    "SELECT {columns} FROM billing_epoch ORDER BY epoch DESC LIMIT 1", columns=_COLUMNS
)
_ONE = Statement("SELECT {columns} FROM billing_epoch WHERE epoch = :epoch", columns=_COLUMNS)
_PAGE = Statement(
    """SELECT {columns} FROM billing_epoch WHERE epoch > 0 AND epoch < :before
    ORDER BY epoch DESC LIMIT :limit""",
    columns=_COLUMNS,
)
_PUBLISHED = Statement(
    """SELECT {columns} FROM billing_epoch WHERE epoch > :after AND state = 'published'
    ORDER BY epoch LIMIT :limit""",
    columns=_COLUMNS,
)
_PUT = Statement("""
    INSERT INTO billing_epoch (epoch, state, from_ms, until_ms, content, root)
    VALUES (:epoch, :state, :from_ms, :until_ms, :content, :root)
    ON CONFLICT (epoch) DO NOTHING""")
_MOVE = Statement("""
    UPDATE billing_epoch SET state = :state, content = :content, root = :root
    WHERE epoch = :epoch AND state = :state_before AND content = :content_before""")
_PUT_PART = Statement("""
    INSERT INTO billing_part (epoch, kind, part, body) VALUES (:epoch, :kind, :part, :body)""")
_PARTS = Statement("""
    SELECT body FROM billing_part WHERE epoch = :epoch AND kind = :kind ORDER BY part""")
_DROP = Statement("DELETE FROM billing_part WHERE epoch = :epoch AND kind = :kind")


def _row(row: tuple[int, str, int, int, bytes, bytes]) -> EpochRow:
    epoch, state, from_ms, until_ms, content, root = row
    return EpochRow(
        int(epoch), State(state), int(from_ms), int(until_ms), bytes(content), bytes(root)
    )


def newest(connection: Connection) -> EpochRow | None:
    """Return the epoch that began last."""
    row = _NEWEST.first(connection)
    return None if row is None else _row(row)


def one(connection: Connection, epoch: int) -> EpochRow | None:
    """Return one epoch."""
    row = _ONE.first(connection, epoch=epoch)
    return None if row is None else _row(row)


def page(connection: Connection, before: int, limit: int) -> list[EpochRow]:
    """Return epochs below ``before``, newest first."""
    return [_row(row) for row in _PAGE.all(connection, before=before, limit=limit)]


def published(connection: Connection, after: int, limit: int) -> list[EpochRow]:
    """Return published epochs above ``after``, oldest first."""
    return [_row(row) for row in _PUBLISHED.all(connection, after=after, limit=limit)]


def put(connection: Connection, row: EpochRow) -> bool:
    """Write a new epoch; False where it is there already."""
    return bool(
        _PUT.run(
            connection,
            epoch=row.epoch,
            state=row.state.value,
            from_ms=row.from_ms,
            until_ms=row.until_ms,
            content=row.content,
            root=row.root,
        )
    )


def move(connection: Connection, before: EpochRow, after: EpochRow) -> bool:
    """Bring an epoch on; False where it is not (any more) as ``before`` says."""
    return bool(
        _MOVE.run(
            connection,
            epoch=before.epoch,
            state=after.state.value,
            content=after.content,
            root=after.root,
            state_before=before.state.value,
            content_before=before.content,
        )
    )


def keep_body(connection: Connection, epoch: int, kind: str, body: bytes) -> None:
    """Keep a body of an epoch, in place of the one before. Raises ``TOO_LARGE``."""
    parts = parts_of(body)
    if len(parts) > PARTS_MAX:
        raise AtollError(Kind.TOO_LARGE, "keep epoch", f"epoch {epoch} has over {PARTS_MAX} MiB")
    drop_body(connection, epoch, kind)
    _PUT_PART.many(
        connection,
        [
            {"epoch": epoch, "kind": kind, "part": number, "body": part}
            for number, part in enumerate(parts)
        ],
    )


def body_of(connection: Connection, epoch: int, kind: str) -> bytes:
    """Return a body of an epoch. Raises ``NOT_FOUND``."""
    parts = _PARTS.all(connection, epoch=epoch, kind=kind)
    if not parts:
        raise AtollError(Kind.NOT_FOUND, "read epoch", f"epoch {epoch} has no {kind} any more")
    return b"".join(bytes(body) for (body,) in parts)


def drop_body(connection: Connection, epoch: int, kind: str) -> None:
    """Forget a body of an epoch."""
    _DROP.run(connection, epoch=epoch, kind=kind)
