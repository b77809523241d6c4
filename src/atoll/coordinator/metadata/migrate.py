"""Bring a database to this version's schema: Alembic, without its configuration files.

Each migration is a numbered file in ``migrations/versions``, written by hand, never changed after
its release, and tested from the first version on (docs/spec/metadata.md).
"""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind

VERSION_TABLE = "schema_version"
_LOCK_KEY = 0x61746F6C6C  # "atoll": the advisory lock of migrations on PostgreSQL
_FOLDER = Path(__file__).parent / "migrations"


def _scripts() -> tuple[Config, ScriptDirectory]:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("path_separator", "os")
    return config, ScriptDirectory.from_config(config)


def schema_head() -> str:
    """Return the newest schema version that this code knows."""
    head = _scripts()[1].get_current_head()
    assert head is not None, "there is at least one migration"
    return head


def schema_version(connection: Connection) -> str | None:
    """Return the schema version of a database; None for an empty one."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def migrate_connection(connection: Connection, target: str = "head") -> None:
    """Migrate to ``target`` within the caller's transaction; does not commit.

    Raises ``NEWER_FORMAT`` for a version this code does not know and ``WRONG_FOLDER`` for a
    database that holds tables of something else.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    config, scripts = _scripts()
    current = schema_version(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise AtollError(
            Kind.NEWER_FORMAT,
            "migrate database",
            f"the database has schema {current}, this version knows up to {schema_head()}",
            hint="start the version of Atoll that wrote it, or a later one",
        )
    if current is None and inspect(connection).get_table_names():
        raise AtollError(
            Kind.WRONG_FOLDER,
            "migrate database",
            "the database holds tables that are not Atoll's",
            hint="name an empty database, or one that Atoll made",
        )
    with EnvironmentContext(
        config,
        scripts,
        fn=lambda revision, _: scripts._upgrade_revs(target, revision),
        destination_rev=target,
    ) as environment:
        environment.configure(
            connection=connection, version_table=VERSION_TABLE, transactional_ddl=False
        )
        environment.run_migrations()
