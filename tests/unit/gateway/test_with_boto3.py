"""The AWS SDK itself against the endpoint over real HTTP."""

import asyncio
import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import boto3.s3.transfer
import botocore.config
import botocore.exceptions
import pytest
from tests.unit.gateway.world import ACCESS, SECRET


def client_of(endpoint: str, signature_version: str | None = None) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=botocore.config.Config(
            s3={"addressing_style": "path"},
            signature_version=signature_version,
            retries={"total_max_attempts": 1},
        ),
    )


@pytest.fixture
def s3(endpoint: str) -> Any:
    return client_of(endpoint)


async def run(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call the blocking SDK beside the loop that serves it."""
    return await asyncio.to_thread(function, *arguments, **named)


def code_of(caught: Any) -> tuple[int, str]:
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


PATTERN = bytes(range(256)) * 4096


async def test_objects_of_every_size_come_back(s3: Any) -> None:
    for size in (0, 1, 4096, 65_536, 65_537, 1_000_003):
        body = PATTERN[:size]
        put = await run(s3.put_object, Bucket="store", Key=f"n{size}", Body=body)
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = await run(s3.get_object, Bucket="store", Key=f"n{size}")
        assert await run(got["Body"].read) == body
        assert got["ContentLength"] == size


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
async def test_each_checksum_is_verified_stored_and_shown(s3: Any, algorithm: str) -> None:
    body = PATTERN[:700_000]
    put = await run(
        s3.put_object, Bucket="store", Key="sum", Body=body, ChecksumAlgorithm=algorithm
    )
    name = f"Checksum{algorithm}"
    got = await run(s3.get_object, Bucket="store", Key="sum", ChecksumMode="ENABLED")
    assert got[name] == put[name]
    assert got["ChecksumType"] == "FULL_OBJECT"
    assert await run(got["Body"].read) == body
    wrong = await run(s3.head_object, Bucket="store", Key="sum")
    assert name not in wrong
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await run(s3.put_object, Bucket="store", Key="bad", Body=b"x", **{name: put[name]})
    assert code_of(caught) == (400, "BadDigest")
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await run(s3.head_object, Bucket="store", Key="bad")
    assert code_of(caught) == (404, "404")


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "FULL_OBJECT"), ("CRC32", "COMPOSITE"), ("CRC32C", "COMPOSITE"),
        ("CRC64NVME", "FULL_OBJECT"), ("SHA256", "COMPOSITE"), ("", ""),
    ],
)  # fmt: skip
async def test_a_multipart_upload_becomes_one_object(s3: Any, algorithm: str, kind: str) -> None:
    options = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind} if algorithm else {}
    part_options = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    made = await run(
        s3.create_multipart_upload, Bucket="store", Key="m", Metadata={"k": "v"}, **options
    )
    where = {"Bucket": "store", "Key": "m", "UploadId": made["UploadId"]}
    first, second = PATTERN * 5, b"the end"
    parts = []
    for number, body in ((2, first), (9, second)):
        part = await run(s3.upload_part, **where, PartNumber=number, Body=body, **part_options)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
        if algorithm:
            parts[-1][f"Checksum{algorithm}"] = part[f"Checksum{algorithm}"]
    listed = await run(s3.list_parts, **where)
    assert [part["PartNumber"] for part in listed["Parts"]] == [2, 9]
    uploads = await run(s3.list_multipart_uploads, Bucket="store")
    assert [upload["Key"] for upload in uploads["Uploads"]] == ["m"]
    done = await run(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": parts})
    where[f"Checksum{algorithm}"] = done[f"Checksum{algorithm}"] if algorithm else ""
    where = {name: value for name, value in where.items() if value}
    again = await run(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": parts})
    assert again["ETag"] == done["ETag"]
    digests = hashlib.md5(hashlib.md5(first).digest() + hashlib.md5(second).digest()).hexdigest()
    assert done["ETag"] == f'"{digests}-2"'
    got = await run(s3.get_object, Bucket="store", Key="m", ChecksumMode="ENABLED")
    assert await run(got["Body"].read) == first + second
    assert got["Metadata"] == {"k": "v"}
    assert got["ChecksumType"] == (kind or "FULL_OBJECT")
    tail = await run(s3.get_object, Bucket="store", Key="m", PartNumber=2)
    assert (await run(tail["Body"].read), tail["PartsCount"]) == (second, 2)
    attributes = await run(
        s3.get_object_attributes, Bucket="store", Key="m",
        ObjectAttributes=["ETag", "ObjectParts", "ObjectSize", "Checksum"],
    )  # fmt: skip
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2
    assert attributes["ObjectSize"] == len(first + second)


async def test_the_transfer_manager_uploads_and_copies_in_parts(s3: Any) -> None:
    config = boto3.s3.transfer.TransferConfig(
        multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4
    )
    body = PATTERN * 12
    await run(s3.upload_fileobj, io.BytesIO(body), "store", "big", Config=config)
    source = {"Bucket": "store", "Key": "big"}
    await run(s3.copy, source, "store", "copied", Config=config)
    await run(s3.copy_object, Bucket="store", Key="whole", CopySource=source)
    for key in ("big", "copied", "whole"):
        target = io.BytesIO()
        await run(s3.download_fileobj, "store", key, target, Config=config)
        assert target.getvalue() == body


async def test_listings_page_and_roll_up(s3: Any) -> None:
    keys = ["a/1", "a/2", "b", "c/x/1", "c/x/2", "é", "漢", "🦑"]
    for key in keys:
        await run(s3.put_object, Bucket="store", Key=key, Body=b"")
    for operation in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(operation).paginate(
            Bucket="store", Delimiter="/", PaginationConfig={"PageSize": 2}
        )
        seen = await run(
            lambda pages=pages: [
                entry.get("Key") or entry.get("Prefix")
                for page in pages
                for entry in page.get("Contents", []) + page.get("CommonPrefixes", [])
            ]
        )
        assert sorted(seen) == sorted(["a/", "b", "c/", "é", "漢", "🦑"])
    full = await run(s3.list_objects_v2, Bucket="store", FetchOwner=True)
    assert [entry["Key"] for entry in full["Contents"]] == keys
    assert full["Contents"][0]["Owner"]["DisplayName"] == "customer"
    versions = await run(s3.list_object_versions, Bucket="store")
    assert {entry["VersionId"] for entry in versions["Versions"]} == {"null"}
    deleted = await run(
        s3.delete_objects, Bucket="store", Delete={"Objects": [{"Key": key} for key in keys]}
    )
    assert len(deleted["Deleted"]) == len(keys)
    assert (await run(s3.list_objects_v2, Bucket="store"))["KeyCount"] == 0
    await run(s3.delete_bucket, Bucket="store")


async def test_presigned_urls_read_and_write(endpoint: str) -> None:
    s3 = client_of(endpoint, signature_version="s3v4")
    url = s3.generate_presigned_url("put_object", {"Bucket": "store", "Key": "a b"})
    request = urllib.request.Request(url, data=b"presigned", method="PUT")
    assert (await run(urllib.request.urlopen, request)).status == 200
    url = s3.generate_presigned_url(
        "get_object", {"Bucket": "store", "Key": "a b", "ResponseContentType": "text/odd"}
    )
    answer = await run(urllib.request.urlopen, url)
    assert (answer.read(), answer.headers["content-type"]) == (b"presigned", "text/odd")


async def test_links_of_version_2_are_what_boto3_makes_by_default(endpoint: str) -> None:
    s3 = client_of(endpoint)
    await run(s3.put_object, Bucket="store", Key="a b/ü", Body=b"shared")
    url = s3.generate_presigned_url(
        "get_object", {"Bucket": "store", "Key": "a b/ü", "ResponseContentType": "text/odd"}
    )
    assert "AWSAccessKeyId=" in url
    answer = await run(urllib.request.urlopen, url)
    assert (answer.read(), answer.headers["content-type"]) == (b"shared", "text/odd")
    put = s3.generate_presigned_url(
        "put_object",
        {"Bucket": "store", "Key": "new", "ContentType": "text/plain", "Metadata": {"a": "b"}},
    )
    headers = {"content-type": "text/plain"}
    request = urllib.request.Request(put, data=b"new", method="PUT", headers=headers)
    assert (await run(urllib.request.urlopen, request)).status == 200
    assert (await run(s3.head_object, Bucket="store", Key="new"))["Metadata"] == {"a": "b"}
    expired = s3.generate_presigned_url(
        "get_object", {"Bucket": "store", "Key": "new"}, ExpiresIn=-5
    )
    other_key, longer = url.replace("a%20b", "new"), url.replace("Expires=1", "Expires=2")
    other_method = urllib.request.Request(url, method="DELETE")
    for wrong in (expired, other_key, longer, other_method):
        with pytest.raises(urllib.error.HTTPError) as refused:
            await run(urllib.request.urlopen, wrong)
        assert refused.value.code == 403


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_bucket_versioning", ""), ("get_bucket_location", ""), ("get_bucket_acl", ""),
        ("get_bucket_encryption", ""), ("get_public_access_block", ""), ("get_bucket_logging", ""),
        ("get_bucket_ownership_controls", ""), ("get_bucket_request_payment", ""),
        ("get_bucket_accelerate_configuration", ""), ("get_bucket_notification_configuration", ""),
    ],
)  # fmt: skip
async def test_what_tools_read_first_is_answered_truly(s3: Any, name: str, code: str) -> None:
    if not code:
        await run(getattr(s3, name), Bucket="store")
        return
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await run(getattr(s3, name), Bucket="store")
    assert code_of(caught) == (404, code)
