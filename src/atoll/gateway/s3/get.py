"""GetObject, HeadObject, and the reads of what an object carries."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from atoll.core.messages import BucketInfo, ObjectInfo, ObjectRead, ReadObject
from atoll.gateway.s3 import checksums
from atoll.gateway.s3.bucket import check_owner_only, owner_only
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.codec.values import http_date
from atoll.gateway.s3.conditions import (
    NOT_MODIFIED,
    Range,
    failed_condition,
    part_range,
    read_preconditions,
    read_range,
)
from atoll.gateway.s3.errors import S3Error, invalid_argument
from atoll.gateway.s3.metadata import (
    OVERRIDES,
    check_key,
    checksum_values,
    object_values,
    primary_algorithm,
)
from atoll.gateway.s3.request import Response

PARTS_PAGE_MAX = 1000


async def get_object(call: Call) -> Response:
    """Stream an object or a range of it."""
    bucket, found = await _find(call, segments=True)
    response, span = _prepare(call, found.info)
    if span.end > span.start:
        source = call.services.objects.read_object(
            bucket, call.request.key, found.segments, span.start, span.end
        )
        response.stream = await _begun(source)
    return response


async def head_object(call: Call) -> Response:
    """Answer as GetObject would, without the bytes."""
    _, found = await _find(call, segments=False)
    return _prepare(call, found.info)[0]


async def _find(call: Call, *, segments: bool) -> tuple[BucketInfo, ObjectRead]:
    check_version(call)
    check_key(call.request.key)
    if call.params.get("SSECustomerAlgorithm"):
        raise S3Error(
            "InvalidRequest", "The encryption parameters are not applicable to this object."
        )
    key = call.request.key
    return await call.read(
        lambda bucket: ReadObject(bucket=bucket.bucket, key=key, segments=segments), ObjectRead
    )


def check_version(call: Call) -> None:
    """Accept only the version that an unversioned object has: null."""
    version = call.params.get("VersionId")
    if version is not None and version != "null":
        raise S3Error("NoSuchVersion", Key=call.request.key, VersionId=version)


async def _begun(source: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    """Return the stream with its first bytes at hand, so that a failure is still a clean error."""
    first = await anext(source)

    async def stream() -> AsyncIterator[memoryview]:
        # Closing this generator closes the source: a client that left frees the nodes at once.
        async with aclosing(cast(Any, source)):
            yield first
            async for view in source:
                yield view

    return stream()


def _prepare(call: Call, info: ObjectInfo) -> tuple[Response, Range]:
    """Return status and headers, and the bytes to send. Raises 304, 412 and 416."""
    params = call.params
    failed = failed_condition(read_preconditions(params), info)
    if failed in NOT_MODIFIED:
        return _not_modified(call, info), Range(0, 0, 0)
    if failed:
        raise S3Error("PreconditionFailed", Condition=failed)
    size = info.facts.size
    values = object_values(info)
    number = params.get("PartNumber")
    if number is not None:
        if params.get("Range"):
            raise S3Error(
                "InvalidRequest", "Cannot specify both Range header and partNumber query parameter"
            )
        part = part_range(number, info.facts.part_sizes, size)
        span: Range | None = part
        if info.facts.part_sizes:
            values["PartsCount"] = len(info.facts.part_sizes)
    else:
        span = read_range(params.get("Range"), size)
    if params.get("ChecksumMode") == "ENABLED":
        values.update(_shown_checksum(info, number, whole=span is None))
    for override, name in OVERRIDES.items():
        if override in params:
            values[name] = params[override]
    if "ResponseExpires" in params:
        values["Expires"] = http_date(params["ResponseExpires"])
    response = _headers_only(call, values)
    if span is None:
        response.length = size
        return response, Range(0, size, size)
    response.length = span.end - span.start
    if size:
        response.status = 206
        response.headers.append(("content-range", span.header))
    return response, span


def _headers_only(call: Call, values: dict[str, Any]) -> Response:
    encoder = call.services.codec.encoders[call.operation.name]
    return Response(200, encoder.headers(values))


def _not_modified(call: Call, info: ObjectInfo) -> Response:
    values = object_values(info)
    kept = ("ETag", "LastModified", "CacheControl", "Expires")
    response = _headers_only(call, {name: values[name] for name in kept if name in values})
    response.status = 304
    return response


def _shown_checksum(info: ObjectInfo, number: int | None, *, whole: bool) -> dict[str, str]:
    facts = info.facts
    if whole or (number is not None and not facts.part_sizes):
        return checksum_values(facts.checksums, facts.checksum_type)
    if number is not None and facts.part_checksums:
        return checksum_values(facts.part_checksums[number - 1], facts.checksum_type)
    return {}


async def get_object_attributes(call: Call) -> Response:
    """Answer size, ETag, checksum and parts of an object without its bytes."""
    _, found = await _find(call, segments=False)
    info, wanted = found.info, set(call.params["ObjectAttributes"])
    known = {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}
    if wanted - known:
        raise invalid_argument(
            "x-amz-object-attributes", ",".join(sorted(wanted)), "Invalid attribute name specified."
        )
    facts = info.facts
    values: dict[str, Any] = {"LastModified": info.modified_ms}
    if "ETag" in wanted:
        values["ETag"] = facts.etag
    if "Checksum" in wanted and facts.checksums:
        values["Checksum"] = checksum_values(facts.checksums, facts.checksum_type)
    if "ObjectParts" in wanted and facts.part_sizes:
        values["ObjectParts"] = _parts(call, info)
    if "StorageClass" in wanted:
        values["StorageClass"] = "STANDARD"
    if "ObjectSize" in wanted:
        values["ObjectSize"] = facts.size
    return call.answer(values)


def _parts(call: Call, info: ObjectInfo) -> dict[str, Any]:
    facts = info.facts
    limit = max(0, min(call.params.get("MaxParts", PARTS_PAGE_MAX), PARTS_PAGE_MAX))
    after = int(call.params.get("PartNumberMarker") or 0)
    numbers = range(after + 1, len(facts.part_sizes) + 1)
    page = numbers[:limit]
    parts = []
    for number in page:
        part: dict[str, Any] = {"PartNumber": number, "Size": facts.part_sizes[number - 1]}
        if facts.part_checksums:
            sums = facts.part_checksums[number - 1]
            algorithm = primary_algorithm(sums)
            part[checksums.parameter_of(algorithm)] = sums[algorithm]
        parts.append(part)
    return {
        "TotalPartsCount": len(facts.part_sizes),
        "PartNumberMarker": after,
        "NextPartNumberMarker": page[-1] if page else 0,
        "MaxParts": limit,
        "IsTruncated": len(page) < len(numbers),
        "Parts": parts,
    }


async def get_object_acl(call: Call) -> Response:
    """Say that the owner, and nobody else, has full control."""
    await _find(call, segments=False)
    return call.answer(owner_only(call))


async def put_object_acl(call: Call) -> Response:
    """Accept the access control list that every object has; refuse any other."""
    await _find(call, segments=False)
    check_owner_only(call)
    return call.answer({})


async def get_object_tagging(call: Call) -> Response:
    """Answer no tags: objects here cannot be given any."""
    await _find(call, segments=False)
    return call.answer({"TagSet": []})


async def get_object_lock_state(call: Call) -> Response:
    """Refuse: no bucket here has an object lock configuration."""
    await _find(call, segments=False)
    raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
