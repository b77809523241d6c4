"""What outsiders rely on, byte for byte. ``ATOLL_GOLDEN=write`` writes the files anew."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.gateway.world import CODEC

from atoll.gateway.s3.errors import S3Error, error_xml
from atoll.gateway.s3.operations import coverage

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "s3"
TIME_MS = 1_767_323_045_000
OWNER = {"ID": "63" * 16, "DisplayName": "customer"}
ENTRY: dict[str, Any] = {
    "Key": "photos/2026/é & <b>.jpg",
    "LastModified": TIME_MS,
    "ETag": '"5d41402abc4b2a76b9719d911017c592"',
    "ChecksumAlgorithm": ["CRC64NVME"],
    "ChecksumType": "FULL_OBJECT",
    "Size": 5,
    "StorageClass": "STANDARD",
    "Owner": OWNER,
}
ANSWERS: dict[str, dict[str, Any]] = {
    "ListBuckets": {
        "Buckets": [{"Name": "store", "CreationDate": TIME_MS}],
        "Owner": OWNER,
    },
    "ListObjects": {
        "Name": "store", "Prefix": "", "Marker": "", "Delimiter": "/", "MaxKeys": 1000,
        "IsTruncated": False, "Contents": [ENTRY], "CommonPrefixes": [{"Prefix": "a/"}],
    },
    "ListObjectsV2": {
        "Name": "store", "Prefix": "", "MaxKeys": 2, "KeyCount": 1, "IsTruncated": True,
        "NextContinuationToken": "MWE=", "Contents": [ENTRY],
    },
    "ListObjectVersions": {
        "Name": "store", "Prefix": "", "KeyMarker": "", "VersionIdMarker": "", "MaxKeys": 1000,
        "IsTruncated": False, "Versions": [{**ENTRY, "VersionId": "null", "IsLatest": True}],
    },
    "CreateMultipartUpload": {"Bucket": "store", "Key": "k", "UploadId": "00" * 16},
    "CompleteMultipartUpload": {
        "Location": "http://h/store/k", "Bucket": "store", "Key": "k", "ETag": '"e-2"',
        "ChecksumCRC64NVME": "AAAAAAAAAAA=", "ChecksumType": "FULL_OBJECT",
    },
    "ListParts": {
        "Bucket": "store", "Key": "k", "UploadId": "00" * 16, "PartNumberMarker": "0",
        "NextPartNumberMarker": "1", "MaxParts": 1000, "IsTruncated": False,
        "Parts": [{"PartNumber": 1, "LastModified": TIME_MS, "ETag": '"e"', "Size": 5}],
        "Initiator": OWNER, "Owner": OWNER, "StorageClass": "STANDARD",
    },
    "ListMultipartUploads": {
        "Bucket": "store", "KeyMarker": "", "UploadIdMarker": "", "MaxUploads": 1000,
        "IsTruncated": False,
        "Uploads": [{"UploadId": "00" * 16, "Key": "k", "Initiated": TIME_MS,
                     "StorageClass": "STANDARD", "Owner": OWNER, "Initiator": OWNER}],
    },
    "DeleteObjects": {
        "Deleted": [{"Key": "a"}],
        "Errors": [{"Key": "b", "Code": "NoSuchVersion", "Message": "m", "VersionId": "7"}],
    },
    "CopyObject": {"CopyObjectResult": {"ETag": '"e"', "LastModified": TIME_MS}},
    "GetBucketAcl": {
        "Owner": OWNER,
        "Grants": [{"Grantee": {"Type": "CanonicalUser", **OWNER}, "Permission": "FULL_CONTROL"}],
    },
    "GetBucketVersioning": {},
    "GetObjectTagging": {"TagSet": []},
}  # fmt: skip


def check(path: Path, content: bytes) -> None:
    if os.environ.get("ATOLL_GOLDEN") == "write":
        path.write_bytes(content)
    assert path.read_bytes() == content, f"{path.name} changed: a decision for the change note"


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_answers(name: str) -> None:
    check(GOLDEN / f"{name}.xml", CODEC.encoders[name].body(ANSWERS[name]))


def test_an_error() -> None:
    error = S3Error("NoSuchKey", Key="a<b>")
    check(GOLDEN / "Error.xml", error_xml(error, "/store/a%3Cb%3E", "0123456789ABCDEF", "aG9zdA=="))


def test_the_published_table_is_the_truth() -> None:
    page = ROOT / "docs" / "s3.md"
    before, _, rest = page.read_text().partition("<!-- operations: generated -->\n")
    _, marker, after = rest.partition("<!-- end -->")
    assert marker, "docs/s3.md keeps its markers"
    table = coverage(CODEC.model)
    whole = f"{before}<!-- operations: generated -->\n{table}{marker}{after}"
    check(page, whole.encode())
