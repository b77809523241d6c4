"""The way from a leaf to its piece's root, without reading the whole piece.

A node keeps, for each larger piece, the hashes of its *blocks* of 64 KiB (16 leaves, aligned):
0.05 % of the data. To show a leaf it reads one block and climbs the rest over those hashes. They
are a cache: whoever checks the result against the piece root finds a wrong one out.
"""

import hashlib
import struct

from typing_extensions import Buffer

from atoll.core.merkle import HASH_BYTES, LEAF_TAG, NODE_TAG, PIECE_TAG, leaf_count
from atoll.core.scheme import LEAF_BYTES

BLOCK_LEAVES = 16
BLOCK_BYTES = BLOCK_LEAVES * LEAF_BYTES

_sha256 = hashlib.sha256
_PIECE = struct.Struct(">sQ32s")


def _leaf_hashes(block: Buffer) -> list[bytes]:
    view = memoryview(block)
    return [
        _sha256(LEAF_TAG + bytes(view[start : start + LEAF_BYTES])).digest()
        for start in range(0, max(1, len(view)), LEAF_BYTES)
    ]


def _path(level: list[bytes], place: int) -> tuple[bytes, bytes]:
    """Return the joined path of a place, and the top."""
    path = []
    sha256 = _sha256
    while len(level) > 1:
        beside = place ^ 1
        if beside < len(level):
            path.append(level[beside])
        above = [
            sha256(NODE_TAG + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)
        ]
        if len(level) & 1:
            above.append(level[-1])
        level = above
        place >>= 1
    return b"".join(path), level[0]


def block_hash(block: Buffer) -> bytes:
    """Return the hash over one block (at most 64 KiB, the last may be shorter)."""
    return _path(_leaf_hashes(block), 0)[1]


def block_hashes(data: Buffer) -> bytes:
    """Return the joined hashes of all blocks of a data area."""
    view = memoryview(data)
    return b"".join(
        block_hash(view[start : start + BLOCK_BYTES])
        for start in range(0, max(1, len(view)), BLOCK_BYTES)
    )


def leaf_way(block: Buffer, leaf: int, length: int, hashes: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (leaf bytes, joined path to the piece root, that root) for one leaf of a data area.

    ``block`` is the block that holds the leaf, ``length`` that of the whole data area, ``hashes``
    the joined hashes of all its blocks (unused where there is but one). The leaf as it is decides
    what root comes out: compare it. Raises ``ValueError`` for parts that do not fit each other.
    """
    count = leaf_count(length)
    blocks = -(-count // BLOCK_LEAVES)
    place, within = divmod(leaf, BLOCK_LEAVES)
    wanted = min(BLOCK_BYTES, length - place * BLOCK_BYTES)
    if not 0 <= leaf < count or memoryview(block).nbytes != wanted:
        raise ValueError("this block does not hold that leaf")
    path, top = _path(_leaf_hashes(block), within)
    if blocks > 1:
        if len(hashes) != blocks * HASH_BYTES:
            raise ValueError("these are not the hashes of all blocks")
        level = [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]
        level[place] = top
        above, top = _path(level, place)
        path += above
    start = within * LEAF_BYTES
    shown = bytes(memoryview(block)[start : start + LEAF_BYTES])
    return shown, path, _sha256(_PIECE.pack(PIECE_TAG, length, top)).digest()
