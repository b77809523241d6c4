"""The invariants, apart from the workload: what must hold, looked at with the simulator's eyes.

They read the database and the nodes' disks themselves and trust nobody's report.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.policy.store import policies_of
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import Done, ReportLiar, StoredPiece
from atoll.core.pieces import RecordChecker
from atoll.node.store.log import HEAD_BYTES
from atoll.node.store.model import Row, State
from atoll.sim.agreement import until_sets_are_equal
from atoll.sim.emigrants import abroad
from atoll.sim.growth import lose_more_than_before, until_upgraded
from atoll.sim.mergers import clumps
from atoll.sim.recovering import check_recovery
from atoll.sim.stored import stored_segments
from atoll.sim.workload import Violation

if TYPE_CHECKING:
    from atoll.sim.machines import NodeMachine
    from atoll.sim.world import World

PAUSE_S = 2.0
TELL_AFTER_S = 90.0
"""Longer than a round of scrubbing takes: rot that a node can find, it has found by then."""
READ_TRIES = 3
SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Weakness:
    """What keeps one segment from full strength."""

    segment: bytes
    shape: str
    why: str
    piece: StoredPiece | None = None
    """The piece concerned; None where it is the segment as a whole."""
    node: str = ""

    def __str__(self) -> str:
        place = f" piece {self.piece.index} on {self.node}" if self.piece is not None else ""
        return f"segment {self.segment.hex()[:8]} ({self.shape}){place}: {self.why}"


def weaknesses(world: "World", *, deep: bool = False) -> list[Weakness]:
    """Return what keeps segments from full strength: pieces missing, misplaced or gone.

    ``deep`` reads every record from its disk and holds it against the segment root in the
    database.
    """
    aliases, segments = stored_segments(world)
    machines = {bytes(node.identity.node_id): node for node in world.nodes}
    text = world.database.run(_policy_of(world.bucket.bucket), write=False)
    found: list[Weakness] = []
    for segment in segments:
        name, shape = segment.segment, f"{segment.k}/{segment.n}"
        holders: set[int] = set()
        indexes: set[int] = set()
        keepers: list[NodeMachine] = []
        for piece in segment.pieces:
            node = machines.get(aliases.get(piece.alias, b""))
            why = "no such node" if node is None else _fault_of(node, segment, piece.index, deep)
            if not why and text and node is not None:
                why = abroad(text, node)
            if why:
                where = node.name if node is not None else f"alias {piece.alias}"
                found.append(Weakness(name, shape, why, piece, where))
            else:
                holders.add(piece.alias)
                indexes.add(piece.index)
                assert node is not None
                keepers.append(node)
        if why := world.relays.crowd(keepers, segment.n):
            found.append(Weakness(name, shape, why))
        if keepers and (why := clumps(keepers)):
            found.append(Weakness(name, shape, why))
        if len(indexes) < segment.n:
            found.append(Weakness(name, shape, f"{len(indexes)} good pieces"))
        elif len(holders) < segment.n:
            found.append(Weakness(name, shape, "several pieces on one node"))
    return found


def _policy_of(bucket: bytes) -> Callable[[Connection], str]:
    def read(connection: Connection) -> str:
        versions = policies_of(connection, bucket, 1)
        return versions[0][3] if versions else ""

    return read


def _row_of(node: "NodeMachine", piece: bytes) -> Row | None:
    assert node.service is not None
    return node.service.store.volume.index.get(piece)


def _fault_of(node: "NodeMachine", segment: StoredSegment, index: int, deep: bool) -> str:
    if node.gone:
        return "the node is gone"
    if not node.up:
        return "the node is down"
    if node.service is None or not node.service.store.is_open:
        return "the node is still starting"
    row = _row_of(node, piece_id_of(SegmentId(segment.segment), index))
    if row is None:
        return "the node does not have it"
    if row.state != State.LIVE:
        return f"it is {State(row.state).name} there"
    if deep:
        return _damage_of(node, segment, index, row)
    return ""


def _damage_of(node: "NodeMachine", segment: StoredSegment, index: int, row: Row) -> str:
    """Read a record as it lies on the disk and check it as a stranger would."""
    assert node.service is not None
    volume = node.service.store.volume
    with volume.logs.reading(volume.log_of(row)) as file:
        record = file.read_at(row.offset + HEAD_BYTES, row.body_bytes)
    checker = RecordChecker()
    try:
        checker.feed(record)
        trailer = checker.finish()
    except AtollError as error:
        return f"its record is damaged: {error.message}"
    header = checker.header
    assert header is not None
    if (header.segment_id, header.index) != (segment.segment, index):
        return "another piece lies in its place"
    if trailer.segment_root != segment.root:
        return "its trailer commits to another segment root"
    return ""


def lost_receipts(world: "World", node: "NodeMachine") -> list[str]:
    """Return the pieces that a node acknowledged and does not have any more.

    Where trash is emptied within the run, or a node moved pieces elsewhere (so does one whose disk
    fails), only those count that the database still expects there.
    """
    if not node.up or node.service is None:
        return []
    moved = node.ever_moved or node is world.victim
    partial = bool(world.scenario.short_trash_chance) or moved
    expected = _expected_of(world, node) if partial else None
    lost = []
    for piece in sorted(node.receipts):
        row = _row_of(node, piece)
        state = "absent" if row is None else State(row.state).name
        kept = row is not None and row.state in (State.LIVE, State.TRASH)
        if not kept and (state == "LOST" or expected is None or piece in expected):
            lost.append(f"{node.name} acknowledged piece {piece.hex()[:8]}, now {state}")
    return lost


def _expected_of(world: "World", node: "NodeMachine") -> set[bytes]:
    aliases, segments = stored_segments(world)
    mine = {alias for alias, node_id in aliases.items() if node_id == node.identity.node_id}
    return {
        bytes(piece_id_of(SegmentId(segment.segment), piece.index))
        for segment in segments
        for piece in segment.pieces
        if piece.alias in mine
    }


async def until_all_is_well(world: "World") -> None:
    """Wait for full strength, then read everything. Raises ``Violation``."""
    await _until_whole(world)
    world.trace.note("phase", "whole again")
    for node in world.nodes:
        for lost in lost_receipts(world, node):
            raise Violation(lost)
    if world.scenario.upgrades:
        await until_upgraded(world)
    if world.scenario.equal_sets:
        await until_sets_are_equal(world)
    killed = []
    if world.scenario.upgrades:
        await _until_whole(world)
        killed = await lose_more_than_before(world)
    for key in sorted(world.ledger.keys):
        world.ledger.check_read(key, await _read(world, key), 0, None)
    await asyncio.gather(*(node.start() for node in killed))
    listed = await world.ask_front(world.front.listing(world.bucket))
    world.ledger.check_listing(listed)
    if world.scenario.recoverable:
        await check_recovery(world)


async def _until_whole(world: "World") -> None:
    """Wait for full strength. Raises ``Violation``."""
    until = world.loop.time() + world.scenario.heal_s
    tell = world.loop.time() + TELL_AFTER_S
    while True:
        found = weaknesses(world) or weaknesses(world, deep=True)
        if not found:
            break
        if world.loop.time() > tell:
            await _tell(world, found)
            tell = world.loop.time() + TELL_AFTER_S
        if world.loop.time() > until:
            shown = "; ".join(map(str, found[:SHOWN_MAX]))
            raise Violation(
                f"not at full strength {world.scenario.heal_s:g} s after all faults ended: "
                f"{len(found)} faults: {shown}"
            )
        await asyncio.sleep(PAUSE_S)


async def _tell(world: "World", found: list[Weakness]) -> None:
    """Report what the victim silently lost, as a customer does who comes upon it.

    A disk that lied, or rotted where a record begins, loses pieces without its node's knowledge;
    until nodes must prove what they hold, reading is what finds that. Nobody reports for others:
    a piece that an honest node does not have must have been missed by nobody.
    """
    for weakness in found:
        piece = weakness.piece
        if piece is not None and weakness.node == world.victim.name:
            world.trace.note("report", str(weakness))
            report = ReportLiar(
                segment=weakness.segment, index=piece.index, alias=piece.alias, reason=weakness.why
            )
            await world.ask_gateway(world.gateway.ask(report, Done))


async def _read(world: "World", key: str) -> bytes | None:
    for attempt in range(READ_TRIES):
        try:
            data: bytes = await world.ask_front(world.front.get(world.bucket, key, 0, None))
        except AtollError as error:
            if error.kind is Kind.OBJECT_NOT_FOUND:
                return None
            if attempt == READ_TRIES - 1:
                raise Violation(f"{key} cannot be read with nothing broken: {error}") from error
            await asyncio.sleep(PAUSE_S)
        else:
            return data
    raise AssertionError("the last try returned or raised")
