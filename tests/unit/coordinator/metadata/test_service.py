"""Credentials, buckets and objects, on both databases."""

import asyncio

import pytest
from tests.unit.coordinator.metadata.world import (
    ACCOUNT,
    OTHER,
    Metadata,
    facts_of,
    pieces_of,
    tiny,
)

from atoll.coordinator.metadata.store import segments
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    BucketInfo,
    BucketList,
    CommitObject,
    Condition,
    CreateBucket,
    DeleteBucket,
    DeletedKeys,
    DeleteObjects,
    Done,
    GetBucket,
    GetCredential,
    ListBuckets,
    ListObjects,
    ObjectInfo,
    ObjectList,
    ObjectRead,
    ReadObject,
    StoredPiece,
)
from atoll.runtime.database import SqlDatabase


@pytest.fixture
def metadata(database: SqlDatabase) -> Metadata:
    return Metadata(database)


def kind_of(caught: pytest.ExceptionInfo[AtollError]) -> Kind:
    return caught.value.kind


# --- credentials ---------------------------------------------------------------------------------


async def test_a_credential_comes_back_and_its_secret_is_sealed(metadata: Metadata) -> None:
    made = await metadata.service.create_credential(ACCOUNT, "Ada", "AK1", "hush hush")
    again = await metadata.service.create_credential(ACCOUNT, "Ada", "AK1", "another")
    assert made == again
    assert (made.secret, made.owner_name, made.status) == ("hush hush", "Ada", "active")
    rows = await metadata.database.read(
        lambda c: c.exec_driver_sql("SELECT sealed_secret FROM credential").all()
    )
    assert b"hush" not in bytes(rows[0][0])
    with pytest.raises(AtollError) as caught:
        await metadata.service.create_credential(OTHER, "Eve", "AK1", "x")
    assert kind_of(caught) is Kind.CONFLICT


async def test_an_unknown_access_key_is_not_remembered(metadata: Metadata) -> None:
    for _ in range(2):
        with pytest.raises(AtollError) as caught:
            await metadata.service.get_credential(GetCredential(access_key="AK1"))
        assert kind_of(caught) is Kind.KEY_NOT_FOUND
    await Metadata(metadata.database).service.create_credential(ACCOUNT, "Ada", "AK1", "s")
    assert (await metadata.service.get_credential(GetCredential(access_key="AK1"))).secret == "s"


async def test_a_revoked_credential_is_known_as_such_after_the_cache_time(
    metadata: Metadata,
) -> None:
    await metadata.service.create_credential(ACCOUNT, "Ada", "AK1", "s")
    await metadata.database.write(
        lambda c: c.exec_driver_sql("UPDATE credential SET status = 'revoked'").rowcount
    )
    metadata.clock.time_ms += 10_001
    found = await metadata.service.get_credential(GetCredential(access_key="AK1"))
    assert found.status == "suspended"


# --- buckets -------------------------------------------------------------------------------------


async def test_a_bucket_has_one_owner(metadata: Metadata) -> None:
    await metadata.make_bucket("photos")
    for account, kind in ((ACCOUNT, Kind.BUCKET_OWNED), (OTHER, Kind.BUCKET_EXISTS)):
        with pytest.raises(AtollError) as caught:
            await metadata.ask(CreateBucket(account=account, name="photos", region=""), BucketInfo)
        assert kind_of(caught) is kind
    found = await metadata.ask(GetBucket(name="photos"), BucketInfo)
    assert (found.account, found.region, found.mode) == (ACCOUNT, "r", "managed")


async def test_buckets_are_listed_by_page(metadata: Metadata) -> None:
    names = ["a", "a-b", "ab", "b.c", "c1", "c2"]
    for name in reversed(names):
        await metadata.make_bucket(name)
    await metadata.ask(CreateBucket(account=OTHER, name="b", region=""), BucketInfo)
    seen: list[str] = []
    after = ""
    while True:
        page = await metadata.ask(ListBuckets(account=ACCOUNT, after=after, limit=2), BucketList)
        seen += [bucket.name for bucket in page.buckets]
        if not page.truncated:
            break
        after = seen[-1]
    assert seen == names
    page = await metadata.ask(ListBuckets(account=ACCOUNT, prefix="c"), BucketList)
    assert [bucket.name for bucket in page.buckets] == ["c1", "c2"]


async def test_only_an_empty_bucket_is_deleted_and_only_by_its_owner(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await metadata.put(bucket, "k")

    async def delete(account: bytes) -> None:
        await metadata.ask(DeleteBucket(name="photos", account=account), Done)

    with pytest.raises(AtollError) as caught:
        await delete(ACCOUNT)
    assert kind_of(caught) is Kind.BUCKET_NOT_EMPTY
    await metadata.delete(bucket, "k")
    with pytest.raises(AtollError) as caught:
        await delete(OTHER)
    assert kind_of(caught) is Kind.FORBIDDEN
    await delete(ACCOUNT)
    for request in (GetBucket(name="photos"), DeleteBucket(name="photos", account=ACCOUNT)):
        with pytest.raises(AtollError) as caught:
            await metadata.handlers[type(request)](request)
        assert kind_of(caught) is Kind.BUCKET_NOT_FOUND
    await metadata.check()


async def test_a_bucket_is_not_deleted_under_a_commit(metadata: Metadata) -> None:
    for turn in range(10):
        bucket = await metadata.make_bucket(f"b{turn}")
        results = await asyncio.gather(
            metadata.put(bucket, "k"),
            metadata.ask(DeleteBucket(name=f"b{turn}", account=ACCOUNT), Done),
            return_exceptions=True,
        )
        kinds = [r.kind for r in results if isinstance(r, AtollError)]
        assert kinds in ([Kind.BUCKET_NOT_FOUND], [Kind.BUCKET_NOT_EMPTY])
        await metadata.check()


# --- objects -------------------------------------------------------------------------------------


async def test_an_object_is_there_until_deleted(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    records = [tiny(8192), tiny(5)]
    info = await metadata.put(bucket, "a//b/../c%2F ", records, "etag")
    found = await metadata.read(bucket, "a//b/../c%2F ")
    assert found.info == info
    assert [s.segment for s in found.segments] == [record.segment for record in records]
    assert [s.plain_bytes for s in found.segments] == [8192, 5]
    assert found.segments[0].serial != found.segments[1].serial
    assert found.segments[0].pieces == records[0].pieces
    head = await metadata.ask(
        ReadObject(bucket=bucket, key="a//b/../c%2F ", segments=False), ObjectRead
    )
    assert head.segments == []
    assert await metadata.delete(bucket, "a//b/../c%2F ", "none") == ["a//b/../c%2F "]
    with pytest.raises(AtollError) as caught:
        await metadata.read(bucket, "a//b/../c%2F ")
    assert kind_of(caught) is Kind.OBJECT_NOT_FOUND
    assert await metadata.garbage() == pieces_of(*records)
    await metadata.check()


async def test_an_empty_object_needs_no_segment(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await metadata.put(bucket, "a", [])
    await metadata.put(bucket, "b", [])
    await metadata.put(bucket, "a", [])
    assert (await metadata.read(bucket, "a")).segments == []
    await metadata.delete(bucket, "a")
    assert (await metadata.read(bucket, "b")).segments == []
    await metadata.check()


async def test_what_an_overwrite_replaces_is_collected(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    old, new = tiny(10), tiny(20)
    await metadata.put(bucket, "k", [old])
    await metadata.put(bucket, "k", [new])
    assert (await metadata.read(bucket, "k")).segments[0].segment == new.segment
    assert await metadata.garbage() == pieces_of(old)
    await metadata.check()


async def test_a_commit_may_come_twice(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    record = tiny()
    create = Condition(if_none_match="*")
    first = await metadata.put(bucket, "k", [record], condition=create)
    metadata.clock.time_ms += 5
    assert await metadata.put(bucket, "k", [record], condition=create) == first
    assert await metadata.garbage() == set()
    await metadata.check()


async def test_a_late_commit_does_not_bring_back_what_was_collected(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    record = tiny()
    await metadata.put(bucket, "k", [record])
    await metadata.delete(bucket, "k")
    with pytest.raises(AtollError) as caught:
        await metadata.put(bucket, "k", [record])
    assert kind_of(caught) is Kind.CONFLICT
    with pytest.raises(AtollError) as caught:
        await metadata.read(bucket, "k")
    assert kind_of(caught) is Kind.OBJECT_NOT_FOUND
    await metadata.check()


async def test_a_segment_belongs_to_one_object(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    record = tiny()
    await metadata.put(bucket, "k", [record])
    with pytest.raises(AtollError) as caught:
        await metadata.put(bucket, "other", [record])
    assert kind_of(caught) is Kind.CONFLICT
    assert (await metadata.read(bucket, "k")).segments[0].segment == record.segment
    await metadata.check()


async def test_a_refused_commits_pieces_are_collected(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    kept, refused, lost = tiny(), tiny(), tiny()
    await metadata.put(bucket, "k", [kept], "one")
    with pytest.raises(AtollError) as caught:
        await metadata.put(bucket, "k", [refused], condition=Condition(if_match="two"))
    assert kind_of(caught) is Kind.PRECONDITION_FAILED
    with pytest.raises(AtollError) as caught:
        await metadata.put(b"x" * 16, "k", [lost])
    assert kind_of(caught) is Kind.BUCKET_NOT_FOUND
    assert await metadata.garbage() == pieces_of(refused, lost)
    with pytest.raises(AtollError) as caught:
        await metadata.put(bucket, "k", [refused])
    assert kind_of(caught) is Kind.CONFLICT
    with pytest.raises(AtollError) as caught:  # a hostile or confused gateway names live pieces
        await metadata.put(bucket, "k", [kept, tiny()], condition=Condition(if_match="two"))
    assert kind_of(caught) in (Kind.PRECONDITION_FAILED, Kind.CONFLICT)
    assert not pieces_of(kept) & await metadata.garbage()
    await metadata.check()


async def test_of_many_creators_one_wins(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    records = [tiny() for _ in range(16)]
    results = await asyncio.gather(
        *(metadata.put(bucket, "k", [r], condition=Condition(if_none_match="*")) for r in records),
        return_exceptions=True,
    )
    losers = [r for r in results if isinstance(r, AtollError)]
    assert len(losers) == 15
    assert {error.kind for error in losers} == {Kind.PRECONDITION_FAILED}
    winner = (await metadata.read(bucket, "k")).segments[0].segment
    assert await metadata.garbage() == pieces_of(*(r for r in records if r.segment != winner))
    await metadata.check()


async def test_of_many_writers_the_last_stays_whole(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await asyncio.gather(
        *(metadata.put(bucket, "k", [tiny(), tiny()]) for _ in range(20)),
        *(metadata.delete(bucket, "k") for _ in range(5)),
    )
    await metadata.put(bucket, "k")
    assert len((await metadata.read(bucket, "k")).segments) == 1
    await metadata.check()


async def test_compare_and_swap_by_etag(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await metadata.put(bucket, "k", etag="0")

    async def swap(worker: int) -> int:
        won = 0
        for number in range(8):
            try:
                await metadata.put(
                    bucket, "k", etag=str(number + 1), condition=Condition(if_match=str(number))
                )
                won += 1
            except AtollError as error:
                assert error.kind is Kind.PRECONDITION_FAILED  # noqa: PT017 - not the only way out
        return won

    assert sum(await asyncio.gather(*(swap(worker) for worker in range(3)))) <= 8
    await metadata.check()


async def test_a_deletion_may_ask_for_an_etag(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await metadata.put(bucket, "k", etag="one")
    for key, kind in (("k", Kind.PRECONDITION_FAILED), ("none", Kind.OBJECT_NOT_FOUND)):
        with pytest.raises(AtollError) as caught:
            await metadata.delete(bucket, key, if_match="two")
        assert kind_of(caught) is kind
    assert await metadata.delete(bucket, "k", if_match="one") == ["k"]
    with pytest.raises(AtollError) as caught:
        await metadata.delete(bucket, "a", "b", if_match="one")
    assert kind_of(caught) is Kind.BAD_REQUEST


async def test_a_thousand_keys_are_deleted_at_once(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    keys = [f"k{number:04}" for number in range(1000)]
    await asyncio.gather(*(metadata.put(bucket, key) for key in keys[::2]))
    request = DeleteObjects(bucket=bucket, keys=keys)
    assert (await metadata.ask(request, DeletedKeys)).existed == keys[::2]
    with pytest.raises(AtollError) as caught:
        await metadata.ask(DeleteObjects(bucket=bucket, keys=[*keys, "x"]), DeletedKeys)
    assert kind_of(caught) is Kind.BAD_REQUEST
    assert len(await metadata.garbage()) == 1500
    await metadata.check()


async def test_large_metadata_is_refused(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    facts = facts_of(0).__class__(
        size=0, etag="e", content_type="x", user_metadata={"k": "v" * (65 << 10)}
    )
    with pytest.raises(AtollError) as caught:
        await metadata.ask(
            CommitObject(bucket=bucket, key="k", facts=facts, segments=[]), ObjectInfo
        )
    assert kind_of(caught) is Kind.TOO_LARGE


# --- listings ------------------------------------------------------------------------------------


async def test_a_listing_pages_exactly(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    other = await metadata.make_bucket("other")
    keys = [f"dir{number % 7}/file{number:03}" for number in range(60)] + ["top", "é", "\U0001f300"]
    await asyncio.gather(
        *(metadata.put(bucket, key, etag=key) for key in keys), metadata.put(other, "no")
    )
    for limit in (1, 3, 63, 64):
        seen: list[str] = []
        after = ""
        while True:
            page = await metadata.ask(
                ListObjects(bucket=bucket, after=after, limit=limit), ObjectList
            )
            assert all(one.key == one.facts.etag for one in page.objects)
            seen += [one.key for one in page.objects]
            if not page.truncated:
                assert page.next_after == ""
                break
            assert len(page.objects) == limit
            after = page.next_after
        assert seen == sorted(keys, key=str.encode)
    page = await metadata.ask(ListObjects(bucket=bucket, delimiter="/", limit=8), ObjectList)
    assert page.prefixes == [f"dir{number}/" for number in range(7)]
    assert [one.key for one in page.objects] == ["top"]
    assert (page.truncated, page.next_after) == (True, "top")
    page = await metadata.ask(ListObjects(bucket=bucket, delimiter="/", after="dir6/"), ObjectList)
    assert (page.prefixes, len(page.objects), page.truncated) == ([], 3, False)


async def test_a_listing_of_nothing(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    page = await metadata.ask(ListObjects(bucket=bucket), ObjectList)
    assert (page.objects, page.prefixes, page.truncated) == ([], [], False)
    await metadata.put(bucket, "k")
    page = await metadata.ask(ListObjects(bucket=bucket, limit=0), ObjectList)
    assert (page.objects, page.truncated) == ([], False)
    with pytest.raises(AtollError) as caught:
        await metadata.ask(ListObjects(bucket=b"x" * 16), ObjectList)
    assert kind_of(caught) is Kind.BUCKET_NOT_FOUND


# --- what repair and collection use ---------------------------------------------------------------


async def test_pieces_move_only_from_where_they_were(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    record = tiny(aliases=(1, 2, 3))
    await metadata.put(bucket, "k", [record])
    found = await metadata.database.read(lambda c: segments.segment_by_id(c, record.segment))
    assert found is not None
    moved = [StoredPiece(index=0, alias=1), StoredPiece(index=1, alias=9)]

    async def move() -> bool:
        assert found is not None
        return await metadata.database.write(
            lambda c: segments.replace_pieces(c, found, moved, 5, collect=True)
        )

    assert await move()
    assert not await move(), "the second repair worked on what is no longer so"
    assert (await metadata.read(bucket, "k")).segments[0].pieces == moved
    assert await metadata.garbage() == {(record.segment, 1, 2), (record.segment, 2, 3)}
    on_node = await metadata.database.read(lambda c: segments.segments_of_node(c, 9, 0, 10))
    assert [s.segment for s in on_node] == [record.segment]
    assert await metadata.database.read(lambda c: segments.segments_of_node(c, 2, 0, 10)) == []
    usage = await metadata.database.read(segments.read_usage)
    assert (usage.segments, usage.pieces) == (1, 2)
    fresh = await metadata.database.read(lambda c: segments.segment_by_id(c, record.segment))
    assert fresh is not None
    assert fresh.repaired_ms == 5
    back = [*moved, StoredPiece(index=2, alias=3)]
    assert not await metadata.database.write(
        lambda c: segments.replace_pieces(c, fresh, back, 6, collect=False)
    ), "that piece is being deleted there"


async def test_a_repair_meets_a_deletion(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    record = tiny()
    await metadata.put(bucket, "k", [record])
    found = await metadata.database.read(lambda c: segments.segment_by_id(c, record.segment))
    assert found is not None
    await metadata.delete(bucket, "k")
    assert not await metadata.database.write(
        lambda c: segments.replace_pieces(
            c, found, [StoredPiece(index=0, alias=9)], 5, collect=True
        )
    )
    await metadata.check()


async def test_serials_are_never_given_twice(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    seen: set[int] = set()
    for _ in range(5):
        await metadata.put(bucket, "k")
        serial = (await metadata.read(bucket, "k")).segments[0].serial
        assert serial not in seen
        seen.add(serial)
        await metadata.delete(bucket, "k")


async def test_all_segments_are_walked_in_order(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    for number in range(5):
        await metadata.put(bucket, f"k{number}", [tiny(), tiny()])
    after, seen = 0, []
    while page := await metadata.database.read(
        lambda c, a=after: segments.segments_after(c, a, 3)  # type: ignore[misc]
    ):
        seen += [segment.serial for segment in page]
        after = seen[-1]
    assert len(seen) == 10
    assert seen == sorted(set(seen))


async def test_garbage_is_read_by_page_and_forgotten(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await metadata.put(bucket, "k", [tiny(aliases=(1, 2)) for _ in range(5)])
    await metadata.delete(bucket, "k")
    read = metadata.database.read
    first = await read(lambda c: segments.garbage_of_node(c, 1, 3))
    rest = await read(lambda c: segments.garbage_of_node(c, 1, 3, first[-1]))
    assert (len(first), len(rest)) == (3, 2)
    assert len({piece.segment for piece in first + rest}) == 5
    assert {piece.bucket for piece in first} == {bucket}
    await metadata.database.write(lambda c: segments.forget_garbage(c, first + rest))
    assert await read(segments.garbage_counts) == {2: 5}
    assert await read(lambda c: segments.count_garbage(c, 3)) == 3
