"""Block hashes of the pieces that were sampled before: a cache in SQLite, made again when lost."""

import sqlite3

from atoll.core.ports import Disk

FILE = "blocks.sqlite"
ROWS_MAX = 4_000_000
"""Pieces whose block hashes are kept (about 1.7 kB for a piece of 3.25 MiB)."""
FORGET_ROWS = 10_000


class BlockCache:
    """Joined block hashes by piece id. Used on the loop: a row is read or written in 20 us."""

    def __init__(self, disk: Disk) -> None:
        """Open it; a file that is no such database is thrown away."""
        self._disk = disk
        try:
            self._db = self._open()
        except sqlite3.Error:
            self._remove()
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        where = self._disk.scratch_database(FILE)
        db = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            # It can be made again: nothing waits for the disk.
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA cache_size=-1024")
            db.execute(
                "CREATE TABLE IF NOT EXISTS block (piece BLOB PRIMARY KEY, hashes BLOB NOT NULL)"
                " WITHOUT ROWID"
            )
            self._rows: int = db.execute("SELECT count(*) FROM block").fetchone()[0]
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._disk.remove(FILE + suffix)

    def get(self, piece: bytes) -> bytes | None:
        """Return the joined hashes of a piece's blocks, or None."""
        try:
            row = self._db.execute("SELECT hashes FROM block WHERE piece = ?", (piece,)).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else bytes(row[0])

    def put(self, piece: bytes, hashes: bytes) -> None:
        """Keep them; a cache that cannot be written does no harm."""
        try:
            if self._rows >= ROWS_MAX:
                self._db.execute(
                    "DELETE FROM block WHERE piece IN (SELECT piece FROM block LIMIT ?)",
                    (FORGET_ROWS,),
                )
                self._rows -= FORGET_ROWS
            self._db.execute("INSERT OR REPLACE INTO block VALUES (?, ?)", (piece, hashes))
            self._rows += 1
        except sqlite3.Error:
            return

    def close(self) -> None:
        """Close."""
        self._db.close()
