"""Commitments: the SHA-256 Merkle trees that name the bytes of pieces and the pieces of segments.

Every hash starts with one byte that says what it hashes, so a leaf can never pass for a node, nor
a piece for a segment. Trees have the shape of RFC 6962: an odd node at the end of a level is lifted
unchanged, never doubled. The root hash binds the length, so it fixes the shape as well.

Normative text: ``docs/spec/merkle.md``. Vectors: ``tests/golden/vectors/merkle.json``.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import Buffer

from atoll.core.scheme import LEAF_BYTES

HASH_BYTES = 32
LEAF_TAG = b"\x00"
NODE_TAG = b"\x01"
PIECE_TAG = b"\x02"
SEGMENT_TAG = b"\x03"
SEGMENT_LEAF_TAG = b"\x04"
ORDER_TAG = b"\x05"
PATH_HASHES_MAX = 64
"""No proof is longer: a tree of 2^64 leaves is beyond every length we can write down."""

_sha256 = hashlib.sha256
_LEAF = _sha256(LEAF_TAG)
_LENGTH = struct.Struct(">Q")
_SEGMENT = struct.Struct(">16sBBIQ")


def leaf_hash(data: Buffer) -> bytes:
    """Return the hash of one leaf of a piece: at most 4,096 bytes."""
    state = _LEAF.copy()
    state.update(data)
    return state.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return _sha256(NODE_TAG + left + right).digest()


class PieceHasher:
    """Computes the root of a piece's data area as its bytes pass, in any cuts.

    It keeps one pending hash per level of the tree, not one per leaf: a few hundred bytes for a
    piece of any length. Not safe for use by two threads at once. SHA-256 releases the GIL leaf by
    leaf.
    """

    __slots__ = ("_length", "_levels", "_open", "_open_bytes")

    def __init__(self) -> None:
        self._levels: list[bytes | None] = []
        self._open = _LEAF.copy()
        self._open_bytes = 0
        self._length = 0

    @property
    def length(self) -> int:
        """Bytes hashed so far."""
        return self._length

    def update(self, data: Buffer) -> None:
        """Hash the next bytes; empty ones are allowed. The buffer must be C-contiguous."""
        view = memoryview(data)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        length = len(view)
        self._length += length
        start = 0
        hashes: list[bytes] = []
        if self._open_bytes:
            start = min(LEAF_BYTES - self._open_bytes, length)
            self._open.update(view[:start])
            self._open_bytes += start
            if self._open_bytes < LEAF_BYTES:
                return
            hashes.append(self._open.digest())
            self._open = _LEAF.copy()
            self._open_bytes = 0
        copy = _LEAF.copy
        whole_end = start + (length - start) // LEAF_BYTES * LEAF_BYTES
        for offset in range(start, whole_end, LEAF_BYTES):
            state = copy()
            state.update(view[offset : offset + LEAF_BYTES])
            hashes.append(state.digest())
        if whole_end < length:
            self._open.update(view[whole_end:])
            self._open_bytes = length - whole_end
        if hashes:
            self._climb(hashes)

    def _climb(self, hashes: list[bytes]) -> None:
        """Pair the new hashes level by level; what has no partner yet waits on its level."""
        sha256, tag, levels = _sha256, NODE_TAG, self._levels
        level = 0
        while hashes:
            if level == len(levels):
                levels.append(None)
            waiting = levels[level]
            if waiting is not None:
                hashes.insert(0, waiting)
            levels[level] = hashes.pop() if len(hashes) & 1 else None
            pairs = iter(hashes)
            hashes = [
                sha256(tag + left + right).digest()
                for left, right in zip(pairs, pairs, strict=True)
            ]
            level += 1

    def root(self) -> bytes:
        """Return the root of all bytes so far; more may follow."""
        top: bytes | None = None
        if self._open_bytes or not self._length:
            top = self._open.digest()
        for waiting in self._levels:
            if waiting is not None:
                top = waiting if top is None else node_hash(waiting, top)
        assert top is not None
        return _bind(self._length, top)


def _bind(length: int, top: bytes) -> bytes:
    return _sha256(PIECE_TAG + _LENGTH.pack(length) + top).digest()


def piece_root(data: Buffer) -> bytes:
    """Return the root of a whole data area."""
    hasher = PieceHasher()
    hasher.update(data)
    return hasher.root()


def tree_levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return all levels of a tree, leaves first, top last. There is at least one leaf."""
    if not leaves:
        raise ValueError("a tree has at least one leaf")
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) & 1:
            above.append(level[-1])
        levels.append(above)
    return levels


def path_of(levels: Sequence[Sequence[bytes]], leaf: int) -> tuple[bytes, ...]:
    """Return the hashes beside the way from a leaf to the top, lowest first."""
    path = []
    position = leaf
    for level in levels[:-1]:
        beside = position ^ 1
        if beside < len(level):
            path.append(level[beside])
        position >>= 1
    return tuple(path)


def top_by_path(leaf: bytes, position: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """Return the top that a leaf at ``position`` of ``count`` and its path lead to.

    ``None`` where the path does not have exactly the hashes that this place in the tree asks for.
    """
    if not 0 <= position < count or len(path) > PATH_HASHES_MAX:
        return None
    top, used, last = leaf, 0, count - 1
    while last:
        if position & 1 or position < last:
            if used == len(path) or len(path[used]) != HASH_BYTES:
                return None
            beside = path[used]
            used += 1
            top = node_hash(beside, top) if position & 1 else node_hash(top, beside)
        position >>= 1
        last >>= 1
    return top if used == len(path) else None


def leaf_count(length: int) -> int:
    """Return the number of leaves of a data area; an empty one has one, empty leaf."""
    return max(1, -(-length // LEAF_BYTES))


@dataclass(frozen=True, slots=True)
class Proof:
    """The way from one leaf of a piece to its root: hashes beside it, lowest first."""

    path: tuple[bytes, ...]


def leaf_proof(data: Buffer, leaf: int) -> Proof:
    """Prove leaf number ``leaf`` (from 0) of a whole data area.

    Raises ``ValueError`` for a leaf that is not there.
    """
    view = memoryview(data).cast("B")
    count = leaf_count(len(view))
    if not 0 <= leaf < count:
        raise ValueError(f"no leaf {leaf} among {count}")
    starts = range(0, count * LEAF_BYTES, LEAF_BYTES)
    levels = tree_levels([leaf_hash(view[start : start + LEAF_BYTES]) for start in starts])
    return Proof(path_of(levels, leaf))


def check_leaf(root: bytes, length: int, leaf_index: int, leaf_bytes: Buffer, proof: Proof) -> bool:
    """Say whether ``leaf_bytes`` are leaf ``leaf_index`` of the data of that root and length.

    Never raises for what a prover may have made up.
    """
    if not 0 <= length < 1 << 64 or not 0 <= leaf_index < leaf_count(length):
        return False
    wanted = min(LEAF_BYTES, length - leaf_index * LEAF_BYTES)
    if memoryview(leaf_bytes).nbytes != wanted:
        return False
    top = top_by_path(leaf_hash(leaf_bytes), leaf_index, leaf_count(length), proof.path)
    return top is not None and _bind(length, top) == root


def segment_root(
    segment_id: bytes,
    k: int,
    n: int,
    unit_bytes: int,
    plain_bytes: int,
    piece_roots: Sequence[bytes],
) -> bytes:
    """Return the root over all ``n`` piece roots of a segment, bound to its id and geometry.

    Raises ``ValueError`` where the number or length of the roots is wrong.
    """
    if len(piece_roots) != n or any(len(root) != HASH_BYTES for root in piece_roots):
        raise ValueError(f"a segment of {n} pieces has {n} roots of {HASH_BYTES} bytes")
    leaves = [
        _sha256(SEGMENT_LEAF_TAG + bytes((index,)) + root).digest()
        for index, root in enumerate(piece_roots)
    ]
    geometry = _SEGMENT.pack(segment_id, k, n, unit_bytes, plain_bytes)
    return _sha256(SEGMENT_TAG + geometry + tree_levels(leaves)[-1][0]).digest()
