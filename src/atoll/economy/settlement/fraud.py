"""What is wrong with a proposed root, and the call of the contract that shows it.

A watcher has the leaves as they were published and the tree of the last final epoch. Either the
leaves make the proposed root, and what is wrong with them can be proven, or they do not, and then
somebody has to show those that do: each chunk is asked for. Evidence: docs/spec/settlement.md.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from atoll.economy.settlement.sumtree import (
    CHUNK_LEVEL,
    HASH_BYTES,
    Leaf,
    LeafProof,
    SumTree,
    build,
    sums_word,
)


class Disorder(msgspec.Struct, frozen=True):
    """Two leaves of which the earlier has no smaller account."""

    left: LeafProof
    right: LeafProof


class Falling(msgspec.Struct, frozen=True):
    """A leaf of the last final tree, and the same account's smaller one now."""

    old: LeafProof
    new: LeafProof


class Missing(msgspec.Struct, frozen=True):
    """A leaf of the last final tree, and the neighbours of the place where it should be now."""

    old: LeafProof
    beside: tuple[LeafProof, ...]


class Unshown(msgspec.Struct, frozen=True):
    """The published leaves make another root: chunks 0 … ``chunks`` − 1 have to be shown."""

    chunks: int


Fault = Disorder | Falling | Missing | Unshown


def find_fault(
    last: SumTree | None, leaves: Sequence[Leaf], count: int, proposed_root: bytes
) -> Fault | None:
    """Return what is wrong with a proposal, the first thing found; None if nothing is.

    ``last`` is the tree of the last final root (None before the first), ``leaves`` what was
    published beside the proposal, ``count`` and ``proposed_root`` what the chain says. Raises
    ``AtollError`` (``BAD_REQUEST``) if no tree has such leaves (an account of another length, too
    large an amount): then they are not those of the root either, see ``unshown``.
    """
    if len(leaves) != count:
        return unshown(count)
    tree = build(leaves, ordered=False)
    if tree.root != proposed_root:
        return unshown(count)
    for index, (left, right) in enumerate(pairwise(leaves)):
        if left.account >= right.account:
            return Disorder(tree.prove(index), tree.prove(index + 1))
    if last is None:
        return None
    return _fallen(last, tree)


def unshown(count: int) -> Unshown:
    """Return the demand for everything, for leaves that cannot be those of the root."""
    return Unshown(((count - 1) >> CHUNK_LEVEL) + 1)


def _fallen(last: SumTree, tree: SumTree) -> Fault | None:
    """Return the first account that has less than before or is not there; both trees ascend."""
    place = 0
    for index in range(last.count):
        old = last.leaf(index)
        if old.released_micro == 0:
            continue
        while place < tree.count and tree.leaf(place).account < old.account:
            place += 1
        new = tree.leaf(place) if place < tree.count else None
        if new is None or new.account != old.account:
            beside = [at for at in (place - 1, place) if 0 <= at < tree.count]
            return Missing(last.prove(index), tuple(tree.prove(at) for at in beside))
        if new.released_micro < old.released_micro:
            return Falling(last.prove(index), tree.prove(place))
    return None


def calls_of(fault: Fault) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Return the calls of ``EpochDistributor`` that show a fault: name and arguments.

    For ``Unshown`` there is one demand per chunk; the proposal is struck down when one of them is
    not answered in time.
    """
    match fault:
        case Disorder(left, right):
            yield "prove_disorder", (_shown(left), _shown(right))
        case Falling(old, new):
            yield "prove_falling", (old.count, _shown(old), _shown(new))
        case Missing(old, beside):
            yield "prove_missing", (old.count, _shown(old), [_shown(one) for one in beside])
        case Unshown(chunks):
            for chunk in range(chunks):
                yield "demand", (chunk,)


def leaf_words(leaf: Leaf) -> tuple[str, int]:
    """Return a leaf as the contracts take it: account, word of sums."""
    return "0x" + leaf.account.hex(), sums_word(leaf.released_micro, leaf.held_micro)


def path_words(path: tuple[bytes, ...]) -> list[bytes]:
    """Return a path as the contracts take it: hash, sums, hash, sums."""
    return [half for node in path for half in (node[:HASH_BYTES], node[HASH_BYTES:])]


def _shown(proof: LeafProof) -> tuple[tuple[str, int], int, list[bytes]]:
    return leaf_words(proof.leaf), proof.index, path_words(proof.path)
