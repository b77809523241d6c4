"""Names of buckets: the rules of S3."""

import re

from atoll.gateway.s3.errors import S3Error

_NAME = re.compile(r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]\Z", re.ASCII)
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}\Z", re.ASCII)
_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket(name: str) -> None:
    """Raise ``InvalidBucketName`` for what no bucket can be called."""
    if not _NAME.match(name) or ".." in name or _ADDRESS.match(name):
        raise S3Error("InvalidBucketName", BucketName=name)


def check_new_bucket(name: str) -> None:
    """Raise ``InvalidBucketName`` for what a new bucket must not be called."""
    check_bucket(name)
    if name.startswith(_PREFIXES) or name.endswith(_SUFFIXES) or ".-" in name or "-." in name:
        raise S3Error("InvalidBucketName", BucketName=name)
