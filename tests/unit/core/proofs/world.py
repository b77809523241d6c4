"""A provider's holdings, a coordinator and three verifiers, for tests of proofs."""

import hashlib
from dataclasses import dataclass, field
from functools import cache

from atoll.core import merkle
from atoll.core.identity import Identity
from atoll.core.proofs import beacon as beacons
from atoll.core.proofs.blocks import BLOCK_BYTES, BLOCK_LEAVES, block_hashes, leaf_way
from atoll.core.proofs.heads import SignedHead, TreeHead, countersign_head, head_of, sign_head
from atoll.core.proofs.samples import (
    Sample,
    SlotProof,
    first_seed,
    next_seed,
    position_of,
    shown_hash,
    sign_proof,
)
from atoll.core.proofs.signed import Signed, encode_statement, sign_statement
from atoll.core.proofs.sums import Entry, RangeTree, TopTree, joined_place, ranges_of
from atoll.core.proofs.verdicts import SignedVerdict, VerdictSignature, judge_proof, sign_verdict
from atoll.core.scheme import Layout

COORDINATOR = Identity(b"c" * 32)
PROVIDER = Identity(b"p" * 32)
VERIFIERS = tuple(Identity(bytes([n]) * 32) for n in (11, 12, 13))
SLOT_MS = 10_000


def content(length: int, seed: int) -> bytes:
    return bytes((131 * i + 7 * (i // 256) + seed) & 0xFF for i in range(length))


@dataclass
class Piece:
    """One piece with its bytes, as a node has them; ``data`` None: dropped."""

    serial: int
    segment: bytes
    index: int
    layout: Layout
    piece_roots: tuple[bytes, ...]
    root: bytes
    data: bytes | None
    hashes: bytes

    def entry(self) -> Entry:
        length = self.layout.piece_bytes
        return Entry(
            self.serial, self.segment, self.index, self.root, merkle.leaf_count(length), length
        )


def make_piece(serial: int, plain_bytes: int, *, k: int = 2, n: int = 4, unit: int = 1024) -> Piece:
    """A segment's piece; its siblings' roots are made up, but committed."""
    layout = Layout(plain_bytes, k, n, unit)
    segment = hashlib.sha256(f"segment {serial}".encode()).digest()[:16]
    index = serial % n
    data = content(layout.piece_bytes, serial)
    roots = [hashlib.sha256(f"{serial}/{i}".encode()).digest() for i in range(n)]
    roots[index] = merkle.piece_root(data)
    root = merkle.segment_root(segment, k, n, unit, plain_bytes, roots)
    return Piece(serial, segment, index, layout, tuple(roots), root, data, block_hashes(data))


@dataclass
class Holder:
    """A node with its pieces and the head that was agreed."""

    pieces: list[Piece]
    epoch: int = 7
    frozen_ms: int = 7 * SLOT_MS + 1
    ranges: list[RangeTree] = field(init=False)
    top: TopTree = field(init=False)
    head: TreeHead = field(init=False)
    signed: SignedHead = field(init=False)

    def __post_init__(self) -> None:
        self.ranges = list(ranges_of(piece.entry() for piece in self.pieces))
        self.top = TopTree([one.top for one in self.ranges])
        self.head = head_of(
            self.top, PROVIDER.public_key, COORDINATOR.public_key, self.epoch, self.frozen_ms
        )
        self.signed = countersign_head(PROVIDER, sign_head(COORDINATOR, self.head))
        self._by_place = {(p.serial, p.index): p for p in self.pieces}

    def sample(self, position: int) -> Sample:
        range_place, before = self.top.find(position)
        tree = self.ranges[range_place]
        place, inside = tree.find(position - before)
        piece = self._by_place[tree.serials[place], tree.indexes[place]]
        way = tree.path(place) + self.top.path(range_place)
        joined = joined_place(place, tree.top.entries, range_place)
        leaf = position - before - inside
        if piece.data is None:
            leaves = piece.entry().leaves
            return Sample(
                piece.segment, piece.index, 0, 0, 0, leaves, b"", leaf, b"", piece.root,
                joined, way,
            )  # fmt: skip
        start = leaf // BLOCK_LEAVES * BLOCK_BYTES
        block = piece.data[start : start + BLOCK_BYTES]
        shown, path, _ = leaf_way(block, leaf, piece.layout.piece_bytes, piece.hashes)
        leaves_of_roots = [
            hashlib.sha256(merkle.SEGMENT_LEAF_TAG + bytes((i,)) + root).digest()
            for i, root in enumerate(piece.piece_roots)
        ]
        above = merkle.path_of(merkle.tree_levels(leaves_of_roots), piece.index)
        layout = piece.layout
        return Sample(
            piece.segment, piece.index, layout.k, layout.n, layout.unit_bytes, layout.plain_bytes,
            shown, leaf, path, b"".join(above), joined, way,
        )  # fmt: skip

    def samples(self, beacon: bytes, slot: int, count: int) -> list[Sample]:
        seed = first_seed(self.head, beacon, slot)
        found = []
        for _ in range(count):
            sample = self.sample(position_of(seed, self.head.leaves))
            found.append(sample)
            seed = next_seed(seed, shown_hash(sample.leaf))
        return found

    def proof(self, beacon: Signed, slot: int, count: int = 8) -> SlotProof:
        value = beacons.check_beacon(beacon).value
        samples = self.samples(value, slot, count)
        return sign_proof(PROVIDER, self.signed, beacon, slot, samples)


def secret_of(verifier: Identity) -> bytes:
    return hashlib.sha256(b"secret" + verifier.public_key).digest()


@cache
def chain_of(verifier: Identity, period: int = 0) -> Signed:
    return beacons.commit_chain(verifier, COORDINATOR.public_key, secret_of(verifier), period)


def reveal_of(verifier: Identity, slot: int) -> beacons.Reveal:
    value = beacons.chain_value(secret_of(verifier), slot)
    return beacons.make_reveal(verifier, COORDINATOR.public_key, slot, value)


def beacon_of(slot: int, verifiers: tuple[Identity, ...] = VERIFIERS) -> Signed:
    """The beacon of a slot to which these verifiers gave their values."""
    reveals = [reveal_of(v, slot) for v in sorted(verifiers, key=lambda one: one.public_key)]
    value = beacons.BeaconValue(
        COORDINATOR.public_key,
        slot,
        slot * SLOT_MS,
        sorted(v.public_key for v in VERIFIERS),
        reveals,
    )
    return sign_statement(COORDINATOR, beacons.BEACON_PURPOSE, encode_statement(value))


def verdict_of(proof: SlotProof, verifiers: tuple[Identity, ...] = VERIFIERS) -> SignedVerdict:
    """The verdict on a proof, signed by these verifiers."""
    verdict = judge_proof(proof).verdict
    signed = [sign_verdict(verifier, verdict) for verifier in verifiers]
    return SignedVerdict(signed[0].body, [VerdictSignature(s.key, s.signature) for s in signed])


def small_holder() -> Holder:
    """Five pieces in two ranges: tiny, one leaf, several blocks."""
    return Holder(
        [
            make_piece(1, 100, k=1, n=4, unit=116),
            make_piece(3, 5_000),
            make_piece(4, 300_000),
            make_piece((1 << 16) + 2, 9_000),
            make_piece((5 << 16) + 9, 40_000),
        ]
    )
