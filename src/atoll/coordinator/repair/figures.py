"""What repair knows about durability: measured churn and healing, schemes, margins, workers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from atoll.coordinator.part import Part
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.repair import store
from atoll.coordinator.repair.rules import Verdict, judge_node, shared_domain
from atoll.coordinator.repair.service import RepairService
from atoll.coordinator.repair.survival import Group
from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.repairs import (
    GetRepairFigures,
    RepairFigures,
    SchemeHold,
    WorkerFigures,
)
from atoll.core.ports import Clock, Database
from atoll.core.scheme import Layout

DAY_MS = 24 * 3_600_000
DAYS_MAX = 365
UNREADABLE = -1
"""In ``SchemeHold.survives``: of these segments fewer than ``k`` pieces are there."""

_HOLDS = Statement("""
    SELECT k, n, unit_bytes, plain_bytes, count(*) FROM segment
    GROUP BY k, n, unit_bytes, plain_bytes""")


class OneMachine(Protocol):
    """The registry, as far as it is asked here."""

    @property
    def one_machine(self) -> bool:
        """Whether all nodes are on this machine."""

    async def fresh(self) -> None:
        """See that what follows is not old."""


class RepairFigureService(Part):
    """Answers ``GetRepairFigures``, in every process."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: OneMachine,
        placement: PlacementService,
        repair: RepairService,
        dead_ms: int,
    ) -> None:
        """``dead_ms`` is that of the registry's timers."""
        self._dead_ms = dead_ms
        self._clock = clock
        self._database = database
        self._registry = registry
        self._placement = placement
        self._repair = repair
        self.handlers = {GetRepairFigures: self.answer}

    async def answer(self, request: GetRepairFigures) -> Message:
        """Return the figures of the last days. Raises ``BAD_REQUEST``."""
        if not 1 <= request.days <= DAYS_MAX:
            raise AtollError(Kind.BAD_REQUEST, "read figures", f"days is 1..{DAYS_MAX}")
        await self._registry.fresh()
        since_ms = self._clock.now_ms() - request.days * DAY_MS
        groups = await self._repair.survey.groups()
        nodes = self._placement.nodes()

        def read(connection: Connection) -> tuple[store.Measured, list[store.Work], list[Any]]:
            return (
                store.measured(connection, since_ms),
                store.all_work(connection),
                list(_HOLDS.all(connection)),
            )

        measured, work, rows = await self._database.read(read)
        alive = [node for node in nodes.values() if node.state is NodeState.ALIVE]
        hours = 3_600_000
        return RepairFigures(
            days=request.days,
            node_days=measured.node_ms / DAY_MS,
            nodes_lost=measured.nodes_lost,
            healed=measured.healed,
            healed_hours_mean=measured.healed_ms / max(1, measured.healed) / hours,
            healed_hours_max=measured.healed_ms_max / hours,
            noticed_hours=self._dead_ms / hours,
            holds=holds_of(groups, nodes, rows),
            workers=[_worker(one) for one in work],
            operators=len({node.operator for node in alive}),
            nodes=len(alive),
            one_machine=self._registry.one_machine,
            frozen=self._repair.frozen,
        )


def holds_of(
    groups: Sequence[Group], nodes: Mapping[int, Candidate], rows: Sequence[Any]
) -> list[SchemeHold]:
    """Return what each scheme holds, and how many losses its segments survive."""
    plain: Counter[tuple[int, int]] = Counter()
    stored: Counter[tuple[int, int]] = Counter()
    for k, n, unit_bytes, plain_bytes, count in rows:
        plain[k, n] += plain_bytes * count
        stored[k, n] += Layout(plain_bytes, k, n, unit_bytes).piece_bytes * n * count
    there = {
        alias: node for alias, node in nodes.items() if judge_node(node).verdict is not Verdict.LOST
    }
    margins: dict[tuple[int, int], Counter[int]] = {}
    shared: Counter[tuple[int, int]] = Counter()
    for group in groups:
        holders = [there[alias] for alias in group.holders if alias in there]
        shape = (group.k, group.n)
        margin = len(holders) - group.k
        margins.setdefault(shape, Counter())[max(UNREADABLE, margin)] += group.segments
        shared[shape] = max(shared[shape], shared_domain(holders))
    return [
        SchemeHold(
            k=k,
            n=n,
            segments=sum(counts.values()),
            plain_bytes=plain[k, n],
            piece_bytes=stored[k, n],
            survives=[[margin, counts[margin]] for margin in sorted(counts)],
            shared_pieces_max=shared[k, n],
        )
        for (k, n), counts in sorted(margins.items())
    ]


def _worker(one: store.Work) -> WorkerFigures:
    return WorkerFigures(
        alias=one.alias,
        tasks=one.tasks,
        failed=one.failed,
        false_claims=one.false_claims,
        pieces=one.pieces,
        downloaded_bytes=one.downloaded_bytes,
        uploaded_bytes=one.uploaded_bytes,
        last_ms=one.last_ms,
    )
