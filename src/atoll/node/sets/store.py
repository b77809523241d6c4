"""What each coordinator said last of the set it counts here: a cache, forgotten without harm.

If it is lost or damaged, digests differ and the coordinator says all of it again.
"""

import sqlite3

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Disk
from atoll.core.sets import EMPTY, RangeSet, WindowChange, window_digest

FILE = "sets.sqlite"
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS duty (
  issuer INTEGER NOT NULL,
  number INTEGER NOT NULL,
  digest BLOB NOT NULL,
  indexes BLOB NOT NULL,
  serials BLOB NOT NULL,
  PRIMARY KEY (issuer, number)
)
"""


class DutyStore:
    """The sets told, by coordinator and range. Blocking; one caller at a time."""

    def __init__(self, disk: Disk) -> None:
        """Open it, or begin anew where it cannot be used."""
        where = disk.scratch_database(FILE)
        try:
            self._db = _open(where)
        except sqlite3.Error:
            for suffix in ("", "-wal", "-shm"):
                disk.remove(FILE + suffix)
            self._db = _open(where)

    def digests(self, issuer: int, first: int, end: int) -> list[tuple[int, bytes]]:
        """Return (range, digest) of the non-empty ranges first..end-1, ascending."""
        return self._db.execute(
            "SELECT number, digest FROM duty WHERE issuer = ? AND number >= ? AND number < ?"
            " ORDER BY number",
            (issuer, first, end),
        ).fetchall()

    def get(self, issuer: int, number: int) -> RangeSet:
        """Return a range's set; empty where nothing (readable) was told."""
        row = self._db.execute(
            "SELECT serials, indexes FROM duty WHERE issuer = ? AND number = ?", (issuer, number)
        ).fetchone()
        if row is None:
            return EMPTY
        try:
            return RangeSet.decode(*row)
        except AtollError:
            return EMPTY

    def _put(self, issuer: int, number: int, told: RangeSet) -> None:
        if len(told):
            serials, indexes = told.encode()
            self._db.execute(
                "INSERT OR REPLACE INTO duty VALUES (?, ?, ?, ?, ?)",
                (issuer, number, told.digest(number), indexes, serials),
            )
        else:
            self._db.execute("DELETE FROM duty WHERE issuer = ? AND number = ?", (issuer, number))

    def next_range(self, issuer: int, number: int) -> int | None:
        """Return the first non-empty range at or above ``number``."""
        row = self._db.execute(
            "SELECT min(number) FROM duty WHERE issuer = ? AND number >= ?", (issuer, number)
        ).fetchone()
        found: int | None = row[0]
        return found

    def apply(self, issuer: int, change: WindowChange, until: int, digest: bytes) -> list[int]:
        """Keep what a change of a window makes of it; return the ranges concerned.

        Raises ``CORRUPT`` where the result is not what ``digest`` says: then the whole window is
        forgotten, and the coordinator will be asked for all of it.
        """
        changed = []
        with self._db:
            for number, removed, added in change.touched():
                before = self.get(issuer, number)
                self._put(issuer, number, change.apply(number, before, removed, added))
                changed.append(number)
            right = window_digest(self.digests(issuer, change.first, until)) == digest
            if not right:
                self._db.execute(
                    "DELETE FROM duty WHERE issuer = ? AND number >= ? AND number < ?",
                    (issuer, change.first, until),
                )
        if not right:
            raise AtollError(Kind.CORRUPT, "compare sets", "what results is not what was said")
        return changed

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _open(where: str) -> sqlite3.Connection:
    database = sqlite3.connect(where, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA cache_size=-1024")
        if database.execute("PRAGMA user_version").fetchone()[0] not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError("of another version")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
    except BaseException:
        database.close()
        raise
    return database
