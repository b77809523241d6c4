"""The index's table of retention records: the newest of each piece, found by its id."""

import sqlite3

from atoll.node.store.model import Locked

SCHEMA = """
CREATE TABLE retention (
  piece BLOB PRIMARY KEY,
  body BLOB NOT NULL,
  record_sequence INTEGER NOT NULL,
  log_sequence INTEGER NOT NULL
) WITHOUT ROWID
"""
_UPSERT = """
INSERT INTO retention VALUES (?, ?, ?, ?)
ON CONFLICT (piece) DO UPDATE SET body = excluded.body,
  record_sequence = excluded.record_sequence, log_sequence = excluded.log_sequence
WHERE (excluded.record_sequence, excluded.log_sequence) > (record_sequence, log_sequence)
"""


def apply(database: sqlite3.Connection, change: Locked) -> None:
    """Keep the newest: the order in which a scan meets records does not matter."""
    database.execute(
        _UPSERT, (change.piece, change.body, change.record_sequence, change.log_sequence)
    )
