"""What an object carries besides its bytes: from request headers and back to response headers."""

import base64
import binascii
import re
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Any

from atoll.core.messages import ObjectFacts, ObjectInfo
from atoll.gateway.s3 import checksums
from atoll.gateway.s3.codec.decode import Params
from atoll.gateway.s3.errors import S3Error, header_not_implemented

USER_METADATA_BYTES_MAX = 2048
KEY_BYTES_MAX = 1024
CONTENT_TYPE_DEFAULT = "binary/octet-stream"

SYSTEM_HEADERS = {
    "CacheControl": "cache-control",
    "ContentDisposition": "content-disposition",
    "ContentEncoding": "content-encoding",
    "ContentLanguage": "content-language",
    "Expires": "expires",
}
"""Stored parameters with the names they are stored under."""
OVERRIDES = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
}
_ENCODED_WORD = re.compile(r"=\?[!-~]+\?[QqBb]\?[!-~]*\?=")
_UNSERVED = {
    "Tagging": "x-amz-tagging",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "SSECustomerKey": "x-amz-server-side-encryption-customer-key",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "WriteOffsetBytes": "x-amz-write-offset-bytes",
    "CopySourceSSECustomerAlgorithm": "x-amz-copy-source-server-side-encryption-customer-algorithm",
}
_LOCKS = ("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus")
_GRANTS = ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP")


def check_key(key: str) -> None:
    """Raise ``KeyTooLongError`` for a key over 1,024 bytes of UTF-8."""
    if len(key) * 4 > KEY_BYTES_MAX:
        length = len(key.encode("utf-8"))
        if length > KEY_BYTES_MAX:
            raise S3Error("KeyTooLongError", Size=str(length), MaxSizeAllowed=str(KEY_BYTES_MAX))


def check_write_headers(params: Params) -> None:
    """Refuse what this endpoint would otherwise silently not do."""
    for name, header in _UNSERVED.items():
        if params.get(name):
            raise header_not_implemented(header)
    if params.get("ServerSideEncryption", "AES256") != "AES256":
        raise header_not_implemented("x-amz-server-side-encryption")
    if any(params.get(name) for name in _LOCKS):
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    if params.get("StorageClass", "STANDARD") != "STANDARD":
        raise S3Error("InvalidStorageClass", StorageClassRequested=params["StorageClass"])
    check_acl(params)


def check_acl(params: Params) -> None:
    """Accept only what is so anyway: the owner, and nobody else, has full control."""
    acl = params.get("ACL", "private")
    if acl not in ("private", "bucket-owner-full-control") or any(map(params.get, _GRANTS)):
        raise S3Error("AccessControlListNotSupported")


def facts_of_request(params: Params) -> ObjectFacts:
    """Return the facts a write request states; size and ETag are still to come."""
    headers = {
        stored: as_text(params[name]) for name, stored in SYSTEM_HEADERS.items() if params.get(name)
    }
    encoding = headers.get("content-encoding")
    if encoding is not None and "aws-chunked" in encoding.lower():
        kept = [part.strip() for part in encoding.split(",")]
        kept = [part for part in kept if part and part.lower() != "aws-chunked"]
        del headers["content-encoding"]
        if kept:
            headers["content-encoding"] = ", ".join(kept)
    return ObjectFacts(
        size=0,
        etag="",
        content_type=as_text(params.get("ContentType") or CONTENT_TYPE_DEFAULT),
        headers=headers,
        user_metadata=user_metadata(params.get("Metadata") or {}),
    )


def user_metadata(raw: dict[str, str]) -> dict[str, str]:
    """Return user metadata as text. Raises ``MetadataTooLarge`` over 2 KiB of UTF-8."""
    result: dict[str, str] = {}
    size = 0
    for name, value in raw.items():
        name, value = as_text(name), as_text(value).strip()
        if _ENCODED_WORD.search(value):
            value = _decode_words(value)
        result[name] = value
        size += len(name.encode("utf-8")) + len(value.encode("utf-8"))
    if size > USER_METADATA_BYTES_MAX:
        raise S3Error(
            "MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(USER_METADATA_BYTES_MAX)
        )
    return result


def as_text(value: str) -> str:
    """Return a header value (one character per byte) as UTF-8 text where it is that."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return value


def _decode_words(value: str) -> str:
    """Return the text of RFC 2047 encoded words; the value itself where they do not decode."""
    try:
        parts = decode_header(value)
        return "".join(
            part.decode(charset or "ascii") if isinstance(part, bytes) else part
            for part, charset in parts
        )
    except (HeaderParseError, LookupError, UnicodeDecodeError, binascii.Error):
        return value


def wire_text(value: str) -> str:
    """Return text for a header: as it is where printable ASCII, else as an RFC 2047 word."""
    if value.isascii() and value.isprintable():
        return value
    word = base64.b64encode(value.encode("utf-8", "surrogatepass")).decode("ascii")
    return f"=?UTF-8?B?{word}?="


def quoted(etag: str) -> str:
    """Return an ETag in quotes."""
    return f'"{etag}"'


def object_values(info: ObjectInfo) -> dict[str, Any]:
    """Return the response members that every read of an object carries."""
    facts = info.facts
    values: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "LastModified": info.modified_ms,
        "ETag": quoted(facts.etag),
        "ContentType": wire_text(facts.content_type),
        "ServerSideEncryption": "AES256",
    }
    if facts.user_metadata:
        values["Metadata"] = {name: wire_text(value) for name, value in facts.user_metadata.items()}
    if facts.headers:
        for name, stored in SYSTEM_HEADERS.items():
            if stored in facts.headers:
                values[name] = wire_text(facts.headers[stored])
    return values


def primary_algorithm(sums: dict[str, str]) -> str:
    """Return the algorithm S3 shows of an object or part: the client's; empty for none."""
    return next((name for name in sums if name != checksums.DEFAULT), next(iter(sums), ""))


def checksum_values(sums: dict[str, str], checksum_type: str) -> dict[str, str]:
    """Return the response members of the checksum that S3 shows."""
    algorithm = primary_algorithm(sums)
    if not algorithm:
        return {}
    values = {checksums.parameter_of(algorithm): sums[algorithm]}
    if checksum_type:
        values["ChecksumType"] = checksum_type
    return values


def owner(account: bytes, name: str, *, show_name: bool) -> dict[str, str]:
    """Return an Owner element."""
    return {"ID": account.hex(), "DisplayName": name} if show_name else {"ID": account.hex()}
