"""Claims about the figures that durability is computed from."""

from dataclasses import replace

import pytest
from tests.unit.coordinator.repair.test_rules import DEAD, node
from tests.unit.coordinator.repair.world import Cloud

from atoll.coordinator.placement.model import Standing
from atoll.coordinator.repair.figures import RepairFigureService, holds_of
from atoll.coordinator.repair.survival import Group
from atoll.core.errors import AtollError
from atoll.core.messages.repairs import GetRepairFigures, RepairFigures
from atoll.core.scheme import RS_4_8, layout_for


def test_segments_are_counted_by_the_losses_they_survive() -> None:
    nodes = {alias: node(alias) for alias in range(1, 13)}
    nodes[1] = replace(nodes[1], state=DEAD)
    nodes[2] = replace(nodes[2], standing=Standing.DISQUALIFIED)
    nodes[9] = replace(nodes[9], site=nodes[10].site)
    groups = [
        Group(4, 8, tuple(range(1, 9)), segments=3),
        Group(4, 8, tuple(range(5, 13)), segments=5),
        Group(2, 4, (1, 2, 3, 90), segments=2),
    ]
    layout = layout_for(1000, RS_4_8)
    holds = holds_of(groups, nodes, [(4, 8, layout.unit_bytes, 1000, 8)])
    small, wide = holds
    assert small.survives == [[-1, 2]], "unreadable until a node returns"
    assert wide.survives == [[2, 3], [4, 5]]
    assert (small.shared_pieces_max, wide.shared_pieces_max) == (1, 2)
    assert wide.plain_bytes == 8000
    assert wide.piece_bytes == 8 * 8 * layout.piece_bytes


def test_a_cloud_says_what_it_has_measured() -> None:
    cloud = Cloud("figures")

    class Registry:
        one_machine = True

        async def fresh(self) -> None:
            return None

    async def main() -> None:
        coordinator = cloud.coordinator()
        service = RepairFigureService(
            coordinator.repair._clock,
            coordinator.database,
            Registry(),
            coordinator.placement,
            coordinator.repair,
            10_000,
        )
        await cloud.upload(100_000)
        await coordinator.incarnation.start(coordinator.repair.start())
        cloud.kill_node(cloud.segments()[0].pieces[0].alias)
        await cloud.until(lambda: cloud.at_full_strength() and not cloud.queued())
        answer = await coordinator.incarnation.start(service.answer(GetRepairFigures(days=1)))
        assert isinstance(answer, RepairFigures)
        assert answer.healed == 1
        assert answer.one_machine
        assert (answer.nodes, answer.operators) == (11, 11)
        assert [(hold.k, hold.n, hold.survives) for hold in answer.holds] == [(4, 8, [[4, 1]])]
        with pytest.raises(AtollError):
            await coordinator.incarnation.start(service.answer(GetRepairFigures(days=0)))

    try:
        cloud.main(main)
    finally:
        cloud.close()
