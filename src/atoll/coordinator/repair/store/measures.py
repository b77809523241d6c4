"""The SQL of what repair measures: nodes lost for good, node time, how long segments waited."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement

DAY_MS = 24 * 3_600_000
GAP_MS_MAX = 15 * 60_000
"""Time in which nobody looked counts up to this much."""
DAYS_KEPT = 400

_ADD = Statement("""
    INSERT INTO repair_day (day, node_ms, nodes_lost, healed, healed_ms, healed_ms_max)
    VALUES (:day, :node_ms, :nodes_lost, :healed, :healed_ms, :healed_ms_max)
    ON CONFLICT (day) DO UPDATE SET
        node_ms = repair_day.node_ms + excluded.node_ms,
        nodes_lost = repair_day.nodes_lost + excluded.nodes_lost,
        healed = repair_day.healed + excluded.healed,
        healed_ms = repair_day.healed_ms + excluded.healed_ms,
        healed_ms_max = CASE WHEN repair_day.healed_ms_max > excluded.healed_ms_max
            THEN repair_day.healed_ms_max ELSE excluded.healed_ms_max END""")
_FORGET = Statement("DELETE FROM repair_day WHERE day < :day")
_SUM = Statement("""
    SELECT coalesce(sum(node_ms), 0), coalesce(sum(nodes_lost), 0), coalesce(sum(healed), 0),
        coalesce(sum(healed_ms), 0), coalesce(max(healed_ms_max), 0)
    FROM repair_day WHERE day >= :day""")
_MEASURED = Statement("SELECT measured_ms FROM repair_round WHERE id = 1 FOR UPDATE")
_MEASURE = Statement("""
    INSERT INTO repair_round (id, began_ms, ended_ms, segments, measured_ms)
    VALUES (1, 0, 0, 0, :now_ms)
    ON CONFLICT (id) DO UPDATE SET measured_ms = excluded.measured_ms""")


@dataclass(frozen=True, slots=True)
class Measured:
    """Sums over some days."""

    node_ms: int
    """Time of nodes that were not lost."""
    nodes_lost: int
    healed: int
    """Segments taken off the repair queue whole."""
    healed_ms: int
    """How long those were on it, together."""
    healed_ms_max: int


def measure(connection: Connection, now_ms: int, present: int, lost_since_ms: list[int]) -> None:
    """Add the time since anybody measured last, and the nodes that were lost in it.

    ``present`` nodes are not lost now; ``lost_since_ms`` says since when each of the others is.
    Any number of coordinators may call this: what one has counted the next does not count again.
    """
    before_ms = _MEASURED.scalar(connection) or 0
    if before_ms >= now_ms:
        return
    _MEASURE.run(connection, now_ms=now_ms)
    if not before_ms:
        return
    passed_ms = min(GAP_MS_MAX, now_ms - before_ms)
    lost = sum(before_ms < since_ms <= now_ms for since_ms in lost_since_ms)
    _add(connection, now_ms, node_ms=passed_ms * present, nodes_lost=lost)
    _FORGET.run(connection, day=now_ms // DAY_MS - DAYS_KEPT)


def note_healed(connection: Connection, now_ms: int, waited_ms: int) -> None:
    """Count a segment that is whole again."""
    _add(connection, now_ms, healed=1, healed_ms=waited_ms, healed_ms_max=waited_ms)


def measured(connection: Connection, since_ms: int) -> Measured:
    """Return the sums of the days from the one of ``since_ms``."""
    row = _SUM.first(connection, day=since_ms // DAY_MS)
    assert row is not None
    return Measured(*(int(value) for value in row))


def _add(
    connection: Connection,
    now_ms: int,
    *,
    node_ms: int = 0,
    nodes_lost: int = 0,
    healed: int = 0,
    healed_ms: int = 0,
    healed_ms_max: int = 0,
) -> None:
    _ADD.run(
        connection,
        day=now_ms // DAY_MS,
        node_ms=node_ms,
        nodes_lost=nodes_lost,
        healed=healed,
        healed_ms=healed_ms,
        healed_ms_max=healed_ms_max,
    )
