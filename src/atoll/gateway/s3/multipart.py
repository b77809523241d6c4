"""Multipart uploads: create, upload parts, list, complete, abort."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from atoll.core.capsule import StreamOrigin
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    AbortUpload,
    BucketInfo,
    CommitPart,
    CompletePart,
    CompleteUpload,
    Condition,
    CreateUpload,
    Done,
    GetUpload,
    ListParts,
    ListUploads,
    ObjectFacts,
    ObjectInfo,
    PartInfo,
    PartList,
    UploadInfo,
    UploadList,
)
from atoll.gateway.s3 import checksums
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.conditions import strip_etag, write_condition
from atoll.gateway.s3.errors import S3Error, invalid_argument
from atoll.gateway.s3.list import encoder_of, page_limit
from atoll.gateway.s3.metadata import (
    check_key,
    check_write_headers,
    checksum_values,
    facts_of_request,
    primary_algorithm,
    quoted,
)
from atoll.gateway.s3.put import check_size, store_body
from atoll.gateway.s3.request import Response

PARTS_MAX = 10_000
PART_BYTES_MIN = 5 << 20
"""Every part but the last is at least so long."""
PARTS_PAGE_MAX = 1000
UPLOAD_ID_BYTES = 16


async def create_multipart_upload(call: Call) -> Response:
    """Begin an upload."""
    params = call.params
    check_key(call.request.key)
    check_write_headers(params)
    algorithm = params.get("ChecksumAlgorithm", "")
    wanted_type = params.get("ChecksumType", "")
    shown: dict[str, str] = {}
    facts = facts_of_request(params)
    if algorithm:
        algorithm = checksums.check_algorithm(algorithm)
        wanted_type = checksums.check_type(algorithm, wanted_type)
        facts = msgspec.structs.replace(facts, checksum_type=wanted_type)
        shown = {"ChecksumAlgorithm": algorithm, "ChecksumType": wanted_type}
    elif wanted_type:
        raise S3Error(
            "InvalidRequest",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
            "header.",
        )
    bucket = await call.bucket(fresh=True)
    upload = await call.ask(
        CreateUpload(
            bucket=bucket.bucket, key=call.request.key, facts=facts, checksum_algorithm=algorithm
        ),
        UploadInfo,
    )
    return call.answer(
        {
            "Bucket": bucket.name,
            "Key": call.request.key,
            "UploadId": upload.upload.hex(),
            "ServerSideEncryption": "AES256",
            **shown,
        }
    )


def upload_id(call: Call) -> bytes:
    """Return the upload id of the request. Raises ``NoSuchUpload`` for what cannot be one."""
    text = call.params["UploadId"]
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != UPLOAD_ID_BYTES:
        raise S3Error("NoSuchUpload", UploadId=text)
    return value


def part_number(call: Call) -> int:
    """Return the part number of the request. Raises ``InvalidArgument``."""
    number: int = call.params["PartNumber"]
    if not 1 <= number <= PARTS_MAX:
        raise invalid_argument(
            "partNumber",
            str(number),
            "Part number must be an integer between 1 and 10000, inclusive",
        )
    return number


async def find_upload(call: Call) -> tuple[BucketInfo, UploadInfo]:
    """Return the upload of the request and its bucket."""
    identifier = upload_id(call)
    bucket = await call.bucket(fresh=True)
    question = GetUpload(bucket=bucket.bucket, key=call.request.key, upload=identifier)
    return bucket, await call.ask(question, UploadInfo)


async def upload_part(call: Call) -> Response:
    """Store one part."""
    number = part_number(call)
    check_write_headers(call.params)
    body = call.open_body()
    check_size(call, body.size)
    bucket, upload = await find_upload(call)
    algorithm = upload.checksum_algorithm
    if algorithm and not body.expected.algorithm:
        body.expect_algorithm(algorithm)
    elif algorithm and body.expected.algorithm != algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.lower()}, "
            f"actual checksum Type: {body.expected.algorithm.lower()}",
        )
    segments, digests = await store_body(
        call, bucket, StreamOrigin(part=number, upload=upload.upload)
    )
    part = PartInfo(
        number=number,
        size=body.size,
        etag=digests.md5,
        modified_ms=call.services.clock.now_ms(),
        checksums=digests.checksums,
    )
    await call.ask(
        CommitPart(
            bucket=bucket.bucket,
            key=call.request.key,
            upload=upload.upload,
            part=part,
            segments=segments,
        ),
        Done,
    )
    return call.answer(
        {
            "ETag": quoted(part.etag),
            "ServerSideEncryption": "AES256",
            **checksum_values(part.checksums, ""),
        }
    )


async def list_parts(call: Call) -> Response:
    """List the parts of an upload."""
    params = call.params
    limit = page_limit(call, "MaxParts", "max-parts")
    after = params.get("PartNumberMarker") or "0"
    if not (str(after).isdigit() and len(str(after)) < 10):
        raise invalid_argument("part-number-marker", str(after))
    identifier = upload_id(call)
    bucket = await call.bucket()
    page = await call.ask(
        ListParts(
            bucket=bucket.bucket,
            key=call.request.key,
            upload=identifier,
            after=int(after),
            limit=max(limit, 1),
        ),
        PartList,
    )
    upload = page.upload
    parts = page.parts[:limit]
    values: dict[str, Any] = {
        "Bucket": bucket.name,
        "Key": upload.key,
        "UploadId": upload.upload.hex(),
        "PartNumberMarker": after,
        "NextPartNumberMarker": str(parts[-1].number if parts else 0),
        "MaxParts": limit,
        "IsTruncated": page.truncated and limit > 0,
        "Parts": [_part_entry(part) for part in parts],
        "Initiator": call.owner(),
        "Owner": call.owner(),
        "StorageClass": "STANDARD",
    }
    if upload.checksum_algorithm:
        values["ChecksumAlgorithm"] = upload.checksum_algorithm
        values["ChecksumType"] = upload.facts.checksum_type
    return call.answer(values)


def _part_entry(part: PartInfo) -> dict[str, Any]:
    return {
        "PartNumber": part.number,
        "LastModified": part.modified_ms // 1000 * 1000,
        "ETag": quoted(part.etag),
        "Size": part.size,
        **checksum_values(part.checksums, ""),
    }


async def list_multipart_uploads(call: Call) -> Response:
    """List the uploads in progress of a bucket in key order."""
    params = call.params
    limit = page_limit(call, "MaxUploads", "max-uploads")
    write = encoder_of(call)
    after_key = params.get("KeyMarker", "")
    after_upload = b""
    if after_key and params.get("UploadIdMarker"):
        try:
            after_upload = bytes.fromhex(params["UploadIdMarker"])
        except ValueError as cause:
            raise invalid_argument(
                "upload-id-marker", params["UploadIdMarker"], "Invalid uploadId marker"
            ) from cause
    bucket = await call.bucket()
    page = UploadList(uploads=[], prefixes=[], truncated=False)
    if limit:
        page = await call.ask(
            ListUploads(
                bucket=bucket.bucket,
                prefix=params.get("Prefix", ""),
                delimiter=params.get("Delimiter", ""),
                after_key=after_key,
                after_upload=after_upload,
                limit=limit,
            ),
            UploadList,
        )
    values: dict[str, Any] = {
        "Bucket": bucket.name,
        "KeyMarker": write(after_key),
        "UploadIdMarker": params.get("UploadIdMarker", ""),
        "Prefix": write(params.get("Prefix", "")),
        "Delimiter": write(params["Delimiter"]) if params.get("Delimiter") else None,
        "MaxUploads": limit,
        "EncodingType": params.get("EncodingType"),
        "IsTruncated": page.truncated,
        "Uploads": [_upload_entry(call, upload, write) for upload in page.uploads],
        "CommonPrefixes": [{"Prefix": write(prefix)} for prefix in page.prefixes],
    }
    if page.truncated:
        values["NextKeyMarker"] = write(page.next_key)
        values["NextUploadIdMarker"] = page.next_upload.hex()
    return call.answer(values)


def _upload_entry(call: Call, upload: UploadInfo, write: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "UploadId": upload.upload.hex(),
        "Key": write(upload.key),
        "Initiated": upload.created_ms // 1000 * 1000,
        "StorageClass": "STANDARD",
        "Owner": call.owner(),
        "Initiator": call.owner(),
    }
    if upload.checksum_algorithm:
        entry["ChecksumAlgorithm"] = upload.checksum_algorithm
        entry["ChecksumType"] = upload.facts.checksum_type
    return entry


async def abort_multipart_upload(call: Call) -> Response:
    """Forget an upload; its parts are collected."""
    identifier = upload_id(call)
    bucket = await call.bucket(fresh=True)
    await call.ask(AbortUpload(bucket=bucket.bucket, key=call.request.key, upload=identifier), Done)
    return call.answer({})


async def complete_multipart_upload(call: Call) -> Response:
    """Make the object of the named parts; repeated, it answers the same."""
    named = _named_parts(call)
    identifier = upload_id(call)
    condition = write_condition(call.params)
    bucket = await call.bucket(fresh=True)
    return await call.patiently(_complete(call, bucket, identifier, named, condition))


def _named_parts(call: Call) -> list[CompletePart]:
    rows = (call.params.get("MultipartUpload") or {}).get("Parts") or []
    if not 0 < len(rows) <= PARTS_MAX:
        raise S3Error("MalformedXML")
    parts: list[CompletePart] = []
    for row in rows:
        number = row.get("PartNumber")
        if number is None or "ETag" not in row:
            raise S3Error("MalformedXML")
        if not 1 <= number <= PARTS_MAX:
            raise invalid_argument("PartNumber", str(number))
        if parts and number <= parts[-1].number:
            raise S3Error("InvalidPartOrder")
        sums = {
            name: row[checksums.parameter_of(name)]
            for name in checksums.DIGEST_BYTES
            if checksums.parameter_of(name) in row
        }
        parts.append(
            CompletePart(number=number, etag=strip_etag(row["ETag"]).lower(), checksums=sums)
        )
    return parts


async def _complete(
    call: Call,
    bucket: BucketInfo,
    identifier: bytes,
    named: Sequence[CompletePart],
    condition: Condition,
) -> Response:
    try:
        upload, stored = await _stored_parts(call, bucket, identifier)
    except AtollError as error:
        if error.kind is not Kind.UPLOAD_NOT_FOUND:
            raise
        # Perhaps completed already by the same request: the control plane remembers and says so.
        facts = ObjectFacts(size=0, etag="", content_type="")
    else:
        facts = final_facts(call, upload, stored, named)
    info = await call.ask(
        CompleteUpload(
            bucket=bucket.bucket,
            key=call.request.key,
            upload=identifier,
            parts=list(named),
            facts=facts,
            condition=condition,
        ),
        ObjectInfo,
    )
    host = call.request.headers.get("host", "")
    return call.answer(
        {
            "Location": f"http://{host}{call.request.raw_path.decode('latin-1')}",
            "Bucket": bucket.name,
            "Key": call.request.key,
            "ETag": quoted(info.facts.etag),
            "ServerSideEncryption": "AES256",
            **checksum_values(info.facts.checksums, info.facts.checksum_type),
        }
    )


async def _stored_parts(
    call: Call, bucket: BucketInfo, identifier: bytes
) -> tuple[UploadInfo, dict[int, PartInfo]]:
    stored: dict[int, PartInfo] = {}
    after = 0
    while True:
        page = await call.ask(
            ListParts(
                bucket=bucket.bucket,
                key=call.request.key,
                upload=identifier,
                after=after,
                limit=PARTS_PAGE_MAX,
            ),
            PartList,
        )
        stored.update((part.number, part) for part in page.parts)
        if not (page.truncated and page.parts):
            return page.upload, stored
        after = page.parts[-1].number


def final_facts(
    call: Call,
    upload: UploadInfo,
    stored: Mapping[int, PartInfo],
    named: Sequence[CompletePart],
) -> ObjectFacts:
    """Return the facts of the object to be. Raises for parts that are wrong or too small."""
    parts = [_matching(upload, stored.get(part.number), part) for part in named]
    for part in parts[:-1]:
        if part.size < PART_BYTES_MIN:
            raise S3Error(
                "EntityTooSmall",
                ProposedSize=str(part.size),
                MinSizeAllowed=str(PART_BYTES_MIN),
                PartNumber=str(part.number),
                ETag=part.etag,
            )
    size = sum(part.size for part in parts)
    limit = call.config.multipart_object_bytes_max
    if size > limit:
        raise S3Error("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(limit))
    announced = call.params.get("MpuObjectSize")
    if announced is not None and announced != size:
        raise S3Error(
            "InvalidRequest",
            "The provided 'x-amz-mp-object-size' header does not match what was computed.",
        )
    sums, kind = _final_checksums(upload, parts)
    _compare_checksums(call, sums, kind)
    shown = primary_algorithm(sums)
    return msgspec.structs.replace(
        upload.facts,
        size=size,
        etag=checksums.etag_of_parts([part.etag for part in parts]),
        checksums=sums,
        checksum_type=kind,
        part_sizes=[part.size for part in parts],
        part_checksums=(
            [{shown: part.checksums[shown]} for part in parts]
            if all(shown in part.checksums for part in parts)
            else []
        ),
    )


def _matching(upload: UploadInfo, stored: PartInfo | None, named: CompletePart) -> PartInfo:
    if stored is None or stored.etag != named.etag:
        raise S3Error(
            "InvalidPart",
            UploadId=upload.upload.hex(),
            PartNumber=str(named.number),
            ETag=named.etag,
        )
    for algorithm, value in named.checksums.items():
        if stored.checksums.get(algorithm, value) != value:
            raise S3Error("InvalidPart", PartNumber=str(named.number), ETag=named.etag)
    return stored


def _final_checksums(upload: UploadInfo, parts: Sequence[PartInfo]) -> tuple[dict[str, str], str]:
    sums: dict[str, str] = {}
    kind = checksums.FULL_OBJECT
    algorithm = upload.checksum_algorithm
    if algorithm:
        kind = upload.facts.checksum_type
        if kind == checksums.FULL_OBJECT:
            pairs = [(part.checksums[algorithm], part.size) for part in parts]
            sums[algorithm] = checksums.combine_full(algorithm, pairs)
        else:
            values = [part.checksums[algorithm] for part in parts]
            sums[algorithm] = checksums.combine_composite(algorithm, values)
    default = checksums.DEFAULT
    pairs = [(part.checksums[default], part.size) for part in parts]
    sums.setdefault(default, checksums.combine_full(default, pairs))
    return sums, kind


def _compare_checksums(call: Call, sums: Mapping[str, str], kind: str) -> None:
    wanted_type = call.params.get("ChecksumType")
    if wanted_type and wanted_type != kind:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {kind} checksum mode. The complete request must "
            "use the same checksum mode.",
        )
    for algorithm in checksums.DIGEST_BYTES:
        value = call.params.get(checksums.parameter_of(algorithm))
        if value is None:
            continue
        ours = sums.get(algorithm)
        if ours is not None and value not in (ours, ours.partition("-")[0]):
            raise checksums.mismatch(algorithm)
