"""Listings of objects: ListObjects, ListObjectsV2, ListObjectVersions."""

from typing import Any
from urllib.parse import quote

from atoll.core.messages import LIST_KEYS_MAX, ListObjects, ObjectInfo, ObjectList
from atoll.gateway.s3.bucket import make_token, read_token
from atoll.gateway.s3.call import Call
from atoll.gateway.s3.errors import invalid_argument
from atoll.gateway.s3.metadata import primary_algorithm, quoted
from atoll.gateway.s3.request import Response

_NOT_SHOWN = ObjectList(objects=[], prefixes=[], truncated=False)


def page_limit(call: Call, name: str, wire: str) -> int:
    """Return the page size asked for, at most 1,000. Raises ``InvalidArgument``."""
    limit: int = call.params.get(name, LIST_KEYS_MAX)
    if not 0 <= limit < 2**31:
        raise invalid_argument(
            wire, str(limit), f"Argument {wire} must be an integer between 0 and 2147483647"
        )
    return min(limit, LIST_KEYS_MAX)


def encoder_of(call: Call) -> Any:
    """Return the function that writes keys as the client wishes. Raises ``InvalidArgument``."""
    encoding = call.params.get("EncodingType")
    if encoding is None:
        return lambda text: text
    if encoding != "url":
        raise invalid_argument(
            "encoding-type", encoding, "Invalid Encoding Method specified in Request"
        )
    return lambda text: None if text is None else quote(text, safe="/")


async def _page(call: Call, after: str, limit: int) -> ObjectList:
    params = call.params
    if limit == 0:
        await call.bucket()
        return _NOT_SHOWN
    _, page = await call.read(
        lambda bucket: ListObjects(
            bucket=bucket.bucket,
            prefix=params.get("Prefix", ""),
            delimiter=params.get("Delimiter", ""),
            after=after,
            limit=limit,
        ),
        ObjectList,
    )
    return page


def _entry(info: ObjectInfo, write: Any, owner: dict[str, str] | None) -> dict[str, Any]:
    facts = info.facts
    entry: dict[str, Any] = {
        "Key": write(info.key),
        "LastModified": info.modified_ms // 1000 * 1000,
        "ETag": quoted(facts.etag),
        "Size": facts.size,
        "StorageClass": "STANDARD",
    }
    if facts.checksums:
        entry["ChecksumAlgorithm"] = [primary_algorithm(facts.checksums)]
        entry["ChecksumType"] = facts.checksum_type
    if owner is not None:
        entry["Owner"] = owner
    return entry


def _common(call: Call, page: ObjectList, limit: int, write: Any) -> dict[str, Any]:
    params = call.params
    return {
        "Name": call.request.bucket,
        "Prefix": write(params.get("Prefix", "")),
        "Delimiter": write(params["Delimiter"]) if params.get("Delimiter") else None,
        "MaxKeys": limit,
        "EncodingType": params.get("EncodingType"),
        "IsTruncated": page.truncated,
        "CommonPrefixes": [{"Prefix": write(prefix)} for prefix in page.prefixes],
    }


async def list_objects(call: Call) -> Response:
    """List keys, version 1: continued by ``marker``."""
    limit = page_limit(call, "MaxKeys", "max-keys")
    write = encoder_of(call)
    marker = call.params.get("Marker", "")
    page = await _page(call, marker, limit)
    owner = call.owner()
    values = _common(call, page, limit, write)
    values["Marker"] = write(marker)
    values["Contents"] = [_entry(info, write, owner) for info in page.objects]
    if page.truncated and call.params.get("Delimiter"):
        values["NextMarker"] = write(page.next_after)
    return call.answer(values)


async def list_objects_v2(call: Call) -> Response:
    """List keys, version 2: continued by an opaque token."""
    params = call.params
    limit = page_limit(call, "MaxKeys", "max-keys")
    write = encoder_of(call)
    after = params.get("StartAfter", "")
    token = params.get("ContinuationToken")
    if token:
        after = read_token(token)
    page = await _page(call, after, limit)
    owner = call.owner() if params.get("FetchOwner") else None
    values = _common(call, page, limit, write)
    values["KeyCount"] = len(page.objects) + len(page.prefixes)
    values["ContinuationToken"] = token
    values["StartAfter"] = write(params["StartAfter"]) if params.get("StartAfter") else None
    values["Contents"] = [_entry(info, write, owner) for info in page.objects]
    if page.truncated:
        values["NextContinuationToken"] = make_token(page.next_after)
    return call.answer(values)


async def list_object_versions(call: Call) -> Response:
    """List keys as the versions they are: one each, called null, the latest."""
    params = call.params
    limit = page_limit(call, "MaxKeys", "max-keys")
    write = encoder_of(call)
    marker = params.get("KeyMarker", "")
    if params.get("VersionIdMarker") and not marker:
        raise invalid_argument(
            "version-id-marker",
            params["VersionIdMarker"],
            "A version-id marker cannot be specified without a key marker.",
        )
    page = await _page(call, marker, limit)
    owner = call.owner()
    values = _common(call, page, limit, write)
    values["KeyMarker"] = write(marker)
    values["VersionIdMarker"] = params.get("VersionIdMarker", "")
    values["Versions"] = [
        {**_entry(info, write, owner), "VersionId": "null", "IsLatest": True}
        for info in page.objects
    ]
    if page.truncated:
        values["NextKeyMarker"] = write(page.next_after)
        values["NextVersionIdMarker"] = "null"
    return call.answer(values)
