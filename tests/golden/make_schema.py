"""Writes tests/golden/schema.sql: the schema that the migrations make on SQLite.

``python -m tests.golden.make_schema`` after a new migration.
"""

import tempfile
from pathlib import Path

from tests.unit.coordinator.metadata.test_migrate import GOLDEN, dump

from atoll.runtime.database import migrate

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        migrate(f"sqlite:///{folder}/new.db")
        GOLDEN.write_text(dump(Path(folder) / "new.db"))
