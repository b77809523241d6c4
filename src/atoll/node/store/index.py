"""The index: where each piece lies. A cache in SQLite that the logs can always rebuild.

It is written only after the data it speaks of are durable, so it never knows more than the logs.
New pieces, the common case, wait in memory for a transaction that takes many of them at once: after
a crash the logs are read from where the index ends, and its marks move with its rows.
One writer at a time (the group commit); reads go through a second connection beside it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from atoll.core.sets import RANGE_BITS
from atoll.node.store import adopted, locks
from atoll.node.store.log import extent_bytes
from atoll.node.store.model import (
    NOWHERE,
    STATE_OF_MARK,
    UNPLACED,
    Adopted,
    Change,
    Doomed,
    Dropped,
    HeldPiece,
    Locked,
    LogMark,
    LostTold,
    Mark,
    Marked,
    Moved,
    Purged,
    Rotten,
    Row,
    Spent,
    SpentForgotten,
    State,
    Stored,
    Totals,
)

SCHEMA_VERSION = 3
PENDING_PIECES_MAX = 128
"""New pieces that wait for a transaction; the store's upkeep writes them down as well."""
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE log (
  log INTEGER PRIMARY KEY,
  settled_bytes INTEGER NOT NULL,
  tail_bytes INTEGER NOT NULL,
  live_bytes INTEGER NOT NULL,
  doomed INTEGER NOT NULL
);
CREATE TABLE piece (
  piece BLOB PRIMARY KEY,
  log INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  body_bytes INTEGER NOT NULL,
  head_bytes INTEGER NOT NULL,
  data_bytes INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  state INTEGER NOT NULL,
  mark_sequence INTEGER NOT NULL,
  mark INTEGER NOT NULL,
  marked_ms INTEGER NOT NULL,
  retention_ms INTEGER NOT NULL,
  issuer INTEGER NOT NULL,
  segment_serial INTEGER NOT NULL,
  issued_ms INTEGER NOT NULL,
  segment BLOB NOT NULL,
  piece_index INTEGER NOT NULL,
  segment_root BLOB NOT NULL,
  bucket_tag BLOB,
  owner_hash BLOB
) WITHOUT ROWID;
CREATE INDEX piece_trash ON piece (marked_ms) WHERE state = 1;
CREATE INDEX piece_serial ON piece (issuer, segment_serial);
CREATE INDEX piece_owner ON piece (substr(owner_hash, 1, 4), substr(bucket_tag, 1, 4), piece)
  WHERE owner_hash IS NOT NULL;
CREATE TABLE spent (serial BLOB PRIMARY KEY, piece BLOB NOT NULL, expires_ms INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE lost (piece BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_ROW = (
    "log, offset, body_bytes, head_bytes, data_bytes, sequence, state,"
    " mark_sequence, mark, marked_ms, retention_ms, issuer, segment_serial, issued_ms, segment,"
    " piece_index, segment_root, bucket_tag, owner_hash"
)
_PLACES = ", ".join("?" * (len(Row._fields) + 1))
_HELD = (
    "piece, segment, piece_index, segment_serial, segment_root, data_bytes, head_bytes, body_bytes,"
    " state, issuer, bucket_tag, retention_ms, issued_ms, marked_ms"
)
_SELECT = f"SELECT {_ROW} FROM piece WHERE piece = ?"  # noqa: S608 - constant text
_INSERT = f"INSERT OR IGNORE INTO piece (piece, {_ROW}) VALUES ({_PLACES})"  # noqa: S608 - constant text
_UPSERT = f"INSERT OR REPLACE INTO piece (piece, {_ROW}) VALUES ({_PLACES})"  # noqa: S608 - constant text
_HELD_AFTER = (
    f"SELECT {_HELD} FROM piece WHERE issuer = ? AND segment_serial > ? AND segment_serial < ?"  # noqa: S608 - constant text
    " AND state < 2 ORDER BY segment_serial LIMIT ?"
)
_HELD_OF = f"SELECT {_HELD} FROM piece WHERE issuer = ? AND segment_serial = ? AND state < 2"  # noqa: S608 - constant text
# Owners and tags are hashes: their first bytes find them, and make the index a third as long.
_OWNED = (
    f"SELECT {_HELD} FROM piece WHERE substr(owner_hash, 1, 4) = substr(?1, 1, 4)"  # noqa: S608 - constant text
    " AND substr(bucket_tag, 1, 4) = substr(?2, 1, 4) AND piece > ?3"
    " AND owner_hash = ?1 AND bucket_tag = ?2 AND state < 2 ORDER BY piece LIMIT ?4"
)
_OWNED_ALL = (
    f"SELECT {_HELD} FROM piece WHERE substr(owner_hash, 1, 4) = substr(?1, 1, 4)"  # noqa: S608 - constant text
    " AND piece > ?2 AND owner_hash = ?1 AND state < 2 ORDER BY piece LIMIT ?3"
)


class Index:
    """The SQLite cache. Blocking. What changes it is for one writer at a time."""

    def __init__(self, where: str) -> None:
        """Open (or make) the database at ``where``, a path or ``:memory:``.

        Raises ``sqlite3.Error`` where the file is not such a database: remove it and rebuild.
        """
        self._db = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
        self._reader = self._db
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            # Checkpoints sync; they belong to the thread of the group commit, not to a reader.
            self._db.execute("PRAGMA wal_autocheckpoint=2000")
            self._db.execute("PRAGMA cache_size=-4096")
            self._prepare()
            if where != ":memory:":
                self._reader = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
                self._reader.execute("PRAGMA query_only=1")
                self._reader.execute("PRAGMA cache_size=-4096")
        except BaseException:
            self._db.close()
            raise
        self._seek = self._reader.cursor()
        self._pending: dict[bytes, Row] = {}
        self._pending_spent: dict[bytes, tuple[bytes, int]] = {}
        self._pending_marks: dict[int, LogMark] = {}
        self.touched_ranges: set[tuple[int, int]] = set()
        """(issuer, range of segment serials) whose pieces changed since somebody took note."""
        self.totals = Totals()
        self._load_totals()
        self._any_lost = bool(self.lost(1))
        """Whether the table of lost pieces may have rows; mostly it has none."""
        self._any_locked = bool(self._db.execute("SELECT 1 FROM retention LIMIT 1").fetchone())

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version:
            raise sqlite3.DatabaseError(f"index of another version: {version}")
        with self._transaction():
            for statement in (*_SCHEMA.split(";"), locks.SCHEMA, adopted.SCHEMA):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- reading, from the loop ---

    def get(self, piece: bytes) -> Row | None:
        """Return the row of a piece."""
        waiting = self._pending.get(piece)
        if waiting is not None:
            return waiting
        found = self._seek.execute(_SELECT, (piece,)).fetchone()
        return None if found is None else Row(*found)

    def spent_for(self, serial: bytes) -> bytes | None:
        """Return the piece for which the order of this serial was used."""
        waiting = self._pending_spent.get(serial)
        if waiting is not None:
            return waiting[0]
        found = self._seek.execute("SELECT piece FROM spent WHERE serial = ?", (serial,)).fetchone()
        return None if found is None else bytes(found[0])

    def retention(self, piece: bytes) -> bytes | None:
        """Return what is kept about a piece's retention: see ``store.retention``."""
        if not self._any_locked:
            return None
        found = self._seek.execute("SELECT body FROM retention WHERE piece = ?", (piece,))
        row = found.fetchone()
        return None if row is None else bytes(row[0])

    def retention_place(self, piece: bytes) -> int:
        """Return the sequence number of the log record that holds it; 0 for none."""
        found = self._seek.execute("SELECT log_sequence FROM retention WHERE piece = ?", (piece,))
        row = found.fetchone()
        return 0 if row is None else int(row[0])

    def adoption_sequence(self, piece: bytes) -> int:
        """Return the sequence number of a piece's adoption by another coordinator; 0 for none."""
        return adopted.sequence_of(self._reader, piece)

    def held(self, issuer: int, after_serial: int, limit: int, end_serial: int) -> list[HeldPiece]:
        """Return pieces stored by a coordinator's orders, in trash as well, in serial order.

        Serials above ``after_serial`` and below ``end_serial``; all pieces of the last serial even
        over ``limit``.
        """
        # First those that wait: what is written down meanwhile is then met twice, never missed.
        pending = list(self._pending.items())
        between = (issuer, after_serial, end_serial, limit)
        found = [HeldPiece(*row) for row in self._seek.execute(_HELD_AFTER, between).fetchall()]
        end = end_serial - 1
        if len(found) >= limit:
            end = found[-1].segment_serial
            rows = self._seek.execute(_HELD_OF, (issuer, end)).fetchall()
            known = {one.piece for one in found}
            found.extend(HeldPiece(*row) for row in rows if row[0] not in known)
        waiting = [
            _held_of(piece, row)
            for piece, row in pending
            if row.issuer == issuer and after_serial < row.segment_serial <= end
        ]
        if not waiting:
            return found
        known = {one.piece for one in waiting}
        found = [one for one in found if one.piece not in known] + waiting
        found.sort(key=_serial_order)
        if len(found) <= limit:
            return found
        last = found[limit - 1].segment_serial
        return [one for one in found if one.segment_serial <= last]

    def owned(
        self, owner_hash: bytes, bucket_tag: bytes | None, after_piece: bytes, limit: int
    ) -> list[HeldPiece]:
        """Return an owner's pieces (of one bucket tag, or all) by piece id, in trash as well."""
        pending = list(self._pending.items())
        if bucket_tag is None:
            rows = self._seek.execute(_OWNED_ALL, (owner_hash, after_piece, limit)).fetchall()
        else:
            rows = self._seek.execute(
                _OWNED, (owner_hash, bucket_tag, after_piece, limit)
            ).fetchall()
        found = {row[0]: HeldPiece(*row) for row in rows}
        for piece, row in pending:
            tagged = bucket_tag is None or row.bucket_tag == bucket_tag
            if piece > after_piece and row.owner_hash == owner_hash and tagged:
                found[piece] = _held_of(piece, row)
        return [found[piece] for piece in sorted(found)][:limit]

    # --- reading more, from any thread ---

    def logs(self) -> list[LogMark]:
        """Return how far each log is indexed."""
        rows = self._db.execute(
            "SELECT log, settled_bytes, tail_bytes, doomed FROM log ORDER BY log"
        ).fetchall()
        return [LogMark(log, settled, tail, bool(doomed)) for log, settled, tail, doomed in rows]

    def meta(self, name: str) -> bytes | int | None:
        """Return a named value."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        value: bytes | int | None = None if found is None else found[0]
        return value

    def sound(self) -> bool:
        """Check the whole database's structure (about 0.2 s per 100 MB)."""
        try:
            return bool(self._db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except sqlite3.Error:
            return False

    def pieces_in(self, log: int) -> list[tuple[bytes, Row]]:
        """Return the rows that point into a log (walks the whole table)."""
        # First those that wait: what is written down meanwhile is then met twice, never missed.
        waiting = {piece: row for piece, row in list(self._pending.items()) if row.log == log}
        rows = self._reader.execute(f"SELECT piece, {_ROW} FROM piece WHERE log = ?", (log,))  # noqa: S608
        return list((waiting | {row[0]: Row(*row[1:]) for row in rows.fetchall()}).items())

    def trash_due(self, marked_ms_max: int, limit: int) -> list[tuple[bytes, int]]:
        """Return (piece, time of deletion) of pieces deleted at or before a time."""
        return self._reader.execute(
            "SELECT piece, marked_ms FROM piece WHERE state = 1 AND marked_ms <= ? LIMIT ?",
            (marked_ms_max, limit),
        ).fetchall()

    def lost(self, limit: int) -> list[bytes]:
        """Return ids of pieces found lost and not yet told to every coordinator."""
        rows = self._reader.execute("SELECT piece FROM lost ORDER BY piece LIMIT ?", (limit,))
        return [piece for (piece,) in rows.fetchall()]

    # --- writing ---

    @property
    def crowded(self) -> bool:
        """Whether so many pieces wait that they should be written down."""
        return len(self._pending) > PENDING_PIECES_MAX

    def may_defer(self, changes: Sequence[Change]) -> bool:
        """Say whether these are new pieces only, which may wait in memory."""
        if self._any_lost:
            return False
        pieces = set()
        for change in changes:
            if type(change) is not Stored:
                return False
            pieces.add(change.piece)
            # A serial met before is no news; a piece met before may have been deleted since.
            if self.get(change.piece) is not None:
                return False
        return len(pieces) == len(changes)

    def defer(self, changes: Sequence[Change], logs: Iterable[LogMark]) -> None:
        """Take new pieces (see ``may_defer``) whose bytes are durable. Does not block."""
        touched: set[int] = set()
        for change in changes:
            assert isinstance(change, Stored)
            self.totals.sequence = max(self.totals.sequence, change.sequence)
            row = _row_of(change)
            self._pending[change.piece] = row
            self._pending_spent.setdefault(change.serial, (change.piece, change.expires_ms))
            self._account(row, 1, extent_bytes(row.body_bytes), touched)
        for mark in logs:
            self._pending_marks[mark.log] = mark

    def _write_pending(self) -> None:
        """Write down what waits, within a transaction."""
        self._db.executemany(
            "INSERT OR IGNORE INTO spent VALUES (?, ?, ?)",
            [(serial, *use) for serial, use in self._pending_spent.items()],
        )
        self._db.executemany(_INSERT, [(piece, *row) for piece, row in self._pending.items()])

    def apply(self, changes: Sequence[Change], logs: Iterable[LogMark]) -> None:
        """Write what waits and a batch of changes in one transaction."""
        with self._transaction():
            touched: set[int] = set()
            if self._pending:
                self._write_pending()
                logs = (self._pending_marks | {mark.log: mark for mark in logs}).values()
            for change in changes:
                self._apply_one(change, touched)
            for mark in logs:
                self._db.execute(
                    "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?)",
                    (
                        mark.log,
                        mark.settled_bytes,
                        mark.tail_bytes,
                        self.totals.live.get(mark.log, 0),
                        mark.doomed,
                    ),
                )
                touched.discard(mark.log)
            for log in touched:
                self._db.execute(
                    "UPDATE log SET live_bytes = ? WHERE log = ?",
                    (self.totals.live.get(log, 0), log),
                )
            self._save_totals()
        # Only now: until here a reader finds them in memory, from here on in the database.
        self._pending.clear()
        self._pending_spent.clear()
        self._pending_marks.clear()

    def _apply_one(self, change: Change, touched: set[int]) -> None:
        match change:
            case Stored():
                self._stored(change, touched)
            case Marked():
                self._marked(change, touched)
            case Locked():
                self.totals.sequence = max(self.totals.sequence, change.log_sequence)
                locks.apply(self._db, change)
                self._any_locked = True
            case Adopted():
                self._adopted(change, touched)
            case Spent():
                self._spend(change.serial, change.piece, change.expires_ms)
            case Moved():
                self._moved(change, touched)
            case Purged():
                self._purged(change, touched)
            case Rotten():
                self._rotten(change, touched)
            case Dropped():
                self._dropped(change, touched)
            case _:
                self._apply_rare(change)

    def _apply_rare(self, change: Change) -> None:
        match change:
            case Doomed():
                self._db.execute("UPDATE log SET doomed = 1 WHERE log = ?", (change.log,))
            case SpentForgotten():
                self._db.execute(
                    "DELETE FROM spent WHERE expires_ms < ?", (change.expired_before_ms,)
                )
            case LostTold():
                self._told(change)
            case _:
                raise AssertionError("every change has its case")

    def _told(self, change: LostTold) -> None:
        for piece in change.pieces:
            self._found_again(piece)
        self._any_lost = bool(self._db.execute("SELECT 1 FROM lost").fetchone())

    def set_meta(self, name: str, value: bytes | int) -> None:
        """Store a named value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def add_lost(self, pieces: Iterable[bytes]) -> None:
        """Note pieces as lost, to be told."""
        with self._transaction():
            for piece in pieces:
                self._lose(piece)

    def begin_rebuild(self) -> None:
        """Forget all but which pieces were live, so that those not found again can be told.

        An interrupted rebuild begins anew and still knows them.
        """
        with self._transaction():
            if self.meta("rebuilding") is None:
                self._db.execute("DROP TABLE IF EXISTS known")
                self._db.execute("CREATE TABLE known AS SELECT piece FROM piece WHERE state = 0")
                self.set_meta("rebuilding", 1)
            for table in ("piece", "log", "spent", "retention", "adopted"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - constant names
            self.totals = Totals()
            self._save_totals()

    def end_rebuild(self) -> None:
        """Note as lost what was live before and lies in no log now; forget unplaced marks."""
        with self._transaction():
            self._db.execute("DELETE FROM piece WHERE log = ?", (NOWHERE,))
            self._db.execute(
                "INSERT OR IGNORE INTO lost SELECT piece FROM known"
                " WHERE piece NOT IN (SELECT piece FROM piece)"
            )
            self._db.execute("DROP TABLE known")
            for table in ("retention", "adopted"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE piece NOT IN (SELECT piece FROM piece)"  # noqa: S608 - constant names
                )
            self._any_lost = bool(self.lost(1))
            self._db.execute("DELETE FROM meta WHERE name = 'rebuilding'")

    def close(self) -> None:
        """Write what waits, fold the write-ahead log into the database and close."""
        if self._pending:
            self.apply([], [])
        if self._reader is not self._db:
            self._reader.close()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    # --- the changes ---

    def _get(self, piece: bytes) -> Row | None:
        found = self._db.execute(_SELECT, (piece,)).fetchone()
        return None if found is None else Row(*found)

    def _put(self, piece: bytes, row: Row) -> None:
        self._db.execute(_UPSERT, (piece, *row))

    def _account(self, row: Row, sign: int, extent: int, touched: set[int]) -> None:
        """Add (sign 1) or take away (sign -1) a row's share of the totals."""
        if row.log == NOWHERE or row.state not in (State.LIVE, State.TRASH):
            return
        totals = self.totals
        self.touched_ranges.add((row.issuer, row.segment_serial >> RANGE_BITS))
        if row.state == State.LIVE:
            totals.used_bytes += sign * row.body_bytes
            totals.pieces += sign
        else:
            totals.trash_bytes += sign * row.body_bytes
            totals.trash_pieces += sign
        totals.live[row.log] = totals.live.get(row.log, 0) + sign * extent
        touched.add(row.log)

    def _change(self, piece: bytes, old: Row | None, new: Row, touched: set[int]) -> None:
        if old is not None:
            self._account(old, -1, extent_bytes(old.body_bytes), touched)
        self._account(new, 1, extent_bytes(new.body_bytes), touched)
        self._put(piece, new)

    def _stored(self, change: Stored, touched: set[int]) -> None:
        self._spend(change.serial, change.piece, change.expires_ms)
        self.totals.sequence = max(self.totals.sequence, change.sequence)
        row = adopted.obeyed(self._db, change.piece, _row_of(change))
        if self._db.execute(_INSERT, (change.piece, *row)).rowcount == 1:
            self._account(row, 1, extent_bytes(row.body_bytes), touched)
            self._found_again(change.piece)
            return
        old = self._get(change.piece)
        if old is not None and old.log != NOWHERE and old.sequence >= change.sequence:
            # Met before: a copy that compaction made, or a second scan of the same bytes.
            return
        if old is not None and old.mark_sequence > change.sequence:
            row = row._replace(
                state=STATE_OF_MARK[Mark(old.mark)],
                mark_sequence=old.mark_sequence,
                mark=old.mark,
                marked_ms=old.marked_ms,
            )
        self._change(change.piece, old, row, touched)
        self._found_again(change.piece)

    def _marked(self, change: Marked, touched: set[int]) -> None:
        if change.expires_ms:
            self._spend(change.serial, change.piece, change.expires_ms)
        self.totals.sequence = max(self.totals.sequence, change.sequence)
        old = self._get(change.piece)
        if old is None:
            old = UNPLACED
        elif old.mark_sequence >= change.sequence or old.sequence > change.sequence:
            return
        state = State.DEAD if old.log == NOWHERE else STATE_OF_MARK[change.mark]
        row = old._replace(
            state=state,
            mark_sequence=change.sequence,
            mark=change.mark,
            marked_ms=change.time_ms,
        )
        self._change(change.piece, old, row, touched)

    def _adopted(self, change: Adopted, touched: set[int]) -> None:
        self.totals.sequence = max(self.totals.sequence, change.sequence)
        adopted.keep(self._db, change)
        old = self._get(change.piece)
        if old is not None and old.log != NOWHERE:
            self._change(change.piece, old, adopted.obeyed(self._db, change.piece, old), touched)

    def _moved(self, change: Moved, touched: set[int]) -> None:
        old = self._get(change.piece)
        if old is None or (old.log, old.offset) != (change.from_log, change.from_offset):
            return
        row = old._replace(log=change.to_log, offset=change.to_offset)
        self._change(change.piece, old, row, touched)

    def _purged(self, change: Purged, touched: set[int]) -> None:
        old = self._get(change.piece)
        if old is None or old.state != State.TRASH or old.marked_ms != change.marked_ms:
            return
        self._change(change.piece, old, old._replace(state=State.DEAD, mark=Mark.PURGED), touched)

    def _rotten(self, change: Rotten, touched: set[int]) -> None:
        old = self._get(change.piece)
        if old is None or (old.log, old.offset) != (change.log, change.offset):
            return
        if old.state == State.LIVE:
            self._lose(change.piece)
        self._change(change.piece, old, old._replace(state=State.LOST, mark=Mark.ROTTEN), touched)

    def _dropped(self, change: Dropped, touched: set[int]) -> None:
        for piece, row in self.pieces_in(change.log):
            if row.state == State.LIVE:
                self._lose(piece)
            elif row.state == State.DEAD:
                self._db.execute("DELETE FROM retention WHERE piece = ?", (piece,))
                self._db.execute("DELETE FROM adopted WHERE piece = ?", (piece,))
            self._account(row, -1, extent_bytes(row.body_bytes), touched)
        self._db.execute("DELETE FROM piece WHERE log = ?", (change.log,))
        self._db.execute("DELETE FROM log WHERE log = ?", (change.log,))
        self.totals.live.pop(change.log, None)
        touched.discard(change.log)

    def _lose(self, piece: bytes) -> None:
        self._db.execute("INSERT OR IGNORE INTO lost VALUES (?)", (piece,))
        self._any_lost = True

    def _found_again(self, piece: bytes) -> None:
        if self._any_lost:
            self._db.execute("DELETE FROM lost WHERE piece = ?", (piece,))

    def _spend(self, serial: bytes, piece: bytes, expires_ms: int) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO spent VALUES (?, ?, ?)", (serial, piece, expires_ms)
        )

    # --- totals ---

    _TOTALS = ("used_bytes", "trash_bytes", "pieces", "trash_pieces", "sequence")

    def _save_totals(self) -> None:
        values = [(name, getattr(self.totals, name)) for name in self._TOTALS]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)

    def _load_totals(self) -> None:
        for name in self._TOTALS:
            setattr(self.totals, name, self.meta(name) or 0)
        rows = self._db.execute("SELECT log, live_bytes FROM log")
        self.totals.live = dict(rows.fetchall())


def _row_of(change: Stored) -> Row:
    return Row(
        change.log,
        change.offset,
        change.body_bytes,
        change.head_bytes,
        change.data_bytes,
        change.sequence,
        State.LIVE,
        0,
        Mark.NONE,
        0,
        change.retention_ms,
        change.issuer,
        change.segment_serial,
        change.issued_ms,
        change.segment,
        change.piece_index,
        change.segment_root,
        change.bucket_tag,
        change.owner_hash,
    )


def _held_of(piece: bytes, row: Row) -> HeldPiece:
    return HeldPiece(
        piece,
        row.segment,
        row.piece_index,
        row.segment_serial,
        row.segment_root,
        row.data_bytes,
        row.head_bytes,
        row.body_bytes,
        row.state,
        row.issuer,
        row.bucket_tag,
        row.retention_ms,
        row.issued_ms,
        row.marked_ms,
    )


def _serial_order(held: HeldPiece) -> tuple[int, int]:
    return held.segment_serial, held.index
