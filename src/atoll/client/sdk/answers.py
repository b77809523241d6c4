"""Reads what an S3 endpoint answers: listings, uploads, errors. Never resolves entities."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from lxml import etree

from atoll.client.sdk.model import BucketEntry, Entry, ObjectEntry, ObjectHead, PrefixEntry
from atoll.core.errors import AtollError, Kind, meaning_of
from atoll.core.messages import Failure

NUMBER_DIGITS_MAX = 18
_KINDS: dict[str, Kind] = {}
for _kind in (
    Kind.INTERNAL,
    Kind.UNREACHABLE,
    Kind.OVERLOADED,
    Kind.NOT_IMPLEMENTED,
    Kind.BAD_REQUEST,
    Kind.FORBIDDEN,
    Kind.CONFLICT,
    Kind.PRECONDITION_FAILED,
    Kind.TOO_LARGE,
    Kind.CORRUPT,
    Kind.BUCKET_NOT_FOUND,
    Kind.BUCKET_EXISTS,
    Kind.BUCKET_OWNED,
    Kind.BUCKET_NOT_EMPTY,
    Kind.OBJECT_NOT_FOUND,
    Kind.UPLOAD_NOT_FOUND,
    Kind.INVALID_PART,
    Kind.INVALID_PART_ORDER,
    Kind.PART_TOO_SMALL,
    Kind.KEY_NOT_FOUND,
    Kind.CLOCK_SKEW,
    Kind.UNPAID,
):
    _KINDS[meaning_of(_kind).s3_code] = _kind
_KINDS["SignatureDoesNotMatch"] = Kind.UNAUTHENTICATED
_KINDS["InvalidBucketName"] = Kind.BAD_REQUEST
_STATUSES = {
    404: Kind.OBJECT_NOT_FOUND,
    403: Kind.FORBIDDEN,
    409: Kind.CONFLICT,
    412: Kind.PRECONDITION_FAILED,
    416: Kind.BAD_REQUEST,
    501: Kind.NOT_IMPLEMENTED,
    503: Kind.OVERLOADED,
}
_HINTS = {
    Kind.KEY_NOT_FOUND: "check the access key",
    Kind.UNAUTHENTICATED: "check the secret key",
    Kind.CLOCK_SKEW: "set the clock of this machine (NTP)",
    Kind.BUCKET_NOT_FOUND: "make it with `atoll mb s3://NAME`",
    Kind.BUCKET_NOT_EMPTY: "remove its objects first: `atoll rm --recursive s3://NAME/`",
}

_CODE_HINTS = {
    "InvalidBucketName": "a name has 3 to 63 lower-case letters, digits, dots and hyphens",
}


def _tree(body: bytes) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as cause:
        raise AtollError(Kind.INTERNAL, "read answer", f"not XML: {cause}") from cause
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = etree.QName(element).localname
    return root


def _text(element: Any, name: str, default: str = "") -> str:
    found = element.findtext(name)
    return default if found is None else str(found)


def _number(element: Any, name: str) -> int:
    text = _text(element, name)
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise AtollError(Kind.INTERNAL, "read answer", f"{name} is no number")
    return int(text)


def _iso_ms(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
    except ValueError:
        return 0


def error_of(operation: str, status: int, body: bytes, about: str) -> AtollError:
    """Return the error that an answer tells of; by its status alone where it has no body."""
    code = message = ""
    if body.startswith(b'{"type":"Failure"'):
        # Operations beyond S3 answer with the control plane's own failures.
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return msgspec.json.decode(body, type=Failure).to_error()
    if body.lstrip().startswith(b"<"):
        try:
            root = _tree(body)
            code, message = _text(root, "Code"), _text(root, "Message")
        except AtollError:
            code = ""
    kind = _KINDS.get(code) or _STATUSES.get(status)
    if kind is None:
        kind = Kind.INTERNAL if status >= 500 else Kind.BAD_REQUEST
    hint = _CODE_HINTS.get(code) or _HINTS.get(kind, "")
    words = message or (f"the endpoint answered {status}" + (f" {code}" if code else ""))
    return AtollError(kind, operation, words, hint=hint, about=about)


def read_buckets(body: bytes) -> tuple[list[BucketEntry], str]:
    """Return the buckets of ListBuckets and its continuation token."""
    root = _tree(body)
    found = [
        BucketEntry(_text(bucket, "Name"), _iso_ms(_text(bucket, "CreationDate")))
        for bucket in root.iterfind("Buckets/Bucket")
    ]
    return found, _text(root, "ContinuationToken")


def read_listing(body: bytes) -> tuple[list[Entry], str]:
    """Return one page of ListObjectsV2 (asked with url encoding) and its continuation token."""
    root = _tree(body)
    plain = unquote if _text(root, "EncodingType") == "url" else str
    entries: list[Entry] = [
        ObjectEntry(
            key=plain(_text(found, "Key")),
            size=_number(found, "Size"),
            etag=_text(found, "ETag").strip('"'),
            modified_ms=_iso_ms(_text(found, "LastModified")),
        )
        for found in root.iterfind("Contents")
    ]
    entries += [PrefixEntry(plain(_text(p, "Prefix"))) for p in root.iterfind("CommonPrefixes")]
    entries.sort(key=lambda e: (e.prefix if isinstance(e, PrefixEntry) else e.key).encode())
    truncated = _text(root, "IsTruncated") == "true"
    return entries, _text(root, "NextContinuationToken") if truncated else ""


@dataclass(frozen=True, slots=True)
class KnownPart:
    """A part that the endpoint has."""

    number: int
    size: int
    etag: str


def read_parts(body: bytes) -> tuple[list[KnownPart], int]:
    """Return one page of ListParts and the number to go on after; 0 at the end."""
    root = _tree(body)
    parts = [
        KnownPart(
            _number(part, "PartNumber"),
            _number(part, "Size"),
            _text(part, "ETag").strip('"'),
        )
        for part in root.iterfind("Part")
    ]
    truncated = _text(root, "IsTruncated") == "true"
    return parts, _number(root, "NextPartNumberMarker") if truncated else 0


def read_upload_id(body: bytes) -> str:
    """Return the upload id of CreateMultipartUpload."""
    upload = _text(_tree(body), "UploadId")
    if not upload:
        raise AtollError(Kind.INTERNAL, "read answer", "the answer names no upload")
    return upload


def read_complete(body: bytes, about: str) -> str:
    """Return the ETag of CompleteMultipartUpload; its 200 may still carry an error."""
    root = _tree(body)
    if root.tag == "Error":
        raise error_of("complete upload", 500, body, about)
    return _text(root, "ETag").strip('"')


def read_deleted(body: bytes) -> list[tuple[str, str]]:
    """Return the keys that DeleteObjects could not remove, each with the reason."""
    root = _tree(body)
    return [
        (_text(error, "Key"), _text(error, "Message") or _text(error, "Code"))
        for error in root.iterfind("Error")
    ]


def delete_body(keys: list[str]) -> bytes:
    """Return the body of a quiet DeleteObjects."""
    root = etree.Element("Delete")
    for key in keys:
        _add(_add(root, "Object"), "Key", key)
    _add(root, "Quiet", "true")
    return bytes(etree.tostring(root))


def complete_body(parts: list[tuple[int, str]]) -> bytes:
    """Return the body of CompleteMultipartUpload for (number, ETag) pairs in order."""
    root = etree.Element("CompleteMultipartUpload")
    for number, etag in parts:
        part = _add(root, "Part")
        _add(part, "PartNumber", str(number))
        _add(part, "ETag", f'"{etag}"')
    return bytes(etree.tostring(root))


def _add(parent: Any, name: str, text: str | None = None) -> Any:
    child = etree.SubElement(parent, name)
    child.text = text
    return child


def head_of(bucket: str, key: str, headers: Mapping[str, str]) -> ObjectHead:
    """Return an object's facts from the headers of HEAD or GET (lower-case names)."""
    modified = headers.get("last-modified", "")
    size = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "0")
    whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
    return ObjectHead(
        bucket=bucket,
        key=key,
        size=int(size) if size.isdigit() else 0,
        etag=headers.get("etag", "").strip('"'),
        modified_ms=int(parsedate_to_datetime(modified).timestamp() * 1000) if modified else 0,
        content_type=headers.get("content-type", ""),
        metadata={
            name.removeprefix("x-amz-meta-"): value
            for name, value in headers.items()
            if name.startswith("x-amz-meta-")
        },
        crc64nvme=headers.get("x-amz-checksum-crc64nvme", "") if whole else "",
    )
