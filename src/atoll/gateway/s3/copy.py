"""CopyObject and UploadPartCopy: the bytes are read and stored anew, verified on the way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from atoll.core.capsule import StreamOrigin
from atoll.core.messages import (
    BucketInfo,
    CommitPart,
    Done,
    ObjectFacts,
    ObjectRead,
    PartInfo,
    ReadObject,
    SegmentRecord,
)
from atoll.gateway.s3 import checksums
from atoll.gateway.s3.body import Digests, Expected, Hashing
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.conditions import (
    Range,
    failed_condition,
    read_copy_range,
    read_preconditions,
    write_condition,
)
from atoll.gateway.s3.errors import S3Error, invalid_argument
from atoll.gateway.s3.metadata import (
    check_key,
    check_write_headers,
    checksum_values,
    facts_of_request,
    primary_algorithm,
    quoted,
)
from atoll.gateway.s3.multipart import find_upload, part_number
from atoll.gateway.s3.put import check_early, commit, origin_of
from atoll.gateway.s3.request import Response


@dataclass(frozen=True, slots=True)
class Source:
    """The object to copy from."""

    bucket: BucketInfo
    key: str
    read: ObjectRead


def parse_copy_source(text: str) -> tuple[str, str]:
    """Return bucket and key of an ``x-amz-copy-source``. Raises ``InvalidArgument``."""
    path, _, version = text.partition("?versionId=")
    try:
        bucket, _, key = (
            unquote_to_bytes(path.encode("latin-1")).decode().lstrip("/").partition("/")
        )
    except (UnicodeDecodeError, UnicodeEncodeError) as cause:
        raise invalid_argument("x-amz-copy-source", text) from cause
    if not bucket or not key:
        raise invalid_argument(
            "x-amz-copy-source", text, "You must specify at least one source bucket and key"
        )
    if version not in ("", "null"):
        raise S3Error("NoSuchVersion", Key=key, VersionId=version)
    return bucket, key


async def _find_source(call: Call) -> Source:
    name, key = parse_copy_source(call.params["CopySource"])
    bucket = await call.own_bucket(name, fresh=True)
    if call.params.get("ExpectedSourceBucketOwner", call.caller.owner_id) != call.caller.owner_id:
        raise S3Error("AccessDenied")
    read = await call.ask(ReadObject(bucket=bucket.bucket, key=key), ObjectRead)
    failed = failed_condition(read_preconditions(call.params, "CopySource"), read.info)
    if failed:
        raise S3Error("PreconditionFailed", Condition=f"x-amz-copy-source-{failed.lower()}")
    return Source(bucket, key, read)


async def _transfer(
    call: Call,
    source: Source,
    target: BucketInfo,
    span: Range,
    algorithm: str,
    origin: StreamOrigin,
) -> tuple[list[SegmentRecord], Digests]:
    services = call.services
    size = span.end - span.start
    hashing = Hashing(Expected(size=size, algorithm=algorithm), services.compute, services.config)

    async def stream() -> AsyncIterator[memoryview]:
        views = services.objects.read_object(
            source.bucket, source.key, source.read.segments, span.start, span.end
        )
        async for view in views:
            hashing.add(view)
            yield view
            await hashing.relieve()

    try:
        segments: list[SegmentRecord] = []
        if size:
            segments = await services.objects.write_object(
                target, call.request.key, size, stream(), origin
            )
        await hashing.finish()
        return segments, hashing.verify()
    finally:
        await hashing.close()


def _check_copy_size(call: Call, size: int) -> None:
    limit = call.config.object_bytes_max
    if size > limit:
        raise S3Error(
            "InvalidRequest",
            "The specified copy source is larger than the maximum allowable size for a copy "
            f"source: {limit}",
        )


async def copy_object(call: Call) -> Response:
    """Copy an object, with its metadata or new ones."""
    params = call.params
    check_key(call.request.key)
    check_write_headers(params)
    condition = write_condition(params)
    directive = params.get("MetadataDirective", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise invalid_argument("x-amz-metadata-directive", directive, "Unknown metadata directive.")
    target = await call.bucket(fresh=True)
    source = await _find_source(call)
    same = (source.bucket.bucket, source.key) == (target.bucket, call.request.key)
    if same and directive == "COPY":
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself "
            "without changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )
    await check_early(call, target, condition)
    old = source.read.info.facts
    _check_copy_size(call, old.size)
    algorithm = _algorithm(params.get("ChecksumAlgorithm", ""), old)
    told = facts_of_request(params) if directive == "REPLACE" else old

    async def work() -> Response:
        span = Range(0, old.size, old.size)
        segments, digests = await _transfer(call, source, target, span, algorithm, origin_of(told))
        facts = msgspec.structs.replace(
            told,
            size=old.size,
            etag=digests.md5,
            checksums=digests.checksums,
            checksum_type=checksums.FULL_OBJECT,
            part_sizes=[],
            part_checksums=[],
        )
        info = await commit(call, target, facts, segments, condition)
        result: dict[str, Any] = {
            "ETag": quoted(facts.etag),
            "LastModified": info.modified_ms // 1000 * 1000,
            **checksum_values(facts.checksums, facts.checksum_type),
        }
        return call.answer({"CopyObjectResult": result, "ServerSideEncryption": "AES256"})

    return await call.patiently(work())


def _algorithm(wanted: str, old: ObjectFacts) -> str:
    if wanted:
        return checksums.check_algorithm(wanted)
    return primary_algorithm(old.checksums)


async def upload_part_copy(call: Call) -> Response:
    """Make a part of a range of an object."""
    number = part_number(call)
    target, upload = await find_upload(call)
    source = await _find_source(call)
    size = source.read.info.facts.size
    span = read_copy_range(call.params.get("CopySourceRange"), size)
    _check_copy_size(call, span.end - span.start)

    async def work() -> Response:
        algorithm = upload.checksum_algorithm
        origin = StreamOrigin(part=number, upload=upload.upload)
        segments, digests = await _transfer(call, source, target, span, algorithm, origin)
        part = PartInfo(
            number=number,
            size=span.end - span.start,
            etag=digests.md5,
            modified_ms=call.services.clock.now_ms(),
            checksums=digests.checksums,
        )
        await call.ask(
            CommitPart(
                bucket=target.bucket,
                key=call.request.key,
                upload=upload.upload,
                part=part,
                segments=segments,
            ),
            Done,
        )
        result: dict[str, Any] = {
            "ETag": quoted(part.etag),
            "LastModified": part.modified_ms // 1000 * 1000,
            **checksum_values(part.checksums, ""),
        }
        return call.answer({"CopyPartResult": result, "ServerSideEncryption": "AES256"})

    return await call.patiently(work())
