"""Reports of wrong bytes, from the process that saw them to the one that checks."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement
from atoll.core.messages import ReportLiar

REPORTS_WAITING_MAX = 10_000
"""Reports beyond this are dropped: whoever still sees wrong bytes says so again."""

_INSERT = Statement("""
    INSERT INTO report (segment, piece_index, alias, reason, since_ms)
    SELECT :segment, :index, :alias, :reason, :now_ms
    WHERE (SELECT count(*) FROM report) < :limit
    ON CONFLICT (segment, piece_index, alias) DO NOTHING""")
_TAKE = Statement("""
    DELETE FROM report WHERE (segment, piece_index, alias) IN (
        SELECT segment, piece_index, alias FROM report ORDER BY since_ms LIMIT :limit)
    RETURNING segment, piece_index, alias, reason""")


def add_report(connection: Connection, report: ReportLiar, now_ms: int) -> None:
    """Keep a report for the coordinator."""
    _INSERT.run(
        connection,
        segment=report.segment,
        index=report.index,
        alias=report.alias,
        reason=report.reason,
        now_ms=now_ms,
        limit=REPORTS_WAITING_MAX,
    )


def take_reports(connection: Connection, limit: int) -> Sequence[ReportLiar]:
    """Remove and return the oldest reports."""
    return [
        ReportLiar(segment=segment, index=index, alias=alias, reason=reason)
        for segment, index, alias, reason in _TAKE.all(connection, limit=limit)
    ]
