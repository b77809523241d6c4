"""``python -m bench.proofs``: what possession proofs cost, in CPU time and bytes.

Pieces are as large as they get (3.25 MiB of a segment of 64 MiB in 20 of 40), a million of them.
One line of JSON; the exit status says whether every figure is within its bound.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    Holder,
    Piece,
    beacon_of,
    make_piece,
)

from atoll.core.merkle import SEGMENT_LEAF_TAG, path_of, tree_levels
from atoll.core.proofs.beacon import check_beacon
from atoll.core.proofs.blocks import BLOCK_BYTES, BLOCK_LEAVES, leaf_way
from atoll.core.proofs.heads import countersign_head, head_of, sign_head
from atoll.core.proofs.samples import (
    Sample,
    first_seed,
    judge_samples,
    next_seed,
    position_of,
    segment_root_by_top,
    shown_hash,
    sign_proof,
)
from atoll.core.proofs.signed import encode_statement
from atoll.core.proofs.sums import RANGE_BITS, Entry, RangeTree, TopTree, joined_place, ranges_of
from atoll.core.proofs.verdicts import judge_proof

PIECES = 1_000_000
SLOT = 9
SAMPLES = 32
SLOTS_A_DAY = 24
ROUNDS = 20
BOUNDS = {
    "tree_1m_cpu_s": 5.0,
    "prove_cpu_ms": 10.0,
    "verify_samples_cpu_ms": 1.0,
    "mb_a_day": 5.0,
}


def cpu_s(work: Callable[[], Any], rounds: int = 1) -> float:
    """CPU seconds of one round: the least of three tries."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for _ in range(rounds):
            work()
        best = min(best, (time.process_time() - began) / rounds)
    return best


class Million(Holder):
    """A million pieces that all have the bytes of one."""

    def __init__(self) -> None:
        self.model: Piece = make_piece(1, 64 << 20, k=20, n=40, unit=64 << 10)
        self.segments = [hashlib.sha256(n.to_bytes(8, "big")).digest()[:16] for n in range(PIECES)]
        layout = self.model.layout
        entry = self.model.entry()
        layout = self.model.layout
        hashes = [
            hashlib.sha256(SEGMENT_LEAF_TAG + bytes((i,)) + root).digest()
            for i, root in enumerate(self.model.piece_roots)
        ]
        self.levels = tree_levels(hashes)
        entry = self.model.entry()
        self.entries = [
            Entry(
                3 * number,
                segment,
                self.model.index,
                segment_root_by_top(
                    segment, 20, 40, layout.unit_bytes, layout.plain_bytes, self.levels[-1][0]
                ),
                entry.leaves,
                entry.piece_bytes,
            )
            for number, segment in enumerate(self.segments)
        ]
        self.epoch, self.frozen_ms = 7, 70_001

    def build(self) -> None:
        """Build the whole tree."""
        self.ranges = list(ranges_of(self.entries))
        self.top = TopTree([one.top for one in self.ranges])

    def agree(self) -> None:
        """Let both sides sign the head."""
        self.head = head_of(
            self.top, PROVIDER.public_key, COORDINATOR.public_key, 7, self.frozen_ms
        )
        self.signed = countersign_head(PROVIDER, sign_head(COORDINATOR, self.head))

    def change(self) -> None:
        """Build what one piece that came or went changes."""
        number = self.ranges[3].top.range
        low, high = number << RANGE_BITS, number + 1 << RANGE_BITS
        RangeTree(
            number, [e for e in self.entries[low // 3 : high // 3 + 1] if low <= e.serial < high]
        )
        TopTree([one.top for one in self.ranges])


def prove(million: Million, beacon: bytes) -> list[Sample]:
    """Draw and show, as a node does: a block hashed, the rest looked up."""
    model = million.model
    assert model.data is not None
    seed = first_seed(million.head, beacon, SLOT)
    found = []
    for _ in range(SAMPLES):
        position = position_of(seed, million.head.leaves)
        range_place, before = million.top.find(position)
        tree = million.ranges[range_place]
        place, inside = tree.find(position - before)
        leaf = position - before - inside
        start = leaf // BLOCK_LEAVES * BLOCK_BYTES
        block = model.data[start : start + BLOCK_BYTES]
        shown, path, _ = leaf_way(block, leaf, model.layout.piece_bytes, model.hashes)
        levels = tree_levels(
            [
                hashlib.sha256(SEGMENT_LEAF_TAG + bytes((i,)) + root).digest()
                for i, root in enumerate(model.piece_roots)
            ]
        )
        layout = model.layout
        found.append(
            Sample(
                million.segments[tree.serials[place] // 3],
                model.index,
                20,
                40,
                layout.unit_bytes,
                layout.plain_bytes,
                shown,
                leaf,
                path,
                b"".join(path_of(levels, model.index)),
                joined_place(place, tree.top.entries, range_place),
                tree.path(place) + million.top.path(range_place),
            )
        )
        seed = next_seed(seed, shown_hash(shown))
    return found


def main() -> int:
    """Measure and print."""
    million = Million()
    tree_s = cpu_s(million.build)
    beacon = beacon_of(SLOT)
    value = check_beacon(beacon).value
    million.agree()
    change_s = cpu_s(million.change)
    prove_s = cpu_s(lambda: prove(million, value), ROUNDS)
    samples = prove(million, value)
    proof = sign_proof(PROVIDER, million.signed, beacon, SLOT, samples)
    assert not judge_proof(proof).verdict.failed
    samples_s = cpu_s(lambda: judge_samples(samples, million.head, value, SLOT), ROUNDS)
    proof_s = cpu_s(lambda: judge_proof(proof), ROUNDS)
    body = len(encode_statement(proof))
    figures = {
        "pieces": PIECES,
        "tree_1m_cpu_s": round(tree_s, 2),
        "one_piece_changed_cpu_s": round(change_s, 3),
        "prove_cpu_ms": round(prove_s * 1000, 2),
        "verify_samples_cpu_ms": round(samples_s * 1000, 2),
        "verify_with_signatures_cpu_ms": round(proof_s * 1000, 2),
        "proof_bytes": body,
        "mb_a_day": round(body * SLOTS_A_DAY / 1e6, 2),
    }
    missed = [name for name, bound in BOUNDS.items() if float(figures[name]) > bound]
    print(json.dumps({**figures, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
