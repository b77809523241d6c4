"""Conditional requests and ranges: decisions only. Source: RFC 9110 sections 13 and 14."""

import re
from dataclasses import dataclass

from atoll.core.messages import Condition, ObjectInfo
from atoll.gateway.s3.codec.decode import Params
from atoll.gateway.s3.errors import S3Error

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,19})[ \t]*-[ \t]*([0-9]{0,19})[ \t]*\Z", re.ASCII)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})\Z", re.ASCII)


def strip_etag(etag: str) -> str:
    """Return an ETag without weakness mark and quotes."""
    return etag.strip().removeprefix("W/").strip('"')


def etag_listed(header: str, etag: str) -> bool:
    """Say whether a header's list of ETags contains this one; ``*`` contains all."""
    if header.strip() == "*":
        return True
    return any(strip_etag(part) == etag for part in header.split(","))


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The four headers of a conditional read; times in milliseconds."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None


def read_preconditions(params: Params, prefix: str = "") -> Preconditions:
    """Return the preconditions among parameters (``prefix`` is ``CopySource`` for copies)."""
    return Preconditions(
        params.get(f"{prefix}IfMatch"),
        params.get(f"{prefix}IfNoneMatch"),
        params.get(f"{prefix}IfModifiedSince"),
        params.get(f"{prefix}IfUnmodifiedSince"),
    )


def failed_condition(conditions: Preconditions, info: ObjectInfo) -> str:
    """Return the name of the condition that failed, in RFC 9110's order; empty if all hold."""
    etag = info.facts.etag
    modified_ms = info.modified_ms // 1000 * 1000
    if conditions.if_match is not None:
        if not etag_listed(conditions.if_match, etag):
            return "If-Match"
    elif conditions.if_unmodified_since is not None and (
        modified_ms > conditions.if_unmodified_since
    ):
        return "If-Unmodified-Since"
    if conditions.if_none_match is not None:
        if etag_listed(conditions.if_none_match, etag):
            return "If-None-Match"
    elif conditions.if_modified_since is not None and modified_ms <= conditions.if_modified_since:
        return "If-Modified-Since"
    return ""


NOT_MODIFIED = frozenset({"If-None-Match", "If-Modified-Since"})
"""Conditions whose failure is 304 for reads."""


def write_condition(params: Params) -> Condition:
    """Return the condition of a write: ETags without quotes, or ``*``."""
    return Condition(
        if_match=strip_etag(params.get("IfMatch") or ""),
        if_none_match=strip_etag(params.get("IfNoneMatch") or ""),
    )


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes ``start`` up to but without ``end`` of an object of ``size``."""

    start: int
    end: int
    size: int

    @property
    def header(self) -> str:
        """The Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def read_range(header: str | None, size: int) -> Range | None:
    """Return the range asked for; None for none, several or a malformed one (all is served).

    Raises ``InvalidRange`` for one that touches no byte.
    """
    found = _RANGE.match(header) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start = int(found[1])
        last = int(found[2]) if found[2] else size - 1
        if found[2] and last < start:
            return None
    else:
        start, last = max(0, size - int(found[2])), size - 1
        if not int(found[2]):
            start = size
    if start >= size:
        raise S3Error("InvalidRange", RangeRequested=header or "", ActualObjectSize=str(size))
    return Range(start, min(last + 1, size), size)


def read_copy_range(header: str | None, size: int) -> Range:
    """Return the range of a part copy, which must lie within the source."""
    if header is None:
        return Range(0, size, size)
    found = _COPY_RANGE.match(header)
    if found is None or int(found[1]) > int(found[2]):
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=header,
        )
    start, end = int(found[1]), int(found[2]) + 1
    if end > size:
        raise S3Error(
            "InvalidRange",
            f"Range specified is not valid for source object of size: {size}",
            RangeRequested=header,
            ActualObjectSize=str(size),
        )
    return Range(start, end, size)


def part_range(number: int, part_sizes: list[int], size: int) -> Range:
    """Return the range of a part. Raises ``InvalidPartNumber``."""
    sizes = part_sizes or [size]
    if not 1 <= number <= len(sizes):
        raise S3Error("InvalidPartNumber", ActualPartCount=str(len(sizes)))
    start = sum(sizes[: number - 1])
    return Range(start, start + sizes[number - 1], size)
