"""Migrations: the schema they make is the one the code declares, and outsiders can read it."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Connection, make_url
from tests.unit.coordinator.metadata.world import Metadata

from atoll.coordinator.audit import tables as audit_tables
from atoll.coordinator.billing import tables as billing_tables
from atoll.coordinator.customers import tables as customer_tables
from atoll.coordinator.funding import tables as funding_tables
from atoll.coordinator.market import tables as market_tables
from atoll.coordinator.metadata import migrate as migrations
from atoll.coordinator.metadata import tables as metadata_tables
from atoll.coordinator.metadata.migrate import VERSION_TABLE, migrate_connection, schema_head
from atoll.coordinator.metering import tables as metering_tables
from atoll.coordinator.payouts import tables as payout_tables
from atoll.coordinator.policy import tables as policy_tables
from atoll.coordinator.registry import tables as registry_tables
from atoll.coordinator.repair import tables as repair_tables
from atoll.coordinator.reputation import tables as reputation_tables
from atoll.coordinator.sets import tables as set_tables
from atoll.coordinator.settlement import tables as settlement_tables
from atoll.coordinator.slashing import tables as slashing_tables
from atoll.coordinator.sql import SCHEMA
from atoll.coordinator.terms import tables as terms_tables
from atoll.coordinator.traffic import tables as traffic_tables
from atoll.coordinator.upgrade import tables as upgrade_tables
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import GetBucket
from atoll.economy.chain import tables as chain_tables
from atoll.economy.ledger import tables as ledger_tables
from atoll.economy.sql import SCHEMA as MONEY
from atoll.runtime.database import SqlDatabase, migrate

GOLDEN = Path(__file__).parents[3] / "golden" / "schema.sql"
FIRST = "0001"


def dump(path: Path) -> str:
    with sqlite3.connect(path) as raw:
        rows = raw.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
            " ORDER BY tbl_name, type DESC, name"
        ).fetchall()
    return "".join(f"{' '.join(sql.split())};\n" for (sql,) in rows)


async def test_the_declared_tables_are_the_migrated_ones(database: SqlDatabase) -> None:
    assert metadata_tables.OBJECT.metadata is SCHEMA is registry_tables.NODE.metadata
    assert policy_tables.POLICY.metadata is SCHEMA
    assert audit_tables.BEACON.metadata is SCHEMA
    assert reputation_tables.REPUTATION.metadata is SCHEMA
    assert repair_tables.REPAIR_DAY.metadata is SCHEMA
    assert set_tables.NODE_SET.metadata is SCHEMA
    assert terms_tables.DEPARTURE.metadata is SCHEMA is slashing_tables.SLASH_CASE.metadata
    assert upgrade_tables.UPGRADE_OFFER.metadata is SCHEMA is traffic_tables.READ_ORDER.metadata
    assert market_tables.MARKET_CLASS.metadata is SCHEMA is metering_tables.METER_LINE.metadata
    assert billing_tables.BILLING_EPOCH.metadata is SCHEMA is funding_tables.FUNDING_POT.metadata
    assert settlement_tables.SETTLEMENT_EPOCH.metadata is SCHEMA is payout_tables.PAYOUT.metadata
    assert customer_tables.INVOICE.metadata is SCHEMA
    assert chain_tables.CHAIN_INTENT.metadata is MONEY is ledger_tables.ENTRY.metadata

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        return list(compare_metadata(context, [SCHEMA, MONEY]))

    assert await database.read(differences) == []


def test_the_schema_is_the_golden_one(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path}/new.db")
    assert dump(tmp_path / "new.db") == GOLDEN.read_text(), (
        "the schema changed: that takes a new migration, and then a new golden file"
    )


def test_migrations_form_one_line_from_the_first() -> None:
    scripts = ScriptDirectory(str(migrations._FOLDER))
    line = [script.revision for script in scripts.walk_revisions()][::-1]
    assert line[0] == FIRST
    assert line == sorted(set(line)), "numbers grow; some were never given out"
    assert len(scripts.get_heads()) == 1


async def test_a_database_of_the_first_version_comes_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        migrate_connection(connection, FIRST)
        connection.exec_driver_sql(
            "INSERT INTO bucket VALUES (x'00', x'01', x'6162', 'r', 'managed', 1, 5)"
        )
    engine.dispose()
    migrate(url)
    migrate(url)
    database = SqlDatabase(url)
    versions = await database.read(
        lambda c: c.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()
    )
    assert versions == schema_head()
    assert (await Metadata(database).service.get_bucket(GetBucket(name="ab"))).created_ms == 5
    await database.close()


def test_migrating_again_changes_nothing(database_url: str) -> None:
    migrate(database_url)


async def test_a_newer_schema_is_refused(database_url: str) -> None:
    database = SqlDatabase(database_url)
    await database.write(
        lambda c: c.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'").rowcount
    )
    await database.close()
    with pytest.raises(AtollError) as caught:
        migrate(database_url)
    assert caught.value.kind is Kind.NEWER_FORMAT
    assert "9999" in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.db").write_bytes(b"\xff\xd8 not a database at all" * 100)
    with pytest.raises(AtollError) as caught:
        migrate(f"sqlite:///{tmp_path}/photo.db")
    assert caught.value.kind is Kind.WRONG_FOLDER
    with sqlite3.connect(tmp_path / "other.db") as raw:
        raw.execute("CREATE TABLE songs (name)")
    with pytest.raises(AtollError) as caught:
        migrate(f"sqlite:///{tmp_path}/other.db")
    assert caught.value.kind is Kind.WRONG_FOLDER
    with sqlite3.connect(tmp_path / "other.db") as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]


def test_a_migration_that_fails_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/new.db"

    def fail(*_: object, **__: object) -> None:
        raise AtollError(Kind.INTERNAL, "test", "pulled the plug")

    monkeypatch.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
    with pytest.raises(AtollError, match="pulled"):
        migrate(url)
    monkeypatch.undo()
    engine = create_engine(make_url(url))
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    migrate(url)
