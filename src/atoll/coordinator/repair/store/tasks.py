"""The SQL of repair work that nodes take: tasks under way, and what each node's work came to."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

_ADD = Statement("""
    INSERT INTO repair_task (task, serial, alias, until_ms, facts)
    VALUES (:task, :serial, :alias, :until_ms, :facts) ON CONFLICT (serial) DO NOTHING""")
_TAKE = Statement("""
    DELETE FROM repair_task WHERE task = :task AND alias = :alias RETURNING serial, facts""")
_RUNNING = Statement("SELECT count(*) FROM repair_task WHERE alias = :alias")
_RUNNING_ALL = Statement("SELECT count(*) FROM repair_task")
_EXPIRE = Statement("DELETE FROM repair_task WHERE until_ms <= :now_ms RETURNING alias")
_ADD_WORK = Statement("""
    INSERT INTO repair_work (alias, tasks, failed, false_claims, pieces, downloaded_bytes,
        uploaded_bytes, last_ms)
    VALUES (:alias, :tasks, :failed, :false_claims, :pieces, :downloaded_bytes, :uploaded_bytes,
        :last_ms)
    ON CONFLICT (alias) DO UPDATE SET
        tasks = repair_work.tasks + excluded.tasks,
        failed = repair_work.failed + excluded.failed,
        false_claims = repair_work.false_claims + excluded.false_claims,
        pieces = repair_work.pieces + excluded.pieces,
        downloaded_bytes = repair_work.downloaded_bytes + excluded.downloaded_bytes,
        uploaded_bytes = repair_work.uploaded_bytes + excluded.uploaded_bytes,
        last_ms = excluded.last_ms""")
_WORK = Statement("""
    SELECT alias, tasks, failed, false_claims, pieces, downloaded_bytes, uploaded_bytes, last_ms
    FROM repair_work ORDER BY alias""")
_WORK_OF = Statement("""
    SELECT alias, tasks, failed, false_claims, pieces, downloaded_bytes, uploaded_bytes, last_ms
    FROM repair_work WHERE alias = :alias""")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task under way: the segment, and what was asked (encoded by ``offers``)."""

    serial: int
    facts: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What a node's repair work came to; as a change, what is to be added."""

    alias: int
    tasks: int = 0
    failed: int = 0
    false_claims: int = 0
    pieces: int = 0
    downloaded_bytes: int = 0
    uploaded_bytes: int = 0
    last_ms: int = 0


def add_task(
    connection: Connection, task: bytes, serial: int, alias: int, until_ms: int, facts: bytes
) -> bool:
    """Give a segment's repair to a node; False where another has it."""
    added = _ADD.run(
        connection, task=task, serial=serial, alias=alias, until_ms=until_ms, facts=facts
    )
    return added == 1


def take_task(connection: Connection, task: bytes, alias: int) -> TaskRow | None:
    """Take a task back from the node that had it; None where it has it no more."""
    row = _TAKE.first(connection, task=task, alias=alias)
    return None if row is None else TaskRow(*row)


def running_tasks(connection: Connection, alias: int | None = None) -> int:
    """Return how many tasks a node has under way, or all together."""
    if alias is None:
        return int(_RUNNING_ALL.scalar(connection))
    return int(_RUNNING.scalar(connection, alias=alias))


def expire_tasks(connection: Connection, now_ms: int) -> int:
    """Take back tasks whose time is over, and count them as failed; return how many."""
    aliases = [row[0] for row in _EXPIRE.all(connection, now_ms=now_ms)]
    for alias in aliases:
        add_work(connection, Work(alias, failed=1, last_ms=now_ms))
    return len(aliases)


def add_work(connection: Connection, change: Work) -> None:
    """Add to what a node's work came to."""
    _ADD_WORK.run(
        connection,
        alias=change.alias,
        tasks=change.tasks,
        failed=change.failed,
        false_claims=change.false_claims,
        pieces=change.pieces,
        downloaded_bytes=change.downloaded_bytes,
        uploaded_bytes=change.uploaded_bytes,
        last_ms=change.last_ms,
    )


def all_work(connection: Connection) -> list[Work]:
    """Return every node's work."""
    return [Work(*row) for row in _WORK.all(connection)]


def work_of(connection: Connection, alias: int) -> Work:
    """Return one node's work; nothing where it never took any."""
    row = _WORK_OF.first(connection, alias=alias)
    return Work(alias) if row is None else Work(*row)
