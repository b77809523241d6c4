# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Merkle sum tree of an epoch
@license AGPL-3.0-only
@notice Checks what `atoll.economy.settlement.sumtree` builds; docs/spec/settlement.md is normative.
@dev    A word of sums holds released in its upper 128 bits and held in its lower 128. A recorded
        sum of 121 bits or more is refused everywhere, so that adding words never carries.
"""

struct Leaf:
    account: address
    sums: uint256

# A leaf with its place and the nodes beside its way up: hash, sums, hash, sums, lowest first.
struct Shown:
    leaf: Leaf
    index: uint256
    path: DynArray[bytes32, 64]

LEVEL_MAX: constant(uint256) = 8
LEAVES_MAX: constant(uint256) = 256
DEPTH_MAX: constant(uint256) = 32
PATH_MAX: constant(uint256) = 64
# Eight bits above each of the two amounts.
GUARD: constant(uint256) = 255 * 2**248 + 255 * 2**120
HALF: constant(uint256) = 128
LOW: constant(uint256) = 2**128 - 1


@internal
@pure
def _leaf_hash(account: address, sums: uint256) -> bytes32:
    inner: bytes32 = keccak256(concat(b"\x20", convert(account, bytes20), convert(sums, bytes32)))
    return keccak256(concat(b"\x21", inner))


@internal
@pure
def _node_hash(left: bytes32, left_sums: uint256, right: bytes32, right_sums: uint256) -> bytes32:
    return keccak256(
        concat(b"\x22", left, convert(left_sums, bytes32), right, convert(right_sums, bytes32))
    )


@internal
@pure
def _root(count: uint256, sums: uint256, top: bytes32) -> bytes32:
    return keccak256(
        concat(b"\x23", convert(convert(count, uint64), bytes8), convert(sums, bytes32), top)
    )


@internal
@pure
def _level(count: uint256, path_length: uint256) -> uint256:
    # The level a path of this length begins at.
    assert path_length & 1 == 0 and count > 0, "path"
    depth: uint256 = 0
    last: uint256 = count - 1
    for at: uint256 in range(DEPTH_MAX):
        if last >> at == 0:
            break
        depth += 1
    assert last >> depth == 0, "count"
    assert path_length >> 1 <= depth, "path"
    return depth - (path_length >> 1)


@internal
@pure
def _fold(
    start: bytes32, start_sums: uint256, start_position: uint256, path: DynArray[bytes32, PATH_MAX]
) -> (bytes32, uint256):
    # Top and total sums of the way up from a recorded node.
    node: bytes32 = start
    sums: uint256 = start_sums
    position: uint256 = start_position
    used: uint256 = sums
    for at: uint256 in range(len(path) >> 1, bound=DEPTH_MAX):
        beside: bytes32 = path[2 * at]
        beside_sums: uint256 = convert(path[2 * at + 1], uint256)
        used |= beside_sums
        if position & 1 == 1:
            node = self._node_hash(beside, beside_sums, node, sums)
        else:
            node = self._node_hash(node, sums, beside, beside_sums)
        # 33 halves of 120 bits at most: no carry before the guard is looked at.
        sums = unsafe_add(sums, beside_sums)
        position >>= 1
    assert (used | sums) & GUARD == 0, "sums too large"
    return node, sums


@internal
@pure
def _root_of_leaf(
    count: uint256,
    index: uint256,
    account: address,
    sums: uint256,
    path: DynArray[bytes32, PATH_MAX],
) -> bytes32:
    assert index < count, "index"
    assert self._level(count, len(path)) == 0, "path"
    top: bytes32 = empty(bytes32)
    total: uint256 = 0
    top, total = self._fold(self._leaf_hash(account, sums), sums, index, path)
    return self._root(count, total, top)


@internal
@pure
def _subtree(leaves: DynArray[Leaf, LEAVES_MAX], level: uint256) -> (bytes32, uint256):
    # Hash and sums of a subtree 2**level places wide that begins with these leaves.
    assert level <= LEVEL_MAX, "level"
    hashes: DynArray[bytes32, LEAVES_MAX] = []
    words: DynArray[uint256, LEAVES_MAX] = []
    used: uint256 = 0
    for leaf: Leaf in leaves:
        hashes.append(self._leaf_hash(leaf.account, leaf.sums))
        words.append(leaf.sums)
        used |= leaf.sums
    assert used & GUARD == 0, "sums too large"
    nothing: bytes32 = keccak256(b"\x24")
    size: uint256 = len(leaves)
    for at: uint256 in range(level, bound=LEVEL_MAX):
        if size & 1 == 1:
            if size == len(hashes):
                hashes.append(nothing)
                words.append(0)
            else:
                hashes[size] = nothing
                words[size] = 0
            size += 1
        for i: uint256 in range(size >> 1, bound=LEAVES_MAX):
            left: uint256 = words[2 * i]
            right: uint256 = words[2 * i + 1]
            hashes[i] = self._node_hash(hashes[2 * i], left, hashes[2 * i + 1], right)
            # At most 256 leaves of 120 bits: a carry out of the lower half is caught above.
            assert (left & LOW) + (right & LOW) <= LOW, "sums too large"
            words[i] = left + right
        size >>= 1
        nothing = self._node_hash(nothing, 0, nothing, 0)
    return hashes[0], words[0]


@internal
@pure
def _root_of_opening(
    count: uint256,
    level: uint256,
    position: uint256,
    leaves: DynArray[Leaf, LEAVES_MAX],
    path: DynArray[bytes32, PATH_MAX],
) -> bytes32:
    assert level <= LEVEL_MAX, "level"
    assert self._level(count, len(path)) == level, "path"
    first: uint256 = position << level
    assert position < 2**32 and first < count, "position"
    assert len(leaves) == min(1 << level, count - first), "leaves"
    node: bytes32 = empty(bytes32)
    sums: uint256 = 0
    node, sums = self._subtree(leaves, level)
    node, sums = self._fold(node, sums, position, path)
    return self._root(count, sums, node)


@internal
@pure
def _require_tidy(
    count: uint256,
    level: uint256,
    start_position: uint256,
    leaves: DynArray[Leaf, LEAVES_MAX],
    path: DynArray[bytes32, PATH_MAX],
):
    # Leaves ascend, and nothing lies beyond the last one.
    before: uint256 = 0
    for leaf: Leaf in leaves:
        account: uint256 = convert(leaf.account, uint256)
        assert account > before, "order"
        before = account
    nothing: bytes32 = keccak256(b"\x24")
    for at: uint256 in range(level, bound=LEVEL_MAX):
        nothing = self._node_hash(nothing, 0, nothing, 0)
    position: uint256 = start_position
    for at: uint256 in range(len(path) >> 1, bound=DEPTH_MAX):
        if (position ^ 1) << (level + at) >= count:
            assert path[2 * at] == nothing and path[2 * at + 1] == empty(bytes32), "beyond"
        position >>= 1
        nothing = self._node_hash(nothing, 0, nothing, 0)
