"""The ``Database`` port for real: SQLite or PostgreSQL under SQLAlchemy Core.

SQLite (WAL, ``synchronous=FULL``): reads run inline on a connection of their own; writes run on one
writer thread, as many in one transaction as are waiting, each in a savepoint, acknowledged after
the commit's sync. Several processes may share the file: they take turns by two file locks.

PostgreSQL: a bounded pool of psycopg connections, each used in a thread of its own.
"""

import asyncio
import fcntl
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from atoll.coordinator.metadata.migrate import migrate_connection
from atoll.core.errors import AtollError, Kind

Result = TypeVar("Result")

WRITE_QUEUE_MAX = 20_000
"""Writes waiting beyond this are refused with ``OVERLOADED``."""
BATCH_WRITES_MAX = 256
BATCH_SECONDS_MAX = 0.05
"""No further write joins a batch that has run this long: the first ones wait for their ack."""
BUSY_TIMEOUT_MS = 30_000
"""How long to wait for a foreign writer that does not know our locks."""
WAL_BYTES_KEPT = 64 << 20
READ_CACHE_KIB = 16 << 10
STATEMENTS_CACHED = 256
POOL_CONNECTIONS = 8
CONNECT_TIMEOUT_S = 10
WRITE_TRIES_MAX = 12
"""Attempts of a PostgreSQL transaction that lost against another."""
RETRY_PAUSE_S = 0.002
"""First pause between attempts; doubled each time up to ``RETRY_PAUSE_S_MAX``, with jitter."""
RETRY_PAUSE_S_MAX = 0.25

_SERIALIZATION_FAILURE = "40001"
_DEADLOCK = "40P01"
_DISK_FULL = "53100"


@dataclass(slots=True)
class _Write:
    function: Callable[[Connection], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


def _deliver(writes: list[_Write]) -> None:
    for write in writes:
        if write.future.done():
            continue
        if write.error is None:
            write.future.set_result(write.result)
        else:
            write.future.set_exception(write.error)


class _FairLock:
    """A lock between processes by two ``flock``s: wait at the gate, then for the room.

    Who leaves the room must pass the gate again, where the next one already waits inside: nobody
    can take two turns while another waits. The kernel releases both when a process dies.
    """

    def __init__(self, path: str) -> None:
        self._gate = os.open(path + "-gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._room = os.open(path + "-room", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._gate)
        os.close(self._room)


class SqlDatabase:
    """A database by its URL: ``sqlite:///path/to/file`` or ``postgresql://user@host/name``.

    Raises ``CONFIG`` for any other URL. Does not migrate: see ``migrate``.
    """

    def __init__(self, url: str, *, connections: int = POOL_CONNECTIONS) -> None:
        """Open. ``connections`` bounds what PostgreSQL is asked for at once."""
        parsed = _parse(url)
        self._answer: _Sqlite | _Postgres
        if parsed.get_backend_name() == "sqlite":
            self._answer = _Sqlite(parsed)
        else:
            self._answer = _Postgres(parsed, connections)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._answer.dialect

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        """Run a function that only reads, on one consistent view of what is committed."""
        return await self._answer.read(function)

    async def write(self, function: Callable[[Connection], Result]) -> Result:
        """Run a function in a transaction; when this returns, its effects are durable.

        Raises what the function raises; ``CONFLICT`` where a unique key forbids,
        ``DISK_FULL``, ``OVERLOADED`` and ``UNREACHABLE`` where the database cannot.
        """
        return await self._answer.write(function)

    async def close(self) -> None:
        """Finish what was accepted, then release the connections."""
        await self._answer.close()


class _Sqlite:
    dialect = "sqlite"

    def __init__(self, url: URL) -> None:
        assert url.database is not None
        self._lock = _FairLock(url.database)
        self._engine = _sqlite_engine(url.database)
        self._reader = self._engine.connect()
        self._reader_raw = _raw(self._reader)
        self._reader_raw.execute("PRAGMA query_only = ON")
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        if self._closed:
            raise _closed()
        execute = self._reader_raw.execute
        with _explained("read database"):
            execute("BEGIN")
            try:
                return function(self._reader)
            finally:
                execute("COMMIT")

    async def write(self, function: Callable[[Connection], Result]) -> Result:
        if self._closed:
            raise _closed()
        if self._queue.qsize() >= WRITE_QUEUE_MAX:
            raise AtollError(Kind.OVERLOADED, "write database", "too many writes are waiting")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queue.put(_Write(function, future, loop))
        return await future

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._reader.close()
        self._engine.dispose()
        self._lock.close()

    def _write_loop(self) -> None:
        connection = self._engine.connect()
        raw = _raw(connection)
        while (first := self._queue.get()) is not None:
            batch: list[_Write] = []
            try:
                with _explained("write database"), self._lock:
                    raw.execute("BEGIN IMMEDIATE")
                    try:
                        self._run_batch(connection, raw, first, batch)
                        raw.execute("COMMIT")
                    except BaseException:
                        if raw.in_transaction:
                            raw.execute("ROLLBACK")
                        raise
            except BaseException as error:  # noqa: BLE001 - the thread lives on; callers are told
                for write in batch or [first]:
                    write.error = write.error or error
            _acknowledge(batch or [first])
        connection.close()

    def _run_batch(
        self, connection: Connection, raw: sqlite3.Connection, first: _Write, batch: list[_Write]
    ) -> None:
        deadline = time.monotonic() + BATCH_SECONDS_MAX
        write: _Write | None = first
        while write is not None:
            batch.append(write)
            _run_in_savepoint(connection, raw, write)
            if len(batch) >= BATCH_WRITES_MAX or time.monotonic() > deadline:
                return
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                return
            if write is None:
                self._queue.put(None)  # closing: the loop sees it after this batch


def _run_in_savepoint(connection: Connection, raw: sqlite3.Connection, write: _Write) -> None:
    raw.execute("SAVEPOINT one")
    try:
        with _explained("write database"):
            write.result = write.function(connection)
    except Exception as error:
        write.error = error
        # A full disk ends the whole transaction by itself: then all of the batch have failed.
        if not raw.in_transaction:
            raise
        raw.execute("ROLLBACK TO one")
    raw.execute("RELEASE one")


def _acknowledge(batch: list[_Write]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for write in batch:
        loops.setdefault(write.loop, []).append(write)
    for loop, writes in loops.items():
        try:
            loop.call_soon_threadsafe(_deliver, writes)
        except RuntimeError:  # that loop is closed: nobody waits there any more
            continue


class _Postgres:
    dialect = "postgresql"

    def __init__(self, url: URL, connections: int) -> None:
        self._engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,  # each thread keeps its own connection
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "atoll",
                "options": "-c synchronous_commit=on",
                "prepare_threshold": 2,
            },
        )
        self._threads = ThreadPoolExecutor(connections, "postgres")
        self._own = threading.local()
        self._opened: set[Connection] = set()
        self._waiting = 0
        self._closed = False

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        return await self._run(function, True)

    async def write(self, function: Callable[[Connection], Result]) -> Result:
        return await self._run(function, False)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for connection in self._opened:
            connection.close()
        self._engine.dispose()

    async def _run(self, function: Callable[[Connection], Result], read: bool) -> Result:
        if self._closed:
            raise _closed()
        if self._waiting >= WRITE_QUEUE_MAX:
            raise AtollError(Kind.OVERLOADED, "ask database", "too many transactions are waiting")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._attempt, function, read)
        finally:
            self._waiting -= 1

    def _attempt(self, function: Callable[[Connection], Result], read: bool) -> Result:
        operation = "read database" if read else "write database"
        pause = RETRY_PAUSE_S
        for attempt in range(1, WRITE_TRIES_MAX + 1):
            try:
                return self._once(function, read)
            except (SQLAlchemyError, psycopg.Error) as error:
                if attempt == WRITE_TRIES_MAX or not _lost_race(error):
                    raise _explain(error, operation) from error
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter, no secret
            pause = min(pause * 2, RETRY_PAUSE_S_MAX)
        raise AssertionError("the last attempt returned or raised")

    def _once(self, function: Callable[[Connection], Result], read: bool) -> Result:
        """Run one transaction on this thread's connection; a broken one is replaced once."""
        connection = self._connection()
        try:
            self._begin(connection, read)
            result = function(connection)
        except (SQLAlchemyError, psycopg.Error):
            if not self._undo(connection):
                raise
            # Nothing was committed: the server may have restarted since the last transaction.
            connection = self._connection()
            try:
                self._begin(connection, read)
                result = function(connection)
            except BaseException:
                self._undo(connection)
                raise
        except BaseException:
            self._undo(connection)
            raise
        try:
            _psycopg(connection).commit()
            if connection.in_transaction():  # somebody spoke through SQLAlchemy
                connection.commit()
        except BaseException:
            self._undo(connection)
            raise
        return result

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._engine.connect()
            self._opened.add(connection)
        return connection

    def _begin(self, connection: Connection, read: bool) -> None:
        """Let the transaction that the first statement begins be of the right kind.

        A read of several statements needs one view of the data. A write that waited for a row
        needs the newest version of it.
        """
        raw = _psycopg(connection)
        if raw.read_only is not read:
            level = psycopg.IsolationLevel
            raw.read_only = read
            raw.isolation_level = level.REPEATABLE_READ if read else level.READ_COMMITTED

    def _undo(self, connection: Connection) -> bool:
        """Roll back; return True if the connection was broken and is let go."""
        raw = _psycopg(connection)
        try:
            if not raw.broken:
                raw.rollback()
            if not raw.broken and connection.in_transaction():
                connection.rollback()
        except (SQLAlchemyError, psycopg.Error):
            raw.close()
        if not raw.closed:
            return False
        self._own.connection = None
        self._opened.discard(connection)
        connection.invalidate()
        connection.close()
        return True


def _psycopg(connection: Connection) -> "psycopg.Connection[Any]":
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


def _lost_race(error: Exception) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) in (_SERIALIZATION_FAILURE, _DEADLOCK)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError as cause:
        raise AtollError(
            Kind.CONFIG,
            "open database",
            "this is no database URL",
            hint="use sqlite:///path/to/file or postgresql://user@host/name",
        ) from cause
    if backend not in ("sqlite", "postgresql"):
        raise AtollError(
            Kind.CONFIG,
            "open database",
            f"no support for {backend}",
            hint="use sqlite:///path/to/file or postgresql://user@host/name",
        )
    if backend == "sqlite":
        path = parsed.database or ""
        if path in ("", ":memory:"):
            raise AtollError(
                Kind.CONFIG, "open database", "a database in memory would lose what it promised"
            )
        if not Path(path).parent.is_dir():
            raise AtollError(
                Kind.CONFIG, "open database", "the database's folder is not there", about=path
            )
    return parsed


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _sqlite_engine(path: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=path),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",  # we say BEGIN and COMMIT ourselves
        connect_args={
            "check_same_thread": False,
            "cached_statements": STATEMENTS_CACHED,
            "timeout": BUSY_TIMEOUT_MS / 1000,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(raw: sqlite3.Connection, _: object) -> None:
        raw.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        raw.execute(f"PRAGMA cache_size = -{READ_CACHE_KIB}")
        raw.execute("PRAGMA temp_store = MEMORY")

    return engine


def migrate(url: str) -> None:
    """Bring a database to this version's schema; an empty or absent one is made.

    Blocks. Raises ``NEWER_FORMAT`` for a schema of a later version, ``WRONG_FOLDER`` for a file or
    database that is not Atoll's, ``UNREACHABLE`` where there is no server.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        engine = _sqlite_engine(parsed.database)
        lock = _FairLock(parsed.database)
        try:
            with _explained("migrate database"), lock, engine.connect() as connection:
                raw = _raw(connection)
                raw.execute("BEGIN IMMEDIATE")
                try:
                    migrate_connection(connection)
                    raw.execute("COMMIT")
                except BaseException:
                    if raw.in_transaction:
                        raw.execute("ROLLBACK")
                    raise
        finally:
            engine.dispose()
            lock.close()
        return
    engine = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "atoll"},
    )
    try:
        with _explained("migrate database"), engine.begin() as connection:
            migrate_connection(connection)
    finally:
        engine.dispose()


def _closed() -> AtollError:
    return AtollError(Kind.INTERNAL, "ask database", "the database is closed")


@contextmanager
def _explained(operation: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _explain(error, operation) from error


def _explain(error: Exception, operation: str) -> AtollError:
    """Return the error of our kinds that a database's error amounts to."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    first_line = str(cause).split("\n", 1)[0]
    name = getattr(cause, "sqlite_errorname", "")
    state = getattr(cause, "sqlstate", None) or ""
    kind, hint = Kind.INTERNAL, ""
    if isinstance(error, IntegrityError):
        kind = Kind.CONFLICT
    elif name == "SQLITE_FULL" or state == _DISK_FULL:
        kind, hint = Kind.DISK_FULL, "free some space on the database's disk"
    elif name == "SQLITE_NOTADB":
        kind, hint = Kind.WRONG_FOLDER, "this file is no SQLite database; choose another"
    elif name.startswith("SQLITE_BUSY") or state in (_SERIALIZATION_FAILURE, _DEADLOCK):
        kind = Kind.OVERLOADED
    elif name.startswith("SQLITE_CANTOPEN") or name.startswith("SQLITE_READONLY"):
        kind, hint = Kind.CONFIG, "the database file must be readable and writable"
    elif name.startswith("SQLITE_CORRUPT"):
        kind = Kind.CORRUPT
    elif not name and (state.startswith(("08", "57", "53")) or not state):
        kind, hint = Kind.UNREACHABLE, "is the PostgreSQL server running?"
    return AtollError(kind, operation, first_line, hint=hint)
