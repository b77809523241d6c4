"""Vectors of the sum tree of an epoch; the contract is held to them too (tests/contracts)."""

from typing import Any

from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.sumtree import (
    AMOUNT_MAX,
    Leaf,
    SumTree,
    build,
    empty_node,
    leaf_hash,
)

SHOWN = {1: [0], 2: [0, 1], 3: [2], 70: [0, 33, 64, 69], 300: [0, 255, 256, 299]}


def leaf_of(number: int) -> Leaf:
    """Leaf ``number`` of a vector: the rule is written beside it."""
    return Leaf((977 * number + 1).to_bytes(20, "big"), 10**6 * number + 31, 7 * number)


def _proof(tree: SumTree, index: int) -> dict[str, Any]:
    proof = tree.prove(index)
    return {
        "index": index,
        "account": proof.leaf.account.hex(),
        "released_micro": proof.leaf.released_micro,
        "held_micro": proof.leaf.held_micro,
        "leaf_hash": leaf_hash(proof.leaf).hex(),
        "path": [node.hex() for node in proof.path],
    }


def sumtree() -> dict[str, Any]:
    trees = []
    for count, shown in SHOWN.items():
        tree = build(leaf_of(number) for number in range(count))
        trees.append(
            {
                "count": count,
                "root": tree.root.hex(),
                "top": tree.node(tree.depth, 0)[:32].hex(),
                "released_micro": tree.released_micro,
                "held_micro": tree.held_micro,
                "proofs": [_proof(tree, index) for index in shown],
            }
        )
    largest = Leaf(b"\xff" * 20, AMOUNT_MAX, AMOUNT_MAX)
    return {
        "leaf_rule": "account 977·i + 1, released_micro 1,000,000·i + 31, held_micro 7·i",
        "keccak_256": [
            {"input": data.hex(), "digest": keccak_256(data).hex()} for data in (b"", b"abc")
        ],
        "largest_leaf": {
            "account": largest.account.hex(),
            "amount_micro": str(AMOUNT_MAX),
            "leaf_hash": leaf_hash(largest).hex(),
        },
        "empty_nodes": [empty_node(level).hex() for level in range(9)],
        "trees": trees,
    }
