"""What happens at every start: the index is trusted as far as the logs bear it out.

After a clean stop there is nothing to read but the room allocated ahead of the tail. After a crash
the tail since the last commit is scanned. Where index and logs contradict each other, or there is
no index, all logs are scanned and what is missing is noted as lost.
"""

import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from atoll.core.errors import AtollError
from atoll.core.merkle import HASH_BYTES
from atoll.core.pieces import TlvType, parse_header
from atoll.core.ports import Disk
from atoll.node.store.adopted import adopted_of_log
from atoll.node.store.identity import StoreIdentity
from atoll.node.store.index import Index
from atoll.node.store.log import HEAD_BYTES, Found, LogFile, RecordKind, scan
from atoll.node.store.logs import LOG_FOLDER, Logs
from atoll.node.store.model import Change, Dropped, LogMark, Mark, Marked, Spent, Stored
from atoll.node.store.retention import locked_of_log, locked_of_piece
from atoll.node.store.upload import BUCKET_TAG_BYTES, OWNER_HASH_BYTES, tlv_of

_LOG = logging.getLogger(__name__)
INDEX_FILE = "index.sqlite"
BATCH_CHANGES = 2000
"""Records put into the index per transaction while rebuilding it."""


@dataclass(slots=True)
class Recovered:
    """What a start found."""

    index: Index
    rebuilt: bool
    scanned_bytes: int = 0
    records: int = 0
    torn_bytes: int = 0
    """Cut off behind the last whole record."""
    rotten: int = 0


def recover(disk: Disk, logs: Logs, identity: StoreIdentity) -> Recovered:
    """Open index and logs and bring them in step. Blocks."""
    logs.open_all()
    index, usable = _open_index(disk, identity)
    marks = {mark.log: mark for mark in index.logs()} if usable else {}
    for number in [number for number, mark in marks.items() if mark.doomed]:
        # Its removal was under way: nothing in it is needed.
        logs.remove_now(number)
        index.apply([Dropped(number)], [])
        del marks[number]
    if usable and not _fits(logs, marks):
        _LOG.warning("the index and the logs contradict each other: the index is built anew")
        usable = False
    if not usable:
        index.begin_rebuild()
        marks = {}
    recovered = Recovered(index, rebuilt=not usable)
    for number in sorted(logs.files):
        log = logs.files[number]
        with logs.reading(log):
            start = marks[number].settled_bytes if number in marks else 0
            _recover_log(logs, log, start, recovered)
    # A log made just before a crash may lie in the folder by luck only.
    disk.sync_folder(LOG_FOLDER)
    if not usable:
        index.end_rebuild()
        index.set_meta("store", identity.store)
    logs.next_sequence = max(logs.next_sequence, index.totals.sequence + 1)
    logs.choose_active()
    return recovered


def _open_index(disk: Disk, identity: StoreIdentity) -> tuple[Index, bool]:
    """Return the index and whether it can be trusted as a cache of this very store."""
    where = disk.scratch_database(INDEX_FILE)
    try:
        index = Index(where)
        if not index.sound():
            index.close()
            raise sqlite3.DatabaseError("the index is damaged")
    except sqlite3.Error as cause:
        _LOG.warning("the index cannot be used and is built anew: %s", cause)
        for suffix in ("", "-wal", "-shm"):
            disk.remove(INDEX_FILE + suffix)
        index = Index(where)
    usable = index.meta("store") == identity.store and index.meta("rebuilding") is None
    return index, usable


def _fits(logs: Logs, marks: dict[int, LogMark]) -> bool:
    """Say whether every log that the index speaks of is there and long enough."""
    return all(
        number in logs.files and logs.files[number].allocated >= mark.settled_bytes
        for number, mark in marks.items()
    )


def _recover_log(logs: Logs, log: LogFile, start: int, recovered: Recovered) -> None:
    end = log.allocated
    tail = start
    changes: list[Change] = []
    lost: list[bytes] = []
    for found in scan(log.file, log.number, logs.key, start, end):
        logs.next_sequence = max(logs.next_sequence, found.envelope.sequence + 1)
        record = list(_changes_of(log, found))
        if found.whole and record:
            tail = found.end
            recovered.records += 1
            changes.extend(record)
        elif found.finished:
            recovered.rotten += 1
            lost.append(found.envelope.piece)
        if len(changes) >= BATCH_CHANGES:
            # Not settled yet: should this be cut short, the scan begins at the same place again.
            recovered.index.apply(changes, [])
            changes.clear()
    if end > start:
        recovered.scanned_bytes += end - start
        recovered.torn_bytes += end - tail
        # What the scan found may be in the page cache only; the index must not outlive it.
        log.file.truncate(tail)
        log.file.sync()
    log.tail = log.allocated = tail
    recovered.index.apply(changes, [LogMark(log.number, tail, tail)])
    if recovered.rebuilt:
        recovered.index.add_lost(p for p in lost if recovered.index.get(p) is None)


def _changes_of(log: LogFile, found: Found) -> Iterator[Change]:
    """Return what a record says to the index; nothing for one that cannot be understood."""
    envelope = found.envelope
    match envelope.kind:
        case RecordKind.PIECE:
            try:
                header = parse_header(found.body_start)
            except AtollError:
                return
            # The trailer begins with the piece roots; the segment root follows them.
            at = header.head_bytes + header.data_bytes + header.n * HASH_BYTES
            root = log.file.read_at(found.offset + HEAD_BYTES + at, HASH_BYTES)
            yield Stored(
                piece=envelope.piece,
                log=log.number,
                offset=found.offset,
                body_bytes=envelope.body_bytes,
                head_bytes=header.head_bytes,
                data_bytes=header.data_bytes,
                sequence=envelope.sequence,
                retention_ms=envelope.retention_until_ms,
                issuer=envelope.issuer,
                serial=envelope.serial,
                expires_ms=envelope.expires_ms,
                segment_serial=envelope.segment_serial,
                issued_ms=envelope.issued_ms,
                segment=header.segment_id,
                piece_index=header.index,
                segment_root=root,
                bucket_tag=tlv_of(header, TlvType.BUCKET_TAG, BUCKET_TAG_BYTES),
                owner_hash=tlv_of(header, TlvType.OWNER_KEY_HASH, OWNER_HASH_BYTES),
            )
            record = locked_of_piece(envelope.piece, header, envelope.sequence)
            if record is not None:
                yield record
        case RecordKind.TOMBSTONE | RecordKind.REVIVE:
            deleted = envelope.kind is RecordKind.TOMBSTONE
            yield Marked(
                piece=envelope.piece,
                mark=Mark.DELETED if deleted else Mark.REVIVED,
                sequence=envelope.sequence,
                time_ms=envelope.time_ms,
                serial=envelope.serial,
                expires_ms=envelope.expires_ms,
            )
        case RecordKind.RETENTION:
            record = locked_of_log(found)
            if record is not None:
                yield record
        case RecordKind.ADOPTION:
            yield adopted_of_log(found)
        case RecordKind.SPENT:
            yield Spent(envelope.serial, envelope.piece, envelope.expires_ms)
