"""The simulated database: SQLite in memory; a crash of its users leaves what was committed.

The server is outside every incarnation: any number of coordinators may use one, and each death
leaves the last committed state. A write is one transaction that commits at one moment between two
delays, so that a crash may fall before the commit or between it and its acknowledgement.
"""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from atoll.core.errors import AtollError, Kind
from atoll.sim.incarnation import Incarnation

Result = TypeVar("Result")


class DatabaseServer:
    """One database of the world."""

    def __init__(self, prepare: Callable[[Connection], None] | None = None) -> None:
        """Make an empty database, or a copy of what ``prepare`` makes (once per function)."""
        self._raw = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        if prepare is not None:
            self._raw.deserialize(_prepared(prepare))
        self._engine = create_engine(
            "sqlite://",
            creator=lambda: self._raw,
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",
        )
        self._connection = self._engine.connect()

    def run(self, function: Callable[[Connection], Result], *, write: bool) -> Result:
        """Run a function in a transaction of its own. Raises its error, ``CONFLICT``."""
        self._raw.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        try:
            result = function(self._connection)
        except IntegrityError as cause:
            self._raw.execute("ROLLBACK")
            raise AtollError(Kind.CONFLICT, "write database", str(cause.orig)) from cause
        except SQLAlchemyError as cause:
            self._raw.execute("ROLLBACK")
            raise AtollError(Kind.INTERNAL, "ask database", str(cause)) from cause
        except BaseException:
            self._raw.execute("ROLLBACK")
            raise
        self._raw.execute("COMMIT" if write else "ROLLBACK")
        return result

    def close(self) -> None:
        """Forget the database."""
        self._connection.close()
        self._engine.dispose()
        self._raw.close()


_PREPARED: dict[Callable[[Connection], None], bytes] = {}


def _prepared(prepare: Callable[[Connection], None]) -> bytes:
    """Return the image of a prepared database; a migration runs once per process."""
    image = _PREPARED.get(prepare)
    if image is None:
        server = DatabaseServer()
        try:
            prepare(server._connection)
            image = _PREPARED[prepare] = server._raw.serialize()
        finally:
            server.close()
    return image


class SimDatabase:
    """``core.ports.Database`` of one incarnation."""

    def __init__(
        self,
        incarnation: Incarnation,
        server: DatabaseServer,
        seed: str,
        *,
        commit_s_mean: float = 0.002,
    ) -> None:
        """Connect an incarnation."""
        self._incarnation = incarnation
        self._server = server
        self._random = random.Random(seed)
        self._rate = 1 / commit_s_mean
        self._closed = False

    @property
    def dialect(self) -> str:
        """``sqlite``."""
        return "sqlite"

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        """Run a function that only reads, on one consistent view of what is committed."""
        self._check()
        return self._server.run(function, write=False)

    async def write(self, function: Callable[[Connection], Result]) -> Result:
        """Run a function in a transaction; when this returns, its effects are durable."""
        self._check()
        await asyncio.sleep(self._random.expovariate(self._rate))
        self._check()
        result = self._server.run(function, write=True)
        self._incarnation.trace.note("commit", self._incarnation.name)
        await asyncio.sleep(self._random.expovariate(self._rate))
        self._incarnation.check()
        return result

    async def close(self) -> None:
        """Disconnect."""
        self._closed = True

    def _check(self) -> None:
        self._incarnation.check()
        if self._closed:
            raise AtollError(Kind.INTERNAL, "ask database", "the database is closed")
