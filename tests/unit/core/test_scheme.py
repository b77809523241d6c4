"""Schemes and layouts: every byte has one place, and ranges touch only what they need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import scheme
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX, Layout, Scheme, layout_for, scheme_for

SCHEMES = [scheme.TINY, scheme.RS_2_4, scheme.RS_4_8, scheme.RS_10_20, scheme.RS_20_40]
SIZES = st.one_of(
    st.integers(0, SEGMENT_PLAIN_BYTES_MAX),
    st.sampled_from([0, 1, 1008, 1009, (1 << 20) - 1, 1 << 20, 4 << 20, 16 << 20, 64 << 20]),
)


@given(SIZES, st.sampled_from(SCHEMES))
def test_chunks_cover_the_plaintext_exactly_once(plain_bytes: int, code: Scheme) -> None:
    layout = layout_for(plain_bytes, code)
    chunks = layout.chunks
    assert (chunks - 1) * layout.chunk_bytes + layout.chunk_plain_bytes(chunks - 1) == plain_bytes
    assert 0 <= layout.chunk_plain_bytes(chunks - 1) <= layout.chunk_bytes
    assert layout.rows * code.k >= chunks > (layout.rows - 1) * code.k
    assert layout.piece_bytes == layout.rows * layout.unit_bytes


@given(SIZES, st.sampled_from(SCHEMES), st.data())
def test_a_chunk_has_a_place_of_its_own(
    plain_bytes: int, code: Scheme, draw: st.DataObject
) -> None:
    layout = layout_for(plain_bytes, code)
    chunk = draw.draw(st.integers(0, layout.chunks - 1))
    column, offset = layout.place(chunk)
    assert 0 <= column < code.k
    assert 0 <= offset <= layout.piece_bytes - layout.unit_bytes
    assert offset // layout.unit_bytes * code.k + column == chunk


@given(st.integers(1, SEGMENT_PLAIN_BYTES_MAX), st.sampled_from(SCHEMES), st.data())
def test_a_range_asks_for_the_chunks_that_hold_it(
    plain_bytes: int, code: Scheme, draw: st.DataObject
) -> None:
    layout = layout_for(plain_bytes, code)
    start = draw.draw(st.integers(0, plain_bytes - 1))
    end = draw.draw(st.integers(start + 1, plain_bytes))
    first, stop = layout.chunks_of_range(start, end)
    assert first * layout.chunk_bytes <= start
    assert start < (first + 1) * layout.chunk_bytes
    assert (stop - 1) * layout.chunk_bytes < end
    assert min(stop * layout.chunk_bytes, plain_bytes) >= end
    if end - start <= layout.chunk_bytes:
        assert stop - first <= 2


@given(SIZES, st.sampled_from([s for s in SCHEMES if s.k > 1]))
def test_padding_is_bounded(plain_bytes: int, code: Scheme) -> None:
    """One row of units at most, and the tags."""
    layout = layout_for(plain_bytes, code)
    stored = layout.piece_bytes * code.k
    assert stored < plain_bytes + layout.chunks * 16 + code.k * layout.unit_bytes + 1


@pytest.mark.parametrize(
    ("plain_bytes", "operators", "expected"),
    [
        (0, 1000, scheme.TINY),
        (8192, 1, scheme.TINY),
        (8193, 7, scheme.RS_2_4),
        (8193, 8, scheme.RS_4_8),
        (8193, 15, scheme.RS_4_8),
        (8193, 16, scheme.RS_10_20),
        (8193, 59, scheme.RS_10_20),
        (8193, 60, scheme.RS_20_40),
    ],
)
def test_the_scheme_follows_size_and_operators(
    plain_bytes: int, operators: int, expected: Scheme
) -> None:
    assert scheme_for(plain_bytes, operators) is expected
    assert scheme.scheme_of(expected.k, expected.n) is expected


@pytest.mark.parametrize(
    ("plain_bytes", "unit"),
    [(0, 1 << 10), (1 << 20, 4 << 10), (4 << 20, 16 << 10), (16 << 20, 64 << 10)],
)
def test_units_grow_with_the_segment(plain_bytes: int, unit: int) -> None:
    assert scheme.unit_bytes_for(plain_bytes, 4) == unit
    if plain_bytes:
        assert scheme.unit_bytes_for(plain_bytes - 1, 4) == unit // 4


def test_a_replicated_segment_is_one_chunk() -> None:
    layout = layout_for(5000, scheme.TINY)
    assert (layout.chunks, layout.rows, layout.piece_bytes) == (1, 1, 5016)


@pytest.mark.parametrize("code", SCHEMES)
def test_commit_leaves_room_below_full_strength(code: Scheme) -> None:
    assert code.k < code.durable
    assert code.repair >= code.k + 1
    assert code.name == f"{code.k}/{code.n}"


def test_what_is_no_scheme_or_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="no scheme 3/5"):
        scheme.scheme_of(3, 5)
    with pytest.raises(ValueError, match="not a scheme"):
        Scheme(k=4, durable=3, commit=7, repair=7, n=8, ask=10)
    for fields in ((-1, 4, 8, 1024), (1 << 40, 4, 8, 1024), (1, 9, 8, 1024), (1, 4, 8, 16)):
        with pytest.raises(ValueError, match=r"segment|layout|unit"):
            Layout(*fields)
    layout = Layout(100, 4, 8, 1024)
    for chunk in (-1, 1):
        with pytest.raises(ValueError, match="no chunk"):
            layout.chunk_plain_bytes(chunk)
    for start, end in ((0, 101), (5, 5), (-1, 3)):
        with pytest.raises(ValueError, match="range"):
            layout.chunks_of_range(start, end)
