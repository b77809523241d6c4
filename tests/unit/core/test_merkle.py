"""The trees: any cuts give one root, proofs prove one place only, nothing passes for another."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import merkle
from atoll.core.merkle import PieceHasher, Proof, check_leaf, leaf_count, leaf_proof, piece_root
from atoll.core.scheme import LEAF_BYTES

LENGTHS = st.one_of(
    st.integers(0, 9 * LEAF_BYTES),
    st.integers(0, 9).map(lambda leaves: leaves * LEAF_BYTES),
)


def data_of(length: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(length)


def root_by_definition(data: bytes) -> bytes:
    """The root as docs/spec/merkle.md defines it, by recursion."""

    def top(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        split = 1
        while split * 2 < len(leaves):
            split *= 2
        return hashlib.sha256(b"\1" + top(leaves[:split]) + top(leaves[split:])).digest()

    leaves = [data[i : i + LEAF_BYTES] for i in range(0, len(data), LEAF_BYTES)] or [b""]
    return hashlib.sha256(b"\2" + len(data).to_bytes(8, "big") + top(leaves)).digest()


@given(LENGTHS, st.lists(st.integers(0, 3 * LEAF_BYTES), max_size=12))
def test_any_cut_of_updates_gives_the_root_of_the_definition(length: int, cuts: list[int]) -> None:
    data = data_of(length)
    hasher = PieceHasher()
    offset = 0
    for cut in cuts:
        hasher.update(memoryview(data)[offset : offset + cut])
        offset = min(length, offset + cut)
        assert hasher.root() == piece_root(data[:offset])
    hasher.update(memoryview(data)[offset:])
    assert hasher.length == length
    assert hasher.root() == root_by_definition(data)


def test_many_leaves_need_no_more_memory_than_levels() -> None:
    hasher = PieceHasher()
    for _ in range(100):
        hasher.update(data_of(16 * LEAF_BYTES))
    assert len(hasher._levels) == 11


@given(LENGTHS, st.data())
def test_a_proof_proves_its_leaf_and_no_other(length: int, draw: st.DataObject) -> None:
    data = data_of(length)
    root = piece_root(data)
    leaf = draw.draw(st.integers(0, leaf_count(length) - 1))
    content = data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]
    proof = leaf_proof(data, leaf)
    assert check_leaf(root, length, leaf, content, proof)
    for other in range(-1, leaf_count(length) + 1):
        if other != leaf:
            assert not check_leaf(root, length, other, content, proof)
    for false_length in (length + 1, length - 1, length + LEAF_BYTES, -1, 1 << 64):
        assert not check_leaf(root, false_length, leaf, content, proof)
    assert not check_leaf(root, length, leaf, content, Proof((*proof.path, bytes(32))))
    if proof.path:
        assert not check_leaf(root, length, leaf, content, Proof(proof.path[:-1]))
        assert not check_leaf(root, length, leaf, content, Proof((b"short", *proof.path[1:])))
    if content:
        forged = bytes((content[0] ^ 1,)) + content[1:]
        assert not check_leaf(root, length, leaf, forged, proof)


def test_an_attacker_cannot_pass_a_node_for_a_leaf() -> None:
    data = data_of(2 * LEAF_BYTES)
    left, right = (merkle.leaf_hash(data[i : i + LEAF_BYTES]) for i in (0, LEAF_BYTES))
    assert piece_root(data) != piece_root(left + right)
    assert piece_root(data) != piece_root(b"\1" + left + right)


def test_a_doubled_last_leaf_is_another_root() -> None:
    three = data_of(3 * LEAF_BYTES)
    assert piece_root(three) != piece_root(three + three[-LEAF_BYTES:])


def test_trailing_zeros_change_the_root() -> None:
    assert len({piece_root(bytes(length)) for length in (0, 1, 4095, 4096, 4097, 8192)}) == 6


def test_leaf_proof_refuses_a_leaf_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no leaf 2"):
        leaf_proof(bytes(2 * LEAF_BYTES), 2)
    with pytest.raises(ValueError, match="no leaf -1"):
        leaf_proof(b"", -1)


def test_the_segment_root_binds_every_field_and_the_order_of_pieces() -> None:
    roots = [data_of(32, seed) for seed in range(4)]
    segment = bytes(range(16))
    roots_seen = {
        merkle.segment_root(segment, 2, 4, 1024, 5000, roots),
        merkle.segment_root(bytes(16), 2, 4, 1024, 5000, roots),
        merkle.segment_root(segment, 3, 4, 1024, 5000, roots),
        merkle.segment_root(segment, 2, 3, 1024, 5000, roots[:3]),
        merkle.segment_root(segment, 2, 4, 2048, 5000, roots),
        merkle.segment_root(segment, 2, 4, 1024, 5001, roots),
        merkle.segment_root(segment, 2, 4, 1024, 5000, roots[::-1]),
    }
    assert len(roots_seen) == 7
    with pytest.raises(ValueError, match="4 roots"):
        merkle.segment_root(segment, 2, 4, 1024, 5000, roots[:3])
    with pytest.raises(ValueError, match="32 bytes"):
        merkle.segment_root(segment, 2, 4, 1024, 5000, [*roots[:3], b""])
