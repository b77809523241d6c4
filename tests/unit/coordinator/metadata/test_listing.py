"""Listings through the database against a plain model."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.coordinator.metadata.listing import DELIMITERS, KEYS, PREFIXES, expected_page
from tests.unit.coordinator.metadata.memory import MemoryDatabase
from tests.unit.coordinator.metadata.world import Metadata

from atoll.core.messages import ListObjects, ObjectList
from atoll.runtime.database import SqlDatabase


async def walk(
    metadata: Metadata, bucket: bytes, prefix: str, delimiter: str, limit: int
) -> list[tuple[bytes, bool]]:
    """List page by page as a client does; every page but the last must be full."""
    entries: list[tuple[bytes, bool]] = []
    after = ""
    while True:
        page = await metadata.ask(
            ListObjects(
                bucket=bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit
            ),
            ObjectList,
        )
        entries += [(one.key.encode(), False) for one in page.objects]
        entries += [(one.encode(), True) for one in page.prefixes]
        if not page.truncated:
            return sorted(entries)
        assert len(page.objects) + len(page.prefixes) == limit
        after = page.next_after


@settings(deadline=None, max_examples=60)
@given(st.sets(KEYS, max_size=30), PREFIXES, DELIMITERS, st.integers(1, 7))
def test_pages_put_together_are_the_listing(
    keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    async def run() -> None:
        metadata = Metadata(MemoryDatabase())
        bucket = await metadata.make_bucket()
        for key in keys:
            await metadata.put(bucket, key, [])
        expected = expected_page(keys, prefix, delimiter, "", len(keys)).entries
        assert await walk(metadata, bucket, prefix, delimiter, limit) == expected
        await metadata.database.close()

    asyncio.run(run())


@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sets(KEYS, max_size=20), PREFIXES, DELIMITERS, st.integers(1, 7), st.randoms())
def test_both_engines_list_alike(
    database_url: str, keys: set[str], prefix: str, delimiter: str, limit: int, random: object
) -> None:
    async def run() -> None:
        database = SqlDatabase(database_url, connections=2)
        metadata = Metadata(database)
        bucket = await metadata.make_bucket(
            f"b{id(random)}-{len(keys)}-{asyncio.get_running_loop().time()}"
        )
        await asyncio.gather(*(metadata.put(bucket, key, []) for key in keys))
        expected = expected_page(keys, prefix, delimiter, "", len(keys)).entries
        assert await walk(metadata, bucket, prefix, delimiter, limit) == expected
        await database.close()

    asyncio.run(run())


async def test_a_thousand_common_prefixes_do_not_scan_all_keys(tmp_path: Path) -> None:
    database = MemoryDatabase()
    metadata = Metadata(database)
    bucket = await metadata.make_bucket()
    facts = (await metadata.put(bucket, "first", [])).facts
    assert facts.size == 0
    await database.write(
        lambda c: (
            c.exec_driver_sql(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49999)"
                " INSERT INTO object SELECT bucket,"
                " CAST(printf('%04d/%03d', i / 50, i % 50) AS BLOB),"
                " version, status, modified_ms, size, stream, segments, parts, facts"
                " FROM n, object WHERE key = CAST('first' AS BLOB)"
            ).rowcount
        )
    )
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    await database.read(
        lambda c: c.connection.dbapi_connection.set_progress_handler(count, 1000)  # type: ignore[union-attr]
    )
    page = await metadata.ask(ListObjects(bucket=bucket, delimiter="/"), ObjectList)
    assert len(page.prefixes) == 1000
    assert page.truncated
    assert steps < 600, f"{steps} thousand steps of SQLite's machine: it read everything"
    await database.close()


@pytest.mark.parametrize("delimiter", ["/", "//", "é"])
async def test_a_page_may_begin_behind_any_entry(delimiter: str) -> None:
    metadata = Metadata(MemoryDatabase())
    bucket = await metadata.make_bucket()
    keys = ["a/1", "a/2", "a//3", "b", "b//", "c//x", "é1", "éé", "z"]
    for key in keys:
        await metadata.put(bucket, key, [])
    whole = expected_page(keys, "", delimiter, "", 99).entries
    for place, (entry, _) in enumerate(whole):
        page = await metadata.ask(
            ListObjects(bucket=bucket, delimiter=delimiter, after=entry.decode()), ObjectList
        )
        found = sorted(
            [(one.key.encode(), False) for one in page.objects]
            + [(one.encode(), True) for one in page.prefixes]
        )
        assert found == whole[place + 1 :]
    await metadata.database.close()
