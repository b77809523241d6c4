"""Samples: leaves drawn by the beacon, shown with their way to the head that both sides signed.

Each draw depends on the leaf before, so a node reads them one after the other. A leaf that the node
admits to have lost is a sample without data: honest, counted, and the chain goes on.
"""

import hashlib
import struct
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.merkle import (
    HASH_BYTES,
    LEAF_TAG,
    NODE_TAG,
    PIECE_TAG,
    SEGMENT_LEAF_TAG,
    SEGMENT_TAG,
    leaf_count,
)
from atoll.core.proofs.heads import SignedHead, TreeHead
from atoll.core.proofs.signed import Signed, digest_of, encode_statement
from atoll.core.proofs.sums import (
    LEAVES_MAX,
    STEP_BYTES,
    STEPS_MAX,
    climb,
    depth_of,
    entry_hash,
    root_hash,
)
from atoll.core.scheme import LEAF_BYTES, Layout

SAMPLES_PER_SLOT = 32
SAMPLES_MORE = 512
"""Drawn in addition in each slot after a failed sample, until the sequential test decides."""
SAMPLES_MAX = 1024
UNIT_BYTES_MAX = 1 << 20
"""As in piece records."""
SAMPLE_TAG = b"\x17"
PROOF_PURPOSE = b"proof-slot/1"
SEGMENT_BYTES = 16
INDEX_END = 255
"""A piece's index is below."""
NOTHING = b"\0" * HASH_BYTES
"""Stands for the hash of a leaf that was not shown."""

_sha256 = hashlib.sha256
# Copied for each node: a sixteenth quicker than a new hash over tag and children.
_NODE_STATE = _sha256(NODE_TAG)
_START = struct.Struct(">s32s32s32sQ")
_GEOMETRY = struct.Struct(">s16sBBIQ32s")
_PIECE = struct.Struct(">sQ32s")


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One leaf and its way to the root; hashes of a path are joined, lowest first."""

    segment: bytes
    index: int
    k: int
    n: int
    unit_bytes: int
    plain_bytes: int
    leaf: bytes
    """The bytes; empty where the node admits that it has them no more: then ``plain_bytes`` is the
    number of the piece's leaves, and ``k``, ``n`` and ``unit_bytes`` are 0."""
    leaf_number: int
    """Which leaf of its piece it is, from 0."""
    piece_path: bytes
    """From the leaf to the piece's root."""
    segment_path: bytes
    """From the piece's root to the segment's; for an admitted loss the segment root itself."""
    place: int
    """The way of the piece's entry in the sum tree: two bits a step, the lowest first."""
    sum_path: bytes
    """From the piece's entry to the root: what is beside it, 120 bytes a step."""


class SlotProof(msgspec.Struct, frozen=True, array_like=True):
    """Everything a node shows in one slot. It is judged with nothing else in hand."""

    head: SignedHead
    beacon: Signed
    slot: int
    samples: list[Sample]
    signature: bytes
    """The node's, over the digest of all before."""


class Fault(Enum):
    """Why a sample does not pass. The names are part of the format."""

    ADMITTED = "admitted"
    """The node says itself that it lost the piece."""
    PLACE = "place"
    """Its way does not lead to the head, or not at the drawn leaf."""
    LEAF = "leaf"
    """The bytes are not those that were committed."""


class Finding(NamedTuple):
    """One sample judged."""

    position: int
    """The drawn leaf among all leaves of the head."""
    fault: Fault | None
    segment: bytes
    """The piece concerned; empty where the way does not name it (``Fault.PLACE``)."""
    piece_index: int


def first_seed(head: TreeHead, beacon: bytes, slot: int) -> bytes:
    """Return the seed of a slot's first draw: it follows from the beacon and the head."""
    return _sha256(_START.pack(SAMPLE_TAG, beacon, head.node_id, head.root, slot)).digest()


def next_seed(seed: bytes, shown: bytes) -> bytes:
    """Return the seed of the next draw from the hash of the leaf shown (or ``NOTHING``)."""
    return _sha256(SAMPLE_TAG + seed + shown).digest()


def position_of(seed: bytes, leaves: int) -> int:
    """Return the leaf that a seed draws: its value modulo the number of leaves (at least 1)."""
    return int.from_bytes(seed, "big") % leaves


def shown_hash(leaf: bytes) -> bytes:
    """Return what a sample's data contribute to the next draw."""
    return _sha256(LEAF_TAG + leaf).digest() if leaf else NOTHING


@lru_cache(maxsize=128)
def _hashes(count: int) -> struct.Struct:
    return struct.Struct("32s" * count)


def _climb_plain(top: bytes, place: int, count: int, path: bytes) -> bytes | None:
    """Follow a path of plain hashes (``merkle.top_by_path`` over joined bytes)."""
    begin, last = _NODE_STATE.copy, count - 1
    steps, rest = divmod(len(path), HASH_BYTES)
    full = last.bit_length()
    if rest or steps > full:
        return None
    hashes = _hashes(steps).unpack(path)
    if steps == full:
        # A partner on every level: the usual case, in the quickest way.
        for beside in hashes:
            node = begin()
            node.update(beside + top if place & 1 else top + beside)
            top = node.digest()
            place >>= 1
        return top
    used = 0
    while last:
        if place & 1 or place < last:
            if used == steps:
                return None
            beside = hashes[used]
            node = begin()
            node.update(beside + top if place & 1 else top + beside)
            top = node.digest()
            used += 1
        place >>= 1
        last >>= 1
    return top if used == steps else None


class Judge:
    """Judges samples against one head; what is above a range is walked once for all of them."""

    def __init__(self, head: TreeHead) -> None:
        """Begin with nothing known."""
        self._head = head
        self._steps_above = depth_of(head.ranges)
        """Steps of a path that lie above the tree of a range, which many samples share."""
        self._above: dict[tuple[int, bytes], tuple[bytes, int]] = {}
        """Ways above that hold: by place and digest, their path and what lies left of them."""

    def judge(self, sample: Sample, shown: bytes, position: int) -> Finding:
        """Judge one sample against the leaf that was drawn. Never raises for what is made up.

        ``shown`` is ``shown_hash`` of its leaf.
        """
        data = sample.leaf
        sizes = _sizes(sample) if data else _admitted_sizes(sample)
        if sizes is None or not _can_be(sample, sizes[1]):
            return Finding(position, Fault.PLACE, b"", 0)
        length, leaves = sizes
        if data:
            root = _segment_root(sample, shown, length, leaves)
        else:
            good = not sample.piece_path and len(sample.segment_path) == HASH_BYTES
            root = sample.segment_path if good else None
        begins = None if root is None else self._begins(sample, root, leaves)
        if begins is None:
            # A wrong leaf names no piece by itself: whoever knows the tree finds it.
            return Finding(position, Fault.LEAF if data else Fault.PLACE, b"", 0)
        if begins + sample.leaf_number != position:
            return Finding(position, Fault.PLACE, b"", 0)
        fault = None if data else Fault.ADMITTED
        return Finding(position, fault, sample.segment, sample.index)

    def _begins(self, sample: Sample, root: bytes, leaves: int) -> int | None:
        """Return the first leaf of an entry with this segment root; None: it is not in the head."""
        head, path = self._head, sample.sum_path
        inside = max(0, len(path) // STEP_BYTES - self._steps_above)
        entry = entry_hash(sample.segment, sample.index, root, leaves)
        way = climb(entry, leaves, sample.place, path[: inside * STEP_BYTES])
        if way is None:
            return None
        place, above = sample.place >> 2 * inside, path[inside * STEP_BYTES :]
        known, left = self._above.get((place, way.top), (None, 0))
        if known != above:
            up = climb(way.top, way.weight, place, above)
            if (
                up is None
                or up.weight != head.leaves
                or root_hash(head.ranges, head.leaves, up.top) != head.root
            ):
                return None
            left = up.left
            self._above[place, way.top] = (above, left)
        return left + way.left


def _can_be(sample: Sample, leaves: int) -> bool:
    """Say whether a sample's places are within their bounds and its path has whole steps."""
    steps, rest = divmod(len(sample.sum_path), STEP_BYTES)
    return (
        not rest
        and steps <= STEPS_MAX
        and 0 <= sample.place < 1 << 2 * steps
        and 0 <= sample.leaf_number < leaves
        and 0 <= sample.index < INDEX_END
        and len(sample.segment) == SEGMENT_BYTES
    )


@lru_cache(maxsize=4096)
def _layout_sizes(plain_bytes: int, k: int, n: int, unit_bytes: int) -> tuple[int, int] | None:
    """Return length and leaves of a piece's data area, or None for a layout that cannot be."""
    try:
        length = Layout(plain_bytes, k, n, unit_bytes).piece_bytes
    except ValueError:
        return None
    return (length, leaf_count(length)) if unit_bytes <= UNIT_BYTES_MAX else None


def _sizes(sample: Sample) -> tuple[int, int] | None:
    if sample.index >= sample.n:
        return None
    return _layout_sizes(sample.plain_bytes, sample.k, sample.n, sample.unit_bytes)


def _admitted_sizes(sample: Sample) -> tuple[int, int] | None:
    """Return the sizes of a piece admitted to be lost: only its leaves are known."""
    if sample.k or sample.n or sample.unit_bytes or not 0 < sample.plain_bytes <= LEAVES_MAX:
        return None
    return 0, sample.plain_bytes


def _segment_root(sample: Sample, shown: bytes, length: int, leaves: int) -> bytes | None:
    """Return the segment root that a leaf and its ways lead to."""
    leaf = sample.leaf_number
    if len(sample.leaf) != min(LEAF_BYTES, length - leaf * LEAF_BYTES):
        return None
    sha256 = _sha256
    top = _climb_plain(shown, leaf, leaves, sample.piece_path)
    if top is None:
        return None
    piece = sha256(_PIECE.pack(PIECE_TAG, length, top)).digest()
    index = sample.index
    top = sha256(SEGMENT_LEAF_TAG + bytes((index,)) + piece).digest()
    top = _climb_plain(top, index, sample.n, sample.segment_path)
    if top is None:
        return None
    return segment_root_by_top(
        sample.segment, sample.k, sample.n, sample.unit_bytes, sample.plain_bytes, top
    )


def segment_root_by_top(
    segment: bytes, k: int, n: int, unit_bytes: int, plain_bytes: int, top: bytes
) -> bytes:
    """Return a segment root from the top of the tree over its piece roots."""
    packed = _GEOMETRY.pack(SEGMENT_TAG, segment, k, n, unit_bytes, plain_bytes, top)
    return _sha256(packed).digest()


def judge_samples(
    samples: Sequence[Sample], head: TreeHead, beacon: bytes, slot: int
) -> list[Finding]:
    """Draw again what was drawn and judge every sample, in order."""
    if not head.leaves:
        return []
    seed, judge = first_seed(head, beacon, slot), Judge(head).judge
    findings = []
    for sample in samples:
        shown = shown_hash(sample.leaf)
        findings.append(judge(sample, shown, position_of(seed, head.leaves)))
        seed = next_seed(seed, shown)
    return findings


def _proof_text(head: SignedHead, beacon: Signed, slot: int, samples: Sequence[Sample]) -> bytes:
    state = _sha256(digest_of(head.body) + digest_of(beacon.body) + slot.to_bytes(8, "big"))
    for sample in samples:
        state.update(_sha256(encode_statement(sample)).digest())
    return state.digest()


def proof_digest(proof: SlotProof) -> bytes:
    """Return the digest that names a proof and that its node signs."""
    return _proof_text(proof.head, proof.beacon, proof.slot, proof.samples)


def sign_proof(
    identity: Identity, head: SignedHead, beacon: Signed, slot: int, samples: list[Sample]
) -> SlotProof:
    """Put a proof together and sign it."""
    signature = identity.sign(PROOF_PURPOSE, _proof_text(head, beacon, slot, samples))
    return SlotProof(head, beacon, slot, samples, signature)


def check_proof_signature(proof: SlotProof, head: TreeHead) -> bytes:
    """Return the digest of a proof that its node signed. Raises ``UNAUTHENTICATED``."""
    digest = proof_digest(proof)
    if not signature_holds(head.node_key, PROOF_PURPOSE, digest, proof.signature):
        raise AtollError(
            Kind.UNAUTHENTICATED, "check proof", "the node's signature of the proof does not hold"
        )
    return digest
