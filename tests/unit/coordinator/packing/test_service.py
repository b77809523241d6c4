"""Packs in the metadata: leased, swapped, withered, written anew; on both databases."""

import os

import pytest
from tests.unit.coordinator.metadata.world import Metadata, tiny

from atoll.coordinator.metadata.store import manifests
from atoll.coordinator.packing.rules import PackingProfile
from atoll.coordinator.packing.service import PackingService
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import SegmentRecord, StoredPiece
from atoll.core.messages.packing import CommitPack, LeasePack, PackedItem, PackItem, PackWork
from atoll.core.packing import PackedLayout
from atoll.core.scheme import RS_4_8, unit_bytes_for
from atoll.runtime.database import SqlDatabase

HOUR_MS = 3_600_000
PROFILE = PackingProfile(age_ms=HOUR_MS, bytes_min=2_000, pass_ms=1_000)
WORKER, OTHER_WORKER = b"w" * 16, b"o" * 16


class Packing:
    """The metadata with a packing service, and a worker's usual way through it."""

    def __init__(self, database: SqlDatabase) -> None:
        self.metadata = Metadata(database)
        self.service = PackingService(self.metadata.clock, database, PROFILE)

    async def lease(self, worker: bytes = WORKER) -> PackWork:
        return await self.service.lease(LeasePack(worker=worker))

    async def commit(self, work: PackWork, items: list[PackItem] | None = None) -> SegmentRecord:
        assert work.bucket is not None
        request = pack_of(work.bucket.bucket, work.items if items is None else items)
        self.moved = (await self.service.commit(request)).moved
        self.request = request
        return request.pack


def pack_of(bucket: bytes, items: list[PackItem]) -> CommitPack:
    """What a gateway says when it has written these items into a pack."""
    placed, offset = [], 0
    for item in items:
        segment = item.segment
        old = segment.packed
        placed.append(
            PackedItem(
                segment=segment.segment,
                from_pack=b"" if old is None else old.segment,
                offset=offset,
            )
        )
        offset += PackedLayout(segment.plain_bytes, segment.unit_bytes).stored_bytes
    pack = SegmentRecord(
        segment=os.urandom(16),
        plain_bytes=offset,
        k=RS_4_8.k,
        n=RS_4_8.n,
        unit_bytes=unit_bytes_for(offset, RS_4_8.k),
        root=os.urandom(32),
        wrapped_key=b"wrapped key",
        pieces=[StoredPiece(index=i, alias=i + 1) for i in range(RS_4_8.n)],
        serial=next_serial(),
    )
    return CommitPack(bucket=bucket, pack=pack, items=placed)


_serials = iter(range(1_000_000, 2_000_000))


def next_serial() -> int:
    return next(_serials)


@pytest.fixture
async def packing(database: SqlDatabase) -> Packing:
    return Packing(database)


async def fill(packing: Packing, count: int = 40, name: str = "photos") -> bytes:
    bucket = await packing.metadata.make_bucket(name)
    for number in range(count):
        await packing.metadata.put(bucket, f"k{number:03}", [tiny(100)])
    packing.metadata.clock.time_ms += HOUR_MS + 1
    return bucket


async def test_small_objects_are_found_in_a_pack_and_their_pieces_are_garbage(
    packing: Packing,
) -> None:
    bucket = await fill(packing)
    before = [await packing.metadata.read(bucket, f"k{n:03}") for n in range(40)]
    work = await packing.lease()
    assert [item.key for item in work.items] == [f"k{n:03}" for n in range(40)]
    pack = await packing.commit(work)
    assert packing.moved == 40
    for number, old in enumerate(before):
        (now,) = (await packing.metadata.read(bucket, f"k{number:03}")).segments
        (was,) = old.segments
        assert (now.segment, now.plain_bytes, now.unit_bytes, now.wrapped_key) == (
            was.segment, was.plain_bytes, was.unit_bytes, was.wrapped_key,
        )  # fmt: skip
        assert now.packed is not None
        assert now.packed.offset == number * 116
        assert now.packed.record().pieces == pack.pieces
        assert now.pieces == []
    assert len(await packing.metadata.garbage()) == 40 * 3
    await packing.metadata.check()


async def test_what_is_young_large_or_too_little_is_left_alone(packing: Packing) -> None:
    bucket = await packing.metadata.make_bucket()
    for number in range(40):
        await packing.metadata.put(bucket, f"k{number}", [tiny(100)])
    assert (await packing.lease()).bucket is None
    packing.metadata.clock.time_ms += HOUR_MS + 1
    few = await packing.metadata.make_bucket("few-things")
    await packing.metadata.put(few, "one", [tiny(100)])
    packing.metadata.clock.time_ms += HOUR_MS + 1
    first, second = await packing.lease(), await packing.lease()
    assert {work.bucket.bucket for work in (first, second) if work.bucket} == {bucket}


async def test_what_was_deleted_or_replaced_meanwhile_counts_as_dead(packing: Packing) -> None:
    bucket = await fill(packing)
    work = await packing.lease()
    await packing.metadata.delete(bucket, "k000")
    newer = tiny(50)
    await packing.metadata.put(bucket, "k001", [newer])
    await packing.commit(work)
    assert packing.moved == 38
    (kept,) = (await packing.metadata.read(bucket, "k001")).segments
    assert (kept.segment, kept.packed) == (newer.segment, None)
    await packing.metadata.check()


async def test_a_commit_said_twice_is_done_once(packing: Packing) -> None:
    await fill(packing)
    await packing.commit(await packing.lease())
    again = await packing.service.commit(packing.request)
    assert again.moved == 40
    await packing.metadata.check()


async def test_a_pack_goes_with_its_last_item(packing: Packing) -> None:
    bucket = await fill(packing)
    pack = await packing.commit(await packing.lease())
    await packing.metadata.delete(bucket, *(f"k{n:03}" for n in range(39)))
    await packing.metadata.check()
    assert (await packing.metadata.read(bucket, "k039")).segments[0].packed is not None
    await packing.metadata.put(bucket, "k039", [])
    await packing.metadata.check()
    garbage = {segment for segment, _, _ in await packing.metadata.garbage()}
    assert pack.segment in garbage


async def test_packs_more_dead_than_alive_are_written_anew(packing: Packing) -> None:
    bucket = await fill(packing)
    old = await packing.commit(await packing.lease())
    await packing.metadata.delete(bucket, *(f"k{n:03}" for n in range(25)))
    packing.metadata.clock.time_ms += HOUR_MS
    work = await packing.lease()
    assert [item.key for item in work.items] == [""] * 15
    await packing.metadata.delete(bucket, "k030")
    new = await packing.commit(work)
    assert packing.moved == 14
    (moved,) = (await packing.metadata.read(bucket, "k031")).segments
    assert moved.packed is not None
    assert moved.packed.segment == new.segment
    await packing.metadata.check()
    assert old.segment in {segment for segment, _, _ in await packing.metadata.garbage()}


async def test_nobody_else_packs_a_leased_bucket_until_the_lease_ends(packing: Packing) -> None:
    await fill(packing)
    assert (await packing.lease()).bucket is not None
    assert (await packing.lease(OTHER_WORKER)).bucket is None
    packing.metadata.clock.time_ms += PROFILE.lease_ms + 1
    again = await packing.lease(OTHER_WORKER)
    if again.bucket is None:  # the search began anew at the bucket's first key
        packing.metadata.clock.time_ms += PROFILE.pass_ms
        again = await packing.lease(OTHER_WORKER)
    assert len(again.items) == 40


async def test_only_whole_objects_of_the_same_bucket_are_moved(packing: Packing) -> None:
    bucket = await fill(packing)
    other = await fill(packing, 3, "other")
    theirs = (await packing.metadata.read(other, "k000")).segments[0]
    upload = await packing.metadata.begin(bucket, "big")
    part = tiny(100)
    await packing.metadata.put_part(bucket, "big", upload, 1, [part])
    items = [PackItem(key="", segment=one) for one in (theirs, part)]
    moved = (await packing.service.commit(pack_of(bucket, items))).moved
    assert moved == 0
    await packing.metadata.check()


async def test_nonsense_is_refused_whole(packing: Packing) -> None:
    bucket = await fill(packing)
    work = await packing.lease()
    request = pack_of(bucket, work.items)
    beyond = PackedItem(
        segment=work.items[0].segment.segment, from_pack=b"", offset=request.pack.plain_bytes - 1
    )
    for items in ([], [beyond], [request.items[0]] * 2):
        with pytest.raises(AtollError) as caught:
            await packing.service.commit(CommitPack(bucket=bucket, pack=request.pack, items=items))
        assert caught.value.kind is Kind.BAD_REQUEST
    with pytest.raises(AtollError) as caught:
        await packing.service.commit(pack_of(b"n" * 16, work.items))
    assert caught.value.kind is Kind.BUCKET_NOT_FOUND
    await packing.metadata.check()


async def test_a_gateway_gets_neither_what_it_may_not_serve_nor_what_it_has_no_keys_for(
    packing: Packing,
) -> None:
    bucket = await fill(packing)
    assert (await packing.lease()).bucket is not None
    declining = LeasePack(worker=WORKER, declined=[bucket])
    assert (await packing.service.lease(declining)).bucket is None
    await packing.metadata.database.write(
        lambda c: manifests.next_number(c, bucket, b"their root" + bytes(6))
    )
    packing.metadata.clock.time_ms += PROFILE.pass_ms
    strange = LeasePack(worker=OTHER_WORKER, keys=b"our root")
    assert (await packing.service.lease(strange)).bucket is None
    able = LeasePack(worker=OTHER_WORKER, keys=b"their ro")
    assert len((await packing.service.lease(able)).items) == 40, "the decliner's lease is over"


REST = PackingProfile(
    age_ms=HOUR_MS, bytes_min=1 << 20, pass_ms=1_000, rest_age_ms=10 * HOUR_MS, rest_bytes_min=2_000
)


async def test_a_rest_too_small_for_a_pack_is_packed_once_it_is_old_and_a_pack_is_safer(
    database: SqlDatabase,
) -> None:
    packing = Packing(database)
    operators = {1: 7}
    packing.service = PackingService(
        packing.metadata.clock, database, REST, operators=lambda policy: operators[policy]
    )
    bucket = await fill(packing)
    clock = packing.metadata.clock
    assert (await packing.lease()).bucket is None, "young"
    clock.time_ms += REST.rest_age_ms
    await packing.metadata.put(bucket, "k999", [tiny(100)])
    clock.time_ms += HOUR_MS + 1
    assert (await packing.lease()).bucket is None, "2/4 survives fewer losses than four copies"
    operators[1] = 8
    clock.time_ms += REST.pass_ms
    work = await packing.lease()
    assert [item.key for item in work.items] == [f"k{n:03}" for n in range(40)], "not the young one"
    await packing.commit(work)
    assert packing.moved == 40
    clock.time_ms += REST.rest_age_ms
    assert (await packing.lease()).bucket is None, "one object is no rest worth a pack"
    await packing.metadata.check()


async def test_a_policy_nobody_knows_here_stops_nothing(database: SqlDatabase) -> None:
    packing = Packing(database)

    def unknown(policy: int) -> int:
        raise AtollError(Kind.BAD_REQUEST, "place segment", f"no policy {policy}")

    packing.service = PackingService(packing.metadata.clock, database, PROFILE, operators=unknown)
    await fill(packing)
    assert len((await packing.lease()).items) == 40
