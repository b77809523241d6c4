"""When so many fail together that it is nobody's own doing. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failing:
    """One vetted node that was looked at."""

    operator: str
    failed: bool


def mass_failure(
    nodes: Sequence[Failing], share: float, operators_min: int
) -> tuple[int, int] | None:
    """Return (operators that failed, operators looked at) if it was a mass failure, else None.

    Operators count, not nodes: one with many nodes must not be able to excuse itself. An operator
    with several nodes failed when one of them did.
    """
    all_operators = {node.operator for node in nodes}
    failed = {node.operator for node in nodes if node.failed}
    if len(failed) < operators_min or len(failed) <= share * len(all_operators):
        return None
    return len(failed), len(all_operators)
