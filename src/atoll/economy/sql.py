"""What every ``store`` with SQL stands on: prepared statements, and the schema of money.

SQL is written once, as one visible string with ``:named`` parameters, in the words that SQLite
(3.35 or later), PostgreSQL and its kin have in common. ``Statement`` stands here because this is
the lowest room that has SQL; the coordinator's stores use it through ``coordinator.sql``.

The tables of money have a schema of their own: in a coordinator's database migrations make them,
in a file of their own ``SCHEMA.create_all`` does.
"""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, MetaData, SmallInteger
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

NAMES = {
    "ix": "%(table_name)s_by_%(column_0_N_name)s",
    "uq": "%(table_name)s_one_%(column_0_N_name)s",
    "pk": "%(table_name)s_key",
}
"""How indexes and keys are called, in every schema."""
SCHEMA = MetaData(naming_convention=NAMES)
"""All tables of money."""

Bytes = LargeBinary
Big = BigInteger
Small = SmallInteger

_NAMED = re.compile(r"(?<!:):([a-z_]+)")
_LOCK = re.compile(r"\s+FOR (NO KEY )?(UPDATE|KEY SHARE|SHARE)( SKIP LOCKED)?\s*$")


class Statement:
    """One SQL statement, ready for both dialects.

    A ``FOR …`` clause at its end locks rows on PostgreSQL and is left out on SQLite, where one
    writer runs at a time.
    """

    __slots__ = ("_postgresql", "_sqlite")

    def __init__(self, sql: str, columns: str = "") -> None:
        """Prepare ``sql``, with ``:name`` for each parameter and no literal percent sign.

        ``columns`` stands for ``{columns}`` in the text: a list that several statements share.
        """
        sql = sql.replace("{columns}", columns)
        if "%" in sql:
            raise ValueError("a percent sign has a meaning of its own to psycopg")
        words = " ".join(sql.split())
        self._sqlite = _LOCK.sub("", words)
        self._postgresql = _NAMED.sub(r"%(\1)s", words)

    def __str__(self) -> str:
        return self._sqlite

    def _run(self, connection: Connection, parameters: Any) -> Any:
        """Run; return a cursor with fetchall and rowcount.

        Straight to the driver: SQLAlchemy's result machinery costs several times a lookup.
        """
        raw: Any = connection.connection.dbapi_connection
        dialect = connection.dialect
        sql = self._sqlite if dialect.name == "sqlite" else self._postgresql
        try:
            if isinstance(parameters, list):
                cursor = raw.cursor()
                cursor.executemany(sql, parameters)
                return cursor
            return raw.execute(sql, parameters)
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                sql, None, error, dialect.loaded_dbapi.Error, dialect=dialect
            ) from error

    def all(self, connection: Connection, **parameters: Any) -> Sequence[Any]:
        """Run; return all rows."""
        rows: Sequence[Any] = self._run(connection, parameters).fetchall()
        return rows

    def first(self, connection: Connection, **parameters: Any) -> Any:
        """Run; return the first row or None."""
        rows = self._run(connection, parameters).fetchall()
        return rows[0] if rows else None

    def scalar(self, connection: Connection, **parameters: Any) -> Any:
        """Run; return the first column of the first row or None."""
        row = self.first(connection, **parameters)
        return None if row is None else row[0]

    def run(self, connection: Connection, **parameters: Any) -> int:
        """Run; return the number of rows concerned."""
        count: int = self._run(connection, parameters).rowcount
        return count

    def many(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run once for each of ``rows``; no rows, no statement."""
        if rows:
            self._run(connection, list(rows))
