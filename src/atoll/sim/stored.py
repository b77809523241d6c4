"""What a world's database says is stored, read by the simulator itself."""

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import segments_after
from atoll.coordinator.registry.store import all_nodes

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.world import World

PAGE_SEGMENTS = 500


def stored_segments(world: "World") -> tuple[dict[int, bytes], list[StoredSegment]]:
    """Return node ids by alias and all committed segments, from the database itself."""
    return world.database.run(_read_all, write=False)


def _read_all(connection: Connection) -> tuple[dict[int, bytes], list[StoredSegment]]:
    segments: list[StoredSegment] = []
    while True:
        after = segments[-1].serial if segments else 0
        page = segments_after(connection, after, PAGE_SEGMENTS)
        segments += page
        if len(page) < PAGE_SEGMENTS:
            return {view.alias: view.node_id for view in all_nodes(connection)}, segments


def spare_pieces(world: "World", victim: "NodeMachine") -> bool:
    """Say whether every committed segment could still be read without this node."""
    aliases, segments = stored_segments(world)
    there = {bytes(n.identity.node_id) for n in world.nodes if n.up and not n.gone and n != victim}
    left = Counter(
        segment.segment
        for segment in segments
        for piece in segment.pieces
        if aliases.get(piece.alias, b"") in there
    )
    return all(left[segment.segment] >= segment.k for segment in segments)
