"""How rows encode pieces and facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.coordinator.metadata.model import (
    pack_composition,
    pack_facts,
    pack_pieces,
    unpack_composition,
    unpack_facts,
    unpack_pieces,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ObjectFacts, StoredPiece

ALIASES = st.integers(1, (1 << 31) - 1)


@given(st.dictionaries(st.integers(0, 254), ALIASES, max_size=60))
def test_pieces_come_back(places: dict[int, int]) -> None:
    by_alias = {alias: index for index, alias in places.items()}
    pieces = [StoredPiece(index=index, alias=alias) for alias, index in by_alias.items()]
    packed = pack_pieces(pieces)
    assert list(unpack_pieces(packed)) == sorted(pieces, key=lambda piece: piece.index)
    assert len(packed) <= 6 * len(pieces)


def test_pieces_take_few_bytes() -> None:
    assert len(pack_pieces([StoredPiece(index=i, alias=1000 + i) for i in range(40)])) == 120


@pytest.mark.parametrize(
    "pieces", [[(255, 1)], [(-1, 1)], [(0, 0)], [(0, 1 << 31)], [(0, 1), (0, 2)], [(0, 1), (1, 1)]]
)
def test_pieces_that_cannot_be_are_refused(pieces: list[tuple[int, int]]) -> None:
    with pytest.raises(AtollError) as caught:
        pack_pieces([StoredPiece(index=index, alias=alias) for index, alias in pieces])
    assert caught.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("packed", [b"\x00", b"\x00\x80", b"\x00\x01\x02"])
def test_a_row_cut_short_is_corrupt(packed: bytes) -> None:
    with pytest.raises(AtollError) as caught:
        unpack_pieces(packed)
    assert caught.value.kind is Kind.CORRUPT


def test_facts_come_back_with_their_composition() -> None:
    facts = ObjectFacts(
        size=3,
        etag="e-2",
        content_type="x/y",
        headers={"expires": "never"},
        user_metadata={"k": "ü"},
        checksums={"CRC32": "AAAA"},
        part_sizes=[1, 2],
        part_checksums=[{"CRC32": "a"}, {}],
    )
    plain = ObjectFacts(size=3, etag="e-2", content_type="x/y")
    assert unpack_facts(pack_facts(facts)) == facts
    joined = unpack_composition(pack_composition(facts), plain)
    assert (joined.part_sizes, joined.part_checksums) == ([1, 2], [{"CRC32": "a"}, {}])
