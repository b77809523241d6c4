"""Identifiers: fixed sizes, bound to what they name."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import ids
from atoll.core.ids import SegmentId, node_id_of, piece_id_of, show_node


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_node_ids_tell_keys_apart(left: bytes, right: bytes) -> None:
    assert len(node_id_of(left)) == ids.NODE_ID_BYTES
    assert (node_id_of(left) == node_id_of(right)) == (left == right)


def test_a_node_id_is_bound_to_its_purpose() -> None:
    assert node_id_of(bytes(32)) != hashlib.sha256(bytes(32)).digest()


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_has_no_node_id(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        node_id_of(bytes(length))


def test_piece_ids_differ_by_index_and_segment() -> None:
    segments = [SegmentId(bytes((number,)) * 16) for number in range(4)]
    seen = {piece_id_of(segment, index) for segment in segments for index in range(256)}
    assert len(seen) == 4 * 256
    assert {len(piece_id) for piece_id in seen} == {ids.SHORT_ID_BYTES}


def test_a_piece_index_fits_a_byte() -> None:
    with pytest.raises(ValueError, match="range"):
        piece_id_of(SegmentId(bytes(16)), 256)


def test_a_node_is_printed_short() -> None:
    assert show_node(bytes(range(32))) == "n-0001020304"
