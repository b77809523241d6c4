"""The SQL of payouts: days of earnings. Orders and terms: ``orders``."""

from collections.abc import Iterable, Mapping

from sqlalchemy.engine import Connection

from atoll.coordinator.payouts.model import DaySums
from atoll.coordinator.sql import Statement

_COLUMNS = (
    "earned_pico, repair_pico, top_up_pico, slashed_pico, held_pico, credited_pico, released_pico"
)
_NAMES = _COLUMNS.split(", ")
_ADD = Statement("""
    INSERT INTO earning_day (node, day, earned_pico, repair_pico, top_up_pico, slashed_pico,
        held_pico, credited_pico, released_pico)
    VALUES (:node, :day, :earned_pico, :repair_pico, :top_up_pico, :slashed_pico, :held_pico,
        :credited_pico, :released_pico)
    ON CONFLICT (node, day) DO UPDATE SET
        earned_pico = earning_day.earned_pico + excluded.earned_pico,
        repair_pico = earning_day.repair_pico + excluded.repair_pico,
        top_up_pico = earning_day.top_up_pico + excluded.top_up_pico,
        slashed_pico = earning_day.slashed_pico + excluded.slashed_pico,
        held_pico = earning_day.held_pico + excluded.held_pico,
        credited_pico = earning_day.credited_pico + excluded.credited_pico,
        released_pico = earning_day.released_pico + excluded.released_pico""")
_DAYS = Statement(
    """SELECT day, {columns} FROM earning_day WHERE node = :node AND day >= :first
    ORDER BY day""",
    columns=_COLUMNS,
)
_SUMS = Statement("""
    SELECT node, SUM(earned_pico), SUM(repair_pico), SUM(top_up_pico), SUM(slashed_pico),
        SUM(held_pico), SUM(credited_pico), SUM(released_pico)
    FROM earning_day GROUP BY node""")


def add_days(connection: Connection, day: int, sums: Mapping[bytes, DaySums]) -> None:
    """Add what an epoch brought nodes to the day on which it ended."""
    _ADD.many(
        connection,
        [
            {"node": node, "day": day, **{name: getattr(one, name) for name in _NAMES}}
            for node, one in sums.items()
        ],
    )


def days_of(connection: Connection, node: bytes, first: int) -> list[tuple[int, DaySums]]:
    """Return a node's days from ``first`` (days since 1970) on, oldest first."""
    rows = _DAYS.all(connection, node=node, first=first)
    return [(int(day), _sums(figures)) for day, *figures in rows]


def all_sums(connection: Connection) -> dict[bytes, DaySums]:
    """Return what all days brought each node."""
    return {bytes(node): _sums(figures) for node, *figures in _SUMS.all(connection)}


def _sums(figures: Iterable[int]) -> DaySums:
    return DaySums(*(int(one) for one in figures))
