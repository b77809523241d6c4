"""The SQL of the market; in the caller's transaction."""

from sqlalchemy.engine import Connection

from atoll.coordinator.market.model import ClassState
from atoll.coordinator.sql import Statement

_ALL = Statement("""
    SELECT tier, reference_pico, multiplier_bps, moved_ms FROM market_class ORDER BY tier""")
_PUT = Statement("""
    INSERT INTO market_class (tier, reference_pico, multiplier_bps, moved_ms)
    VALUES (:tier, :reference_pico, :multiplier_bps, :moved_ms)
    ON CONFLICT (tier) DO UPDATE SET reference_pico = excluded.reference_pico,
        multiplier_bps = excluded.multiplier_bps, moved_ms = excluded.moved_ms
    WHERE market_class.moved_ms = :before_ms""")


def all_classes(connection: Connection) -> dict[str, ClassState]:
    """Return what is remembered of the classes, by tier."""
    return {row[0]: ClassState(*row) for row in _ALL.all(connection)}


def put(connection: Connection, state: ClassState, before_ms: int) -> bool:
    """Write a class that was last moved at ``before_ms``; False where another was faster."""
    return bool(
        _PUT.run(
            connection,
            tier=state.tier,
            reference_pico=state.reference_pico,
            multiplier_bps=state.multiplier_bps,
            moved_ms=state.moved_ms,
            before_ms=before_ms,
        )
    )
