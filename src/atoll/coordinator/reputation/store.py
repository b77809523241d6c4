"""The SQL of reputation. Functions take a connection and run in the caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.reputation.model import (
    Axis,
    Event,
    Judgement,
    Record,
    SampleNote,
    Score,
    Speed,
    Standing,
    Windows,
)
from atoll.coordinator.reputation.rules import judgement_of
from atoll.coordinator.sql import Statement
from atoll.core.messages.reputation import MassFailure

EVENTS_KEPT_MAX = 200
SAMPLES_KEPT_MAX = 1000
FORGIVEN_KEPT_MAX = 10_000
MASS_KEPT_MAX = 100
REPORTS_WAITING_MAX = 10_000
"""Reports beyond this are dropped: gateways go on measuring."""
CHANGED_MARGIN_MS = 5_000
"""How far back a refresh looks beyond the last one: commits take time, clocks differ a little."""

_SAVE = Statement("""
    INSERT INTO reputation (alias, node_id, standing, since_ms, forfeit, vetted, success_ppm,
        latency_us, facts, changed_ms)
    VALUES (:alias, :node_id, :standing, :since_ms, :forfeit, :vetted, :success_ppm, :latency_us,
        :facts, :now_ms)
    ON CONFLICT (alias) DO UPDATE SET standing = excluded.standing, since_ms = excluded.since_ms,
        forfeit = excluded.forfeit, vetted = excluded.vetted, success_ppm = excluded.success_ppm,
        latency_us = excluded.latency_us, facts = excluded.facts, changed_ms = excluded.changed_ms
    WHERE reputation.standing <> 'disqualified'""")
_SHORT = "alias, standing, since_ms, forfeit, vetted, success_ppm, latency_us"
_CHANGED = Statement(
    "SELECT {columns} FROM reputation WHERE changed_ms >= :since_ms ORDER BY alias", columns=_SHORT
)
_ALL = Statement("SELECT alias, node_id, facts FROM reputation ORDER BY alias")
_ONE = Statement("SELECT alias, node_id, facts FROM reputation WHERE alias = :alias")
_PAGE = Statement(
    "SELECT alias, node_id, facts FROM reputation WHERE alias > :after ORDER BY alias LIMIT :limit"
)
_EVENT = Statement("""
    INSERT INTO reputation_event (alias, at_ms, kind, axis, facts)
    VALUES (:alias, :at_ms, :kind, :axis, :facts)
    ON CONFLICT (alias, at_ms, kind, axis) DO UPDATE SET facts = excluded.facts""")
_EVENTS = Statement(
    "SELECT facts FROM reputation_event WHERE alias = :alias ORDER BY at_ms DESC, kind LIMIT :limit"
)
_FORGET_EVENTS = Statement("""
    DELETE FROM reputation_event WHERE alias = :alias AND at_ms < (
        SELECT at_ms FROM reputation_event WHERE alias = :alias
        ORDER BY at_ms DESC LIMIT 1 OFFSET :keep)""")
_SAMPLE = Statement("""
    INSERT INTO reputation_sample (alias, axis, slot, piece, at_ms, facts)
    VALUES (:alias, :axis, :slot, :piece, :at_ms, :facts)
    ON CONFLICT (alias, axis, slot, piece) DO UPDATE SET facts = excluded.facts""")
_SAMPLES = Statement(
    "SELECT facts FROM reputation_sample WHERE alias = :alias ORDER BY at_ms DESC LIMIT :limit"
)
_FORGET_SAMPLES = Statement("""
    DELETE FROM reputation_sample WHERE alias = :alias AND at_ms < (
        SELECT at_ms FROM reputation_sample WHERE alias = :alias
        ORDER BY at_ms DESC LIMIT 1 OFFSET :keep)""")
_FORGIVE = Statement("""
    INSERT INTO reputation_forgiven (alias, piece, at_ms) VALUES (:alias, :piece, :at_ms)
    ON CONFLICT (alias, piece) DO NOTHING""")
_FORGIVEN = Statement("SELECT alias, piece, at_ms FROM reputation_forgiven ORDER BY at_ms")
_FORGET_FORGIVEN = Statement("""
    DELETE FROM reputation_forgiven WHERE alias = :alias AND at_ms < (
        SELECT at_ms FROM reputation_forgiven WHERE alias = :alias
        ORDER BY at_ms DESC LIMIT 1 OFFSET :keep)""")
_MASS = Statement("""
    INSERT INTO reputation_mass (axis, number, at_ms, operators_failed, operators, reason)
    VALUES (:axis, :number, :at_ms, :operators_failed, :operators, :reason)
    ON CONFLICT (axis, number) DO NOTHING""")
_MASSES = Statement("""
    SELECT axis, number, at_ms, operators_failed, operators, reason FROM reputation_mass
    ORDER BY at_ms DESC LIMIT :limit""")
_FORGET_MASSES = Statement("""
    DELETE FROM reputation_mass WHERE at_ms < (
        SELECT at_ms FROM reputation_mass ORDER BY at_ms DESC LIMIT 1 OFFSET :keep)""")
_REPORT = Statement("""
    INSERT INTO reputation_report (body, since_ms) SELECT :body, :now_ms
    WHERE (SELECT count(*) FROM reputation_report) < :limit""")
_WAITING = Statement("SELECT serial FROM reputation_report LIMIT 1")
_TAKE = Statement("""
    DELETE FROM reputation_report WHERE serial IN (
        SELECT serial FROM reputation_report ORDER BY serial LIMIT :limit)
    RETURNING serial, body""")


class _Facts(msgspec.Struct, frozen=True, array_like=True):
    """What only judges need of a record, as its row holds it."""

    registered_ms: int
    standing: Standing
    since_ms: int
    vetted_ms: int
    clean_ms: int
    cause: Axis
    deadline_ms: int
    overdue: bool
    possession: Score
    answers: Score
    retrieval: Score
    capacity: Score
    window: int
    counted: bytes
    online: bytes
    seen: int
    here: int
    speeds: tuple[Speed, ...]
    levels: tuple[tuple[str, str], ...]
    amnesties: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Facts)
_EVENT_DECODER = msgspec.msgpack.Decoder(Event)
_NOTE_DECODER = msgspec.msgpack.Decoder(SampleNote)
_WINDOW_BYTES = 90


def _encoded(record: Record) -> bytes:
    windows = record.windows
    return _ENCODER.encode(
        _Facts(
            registered_ms=record.registered_ms,
            standing=record.standing,
            since_ms=record.since_ms,
            vetted_ms=record.vetted_ms,
            clean_ms=record.clean_ms,
            cause=record.cause,
            deadline_ms=record.deadline_ms,
            overdue=record.overdue,
            possession=record.possession,
            answers=record.answers,
            retrieval=record.retrieval,
            capacity=record.capacity,
            window=windows.current,
            counted=windows.counted.to_bytes(_WINDOW_BYTES, "little"),
            online=windows.online.to_bytes(_WINDOW_BYTES, "little"),
            seen=windows.seen,
            here=windows.here,
            speeds=record.speeds,
            levels=record.levels,
            amnesties=record.amnesties,
        )
    )


def _record(row: Any) -> Record:
    facts = _DECODER.decode(row[2])
    return Record(
        alias=row[0],
        node_id=row[1],
        registered_ms=facts.registered_ms,
        standing=facts.standing,
        since_ms=facts.since_ms,
        vetted_ms=facts.vetted_ms,
        clean_ms=facts.clean_ms,
        cause=facts.cause,
        deadline_ms=facts.deadline_ms,
        overdue=facts.overdue,
        possession=facts.possession,
        answers=facts.answers,
        retrieval=facts.retrieval,
        capacity=facts.capacity,
        windows=Windows(
            facts.window,
            int.from_bytes(facts.counted, "little"),
            int.from_bytes(facts.online, "little"),
            facts.seen,
            facts.here,
        ),
        speeds=facts.speeds,
        levels=facts.levels,
        amnesties=facts.amnesties,
    )


@dataclass(frozen=True, slots=True)
class Changes:
    """What one flush writes."""

    records: Sequence[Record] = ()
    events: Sequence[Event] = ()
    notes: Sequence[SampleNote] = ()
    forgiven: Sequence[tuple[int, bytes, int]] = ()
    """Alias, piece, time."""
    masses: Sequence[MassFailure] = ()


def save(connection: Connection, changes: Changes, now_ms: int) -> None:
    """Write what changed. A disqualification, once written, is never overwritten."""
    _SAVE.many(connection, [_row(record, now_ms) for record in changes.records])
    _EVENT.many(
        connection,
        [
            {
                "alias": event.alias,
                "at_ms": event.at_ms,
                "kind": event.kind,
                "axis": event.axis.value,
                "facts": _ENCODER.encode(event),
            }
            for event in changes.events
        ],
    )
    _SAMPLE.many(
        connection,
        [
            {
                "alias": note.alias,
                "axis": note.axis.value,
                "slot": note.slot,
                "piece": note.piece,
                "at_ms": note.at_ms,
                "facts": _ENCODER.encode(note),
            }
            for note in changes.notes
        ],
    )
    _FORGIVE.many(
        connection,
        [{"alias": alias, "piece": piece, "at_ms": at} for alias, piece, at in changes.forgiven],
    )
    _MASS.many(connection, [_mass_row(mass) for mass in changes.masses])
    _bound(connection, changes)


def _row(record: Record, now_ms: int) -> dict[str, Any]:
    judgement = judgement_of(record)
    return {
        "alias": record.alias,
        "node_id": record.node_id,
        "standing": record.standing.value,
        "since_ms": record.since_ms,
        "forfeit": int(judgement.forfeit),
        "vetted": int(judgement.vetted),
        "success_ppm": round(judgement.success * 1e6),
        "latency_us": round(judgement.latency_ms * 1e3),
        "facts": _encoded(record),
        "now_ms": now_ms,
    }


def _mass_row(mass: MassFailure) -> dict[str, Any]:
    return {
        "axis": mass.axis,
        "number": mass.number,
        "at_ms": mass.at_ms,
        "operators_failed": mass.operators_failed,
        "operators": mass.operators,
        "reason": mass.reason,
    }


def _bound(connection: Connection, changes: Changes) -> None:
    """Keep every history bounded."""
    for alias in sorted({event.alias for event in changes.events}):
        _FORGET_EVENTS.run(connection, alias=alias, keep=EVENTS_KEPT_MAX - 1)
    for alias in sorted({note.alias for note in changes.notes}):
        _FORGET_SAMPLES.run(connection, alias=alias, keep=SAMPLES_KEPT_MAX - 1)
    for alias in sorted({entry[0] for entry in changes.forgiven}):
        _FORGET_FORGIVEN.run(connection, alias=alias, keep=FORGIVEN_KEPT_MAX - 1)
    if changes.masses:
        _FORGET_MASSES.run(connection, keep=MASS_KEPT_MAX - 1)


def all_records(connection: Connection) -> list[Record]:
    """Return every record, by alias."""
    return [_record(row) for row in _ALL.all(connection)]


def read_record(connection: Connection, alias: int) -> Record | None:
    """Return one node's record; None for an unknown one."""
    row = _ONE.first(connection, alias=alias)
    return None if row is None else _record(row)


def page_of_records(connection: Connection, after: int, limit: int) -> list[Record]:
    """Return records by alias, above ``after``."""
    return [_record(row) for row in _PAGE.all(connection, after=after, limit=limit)]


def changed_judgements(connection: Connection, since_ms: int) -> list[Judgement]:
    """Return what changed since shortly before a time, by alias."""
    return [
        Judgement(
            alias=alias,
            standing=Standing(standing),
            since_ms=since,
            forfeit=bool(forfeit),
            vetted=bool(vetted),
            success=success / 1e6,
            latency_ms=latency / 1e3,
        )
        for alias, standing, since, forfeit, vetted, success, latency in _CHANGED.all(
            connection, since_ms=since_ms - CHANGED_MARGIN_MS
        )
    ]


def events_of(connection: Connection, alias: int) -> list[Event]:
    """Return a node's history, latest first."""
    rows = _EVENTS.all(connection, alias=alias, limit=EVENTS_KEPT_MAX)
    return [_EVENT_DECODER.decode(row[0]) for row in rows]


def notes_of(connection: Connection, alias: int) -> list[SampleNote]:
    """Return a node's failed samples, latest first."""
    rows = _SAMPLES.all(connection, alias=alias, limit=SAMPLES_KEPT_MAX)
    return [_NOTE_DECODER.decode(row[0]) for row in rows]


def all_forgiven(connection: Connection) -> Iterable[tuple[int, bytes, int]]:
    """Return alias, piece and time of self-reported losses, oldest first."""
    return [(row[0], row[1], row[2]) for row in _FORGIVEN.all(connection)]


def masses(connection: Connection) -> list[MassFailure]:
    """Return the mass failures, latest first."""
    return [
        MassFailure(
            axis=axis,
            number=number,
            at_ms=at_ms,
            operators_failed=failed,
            operators=operators,
            reason=reason,
        )
        for axis, number, at_ms, failed, operators, reason in _MASSES.all(
            connection, limit=MASS_KEPT_MAX
        )
    ]


def add_report(connection: Connection, body: bytes, now_ms: int) -> None:
    """Keep a gateway's report for the process that judges."""
    _REPORT.run(connection, body=body, now_ms=now_ms, limit=REPORTS_WAITING_MAX)


def reports_wait(connection: Connection) -> bool:
    """Say whether a report waits: looking costs less than an empty transaction."""
    return _WAITING.first(connection) is not None


def take_reports(connection: Connection, limit: int) -> list[bytes]:
    """Remove and return the oldest reports."""
    rows = sorted((row[0], row[1]) for row in _TAKE.all(connection, limit=limit))
    return [body for _, body in rows]
