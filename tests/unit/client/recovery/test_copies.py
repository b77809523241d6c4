"""Recovery of what was copied into a wider scheme: named by manifests or not, finished or not."""

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.cluster import MemoryNode
from tests.unit.client.recovery.world import World
from tests.unit.coordinator.placement.test_service import COORDINATOR, SeededRng, Table

from atoll.client import objects as objects_module
from atoll.client.packing.upgrade import Upgrader
from atoll.client.recovery.model import Source
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.upgrade.rules import UpgradeProfile
from atoll.coordinator.upgrade.service import UpgradeService
from atoll.core.identity import Identity
from atoll.core.messages import BucketInfo
from atoll.core.pieces import parse_header

EAGER = UpgradeProfile(
    hold_ms=0,
    age_ms=0,
    small_age_ms=0,
    survey_ms=0,
    grace_ms=60_000,
    bytes_per_hour_max=1 << 40,
    segments_per_hour_max=1_000,
)


class Growing(World):
    """A cloud of six nodes that becomes one of twelve."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, nodes=6)
        clock, cluster = self.cluster.clock, self.cluster
        placement = PlacementService(clock, SeededRng(1), COORDINATOR, Table(12))  # type: ignore[arg-type]
        self.upgrades = UpgradeService(clock, self.database, placement, EAGER)
        self.upgrader = Upgrader(
            self, cluster.keyring, cluster.uploader, cluster.downloader, clock, cluster.rng
        )

    async def ask(self, request: Any, answer: Any) -> Any:
        if type(request) in self.upgrades.handlers:
            return await self.upgrades.handlers[type(request)](request)
        return await super().ask(request, answer)

    async def grow(self) -> tuple[set[bytes], set[bytes]]:
        """Six more providers join, and all is copied; return the segments before and after."""
        before = self.segments()
        for alias in range(7, 13):
            identity = Identity(hashlib.sha256(b"node%d" % alias).digest())
            self.cluster.nodes.append(MemoryNode(alias, identity))
        await self.cluster.clock.sleep(0.005)
        await self.upgrades.survey()
        await self.upgrades.look()
        await self.upgrader.step()
        return before, self.segments() - before

    def drop(self, segments: set[bytes], *, keep: int = 0) -> None:
        """Nodes let go of the pieces of some segments, but for a few."""
        left = dict.fromkeys(segments, keep)
        for node in self.cluster.nodes:
            for piece, raw in list(node.pieces.items()):
                segment = parse_header(raw).segment_id
                if segment in left and left[segment] > 0:
                    left[segment] -= 1
                elif segment in left:
                    del node.pieces[piece]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Growing]:
    monkeypatch.setattr(objects_module, "SEGMENT_PLAIN_BYTES_MAX", 200_000)
    made = Growing(tmp_path)
    yield made
    await made.close()


BODY = random.Random(1).randbytes(500_000)


async def film(world: Growing) -> BucketInfo:
    bucket = await world.make_bucket()
    await world.put(bucket, "film", BODY, user_metadata={"x": "y"})
    return bucket


async def test_manifests_name_the_copies_when_the_old_pieces_are_gone(world: Growing) -> None:
    await film(world)
    await world.writer.flush()
    before, after = await world.grow()
    assert world.upgrader.counts.upgraded == 3
    await world.writer.flush()
    world.drop(before - await manifests_of(world))
    back = await world.recover()
    assert back.bodies == {("photos", "film"): BODY}
    assert back.objects["photos", "film"].source == Source.MANIFEST
    assert {one.segment for one in back.objects["photos", "film"].segments} <= after
    assert back.report.problems_total == 0


async def test_before_the_manifest_is_written_the_old_pieces_are_still_there(
    world: Growing,
) -> None:
    await film(world)
    await world.writer.flush()
    await world.grow()
    back = await world.recover()
    assert back.bodies == {("photos", "film"): BODY}
    assert back.objects["photos", "film"].facts.user_metadata == {"x": "y"}
    assert back.report.problems_total == 0


async def test_without_manifests_capsules_of_copies_make_the_object_whole(world: Growing) -> None:
    await film(world)
    before, _ = await world.grow()
    world.drop(before)
    back = await world.recover()
    assert list(back.bodies.values()) == [BODY]


async def test_copies_and_originals_mixed_are_one_object(world: Growing) -> None:
    bucket = await film(world)
    found = await world.metadata.read(bucket.bucket, "film")
    await world.grow()
    world.drop({found.segments[0].segment, found.segments[2].segment})
    copies = (await world.metadata.read(bucket.bucket, "film")).segments
    world.drop({copies[1].segment})
    back = await world.recover()
    assert list(back.bodies.values()) == [BODY]


async def test_a_copy_that_was_never_finished_does_not_hide_the_original(world: Growing) -> None:
    bucket = await film(world)
    for number in range(4):
        await world.put(bucket, f"film{number}", BODY)
    _, after = await world.grow()
    world.drop(after, keep=3)
    back = await world.recover()
    assert list(back.bodies.values()) == [BODY] * 5


async def manifests_of(world: Growing) -> set[bytes]:
    """Return the segments of a bucket's manifests and of the catalogue."""
    rows = await world.database.read(
        lambda c: c.exec_driver_sql("SELECT stream FROM manifest").all()
    )
    return {bytes(row[0]) for row in rows}
