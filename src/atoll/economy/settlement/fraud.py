"""What is wrong with a proposed root, and the call of the contract that shows it.

A watcher has the leaves as they were published and the tree of the last final epoch. Either the
leaves make the proposed root, and what is wrong with them can be proven; or they make all of it but
one recorded sum, which can be proven, too; or they do not, and then somebody has to show those that
do: each chunk is asked for. What was shown makes the tree that was proposed, and is judged again.
Evidence: docs/spec/settlement.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from atoll.economy.settlement.sumtree import (
    AMOUNT_MAX,
    CHUNK_LEVEL,
    HASH_BYTES,
    Leaf,
    LeafProof,
    Opening,
    SumTree,
    build,
    check_opening,
    depth_of,
    node_hash,
    root_of,
    sums_of,
    sums_word,
)

SEARCH_COUNT_MAX = 1 << 16
"""In larger trees a wrong sum is looked for at the top only; below it the demands find it."""


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


class BadSum(msgspec.Struct, frozen=True):
    """A node that is recorded with other sums than its two children have."""

    position: int
    recorded: int
    """The word of sums that its parent, or the proposal, has for it."""
    left: bytes
    right: bytes
    path: tuple[bytes, ...]


class BadLeaf(msgspec.Struct, frozen=True):
    """A leaf that is recorded with other amounts than its own."""

    leaf: Leaf
    index: int
    recorded: int
    path: tuple[bytes, ...]


class Unshown(msgspec.Struct, frozen=True):
    """The published leaves make another root: chunks 0 … ``chunks`` − 1 have to be shown."""

    chunks: int


Fault = Disorder | Falling | Missing | BadSum | BadLeaf | Unshown


def find_fault(
    last: SumTree | None,
    leaves: Sequence[Leaf],
    count: int,
    proposed_root: bytes,
    sums: tuple[int, int] | None = None,
) -> Fault | None:
    """Return what is wrong with a proposal, the first thing found; None if nothing is.

    ``last`` is the tree of the last final root (None before the first), ``leaves`` what was
    published beside the proposal, ``count``, ``proposed_root`` and ``sums`` (released, held) what
    the chain says; without sums no wrong sum is looked for. Raises ``AtollError``
    (``BAD_REQUEST``) if no tree has such leaves (an account of another length, too large an
    amount): then they are not those of the root either, see ``unshown``.
    """
    if len(leaves) != count:
        return unshown(count)
    return fault_of(last, build(leaves, ordered=False), leaves, proposed_root, sums)


def fault_of(
    last: SumTree | None,
    tree: SumTree,
    leaves: Sequence[Leaf],
    proposed_root: bytes,
    sums: tuple[int, int] | None = None,
) -> Fault | None:
    """Return what is wrong with a proposal of as many leaves as were published.

    As ``find_fault``, with the ``tree`` of the ``leaves`` built before.
    """
    if tree.root != proposed_root:
        found = None if sums is None else find_bad_sum(tree, proposed_root, *sums)
        return found or unshown(tree.count)
    for index, (left, right) in enumerate(pairwise(leaves)):
        if left.account >= right.account:
            return Disorder(tree.prove(index), tree.prove(index + 1))
    if last is None:
        return None
    return _fallen(last, tree)


def unshown(count: int) -> Unshown:
    """Return the demand for everything, for leaves that cannot be those of the root."""
    return Unshown(((count - 1) >> CHUNK_LEVEL) + 1)


def find_bad_sum(
    tree: SumTree, proposed_root: bytes, released_micro: int, held_micro: int
) -> BadSum | BadLeaf | None:
    """Return the one recorded sum that makes the proposed root of these leaves' tree, if one does.

    All sums above the wrong one carry it upwards, so it is off by what the total is off. Where
    more than one is wrong nothing is found, and nobody can show the chunks below them either.
    """
    off = (released_micro - tree.released_micro, held_micro - tree.held_micro)
    if off == (0, 0):
        return None
    whole = tree.count <= SEARCH_COUNT_MAX
    for level in range(tree.depth, -1 if whole else tree.depth - 1, -1):
        for position in range(((tree.count - 1) >> level) + 1):
            node = tree.node(level, position)
            sums = sums_of(int.from_bytes(node[HASH_BYTES:], "big"))
            said = (sums[0] + off[0], sums[1] + off[1])
            if not all(0 <= one <= AMOUNT_MAX for one in said):
                continue
            recorded = sums_word(*said)
            path = tree.path(level, position)
            if _root_over(node[:HASH_BYTES], recorded, tree.count, position, path) == proposed_root:
                return _bad_node(tree, level, position, recorded, path)
    return None


def _root_over(
    node: bytes, recorded: int, count: int, position: int, path: tuple[bytes, ...]
) -> bytes:
    """Return the root above a node whose parent records these sums for it."""
    word = recorded
    for sibling in path:
        here = node + word.to_bytes(32, "big")
        word += int.from_bytes(sibling[HASH_BYTES:], "big")
        node = node_hash(sibling, here) if position & 1 else node_hash(here, sibling)
        position >>= 1
    return root_of(count, word, node)


def _bad_node(
    tree: SumTree, level: int, position: int, recorded: int, path: tuple[bytes, ...]
) -> BadSum | BadLeaf:
    if not level:
        return BadLeaf(tree.leaf(position), position, recorded, path)
    left, right = (tree.node(level - 1, 2 * position + side) for side in (0, 1))
    return BadSum(position, recorded, left, right, path)


def chunk_level(count: int) -> int:
    """Return the level of what a demand asks for: 64 leaves, or the whole of a smaller tree."""
    return min(CHUNK_LEVEL, depth_of(count))


def shown_chunk(
    proposed_root: bytes,
    count: int,
    chunk: int,
    leaves: Sequence[tuple[str, int]],
    path: Sequence[bytes],
) -> tuple[Leaf, ...]:
    """Return the leaves of an answer to a demand, as the contract took it.

    Raises ``AtollError`` (``CORRUPT``, ``BAD_REQUEST``) for anything that is not the proposal's.
    """
    nodes = tuple(left + right for left, right in zip(path[::2], path[1::2], strict=False))
    found = tuple(
        Leaf(bytes.fromhex(account.removeprefix("0x")), *sums_of(word)) for account, word in leaves
    )
    opening = Opening(chunk_level(count), chunk, count, found, nodes)
    check_opening(proposed_root, opening)
    return found


def all_shown(count: int, chunks: Mapping[int, tuple[Leaf, ...]]) -> list[Leaf] | None:
    """Return all leaves once every chunk was shown; None before."""
    if len(chunks) != unshown(count).chunks:
        return None
    return [leaf for chunk in range(len(chunks)) for leaf in chunks[chunk]]


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
        case BadSum(position, recorded, left, right, path):
            children = (*_halves(left), *_halves(right))
            yield "prove_bad_sum", (position, recorded, *children, path_words(path))
        case BadLeaf(leaf, index, recorded, path):
            yield "prove_bad_leaf", (leaf_words(leaf), index, recorded, path_words(path))
        case Unshown(chunks):
            for chunk in range(chunks):
                yield "demand", (chunk,)


def leaf_words(leaf: Leaf) -> tuple[str, int]:
    """Return a leaf as the contracts take it: account, word of sums."""
    return "0x" + leaf.account.hex(), sums_word(leaf.released_micro, leaf.held_micro)


def path_words(path: tuple[bytes, ...]) -> list[bytes]:
    """Return a path as the contracts take it: hash, sums, hash, sums."""
    return [half for node in path for half in (node[:HASH_BYTES], node[HASH_BYTES:])]


def _halves(node: bytes) -> tuple[bytes, int]:
    """Return a recorded node as the contracts take it: hash, word of sums."""
    return node[:HASH_BYTES], int.from_bytes(node[HASH_BYTES:], "big")


def _shown(proof: LeafProof) -> tuple[tuple[str, int], int, list[bytes]]:
    return leaf_words(proof.leaf), proof.index, path_words(proof.path)
