"""Multipart uploads, on both databases."""

import asyncio

import pytest
from tests.unit.coordinator.metadata.world import ACCOUNT, Metadata, facts_of, pieces_of, tiny

from atoll.coordinator.metadata.rules import PART_BYTES_MIN
from atoll.coordinator.metadata.uploads import EXPIRED_AT_ONCE_MAX
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    Condition,
    DeleteBucket,
    Done,
    GetUpload,
    ListParts,
    ListUploads,
    PartList,
    SegmentRecord,
    StoredPiece,
    UploadInfo,
    UploadList,
)
from atoll.core.scheme import RS_4_8, unit_bytes_for
from atoll.runtime.database import SqlDatabase

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def metadata(database: SqlDatabase) -> Metadata:
    return Metadata(database)


def large(size: int = PART_BYTES_MIN) -> SegmentRecord:
    record = tiny()
    return SegmentRecord(
        segment=record.segment,
        serial=record.serial,
        plain_bytes=size,
        k=RS_4_8.k,
        n=RS_4_8.n,
        unit_bytes=unit_bytes_for(size, RS_4_8.k),
        root=record.root,
        wrapped_key=b"k",
        pieces=[StoredPiece(index=i, alias=i + 1) for i in range(8)],
    )


async def test_an_object_of_parts(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    old = tiny()
    await metadata.put(bucket, "k", [old])
    upload = await metadata.begin(bucket, "k")
    third, first = [tiny(7)], [large(), large()]
    part3 = await metadata.put_part(bucket, "k", upload, 3, third)
    part1 = await metadata.put_part(bucket, "k", upload, 1, first)
    assert (await metadata.read(bucket, "k")).segments[0].segment == old.segment
    facts = facts_of(2 * PART_BYTES_MIN + 7, "x-2")
    info = await metadata.complete(bucket, "k", upload, [part1, part3], facts=facts)
    assert info.facts == facts
    found = await metadata.read(bucket, "k")
    assert [s.segment for s in found.segments] == [s.segment for s in first + third]
    assert found.info.facts.part_sizes == [2 * PART_BYTES_MIN, 7]
    assert await metadata.garbage() == pieces_of(old)
    await metadata.check()
    await metadata.delete(bucket, "k")
    assert await metadata.garbage() == pieces_of(old, *first, *third)
    await metadata.check()


async def test_a_completion_may_come_again_for_a_day(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    part = await metadata.put_part(bucket, "k", upload, 1, [tiny()])
    info = await metadata.complete(bucket, "k", upload, [part])
    await metadata.delete(bucket, "k")
    metadata.clock.time_ms += DAY_MS
    await metadata.uploads.expire()
    assert await metadata.complete(bucket, "k", upload, [part]) == info
    for key, parts in (("other", [part]), ("k", [part, part])):
        with pytest.raises(AtollError) as caught:
            await metadata.complete(bucket, key, upload, parts)
        assert caught.value.kind is Kind.UPLOAD_NOT_FOUND
    metadata.clock.time_ms += 1
    await metadata.uploads.expire()
    with pytest.raises(AtollError) as caught:
        await metadata.complete(bucket, "k", upload, [part])
    assert caught.value.kind is Kind.UPLOAD_NOT_FOUND
    with pytest.raises(AtollError):
        await metadata.read(bucket, "k")


async def test_of_racing_completions_both_answer_the_same(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    part = await metadata.put_part(bucket, "k", upload, 1, [tiny()])
    answers = await asyncio.gather(
        *(metadata.complete(bucket, "k", upload, [part]) for _ in range(6))
    )
    assert all(answer == answers[0] for answer in answers)
    await metadata.check()


async def test_parts_left_out_are_collected(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    await metadata.put_part(bucket, "k", upload, 1, [left := tiny()])
    part = await metadata.put_part(bucket, "k", upload, 2, [used := tiny()])
    await metadata.complete(bucket, "k", upload, [part])
    assert await metadata.garbage() == pieces_of(left)
    assert [s.segment for s in (await metadata.read(bucket, "k")).segments] == [used.segment]
    await metadata.check()


async def test_a_part_may_be_replaced_and_come_twice(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    old, new = [tiny(), tiny()], [tiny()]
    await metadata.put_part(bucket, "k", upload, 1, old)
    await metadata.put_part(bucket, "k", upload, 1, old)
    assert await metadata.garbage() == set()
    await metadata.put_part(bucket, "k", upload, 1, new)
    assert await metadata.garbage() == pieces_of(*old)
    with pytest.raises(AtollError) as caught:
        await metadata.put_part(bucket, "k", upload, 1, old)
    assert caught.value.kind is Kind.CONFLICT
    await asyncio.gather(*(metadata.put_part(bucket, "k", upload, 1, [tiny()]) for _ in range(8)))
    await metadata.check()


@pytest.mark.parametrize("number", [0, -1, 10_001])
async def test_part_numbers_have_limits(metadata: Metadata, number: int) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    with pytest.raises(AtollError) as caught:
        await metadata.put_part(bucket, "k", upload, number, [tiny()])
    assert caught.value.kind is Kind.BAD_REQUEST


async def test_a_refused_completion_leaves_the_upload(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    await metadata.put(bucket, "k", etag="there")
    upload = await metadata.begin(bucket, "k")
    part = await metadata.put_part(bucket, "k", upload, 1, [tiny()])
    refused = [
        ({"condition": Condition(if_none_match="*")}, [part], Kind.PRECONDITION_FAILED),
        ({"facts": facts_of(1)}, [part], Kind.BAD_REQUEST),
        ({}, [], Kind.INVALID_PART),
    ]
    for more, parts, kind in refused:
        with pytest.raises(AtollError) as caught:
            await metadata.complete(bucket, "k", upload, parts, **more)
        assert caught.value.kind is kind
        await metadata.check()
    await metadata.complete(bucket, "k", upload, [part], condition=Condition(if_match="there"))


async def test_an_aborted_upload_is_gone(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    record, late = tiny(), tiny()
    await metadata.put_part(bucket, "k", upload, 1, [record])
    await metadata.abort(bucket, "k", upload)
    with pytest.raises(AtollError) as caught:
        await metadata.put_part(bucket, "k", upload, 2, [late])
    assert caught.value.kind is Kind.UPLOAD_NOT_FOUND
    assert await metadata.garbage() == pieces_of(record, late)
    for request in (
        metadata.abort(bucket, "k", upload),
        metadata.ask(GetUpload(bucket=bucket, key="k", upload=upload), UploadInfo),
        metadata.ask(ListParts(bucket=bucket, key="k", upload=upload), PartList),
    ):
        with pytest.raises(AtollError) as caught:
            await request
        assert caught.value.kind is Kind.UPLOAD_NOT_FOUND
    await metadata.check()


async def test_parts_race_with_the_completion(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    for turn in range(6):
        key = f"k{turn}"
        upload = await metadata.begin(bucket, key)
        part = await metadata.put_part(bucket, key, upload, 1, [tiny()])
        await asyncio.gather(
            metadata.complete(bucket, key, upload, [part]),
            *(metadata.put_part(bucket, key, upload, n, [tiny()]) for n in (2, 3)),
            return_exceptions=True,
        )
        assert len((await metadata.read(bucket, key)).segments) == 1
        await metadata.check()


async def test_parts_are_listed_by_page(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    parts = [
        await metadata.put_part(bucket, "k", upload, number, [tiny(number)]) for number in (4, 2, 9)
    ]
    page = await metadata.ask(ListParts(bucket=bucket, key="k", upload=upload, limit=2), PartList)
    assert ([part.number for part in page.parts], page.truncated) == ([2, 4], True)
    assert page.upload.upload == upload
    page = await metadata.ask(ListParts(bucket=bucket, key="k", upload=upload, after=4), PartList)
    assert (page.parts[0].etag, page.truncated) == (parts[2].etag, False)
    assert page.parts[0].checksums == {"CRC32": "AAAA"}
    assert page.parts[0].modified_ms == metadata.clock.time_ms


async def test_uploads_are_listed_by_page(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    keys = ["a", "a", "a", "b/1", "b/2", "c"]
    begun = sorted([(key, await metadata.begin(bucket, key)) for key in keys])
    seen: list[tuple[str, bytes]] = []
    request = ListUploads(bucket=bucket, limit=2)
    while True:
        page = await metadata.ask(request, UploadList)
        seen += [(one.key, one.upload) for one in page.uploads]
        if not page.truncated:
            break
        request = ListUploads(
            bucket=bucket, limit=2, after_key=page.next_key, after_upload=page.next_upload
        )
    assert seen == begun
    page = await metadata.ask(ListUploads(bucket=bucket, delimiter="/", limit=4), UploadList)
    assert ([one.key for one in page.uploads], page.prefixes) == (["a"] * 3, ["b/"])
    assert (page.truncated, page.next_key, page.next_upload) == (True, "b/", b"")
    page = await metadata.ask(ListUploads(bucket=bucket, delimiter="/", after_key="b/"), UploadList)
    assert [one.key for one in page.uploads] == ["c"]
    page = await metadata.ask(ListUploads(bucket=bucket, after_key="a"), UploadList)
    assert [one.key for one in page.uploads] == ["b/1", "b/2", "c"]


async def test_stale_uploads_are_collected(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    stale = await metadata.begin(bucket, "k")
    record = tiny()
    await metadata.put_part(bucket, "k", stale, 1, [record])
    metadata.clock.time_ms += 7 * DAY_MS
    young = await metadata.begin(bucket, "k")
    assert await metadata.uploads.expire() == 0
    metadata.clock.time_ms += 1
    assert await metadata.uploads.expire() == 1
    assert await metadata.garbage() == pieces_of(record)
    await metadata.ask(GetUpload(bucket=bucket, key="k", upload=young), UploadInfo)
    await metadata.check()
    assert EXPIRED_AT_ONCE_MAX > 1


async def test_a_deleted_buckets_uploads_are_collected(metadata: Metadata) -> None:
    bucket = await metadata.make_bucket()
    upload = await metadata.begin(bucket, "k")
    record, late = tiny(), tiny()
    await metadata.put_part(bucket, "k", upload, 1, [record])
    await metadata.ask(DeleteBucket(name="photos", account=ACCOUNT), Done)
    with pytest.raises(AtollError) as caught:
        await metadata.put_part(bucket, "k", upload, 2, [late])
    assert caught.value.kind is Kind.BUCKET_NOT_FOUND
    assert await metadata.uploads.expire() == 1
    assert await metadata.garbage() == pieces_of(record, late)
    await metadata.check()
