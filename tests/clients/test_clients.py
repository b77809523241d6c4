"""Real S3 clients against a real cloud: what people would use it with."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from atoll.cli.local_cloud import LocalCloud
from tests.clients.conftest import Client

AWS = str(Path(sys.executable).with_name("aws"))
Same = Callable[[Path, Path], None]

needs_rclone = pytest.mark.skipif(not shutil.which("rclone"), reason="rclone is not installed")
needs_restic = pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed")


def test_aws_cli_copies_syncs_lists_and_removes(
    client: Client, bucket: str, tree: Path, tmp_path: Path, same_trees: Same
) -> None:
    client.run(AWS, "s3", "cp", str(tree / "multi.bin"), f"s3://{bucket}/multi.bin")
    client.run(AWS, "s3", "cp", f"s3://{bucket}/multi.bin", str(tmp_path / "multi.bin"))
    assert (tmp_path / "multi.bin").read_bytes() == (tree / "multi.bin").read_bytes()
    client.run(AWS, "s3", "sync", str(tree), f"s3://{bucket}/tree")
    listed = client.run(AWS, "s3", "ls", "--recursive", f"s3://{bucket}/tree/")
    assert len(listed.strip().splitlines()) == sum(1 for p in tree.rglob("*") if p.is_file())
    back = tmp_path / "back"
    client.run(AWS, "s3", "sync", f"s3://{bucket}/tree", str(back))
    same_trees(tree, back)
    again = client.run(AWS, "s3", "sync", str(tree), f"s3://{bucket}/tree")
    assert "upload:" not in again, "an unchanged tree is not sent twice"
    client.run(AWS, "s3", "rm", "--recursive", f"s3://{bucket}/")
    assert client.run(AWS, "s3", "ls", f"s3://{bucket}/").strip() == ""


def test_aws_cli_streams_and_checks_every_checksum(client: Client, bucket: str) -> None:
    body = os.urandom(300_000)
    client.run(AWS, "s3", "cp", "-", f"s3://{bucket}/stream", stdin=body)
    head = client.run(AWS, "s3api", "head-object", "--bucket", bucket, "--key", "stream")
    assert hashlib.md5(body).hexdigest() in head
    source = client.home / "source"
    source.write_bytes(body)
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        client.run(
            *(AWS, "s3api", "put-object", "--bucket", bucket, "--key", f"with-{algorithm}"),
            *("--body", str(source), "--checksum-algorithm", algorithm),
        )
        client.run(
            *(AWS, "s3api", "get-object", "--bucket", bucket, "--key", f"with-{algorithm}"),
            *("--checksum-mode", "ENABLED", str(client.home / "back")),
        )
        assert (client.home / "back").read_bytes() == body


def test_aws_cli_presigned_link_is_open_to_anyone(client: Client, bucket: str) -> None:
    client.run(AWS, "s3", "cp", "-", f"s3://{bucket}/shared", stdin=b"for everybody")
    link = client.run(AWS, "s3", "presign", f"s3://{bucket}/shared").strip()
    assert "for everybody" in client.run("curl", "-sSf", link)
    client.run("curl", "-sSf", link.replace("Expires=1", "Expires=2"), ok=False)


@needs_rclone
def test_rclone_copies_and_checks(
    client: Client, bucket: str, tree: Path, tmp_path: Path, same_trees: Same
) -> None:
    client.run("rclone", "copy", str(tree), f"atoll:{bucket}/tree")
    assert "0 differences" in client.run("rclone", "check", str(tree), f"atoll:{bucket}/tree")
    client.run("rclone", "check", "--download", str(tree), f"atoll:{bucket}/tree")
    back = tmp_path / "back"
    client.run("rclone", "copy", f"atoll:{bucket}/tree", str(back))
    same_trees(tree, back)
    client.run("rclone", "purge", f"atoll:{bucket}/tree")


@needs_restic
def test_restic_backs_up_and_restores(
    client: Client, bucket: str, tree: Path, tmp_path: Path, same_trees: Same
) -> None:
    repository = ("-r", f"s3:{client.cloud.endpoint}/{bucket}/restic")
    client.run("restic", *repository, "init")
    client.run("restic", *repository, "backup", str(tree))
    client.run("restic", *repository, "check", "--read-data")
    back = tmp_path / "back"
    client.run("restic", *repository, "restore", "latest", "--target", str(back))
    same_trees(tree, back / tree.relative_to("/"))


def test_boto3_multipart_ranges_and_conditions(cloud: LocalCloud, bucket: str) -> None:
    s3 = cloud.boto3_client()
    part, tail = os.urandom(5 << 20), os.urandom(1234)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    etags = [
        s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=n, Body=body)["ETag"]
        for n, body in ((1, part), (2, tail))
    ]
    done = s3.complete_multipart_upload(
        Bucket=bucket,
        Key="parts",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": n + 1, "ETag": e} for n, e in enumerate(etags)]},
    )
    assert done["ETag"].endswith('-2"')
    whole = part + tail
    assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == whole
    for span, expected in {
        "bytes=0-0": whole[:1],
        "bytes=-5": whole[-5:],
        f"bytes={len(part) - 3}-{len(part) + 3}": whole[len(part) - 3 : len(part) + 4],
        "bytes=5000000-": whole[5_000_000:],
    }.items():
        answer = s3.get_object(Bucket=bucket, Key="parts", Range=span)
        assert answer["Body"].read() == expected
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="parts", Body=b"x", IfNoneMatch="*")
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"


@pytest.mark.parametrize(
    "key",
    ["a//b", "../up", "a/../b", "%2F", "end/", "/start", "~!@#$%^&*()_+{}|:<>?", "é", "a b", "+"],
)
def test_boto3_odd_keys_stay_themselves(cloud: LocalCloud, bucket: str, key: str) -> None:
    s3 = cloud.boto3_client()
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert key in [row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
