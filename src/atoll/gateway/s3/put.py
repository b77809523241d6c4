"""PutObject, and what it shares with the other ways of writing bytes."""

import msgspec

from atoll.core.capsule import Description, StreamOrigin
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    BucketInfo,
    CommitObject,
    Condition,
    ObjectFacts,
    ObjectInfo,
    ObjectRead,
    ReadObject,
    SegmentRecord,
)
from atoll.gateway.s3.body import Digests
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.conditions import write_condition
from atoll.gateway.s3.errors import S3Error
from atoll.gateway.s3.metadata import (
    CONTENT_TYPE_DEFAULT,
    check_key,
    check_write_headers,
    checksum_values,
    facts_of_request,
    quoted,
)
from atoll.gateway.s3.request import Response


async def put_object(call: Call) -> Response:
    """Store an object: visible only when all of it lies durably on nodes and was verified."""
    params = call.params
    check_key(call.request.key)
    check_write_headers(params)
    condition = write_condition(params)
    facts = facts_of_request(params)
    body = call.open_body()
    check_size(call, body.size)
    bucket = await call.bucket(fresh=True)
    await check_early(call, bucket, condition)
    segments, digests = await store_body(call, bucket, origin_of(facts))
    facts = msgspec.structs.replace(
        facts, size=body.size, etag=digests.md5, checksums=digests.checksums
    )
    await commit(call, bucket, facts, segments, condition)
    return call.answer(
        {
            "ETag": quoted(facts.etag),
            "ServerSideEncryption": "AES256",
            **checksum_values(facts.checksums, facts.checksum_type),
        }
    )


def check_size(call: Call, size: int) -> None:
    """Raise ``EntityTooLarge`` for a body over the limit of one request."""
    limit = call.config.object_bytes_max
    if size > limit:
        raise S3Error("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(limit))


def origin_of(facts: ObjectFacts) -> StreamOrigin:
    """Return what the recovery capsules of a whole object say about it."""
    described = Description(facts.content_type, facts.headers, facts.user_metadata)
    plain = described == Description(CONTENT_TYPE_DEFAULT)
    return StreamOrigin(description=None if plain else described)


async def store_body(
    call: Call, bucket: BucketInfo, origin: StreamOrigin
) -> tuple[list[SegmentRecord], Digests]:
    """Bring the request's body onto nodes and verify it. Raises before anything is visible."""
    body = call.open_body()
    segments: list[SegmentRecord] = []
    if body.size:
        segments = await call.services.objects.write_object(
            bucket, call.request.key, body.size, body.stream(), origin
        )
    return segments, await body.finish()


async def check_early(call: Call, bucket: BucketInfo, condition: Condition) -> None:
    """Refuse a conditional write before its body is read; the commit decides for good."""
    if not (condition.if_match or condition.if_none_match):
        return
    try:
        question = ReadObject(bucket=bucket.bucket, key=call.request.key, segments=False)
        found: ObjectInfo | None = (await call.ask(question, ObjectRead)).info
    except AtollError as error:
        if error.kind is not Kind.OBJECT_NOT_FOUND:
            raise
        found = None
    if found is not None and condition.if_none_match in ("*", found.facts.etag):
        raise S3Error("PreconditionFailed", Condition="If-None-Match")
    if condition.if_match:
        if found is None:
            raise S3Error("NoSuchKey")
        if condition.if_match not in ("*", found.facts.etag):
            raise S3Error("PreconditionFailed", Condition="If-Match")


async def commit(
    call: Call,
    bucket: BucketInfo,
    facts: ObjectFacts,
    segments: list[SegmentRecord],
    condition: Condition,
) -> ObjectInfo:
    """Make the object visible."""
    request = CommitObject(
        bucket=bucket.bucket,
        key=call.request.key,
        facts=facts,
        segments=segments,
        condition=condition,
    )
    return await call.ask(request, ObjectInfo)
