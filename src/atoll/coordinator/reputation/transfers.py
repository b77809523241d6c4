"""What gateways say of nodes, and how far it is believed.

A gateway that shares our database is our own. Another one is a customer's: he may be at odds with a
provider, or own one. His complaints count only when a second, independent reporter has the same;
his praise counts in small portions. Silence (no answer) may be the line's fault: it counts only
when two reporters meet it while the node is heard by the coordinator.
"""

from collections import OrderedDict
from math import isfinite

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.reputation import ReportTransfers, TransferSum

NODES_PER_REPORT_MAX = 10_000
REGION_CHARACTERS_MAX = 64
COUNT_MAX = 1_000_000
TIME_MS_MAX = 3_600_000.0
RATE_MAX = 1e12
STRANGER_READS_MAX = 50
"""Successful reads believed of one report of a stranger."""
STRANGER_FAILURES_MAX = 10
"""Failures counted of one report, whoever sends it: none decides alone in one stroke."""
COMPLAINT_S = 600.0
"""How long a complaint waits for a second one."""
COMPLAINTS_KEPT_MAX = 100_000
REPORTERS_PER_NODE_MAX = 8


def checked_report(report: ReportTransfers) -> None:
    """Raise ``BAD_REQUEST`` for a report that cannot be."""
    if len(report.nodes) > NODES_PER_REPORT_MAX:
        raise _bad(f"a report tells of at most {NODES_PER_REPORT_MAX} nodes")
    if len(report.region) > REGION_CHARACTERS_MAX or not report.region.isprintable():
        raise _bad("no region has such a name")
    if len({node.alias for node in report.nodes}) != len(report.nodes):
        raise _bad("a node is told of twice")
    for node in report.nodes:
        counts = (node.reads, node.refused, node.silent, node.puts, node.full)
        if any(not 0 <= count <= COUNT_MAX for count in counts):
            raise _bad("a count is out of range")
        times = (node.p50_ms, node.p95_ms)
        if any(not isfinite(t) or not 0 <= t <= TIME_MS_MAX for t in times):
            raise _bad("a time is out of range")
        if not isfinite(node.bytes_per_s) or not 0 <= node.bytes_per_s <= RATE_MAX:
            raise _bad("a rate is out of range")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "report transfers", message)


class Complaints:
    """Who complained of which node lately."""

    def __init__(self) -> None:
        self._by_node: OrderedDict[int, OrderedDict[bytes, float]] = OrderedDict()

    def counted(self, node: TransferSum, reporter: bytes, now: float, *, alive: bool) -> int:
        """Return how many failures of a report count. ``now`` is monotonic, in seconds."""
        if not node.refused and not node.silent:
            return 0
        shared = self._note(node.alias, reporter, now) >= 2
        refused = node.refused if shared or not reporter else 0
        silent = node.silent if shared and alive else 0
        return min(refused + silent, STRANGER_FAILURES_MAX)

    @staticmethod
    def believed(reads: int, reporter: bytes) -> int:
        """Return how many successful reads of a report count."""
        return min(reads, STRANGER_READS_MAX) if reporter else reads

    def _note(self, alias: int, reporter: bytes, now: float) -> int:
        """Note a complaint; return how many reporters have complained lately."""
        known = self._by_node.setdefault(alias, OrderedDict())
        self._by_node.move_to_end(alias)
        known[reporter] = now
        known.move_to_end(reporter)
        while known and now - next(iter(known.values())) > COMPLAINT_S:
            known.popitem(last=False)
        while len(known) > REPORTERS_PER_NODE_MAX:
            known.popitem(last=False)
        while len(self._by_node) > COMPLAINTS_KEPT_MAX:
            self._by_node.popitem(last=False)
        return len(known)
