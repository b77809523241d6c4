"""The Merkle sum tree of an epoch: what every account is owed, under one root of 32 bytes.

A leaf is (account, released, held); leaves are sorted by account and unique. Each node is recorded
by its parent together with the sums of what lies below it, so a root commits the totals too, and
whoever shows one leaf shows that it fits into them: a wrong root can split money wrongly, it cannot
create any. Normative: docs/spec/settlement.md; the contract ``EpochDistributor`` computes the same
bytes (tests/golden/vectors/sumtree.json).

The hash is Keccak-256, for the EVM. A level is one flat buffer of 64 bytes per node (32 of hash,
32 of sums), so a million leaves take 148 MB and no object per node.

Sources: RFC 6962 (domain separation of leaf and node); Merkle sum trees as in Maxwell's and Todd's
proof of liabilities, with both children's sums in the hash (Chalkias et al., "Broken Proofs of
Solvency in Blockchain Custodial Wallets and Exchanges", 2022).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.economy.keccak import keccak_256

ACCOUNT_BYTES: Final = 20
HASH_BYTES: Final = 32
NODE_BYTES: Final = 64
"""One node as its parent records it: hash, then the word of its sums."""
COUNT_MAX: Final = 1 << 32
AMOUNT_BITS: Final = 120
"""A sum of more bits is refused: eight bits of guard keep one half of a word out of the other."""
AMOUNT_MAX: Final = (1 << AMOUNT_BITS) - 1
LEVEL_MAX: Final = 8
"""The largest subtree opened at once: 256 leaves."""
CHUNK_LEVEL: Final = 6
"""What a demand for withheld data asks for: 64 leaves."""

_HALF: Final = 128
_LOW: Final = (1 << _HALF) - 1
_GUARD: Final = (0xFF << AMOUNT_BITS) | (0xFF << (_HALF + AMOUNT_BITS))
_LEAF_INNER: Final = b"\x20"
_LEAF: Final = b"\x21"
_NODE: Final = b"\x22"
_ROOT: Final = b"\x23"
_EMPTY: Final = b"\x24"
_NO_SUMS: Final = bytes(32)


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """What one account is owed since the first epoch, in stablecoin units (1e-6 EUR).

    ``released_micro`` is cumulative and never falls. ``held_micro`` is what is held back now.
    """

    account: bytes
    released_micro: int
    held_micro: int


class LeafProof(msgspec.Struct, frozen=True):
    """That ``leaf`` is at ``index`` of ``count``; ``path`` holds the nodes beside the way up."""

    leaf: Leaf
    index: int
    count: int
    path: tuple[bytes, ...]


class Opening(msgspec.Struct, frozen=True):
    """All leaves of the subtree of 2**level leaves at ``position`` of its level."""

    level: int
    position: int
    count: int
    leaves: tuple[Leaf, ...]
    path: tuple[bytes, ...]


def _refuse(message: str, kind: Kind = Kind.BAD_REQUEST) -> AtollError:
    return AtollError(kind, "settlement.sumtree", message)


def depth_of(count: int) -> int:
    """Return how many levels lie above the leaves of a tree of ``count`` leaves."""
    if not 1 <= count <= COUNT_MAX:
        raise _refuse(f"a tree has 1 to {COUNT_MAX} leaves, not {count}")
    return (count - 1).bit_length()


def sums_word(released_micro: int, held_micro: int) -> int:
    """Return both sums as one word of the EVM: released in the upper 128 bits."""
    if not (0 <= released_micro <= AMOUNT_MAX and 0 <= held_micro <= AMOUNT_MAX):
        raise _refuse(f"an amount has at most {AMOUNT_BITS} bits and is not negative")
    return released_micro << _HALF | held_micro


def sums_of(word: int) -> tuple[int, int]:
    """Return (released, held) of a word."""
    return word >> _HALF, word & _LOW


def leaf_hash(leaf: Leaf) -> bytes:
    """Return the hash of a leaf: hashed twice, so that no leaf can be read as a node."""
    if len(leaf.account) != ACCOUNT_BYTES:
        raise _refuse(f"an account has {ACCOUNT_BYTES} bytes")
    word = sums_word(leaf.released_micro, leaf.held_micro)
    inner = keccak_256(_LEAF_INNER + leaf.account + word.to_bytes(32, "big"))
    return keccak_256(_LEAF + inner)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two recorded nodes of 64 bytes each."""
    return keccak_256(_NODE + left + right)


def root_of(count: int, word: int, top: bytes) -> bytes:
    """Return the root: it binds count, sums and top, so a claim needs nothing else from a chain."""
    return keccak_256(_ROOT + count.to_bytes(8, "big") + word.to_bytes(32, "big") + top)


def empty_node(level: int) -> bytes:
    """Return the recorded node of a subtree of no leaves, 2**level places wide."""
    node = keccak_256(_EMPTY) + _NO_SUMS
    for _ in range(level):
        node = node_hash(node, node) + _NO_SUMS
    return node


def add_words(left: int, right: int) -> int:
    """Return the sums of two nodes; anything that would use the guard bits is refused."""
    if (left | right) & _GUARD:
        raise _refuse("a recorded sum is too large", Kind.CORRUPT)
    return left + right


class SumTree:
    """A whole tree in memory: 64 bytes per node and 20 per account."""

    __slots__ = ("_accounts", "_levels", "count", "depth", "held_micro", "released_micro", "root")

    def __init__(self, accounts: bytearray, ground: bytearray) -> None:
        self._accounts = accounts
        self.count = len(accounts) // ACCOUNT_BYTES
        self.depth = depth_of(self.count)
        self._levels = [ground]
        for level in range(self.depth):
            self._levels.append(_level_above(self._levels[-1], level))
        top = bytes(self._levels[-1])
        word = int.from_bytes(top[HASH_BYTES:], "big")
        self.released_micro, self.held_micro = sums_of(word)
        self.root = root_of(self.count, word, top[:HASH_BYTES])

    def leaf(self, index: int) -> Leaf:
        """Return the leaf at ``index``."""
        if not 0 <= index < self.count:
            raise _refuse(f"no leaf {index} of {self.count}", Kind.NOT_FOUND)
        start = index * NODE_BYTES + HASH_BYTES
        word = int.from_bytes(self._levels[0][start : start + 32], "big")
        return Leaf(self._account(index), *sums_of(word))

    def place_of(self, account: bytes) -> tuple[int, bool]:
        """Return where ``account`` is, or would be, and whether it is there."""
        index = bisect_left(range(self.count), account, key=self._account)
        return index, index < self.count and self._account(index) == account

    def prove(self, index: int) -> LeafProof:
        """Return the proof of one leaf."""
        leaf = self.leaf(index)
        return LeafProof(leaf, index, self.count, self.path(0, index))

    def path(self, level: int, position: int) -> tuple[bytes, ...]:
        """Return the recorded nodes beside the way from a node to the top, lowest first."""
        if not (0 <= level <= self.depth and 0 <= position <= (self.count - 1) >> level):
            raise _refuse(f"no node {position} at level {level}", Kind.NOT_FOUND)
        path = []
        for at in range(level, self.depth):
            path.append(self.node(at, position ^ 1))
            position >>= 1
        return tuple(path)

    def node(self, level: int, position: int) -> bytes:
        """Return a recorded node: hash and sums, 64 bytes."""
        start = position * NODE_BYTES
        buffer = self._levels[level]
        return bytes(buffer[start : start + NODE_BYTES]) or empty_node(level)

    def open(self, level: int, position: int) -> Opening:
        """Return all leaves below one node, with the way from it to the top."""
        if level > LEVEL_MAX:
            raise _refuse(f"at most {1 << LEVEL_MAX} leaves are opened at once", Kind.TOO_LARGE)
        path = self.path(level, position)
        first = position << level
        last = min(first + (1 << level), self.count)
        leaves = tuple(self.leaf(index) for index in range(first, last))
        return Opening(level, position, self.count, leaves, path)

    def _account(self, index: int) -> bytes:
        start = index * ACCOUNT_BYTES
        return bytes(self._accounts[start : start + ACCOUNT_BYTES])


def build(leaves: Iterable[Leaf], *, ordered: bool = True) -> SumTree:
    """Return the tree of ``leaves``, which must come sorted by account and unique.

    They are read once; none is kept. Not ``ordered`` is for who judges somebody else's leaves: they
    may come in any order. Raises ``AtollError`` (``BAD_REQUEST``) for an account out of order, of
    another length or of zeros, and for an amount of more than 120 bits.
    """
    accounts = bytearray()
    ground = bytearray()
    previous = bytes(ACCOUNT_BYTES)
    released_all = held_all = 0
    digest = keccak_256
    for leaf in leaves:
        account = leaf.account
        if len(account) != ACCOUNT_BYTES or (ordered and account <= previous):
            raise _refuse(f"account {account.hex()} is not 20 bytes above the one before it")
        previous = account
        released, held = leaf.released_micro, leaf.held_micro
        if not (0 <= released <= AMOUNT_MAX and 0 <= held <= AMOUNT_MAX):
            raise _refuse(f"an amount of {account.hex()} is not in 0 … 2**{AMOUNT_BITS} − 1")
        released_all += released
        held_all += held
        word = (released << _HALF | held).to_bytes(32, "big")
        accounts += account
        ground += digest(_LEAF + digest(_LEAF_INNER + account + word))
        ground += word
    if released_all > AMOUNT_MAX or held_all > AMOUNT_MAX:
        raise _refuse("the amounts of an epoch are too large", Kind.TOO_LARGE)
    return SumTree(accounts, ground)


def _level_above(below: bytearray, level: int) -> bytearray:
    """Return the level above; an odd node at the end is beside an empty subtree."""
    if len(below) % (2 * NODE_BYTES):
        below = below + empty_node(level)
    above = bytearray()
    digest = keccak_256
    as_int = int.from_bytes
    view = memoryview(below)
    for start in range(0, len(below), 2 * NODE_BYTES):
        pair = bytes(view[start : start + 2 * NODE_BYTES])
        word = as_int(pair[32:64], "big") + as_int(pair[96:], "big")
        above += digest(_NODE + pair)
        above += word.to_bytes(32, "big")
    return above


def check_leaf(root: bytes, proof: LeafProof) -> tuple[int, int]:
    """Check a proof as the contract does; returns the totals (released, held) of the root.

    Raises ``AtollError`` (``CORRUPT``) if the proof is for another root or malformed.
    """
    opening = Opening(0, proof.index, proof.count, (proof.leaf,), proof.path)
    return check_opening(root, opening, strict=False)


def check_opening(root: bytes, opening: Opening, *, strict: bool = True) -> tuple[int, int]:
    """Check that a subtree's leaves are those under ``root``; returns the totals of the root.

    ``strict`` also refuses leaves out of order and anything but emptiness beyond ``count``, which
    is what an answer to a demand for withheld data has to show.
    """
    level, position, count = opening.level, opening.position, opening.count
    depth = depth_of(count)
    first = position << level
    expected = min(first + (1 << level), count) - first
    if not (0 <= level <= min(depth, LEVEL_MAX) and position >= 0 and expected > 0):
        raise _refuse("no such place in the tree", Kind.CORRUPT)
    if len(opening.leaves) != expected or len(opening.path) != depth - level:
        raise _refuse("a proof of another length belongs there", Kind.CORRUPT)
    if strict and not _ascending(opening.leaves):
        raise _refuse("leaves are out of order", Kind.CORRUPT)
    node, word = _subtree(opening.leaves, level)
    for at, sibling in enumerate(opening.path, level):
        if len(sibling) != NODE_BYTES:
            raise _refuse(f"a node of a path has {NODE_BYTES} bytes", Kind.CORRUPT)
        if strict and (position ^ 1) << at >= count and sibling != empty_node(at):
            raise _refuse("something lies beyond the last leaf", Kind.CORRUPT)
        here = node + word.to_bytes(32, "big")
        word = add_words(word, int.from_bytes(sibling[HASH_BYTES:], "big"))
        node = node_hash(sibling, here) if position & 1 else node_hash(here, sibling)
        position >>= 1
    if word & _GUARD or root_of(count, word, node) != root:
        raise _refuse("the proof leads to another root", Kind.CORRUPT)
    return sums_of(word)


def _ascending(leaves: Sequence[Leaf]) -> bool:
    previous = bytes(ACCOUNT_BYTES)
    for leaf in leaves:
        if leaf.account <= previous:
            return False
        previous = leaf.account
    return True


def _subtree(leaves: Sequence[Leaf], level: int) -> tuple[bytes, int]:
    """Return hash and sums of a subtree of 2**level places that begins with ``leaves``."""
    nodes = [(leaf_hash(leaf), sums_word(leaf.released_micro, leaf.held_micro)) for leaf in leaves]
    for at in range(level):
        if len(nodes) % 2:
            nodes.append((empty_node(at)[:HASH_BYTES], 0))
        nodes = [
            (
                node_hash(left + lword.to_bytes(32, "big"), right + rword.to_bytes(32, "big")),
                add_words(lword, rword),
            )
            for (left, lword), (right, rword) in zip(nodes[::2], nodes[1::2], strict=True)
        ]
    return nodes[0]
