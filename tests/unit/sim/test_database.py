import asyncio

from sqlalchemy import text

from atoll.sim.database import DatabaseServer, SimDatabase


def prepare(connection):
    connection.execute(text("CREATE TABLE t (k INTEGER PRIMARY KEY)"))


def keys(server):
    return server.run(lambda c: list(c.execute(text("SELECT k FROM t")).scalars()), write=False)


def test_a_crash_leaves_what_was_committed_acknowledged_or_not(lab):
    async def main():
        fates = set()
        for number in range(40):
            server = DatabaseServer(prepare)
            life = lab.incarnation("coordinator")
            database = SimDatabase(life, server, str(number))
            acknowledged = []

            async def write(database=database, acknowledged=acknowledged):
                for key in range(50):
                    await database.write(
                        lambda c, key=key: c.execute(text("INSERT INTO t VALUES (:k)"), {"k": key})
                    )
                    acknowledged.append(key)

            life.crash_in = 5 + number
            life.start(write())
            await asyncio.sleep(60)
            found = keys(server)
            assert set(acknowledged) <= set(found)
            fates.add(len(found) - len(acknowledged))
            server.close()
        assert fates == {0, 1}

    lab.run(main())
