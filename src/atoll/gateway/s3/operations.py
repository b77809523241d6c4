"""Which operation is which function. What is not here is answered 501 with its name."""

from collections.abc import Awaitable, Callable

from atoll.gateway.s3 import bucket, copy, delete, get, list, multipart, put, quirks
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.codec.model import Model
from atoll.gateway.s3.request import Response

Handler = Callable[[Call], Awaitable[Response]]

HANDLERS: dict[str, Handler] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "CopyObject": copy.copy_object,
    "CreateBucket": bucket.create_bucket,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "DeleteBucket": bucket.delete_bucket,
    "DeleteObject": delete.delete_object,
    "DeleteObjects": delete.delete_objects,
    "GetBucketAcl": bucket.get_bucket_acl,
    "GetBucketLocation": bucket.get_bucket_location,
    "GetObject": get.get_object,
    "GetObjectAcl": get.get_object_acl,
    "GetObjectAttributes": get.get_object_attributes,
    "GetObjectLegalHold": get.get_object_lock_state,
    "GetObjectRetention": get.get_object_lock_state,
    "GetObjectTagging": get.get_object_tagging,
    "HeadBucket": bucket.head_bucket,
    "HeadObject": get.head_object,
    "ListBuckets": bucket.list_buckets,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "ListObjects": list.list_objects,
    "ListObjectsV2": list.list_objects_v2,
    "ListObjectVersions": list.list_object_versions,
    "ListParts": multipart.list_parts,
    "PutBucketAcl": bucket.put_bucket_acl,
    "PutObject": put.put_object,
    "PutObjectAcl": get.put_object_acl,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": copy.upload_part_copy,
    **bucket.CONFIGURATION_READS,
}

XML_BYTES_MAX = 1 << 20
LONG_XML_BYTES_MAX = 8 << 20
LONG_XML = frozenset({"CompleteMultipartUpload", "DeleteObjects"})
"""Operations whose XML names up to 10,000 parts or 1,000 keys."""


def state_of(name: str) -> tuple[str, str]:
    """Return ``full``, ``partial`` or ``501`` for an operation, and what the part is."""
    if name not in HANDLERS:
        return "501", ""
    if name in quirks.PARTIAL:
        return "partial", quirks.PARTIAL[name]
    return "full", ""


def coverage(model: Model) -> str:
    """Return the table of all operations of the model with their states, as Markdown."""
    rows = []
    counts = {"full": 0, "partial": 0, "501": 0}
    for name in sorted(model.operations):
        state, note = state_of(name)
        counts[state] += 1
        rows.append(f"| {name} | {state} | {note} |")
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    return "\n".join(
        [
            f"{len(rows)} operations of the model: {summary}.",
            "",
            "| operation | state | what of it |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
