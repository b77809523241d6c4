"""The index's table of adopted pieces: the coordinator each obeys since its owner gave it away.

The order in which a scan meets adoptions and pieces does not matter: the highest sequence counts.
"""

import sqlite3

from atoll.node.store.log import Found
from atoll.node.store.model import Adopted, Row

SCHEMA = """
CREATE TABLE adopted (
  piece BLOB PRIMARY KEY,
  issuer INTEGER NOT NULL,
  segment_serial INTEGER NOT NULL,
  sequence INTEGER NOT NULL
) WITHOUT ROWID
"""
_UPSERT = """
INSERT INTO adopted VALUES (?, ?, ?, ?)
ON CONFLICT (piece) DO UPDATE SET issuer = excluded.issuer,
  segment_serial = excluded.segment_serial, sequence = excluded.sequence
WHERE excluded.sequence > sequence
"""
_SELECT = "SELECT issuer, segment_serial, sequence FROM adopted WHERE piece = ?"


def keep(database: sqlite3.Connection, change: Adopted) -> None:
    """Keep the newest adoption of a piece."""
    database.execute(_UPSERT, (change.piece, change.issuer, change.segment_serial, change.sequence))


def obeyed(database: sqlite3.Connection, piece: bytes, row: Row) -> Row:
    """Return a piece's row with the coordinator it obeys: the one adopted after it was stored."""
    found = database.execute(_SELECT, (piece,)).fetchone()
    if found is None or found[2] < row.sequence:
        return row
    return row._replace(issuer=found[0], segment_serial=found[1])


def sequence_of(database: sqlite3.Connection, piece: bytes) -> int:
    """Return the sequence number of a piece's adoption; 0 for none."""
    found = database.execute(_SELECT, (piece,)).fetchone()
    return 0 if found is None else int(found[2])


def adopted_of_log(found: Found) -> Adopted:
    """Return the change for an ``ADOPTION`` record met by a scan."""
    envelope = found.envelope
    return Adopted(envelope.piece, envelope.issuer, envelope.segment_serial, envelope.sequence)
