"""Decisions of the audit: how many samples are due, when a follow-up ends. Pure."""

from atoll.coordinator.audit.model import ProofTimes
from atoll.coordinator.reputation.axes import tested
from atoll.coordinator.reputation.model import Score, SequentialTest

FOLLOW_UP = SequentialTest(honest=0.001, faulty=0.01)
"""Decides when the additional samples after a failed one end: the test of the reputation."""


def samples_due(suspicion: Score | None, times: ProofTimes) -> int:
    """Return how many samples a node owes in a slot."""
    return times.samples + (times.samples_more if suspicion is not None else 0)


def followed(suspicion: Score | None, passed: int, failed: int, now_ms: int) -> Score | None:
    """Return the follow-up after a slot's samples: a failure begins one, the test ends it."""
    if suspicion is None and not failed:
        return None
    score = tested(suspicion or Score(), FOLLOW_UP, passed, failed, now_ms)
    return score if FOLLOW_UP.clean < score.score < FOLLOW_UP.out else None
