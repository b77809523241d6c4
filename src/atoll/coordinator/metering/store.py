"""The SQL of metering; all in the caller's transaction."""

from collections.abc import Iterable, Mapping

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import unpack_pieces
from atoll.coordinator.metering.model import (
    ClosedEpoch,
    Count,
    Line,
    NodeProofs,
    Place,
    RepairWork,
    SlotResult,
)
from atoll.coordinator.sql import Statement
from atoll.core.scheme import Layout

_LINE = "epoch, alias, bucket, from_ms, until_ms, account, piece_bytes, price_pico, head, evidence"

_START = Statement(
    "INSERT INTO meter_clock (id, read_ms) VALUES (1, 0) ON CONFLICT (id) DO NOTHING"
)
_CLOCK = Statement("SELECT read_ms FROM meter_clock WHERE id = 1 FOR UPDATE")
_READ_MS = Statement("SELECT read_ms FROM meter_clock WHERE id = 1")
_SET_CLOCK = Statement("UPDATE meter_clock SET read_ms = :now_ms WHERE id = 1")
_ACCOUNTS = Statement("SELECT bucket, account FROM bucket")
_PAGE = Statement("""
    SELECT serial, bucket, pieces, plain_bytes, k, n, unit_bytes FROM segment
    WHERE serial > :after ORDER BY serial LIMIT :limit""")
_BEFORE = Statement("SELECT alias, bucket, account, piece_bytes FROM meter_count")
_PUT_COUNT = Statement("""
    INSERT INTO meter_count (alias, bucket, account, piece_bytes)
    VALUES (:alias, :bucket, :account, :piece_bytes)
    ON CONFLICT (alias, bucket) DO UPDATE SET account = excluded.account,
        piece_bytes = excluded.piece_bytes""")
_DROP_COUNT = Statement("DELETE FROM meter_count WHERE alias = :alias AND bucket = :bucket")
_OPEN = Statement(
    "SELECT {columns} FROM meter_line WHERE epoch = 0 ORDER BY alias, bucket, from_ms",
    columns=_LINE,
)
_END = Statement("""
    UPDATE meter_line SET until_ms = :until_ms
    WHERE epoch = 0 AND alias = :alias AND bucket = :bucket AND from_ms = :from_ms""")
_PUT_LINE = Statement("""
    INSERT INTO meter_line (epoch, alias, bucket, from_ms, until_ms, account, piece_bytes,
        price_pico, head, evidence)
    VALUES (0, :alias, :bucket, :from_ms, 0, :account, :piece_bytes, :price_pico, :head,
        :evidence)""")
_SETTLE = Statement("""
    UPDATE meter_line SET epoch = :epoch, until_ms = :until_ms, head = :head,
        evidence = :evidence
    WHERE epoch = 0 AND alias = :alias AND bucket = :bucket AND from_ms = :from_ms""")
_LINES = Statement(
    "SELECT {columns} FROM meter_line WHERE epoch = :epoch ORDER BY alias, bucket, from_ms",
    columns=_LINE,
)
_BY_EVIDENCE = Statement(
    "SELECT {columns} FROM meter_line WHERE evidence = :evidence ORDER BY alias LIMIT 1",
    columns=_LINE,
)
_HEADS = Statement("""
    SELECT h.alias, h.signed FROM tree_head h JOIN (
        SELECT alias, max(epoch) AS epoch FROM tree_head GROUP BY alias
    ) newest ON newest.alias = h.alias AND newest.epoch = h.epoch""")
_ADD_REPAIR = Statement("""
    INSERT INTO meter_repair (task, failed, worker, piece_bytes, done_ms, epoch, receipts, evidence)
    VALUES (:task, :failed, :worker, :piece_bytes, :done_ms, 0, :receipts, :evidence)
    ON CONFLICT (task, failed) DO NOTHING""")
_SETTLE_REPAIRS = Statement("""
    UPDATE meter_repair SET epoch = :epoch WHERE epoch = 0 AND done_ms <= :until_ms""")
_REPAIRS = Statement("""
    SELECT task, worker, failed, piece_bytes, done_ms, receipts FROM meter_repair
    WHERE epoch = :epoch ORDER BY done_ms, task, failed""")
_REPAIR_BY_EVIDENCE = Statement("""
    SELECT epoch, task, worker, failed, piece_bytes, done_ms, receipts FROM meter_repair
    WHERE evidence = :evidence AND epoch > 0 LIMIT 1""")
_LAST = Statement("""
    SELECT epoch, from_ms, until_ms, slots_end FROM meter_epoch ORDER BY epoch DESC LIMIT 1""")
_EPOCH = Statement("""
    SELECT epoch, from_ms, until_ms, slots_end FROM meter_epoch WHERE epoch = :epoch""")
_PUT_EPOCH = Statement("""
    INSERT INTO meter_epoch (epoch, from_ms, until_ms, slots_end)
    VALUES (:epoch, :from_ms, :until_ms, :slots_end)""")
_RESULTS = Statement("""
    SELECT alias, slot, outcome, samples, failed, verdict FROM proof_result
    WHERE slot >= :first AND slot < :slots_end ORDER BY alias, slot""")
_PUT_PROOF = Statement("""
    INSERT INTO meter_proof (epoch, alias, slots_due, slots_missed, samples, failed, evidence)
    VALUES (:epoch, :alias, :slots_due, :slots_missed, :samples, :failed, :evidence)""")
_PROOFS = Statement("""
    SELECT alias, slots_due, slots_missed, samples, failed, evidence FROM meter_proof
    WHERE epoch = :epoch ORDER BY alias""")


def begin(connection: Connection) -> int:
    """Lock the meters; return when they were read last, 0 for never."""
    _START.run(connection)
    return int(_CLOCK.scalar(connection))


def last_read(connection: Connection) -> int:
    """Return when the meters were read last, 0 for never; locks nothing."""
    row = _READ_MS.first(connection)
    return 0 if row is None else int(row[0])


def accounts(connection: Connection) -> dict[bytes, bytes]:
    """Return whose each bucket is."""
    return {bytes(bucket): bytes(account) for bucket, account in _ACCOUNTS.all(connection)}


def count_page(
    connection: Connection, after: int, limit: int
) -> tuple[int | None, dict[tuple[int, bytes], int]]:
    """Count the pieces of the next ``limit`` segments; return the last serial, None for none.

    Bytes by alias and bucket. By the segments' own lists of pieces, which are the same as the
    table of pieces and twenty times fewer rows.
    """
    last = None
    counts: dict[tuple[int, bytes], int] = {}
    for serial, bucket, packed, *shape in _PAGE.all(connection, after=after, limit=limit):
        last = int(serial)
        piece_bytes = Layout(*shape).piece_bytes
        name = bytes(bucket)
        for piece in unpack_pieces(packed):
            place = (piece.alias, name)
            counts[place] = counts.get(place, 0) + piece_bytes
    return last, counts


def counted_before(connection: Connection) -> dict[Place, Count]:
    """Return what lay where at the last reading."""
    return {
        Place(alias, bytes(bucket)): Count(bytes(account), int(total))
        for alias, bucket, account, total in _BEFORE.all(connection)
    }


def keep_counts(
    connection: Connection, before: Mapping[Place, Count], now: Mapping[Place, Count], now_ms: int
) -> None:
    """Remember a reading: only what changed is written."""
    _PUT_COUNT.many(
        connection,
        [
            {
                "alias": place.alias,
                "bucket": place.bucket,
                "account": count.account,
                "piece_bytes": count.piece_bytes,
            }
            for place, count in now.items()
            if before.get(place) != count
        ],
    )
    _DROP_COUNT.many(
        connection,
        [{"alias": place.alias, "bucket": place.bucket} for place in before.keys() - now.keys()],
    )
    _SET_CLOCK.run(connection, now_ms=now_ms)


def _line(row: tuple[int, int, bytes, int, int, bytes, int, int, bytes, bytes]) -> Line:
    epoch, alias, bucket, from_ms, until_ms, account, piece_bytes, price, head, _ = row
    return Line(
        Place(alias, bytes(bucket)),
        bytes(account),
        int(piece_bytes),
        int(price),
        int(from_ms),
        int(until_ms),
        int(epoch),
        bytes(head),
    )


def open_lines(connection: Connection) -> list[Line]:
    """Return all lines that no epoch has taken yet; one that goes on has no end (0)."""
    return [_line(row) for row in _OPEN.all(connection)]


def end(connection: Connection, lines: Iterable[Line]) -> None:
    """Let lines end when they say."""
    _END.many(
        connection,
        [
            {
                "until_ms": line.until_ms,
                "alias": line.place.alias,
                "bucket": line.place.bucket,
                "from_ms": line.from_ms,
            }
            for line in lines
        ],
    )


def add(connection: Connection, lines: Iterable[Line]) -> None:
    """Write lines that begin and go on."""
    _PUT_LINE.many(
        connection,
        [
            {
                "alias": line.place.alias,
                "bucket": line.place.bucket,
                "from_ms": line.from_ms,
                "account": line.account,
                "piece_bytes": line.piece_bytes,
                "price_pico": line.price_pico,
                "head": b"",
                "evidence": b"",
            }
            for line in lines
        ],
    )


def settle(connection: Connection, lines: Iterable[tuple[Line, bytes]]) -> None:
    """Fix lines, each with its evidence, in the epoch and on the head that they name."""
    _SETTLE.many(
        connection,
        [
            {
                "epoch": line.epoch,
                "until_ms": line.until_ms,
                "head": line.head,
                "evidence": evidence,
                "alias": line.place.alias,
                "bucket": line.place.bucket,
                "from_ms": line.from_ms,
            }
            for line, evidence in lines
        ],
    )


def lines_of(connection: Connection, epoch: int) -> list[Line]:
    """Return the lines of a closed epoch, in order."""
    return [_line(row) for row in _LINES.all(connection, epoch=epoch)]


def by_evidence(connection: Connection, evidence: bytes) -> Line | None:
    """Return the line that an evidence stands for."""
    row = _BY_EVIDENCE.first(connection, evidence=evidence)
    return None if row is None else _line(row)


def newest_heads(connection: Connection) -> dict[int, bytes]:
    """Return each node's newest head, encoded, by alias."""
    return {alias: bytes(signed) for alias, signed in _HEADS.all(connection)}


def last_epoch(connection: Connection) -> ClosedEpoch | None:
    """Return the epoch that was closed last."""
    row = _LAST.first(connection)
    return None if row is None else ClosedEpoch(*(int(value) for value in row))


def closed(connection: Connection, epoch: int) -> ClosedEpoch | None:
    """Return a closed epoch."""
    row = _EPOCH.first(connection, epoch=epoch)
    return None if row is None else ClosedEpoch(*(int(value) for value in row))


def put_epoch(connection: Connection, epoch: ClosedEpoch, proofs: Iterable[NodeProofs]) -> None:
    """Write a closed epoch with its proofs."""
    _PUT_EPOCH.run(
        connection,
        epoch=epoch.epoch,
        from_ms=epoch.from_ms,
        until_ms=epoch.until_ms,
        slots_end=epoch.slots_end,
    )
    _PUT_PROOF.many(
        connection,
        [
            {
                "epoch": epoch.epoch,
                "alias": one.alias,
                "slots_due": one.slots_due,
                "slots_missed": one.slots_missed,
                "samples": one.samples,
                "failed": one.failed,
                "evidence": one.evidence,
            }
            for one in proofs
        ],
    )


def add_repairs(connection: Connection, works: Iterable[RepairWork]) -> None:
    """Write repair work that was just recorded; the same task again does nothing."""
    _ADD_REPAIR.many(
        connection,
        [
            {
                "task": work.task,
                "failed": work.failed,
                "worker": work.worker,
                "piece_bytes": work.piece_bytes,
                "done_ms": work.done_ms,
                "receipts": work.receipts,
                "evidence": work.evidence(),
            }
            for work in works
        ],
    )


def settle_repairs(connection: Connection, epoch: int, until_ms: int) -> int:
    """Fix all repair work done until then in an epoch; return how many rows."""
    return _SETTLE_REPAIRS.run(connection, epoch=epoch, until_ms=until_ms)


def repairs_of(connection: Connection, epoch: int) -> list[RepairWork]:
    """Return the repair work of a closed epoch, in order."""
    return [
        RepairWork(bytes(task), int(worker), int(failed), int(size), int(done_ms), bytes(receipts))
        for task, worker, failed, size, done_ms, receipts in _REPAIRS.all(connection, epoch=epoch)
    ]


def repair_by_evidence(connection: Connection, evidence: bytes) -> tuple[int, RepairWork] | None:
    """Return epoch and work that an evidence stands for."""
    row = _REPAIR_BY_EVIDENCE.first(connection, evidence=evidence)
    if row is None:
        return None
    epoch, task, worker, failed, size, done_ms, receipts = row
    work = RepairWork(
        bytes(task), int(worker), int(failed), int(size), int(done_ms), bytes(receipts)
    )
    return int(epoch), work


def results(connection: Connection, first: int, slots_end: int) -> list[SlotResult]:
    """Return what slots ``first`` … ``slots_end - 1`` brought, by node and slot."""
    return [
        SlotResult(alias, int(slot), outcome, int(samples), int(failed), bytes(verdict))
        for alias, slot, outcome, samples, failed, verdict in _RESULTS.all(
            connection, first=first, slots_end=slots_end
        )
    ]


def proofs_of(connection: Connection, epoch: int) -> list[NodeProofs]:
    """Return what nodes proved in a closed epoch, by alias."""
    return [
        NodeProofs(alias, int(due), int(missed), int(samples), int(failed), bytes(evidence))
        for alias, due, missed, samples, failed, evidence in _PROOFS.all(connection, epoch=epoch)
    ]
