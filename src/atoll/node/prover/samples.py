"""Shows drawn leaves: one block is read for each, and the rest of the way is looked up."""

import logging
from dataclasses import dataclass

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.merkle import SEGMENT_LEAF_TAG, path_of, tree_levels
from atoll.core.pieces import (
    Header,
    parse_header,
    parse_trailer,
    trailer_bytes,
)
from atoll.core.ports import Clock, Compute
from atoll.core.proofs.blocks import BLOCK_BYTES, BLOCK_LEAVES, block_hashes, leaf_way
from atoll.core.proofs.heads import TreeHead
from atoll.core.proofs.samples import (
    Sample,
    first_seed,
    next_seed,
    position_of,
    segment_root_by_top,
    shown_hash,
)
from atoll.core.proofs.signed import digest_of
from atoll.node.prover.blocks import BlockCache
from atoll.node.prover.tree import Tree
from atoll.node.store.model import HeldPiece, State
from atoll.node.store.store import PieceReader, PieceStore

_LOG = logging.getLogger(__name__)
DAMAGED_MAX = 10_000
BREATH_SAMPLES = 16
"""After so many samples others on the loop have their turn."""


@dataclass(frozen=True, slots=True)
class _Shown:
    header: Header
    leaf: bytes
    piece_path: bytes
    segment_path: bytes


class Sampler:
    """Makes the samples of a slot from the store."""

    def __init__(
        self, store: PieceStore, clock: Clock, compute: Compute, cache: BlockCache
    ) -> None:
        """Read from an open store."""
        self._store = store
        self._clock = clock
        self._compute = compute
        self._cache = cache
        self._damaged: dict[tuple[int, int], HeldPiece] = {}
        """Pieces found damaged, by (serial, index): what is left of them is still shown."""
        self._unmarked: list[HeldPiece] = []

    async def mark_damaged(self) -> None:
        """Mark what was found damaged as lost, so that a sound copy is taken when it comes."""
        unmarked, self._unmarked = self._unmarked, []
        for held in unmarked:
            row = self._store.volume.index.get(held.piece)
            if row is not None and row.state == State.LIVE:
                await self._store.damaged(held.piece, row)

    async def samples(
        self, tree: Tree, head: TreeHead, issuer: int, beacon: bytes, slot: int, count: int
    ) -> list[Sample]:
        """Draw and show ``count`` leaves, one after the other. What is lost is said to be."""
        seed = first_seed(head, beacon, slot)
        found = []
        for number in range(count):
            position = position_of(seed, head.leaves)
            sample = await self._sample(tree, issuer, position)
            found.append(sample)
            seed = next_seed(seed, shown_hash(sample.leaf))
            if number % BREATH_SAMPLES == BREATH_SAMPLES - 1:
                await self._clock.sleep(0)
        return found

    async def _sample(self, tree: Tree, issuer: int, position: int) -> Sample:
        range_place, place, leaf = tree.find(position)
        tree_range = tree.ranges[range_place]
        serial, index = tree_range.serials[place], tree_range.indexes[place]
        joined, path = tree.way(range_place, place)
        held = self._held(issuer, serial, index)
        shown = await self._shown(held, leaf) if held is not None else None
        header = shown.header if shown is not None else None
        return Sample(
            segment=held.segment if held is not None else bytes(16),
            index=index,
            k=header.k if header is not None else 0,
            n=header.n if header is not None else 0,
            unit_bytes=header.unit_bytes if header is not None else 0,
            plain_bytes=header.plain_bytes if header is not None else tree_range.leaves_of(place),
            leaf=shown.leaf if shown is not None else b"",
            leaf_number=leaf,
            piece_path=shown.piece_path if shown is not None else b"",
            segment_path=shown.segment_path
            if shown is not None
            else (held.segment_root if held is not None else bytes(32)),
            place=joined,
            sum_path=path,
        )

    def _held(self, issuer: int, serial: int, index: int) -> HeldPiece | None:
        for piece in self._store.held(issuer, serial - 1, 1):
            if piece.segment_serial == serial and piece.index == index:
                return piece
        return self._damaged.get((serial, index))

    async def _shown(self, held: HeldPiece, leaf: int) -> _Shown | None:
        """Read a leaf and its way; None where the piece, or this part of it, is lost."""
        piece = piece_id_of(SegmentId(held.segment), held.index)
        row = self._store.volume.index.get(piece)
        if row is None or row.state not in (State.LIVE, State.TRASH, State.LOST):
            return None
        try:
            with self._store.reading(row) as reader:
                return await self._read(reader, held, leaf)
        except (AtollError, ValueError) as error:
            if row.state == State.LIVE and len(self._damaged) < DAMAGED_MAX:
                self._damaged[held.segment_serial, held.index] = held
                self._unmarked.append(held)
            _LOG.warning("piece %s cannot be shown: %s", piece.hex()[:10], error)
        return None

    async def _read(self, reader: PieceReader, held: HeldPiece, leaf: int) -> _Shown:
        row = reader.row
        header = parse_header(await reader.read(0, row.head_bytes))
        tail = trailer_bytes(header.n)
        trailer, _ = parse_trailer(header, await reader.read(row.body_bytes - tail, tail))
        segment_path = _segment_path(header, trailer.piece_roots, held.segment_root)
        wanted = trailer.piece_roots[header.index]
        length = header.data_bytes
        start = leaf // BLOCK_LEAVES * BLOCK_BYTES
        block = await reader.read(row.head_bytes + start, min(BLOCK_BYTES, length - start))
        hashes = b""
        if length > BLOCK_BYTES:
            hashes = self._cache.get(held.piece) or b""
        shown, path, root = (b"", b"", b"")
        if hashes or length <= BLOCK_BYTES:
            shown, path, root = leaf_way(block, leaf, length, hashes)
        if root != wanted:
            # No hashes yet, or wrong ones, or wrong data: the whole piece tells which.
            data = await self._read_whole(reader, row.head_bytes, length)
            hashes = await self._compute.run(block_hashes, data)
            block = data[start : start + BLOCK_BYTES]
            shown, path, root = leaf_way(block, leaf, length, hashes)
            if root != wanted:
                raise AtollError(Kind.CORRUPT, "show leaf", "its bytes are not those committed")
            if length > BLOCK_BYTES:
                self._cache.put(held.piece, hashes)
        return _Shown(header, shown, path, segment_path)

    async def prepare(self, tree: Tree, issuer: int, bytes_per_s: int) -> int:
        """Make block hashes for pieces that have none yet, slowly; return how many were made.

        So a damage found later costs the leaves it hit, not the whole piece.
        """
        made = 0
        for tree_range in tree.ranges:
            for place, (serial, index) in enumerate(tree_range.keys()):
                if place % BREATH_SAMPLES == 0:
                    await self._clock.sleep(0)
                if tree_range.leaves_of(place) <= BLOCK_LEAVES:
                    continue
                held = self._held(issuer, serial, index)
                if held is None or self._cache.get(held.piece) is not None:
                    continue
                await self._shown(held, 0)
                made += 1
                await self._clock.sleep(held.data_bytes / bytes_per_s)
        return made

    async def _read_whole(self, reader: PieceReader, offset: int, length: int) -> bytes:
        starts = range(0, length, BLOCK_BYTES)
        return b"".join(
            [await reader.read(offset + s, min(BLOCK_BYTES, length - s)) for s in starts]
        )


def _segment_path(header: Header, piece_roots: tuple[bytes, ...], wanted: bytes) -> bytes:
    levels = tree_levels(
        [
            digest_of(SEGMENT_LEAF_TAG + bytes((place,)) + root)
            for place, root in enumerate(piece_roots)
        ]
    )
    root = segment_root_by_top(
        header.segment_id,
        header.k,
        header.n,
        header.unit_bytes,
        header.plain_bytes,
        levels[-1][0],
    )
    if root != wanted:
        raise AtollError(Kind.CORRUPT, "show leaf", "the trailer makes another segment root")
    return b"".join(path_of(levels, header.index))
