"""SQLite in memory behind the ``Database`` port: for tests that make thousands of databases."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.migrate import migrate_connection
from atoll.sim.database import DatabaseServer

Result = TypeVar("Result")


class MemoryDatabase:
    """Each transaction runs at once; nothing outlives the object."""

    dialect = "sqlite"

    def __init__(self) -> None:
        self._server = DatabaseServer(migrate_connection)

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        return self._server.run(function, write=False)

    async def write(self, function: Callable[[Connection], Result]) -> Result:
        return self._server.run(function, write=True)

    async def close(self) -> None:
        self._server.close()
