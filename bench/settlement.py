"""``python -m bench.settlement``: the sum tree of a million accounts, in CPU time and memory.

One line of JSON; the exit status says whether every figure is within its bound.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator

from atoll.economy.settlement.sumtree import Leaf, build, check_leaf, check_opening

LEAVES = 1_000_000
BUILD_CPU_S_MAX = 5.0
RSS_MB_MAX = 400.0
PROOFS = 1_000


def accounts(count: int) -> Iterator[Leaf]:
    for number in range(count):
        yield Leaf((977 * number + 1).to_bytes(20, "big"), 31 * number, 7 * number)


def main(count: int = LEAVES) -> int:
    wall, cpu = time.perf_counter(), time.process_time()
    tree = build(accounts(count))
    build_s, build_cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    totals = tree.released_micro, tree.held_micro
    cpu = time.process_time()
    for number in range(PROOFS):
        assert check_leaf(tree.root, tree.prove(number * 997 % count)) == totals
    proof_us = (time.process_time() - cpu) / PROOFS * 1e6
    level = min(8, tree.depth)
    assert check_opening(tree.root, tree.open(level, 0)) == totals
    figures = {
        "leaves": count,
        "build_cpu_s": round(build_cpu_s, 2),
        "build_s": round(build_s, 2),
        "rss_mb": round(rss_mb, 1),
        "prove_and_check_us": round(proof_us, 1),
        "root": tree.root.hex(),
    }
    print(json.dumps(figures))
    return 0 if build_cpu_s <= BUILD_CPU_S_MAX and rss_mb <= RSS_MB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
