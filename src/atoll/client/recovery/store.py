"""What a recovery has found so far, in a scratch database: memory stays bounded, and it resumes.

The only SQL of this folder. Blocking, for one thread at a time; calls take microseconds.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from atoll.client.recovery.model import Source
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import SegmentRecord, StoredPiece
from atoll.core.messages.recovery import ObjectChange, ObjectEntry, OwnedPiece, SegmentMove

SCHEMA_VERSION = 1
PAGE_ROWS = 500
_SCHEMA = """
CREATE TABLE node (alias INTEGER PRIMARY KEY, node_id BLOB UNIQUE NOT NULL);
CREATE TABLE piece (
  segment BLOB NOT NULL, idx INTEGER NOT NULL, alias INTEGER NOT NULL, root BLOB NOT NULL,
  tag BLOB NOT NULL, trash INTEGER NOT NULL, PRIMARY KEY (segment, idx, alias)
) WITHOUT ROWID;
CREATE INDEX piece_tag ON piece (tag, segment);
CREATE TABLE bucket (bucket BLOB PRIMARY KEY, info BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE object (
  bucket BLOB NOT NULL, key BLOB NOT NULL, number INTEGER NOT NULL, time_ms INTEGER NOT NULL,
  source TEXT NOT NULL, bytes INTEGER NOT NULL, entry BLOB, done INTEGER NOT NULL DEFAULT 0,
  stamp BLOB NOT NULL, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE named (segment BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE moved (segment BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE finished (bucket BLOB NOT NULL, key BLOB NOT NULL, stamp BLOB NOT NULL,
  PRIMARY KEY (bucket, key)) WITHOUT ROWID;
"""
_LOCKED = """
CREATE TABLE IF NOT EXISTS locked (segment BLOB PRIMARY KEY, chosen INTEGER NOT NULL DEFAULT 0)
WITHOUT ROWID"""
_ENTRY = msgspec.msgpack.Decoder(ObjectEntry)
_MOVE = msgspec.msgpack.Decoder(SegmentMove)


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object to restore."""

    bucket: bytes
    key: str
    source: Source
    entry: ObjectEntry
    stamp: bytes
    """Tells this version from others of the key: a resumed recovery skips what it has done."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What manifests say about a key, its deletion included."""

    time_ms: int
    deleted: bool
    segments: tuple[SegmentRecord, ...] = ()


def _key(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


class RecoveryStore:
    """The scratch database at a path, or in memory."""

    def __init__(self, where: str) -> None:
        """Open or make it. Raises ``WRONG_FOLDER`` for another file."""
        try:
            self._db = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"it is of another version: {version}")
            if not version:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            # Scratch files of before have no such table; it is filled anew with every survey.
            self._db.execute(_LOCKED)
        except sqlite3.Error as cause:
            raise AtollError(
                Kind.WRONG_FOLDER,
                "open recovery",
                f"the scratch file cannot be used: {cause}",
                hint="remove it; what was restored already stays and is checked again",
                about=where,
            ) from cause

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def begin_survey(self) -> None:
        """Forget what was found before; what was finished stays."""
        for table in ("node", "piece", "bucket", "object", "named", "moved", "locked"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - constant names

    # --- pieces ---

    def add_pieces(self, alias: int, pieces: Iterable[OwnedPiece]) -> None:
        """Note what a node says it holds."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR IGNORE INTO piece VALUES (?, ?, ?, ?, ?, ?)",
            [
                (one.segment, one.index, alias, one.segment_root, one.tag, one.trash)
                for one in pieces
            ],
        )
        self._db.execute("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Return how many pieces and segments were found."""
        found = self._db.execute("SELECT count(*), count(DISTINCT segment) FROM piece").fetchone()
        return int(found[0]), int(found[1])

    def tags(self) -> list[bytes]:
        """Return all bucket tags met."""
        rows = self._db.execute("SELECT DISTINCT tag FROM piece WHERE tag <> x''").fetchall()
        return [row[0] for row in rows]

    def segments_of_tag(self, tag: bytes, limit: int = -1) -> list[bytes]:
        """Return segments that some node holds under a tag."""
        rows = self._db.execute(
            "SELECT DISTINCT segment FROM piece WHERE tag = ? LIMIT ?", (tag, limit)
        ).fetchall()
        return [row[0] for row in rows]

    def unnamed_of_tag(self, tag: bytes, after: bytes) -> list[bytes]:
        """Return a page of segments under a tag that no manifest names, by id."""
        rows = self._db.execute(
            "SELECT DISTINCT segment FROM piece WHERE tag = ? AND segment > ?"
            " AND segment NOT IN (SELECT segment FROM named) ORDER BY segment LIMIT ?",
            (tag, after, PAGE_ROWS),
        ).fetchall()
        return [row[0] for row in rows]

    def holders(self, segment: bytes) -> dict[int, list[int]]:
        """Return by piece index the aliases that claim the piece; those not in trash first."""
        rows = self._db.execute(
            "SELECT idx, alias FROM piece WHERE segment = ? ORDER BY idx, trash, alias", (segment,)
        ).fetchall()
        found: dict[int, list[int]] = {}
        for index, alias in rows:
            found.setdefault(index, []).append(alias)
        return found

    def roots(self, segment: bytes) -> list[bytes]:
        """Return the segment roots that holders claim, the most frequent first."""
        rows = self._db.execute(
            "SELECT root FROM piece WHERE segment = ? GROUP BY root ORDER BY count(*) DESC",
            (segment,),
        ).fetchall()
        return [row[0] for row in rows]

    def all_trash(self, segment: bytes) -> bool:
        """Say whether every holder has a segment's piece in its trash."""
        row = self._db.execute(
            "SELECT min(trash) FROM piece WHERE segment = ?", (segment,)
        ).fetchone()
        return bool(row[0])

    def is_live(self, segment: bytes) -> bool:
        """Say whether some holder has a segment's piece, and not in its trash."""
        row = self._db.execute(
            "SELECT 1 FROM piece WHERE segment = ? AND NOT trash LIMIT 1", (segment,)
        ).fetchone()
        return row is not None

    # --- locks ---

    def held_of_tag(self, tag: bytes, alias: int, after: bytes) -> list[tuple[bytes, int]]:
        """Return a page of (segment, index) that a node holds under a tag, not known as locked."""
        rows = self._db.execute(
            "SELECT segment, idx FROM piece WHERE tag = ? AND alias = ? AND segment > ?"
            " AND segment NOT IN (SELECT segment FROM locked) ORDER BY segment LIMIT ?",
            (tag, alias, after, PAGE_ROWS),
        ).fetchall()
        return [(row[0], row[1]) for row in rows]

    def put_locked(self, segments: Iterable[bytes]) -> None:
        """Note that holders keep a record in force for these segments."""
        self._db.executemany(
            "INSERT OR IGNORE INTO locked (segment) VALUES (?)", [(one,) for one in segments]
        )

    def is_locked(self, segment: bytes) -> bool:
        """Say whether a holder keeps a record in force for a segment."""
        row = self._db.execute("SELECT 1 FROM locked WHERE segment = ?", (segment,)).fetchone()
        return row is not None

    def choose_locked(self, bucket: bytes) -> None:
        """Note which locked segments belong to objects that manifests name."""
        self._db.execute("BEGIN")
        for found in self.objects(bucket):
            self._db.executemany(
                "UPDATE locked SET chosen = 1 WHERE segment = ?",
                [(record.segment,) for record in found.entry.segments],
            )
        self._db.execute("COMMIT")

    def locked_of_tag(self, tag: bytes, after: bytes) -> list[bytes]:
        """Return a page of locked segments under a tag that are not chosen, by id."""
        rows = self._db.execute(
            "SELECT DISTINCT segment FROM piece WHERE tag = ? AND segment > ?"
            " AND segment IN (SELECT segment FROM locked WHERE NOT chosen)"
            " ORDER BY segment LIMIT ?",
            (tag, after, PAGE_ROWS),
        ).fetchall()
        return [row[0] for row in rows]

    # --- places ---

    def places(self, segment: bytes, turn: int) -> list[StoredPiece]:
        """Return one holder for each index; another one, where there are several, each turn."""
        return [
            StoredPiece(index=index, alias=aliases[turn % len(aliases)])
            for index, aliases in self.holders(segment).items()
        ]

    # --- buckets and objects ---

    def put_bucket(self, bucket: bytes, info: bytes) -> None:
        """Keep a bucket's encoded catalogue entry."""
        self._db.execute("INSERT OR REPLACE INTO bucket VALUES (?, ?)", (bucket, info))

    def put_entry(
        self, bucket: bytes, entry: ObjectEntry, number: int, source: Source, stamp: bytes
    ) -> None:
        """Keep an object in place of what was known of its key."""
        self._db.execute(
            "INSERT OR REPLACE INTO object (bucket, key, number, time_ms, source, bytes, entry,"
            " stamp) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                bucket,
                _key(entry.key),
                number,
                entry.modified_ms,
                source.value,
                entry.facts.size,
                msgspec.msgpack.encode(entry),
                stamp,
            ),
        )

    def put_deletion(self, bucket: bytes, key: str, number: int, time_ms: int) -> None:
        """Keep that a key was deleted."""
        self._db.execute(
            "INSERT OR REPLACE INTO object (bucket, key, number, time_ms, source, bytes, entry,"
            " stamp) VALUES (?, ?, ?, ?, ?, 0, NULL, x'')",
            (bucket, _key(key), number, time_ms, Source.MANIFEST.value),
        )

    def put_old_deletion(self, bucket: bytes, key: str, number: int, time_ms: int) -> None:
        """Keep a deletion of a manifest that a snapshot replaced, where nothing newer is known."""
        self._db.execute(
            "INSERT INTO object (bucket, key, number, time_ms, source, bytes, entry, stamp)"
            " VALUES (?, ?, ?, ?, ?, 0, NULL, x'') ON CONFLICT (bucket, key) DO UPDATE"
            " SET number = excluded.number, time_ms = excluded.time_ms"
            " WHERE object.entry IS NULL AND object.time_ms < excluded.time_ms",
            (bucket, _key(key), number, time_ms, Source.MANIFEST.value),
        )

    def known(self, bucket: bytes, key: str) -> KnownKey | None:
        """Return what is known of a key."""
        row = self._db.execute(
            "SELECT time_ms, entry FROM object WHERE bucket = ? AND key = ?",
            (bucket, _key(key)),
        ).fetchone()
        if row is None:
            return None
        segments = () if row[1] is None else tuple(_ENTRY.decode(row[1]).segments)
        return KnownKey(int(row[0]), row[1] is None, segments)

    def put_move(self, move: SegmentMove) -> None:
        """Keep that a segment lies in a pack; later calls win."""
        self._db.execute(
            "INSERT OR REPLACE INTO moved VALUES (?, ?)",
            (move.record.segment, msgspec.msgpack.encode(move)),
        )

    def move_of(self, segment: bytes) -> SegmentMove | None:
        """Return where a packed segment lies."""
        row = self._db.execute("SELECT record FROM moved WHERE segment = ?", (segment,)).fetchone()
        return None if row is None else _MOVE.decode(row[0])

    def name_segments(self) -> None:
        """Note which segments objects and packs refer to, for ``unnamed_of_tag``."""
        self._db.execute("BEGIN")
        for found in self.objects(None):
            for record in found.entry.segments:
                self._name(record.segment)
                if record.packed is not None:
                    self._name(record.packed.segment)
        for (body,) in self._db.execute("SELECT record FROM moved").fetchall():
            move: SegmentMove = _MOVE.decode(body)
            if move.record.packed is not None:
                self._name(move.record.packed.segment)
        self._db.execute("COMMIT")

    def name_changes(self, changes: Iterable[ObjectChange | SegmentMove]) -> None:
        """Note the segments that a manifest of before names."""
        for change in changes:
            if isinstance(change, ObjectChange) and change.entry is not None:
                for record in change.entry.segments:
                    self._name(record.segment)

    def _name(self, segment: bytes) -> None:
        self._db.execute("INSERT OR IGNORE INTO named VALUES (?)", (segment,))

    def objects(self, bucket: bytes | None) -> Iterator[FoundObject]:
        """Yield objects that exist, by bucket and key; of one bucket, or all."""
        after = (b"", b"")
        while True:
            rows = self._db.execute(
                "SELECT bucket, key, source, entry, stamp FROM object"
                " WHERE (bucket, key) > (?, ?) AND entry IS NOT NULL"
                " AND (? IS NULL OR bucket = ?) ORDER BY bucket, key LIMIT ?",
                (*after, bucket, bucket, PAGE_ROWS),
            ).fetchall()
            for found, key, source, entry, stamp in rows:
                yield FoundObject(
                    bucket=found,
                    key=key.decode("utf-8", "surrogateescape"),
                    source=Source(source),
                    entry=_ENTRY.decode(entry),
                    stamp=stamp,
                )
            if len(rows) < PAGE_ROWS:
                return
            after = (rows[-1][0], rows[-1][1])

    def sums(self) -> tuple[int, int, int]:
        """Return objects, their bytes, and how many of them are from capsules."""
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(bytes), 0),"
            " coalesce(sum(source = 'capsules'), 0) FROM object WHERE entry IS NOT NULL"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    # --- what was done ---

    def finished(self, found: FoundObject) -> bool:
        """Say whether this version of the object was restored by an earlier run."""
        row = self._db.execute(
            "SELECT 1 FROM finished WHERE bucket = ? AND key = ? AND stamp = ?",
            (found.bucket, _key(found.key), found.stamp),
        ).fetchone()
        return row is not None

    def finish(self, found: FoundObject) -> None:
        """Note that an object is restored for good."""
        self._db.execute(
            "INSERT OR REPLACE INTO finished VALUES (?, ?, ?)",
            (found.bucket, _key(found.key), found.stamp),
        )
