"""Conditional requests and ranges, decided as RFC 9110 and AWS say."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.world import Customer

from atoll.core.messages import ObjectFacts, ObjectInfo
from atoll.gateway.s3.conditions import Preconditions, failed_condition, part_range, read_range
from atoll.gateway.s3.errors import S3Error

INFO = ObjectInfo(
    key="k",
    modified_ms=1_700_000_000_900,
    facts=ObjectFacts(size=10, etag="e", content_type=""),
)
BEFORE, SAME, AFTER = 1_699_999_999_000, 1_700_000_000_000, 1_700_000_001_000


@pytest.mark.parametrize(
    ("given_conditions", "failed"),
    [
        ({}, ""),
        ({"if_match": '"e"'}, ""),
        ({"if_match": "*"}, ""),
        ({"if_match": '"x", "e"'}, ""),
        ({"if_match": '"x"'}, "If-Match"),
        ({"if_none_match": '"x"'}, ""),
        ({"if_none_match": 'W/"e"'}, "If-None-Match"),
        ({"if_none_match": "*"}, "If-None-Match"),
        ({"if_modified_since": BEFORE}, ""),
        ({"if_modified_since": SAME}, "If-Modified-Since"),
        ({"if_modified_since": AFTER}, "If-Modified-Since"),
        ({"if_unmodified_since": SAME}, ""),
        ({"if_unmodified_since": BEFORE}, "If-Unmodified-Since"),
        # RFC 9110 13.2.2: an ETag condition makes the date beside it void.
        ({"if_match": '"e"', "if_unmodified_since": BEFORE}, ""),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, ""),
        ({"if_match": '"x"', "if_none_match": '"e"'}, "If-Match"),
    ],
)
def test_preconditions(given_conditions: dict[str, Any], failed: str) -> None:
    assert failed_condition(Preconditions(**given_conditions), INFO) == failed


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None), ("bytes=0-3", (0, 4)), ("bytes=8-", (8, 10)), ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)), ("bytes=5-99", (5, 10)), ("bytes = 1 - 2", (1, 3)),
        ("bytes=3-1", None), ("bytes=-", None), ("bytes=a-b", None), ("lines=0-1", None),
        ("bytes=0-1,3-4", None), ("bytes=٣-٤", None),
    ],
)  # fmt: skip
def test_ranges(header: str | None, span: tuple[int, int] | None) -> None:
    found = read_range(header, 10)
    assert (None if found is None else (found.start, found.end)) == span


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_that_touches_nothing_is_refused(header: str, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        read_range(header, size)
    assert (caught.value.status, caught.value.code) == (416, "InvalidRange")


@given(st.text(max_size=30), st.integers(0, 100))
def test_no_range_header_breaks_the_bounds(text: str, size: int) -> None:
    try:
        found = read_range(f"bytes={text}", size)
    except S3Error:
        return
    assert found is None or 0 <= found.start < found.end <= size


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_parts_tile_the_object(sizes: list[int]) -> None:
    spans = [part_range(n + 1, sizes, sum(sizes)) for n in range(len(sizes))]
    assert spans[0].start == 0
    assert spans[-1].end == sum(sizes)
    assert all(a.end == b.start for a, b in pairwise(spans))
    with pytest.raises(S3Error):
        part_range(len(sizes) + 1, sizes, sum(sizes))


async def test_reads_under_conditions(customer: Customer) -> None:
    put = await customer("PUT", "/store/k", body=b"0123456789")
    etag = put.headers["etag"]
    same = await customer("GET", "/store/k", headers={"if-none-match": etag})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
    assert "content-length" not in same.headers
    other = await customer("GET", "/store/k", headers={"if-match": '"x"'})
    assert (other.status, other.code) == (412, "PreconditionFailed")
    head = await customer("HEAD", "/store/k", headers={"if-match": '"x"'})
    assert (head.status, head.body) == (412, b"")
    part = await customer("GET", "/store/k", headers={"range": "bytes=2-4"})
    assert (part.status, part.body) == (206, b"234")
    assert part.headers["content-range"] == "bytes 2-4/10"
    beyond = await customer("GET", "/store/k", headers={"range": "bytes=10-"})
    assert (beyond.status, beyond.code) == (416, "InvalidRange")
    assert b"<ActualObjectSize>10</ActualObjectSize>" in beyond.body


async def test_writes_under_conditions(customer: Customer) -> None:
    first = await customer("PUT", "/store/k", body=b"1", headers={"if-none-match": "*"})
    assert first.status == 200
    second = await customer("PUT", "/store/k", body=b"2", headers={"if-none-match": "*"})
    assert (second.status, second.code) == (412, "PreconditionFailed")
    absent = await customer("PUT", "/store/no", body=b"2", headers={"if-match": '"e"'})
    assert (absent.status, absent.code) == (404, "NoSuchKey")
    etag = first.headers["etag"]
    swapped = await customer("PUT", "/store/k", body=b"3", headers={"if-match": etag})
    assert swapped.status == 200
    stale = await customer("DELETE", "/store/k", headers={"if-match": etag})
    assert (stale.status, stale.code) == (412, "PreconditionFailed")
    assert (await customer("GET", "/store/k")).body == b"3"
    etag = swapped.headers["etag"]
    taken = await customer("PUT", "/store/k", body=b"4", headers={"if-none-match": etag})
    assert (taken.status, taken.code) == (412, "PreconditionFailed")
    other = await customer("PUT", "/store/k", body=b"4", headers={"if-none-match": '"x"'})
    assert other.status == 200
