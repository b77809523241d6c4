"""What the simulated database promises as the real one does; the rest is in test_database.py."""

import asyncio

import pytest
from sqlalchemy import text

from atoll.core.errors import AtollError, Kind


async def table(w):
    await w.database.write(
        lambda c: c.execute(text("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL)"))
    )


def insert(key, value="v"):
    def write(connection):
        connection.execute(text("INSERT INTO t VALUES (:k, :v)"), {"k": key, "v": value})

    return write


async def count(w):
    return await w.database.read(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one())


def test_a_write_is_read(world):
    async def check(w):
        assert w.database.dialect == "sqlite"
        await table(w)
        await w.database.write(insert(1))
        assert await count(w) == 1

    world.run(check)


def test_a_failed_write_takes_back_its_own_effects_only(world):
    async def check(w):
        await table(w)

        def fail(connection):
            insert(2)(connection)
            raise AtollError(Kind.PRECONDITION_FAILED, "test", "no")

        results = await asyncio.gather(
            w.database.write(insert(1)),
            w.database.write(fail),
            w.database.write(insert(3)),
            return_exceptions=True,
        )
        assert isinstance(results[1], AtollError)
        assert results[1].kind is Kind.PRECONDITION_FAILED
        assert await count(w) == 2

    world.run(check)


def test_a_second_row_of_a_key_is_a_conflict(world):
    async def check(w):
        await table(w)
        await w.database.write(insert(1))
        with pytest.raises(AtollError) as caught:
            await w.database.write(insert(1))
        assert caught.value.kind is Kind.CONFLICT
        assert await count(w) == 1

    world.run(check)


def test_a_closed_database_answers_no_more(world):
    async def check(w):
        await w.database.close()
        with pytest.raises(AtollError):
            await w.database.read(lambda c: None)
        with pytest.raises(AtollError):
            await w.database.write(lambda c: None)

    world.run(check)
