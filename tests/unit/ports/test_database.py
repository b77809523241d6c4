"""The contract of ``core.ports.Database``, kept by SQLite and PostgreSQL alike."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind
from atoll.runtime.database import SqlDatabase, migrate

PUT = Statement("INSERT INTO counter (name, value) VALUES (:name, :value)")
SET = Statement("UPDATE counter SET value = :value WHERE name = :name")
GET = Statement("SELECT value FROM counter WHERE name = :name")
COUNT = Statement("SELECT count(*) FROM counter")


def count(connection: Connection) -> int:
    return int(COUNT.scalar(connection))


def increment(connection: Connection) -> None:
    value = GET.scalar(connection, name="total")
    SET.run(connection, name="total", value=value + 1)


async def test_reads_see_what_was_acknowledged(database: SqlDatabase) -> None:
    assert await database.write(lambda c: PUT.run(c, name="a", value=1)) == 1
    assert await database.read(lambda c: GET.scalar(c, name="a")) == 1


async def test_a_failed_write_leaves_nothing_and_spares_its_neighbours(
    database: SqlDatabase,
) -> None:
    def one(number: int) -> Any:
        def write(connection: Connection) -> int:
            PUT.run(connection, name=f"n{number}", value=number)
            if number % 3 == 0:
                raise AtollError(Kind.CONFLICT, "test", "refused")
            return number

        return write

    answers = await asyncio.gather(
        *(database.write(one(number)) for number in range(60)), return_exceptions=True
    )
    for number, answer in enumerate(answers):
        if number % 3 == 0:
            assert isinstance(answer, AtollError)
            assert answer.kind is Kind.CONFLICT
        else:
            assert answer == number
    assert await database.read(count) == 40


async def test_a_unique_key_is_a_conflict(database: SqlDatabase) -> None:
    await database.write(lambda c: PUT.run(c, name="a", value=1))
    with pytest.raises(AtollError) as caught:
        await database.write(lambda c: PUT.run(c, name="a", value=2))
    assert caught.value.kind is Kind.CONFLICT
    assert await database.read(lambda c: GET.scalar(c, name="a")) == 1


async def test_a_read_cannot_write(database: SqlDatabase) -> None:
    with pytest.raises(AtollError):
        await database.read(lambda c: PUT.run(c, name="a", value=1))
    assert await database.read(count) == 0
    await database.write(lambda c: PUT.run(c, name="a", value=1))
    assert await database.read(count) == 1


async def test_locked_rows_lose_no_update(database: SqlDatabase) -> None:
    lock = Statement("SELECT value FROM counter WHERE name = :name FOR UPDATE")
    await database.write(lambda c: PUT.run(c, name="total", value=0))

    def write(connection: Connection) -> None:
        value = lock.scalar(connection, name="total")
        SET.run(connection, name="total", value=value + 1)

    await asyncio.gather(*(database.write(write) for _ in range(50)))
    assert await database.read(lambda c: GET.scalar(c, name="total")) == 50


async def test_a_deadlock_is_retried(database: SqlDatabase) -> None:
    for name in ("a", "b"):
        await database.write(lambda c, name=name: PUT.run(c, name=name, value=0))
    add = Statement("UPDATE counter SET value = value + 1 WHERE name = :name")

    def write(first: str, second: str) -> Any:
        def both(connection: Connection) -> None:
            add.run(connection, name=first)
            add.run(connection, name=second)

        return both

    await asyncio.gather(*(database.write(write(*pair)) for pair in [("a", "b"), ("b", "a")] * 5))
    assert await database.read(lambda c: GET.scalar(c, name="a")) == 10
    assert await database.read(lambda c: GET.scalar(c, name="b")) == 10


async def test_a_cancelled_caller_harms_nobody(database: SqlDatabase) -> None:
    task = asyncio.create_task(database.write(lambda c: PUT.run(c, name="gone", value=1)))
    await asyncio.gather(database.write(lambda c: PUT.run(c, name="a", value=1)))
    task.cancel()
    await database.write(lambda c: PUT.run(c, name="b", value=2))
    assert await database.read(lambda c: GET.scalar(c, name="b")) == 2


async def test_closing_finishes_what_was_accepted(database_url: str) -> None:
    database = SqlDatabase(database_url)
    writes = [
        asyncio.ensure_future(database.write(lambda c, i=i: PUT.run(c, name=str(i), value=i)))
        for i in range(20)
    ]
    await asyncio.gather(asyncio.gather(*writes), asyncio.ensure_future(_closing(database)))
    again = SqlDatabase(database_url)
    assert await again.read(count) == 20
    await again.close()
    with pytest.raises(AtollError):
        await database.read(count)


async def _closing(database: SqlDatabase) -> None:
    await database.close()


async def test_keys_sort_by_byte(database: SqlDatabase) -> None:
    put = Statement("""
        INSERT INTO composition (stream, parts) VALUES (:key, :value)""")
    keys = [text.encode() for text in ("b", "B", "a\u00e9", "aZ", "a", "\U0001f300", "\uffff", "~")]
    await database.write(lambda c: put.many(c, [{"key": k, "value": b""} for k in keys]))
    listed = Statement("SELECT stream FROM composition ORDER BY stream")
    rows = await database.read(lambda c: [bytes(row[0]) for row in listed.all(c)])
    assert rows == sorted(keys)


def _add_many(url: str, times: int, ready: Any) -> None:
    async def run() -> None:
        database = SqlDatabase(url)
        lock = Statement("SELECT value FROM counter WHERE name = :name FOR UPDATE")

        def write(connection: Connection) -> None:
            value = lock.scalar(connection, name="total")
            SET.run(connection, name="total", value=value + 1)

        ready.wait()
        for _ in range(times):
            await database.write(write)
        await database.close()

    asyncio.run(run())


async def test_several_processes_share_a_database(database_url: str) -> None:
    database = SqlDatabase(database_url)
    await database.write(lambda c: PUT.run(c, name="total", value=0))
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(3)
    workers = [context.Process(target=_add_many, args=(database_url, 100, ready)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.get_running_loop().run_in_executor(None, worker.join, 60)
        assert worker.exitcode == 0
    assert await database.read(lambda c: GET.scalar(c, name="total")) == 300
    await database.close()


WRITER = """
import asyncio, sys
from atoll.coordinator.sql import Statement
from atoll.runtime.database import SqlDatabase
PUT = Statement("INSERT INTO counter (name, value) VALUES (:name, :value)")
async def one(database, number):
    await database.write(lambda c: PUT.run(c, name=f"{number:08}", value=number))
    print(number, flush=True)
async def main():
    database = SqlDatabase(sys.argv[1])
    number = 0
    while True:
        await asyncio.gather(*(one(database, number + i) for i in range(8)))
        number += 8
asyncio.run(main())
"""


def acknowledged_before_the_kill(url: str) -> set[int]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        seen = {int(writer.stdout.readline()) for _ in range(100)}
        os.kill(writer.pid, signal.SIGKILL)
        return seen | {int(line) for line in writer.stdout if line.endswith("\n")}


async def test_a_killed_writer_loses_no_acknowledged_commit(database_url: str) -> None:
    acknowledged = acknowledged_before_the_kill(database_url)
    database = SqlDatabase(database_url)
    listed = Statement("SELECT value FROM counter")
    stored = await database.read(lambda c: {row[0] for row in listed.all(c)})
    assert acknowledged <= stored
    await database.write(lambda c: PUT.run(c, name="after", value=-1))
    await database.close()


async def test_a_full_disk_fails_the_write_and_spares_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/small.db"
    migrate(url)
    database = SqlDatabase(url)

    def limit(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")

    await database.write(limit)
    put = Statement("INSERT INTO composition (stream, parts) VALUES (:key, :value)")
    with pytest.raises(AtollError) as caught:
        await database.write(lambda c: put.run(c, key=b"k", value=bytes(1 << 20)))
    assert caught.value.kind is Kind.DISK_FULL
    await database.write(lambda c: PUT.run(c, name="small", value=1))
    assert await database.read(count) == 1
    await database.close()


async def test_a_cut_connection_is_replaced(database: SqlDatabase) -> None:
    if database.dialect == "sqlite":
        pytest.skip("there is no connection to cut")
    cut = Statement("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()""")
    for number in range(4):
        await asyncio.gather(*(database.read(count) for _ in range(16)))
        await database.read(lambda c: cut.all(c))
        answers = await asyncio.gather(
            *(database.write(lambda c, n=n: PUT.run(c, name=str(n), value=1))
              for n in range(16 * number, 16 * number + 16))
        )  # fmt: skip
        assert answers == [1] * 16
    assert await database.read(count) == 64


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(AtollError) as caught:
        SqlDatabase(url)
    assert caught.value.kind is Kind.CONFIG


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AtollError) as caught:
        SqlDatabase(f"sqlite:///{tmp_path}/nowhere/atoll.db")
    assert caught.value.kind is Kind.CONFIG
    assert "nowhere" in str(caught.value)


@pytest.mark.postgres
async def test_an_absent_server_is_unreachable(tmp_path: Path) -> None:
    url = f"postgresql://postgres@/none?host={tmp_path}"
    database = SqlDatabase(url)
    with pytest.raises(AtollError) as caught:
        await database.read(count)
    assert caught.value.kind is Kind.UNREACHABLE
    with pytest.raises(AtollError) as caught:
        migrate(url)
    assert caught.value.kind is Kind.UNREACHABLE
    await database.close()
