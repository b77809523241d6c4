"""Statements: one text for both engines."""

import pytest
from sqlalchemy.exc import IntegrityError

from atoll.coordinator.sql import Statement
from atoll.runtime.database import SqlDatabase


def test_a_percent_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="percent"):
        Statement("SELECT 1 WHERE name LIKE 'a%'")


@pytest.mark.parametrize(
    "clause", ["FOR UPDATE", "FOR KEY SHARE", "FOR NO KEY UPDATE", "FOR UPDATE SKIP LOCKED"]
)
async def test_row_locks_are_for_those_who_have_them(database: SqlDatabase, clause: str) -> None:
    locked = Statement(f"SELECT name FROM counter WHERE value > :value\n    {clause}")
    assert str(locked) == "SELECT name FROM counter WHERE value > :value"
    assert await database.write(lambda c: locked.all(c, value=1)) == []


async def test_what_comes_back(database: SqlDatabase) -> None:
    put = Statement("INSERT INTO setting (name, value) VALUES (:name, :value)")
    get = Statement("SELECT {columns} FROM setting WHERE name = :name", columns="name, value")
    change = Statement("UPDATE setting SET value = :value WHERE name >= :name")
    await database.write(lambda c: put.many(c, []))
    await database.write(
        lambda c: put.many(c, [{"name": f"n{i}", "value": bytes([0, i])} for i in range(3)])
    )
    row = await database.read(lambda c: get.first(c, name="n1"))
    assert (row[0], bytes(row[1])) == ("n1", b"\x00\x01")
    assert await database.read(lambda c: get.scalar(c, name="n2")) == "n2"
    assert await database.read(lambda c: get.scalar(c, name="none")) is None
    assert await database.read(lambda c: get.first(c, name="none")) is None
    assert await database.write(lambda c: change.run(c, name="n1", value=b"x")) == 2


async def test_errors_are_sqlalchemys(database: SqlDatabase) -> None:
    put = Statement("INSERT INTO counter (name, value) VALUES (:name, :value)")
    seen: list[Exception] = []

    def twice(connection: object) -> None:
        for _ in range(2):
            try:
                put.run(connection, name="a", value=1)  # type: ignore[arg-type]
            except IntegrityError as error:
                seen.append(error)
                raise

    with pytest.raises(Exception, match="counter"):
        await database.write(twice)
    assert len(seen) == 1
