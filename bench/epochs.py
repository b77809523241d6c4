"""``make epochs``: many epochs of many nodes of random life; conservation must be exact.

Every epoch is computed and balanced to the pico, its sum tree built, and what all accounts were
ever paid in stablecoin units compared with what came in. Every ``--naive`` epochs a second, naive
computation is run beside it. Ends with one JSON line; exits with 1 where a pico is missing.
"""

import argparse
import json
import sys
import time
from collections import defaultdict

from tests.fixtures.epochs import PARAMETERS, Life, Naive, agree

from atoll.economy.settlement.compute import compute, leaves
from atoll.economy.settlement.model import FIRST
from atoll.economy.settlement.sumtree import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--naive", action="store_true", help="compute each epoch a second time")
    options = parser.parse_args()
    life = Life(options.seed, options.nodes, options.customers)
    totals, naive = FIRST, Naive()
    paid_in = lines = 0
    compute_s = 0.0
    paid_micro: defaultdict[bytes, int] = defaultdict(int)
    fell = 0
    for number in range(1, options.epochs + 1):
        inputs = life.next()
        lines += len(inputs.storage) + len(inputs.egress)
        began = time.perf_counter()
        result = compute(totals, inputs, life.tariff, PARAMETERS)
        compute_s += time.perf_counter() - began
        paid_in += sum(c.charge_pico - c.refund_pico - c.credit_pico for c in result.customers)
        paid_in += result.top_up_pico - sum(node.credited_pico for node in result.nodes)
        totals = result.totals
        for leaf in leaves(totals):
            fell += leaf.released_micro < paid_micro[leaf.account]
            paid_micro[leaf.account] = leaf.released_micro
        if options.naive:
            naive.epoch(inputs, life.tariff, PARAMETERS)
            agree(naive, totals)
        if number % max(1, options.epochs // 10) == 0:
            print(f"{number} epochs, {lines} lines", file=sys.stderr, flush=True)
    released = sum(one.released_pico for one in totals.accounts)
    held = sum(one.held_pico for one in totals.nodes)
    kept = sum(totals.buckets_pico[1:]) + totals.insurance_pico + sum(totals.carried) // 10_000
    tree = build(leaves(totals))
    exact = released + held + kept == paid_in
    unpaid_micro = released // 10**6 - sum(paid_micro.values())
    print(
        json.dumps(
            {
                "epochs": options.epochs,
                "nodes": options.nodes,
                "lines": lines,
                "came_in_pico": str(paid_in),
                "released_pico": str(released),
                "held_pico": str(held),
                "take_and_remainder_pico": str(kept),
                "conserved": exact,
                "leaves": tree.count,
                "released_micro": tree.released_micro,
                "floors_micro": unpaid_micro,
                "cumulative_fell": fell,
                "compute_s": round(compute_s, 2),
                "lines_per_s": round(lines / compute_s),
            }
        )
    )
    if not exact or fell or not 0 <= unpaid_micro < tree.count:
        sys.exit(1)


if __name__ == "__main__":
    main()
