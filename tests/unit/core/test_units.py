"""Sizes and spans as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.core.units import exact_bytes, parse_bytes, show_bytes, show_seconds


@given(st.integers(0, 1 << 60))
def test_an_exact_size_reads_back_the_same(count: int) -> None:
    assert parse_bytes(exact_bytes(count)) == count


@pytest.mark.parametrize(
    "text", ["0 B", "1500 B", "96 MiB", "1 GiB", "1 GB", "2000 MB", "3 kB", "3 KiB"]
)
def test_an_exact_size_is_written_as_people_give_it(text: str) -> None:
    shown = exact_bytes(parse_bytes(text))
    assert shown == {"2000 MB": "2 GB"}.get(text, text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1500", 1500), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("2 k", 2048), ("0", 0)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "-1", "1 elephant", "1,5 GB", "GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(AtollError) as refused:
        parse_bytes(text)
    assert refused.value.kind is Kind.CONFIG


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1_400_000, "1.34 MiB"),
        (1 << 60, "1024 PiB"),
    ],
)
def test_sizes_are_shown(count: int, text: str) -> None:
    assert show_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42, "42 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_spans_are_shown(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text
