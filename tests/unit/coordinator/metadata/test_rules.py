"""The metadata's decisions without a database."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.coordinator.metadata.listing import DELIMITERS, KEYS, PREFIXES, expected_page

from atoll.coordinator.metadata.model import pack_checksums
from atoll.coordinator.metadata.rules import (
    BATCH_ROWS_MIN,
    PART_BYTES_MIN,
    Cursor,
    check_condition,
    check_segments,
    choose_parts,
    first_cursor,
    key_bytes,
    part_range,
    parts_digest,
    roll_up,
    successor,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CompletePart, Condition, SegmentRecord, StoredPiece


@dataclass(frozen=True)
class Row:
    key: bytes


class Table:
    """Rows in order, counting how often it is asked."""

    def __init__(self, keys: list[bytes]) -> None:
        self.rows = [Row(key) for key in sorted(keys)]
        self.fetches = 0

    def fetch(self, cursor: Cursor, stop: bytes, count: int) -> list[Row]:
        self.fetches += 1
        found = [row for row in self.rows if cursor[0] <= row.key < stop]
        return found[:count]


def after_row(row: Row) -> Cursor:
    return row.key + b"\0", b""


@given(st.sets(KEYS, max_size=40), PREFIXES, DELIMITERS, st.text("a/b~é", max_size=4),
       st.integers(0, 12))  # fmt: skip
def test_a_page_is_what_the_definition_says(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    table = Table([key.encode() for key in keys])
    start = first_cursor(prefix.encode(), delimiter.encode(), after.encode())
    page = roll_up(table.fetch, after_row, start, prefix.encode(), delimiter.encode(), limit)
    expected = expected_page(keys, prefix, delimiter, after, limit)
    found = [(row.key, False) for row in page.rows] + [(p, True) for p in page.prefixes]
    assert sorted(found) == expected.entries
    assert page.truncated == expected.truncated
    assert table.fetches <= limit + 1


def test_common_prefixes_are_jumped_over() -> None:
    table = Table([b"%03d/%04d" % (folder, file) for folder in range(50) for file in range(200)])
    page = roll_up(table.fetch, after_row, (b"", b""), b"", b"/", 1000)
    assert len(page.prefixes) == 50
    assert table.fetches <= 51 + BATCH_ROWS_MIN


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_the_successor_is_just_above_the_prefix(prefix: bytes, other: bytes) -> None:
    bound = successor(prefix)
    if other.startswith(prefix) and other[:1] != b"\xff":
        assert other < bound
    if not other.startswith(prefix) and other >= prefix and other[:1] != b"\xff":
        assert other >= bound


@pytest.mark.parametrize("key", ["", "a" * 1025, "é" * 513, "\ud800"])
def test_keys_that_cannot_be_are_refused(key: str) -> None:
    with pytest.raises(AtollError) as caught:
        key_bytes(key)
    assert caught.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize(
    ("condition", "etag", "kind"),
    [
        (Condition(), None, None),
        (Condition(), "e", None),
        (Condition(if_none_match="*"), None, None),
        (Condition(if_none_match="*"), "e", Kind.PRECONDITION_FAILED),
        (Condition(if_none_match="e"), "e", Kind.PRECONDITION_FAILED),
        (Condition(if_none_match="f"), "e", None),
        (Condition(if_match="e"), "e", None),
        (Condition(if_match="*"), "e", None),
        (Condition(if_match="f"), "e", Kind.PRECONDITION_FAILED),
        (Condition(if_match="*"), None, Kind.OBJECT_NOT_FOUND),
    ],
)
def test_conditions(condition: Condition, etag: str | None, kind: Kind | None) -> None:
    if kind is None:
        check_condition(condition, etag)
        return
    with pytest.raises(AtollError) as caught:
        check_condition(condition, etag)
    assert caught.value.kind is kind


@dataclass(frozen=True)
class Part:
    number: int
    size: int
    etag: str
    checksums: bytes = pack_checksums({"CRC32": "AAAA"})


STORED = [Part(1, PART_BYTES_MIN, "a"), Part(2, 5, "b"), Part(7, 9, "c")]


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ([(1, "a"), (2, "b")], None),
        ([(1, "a"), (7, "c")], None),
        ([(7, "c")], None),
        ([], Kind.INVALID_PART),
        ([(2, "b"), (1, "a")], Kind.INVALID_PART_ORDER),
        ([(1, "a"), (1, "a")], Kind.INVALID_PART_ORDER),
        ([(1, "x")], Kind.INVALID_PART),
        ([(3, "a")], Kind.INVALID_PART),
        ([(2, "b"), (7, "c")], Kind.PART_TOO_SMALL),
    ],
)
def test_parts_of_an_object(wanted: list[tuple[int, str]], kind: Kind | None) -> None:
    parts = [CompletePart(number=number, etag=etag) for number, etag in wanted]
    if kind is None:
        assert [part.number for part in choose_parts(parts, STORED)] == [n for n, _ in wanted]
        return
    with pytest.raises(AtollError) as caught:
        choose_parts(parts, STORED)
    assert caught.value.kind is kind


def test_a_parts_checksum_is_compared() -> None:
    choose_parts([CompletePart(number=7, etag="c", checksums={"CRC32": "AAAA"})], STORED)
    with pytest.raises(AtollError) as caught:
        choose_parts([CompletePart(number=7, etag="c", checksums={"CRC32": "BBBB"})], STORED)
    assert caught.value.kind is Kind.INVALID_PART


def test_part_ranges_do_not_meet() -> None:
    assert part_range(1)[1] == part_range(2)[0]
    assert part_range(10_000)[1] < 1 << 63


def test_the_digest_tells_lists_of_parts_apart() -> None:
    one = [CompletePart(number=1, etag="a")]
    assert parts_digest(one) == parts_digest([CompletePart(number=1, etag="a")])
    assert parts_digest(one) != parts_digest([CompletePart(number=2, etag="a")])
    assert parts_digest(one) != parts_digest([CompletePart(number=1, etag="b")])


GOOD = SegmentRecord(
    segment=bytes(16),
    plain_bytes=100,
    k=1,
    n=4,
    unit_bytes=116,
    root=bytes(32),
    wrapped_key=b"k",
    pieces=[StoredPiece(index=i, alias=i + 1) for i in range(2)],
    serial=1,
)


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 3, "n": 5},
        {"plain_bytes": -1},
        {"unit_bytes": 1024},
        {"segment": b"short"},
        {"root": b""},
        {"serial": 0},
        {"serial": 1 << 63},
        {"wrapped_key": b""},
        {"wrapped_key": bytes(257)},
        {"pieces": GOOD.pieces[:1]},
        {"pieces": [StoredPiece(index=i, alias=i + 1) for i in (0, 4)]},
    ],
)
def test_segments_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    check_segments([GOOD], 100)
    values = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    bad = SegmentRecord(**{**values, **changes})
    with pytest.raises(AtollError) as caught:
        check_segments([bad], bad.plain_bytes)
    assert caught.value.kind is Kind.BAD_REQUEST


def test_segments_hold_the_whole_object() -> None:
    with pytest.raises(AtollError):
        check_segments([GOOD], 101)
    with pytest.raises(AtollError):
        check_segments([], 1)
    check_segments([], 0)
