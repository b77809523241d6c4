"""Samples: what is right passes, and nothing else does, whoever made it up."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.proofs.world import (
    PROVIDER,
    Holder,
    Piece,
    beacon_of,
    make_piece,
    small_holder,
)

from atoll.core.merkle import piece_root
from atoll.core.proofs.beacon import check_beacon
from atoll.core.proofs.blocks import BLOCK_BYTES, block_hashes, leaf_way
from atoll.core.proofs.samples import Fault, Judge, Sample, judge_samples, shown_hash, sign_proof
from atoll.core.proofs.signed import decode_statement, encode_statement
from atoll.core.proofs.verdicts import judge_proof

BEACON = b"b" * 32
SLOT = 9


@pytest.fixture(scope="module")
def holder() -> Holder:
    return small_holder()


def test_every_leaf_of_a_node_can_be_shown(holder: Holder) -> None:
    judge = Judge(holder.head)
    for position in range(holder.head.leaves):
        sample = holder.sample(position)
        found = judge.judge(sample, shown_hash(sample.leaf), position)
        assert found.fault is None
        assert (found.segment, found.piece_index) == (sample.segment, sample.index)


def test_a_leaf_shown_for_another_draw_is_out_of_place(holder: Holder) -> None:
    sample = holder.sample(3)
    wrong = Judge(holder.head).judge(sample, shown_hash(sample.leaf), holder.head.leaves - 1)
    assert wrong.fault is Fault.PLACE


def test_a_lost_piece_is_admitted_and_named() -> None:
    holder = small_holder()
    piece: Piece = holder.pieces[2]
    piece.data = None
    findings = judge_samples(holder.samples(BEACON, SLOT, 64), holder.head, BEACON, SLOT)
    admitted = [found for found in findings if found.fault is not None]
    assert admitted
    for found in admitted:
        assert found.fault is Fault.ADMITTED
        assert (found.segment, found.piece_index) == (piece.segment, piece.index)


def test_rotten_bytes_fail_and_the_rest_of_the_piece_passes() -> None:
    holder = small_holder()
    piece = holder.pieces[2]
    assert piece.data is not None
    piece.data = piece.data[:20_480] + b"\xff" * 4096 + piece.data[24_576:]
    judge = Judge(holder.head)
    verdicts = {}
    for position in range(holder.head.leaves):
        sample = holder.sample(position)
        verdicts[position] = judge.judge(sample, shown_hash(sample.leaf), position).fault
    # The node's cached hashes still lead up from the other blocks of the piece.
    assert sum(fault is Fault.LEAF for fault in verdicts.values()) == BLOCK_BYTES // 4096
    first = holder.pieces[0].entry().leaves + holder.pieces[1].entry().leaves
    assert verdicts[first + 5] is Fault.LEAF
    assert verdicts[first + 16] is None


WHOLE = small_holder()
FIELDS = Sample.__struct_fields__


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_altered_sample_passes(data: st.DataObject) -> None:
    holder = WHOLE
    position = data.draw(st.integers(0, holder.head.leaves - 1))
    sample = holder.sample(position)
    name = data.draw(st.sampled_from(FIELDS))
    value = getattr(sample, name)
    if isinstance(value, bytes):
        changed: object = data.draw(
            st.binary(max_size=len(value) + 3)
            | st.integers(0, max(0, len(value) - 1)).map(
                lambda i: (
                    value[:i] + bytes(((value[i] ^ 1) if value else 0,)) + value[i + 1 :]
                    if value
                    else b"\0"
                )
            )
        )
    else:
        near = st.integers(-3, 3).map(lambda more: value + more)
        changed = data.draw(st.integers(-(2**63), 2**63) | near)
    if changed == value:
        return
    forged = msgspec.structs.replace(sample, **{name: changed})
    found = Judge(holder.head).judge(forged, shown_hash(forged.leaf), position)
    assert found.fault is not None, name


def test_a_way_that_another_sample_showed_is_still_asked_of_each(holder: Holder) -> None:
    judge = Judge(holder.head)
    one, two = holder.sample(0), holder.sample(4)
    assert one.sum_path[-120:] == two.sum_path[-120:]
    assert judge.judge(one, shown_hash(one.leaf), 0).fault is None
    for at in range(len(two.sum_path) - 120, len(two.sum_path), 8):
        path = two.sum_path[:at] + b"\xff" * 8 + two.sum_path[at + 8 :]
        if path == two.sum_path:
            continue
        forged = msgspec.structs.replace(two, sum_path=path)
        assert judge.judge(forged, shown_hash(two.leaf), 4).fault is not None
    assert judge.judge(two, shown_hash(two.leaf), 4).fault is None


def test_the_next_draw_depends_on_the_leaf_before() -> None:
    whole, broken = small_holder(), small_holder()
    first = whole.samples(BEACON, SLOT, 6)
    for piece in broken.pieces:
        piece.data = None
    second = broken.samples(BEACON, SLOT, 6)
    assert first[0].place == second[0].place
    ways = [[(one.place, one.leaf_number) for one in samples] for samples in (first, second)]
    assert ways[0][1:] != ways[1][1:]


def test_a_proof_survives_its_encoding_and_is_bound_to_its_slot(holder: Holder) -> None:
    beacon = beacon_of(SLOT)
    proof = holder.proof(beacon, SLOT)
    again = decode_statement(encode_statement(proof), type(proof))
    assert judge_proof(again).verdict.failed == []
    other = holder.samples(check_beacon(beacon).value, SLOT + 1, 8)
    shifted = sign_proof(PROVIDER, holder.signed, beacon, SLOT, other)
    assert judge_proof(shifted).verdict.failed


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400_000), st.data())
def test_blocks_lead_to_the_piece_root(length: int, data: st.DataObject) -> None:
    content = bytes(length // 2) + b"x" * (length - length // 2)
    leaf = data.draw(st.integers(0, -(-length // 4096) - 1))
    start = leaf // 16 * BLOCK_BYTES
    block = content[start : start + BLOCK_BYTES]
    shown, _, root = leaf_way(block, leaf, length, block_hashes(content))
    assert root == piece_root(content)
    assert shown == content[leaf * 4096 : leaf * 4096 + 4096]


def test_a_proof_of_thirty_two_samples_is_small() -> None:
    # As large as pieces get: 3.25 MiB of a segment of 64 MiB in 20 of 40.
    piece = make_piece(1 << 20, 64 << 20, k=20, n=40, unit=64 << 10)
    holder = Holder([piece, *(make_piece((1 << 20) + n, 100) for n in range(1, 40))])
    body = encode_statement(holder.proof(beacon_of(SLOT), SLOT, 32))
    assert len(body) < 32 * 6_500
