"""What a worker has learnt about the nodes it talks to: who answers soon, who fails."""

from collections import OrderedDict

from atoll.client.transfer.hedges import HedgeBudget
from atoll.client.transfer.report import TransferReport

NODES_MAX = 10_000
LATENCY_S_UNKNOWN = 0.010
"""Assumed for a node never asked before: curiosity, but behind proven fast ones."""
LATENCY_DEVIATION_S_UNKNOWN = 0.050
SMOOTHING = 0.125
DEVIATION_SMOOTHING = 0.25
FAILURE_S = 5.0
"""A failure counts like so many seconds of latency and is forgotten by later successes."""
HEDGE_S_MIN = 0.050
HEDGE_S_MAX = 2.0


def _smoothed(known: tuple[float, float], latency_s: float) -> tuple[float, float]:
    mean, deviation = known
    error = latency_s - mean
    return (
        mean + SMOOTHING * error,
        deviation + DEVIATION_SMOOTHING * (abs(error) - deviation),
    )


class NodeStats:
    """Smoothed answer times per node (alias), shared by all transfers of a worker.

    Mean and mean deviation are smoothed as TCP does for its retransmission timer; mean + 4
    deviations stands in for the 95th percentile and above.
    """

    def __init__(self, report: TransferReport | None = None) -> None:
        """``report`` tells the coordinator what reads meet; None tells nobody."""
        self.report = report
        self._nodes: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self.hedges = HedgeBudget()
        self._all = (LATENCY_S_UNKNOWN, LATENCY_DEVIATION_S_UNKNOWN)

    def answered(self, alias: int, latency_s: float) -> None:
        """Note that a node answered a read, and after how long."""
        known = self._nodes.get(alias)
        self._note(alias, *(_smoothed(known, latency_s) if known else (latency_s, latency_s / 2)))
        self._all = _smoothed(self._all, latency_s)

    def failed(self, alias: int) -> None:
        """Note that a node failed to answer or answered wrongly."""
        mean, deviation = self._nodes.get(alias, (LATENCY_S_UNKNOWN, LATENCY_S_UNKNOWN))
        self._note(alias, max(mean, FAILURE_S), deviation)

    def expected_s(self, alias: int) -> float:
        """Return the answer time to expect of a node."""
        known = self._nodes.get(alias)
        return LATENCY_S_UNKNOWN if known is None else known[0]

    def hedge_after_s(self, alias: int) -> float:
        """Return after which time an answer counts as late."""
        known = self._nodes.get(alias, self._all)
        return min(max(known[0] + 4 * known[1], HEDGE_S_MIN), HEDGE_S_MAX)

    def _note(self, alias: int, mean_s: float, deviation_s: float) -> None:
        self._nodes[alias] = (mean_s, deviation_s)
        if len(self._nodes) > NODES_MAX:
            self._nodes.popitem(last=False)
